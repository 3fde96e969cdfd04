"""Decides whether the curve of a range test is conclusive: the fall of the loss against its noise.

The points that count are divided into ten blocks of equal length. The loss falls if it does so
between two blocks of n and m points by more than noise alone would:

    fall > 5 * noise * sqrt(1 / n + 1 / m),    noise = sqrt(mean(diff(losses)**2) / 2)

Differences measure independent noise without a fit, because a trend is small in them. But the noise
may be autocorrelated, and the batches may get easier. Therefore the loss of each batch at the
initial parameters is also used. The gain, the loss minus that loss, must fall between the same
blocks by

    gained >= fall / 2

and the loss or the gain, in which the common part of the batches cancels, must fall by

    fall > 5 * noise * sqrt(v(n) + v(m)),    v(n) = variance of a mean of n points of noise 1

This noise is modelled as an AR(1) process. Its autocorrelation is estimated from the residuals of a
falling curve (an isotonic regression), so that a steady fall leaves nothing that looks like
wandering. A short curve says little about its autocorrelation. With 30 points, noise with 0.9 is
taken for a fall in one curve of six; with 100 points, in one of 150 (`benchmarks/range_test.py`).

The price is paid by short curves. With ten points, a fall of ten times the noise that takes several
of them is detected in half of the cases, and with 15 points in nearly all. A fall from one point to
the next, of any height, is detected only with 20 to 30 points: with fewer points it cannot be told
from rare noise.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._numerics import above_zero, real, saturated

FINE, BROKEN, SHORT, RISING, FLAT, UNLEARNED = range(6)

LEAST = 10  # points
_BLOCKS, _SIGMAS = 10, 5.0
_BINS = 50  # the largest number of values of a falling curve, enough for its shape
# A regression on n points finds an autocorrelation r that is (1 + 4 r) / n too small (Marriott and
# Pope, 1954). A fitted curve loses more: this many times that, by simulation.
_LOST, _FEW, _MOST = 14.0, 50, 0.98
_ROUNDING = 8


class _Fall(NamedTuple):
    seen: jax.Array  # bool: whether the losses fall by more than independent noise
    learned: jax.Array  # bool: whether the gains fall by half as much
    lasting: jax.Array  # bool: whether one of the two falls by more than autocorrelated noise


def verdict(
    losses: jax.Array,
    count: jax.Array,
    untrained: jax.Array | None = None,
    size: ArrayLike | None = None,
) -> jax.Array:
    """Return one of `FINE`, `BROKEN`, ... for the first `count` raw losses of `size`: int32.

    `untrained` are the losses of the same batches at the initial parameters; None: all are equal.
    """
    stopped = count < (losses.size if size is None else size)
    gains = losses if untrained is None else saturated(losses - untrained)
    both = jnp.stack([losses, -losses]), jnp.stack([gains, -gains])
    down, up = (_Fall(*(x[k] for x in jax.vmap(_fall, (0, 0, None))(*both, count))) for k in (0, 1))
    unlearned = (down.seen & ~down.learned) | (up.seen & ~up.learned)
    rises = (up.seen & up.lasting) | stopped
    code = jnp.where(rises, RISING, FLAT)
    code = jnp.where(unlearned | (stopped & _idle(losses, gains, count)), UNLEARNED, code)
    code = jnp.where(down.seen & down.learned & down.lasting, FINE, code)
    code = jnp.where(count < LEAST, SHORT, code)
    return jnp.where(count < 1, BROKEN, code).astype(jnp.int32)


def _idle(losses: jax.Array, gains: jax.Array, count: jax.Array) -> jax.Array:
    """Return whether the batches alone stopped the test, while no step changed a loss."""
    index = jnp.arange(losses.size, dtype=jnp.int32)
    still = ~((index < count) & (gains != gains[0])).any()
    last = jnp.maximum(count - 1, 0)
    return still & (losses[last] > jnp.where(index < last, losses, -jnp.inf).max())


def _fall(losses: jax.Array, gains: jax.Array, count: jax.Array) -> _Fall:
    """Return whether a block is lower than an earlier one, by noise and by training."""
    index = jnp.arange(losses.size, dtype=jnp.int32)
    # Relative to the first, so that losses far from zero keep their digits.
    y, gained = saturated(losses - losses[0]), saturated(gains - gains[0])
    block = jnp.where(index < count, index * _BLOCKS // jnp.maximum(count, 1), _BLOCKS)
    blocks = jnp.arange(_BLOCKS, dtype=jnp.int32)
    means, sizes = _means(y, block, _BLOCKS)
    falls = saturated(jax.lax.cummax(means) - means)
    low = jax.lax.argmax(falls, 0, jnp.int32)
    top = jax.lax.argmax(jnp.where(blocks <= low, means, -jnp.inf), 0, jnp.int32)
    # Without the divergence after it, but with at least half of the points.
    early = block <= jnp.maximum(low, _BLOCKS // 2 - 1)
    level = jnp.where(early, jnp.abs(losses), 0).max()
    rounding = _ROUNDING * jnp.finfo(losses.dtype).eps * level
    sizes, (learned, _) = sizes[jnp.stack([low, top])], _means(gained, block, _BLOCKS)
    drop = saturated(learned[top] - learned[low])
    # Where the loss becomes small, the gain has the noise of the initial parameters instead.
    wandering = jax.vmap(_wandering, (0, None, None))(jnp.stack([y, gained]), early, sizes)
    return _Fall(
        falls[low] > jnp.maximum(_SIGMAS * _independent(y, early, sizes), rounding),
        drop >= falls[low] / 2,
        (jnp.stack([falls[low], drop]) > _SIGMAS * wandering).any(),
    )


def _independent(y: jax.Array, seen: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return the standard deviation of the difference of two means with independent noise."""
    y, largest = _scaled(y, seen)
    return largest * jnp.sqrt(_differences(y, seen) * (1 / sizes).sum())


