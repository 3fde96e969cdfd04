"""What averages of the parameters cost, beside the one pass over the parameters that they need.

    python benchmarks/averages.py

One update of AdamW is compiled with its state donated, as in `updates.py`. The time that an average
adds is divided by the time of `mean + share * (params - mean)` alone, which reads and writes one
array and reads another.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from measure import Ratio, Table, ratio, run, seconds, unit
from updates import RATE, repeated

import jaxsched as js

SIZES = {"10^5": (10**5, 200), "10^7": (10**7, 2)}


def decays(count: int) -> list[js.Average]:
    ends = (10_000 * (i + 1) for i in range(count))
    return [js.merged_decay(js.constant(1.0, n - 2000) >> js.linear(1.0, 0.0, 2000)) for n in ends]


EACH: dict[str, tuple[list[js.Average], int]] = {
    "`exponential_average(1000)`": ([js.exponential_average(1000)], 1),
    "`uniform_average()`": ([js.uniform_average()], 1),
    "one `merged_decay`": (decays(1), 1),
    "five of them": (decays(5), 1),
}
SELDOM: dict[str, tuple[list[js.Average], int]] = {
    "`exponential_average(1000)`": ([js.exponential_average(1000)], 50),
    "one `merged_decay`": (decays(1), 50),
    "five of them": (decays(5), 50),
}


def alone(size: int, calls: int) -> Callable[[], Any]:
    """The pass over the parameters that one average needs."""
    params = {f"w{i}": jnp.full(size // 8, 0.1) for i in range(8)}
    moved = jax.jit(
        lambda mean, x: jax.tree.map(lambda m, x: m + 0.001 * (x - m), mean, x), donate_argnums=0
    )
    held = [jax.tree.map(jnp.copy, params)]

    def some() -> Any:
        for _ in range(calls):
            held[0] = moved(held[0], params)
        return held

    return some


def scanned(tx: Any, size: int, calls: int) -> Callable[[], Any]:
    """Updates inside a compiled scan, where an array of the state costs no dispatch."""
    params = {f"w{i}": jnp.full(size // 8, 0.1) for i in range(8)}
    gradients = jax.tree.map(lambda x: 1e-3 * x, params)

    def one(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    many = jax.jit(lambda carry: jax.lax.scan(one, carry, length=calls)[0], donate_argnums=0)
    held = [(params, tx.init(params))]

    def some() -> Any:
        held[0] = many(held[0])
        return held

    return some


def in_turns(cases: list[Callable[[], Any]], turns: int) -> list[tuple[float, ...]]:
    """The times of several calls, turn by turn."""
    for case in cases:
        seconds(case)
    return [tuple(map(seconds, cases)) for _ in range(turns)]


def tables(turns: int) -> list[Table]:
    turns = 3 * turns
    often: list[tuple[Any, ...]] = []
    for name, (averages, every) in EACH.items():
        found: list[Any] = []
        for size, calls in SIZES.values():
            tx = js.average(optax.adamw(RATE), averages, every=every)
            makes = alone(size, calls), repeated(optax.adamw(RATE), size, calls)
            times = in_turns([*makes, repeated(tx, size, calls)], turns)
            passes = [(c - b) / a / len(averages) for a, b, c in times]
            found += [unit(statistics.median(a for a, _, _ in times) / calls), ratio(passes)]
        often.append((name, *found))
    seldom: list[tuple[Any, ...]] = []
    for name, (averages, every) in SELDOM.items():
        row: list[Ratio] = []
        for size, _ in SIZES.values():
            calls = 4 * every if size < 10**6 else every
            tx = js.average(optax.adamw(RATE), averages, every=every)
            bare = scanned(optax.adamw(RATE), size, calls)
            times = in_turns([bare, scanned(tx, size, calls)], max(turns // 3, 5))
            row.append(ratio([b / a for a, b in times]))
        seldom.append((name, *row))
    return [
        Table(
            "Averages at each update",
            "The table shows the time that each average adds to an update of AdamW. The unit is "
            "one pass over the parameters. The goal is at most 1.1.",
            ("average", *(f"{size}: {x}" for size in SIZES for x in ("one pass", "added"))),
            tuple(often),
        ),
        Table(
            "Averages at each 50th update",
            "The table shows the time of 50 or 200 updates in a compiled scan with averages of "
            "each 50th iterate, divided by the time without averages. The goal is at most 1.02.",
            ("average, `every=50`", *SIZES),
            tuple(seldom),
        ),
    ]


if __name__ == "__main__":
    run(tables)
