"""Real data that needs no download: the 1797 handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._extra import extra

TRAIN, VALID = 1437, 360  # four fifths and one
SPLIT_SEED = 0  # of the split alone: every run, whatever its seed, is judged on the same images


class Images(NamedTuple):
    """Images and what they show."""

    pixels: jax.Array  # float32, (n, 64): standardised
    labels: jax.Array  # int32, (n,)


class Digits(NamedTuple):
    """What is learnt from, and what is judged by."""

    train: Images
    valid: Images


def digits() -> Digits:
    """Scikit-learn's digits, split at random with a fixed seed.

    Returns:
      1437 images to learn from and 360 to judge by.
    """
    raw: Any = extra("sklearn.datasets").load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(TRAIN + VALID)
    train, valid = order[:TRAIN], order[TRAIN:]
    # By what is learnt from alone; a pixel that is always blank has no spread.
    mean, spread = raw.data[train].mean(axis=0), raw.data[train].std(axis=0)
    pixels = (raw.data - mean) / np.where(spread > 0, spread, 1)

    def images(which: np.ndarray) -> Images:
        return Images(
            jnp.asarray(pixels[which], jnp.float32), jnp.asarray(raw.target[which], jnp.int32)
        )

    return Digits(images(train), images(valid))


def shuffled(images: Images, key: jax.Array, batch_size: int) -> Images:
    """Batches in a random order, with an axis of batches in front; those left over are left out."""
    count = len(images.labels) // batch_size
    order = jax.random.permutation(key, len(images.labels))[: count * batch_size]
    return jax.tree.map(lambda x: x[order].reshape(count, batch_size, *x.shape[1:]), images)