def _scaled(y: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the points in use, scaled, and the scale, because huge or tiny squares fail."""
    largest = above_zero(jnp.where(seen, jnp.abs(y), 0).max())
    return jnp.where(seen, y / largest, 0), largest


def _means(y: jax.Array, part: jax.Array, parts: int) -> tuple[jax.Array, jax.Array]:
    """Return the mean of each part, and its number of points, at least one."""
    members = part[None, :] == jnp.arange(parts, dtype=jnp.int32)[:, None]
    sizes = jnp.maximum(real(members.sum(axis=1)), 1)
    return jnp.where(members, y[None, :] / sizes[:, None], 0).sum(axis=1), sizes


def _wandering(y: jax.Array, seen: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return the same standard deviation for noise that may be autocorrelated."""
    (y, largest), points = _scaled(y, seen), real(seen.sum())
    left = jnp.where(seen, y - _falling(y, seen), 0)
    square = (left**2).sum()
    found = (left[1:] * left[:-1]).sum() / jnp.where(square > 0, square, 1)
    lost = _LOST * (1 + 4 * found) / jnp.maximum(points, _FEW)
    rho = jnp.clip(found + lost, 0, _MOST)
    # A falling curve absorbs some slow noise, so its differences are used too.
    one = jnp.maximum(square / points, _differences(left, seen) / (1 - rho))
    one = jnp.maximum(one, _differences(y, seen))
    return largest * jnp.sqrt(one * _of_a_mean(rho, sizes).sum())


def _differences(y: jax.Array, seen: jax.Array) -> jax.Array:
    """Return half the mean square of the differences: the variance of independent noise."""
    steps = jnp.where(seen[1:], y[1:] - y[:-1], 0)
    return (steps**2).sum() / jnp.maximum(real(seen[1:].sum()), 1) / 2


def _of_a_mean(rho: jax.Array, n: jax.Array) -> jax.Array:
    """Return the variance of a mean of n points of an AR(1) process of variance 1."""
    return ((1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2)) / n


def _falling(y: jax.Array, seen: jax.Array) -> jax.Array:
    """Return the falling curve nearest to the first points: their isotonic regression.

    fit(i) = min over a <= i of max over b >= i of the mean of y[a] ... y[b], in at most 50 bins.
    """
    index = jnp.arange(y.size, dtype=jnp.int32)
    points = seen.sum().astype(jnp.int32)
    part = jnp.where(seen, index * _BINS // jnp.maximum(points, _BINS), _BINS)
    means, sizes = _means(y, part, _BINS)
    bins = jnp.arange(_BINS, dtype=jnp.int32)
    known = bins <= jnp.where(seen, part, 0).max()
    sizes = jnp.where(known, sizes, 0)
    total, weight = (jnp.cumsum(jnp.append(real(0.0), x)) for x in (means * sizes, sizes))
    first, last = bins[:, None], bins[None, :]
    weights = weight[None, 1:] - weight[:-1, None]
    between = (total[None, 1:] - total[:-1, None]) / jnp.maximum(weights, 1)
    between = jnp.where((last >= first) & known[None, :], between, -jnp.inf)
    largest = jax.lax.cummax(between, axis=1, reverse=True)
    fit = jnp.diagonal(jax.lax.cummin(largest, axis=0))
    return fit[jnp.minimum(part, _BINS - 1)]
