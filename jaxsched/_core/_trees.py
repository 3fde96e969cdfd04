"""Records in trees: in a chain, in `MultiSteps`, in another's wrapper.

Nothing here knows those wrappers: a state is a tree, and a record in it is known by its type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

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
    """The tree with arrays in place of `nnx.Variable`s, of the state alone for an optimizer."""
    return jax.tree.map(
        lambda x: x.get_value() if _is_variable(x) else x, _state_of(tree), is_leaf=_is_variable
    )


def rewritten(tree: S, rewrite: Callable[[Any], Any]) -> S:
    """The rewritten tree; `nnx.Variable`s are set in place, as whoever holds them expects."""
    state = _state_of(tree)
    leaves, structure = jax.tree.flatten(state, is_leaf=_is_variable)
    new = rewrite(opened(tree))
    if not any(map(_is_variable, leaves)):
        return new
    # A state of an `nnx.State` has both: variables in its moments, and arrays of its own.
    pairs = zip(leaves, jax.tree.leaves(new), strict=True)
    kept = [_set(leaf, value) for leaf, value in pairs]
    return structure.unflatten(kept) if state is tree else tree


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
