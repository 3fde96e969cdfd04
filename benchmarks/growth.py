"""How cost grows with the number of pieces, of cycles, and of members of a population.

python benchmarks/growth.py
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from core import scanned, sgdr
from measure import Table, instructions, paired, ratio, run, seconds, unit

import jaxsched as js

STEPS = 100_000
PIECES = 1, 4, 16, 64, 256
CYCLES = 1, 100, 10_000, 10**6
MEMBERS = 1, 16, 256, 4096


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
    note = (
        "The table compares a chain made by `>>` with `optax.join_schedules` of the same pieces, "
        "in a compiled scan."
    )
    return Table("With the number of pieces", note, columns, tuple(rows))


def joined(pieces: int) -> tuple[js.Schedule, optax.Schedule]:
    """A join of cosines, no two alike."""
    edges = [100 * n for n in range(1, pieces)]
    ours = [js.cosine(1 / n, 0.1, 100 + n) for n in range(1, pieces + 1)]
    other = [optax.cosine_decay_schedule(1 / n, 100 + n, 0.1 * n) for n in range(1, pieces + 1)]
    return js.join(ours, edges), optax.join_schedules(other, edges)


def mixed(pieces: int) -> tuple[js.Schedule, optax.Schedule]:
    """A warmup, and then a line and a cosine in turn."""
    ours, other = [js.linear(0.0, 1.0, 50)], [optax.linear_schedule(0.0, 1.0, 50)]
    for n in range(1, pieces // 2 + 1):
        ours += [js.linear(1 / n, 0.5, 20 + n), js.cosine(0.5, 0.1 / n, 30)]
        other += [
            optax.linear_schedule(1 / n, 0.5, 20 + n),
            optax.cosine_decay_schedule(0.5, 30, 0.2 / n),
        ]
    edges = itertools.accumulate(int(piece.steps or 0) for piece in ours[:-1])
    return functools.reduce(operator.rshift, ours), optax.join_schedules(other, [*edges])


def many(pieces: int) -> tuple[list[js.Schedule], list[optax.Schedule]]:
    ours = [js.cosine(1.0, 0.5, 100 + n) for n in range(pieces)]
    return ours, [optax.cosine_decay_schedule(1.0, 100 + n, 0.5) for n in range(pieces)]


def summed(pieces: int) -> tuple[js.Schedule, optax.Schedule]:
    ours, other = many(pieces)
    return functools.reduce(operator.add, ours), lambda t: sum(f(t) for f in other)


def multiplied(pieces: int) -> tuple[js.Schedule, optax.Schedule]:
    ours, other = many(pieces)
    return functools.reduce(operator.mul, ours), lambda t: math.prod(f(t) for f in other)


def selected(pieces: int) -> tuple[js.Schedule, optax.Schedule]:
    ours, other = many(pieces)
    index = jnp.asarray(pieces // 2)
    return js.select(index, ours), lambda t: jnp.stack([f(t) for f in other])[index]


MADE = {
    "a join of {} cosines": (joined, (10, 100, 300)),
    "a warmup, then {} lines and cosines": (mixed, (10, 100, 200)),
    "a sum of {} cosines": (summed, (10, 100)),
    "a product of {} cosines": (multiplied, (10, 100)),
    "one of {} cosines, by `select`": (selected, (10, 100)),
}


def compilation(schedule: Any, step: Any) -> float:
    """The seconds until a first call runs, in a process that has compiled nothing."""
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(lambda t: schedule(t)).lower(step).compile()
    return time.perf_counter() - start


def by_compilation(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    for name, (made, sizes) in MADE.items():
        for n in sizes:
            cells: list[Any] = []
            for step in (jnp.int32(3), jnp.arange(1000)):
                ours, other = made(n)  # anew, for an object keeps the form it is computed in
                compilation(ours, step), compilation(other, step)
                both = [
                    (compilation(made(n)[0], step), compilation(other, step))
                    for _ in range(max(3, turns // 5))
                ]
                a, b = map(statistics.median, zip(*both, strict=True))
                cells += [unit(a), unit(b), ratio([b / a for a, b in both])]
            ours, other = made(n)
            a, b, found = paired(scanned(ours, STEPS // 10), scanned(other, STEPS // 10), turns)
            cells += [unit(10 * a / STEPS), unit(10 * b / STEPS), ratio(found)]
            rows.append((name.format(n), *cells))
    each = "optax", "optax / jaxsched"
    columns = "what", "scalar", *each, "array", *each, "a step in a scan", *each
    note = (
        "The table shows three durations, for jaxsched and for the same schedule made of Optax's "
        "schedules. The first is the time to trace and compile a call on one step (scalar). The "
        "second is the time to trace and compile a call on an array of steps. For both, nothing "
        "was compiled before. The third is the time of one step in a compiled scan."
    )
    return Table("To compile, with the number of pieces", note, columns, tuple(rows))


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
    note = (
        "The table compares `optax.sgdr_schedule` and warm restarts that have a warmup, in a "
        "compiled scan."
    )
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
    note = (
        "A population of `warmup_cosine` schedules is stacked, and one compiled program maps over "
        "it. The table shows the time of one step."
    )
    return Table("With the size of a population", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """All four."""
    return [
        by_pieces(turns),
        by_compilation(turns),
        by_cycles(turns),
        by_members(turns),
    ]


if __name__ == "__main__":
    run(tables)
