"""A ring of the latest numbers of a stream, the oldest first.

When a new number arrives, a full ring drops its oldest. It is written with a shift and `where`,
because indexing with a computed index is slower in a compiled program.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import above_zero, real
from jaxsched._core._require import require

# 1/16 is a power of two, so that scaling by it is exact.
SMALL = 1 / 16


class Ring(NamedTuple):
    """The latest numbers, the oldest first."""

    values: jax.Array  # float[size]: those beyond `filled` are 0 and not meaningful
    filled: jax.Array  # int32: how many numbers there are

    @property
    def size(self) -> int:
        """The capacity of the ring."""
        return self.values.shape[-1]

    @property
    def inside(self) -> jax.Array:
        """Which places are taken."""
        return jnp.arange(self.size, dtype=jnp.int32) < self.filled


def empty(size: int) -> Ring:
    """Return a ring without numbers."""
    return Ring(jnp.zeros(size, real(0).dtype), jnp.zeros((), jnp.int32))


def append(ring: Ring, value: jax.Array, when: jax.Array | bool = True) -> Ring:
    """Return the ring with one more number where `when` holds; it must be finite there."""
    filled = jnp.minimum(ring.filled, ring.size)
    shifted = jnp.where(filled >= ring.size, jnp.roll(ring.values, -1), ring.values)
    at = jnp.minimum(filled, ring.size - 1)
    last = jnp.arange(ring.size, dtype=jnp.int32) == at
    values = jnp.where(last, real(value), shifted)
    return Ring(
        jnp.where(when, values, ring.values), jnp.where(when, at + 1, filled).astype(jnp.int32)
    )


def halved(ring: Ring) -> Ring:
    """Return a full ring with each pair of neighbours replaced by its mean."""
    pairs, half = ring.values.reshape(-1, 2) / 2, ring.size // 2
    return Ring(jnp.pad(pairs[:, 0] + pairs[:, 1], (0, half)), jnp.full_like(ring.filled, half))


def parts(ring: Ring) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the smallest number, the largest, and the position of each between them, 0 to 1.

    Results computed from the positions neither cancel nor overflow, whatever the scale and the
    offset of the stream.
    """
    inside, values = ring.inside, ring.values
    some, largest = jnp.any(inside), jnp.finfo(values.dtype).max
    low = jnp.where(some, jnp.min(jnp.where(inside, values, largest)), 0)
    high = jnp.where(some, jnp.max(jnp.where(inside, values, -largest)), 0)
    part = small(values, low) / above_zero(small(high, low))
    return low, high, jnp.where(inside, part, 0)


def small(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return (a - b) / 16, so that neither the difference nor its inverse overflows."""
    return a * SMALL - b * SMALL


def require_size(ring: Ring, call: str, argument: str, size: int) -> None:
    """Raise unless the ring of a state has the length that the code sets."""
    require(
        ring.values.shape == (size,),
        f"`{call}({argument}={size})` got a state made with {argument}={ring.size}. Convert the "
        "state with `graft(tx.init(params), old_state)`.",
    )
