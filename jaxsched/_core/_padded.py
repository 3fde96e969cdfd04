"""Arrays whose length is somebody's number, brought to a few lengths.

XLA compiles a program for each shape. An array with one element a step, or a row for each boundary,
would compile one for each number of steps, and JAX keeps all of them. So such an array is extended
to the next power of two before a program sees it, and the result is cut on the host.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

LEAST = 2**10  # all short ones are one length: so a sum is also the same with zeros behind it


def size(count: int) -> int:
    """The next power of two, of which there are few."""
    return max(LEAST, 1 << (count - 1).bit_length())


def values_at(schedule: Any, steps: Any) -> np.ndarray:
    """The values of a schedule at any number of steps, on the host."""
    steps = np.asarray(steps)
    if not steps.size:
        return np.zeros(0, jnp.result_type(float))
    return np.asarray(schedule(lengthened(steps)))[: len(steps)]


def lengthened(x: Any, *, front: bool = False) -> Any:
    """An array with its last element repeated behind it, or the first before it."""
    more = size(x.shape[0]) - x.shape[0]
    # A traced one is in a program already; another is extended without one.
    xp = jnp if isinstance(x, Tracer) else np
    return xp.pad(x if xp is jnp else np.asarray(x), (more, 0) if front else (0, more), mode="edge")


def shortened(x: jax.Array, count: int, *, front: bool = False) -> jax.Array:
    """The first elements of the last axis, or the last ones."""
    place = (..., slice(x.shape[-1] - count, None) if front else slice(count))
    # Not `jnp.asarray`, which compiles a program for each shape to copy an array of NumPy.
    return x[place] if isinstance(x, Tracer) else jax.device_put(np.asarray(x)[place])
