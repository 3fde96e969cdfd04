"""Records in trees: in a chain, in `MultiSteps`, or in another library's wrapper.

The wrappers are not known here: a state is a tree, and a record in it is recognised by its type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from jaxsched._core import _packed
from jaxsched._core._packed import INNER, PackedState
from jaxsched._core._require import require

S = TypeVar("S")
Path = tuple[Any, ...]
Types = type | tuple[type, ...]


def found(kind: Types, tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every record of a kind with its path, at any depth, the outer before the inner."""
    if isinstance(tree, kind):
        yield path, tree
    for way, x in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_below(kind, tree))[0]:
        if way and isinstance(x, kind):
            yield from found(kind, x, (*path, *way))


def replaced(kind: Types, tree: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """Return the tree with every record of a kind changed, the inner before the outer."""

    def one(way: Path, x: Any) -> Any:
        is_record = way and isinstance(x, kind)
        return replaced(kind, x, change, (*path, *way)) if is_record else x

    new = jax.tree_util.tree_map_with_path(one, tree, is_leaf=_below(kind, tree))
    return change(path, new) if isinstance(tree, kind) else new


def _below(kind: Types, tree: Any) -> Callable[[Any], bool]:
    return lambda x: x is not tree and isinstance(x, kind)


def all_of(kind: Types, tree: Any) -> list[Any]:
    """Return every record of a kind, or of one of several, at any depth."""
    return [x for _, x in found(kind, opened(tree))]


def only(call: str, kind: type, remedy: str, opt_state: Any) -> Any:
    """Return the only record of a kind, at any depth, or raise."""
    found = all_of(kind, opt_state)
    require(
        len(found) == 1,
        f"`{call}(opt_state)` finds {len(found) or 'no'} `{remedy}` in a "
        f"{type(opt_state).__name__}, but needs exactly one.",
    )
    return found[0]


def text_of(path: Path) -> str:
    """Return a place in a tree as text: "encoder/layers_3/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def opened(tree: Any) -> Any:
    """Return the tree for reading: packed states as records, `nnx.Variable`s as arrays.

    Of an `nnx.Optimizer`, only its state is returned.
    """
    return unpacked(_plain(_state_of(tree)), read=True)


def rewritten(tree: S, rewrite: Callable[[Any], Any]) -> S:
    """Return the tree with its records rewritten; `nnx.Variable`s are set in place.

    Their owner holds them by reference. No variable is set before all new values exist.
    """
    state = _state_of(tree)
    plain = _plain(state)
    new = repacked(plain, rewrite(unpacked(plain)))
    leaves, structure = jax.tree.flatten(state, is_leaf=is_variable)
    if not any(map(is_variable, leaves)):
        return new
    # An `nnx.State` contains both variables and plain arrays. The content of a variable may be a
    # tree, such as the empty tree of a masked parameter.
    pairs = zip(leaves, structure.flatten_up_to(new), strict=True)
    kept = [_set(leaf, value) for leaf, value in pairs]
    return structure.unflatten(kept) if state is tree else tree


def unpacked(tree: Any, *, read: bool = False) -> Any:
    """Return the tree with packed states unpacked into records of named numbers."""

    def one(x: Any) -> Any:
        if not isinstance(x, PackedState):
            return x
        return _around(_packed.record_of(x, read=read), lambda inner: unpacked(inner, read=read))

    return jax.tree.map(one, tree, is_leaf=_is_packed)


def repacked(tree: Any, records: Any) -> Any:
    """Return rewritten records, packed in the same way as the tree that they come from."""

    def one(x: Any, record: Any) -> Any:
        if not isinstance(x, PackedState):
            return record
        record = _around(record, lambda inner: repacked(x.inner_state, inner))
        return _packed.with_record(x, record)

    return jax.tree.map(one, tree, records, is_leaf=_is_packed)


def _around(record: Any, change: Callable[[Any], Any]) -> Any:
    """Return a record with its inner state changed, if it has one."""
    if INNER not in record._fields:
        return record
    return record._replace(**{INNER: change(record.inner_state)})


def _is_packed(x: Any) -> bool:
    return isinstance(x, PackedState)


def _plain(tree: Any) -> Any:
    """Return the tree with `nnx.Variable`s replaced by arrays."""
    return jax.tree.map(lambda x: x.get_value() if is_variable(x) else x, tree, is_leaf=is_variable)


def _set(leaf: Any, value: Any) -> Any:
    if not is_variable(leaf):
        return value
    leaf.set_value(value)
    return leaf


def _state_of(tree: Any) -> Any:
    """Return the optimizer state of an `nnx.Optimizer`; any other tree unchanged."""
    nnx = sys.modules.get("flax.nnx")  # if it was never imported, none of its objects exist
    return tree.opt_state if nnx is not None and isinstance(tree, nnx.Optimizer) else tree


def is_variable(x: Any) -> bool:
    """Return whether `x` is an `nnx.Variable`."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(x, nnx.Variable)
