"""A small network for small images."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import linen

from jaxsched._commands._tasks._data import Images

PIXELS = 64
WIDTH = 64
CLASSES = 10


class Network(linen.Module):
    """One hidden layer: standardised pixels to the logits of the ten digits."""

    @linen.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        hidden = linen.relu(linen.Dense(WIDTH)(pixels))
        return linen.Dense(CLASSES)(hidden)


def logits_of(params: Any, images: Images) -> jax.Array:
    """Return the logits of the network for images: (n, 10)."""
    logits: Any = Network().apply({"params": params}, images.pixels)
    return logits


def loss_and_logits(params: Any, images: Images) -> tuple[jax.Array, jax.Array]:
    """Return the mean cross-entropy, and the logits."""
    logits = logits_of(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, images.labels)
    return losses.mean(), logits
