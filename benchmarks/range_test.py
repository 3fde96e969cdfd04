"""The range test against the same loop stepped from Python, and what its suggestions are worth.

    python benchmarks/range_test.py

Both train the network of `jaxsched train` on batches of 32 digits with Adam, at 100 rates. The loop
is a step that is compiled already, its batches cut and on the device already; finders read the loss
back at each step, to know when to stop, and the other row does that once, at the end. Timed in
turns. Neither stops early here, and ours checks its arguments in every call.

The worth is the validation loss at the end of a linear decay from each suggestion, and from the
best of 13 peaks, which were tried on the same seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import Aim, Table, against, run

import jaxsched as js
from jaxsched._commands._finding._seeds import Seeds, seeded
from jaxsched._commands._tasks._data import digits
from jaxsched._search._range_test._verdict import FINE, verdict

STEPS, BATCH = 100, 32
OPTIMIZERS = {
    "adam": (optax.adam, np.geomspace(1e-3, 0.1, 13)),
    "sgd": (optax.sgd, np.geomspace(0.01, 2.0, 13)),
}


def ours(made: Seeds, seeds: int) -> Callable[[], Any]:
    def run(params: Any, batches: Any) -> js.RangeTest:
        return js.lr_range_test(made.loss, params, batches, optax.adam, diverged=1e30)

    if seeds > 1:
        band = jax.jit(jax.vmap(run))
        return lambda: band(made.params, made.batches)
    one = jax.tree.map(lambda x: x[0], (made.params, made.batches))
    return lambda: run(*one)


def python_loop(made: Seeds, seeds: int, *, reads: bool) -> Callable[[], Any]:
    """The same from Python, one seed after the other."""
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
    rates = [float(x) for x in js.geometric(1e-7, 10.0, STEPS - 1)(np.arange(STEPS))]

    @jax.jit
    def step(params: Any, state: Any, batch: Any, rate: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(made.loss)(params, batch)
        state.hyperparams["learning_rate"] = rate
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    cut = [
        [jax.tree.map(lambda x, i=i, n=n: x[n, i], made.batches) for i in range(1437 // BATCH)]
        for n in range(seeds)
    ]

    def run() -> Any:
        losses = []
        for n, batches in enumerate(cut):
            params = jax.tree.map(lambda x, n=n: x[n], made.params)
            state = tx.init(params)
            for i, rate in enumerate(rates):
                params, state, loss = step(params, state, batches[i % len(batches)], rate)
                losses.append(float(loss) if reads else loss)
        return losses

    return run


def peak(made: Seeds) -> str:
    """The memory of the compiled test, arguments and results included, and that of one step."""
    one = jax.tree.map(lambda x: x[0], (made.params, made.batches))
    first = jax.tree.map(lambda x: x[0], one[1])

    def step(params: Any, batch: Any) -> Any:
        return jax.value_and_grad(made.loss)(params, batch)

    def test(params: Any, batches: Any) -> Any:
        return js.lr_range_test(made.loss, params, batches, optax.adam)

    def size(f: Any, *arguments: Any) -> str:
        found = jax.jit(f).lower(*arguments).compile().memory_analysis()
        parts = {
            "for arguments": found.argument_size_in_bytes,
            "for results": found.output_size_in_bytes,
            "for temporary values": found.temp_size_in_bytes,
        }
        total = sum(parts.values())
        return f"{total / 1024:.0f} kB ({', '.join(f'{parts[x] / 1024:.0f} {x}' for x in parts)})"

    bytes_of = sum(x.nbytes for x in jax.tree.leaves(one[0]))
    return (
        f"The compiled test takes {size(test, *one)}. One gradient takes "
        f"{size(step, one[0], first)}. The parameters take {bytes_of / 1024:.0f} kB; with Adam's "
        "moments it is three times as much."
    )


def speed(turns: int) -> Table:
    rows: list[tuple[Any, ...]] = []
    for seeds in (1, 8):
        made = seeded("digits", seeds, STEPS, BATCH)
        for reads in (True, False):
            found = against(ours(made, seeds), python_loop(made, seeds, reads=reads), turns)
            when = "each step" if reads else "at the end"
            rows.append((f"{seeds} seed{'s' * (seeds > 1)}, loss read {when}", *found, Aim(3)))
    columns = "100 points", "jaxsched", "the loop", "loop / jaxsched", "to reach"
    note = f"A range test of Adam on digits is timed. {peak(seeded('digits', 1, STEPS, BATCH))}"
    return Table("A range test against the same loop from Python", note, columns, tuple(rows))


def trained(made: Seeds, make: Any, steps: int) -> Callable[..., jax.Array]:
    """A function of a peak, parameters and a key: the validation loss after a linear decay."""
    data = digits()

    def final(peak: jax.Array, params: Any, key: jax.Array) -> jax.Array:
        tx = js.inject(make, learning_rate=js.linear(peak, 0.0, steps))

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            which = jax.random.randint(key, (BATCH,), 0, len(data.train.labels))
            batch = jax.tree.map(lambda x: x[which], data.train)
            updates, state = tx.update(jax.grad(made.loss)(params, batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(key, steps)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        return made.loss(params, data.valid)

    return jax.jit(jax.vmap(final, (None, 0, 0)))


def worth(seeds: int = 8) -> Table:
    made = seeded("digits", seeds, STEPS, BATCH)
    keys = jax.random.split(jax.random.key(1), seeds)
    rules = js.Suggestions._fields
    rows: list[tuple[Any, ...]] = []
    for name, (make, peaks) in OPTIMIZERS.items():
        test = functools.partial(js.lr_range_test, made.loss, optimizer=make)
        band = jax.vmap(lambda params, batches, test=test: test(params, batches))(
            made.params, made.batches
        )
        tried = [*band.suggestions, *peaks]
        for steps in (300, 1500):
            final = trained(made, make, steps)
            losses = [final(jnp.float32(x), made.params, keys).mean() for x in tried]
            losses = np.nan_to_num(np.asarray(losses), nan=np.inf)
            best = len(rules) + losses[len(rules) :].argmin()
            cells = [f"{losses[n]:.3f} at {tried[n]:.2g}" for n in (*range(len(rules)), best)]
            rows.append((name, steps, *cells))
    columns = "optimizer", "steps", *rules, "best of 13 peaks"
    note = (
        "The table shows the validation loss on digits after a linear decay from each suggestion, "
        f"as the mean of {seeds} seeds."
    )
    return Table("What the suggestions of a range test are worth", note, columns, tuple(rows))


NOISES = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "log-normal": lambda rng, shape: rng.lognormal(size=shape),
    "Student's t3": lambda rng, shape: rng.standard_t(3, size=shape),
    "0 or 1, one in fifty": lambda rng, shape: rng.random(shape) < 0.02,
}
LENGTHS, TRIES = (10, 30, 100, 1000), 4000


def flat() -> Table:
    """How often noise alone is taken for a fall."""
    rng, passed = np.random.default_rng(0), jax.jit(jax.vmap(verdict, (0, None)))

    def share(draw: Any, points: int) -> str:
        losses = jnp.float32(draw(rng, (TRIES, points)))
        return f"{(passed(losses, points) == FINE).mean() * 1000:.2g}"

    rows = [(name, *(share(draw, n) for n in LENGTHS)) for name, draw in NOISES.items()]
    columns = "noise", *(f"{n} points" for n in LENGTHS)
    note = (
        "The table shows how many of a thousand flat curves are wrongly judged as falling. Each "
        f"number is estimated from {TRIES} curves."
    )
    return Table("A range test that finds nothing says so", note, columns, tuple(rows))


def _wandering(rho: float) -> Callable[..., np.ndarray]:
    """Noise of which each value is like the one before it: AR(1), of variance 1."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        fresh = rng.standard_normal(shape)
        fresh[:, 1:] *= np.sqrt(1 - rho**2)
        for n in range(1, shape[1]):
            fresh[:, n] += rho * fresh[:, n - 1]
        return fresh

    return draw


