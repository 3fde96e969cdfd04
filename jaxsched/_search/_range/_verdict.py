"""Does the curve of a range test say anything? The fall of the loss against its noise.

The points that count are cut into ten blocks of equal length. Whatever the level, the scale and the
sign of the losses, and however many there are, of noise alone the fall between two blocks is

    fall <= 5 * noise * sqrt(1 / n + 1 / m),    noise = sqrt(mean(diff(losses)**2) / 2)

for blocks of n and m points: in 4000 tries each with normal, exponential, log-normal, t3 and rare
0-1 noise, 10 to 1000 points, at most 3 in a thousand fell more (`benchmarks/range_test.py`).
Differences tell the noise without a fit: a trend is small in them.

It is short curves that pay for it. Of ten points a fall of ten times the noise, which takes some
of them, is seen in half of the tries, of 15 in nearly all; and one from a point to the next, of
any height, not before 20 to 30: of fewer points it is no different from noise that is rare.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._numerics import above_zero, real, saturated

FINE, BROKEN, SHORT, RISING, FLAT = range(5)

LEAST = 10  # points
_BLOCKS, _SIGMAS = 10, 5.0
_ROUNDING = 8


def verdict(losses: jax.Array, count: jax.Array, size: ArrayLike | None = None) -> jax.Array:
    """One of `FINE`, `BROKEN`, ... of the first `count` raw losses of `size`: int32."""
    stopped = count < (losses.size if size is None else size)
    falls, rises = jax.vmap(_falls, (0, None))(jnp.stack([losses, -losses]), count)
    code = jnp.where(falls, FINE, jnp.where(rises | stopped, RISING, FLAT))
    code = jnp.where(count < LEAST, SHORT, code)
    return jnp.where(count < 1, BROKEN, code).astype(jnp.int32)


def _falls(losses: jax.Array, count: jax.Array) -> jax.Array:
    """Is a block lower than one before it, by more than noise?"""
    index = jnp.arange(losses.size, dtype=jnp.int32)
    # From the first, so that losses far from zero keep their digits.
    y = saturated(losses - losses[0])
    block = jnp.where(index < count, index * _BLOCKS // jnp.maximum(count, 1), _BLOCKS)
    blocks = jnp.arange(_BLOCKS, dtype=jnp.int32)
    members = block[None, :] == blocks[:, None]
    sizes = jnp.maximum(real(members.sum(axis=1)), 1)
    means = jnp.where(members, y[None, :] / sizes[:, None], 0).sum(axis=1)
    falls = saturated(jax.lax.cummax(means) - means)
    low = jax.lax.argmax(falls, 0, jnp.int32)
    top = jax.lax.argmax(jnp.where(blocks <= low, means, -jnp.inf), 0, jnp.int32)
    # Not of the divergence behind it; but not of less than half of the points.
    early = block <= jnp.maximum(low, _BLOCKS // 2 - 1)
    noise = _noise(y, early) * jnp.sqrt(1 / sizes[low] + 1 / sizes[top])
    level = jnp.where(early, jnp.abs(losses), 0).max()
    rounding = _ROUNDING * jnp.finfo(losses.dtype).eps * level
    return falls[low] > jnp.maximum(_SIGMAS * noise, rounding)


def _noise(y: jax.Array, seen: jax.Array) -> jax.Array:
    """The standard deviation of one loss around a curve that is smooth."""
    steps = jnp.where(seen[1:], saturated(y[1:] - y[:-1]), 0)
    largest = above_zero(jnp.abs(steps).max())  # of huge and tiny ones there is no square
    square = ((steps / largest) ** 2).sum() / jnp.maximum(real(seen[1:].sum()), 1)
    return largest * jnp.sqrt(square / 2)
