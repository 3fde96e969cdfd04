"""64 schedules of 8 families on digits: one sweep, against one compiled optax closure each.

    python benchmarks/sweep.py

Both train the same network for as many steps, from the same keys, with the same optimizer, and are
timed from Python's side with nothing compiled yet: building, compiling, training, reading the
scores. Beside them the memory that the programs ask for, and what is left of the time when all is
compiled already.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from measure import Table, size, unit

import jaxsched as js
from jaxsched._commands._tasks._data import Digits, digits
from jaxsched._commands._tasks._digits import loss
from jaxsched._commands._tasks._model import Network
from jaxsched._search import _runs, _sweep
from jaxsched._search._programs import as_tree

PEAKS = np.geomspace(0.003, 3.0, 8)
BATCH = 32
MEMBERS = 64, 512, 4096


def families(steps: int) -> dict[str, tuple[Callable[[float], Any], Callable[[float], Any]]]:
    """By name, a schedule and the optax schedule of the same values, from a peak."""
    warmup, half, end = steps // 10, steps // 2, steps * 3 // 4
    return {
        "constant": (js.constant, optax.constant_schedule),
        "linear": (
            lambda p: js.linear(p, 0.0, steps),
            lambda p: optax.linear_schedule(p, 0.0, steps),
        ),
        "polynomial": (
            lambda p: js.polynomial(p, 0.0, steps, power=2.0),
            lambda p: optax.polynomial_schedule(p, 0.0, 2.0, steps),
        ),
        "cosine": (
            lambda p: js.cosine(p, 0.0, steps),
            lambda p: optax.cosine_decay_schedule(p, steps),
        ),
        "exponential": (
            lambda p: js.exponential_decay(p, decay_rate=0.1, decay_steps=steps),
            lambda p: optax.exponential_decay(p, steps, 0.1),
        ),
        "steps": (
            lambda p: js.piecewise_constant([p, 0.1 * p, 0.01 * p], [half, end]),
            lambda p: optax.piecewise_constant_schedule(p, {half: 0.1, end: 0.1}),
        ),
        "warmup, cosine": (
            lambda p: js.linear(0.0, p, warmup) >> js.cosine(p, 0.0, steps - warmup),
            lambda p: optax.warmup_cosine_decay_schedule(0.0, p, warmup, steps),
        ),
        "warmup, linear, hold": (
            lambda p: js.linear(0.0, p, warmup) >> js.constant(p, half) >> js.linear(p, 0.0, half),
            lambda p: optax.join_schedules(
                [
                    optax.linear_schedule(0.0, p, warmup),
                    optax.constant_schedule(p),
                    optax.linear_schedule(p, 0.0, half),
                ],
                [warmup, warmup + half],
            ),
        ),
    }


def train(schedule: Any, key: jax.Array, data: Digits, steps: int, tx: Any) -> jax.Array:
    """The validation loss after a run."""
    tx = tx(schedule)
    first, order = jax.random.split(key)
    params = Network().init(first, data.train.pixels[:1])["params"]
    batches = jax.random.randint(order, (steps, BATCH), 0, len(data.train.labels))

    def step(carry: Any, batch: jax.Array) -> Any:
        params, state = carry
        images = jax.tree.map(lambda x: x[batch], data.train)
        updates, state = tx.update(jax.grad(loss, has_aux=True)(params, images)[0], state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    return loss(params, data.valid)[0]


def momentum(schedule: Any) -> optax.GradientTransformation:
    return optax.sgd(schedule, momentum=0.9)


def timed(f: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(f())
    return time.perf_counter() - start, result


def tables(turns: int, steps: int = 300) -> list[Table]:
    """Once: it takes minutes."""
    data, key = digits(), jax.random.key(0)
    pairs = [(ours(p), theirs(p)) for ours, theirs in families(steps).values() for p in PEAKS]
    population, closures = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]

    def member(schedule: Any, key: jax.Array) -> jax.Array:
        return train(schedule, key, data, steps, momentum)

    def one_sweep(chunk: int | None = None) -> Any:
        return js.sweep(member, population, key=key, chunk=chunk).scores[:, 0]

    compiled: list[Any] = []

    def one_by_one() -> Any:
        compiled[:] = [jax.jit(lambda k, s=s: member(s, k)).lower(key).compile() for s in closures]
        first = jax.random.split(key, 1)[0]
        return jnp.stack([program(first) for program in compiled])

    rows, run = {}, jax.tree_util.Partial(_sweep._scored, as_tree(member))
    cold, scores = timed(one_sweep)
    programs = _runs.jitted(run)._cache_size()
    warm, _ = timed(one_sweep)
    rows["one sweep of all"] = cold, warm
    for chunk in (1, 8):
        twice = [timed(functools.partial(one_sweep, chunk))[0] for _ in range(2)]
        rows[f"one sweep, {chunk} at a time"] = twice[0], twice[1]
    theirs, wanted = timed(one_by_one)
    first = jax.random.split(key, 1)[0]
    rows["one closure each"] = theirs, timed(lambda: [program(first) for program in compiled])[0]

    mesh = Mesh(np.array(jax.devices()), ("runs",))
    runs = jax.device_put(
        (_sweep.repeated(population, 1), _sweep.tiled(jax.random.split(key, 1), len(population))),
        NamedSharding(mesh, PartitionSpec("runs")),
    )
    found = compiled[0].memory_analysis()
    memory = [
        *(_runs.peak_bytes(run, runs, chunk=chunk, mesh=mesh) for chunk in (None, 1, 8)),
        found.temp_size_in_bytes + found.output_size_in_bytes,
    ]
    close = np.isclose(scores, wanted, rtol=1e-2) | ~np.isfinite(wanted)
    warm = rows["one closure each"][1]
    cells = [
        (name, unit(a), theirs / a, unit(b), warm / b, size(bytes_))
        for (name, (a, b)), bytes_ in zip(rows.items(), memory, strict=True)
    ]
    columns = "what", "cold", "ratio", "compiled already", "ratio, compiled already", "memory"
    note = (
        f"64 schedules of 8 families train a network on digits for {steps} steps. A sweep, which "
        f"is {programs} program, is compared with 64 compiled Optax closures. {close.sum()} of "
        f"{len(close)} scores agree within 1 %. The others do not, because training is chaotic at "
        "the highest rates. The goal is a sweep that is 20 times as fast, compilation included."
    )
    return [
        Table("64 schedules at once", note, columns, tuple(cells)),
        by_members(member, closures[0], key, steps),
    ]


def by_members(member: Any, closure: Any, key: jax.Array, steps: int) -> Table:
    """Sweeps of more and more members, against as many runs of one compiled Optax closure."""
    start = time.perf_counter()
    program = jax.jit(lambda k: member(closure, k)).lower(key).compile()
    jax.block_until_ready(program(key))
    first = time.perf_counter() - start
    again = min(timed(lambda: program(key))[0] for _ in range(5))
    rows: list[tuple[Any, ...]] = []
    for n in MEMBERS:
        peaks = np.geomspace(0.003, 0.3, n)
        population = [js.cosine(p, 0.0, steps) for p in peaks]

        def whole(population: list[Any] = population) -> Any:
            return js.sweep(member, population, key=key).scores

        jax.clear_caches()
        cold, warm = timed(whole)[0], min(timed(whole)[0] for _ in range(3))
        rows.append((f"{n:,}", unit(cold), n * first / cold, unit(warm), n * again / warm))
    columns = "members", "cold", "closures / sweep", "compiled already", "ratio, compiled already"
    note = (
        f"A sweep trains every member for {steps} steps on digits. It is compared with as many "
        f"Optax closures, one after the other: one takes {unit(first)} to compile and run, and "
        f"{unit(again)} to run again."
    )
    return Table("A sweep by the number of members", note, columns, tuple(rows))


if __name__ == "__main__":
    measure.run(tables)
