"""How cost grows: with pieces, cycles, the size of a population, and the number of parameters.

python benchmarks/growth.py
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from core import adamw, scanned, sgdr
from measure import Table, instructions, paired, ratio, run, seconds, unit

import jaxsched as js

STEPS = 100_000
PIECES = 1, 4, 16, 64, 256
CYCLES = 1, 100, 10_000, 10**6
MEMBERS = 1, 16, 256, 4096
PARAMETERS = 10**3, 10**4, 10**5, 10**6, 10**7, 10**8


def chain(pieces: int) -> js.Schedule:
    """Alternately a cosine down and a line up."""
    each = max(STEPS // pieces, 1)
    both = itertools.cycle([js.cosine(1.0, 0.1, each), js.linear(0.1, 1.0, each)])
    whole = next(both)
    for piece in itertools.islice(both, pieces - 1):
        whole = whole >> piece
    return whole


def theirs(pieces: int) -> optax.Schedule:
    each = max(STEPS // pieces, 1)
    both = itertools.cycle(
        [optax.cosine_decay_schedule(1.0, each, 0.1), optax.linear_schedule(0.1, 1.0, each)]
    )
    edges = [each * n for n in range(1, pieces)]
    return optax.join_schedules([*itertools.islice(both, pieces)], edges)


def compiled(schedule: Any) -> Any:
    return jax.jit(lambda t: schedule(t)).lower(jnp.int32(3)).compile()


def best_of(f: Callable[[], Any], turns: int) -> float:
    """The shortest time of a call that has been made once before."""
    seconds(f)
    return min(seconds(f) for _ in range(turns))


def by_pieces(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    for n in PIECES:
        ours, other = chain(n), theirs(n)
        a, b, found = paired(scanned(ours, STEPS), scanned(other, STEPS), turns)
        counts = instructions(compiled(ours)), instructions(compiled(other))
        rows.append((n, unit(a / STEPS), unit(b / STEPS), ratio(found), *counts))
    columns = "pieces", "a step", "optax", "optax / jaxsched", "instructions", "optax's"
    note = "A chain by `>>`, against `optax.join_schedules` of the same pieces, in a compiled scan."
    return Table("With the number of pieces", note, columns, tuple(rows))


def by_cycles(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    for n in CYCLES:
        steps = 100
        ours = js.warmup_cosine_restarts(
            1.0, cycle_steps=steps, warmup_steps=10, init_value=0.1, cycles=n
        )
        a = best_of(scanned(ours, STEPS), turns)
        program = compiled(ours)
        cells: tuple[Any, ...] = (f"{n:,}", unit(a / STEPS), instructions(program))
        if n <= 100:  # a thousand cycles of optax's take minutes to compile
            other = sgdr(n, steps)
            b = best_of(scanned(other, STEPS // 10), turns)
            cells += unit(b / (STEPS // 10)), instructions(compiled(other))
        rows.append(cells + ("",) * (5 - len(cells)))
    columns = "cycles", "a step", "instructions", "optax's step", "optax's instructions"
    note = "Warm restarts with a warmup, against `optax.sgdr_schedule`, in a compiled scan."
    return Table("With the number of cycles", note, columns, tuple(rows))


def by_members(turns: int) -> Table:
    peaks = np.geomspace(1e-3, 1.0, max(MEMBERS))
    rows: list[tuple[Any, ...]] = []
    for n in MEMBERS:
        batched = js.stack(
            [js.warmup_cosine(p, total_steps=1000, warmup_steps=50) for p in peaks[:n]]
        )
        steps = 1000

        @jax.jit
        def run(population: Any) -> jax.Array:
            def body(total: jax.Array, t: jax.Array) -> Any:
                return total + jax.vmap(lambda s: s(t))(population), None

            return jax.lax.scan(body, jnp.zeros(n), jnp.arange(steps))[0]  # noqa: B023

        best = best_of(lambda run=run, batched=batched: run(batched), turns)
        program = run.lower(batched).compile()
        rows.append((f"{n:,}", unit(best / steps), unit(best / steps / n), instructions(program)))
    columns = "schedules", "a step of all", "of one", "instructions"
    note = "A population of `warmup_cosine`, stacked and mapped in one program."
    return Table("With the size of a population", note, columns, tuple(rows))


def step_of(tx: optax.GradientTransformation, size: int) -> tuple[Callable[[], Any], int]:
    """Updates of one array of parameters, its moments donated; and the size of the program."""
    tx = optax.with_extra_args_support(tx)
    params = jnp.ones(size)

    def update(params: Any, state: Any) -> Any:
        updates, state = tx.update(params * 1e-3, state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), state

    program = jax.jit(update, donate_argnums=(0, 1))
    held = [params, tx.init(params)]

    def once() -> Any:
        held[:] = program(*held)
        return held

    shapes = jax.eval_shape(lambda: (jnp.ones(size), tx.init(jnp.ones(size))))
    return once, instructions(program.lower(*shapes).compile())


def by_parameters(turns: int) -> Table:
    warm = js.warmup_cosine(1e-3, total_steps=1000, warmup_steps=100) * js.reduce_on_plateau()
    rows: list[tuple[Any, ...]] = []
    for n in PARAMETERS:
        (ours, many), (bare, few) = step_of(adamw(warm), n), step_of(optax.adamw(1e-3), n)
        a, b, found = paired(ours, bare, turns if n < 10**8 else max(turns // 3, 3))
        rows.append(
            (f"10^{len(str(n)) - 1}", unit(a), unit(b), ratio([1 / x for x in found]), many, few)
        )
    columns = (
        "parameters",
        "step",
        "at a constant rate",
        "with / without",
        "instructions",
        "without",
    )
    note = (
        "The update of AdamW with a schedule and a plateau, called from Python, against the same "
        "at a constant rate, which is the physical limit."
    )
    return Table("With the number of parameters", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """All four."""
    return [by_pieces(turns), by_cycles(turns), by_members(turns), by_parameters(turns)]


if __name__ == "__main__":
    run(tables)
