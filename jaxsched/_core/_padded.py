"""Padding of arrays to a few lengths, to avoid a compiled program per length.

XLA compiles a program for each shape. An array with one element per step, or one row per boundary,
would need a program for each number of steps, and JAX keeps all of them. So such an array is padded
to the next power of two before a program uses it, and the result is cut on the host.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

LEAST = 2**10  # the length of all short arrays, so that their sums are computed identically


def power_of_two(count: int) -> int:
    """Return the next power of two."""
    return 1 << max(count - 1, 0).bit_length()


def size(count: int) -> int:
    """Return the next power of two, at least `LEAST`."""
    return max(LEAST, power_of_two(count))


def values_at(schedule: Any, steps: Any) -> np.ndarray:
    """Return the values of a schedule at any number of steps, on the host."""
    steps = np.asarray(steps)
    if not steps.size:
        return np.zeros(0, jnp.result_type(float))
    return np.asarray(schedule(lengthened(steps)))[: len(steps)]


def lengthened(x: Any, *, front: bool = False) -> Any:
    """Return a padded array: its last element repeated after it, or the first before it."""
    more = size(x.shape[0]) - x.shape[0]
    # A traced array is in a program already; any other is padded without one.
    xp = jnp if isinstance(x, Tracer) else np
    return xp.pad(x if xp is jnp else np.asarray(x), (more, 0) if front else (0, more), mode="edge")


def shortened(x: jax.Array, count: int, *, front: bool = False) -> jax.Array:
    """Return the first elements of the last axis, or the last ones."""
    place = (..., slice(x.shape[-1] - count, None) if front else slice(count))
    # Not `jnp.asarray`, which compiles a program for each shape to copy a NumPy array.
    return x[place] if isinstance(x, Tracer) else jax.device_put(np.asarray(x)[place])
