"""Real data without a download: the 1797 handwritten digits in scikit-learn."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._extra import extra

TRAIN, VALID = 1437, 360  # four fifths and one fifth
SPLIT_SEED = 0  # for the split alone: every run is validated on the same images


class Images(NamedTuple):
    """Images and their labels."""

    pixels: jax.Array  # float32, (n, 64): standardised
    labels: jax.Array  # int32, (n,)


class Digits(NamedTuple):
    """The training and the validation images."""

    train: Images
    valid: Images


def digits() -> Digits:
    """Return scikit-learn's digits, split at random with a fixed seed.

    Returns:
      1437 training images and 360 validation images.
    """
    raw: Any = extra("sklearn.datasets").load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(TRAIN + VALID)
    train, valid = order[:TRAIN], order[TRAIN:]
    # Statistics of the training images only; a pixel that is always blank has no spread.
    mean, spread = raw.data[train].mean(axis=0), raw.data[train].std(axis=0)
    pixels = (raw.data - mean) / np.where(spread > 0, spread, 1)

    def images(which: np.ndarray) -> Images:
        return Images(
            jnp.asarray(pixels[which], jnp.float32), jnp.asarray(raw.target[which], jnp.int32)
        )

    return Digits(images(train), images(valid))


def shuffled(images: Images, key: jax.Array, batch_size: int) -> Images:
    """Return batches in a random order, on a leading axis; the remainder is left out."""
    count = len(images.labels) // batch_size
    order = jax.random.permutation(key, len(images.labels))[: count * batch_size]
    return jax.tree.map(lambda x: x[order].reshape(count, batch_size, *x.shape[1:]), images)
