"""The last values of a metric, and whether the next one is a spike among them.

    spike: value > mean + sigmas * std, of the values that are in the window

With low and high the least and the greatest of n values, all is computed of

    part = (value - low) / (high - low), which is in [0, 1] for every value of the window.

Their standard deviation is at least 1 / sqrt(2 n), for two of them are 0 and 1: so nothing cancels,
whatever the scale and the offset of the metric, and nothing overflows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length, held
from jaxsched._core._numerics import above_zero, real, saturated
from jaxsched._core._require import length, refuse, require

# What differs by less than this many roundings of the metric is the same.
_ROUNDINGS = 16
SMALL = 1 / 16


class Window(NamedTuple):
    """The latest finite values."""

    values: jax.Array  # float[size]: a ring; those beyond `filled` are 0 and mean nothing
    filled: jax.Array  # int32: how many have been put in


def start(size: int) -> Window:
    """An empty window."""
    return Window(jnp.zeros(size, real(0).dtype), jnp.zeros((), jnp.int32))


def add(window: Window, value: jax.Array, when: jax.Array) -> Window:
    """With the value in place of the oldest, where `when` holds; it must be finite there."""
    size = window.values.shape[0]
    at = window.filled % size
    here = when & (jnp.arange(size, dtype=jnp.int32) == at)
    # Counted round, so that it stays a count: full is full.
    filled = jnp.where(window.filled >= LAST - 1, at + size, window.filled)
    values = jnp.where(here, real(value), window.values)
    return Window(values, filled + when.astype(jnp.int32))


def count(window: Window) -> jax.Array:
    """How many values are in the window."""
    return jnp.minimum(window.filled, window.values.shape[0])


def is_spike(
    window: Window, value: jax.Array, sigmas: ArrayLike, min_observations: Length | None
) -> jax.Array:
    """Is a value beyond those in the window, once `min_observations` of them are there?"""
    low, high, mean, std = _parts(window)
    span, size = small(high, low), window.values.shape[0]
    needed = size // 2 if min_observations is None else min_observations
    enough = count(window) >= jnp.clip(_clock.read(needed), 2, size)
    largest = jnp.maximum(jnp.abs(low), jnp.abs(real(value)))
    # A constant stream has no deviation, and the next value may be rounded otherwise.
    rounding = largest * (SMALL * _ROUNDINGS * jnp.finfo(largest.dtype).eps)
    above = small(real(value), low) - span * mean
    return enough & (above > jnp.maximum(saturated(real(sigmas) * (span * std)), rounding))


def require_size(call: str, window: Window, size: int) -> None:
    """Raise unless the window of a state is as long as the code says."""
    found = window.values.shape[-1]
    require(
        window.values.shape == (size,),
        f"the state has a window of {found} metrics, and `{call}(window_size={size})` another: "
        "restore it with `graft`.",
    )


def first_of(call: str, min_observations: Any, size: int) -> Length | None:
    """How many values there must be before one can be a spike, checked; None is half of them."""
    if min_observations is None:
        return None
    count = length(call, min_observations=min_observations, least=2)
    must = f"be at most window_size={size}"
    require(count <= size, refuse(call, "min_observations", must, min_observations))
    return held(count)


def parts(values: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The least and the greatest of the values inside, and the part of each; 0 where outside."""
    some, largest = jnp.any(inside), jnp.finfo(values.dtype).max
    low = jnp.where(some, jnp.min(jnp.where(inside, values, largest)), 0)
    high = jnp.where(some, jnp.max(jnp.where(inside, values, -largest)), 0)
    part = small(values, low) / above_zero(small(high, low))
    return low, high, jnp.where(inside, part, 0)


def small(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b made so small that neither it nor, where it divides, its inverse leaves the floats."""
    return a * SMALL - b * SMALL


def _parts(window: Window) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The least and the greatest value, and the mean and standard deviation of the parts."""
    n = count(window)
    inside = jnp.arange(window.values.shape[0], dtype=jnp.int32) < n
    low, high, part = parts(window.values, inside)
    mean = jnp.sum(part) / real(jnp.maximum(n, 1))
    squares = jnp.sum(jnp.where(inside, (part - mean) ** 2, 0))
    return low, high, mean, jnp.sqrt(squares / real(jnp.maximum(n - 1, 1)))
