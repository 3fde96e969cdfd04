"""A model of your own for `jaxsched train --task`: a network that learns a photograph.

    jaxsched train --task own_task:photograph --epochs 10

Run it in this folder. The network maps the place of a pixel to its colour. Nine tenths of the
pixels are for training, and the others for validation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_sample_image

# 1. Data: 42,700 pixels of a photograph that comes with scikit-learn.
image = np.asarray(load_sample_image("flower.jpg"), np.float32)[:427:2, :640:3] / 255
height, width, _ = image.shape
rows, columns = np.mgrid[0:height, 0:width]
places = np.stack([rows / height, columns / width], axis=-1).reshape(-1, 2).astype(np.float32)
colours = image.reshape(-1, 3)
order = np.random.default_rng(0).permutation(len(places))
places, colours = places[order], colours[order]
TRAIN, BATCH = len(places) * 9 // 10, 256


class Network(nn.Module):
    """Waves of the place, and two hidden layers."""

    @nn.compact
    def __call__(self, places):
        directions = 10 * jax.random.normal(jax.random.key(0), (2, 64))
        angles = 2 * jnp.pi * places @ directions
        hidden = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        for _ in range(2):
            hidden = nn.relu(nn.Dense(64)(hidden))
        return nn.sigmoid(nn.Dense(3)(hidden))


# 2. The loss of a batch, and any other numbers that you want to see.
def loss(params, batch):
    places, colours = batch
    error = jnp.mean((Network().apply(params, places) - colours) ** 2)
    return error, {"psnr": -10 * jnp.log10(error)}  # in decibels; higher is better


# 3. The task: the command calls this function with a random key.
def photograph(key):
    def batches(key):  # of an epoch, in a new order each time
        count = TRAIN // BATCH
        chosen = jax.random.permutation(key, TRAIN)[: count * BATCH].reshape(count, BATCH)
        return places[chosen], colours[chosen]

    return {
        "loss": loss,
        "params": Network().init(key, places[:1]),
        "batches": batches,
        "validation": [(places[TRAIN:], colours[TRAIN:])],
        "optimizer": optax.adam,
    }
