"""The latest numbers of a stream, the oldest first.

A full ring drops its oldest number when a new one comes. It is written with a shift and `where`,
because a compiled program is slower with an index that it must compute.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import above_zero, real
from jaxsched._core._require import require

# A sixteenth of a difference of two floats, and the inverse of it, are floats.
SMALL = 1 / 16


class Ring(NamedTuple):
    """The latest numbers."""

    values: jax.Array  # float[size]: the oldest first; those beyond `filled` are 0 and mean nothing
    filled: jax.Array  # int32: how many there are

    @property
    def size(self) -> int:
        """How many there can be."""
        return self.values.shape[-1]

    @property
    def inside(self) -> jax.Array:
        """Which places are taken?"""
        return jnp.arange(self.size, dtype=jnp.int32) < self.filled


def empty(size: int) -> Ring:
    """A ring without a number."""
    return Ring(jnp.zeros(size, real(0).dtype), jnp.zeros((), jnp.int32))


def append(ring: Ring, value: jax.Array, when: jax.Array | bool = True) -> Ring:
    """With a number more where `when` holds; it must be finite there."""
    filled = jnp.minimum(ring.filled, ring.size)
    shifted = jnp.where(filled >= ring.size, jnp.roll(ring.values, -1), ring.values)
    at = jnp.minimum(filled, ring.size - 1)
    last = jnp.arange(ring.size, dtype=jnp.int32) == at
    values = jnp.where(last, real(value), shifted)
    return Ring(
        jnp.where(when, values, ring.values), jnp.where(when, at + 1, filled).astype(jnp.int32)
    )


def halved(ring: Ring) -> Ring:
    """A full ring with the mean of each pair of neighbours in their place."""
    pairs, half = ring.values.reshape(-1, 2) / 2, ring.size // 2
    return Ring(jnp.pad(pairs[:, 0] + pairs[:, 1], (0, half)), jnp.full_like(ring.filled, half))


def parts(ring: Ring) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The least and the greatest number, and where each lies between them, from 0 to 1.

    What is computed from the parts neither cancels nor overflows, whatever the scale and the offset
    of the stream.
    """
    inside, values = ring.inside, ring.values
    some, largest = jnp.any(inside), jnp.finfo(values.dtype).max
    low = jnp.where(some, jnp.min(jnp.where(inside, values, largest)), 0)
    high = jnp.where(some, jnp.max(jnp.where(inside, values, -largest)), 0)
    part = small(values, low) / above_zero(small(high, low))
    return low, high, jnp.where(inside, part, 0)


def small(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b made so small that neither it nor, where it divides, its inverse leaves the floats."""
    return a * SMALL - b * SMALL


def require_size(ring: Ring, call: str, argument: str, size: int) -> None:
    """Raise unless the ring of a state is as long as the code says."""
    require(
        ring.values.shape == (size,),
        f"`{call}({argument}={size})` got a state made with {argument}={ring.size}. Restore it "
        "with `graft(tx.init(params), old_state)`.",
    )
