"""Records in trees: in a chain, in `MultiSteps`, in another's wrapper.

Nothing here knows those wrappers: a state is a tree, and a record in it is known by its type.
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
    """Every record of a kind and where it is, however deep, the outer before the inner."""
    if isinstance(tree, kind):
        yield path, tree
    for way, x in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_below(kind, tree))[0]:
        if way and isinstance(x, kind):
            yield from found(kind, x, (*path, *way))


def replaced(kind: Types, tree: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """The tree with every record of a kind changed, the inner before the outer."""

    def one(way: Path, x: Any) -> Any:
        is_record = way and isinstance(x, kind)
        return replaced(kind, x, change, (*path, *way)) if is_record else x

    new = jax.tree_util.tree_map_with_path(one, tree, is_leaf=_below(kind, tree))
    return change(path, new) if isinstance(tree, kind) else new


def _below(kind: Types, tree: Any) -> Callable[[Any], bool]:
    return lambda x: x is not tree and isinstance(x, kind)


def all_of(kind: Types, tree: Any) -> list[Any]:
    """Every record of a kind, or of one of several, however deep."""
    return [x for _, x in found(kind, opened(tree))]


def only(call: str, kind: type, remedy: str, opt_state: Any) -> Any:
    """The one record of a kind that there is, however deep."""
    found = all_of(kind, opt_state)
    require(
        len(found) == 1,
        f"`{call}(opt_state)` finds {len(found) or 'no'} `{remedy}` in a "
        f"{type(opt_state).__name__}, and needs one.",
    )
    return found[0]


def text_of(path: Path) -> str:
    """A place in a tree as text: "encoder/layers_3/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def opened(tree: Any) -> Any:
    """The tree to be read: records in place of packed states, arrays in place of `nnx.Variable`s.

    Of an `nnx.Optimizer` it is the state alone.
    """
    return unpacked(_plain(_state_of(tree)), read=True)


def rewritten(tree: S, rewrite: Callable[[Any], Any]) -> S:
    """The tree with its records rewritten; `nnx.Variable`s are set in place.

    Whoever holds these expects that. None is set before all that is new is there.
    """
    state = _state_of(tree)
    plain = _plain(state)
    new = repacked(plain, rewrite(unpacked(plain)))
    leaves, structure = jax.tree.flatten(state, is_leaf=_is_variable)
    if not any(map(_is_variable, leaves)):
        return new
    # A state of an `nnx.State` has both: variables in its moments, and arrays of its own. What is
    # in a variable may be a tree, such as the empty one of a masked parameter.
    pairs = zip(leaves, structure.flatten_up_to(new), strict=True)
    kept = [_set(leaf, value) for leaf, value in pairs]
    return structure.unflatten(kept) if state is tree else tree


def unpacked(tree: Any, *, read: bool = False) -> Any:
    """The tree with records of named numbers in place of packed states."""

    def one(x: Any) -> Any:
        if not isinstance(x, PackedState):
            return x
        return _around(_packed.record_of(x, read=read), lambda inner: unpacked(inner, read=read))

    return jax.tree.map(one, tree, is_leaf=_is_packed)


def repacked(tree: Any, records: Any) -> Any:
    """What was unpacked from a tree and then rewritten, packed as the tree is."""

    def one(x: Any, record: Any) -> Any:
        if not isinstance(x, PackedState):
            return record
        record = _around(record, lambda inner: repacked(x.inner_state, inner))
        return _packed.with_record(x, record)

    return jax.tree.map(one, tree, records, is_leaf=_is_packed)


def _around(record: Any, change: Callable[[Any], Any]) -> Any:
    """A record with the state inside it changed, if there is one."""
    if INNER not in record._fields:
        return record
    return record._replace(**{INNER: change(record.inner_state)})


def _is_packed(x: Any) -> bool:
    return isinstance(x, PackedState)


def _plain(tree: Any) -> Any:
    """The tree with arrays in place of `nnx.Variable`s."""
    return jax.tree.map(
        lambda x: x.get_value() if _is_variable(x) else x, tree, is_leaf=_is_variable
    )


def _set(leaf: Any, value: Any) -> Any:
    if not _is_variable(leaf):
        return value
    leaf.set_value(value)
    return leaf


def _state_of(tree: Any) -> Any:
    """The optimizer state alone, of an `nnx.Optimizer`."""
    nnx = sys.modules.get("flax.nnx")  # who has not imported it has none of its objects
    return tree.opt_state if nnx is not None and isinstance(tree, nnx.Optimizer) else tree


def _is_variable(x: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(x, nnx.Variable)
