"""When is a metric better? Beyond the best so far by a margin, on the side that the mode says."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsched._numerics import real, saturated
from jaxsched._require import Number

MODES = ("min", "max")


def beyond(metric: jax.Array, best: jax.Array, mode: str, rtol: Number, atol: Number) -> jax.Array:
    """Is it beyond `best` by rtol * |best| + atol? From |best|, it is right below zero too."""
    margin = saturated(real(rtol) * jnp.abs(best) + real(atol))
    return metric < best - margin if mode == "min" else metric > best + margin
