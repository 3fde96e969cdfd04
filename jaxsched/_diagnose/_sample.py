"""A fixed sample of the numbers in a tree, from which sums over all of them are estimated.

From a large array the sample has whole rows, spread over the array; small arrays are used whole. A
sum over the sample is scaled by the size of the array over the size of the sample, so that large
layers have their full weight. The rows are the same at every step, so that two samples can be
multiplied. A strided slice moves nothing between devices, however the array is sharded.

The samples of one shape are stacked, so that a state has few arrays and a GPU has few kernels. A
single vector of all samples would be fewer still. But a sharded array cannot be flattened without a
transfer between devices. Arrays with one sharding can be stacked without one. Those of unlike
shardings cannot: XLA would move the whole arrays before it takes the sample. So the groups are
formed where shardings are known, when the state is made, and its names tell them to each update.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, reshard

from jaxsched._core._numerics import real, wide

Groups = Sequence[Sequence[int]]
Stacks = dict[str, jax.Array]

OF_ONE = 2**13  # numbers of one array
OF_ALL = 2**18  # numbers of all arrays together: 1 MiB in float32


def groups(tree: Any) -> Groups:
    """Return the positions of the arrays of a tree, those together that can be stacked."""
    arrays, most = _arrays(tree)
    found = dict[Any, list[int]]()
    for i, x in enumerate(arrays):
        found.setdefault((_counts(x, most), _spec(x)), []).append(i)
    return [*found.values()]


def sampled(tree: Any, groups: Groups) -> Stacks:
    """Return the samples of the arrays in a tree, in float32 or wider, a stack for each group."""
    arrays, most = _arrays(tree)
    rows = [wide(_rows(x, most)) for x in arrays]
    return {named(each): _stacked([rows[i] for i in each]) for each in groups}


def paired(first: Stacks, second: Stacks) -> Stacks:
    """Return two samples of one tree as one, with an array for each group."""
    return {name: _stacked([x, second[name]]) for name, x in first.items()}


def parted(pairs: Stacks) -> tuple[Stacks, Stacks]:
    """Return the two samples that were paired."""
    first, second = ({name: x[i] for name, x in pairs.items()} for i in (0, 1))
    return first, second


def weights(tree: Any, groups: Groups) -> dict[str, list[float]]:
    """Return how many numbers of each array one number of its sample represents."""
    arrays, most = _arrays(tree)
    each = [x.size / max(math.prod(_counts(x, most)), 1) for x in arrays]
    return {named(group): [each[i] for i in group] for group in groups}


def shapes(tree: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the samples of the arrays in a tree."""
    arrays, most = _arrays(tree)
    return [_counts(x, most) for x in arrays]


def named(group: Sequence[int]) -> str:
    """Return the name of a stack: the positions of its arrays, such as `0-3,7`."""
    ends = [(i, j) for i, j in itertools.pairwise(group) if j != i + 1]
    firsts, lasts = [group[0], *(j for _, j in ends)], [*(i for i, _ in ends), group[-1]]
    pairs = zip(firsts, lasts, strict=True)
    return ",".join(f"{i}-{j}" if j > i else f"{i}" for i, j in pairs)


def groups_of(stacks: Iterable[str]) -> Groups:
    """Return the groups whose stacks have these names."""
    runs = [[run.partition("-")[::2] for run in name.split(",")] for name in sorted(stacks)]
    return [[i for a, b in name for i in range(int(a), int(b or a) + 1)] for name in runs]


def estimated(scales: Mapping[str, Sequence[float]], *pairs: tuple[Stacks, Stacks]) -> jax.Array:
    """Return a vector: for each pair of samples, the estimate of the product of their trees."""
    total = real(jnp.zeros(len(pairs)))
    for name, each in scales.items():
        # For a GPU, all products are one kernel, and so are their weighted sums.
        products = jnp.stack([_products(a[name], b[name]) for a, b in pairs])
        total += jnp.sum(products * real(np.asarray(each))[None], axis=1)
    return total


def still(scales: Mapping[str, Sequence[float]], stacks: Stacks) -> jax.Array:
    """Return the share of the arrays that contain only zeros, of those whose sample is whole."""
    each = [
        jnp.all(stacks[name][i] == 0)
        for name, sizes in scales.items()
        for i, numbers in enumerate(sizes)
        if numbers == 1
    ]
    return real(jnp.stack(each).mean()) if each else real(0.0)


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    return real((jnp.conj(a) * b).real.sum(axis=range(1, a.ndim)))


def _arrays(tree: Any) -> tuple[list[jax.Array], int]:
    """Return the arrays of a tree, and the largest sample that one of them may have."""
    arrays = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    return arrays, _most([x.size for x in arrays])


def _spec(x: jax.Array) -> Any:
    """Return along which axes of a mesh an array is sharded, as far as it is known here."""
    known = jax.typeof(x).sharding if isinstance(x, Tracer) else x.sharding
    if not isinstance(known, NamedSharding):
        return ()
    spec = [entry if isinstance(entry, (str, tuple)) else None for entry in known.spec]
    while spec and not spec[-1]:
        spec.pop()
    return tuple(spec)


def _stacked(rows: Sequence[jax.Array]) -> jax.Array:
    """Return arrays of one shape as one array: the new axis is in front, so no array moves."""
    place = jax.typeof(rows[0]).sharding
    if AxisType.Explicit in place.mesh.axis_types:
        rows = [x if jax.typeof(x).sharding == place else reshard(x, place) for x in rows]
    return jnp.stack(rows)


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
    shape, counts = x.shape, _counts(x, most)
    steps = [size // max(count, 1) or 1 for size, count in zip(shape, counts, strict=True)]
    spans = [(n - 1) * step + 1 if n else 0 for n, step in zip(counts, steps, strict=True)]
    starts = [(size - span) // 2 for size, span in zip(shape, spans, strict=True)]
    limits = [start + span for start, span in zip(starts, spans, strict=True)]
    return jax.lax.slice(x, starts, limits, steps)


def _counts(x: jax.Array, most: int) -> tuple[int, ...]:
    """Return the shape of the sample of an array."""
    shape, counts = x.shape, list(x.shape)
    # From the longest axis on, except the last one, along which a row lies.
    axes = sorted(range(x.ndim - 1), key=lambda axis: -shape[axis])
    for axis in [*axes, *range(x.ndim)[-1:]]:
        others = math.prod(counts) // max(counts[axis], 1)
        count, parts = min(shape[axis], most // max(others, 1)), _parts(x, axis)
        # Where shardings are part of types, each device must keep the same number of rows.
        counts[axis] = max(count // parts * parts, min(shape[axis], parts))
    return tuple(counts)


def _parts(x: jax.Array, axis: int) -> int:
    """Return the number of devices over which the type of an array shards an axis."""
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return 1
    names = sharding.spec[axis] or ()
    sizes = dict(sharding.mesh.shape)
    return math.prod(sizes[name] for name in ((names,) if isinstance(names, str) else names))
