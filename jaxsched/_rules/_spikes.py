"""Spike detection: whether a number is far above the numbers before it.

    spike: value > mean + sigmas * std, of the stored values

The computation uses the positions of the values between the smallest and the largest. Their
standard deviation is at least 1 / sqrt(2 n), because two of the positions are 0 and 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length, held
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import length, refuse, require
from jaxsched._rules._ring import SMALL, Ring, parts, small

# Values that differ by less than this many rounding errors of the metric count as equal.
_ROUNDINGS = 16


def is_spike(
    ring: Ring, value: jax.Array, sigmas: ArrayLike, min_observations: ArrayLike | None
) -> jax.Array:
    """Return whether a value is a spike, once `min_observations` values are stored."""
    low, high, mean, std = spread(ring)
    span, size = small(high, low), ring.size
    needed = size // 2 if min_observations is None else min_observations
    enough = ring.filled >= jnp.clip(_clock.read(needed), 2, size)
    largest = jnp.maximum(jnp.abs(low), jnp.abs(real(value)))
    # A constant stream has no deviation, and the next value may be rounded differently.
    rounding = largest * (SMALL * _ROUNDINGS * jnp.finfo(largest.dtype).eps)
    above = small(real(value), low) - span * mean
    return enough & (above > jnp.maximum(saturated(real(sigmas) * (span * std)), rounding))


def spread(ring: Ring) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the smallest and largest value, and the mean and deviation of the positions."""
    low, high, part = parts(ring)
    mean = jnp.sum(part) / real(jnp.maximum(ring.filled, 1))
    squares = jnp.sum(jnp.where(ring.inside, (part - mean) ** 2, 0))
    return low, high, mean, jnp.sqrt(squares / real(jnp.maximum(ring.filled - 1, 1)))


def first_of(call: str, min_observations: Any, size: int) -> Length | None:
    """Return the number of values before one can be a spike, checked; None means half."""
    if min_observations is None:
        return None
    count = length(call, "min_observations", min_observations, least=2)
    require_within(call, count, size)
    return held(count)


def require_within(call: str, min_observations: Any, size: int) -> None:
    """Raise if a spike would need more values than are stored."""
    must = f"be at most window_size={size}"
    require(min_observations <= size, refuse(call, "min_observations", must, min_observations))
