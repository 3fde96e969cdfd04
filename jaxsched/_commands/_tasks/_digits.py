"""The digits as a task, in the form in which a user describes a task."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._tasks._data import TRAIN, Images, digits, shuffled
from jaxsched._commands._tasks._model import PIXELS, Network, loss_and_logits

BATCH_SIZE = 32


def digits_task(key: jax.Array, batch_size: int | None = None) -> dict[str, Any]:
    """Return a network with one hidden layer, and scikit-learn's digits in a new random order."""
    batch_size = batch_size or BATCH_SIZE
    if batch_size > TRAIN:
        raise RefusedError(f"--batch-size: there are {TRAIN} images, got {batch_size}")
    data = digits()
    return {
        "loss": loss,
        "params": Network().init(key, jnp.zeros((1, PIXELS)))["params"],
        "batches": lambda key: shuffled(data.train, key, batch_size),
        "validation": [data.valid],
    }


def loss(params: Any, images: Images) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the mean cross-entropy, and the accuracy."""
    loss, logits = loss_and_logits(params, images)
    accuracy = (logits.argmax(axis=1) == images.labels).mean(dtype=jnp.float32)
    return loss, {"accuracy": accuracy, "logits": logits}
