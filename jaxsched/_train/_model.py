"""A small network for small images."""

from __future__ import annotations

import jax
from flax import linen

PIXELS = 64
WIDTH = 64
CLASSES = 10


class Network(linen.Module):
    """One hidden layer: standardised pixels to the logits of the ten digits."""

    @linen.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        hidden = linen.relu(linen.Dense(WIDTH)(pixels))
        return linen.Dense(CLASSES)(hidden)