RHOS, CURVES = (0.0, 0.5, 0.9, 0.97), 3000


def wandering() -> Table:
    """How often autocorrelated noise is taken for a fall, and whether a fall in it is seen."""
    rng, passed = np.random.default_rng(0), jax.jit(jax.vmap(verdict, (0, None)))

    def share(rho: float, points: int, fall: float) -> float:
        curve = fall / (1 + np.exp(np.linspace(-12, 6, points)))
        losses = jnp.float32(curve + _wandering(rho)(rng, (CURVES, points)))
        return float((passed(losses, points) == FINE).mean())

    rows = [
        (f"{rho}, a fall of {fall}", *(f"{share(rho, n, fall) * 1000:.3g}" for n in LENGTHS))
        for fall in (0, 10)
        for rho in RHOS
    ]
    columns = "autocorrelation", *(f"{n} points" for n in LENGTHS)
    note = (
        "The table shows how many of a thousand curves are judged as falling. The curves are flat "
        "or falling, plus normal noise of variance 1. Each number is estimated from "
        f"{CURVES} curves. The range test removes noise that comes from the batches, so the noise "
        "added here does not depend on the batches."
    )
    return Table("A range test on autocorrelated noise", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """What it takes, what it is worth, and when it is worth nothing."""
    return [speed(turns), worth(), flat(), wandering()]


if __name__ == "__main__":
    run(tables)
