"""Families of schedules ranked by the convex bound, and by training on digits, each at its best.

    python benchmarks/ranking.py

Each family is trained at every peak of a grid, from the same seeds, all of them in one sweep; a
family is worth its mean loss at its best peak. The bound is of the shape alone, with equal gradient
norms: nothing of the task is in it. The interval is of 10,000 resamplings of the families.

The bound is about the noise of the gradients, and how a schedule averages it away. The network can
fit all digits, and where it does no noise is left; so a part of the labels is drawn anew at random
in every batch, and the loss is that of such labels. The second table shows what is left of the
agreement without.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from measure import Table, run, unit
from scipy import stats

import jaxsched as js
from jaxsched._commands._tasks._data import Digits, Images, digits
from jaxsched._commands._tasks._model import CLASSES, Network

PEAKS = np.geomspace(0.01, 5.12, 10)
BATCH = 16


def families(n: int) -> dict[str, Any]:
    """Shapes over n steps, of which the last is the last one taken."""
    tenth, fifth, half = n // 10, n // 5, n // 2
    one = js.constant(1.0)
    return {
        "constant": one,
        "linear": js.linear(1.0, 0.0, n),
        "linear to a tenth": js.linear(1.0, 0.1, n),
        "warmup, linear": js.warmup_linear(1.0, total_steps=n, warmup_steps=tenth),
        "cosine": js.cosine(1.0, 0.0, n),
        "cosine to a tenth": js.cosine(1.0, 0.1, n),
        "warmup, cosine": js.warmup_cosine(1.0, total_steps=n, warmup_steps=tenth),
        "square": js.polynomial(1.0, 0.0, n, power=2.0),
        "one_minus_sqrt": js.one_minus_sqrt(1.0, 0.0, n),
        "rex": js.rex(1.0, 0.0, n),
        "tanh": js.tanh(1.0, 0.0, n),
        "geometric to a hundredth": js.geometric(1.0, 0.01, n),
        "inverse_sqrt": js.inverse_sqrt(1.0, timescale=tenth),
        "inverse_time_decay": js.inverse_time_decay(1.0, decay_rate=1.0, decay_steps=tenth),
        "steps": js.piecewise_constant([1.0, 0.1, 0.01], [half, n * 3 // 4]),
        "hold, linear over a tenth": one.take(n - tenth) >> js.linear(1.0, 0.0, tenth),
        "hold, linear over a fifth": one.take(n - fifth) >> js.linear(1.0, 0.0, fifth),
        "hold, linear over a half": one.take(half) >> js.linear(1.0, 0.0, n - half),
        "one_cycle": js.one_cycle(1.0, total_steps=n),
        "three restarts": js.cosine(1.0, 0.0, n // 4).cycle(cycles=4),
        "cyclic": js.cyclic(0.1, 1.0, up_steps=n // 8),
    }


def loss_of(params: Any, images: Any, noise: ArrayLike = 0.0) -> jax.Array:
    """The mean over what the labels may be: with probability `noise` any of the ten."""
    logits = Network().apply({"params": params}, images.pixels)
    labels = jax.nn.one_hot(images.labels, CLASSES) * (1 - noise) + noise / CLASSES
    return optax.softmax_cross_entropy(logits, labels).mean()


def train(
    schedule: Any, key: jax.Array, data: Digits, noise: ArrayLike, steps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The loss on the training images after plain SGD, and that on the validation images."""
    tx = js.scale_by_learning_rate(schedule)
    first, order, flips, guesses = jax.random.split(key, 4)
    params = Network().init(first, data.train.pixels[:1])["params"]
    shape = len(steps), BATCH
    places = jax.random.randint(order, shape, 0, len(data.train.labels))
    labels = jnp.where(
        jax.random.bernoulli(flips, noise, shape),
        jax.random.randint(guesses, shape, 0, CLASSES),
        data.train.labels[places],
    )

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        images = Images(data.train.pixels[batch[0]], batch[1])
        updates, state = tx.update(jax.grad(loss_of)(params, images), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), (places, labels))
    return loss_of(params, data.train, noise), loss_of(params, data.valid, noise)


def interval(a: np.ndarray, b: np.ndarray, times: int = 10_000) -> tuple[float, float, float]:
    """Spearman's correlation, and where 95 % of its resamplings are."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(a), size=len(a)) for _ in range(times))
    found = [stats.spearmanr(a[i], b[i]).statistic for i in drawn if len({*i}) > 2]
    return (stats.spearmanr(a, b).statistic, *np.quantile(found, [0.025, 0.975]))


def timed(f: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(f())
    return time.perf_counter() - start, result


def ranked(steps: int = 1500, noise: float = 0.3, seeds: int = 8) -> Table:
    shapes = families(steps)
    population = [peak * shape for shape in shapes.values() for peak in PEAKS.tolist()]
    bounds = jax.jit(jax.vmap(lambda s: js.convex_bound(s, total_steps=steps)))
    hundred = js.stack((list(shapes.values()) * 5)[:100])
    jax.block_until_ready(bounds(hundred))
    ranking, _ = timed(lambda: bounds(hundred))
    bound = np.asarray(bounds(js.stack(list(shapes.values()))))

    one = jax.tree_util.Partial(train, data=digits(), noise=noise, steps=jnp.zeros(steps))
    training, found = timed(lambda: js.sweep(one, population, key=0, seeds=seeds))
    losses = {
        "training": found.scores.mean(axis=1).reshape(len(shapes), -1),
        "validation": np.asarray(found.results).mean(axis=1).reshape(len(shapes), -1),
    }
    losses = {name: np.where(np.isfinite(x), x, np.inf) for name, x in losses.items()}

    rows: list[tuple[Any, ...]] = []
    for k in np.argsort(bound):
        lowest = (f"{losses[name][k].min():.4f}" for name in losses)
        peak = losses["training"][k].argmin()
        edge = " (at the edge)" if peak in (0, len(PEAKS) - 1) else ""
        best = f"{PEAKS[peak]:.3g}{edge}"
        rows.append((list(shapes)[k], f"{bound[k]:.4f}", *lowest, best))
    said = [
        "{:.2f} [{:.2f}, {:.2f}] for the {} loss".format(*interval(bound, x.min(axis=1)), name)
        for name, x in losses.items()
    ]
    note = (
        f"{len(shapes)} families of schedules are trained at {len(PEAKS)} peaks, with {seeds} "
        f"seeds, for {steps} steps with batches of {BATCH}; {noise:.0%} of the labels are random. "
        f"Spearman's correlation with the bound, with its 95 % interval, is {' and '.join(said)}. "
        f"Compiled, the bounds of 100 schedules take {unit(ranking)}. The training takes "
        f"{unit(training)}."
    )
    columns = "family", "bound", "training loss", "validation loss", "best peak"
    return Table(f"Ranked without training, noise {noise}", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """Once each: with noise in the labels, and without."""
    return [ranked(noise=0.3), ranked(noise=0.0)]


if __name__ == "__main__":
    run(tables)
