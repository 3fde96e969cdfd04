"""When is a metric better? Beyond the best so far by a margin, on the side that the mode says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._numerics import real, saturated

MODES = ("min", "max")
_ROUNDING = 1e-6


def lowered(
    scale: jax.Array, factor: ArrayLike, floor: ArrayLike, cuts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A scale that was cut, and whether that lowers it: at its floor no cut does."""
    least = real(floor)
    lower = scale * real(factor)
    # In float32 0.1 * 0.1 is a hair above 0.01, and would be cut once more.
    lower = jnp.where(lower <= least * (1 + _ROUNDING), least, lower)
    return lower, cuts & (lower < scale)


def beyond(
    metric: jax.Array, best: jax.Array, mode: str, rtol: ArrayLike, atol: ArrayLike
) -> jax.Array:
    """Is it beyond `best` by rtol * |best| + atol? From |best|, it is right below zero too."""
    margin = saturated(real(rtol) * jnp.abs(best) + real(atol))
    return metric < best - margin if mode == "min" else metric > best + margin
