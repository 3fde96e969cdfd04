"""The means of the latest blocks of a metric, in a ring whose blocks grow as long as they must."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length, counted
from jaxsched._core._numerics import real
from jaxsched._rules._stateful import chosen


class Blocks(NamedTuple):
    """What is remembered of a metric."""

    block: jax.Array  # float: the mean of the observations of the block to come
    gathered: jax.Array  # int32: how many they are
    means: jax.Array  # float[blocks]: of the latest blocks, the oldest first; 0 beyond `filled`
    filled: jax.Array  # int32: how many blocks there are since the last cut
    merged: jax.Array  # int32: a block is this many times `block_size`
    waited: jax.Array  # int32: undecided answers in a row


def start(blocks: int) -> Blocks:
    """Nothing of nothing."""

    def zero() -> jax.Array:
        return jnp.zeros((), jnp.int32)

    means = jnp.zeros(blocks, real(0).dtype)
    return Blocks(real(0.0), zero(), means, zero(), jnp.ones((), jnp.int32), zero())


def places(old: Blocks) -> jax.Array:
    """The numbers of the places in the ring."""
    return jnp.arange(old.means.shape[0], dtype=jnp.int32)


def gather(old: Blocks, value: jax.Array, block_size: Length) -> tuple[Blocks, jax.Array]:
    """With an observation more; does it end a block?"""
    gathered = counted(old.gathered, jnp.ones((), bool))
    # A mean that goes along, for a sum of large ones would overflow.
    block = old.block + (value / real(gathered) - old.block / real(gathered))
    new, size = old._replace(block=block, gathered=gathered), _clock.read(block_size)
    # At least: a block that was begun when they were longer ends now.
    ends = gathered >= jnp.minimum(jnp.maximum(size, 1), LAST // old.merged) * old.merged
    return chosen(ends, _appended(new), new), ends


def merge(old: Blocks) -> Blocks:
    """Half as many blocks, each of two neighbours."""
    pairs, half = old.means.reshape(-1, 2) / 2, old.means.shape[0] // 2
    return old._replace(
        means=jnp.pad(pairs[:, 0] + pairs[:, 1], (0, half)),
        filled=jnp.full_like(old.filled, half),
        merged=jnp.minimum(old.merged, LAST // 2) * 2,
        waited=jnp.zeros_like(old.waited),
    )


def _appended(old: Blocks) -> Blocks:
    """The block that ends after the others, in place of the oldest if there is no room."""
    size = old.means.shape[0]
    means = jnp.where(old.filled >= size, jnp.roll(old.means, -1), old.means)
    at = jnp.minimum(old.filled, size - 1)
    return old._replace(
        means=jnp.where(places(old) == at, old.block, means),
        filled=jnp.minimum(old.filled + 1, size),
        block=jnp.zeros_like(old.block),
        gathered=jnp.zeros_like(old.gathered),
    )
