"""The batches of a range test: stacked arrays, or any iterable of batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._require import refuse, require

_STACKED = "Stacked batches are arrays, or a tuple, dict or other tree of arrays."


def is_drawn(batches: Any) -> bool:
    """Return whether these are batches one after another, and not arrays of all batches.

    A list is always a sequence of batches, not a tree: `[(x, y), (x, y)]` has two batches.
    """
    return isinstance(batches, list) or (_is_leaf(batches) and not hasattr(batches, "shape"))


def stacked(batches: Any, steps: int, call: str = "lr_range_test") -> Any:
    """Return a tree of arrays whose leading axis is the batches; None for a loss without batches.

    Args:
      batches: arrays, or at least one batch after another.
      steps: the number of batches that are drawn at most.
      call: the calling function, for messages.
    """
    if batches is None:
        return None
    tree = _drawn(call, batches, steps) if is_drawn(batches) else batches
    _require_numbers(call, tree)
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    found = f"leading axes of {', '.join(str(*count) or 'no' for count in sorted(counts))}"
    require(
        len(counts) == 1 and counts.isdisjoint({(), (0,)}),
        refuse(call, "batches", "have one leading axis for the batches", _Text(found)),
    )
    return tree


def picked(tree: Any) -> Callable[[jax.Array], Any]:
    """Return a function from a step to its batch; the batches repeat."""

    def of(step: jax.Array) -> Any:
        return jax.tree.map(lambda x: _row(jnp.asarray(x), step), tree)

    return of


def _row(x: jax.Array, step: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x, step % x.shape[0], keepdims=False)


def _drawn(call: str, batches: Any, steps: int) -> Any:
    """Return as many batches as there are steps, or fewer if the iterable ends."""
    iterable = isinstance(batches, Iterable) and not isinstance(batches, (str, bytes))
    require(iterable, refuse(call, "batches", "be arrays or iterable", batches, _STACKED))
    found = list(itertools.islice(batches, steps))
    require(bool(found), refuse(call, "batches", "not be empty", _Text("none"), _STACKED))
    for batch in found:
        _require_numbers(call, batch)
    shapes = [_shapes(batch) for batch in found]
    for number, shape in enumerate(shapes):
        remedy = f"Batch {number} differs from the first. Leave out a smaller last batch."
        same = shape == shapes[0]
        require(same, refuse(call, "batches", f"all be {shapes[0]}", _Text(shape), remedy))
    return jax.tree.map(lambda *leaves: _stack(leaves), *found)


def _require_numbers(call: str, tree: Any) -> None:
    for leaf in jax.tree.leaves(tree):
        remedy = "Register a class of batches with `jax.tree_util.register_dataclass`."
        found = _Text(type(leaf).__name__)
        require(_is_numeric(leaf), refuse(call, "batches", "be trees of numbers", found, remedy))


def _is_numeric(leaf: Any) -> bool:
    """Return whether a leaf has numbers or random keys."""
    kind = getattr(getattr(leaf, "dtype", None), "kind", None)
    if kind is not None or isinstance(leaf, jax.Array):  # it may be on a device
        return kind not in ("O", "S", "U")
    return np.asarray(leaf).dtype.kind in "biufc"


def _stack(leaves: tuple[Any, ...]) -> Any:
    """Stack on the host, unless the batches are already on a device."""
    on_device = any(isinstance(leaf, jax.Array) for leaf in leaves)
    return jnp.stack(leaves) if on_device else np.stack([np.asarray(leaf) for leaf in leaves])


def _shapes(batch: Any) -> str:
    return str(jax.tree.map(lambda leaf: _Text(jnp.shape(leaf)), batch))


def _is_leaf(tree: Any) -> bool:
    return jax.tree_util.all_leaves([tree])


class _Text(str):
    """Text that an error shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__
