"""A fixed sample of the numbers in a tree, from which sums over all of them are estimated.

From a large array the sample has whole rows, spread over the array; small arrays are used whole. A
sum over the sample is scaled by the size of the array over the size of the sample, so that large
layers have their full weight. The rows are the same at every step, so that two samples can be
multiplied. A strided slice moves nothing between devices, however the array is sharded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jaxsched._core._numerics import dot, real

OF_ONE = 2**13  # numbers of one array
OF_ALL = 2**18  # numbers of all arrays together: 1 MiB in float32


def sampled(tree: Any) -> Any:
    """Return the sample of each array in a tree."""
    most = _most([math.prod(jnp.shape(x)) for x in jax.tree.leaves(tree)])
    return jax.tree.map(lambda x: _rows(jnp.asarray(x), most), tree)


def weights(tree: Any, sample: Any) -> list[float]:
    """Return how many numbers of each array one number of its sample represents."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(sample), strict=True)
    return [jnp.size(x) / max(jnp.size(y), 1) for x, y in pairs]


def estimated(scales: Sequence[float], a: Any, b: Any) -> jax.Array:
    """Return the sum of the products of two trees, estimated from their samples."""
    pairs = zip(scales, jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum((real(scale) * dot(x, y) for scale, x, y in pairs), start=real(0.0))


def _most(sizes: list[int]) -> int:
    """Return the sample size per array that keeps the total small; small arrays are whole."""
    left = OF_ALL
    for done, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - done)
        if size > share:
            return min(share, OF_ONE)
        left -= size
    return OF_ONE


def _rows(x: jax.Array, most: int) -> jax.Array:
    shape, counts = x.shape, list(x.shape)
    # From the longest axis on, except the last one, along which a row lies.
    axes = sorted(range(x.ndim - 1), key=lambda axis: -shape[axis])
    for axis in [*axes, *range(x.ndim)[-1:]]:
        others = math.prod(counts) // max(counts[axis], 1)
        count, parts = min(shape[axis], most // max(others, 1)), _parts(x, axis)
        # Where shardings are part of types, each device must keep the same number of rows.
        counts[axis] = max(count // parts * parts, min(shape[axis], parts))
    steps = [size // max(count, 1) or 1 for size, count in zip(shape, counts, strict=True)]
    spans = [(n - 1) * step + 1 if n else 0 for n, step in zip(counts, steps, strict=True)]
    starts = [(size - span) // 2 for size, span in zip(shape, spans, strict=True)]
    limits = [start + span for start, span in zip(starts, spans, strict=True)]
    return jax.lax.slice(x, starts, limits, steps)


def _parts(x: jax.Array, axis: int) -> int:
    """Return the number of devices over which the type of an array shards an axis."""
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return 1
    names = sharding.spec[axis] or ()
    sizes = dict(sharding.mesh.shape)
    return math.prod(sizes[name] for name in ((names,) if isinstance(names, str) else names))
