"""What an update costs beside the same update at a constant rate, in time and in kernels.

    python benchmarks/updates.py

One update is `tx.update` and `optax.apply_updates`, compiled, with parameters and state donated, on
eight arrays of parameters. Kernels are the fusions and copies at the top level of the compiled
program. On an accelerator each kernel and each array of the state costs a few microseconds,
whatever its size, so their number tells more than the time on a CPU does.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from core import stepped
from measure import Table, paired, ratio, run, unit

import jaxsched as js

SIZES = {"10^3": 10**3, "10^6": 10**6, "124 * 10^6": 124 * 10**6}
RATE = 3e-4
SCHEDULE = js.warmup_cosine(RATE, total_steps=1000, warmup_steps=100)
OPTAX = optax.warmup_cosine_decay_schedule(0.0, RATE, 100, 1000)


def injected(rate: Any) -> optax.GradientTransformation:
    return js.inject(optax.adamw, learning_rate=rate)


def plateau() -> Any:
    return SCHEDULE * js.reduce_on_plateau()


def norm_guarded() -> optax.GradientTransformation:
    return injected(SCHEDULE * js.spike_guard(metric="gradient_norm"))


def clipped(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), tx)


# The transform, and what its ratio should reach on a GPU for 10^6 and for 124 * 10^6 parameters.
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "an Optax schedule": (lambda: optax.adamw(OPTAX), ""),
    "an Optax schedule and `optax.contrib.reduce_on_plateau`": (
        lambda: optax.chain(optax.adamw(OPTAX), optax.contrib.reduce_on_plateau()),
        "",
    ),
    "a schedule": (lambda: injected(SCHEDULE), "1.05"),
    "a schedule and `reduce_on_plateau()`": (lambda: injected(plateau()), "1.10, 1.005"),
    "three rules: a plateau, `greedy()`, `spike_guard()`": (
        lambda: injected(plateau() * js.greedy() * js.spike_guard()),
        "1.15",
    ),
    "a schedule, a plateau and `monitor()`": (
        lambda: optax.chain(js.monitor(), injected(plateau())),
        "1.02 at 124 * 10^6",
    ),
    "a `spike_guard` on the gradient norm": (norm_guarded, "1.16 at 124 * 10^6"),
    "`skip_spikes`": (lambda: js.skip_spikes(optax.adamw(RATE)), "1.16 at 124 * 10^6"),
    "`optax.clip_by_global_norm`": (lambda: clipped(optax.adamw(RATE)), ""),
    "`optax.clip_by_global_norm` and a `spike_guard` on the norm": (
        lambda: js.with_gradient_norm(clipped(norm_guarded()), clips=True),
        "as the row above",
    ),
}


def compiled(tx: Any, params: Any) -> tuple[Any, int]:
    """The program of one update, and the number of arrays in the state."""
    tx = optax.with_extra_args_support(tx)

    def update(params: Any, state: Any, gradients: Any, loss: jax.Array) -> Any:
        updates, state = tx.update(gradients, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    program = jax.jit(update, donate_argnums=(0, 1))
    state = jax.eval_shape(tx.init, params)
    loss = jax.ShapeDtypeStruct((), jnp.float32)
    return program.lower(params, state, params, loss).compile(), len(jax.tree.leaves(state))


def kernels(program: Any) -> collections.Counter[str]:
    """How many operations of each kind stand at the top level of a program.

    On a GPU, XLA may move kernels into a command buffer, which the top level calls.
    """
    blocks = re.split(r"\n(?=%|ENTRY)", program.as_text())
    top = (b for b in blocks if b.startswith(("ENTRY", "%command_buffer")))
    return collections.Counter(
        kind for block in top for kind in re.findall(r" ([a-z\-]+)\(", block)
    )


def repeated(tx: Any, size: int, calls: int) -> Callable[[], Any]:
    """Updates that go on from one another, called from Python."""
    side = max(size // 8, 1)
    params = {f"w{i}": jnp.full(side, 0.1) for i in range(8)}
    gradients, loss = jax.tree.map(lambda x: 1e-3 * x, params), jnp.float32(1.0)
    program, _ = compiled(tx, params)
    held = [params, optax.with_extra_args_support(tx).init(params)]

    def some() -> Any:
        for _ in range(calls):
            held[:] = program(*held, gradients, loss)
        return held

    return some


def by_size(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    constant = optax.adamw(RATE)
    times: dict[str, str] = {}
    found: dict[str, list[Any]] = {name: [] for name in CASES}
    for label, size in SIZES.items():
        quick = size <= 10**6 or jax.default_backend() != "cpu"
        calls, few = (20, turns) if quick else (1, max(turns // 3, 3))
        bare = repeated(constant, size, calls)
        for name, (make, _) in CASES.items():
            _, b, ratios = paired(repeated(make(), size, calls), bare, few)
            times[label] = unit(b / calls)
            found[name].append(ratio([1 / x for x in ratios]))
    params = {f"w{i}": jax.ShapeDtypeStruct((32, 32), jnp.float32) for i in range(8)}
    program, few = compiled(constant, params)
    base = kernels(program)
    own = f"{base['fusion']} + {base['copy']} in all"
    rows.append(("a constant rate: the time itself", *times.values(), "", own, 0, ""))
    for name, (make, aim) in CASES.items():
        program, leaves = compiled(make(), params)
        counts = kernels(program)
        more = [counts[kind] - base[kind] for kind in ("fusion", "copy")]
        added = f"{more[0]} + {more[1]}"
        rows.append((name, *found[name], leaves - few, added, counts["conditional"], aim))
    note = (
        "The columns 10^3, 10^6 and 124 * 10^6 are numbers of parameters. They show the time of an "
        "AdamW update, divided by the time of the same update at a constant rate. The first row "
        "shows that time itself. The next column counts the arrays added to the optimizer state. "
        '"Kernels added" are the fusions and the copies added to the compiled program. The last '
        "column is the goal for a "
        "GPU, at 10^6 and 124 * 10^6 parameters. On a CPU, JAX 0.10 also copies the parameters for "
        "`monitor`; JAX 0.12 does not."
    )
    columns = (
        "AdamW with", *SIZES, "arrays added", "kernels added", "conditionals", "goal on a GPU",
    )  # fmt: skip
    return Table("One update", note, columns, tuple(rows))


def tiny(turns: int) -> Table:
    """Steps of a network of 296 parameters inside a scan."""
    cases: dict[str, Any] = {
        "an Optax schedule": optax.adamw(OPTAX),
        "a schedule": injected(SCHEDULE),
        "an Optax schedule and plateau": optax.chain(
            optax.adamw(OPTAX), optax.contrib.reduce_on_plateau()
        ),
        "a schedule and a plateau": injected(plateau()),
        "a schedule, a plateau and `monitor()`": optax.chain(js.monitor(), injected(plateau())),
    }
    bare, rows = stepped(optax.adamw(RATE), 4, 1000), []
    for name, tx in cases.items():
        a, b, ratios = paired(stepped(tx, 4, 1000), bare, turns)
        rows.append((name, unit(a / 1000), unit(b / 1000), ratio([1 / x for x in ratios])))
    columns = "AdamW with", "a step", "at a constant rate", "with / without"
    note = (
        "The table shows the time of a training step of a network with 296 parameters. A "
        "`lax.scan` runs a thousand such steps."
    )
    return Table("A tiny training step inside a scan", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """Both."""
    return [by_size(turns), tiny(turns)]


if __name__ == "__main__":
    run(tables)
