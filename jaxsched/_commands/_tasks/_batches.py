"""The batches of an epoch: arrays, a list, another iterable, or a function of a key.

Batches are stacked on a leading axis, over which a compiled program scans. An iterable is read in
chunks, so that an epoch need not fit into memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, TypeGuard

import jax
import numpy as np

from jaxsched._search._range_test._batches import is_drawn, stacked

CALL = "task"
CHUNK = 64  # batches in memory at once
MOST = 10**6  # batches of an epoch
_KEY = 0  # of the epoch whose shapes are inspected


def is_iterator(batches: Any) -> TypeGuard[Iterator[Any]]:
    """Return whether batches can be read only once."""
    return isinstance(batches, Iterator)


def given(batches: Any, key: jax.Array | None = None) -> Any:
    """Return the batches of an epoch, which may be made by a function of a key."""
    return batches(jax.random.key(_KEY) if key is None else key) if callable(batches) else batches


def first(batches: Any) -> Any:
    """Return the first batch of an epoch."""
    chunk = next(_chunks(given(batches), 1))
    return jax.tree.map(lambda x: x[0], chunk)


def count(batches: Any) -> int:
    """Return the number of batches of an epoch."""
    found = given(batches)
    if hasattr(found, "__len__") and is_drawn(found):
        return len(found)
    return sum(size(chunk) for chunk in _chunks(found, CHUNK))


def chunks(batches: Any, key: jax.Array | None = None) -> Iterator[Any]:
    """Yield the batches of an epoch, stacked; only batches of equal shapes are together."""
    return _chunks(given(batches, key), CHUNK)


def size(chunk: Any) -> int:
    """Return the number of batches in a chunk."""
    return np.shape(jax.tree.leaves(chunk)[0])[0]


def _chunks(found: Any, most: int) -> Iterator[Any]:
    if not is_drawn(found):
        yield jax.tree.map(_array, stacked(found, MOST, CALL))
        return
    total = 0
    for _, group in itertools.groupby(found, _shapes):
        while some := [*itertools.islice(group, most)]:
            total += len(some)
            if total > MOST:
                raise ValueError(f"`task(batches=...)` must end, got {MOST} batches in an epoch.")
            yield stacked(some, most, CALL)
    if not total:
        raise ValueError("`task(batches=...)` must not be empty.")


def _array(x: Any) -> Any:
    """Return an array of another library, such as a tensor, as one of NumPy."""
    return x if isinstance(x, jax.Array) else np.asarray(x)


def _shapes(batch: Any) -> Any:
    return jax.tree.structure(batch), [np.shape(x) for x in jax.tree.leaves(batch)]
