"""The states of this package wherever they are: in a chain, in `MultiSteps`, in another's wrapper.

Nothing here knows those wrappers: a state is a tree, and what is ours in it is known by its type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax.contrib

from jaxsched._require import require
from jaxsched._stateful._mailbox import Mail
from jaxsched._transforms._scheduled import ScheduledState

S = TypeVar("S")
Path = tuple[Any, ...]

_INNER = jax.tree_util.GetAttrKey("inner_state")

# The fields that count what has happened.
EVENTS = ("cuts", "raises", "spikes", "skips", "restores", "snapshots", "mixed")


def find_clocks(tree: Any, path: Path = ()) -> Iterator[tuple[Path, ScheduledState]]:
    """Every clock and where it is, the outer before the inner."""
    for sub_path, x in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_clock)[0]:
        if _is_clock(x):
            here = (*path, *sub_path)
            yield here, x
            yield from find_clocks(x.inner_state, (*here, _INNER))


def each_clock(tree: S, change: Callable[[Path, ScheduledState], ScheduledState]) -> S:
    """The tree with every clock changed, the inner before the outer."""

    def visit(tree: Any, path: Path) -> Any:
        def one(sub_path: Path, x: Any) -> Any:
            if not _is_clock(x):
                return x
            here = (*path, *sub_path)
            inner = visit(x.inner_state, (*here, _INNER))
            return change(here, x)._replace(inner_state=inner)

        return jax.tree_util.tree_map_with_path(one, tree, is_leaf=_is_clock)

    return rewritten(tree, lambda tree: visit(tree, ()))


def counts(tree: Any) -> dict[str, jax.Array]:
    """How often what has happened, of all that counts it together."""
    found: dict[str, jax.Array] = {}
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = getattr(path[-1], "name", None) if path else None
        if name in EVENTS and jnp.issubdtype(jnp.result_type(x), jnp.integer):
            found[name] = found[name] + x if name in found else x
    return {name: found[name] for name in EVENTS if name in found}


def text_of(path: Path) -> str:
    """A place in a tree as text: "encoder/layers_3/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def all_of(kind: type | tuple[type, ...], tree: Any) -> list[Any]:
    """Every record of a kind, or of one of several, however deep."""
    found: list[Any] = []

    def is_one(x: Any) -> bool:
        if isinstance(x, kind):
            found.append(x)
        return False  # there may be another in it

    jax.tree.leaves(opened(tree), is_leaf=is_one)
    return found


def only(call: str, kind: type, remedy: str, opt_state: Any) -> Any:
    """The one record of a kind that there is, however deep."""
    found = all_of(kind, opt_state)
    require(
        len(found) == 1,
        f"`{call}(opt_state)` finds {len(found) or 'no'} `{remedy}` in a "
        f"{type(opt_state).__name__}, and needs one.",
    )
    return found[0]


def require_own_steps(call: str, opt_state: Any) -> None:
    """Raise for schedule-free, which tells its average from where its own updates have led."""
    require(
        not all_of(optax.contrib.ScheduleFreeState, opt_state),
        f"`{call}` changes the updates of `optax.contrib.schedule_free`, whose average would be "
        "wrong. What multiplies them belongs into its rate: "
        "`inject(optax.contrib.schedule_free_adamw, learning_rate=rate * factor)`.",
    )


def listened(tree: Any) -> set[str]:
    """The metrics that somebody in a state listens to."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, Mail))[0]
    return {path[-1].key for path, x in flat if isinstance(x, Mail)}


def _is_clock(x: Any) -> bool:
    return isinstance(x, ScheduledState)


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
