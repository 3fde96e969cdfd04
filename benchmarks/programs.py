"""What it takes to make the programs, and how large they are: tracing, compiling, memory.

python benchmarks/programs.py
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from core import SHAPES, adamw, model, restarts, sgdr
from measure import Table, instructions, paired, ratio, run, size, unit
from rules import CASES, RATE, chained

import jaxsched as js


def making(schedule: Any) -> tuple[Any, Any]:
    """Two calls: trace a schedule anew, and trace and compile it."""

    def lowered() -> Any:
        return jax.jit(lambda t: schedule(t)).lower(jnp.int32(3))

    return lambda: lowered() and 0, lambda: lowered().compile() and 0


def of_shapes(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    for name, (ours, theirs) in {**SHAPES, "100 restarts": (restarts(100), sgdr(100))}.items():
        (trace, compile_), (trace_b, compile_b) = making(ours), making(theirs)
        few = max(turns // 3, 3)
        a, _, traced = paired(trace, trace_b, few)
        b, _, compiled = paired(compile_, compile_b, few)
        counts = (
            instructions(jax.jit(lambda t, s=s: s(t)).lower(jnp.int32(3)).compile())
            for s in (ours, theirs)
        )
        rows.append((name, unit(a), ratio(traced), unit(b), ratio(compiled), *counts))
    columns = (
        "schedule", "to trace", "optax / jaxsched", "to compile too", "optax / jaxsched",
        "instructions", "optax's",
    )  # fmt: skip
    note = (
        "The table shows the time to trace a schedule alone under `jit`, and the time to trace and "
        "compile it. The same process has traced the schedule before, but the result is not reused."
    )
    return Table("To trace and to compile", note, columns, tuple(rows))


def bytes_of(tx: Any, width: int) -> tuple[int, int, int]:
    """Of a compiled training step: what it needs while it runs, its state, its instructions."""
    params, loss, _ = model(width)
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    program = step.lower(params, state).compile()
    held = sum(x.nbytes for x in jax.tree.leaves(state))
    return program.memory_analysis().temp_size_in_bytes, held, instructions(program)


def of_steps() -> Table:
    schedule = js.warmup_cosine(1e-3, total_steps=1000, warmup_steps=100)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)
    cases = {
        "a constant rate": chained(RATE),
        "optax, the same": optax.adamw(1e-3),
        "a schedule and a plateau": adamw(schedule * js.reduce_on_plateau()),
        "optax, the same two": optax.chain(optax.adamw(theirs), optax.contrib.reduce_on_plateau()),
        **{f"`{name}`": make() for name, make in CASES.items()},
    }
    rows = []
    for name, tx in cases.items():
        peak, state, count = bytes_of(tx, 256)
        rows.append((name, size(peak), size(state), count))
    columns = "AdamW with", "while it runs", "its state", "instructions"
    note = (
        "The table shows the memory of a compiled training step. The network has 18,944 "
        "parameters, which take 74 kiB."
    )
    return Table("Memory of a step", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """Both."""
    return [of_shapes(turns), of_steps()]


if __name__ == "__main__":
    run(tables)
