"""Comparison of a metric with the best so far, and the cut that respects a floor."""

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
    """Return the scale after a cut, and whether the cut lowers it: at the floor it does not."""
    least = real(floor)
    lower = scale * real(factor)
    # In float32, 0.1 * 0.1 is slightly above 0.01, so a scale at its floor would be cut again.
    lower = jnp.where(lower <= least * (1 + _ROUNDING), least, lower)
    return lower, cuts & (lower < scale)


def beyond(
    metric: jax.Array, best: jax.Array, mode: str, rtol: ArrayLike, atol: ArrayLike
) -> jax.Array:
    """Return whether `metric` beats `best` by more than rtol * |best| + atol.

    The margin uses |best|, so that it has the right sign for negative metrics too.
    """
    margin = saturated(real(rtol) * jnp.abs(best) + real(atol))
    return metric < best - margin if mode == "min" else metric > best + margin
