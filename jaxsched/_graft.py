"""Graft: what an old state has, into the fresh state of a changed optimizer.

A state is made of records: the NamedTuples of transforms. A record is recognised by its kind, the
names of its fields, and taken whole or not at all: half of Adam's state is worse than none. A clock
is recognised by its hyperparameters, and its stateful factors by their kind and the metrics that
they listen to, not by where they stand. The old state may be nested dicts and lists, as checkpoints
come back.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxsched._require import require
from jaxsched._state import opened, rewritten
from jaxsched._transforms._scheduled import ScheduledState

S = TypeVar("S")
Path = tuple[Any, ...]
_log = logging.getLogger("jaxsched")


class Node(NamedTuple):
    """A place in a tree: the way there, and the dict keys on it, which label it."""

    path: Path
    labels: tuple[str, ...]
    tree: Any


def graft(new_state: S, old_state: Any) -> S:
    """A fresh state with all that an old one has of the same kind.

    For restoring a run whose optimizer has changed: another factor, one less, another transform
    before or around it. What the old state does not have stays fresh, and the logger "jaxsched"
    says what that is; a clock that was not there starts at the old step.

    Args:
      new_state: `tx.init(params)` of the changed optimizer, a `TrainState`, an `nnx.Optimizer`.
      old_state: the state to restore; also as nested dicts and lists.

    Returns:
      A state like `new_state`, in its dtypes, in fresh buffers.

    Raises:
      ValueError: the two have nothing in common.

    Example:
      >>> old = scale_by_learning_rate(0.1).init(jnp.ones(2))
      >>> new = scale_by_learning_rate(0.1 * reduce_on_plateau()).init(jnp.ones(2))
      >>> print(step(graft(new, set_step(old, 7))))
      7
    """
    old = opened(old_state)

    def take(new: Any) -> Any:
        taken = _matched(new, old)
        require(
            bool(taken.values) or not jax.tree.leaves(new),
            f"`graft(new_state, old_state)` finds nothing in common with a {type(old).__name__}.",
        )
        if not any(isinstance(x, Tracer) for x in jax.tree.leaves(old)):
            taken.report()
        return jax.tree_util.tree_map_with_path(lambda path, x: taken.values.get(path, x), new)

    return rewritten(new_state, take)


class Taken(NamedTuple):
    """What is taken, by its path in the new tree, and the names of what is not."""

    values: dict[Path, Any]
    fresh: list[str]  # of the new state: not in the old one
    lost: list[str]  # of the old state: no place in the new one

    def one(self, path: Path, value: Any, name: str | None = None) -> None:
        """Take a leaf if there is one; else say so, if it has a name."""
        if value is not None:
            self.values[path] = value
        elif name is not None:
            self.fresh.append(name)

    def whole(self, values: dict[Path, Any] | None, name: str) -> None:
        """Take all the leaves of a record, or say that there is none."""
        self.values.update(values or {})
        if values is None:
            self.fresh.append(name)

    def report(self) -> None:
        """Tell the logger."""
        if self.fresh:
            _log.warning("graft: the old state does not have: %s", ", ".join(self.fresh))
        if self.lost:
            _log.warning("graft: not used of the old state: %s", ", ".join(self.lost))


def _matched(new: Any, old: Any) -> Taken:
    known: defaultdict[Any, list[Node]] = defaultdict(list)
    for node in _nodes(Node((), (), old)):
        known[_kind(node.tree)].append(node)
    clocks = [node for kind, nodes in known.items() if kind[0] == "clock" for node in nodes]
    taken = Taken({}, [], [])
    for node in _nodes(Node((), (), new)):
        found = _claim(known[_kind(node.tree)], node.labels) if _is_record(node.tree) else None
        leaves = dict(_own_leaves(node))
        if isinstance(node.tree, ScheduledState):
            _take_clock(taken, node, found, clocks)
        elif _is_record(node.tree) and leaves:
            values = None if found is None else _whole(leaves, found.tree)
            taken.whole(values, type(node.tree).__name__)
        elif node.path == ():
            # What is in no record, such as the parameters of a `TrainState`, goes by its names.
            for path, (names, leaf) in leaves.items():
                taken.one(path, _fitting(_lookup(old, names), leaf), "/".join(names))
    for kind, nodes in known.items():
        taken.lost.extend(
            [f"a clock of {', '.join(kind[1:])}" for _ in nodes if kind[0] == "clock"]
        )
    return taken


def _take_clock(taken: Taken, node: Node, found: Node | None, clocks: list[Node]) -> None:
    """A clock's count and values by name, and each of its factors whole, by its kind."""
    if found is None:
        taken.fresh.append(f"a clock of {', '.join(node.tree.hyperparams)}")
        if not clocks:
            return
        # All clocks of a run are at the same step.
        found = node._replace(tree={"count": _child(clocks[0].tree, "count")})
    for path, (names, leaf) in _own_leaves(node):
        taken.one(path, _fitting(_lookup(found.tree, names), leaf))
    old_factors = _child(found.tree, "factors")
    for key in dict.fromkeys([*node.tree.factors, *_fields(old_factors)]):
        name = key.removesuffix("_factors")
        old = [child for _, child in _children(_child(old_factors, key))]
        for path, factor in _children(node.tree.factors.get(key, ())):
            here = (*node.path, *_way(node.tree, "factors", key), *path)
            same = next((o for o in old if _mark(o) == _mark(factor)), None)
            old = [o for o in old if o is not same]
            values = None if same is None else _whole(dict(_leaves(factor, here)), same)
            taken.whole(values, f"{type(factor).__name__} of {name}")
        taken.lost.extend(f"{'+'.join(_fields(o))} of {name}" for o in old)


def _nodes(node: Node) -> Iterator[Node]:
    """Every container, the outer before the inner; of a clock, only what it wraps."""
    yield node
    for path, child in _children(node.tree):
        name = _name(path[0])
        if _kind(node.tree)[0] == "clock" and name != "inner_state":
            continue
        label = () if not isinstance(node.tree, dict) or name.isdigit() else (name,)
        if _children(child):
            yield from _nodes(Node((*node.path, *path), (*node.labels, *label), child))


def _own_leaves(node: Node) -> Iterator[tuple[Path, tuple[tuple[str, ...], Any]]]:
    """The leaves of a node that are in no record below it, nor in a clock's factors."""
    clock = isinstance(node.tree, ScheduledState)
    for path, leaf in jax.tree_util.tree_flatten_with_path(
        node.tree, is_leaf=lambda x: x is not node.tree and _is_record(x)
    )[0]:
        names = tuple(map(_name, path))
        if clock and names[0] == "overrides":
            yield from _leaves(leaf, (*node.path, *path), names)
        elif not _is_record(leaf) and not (clock and names[0] == "factors"):
            yield (*node.path, *path), (names, leaf)


def _leaves(
    tree: Any, root: Path, names: tuple[str, ...] = ()
) -> Iterator[tuple[Path, tuple[tuple[str, ...], Any]]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield (*root, *path), ((*names, *map(_name, path)), leaf)


def _whole(leaves: dict[Path, Any], old: Any) -> dict[Path, Any] | None:
    """All of the leaves from an old record, or None if one of them does not fit."""
    values = {path: _fitting(_lookup(old, names), leaf) for path, (names, leaf) in leaves.items()}
    return None if any(value is None for value in values.values()) else values


def _fitting(value: Any, fresh: Any) -> Any:
    """An old leaf as the fresh one is: its dtype, its buffers; None if it is something else."""
    if value is None or jnp.shape(value) != jnp.shape(fresh):
        return None
    old, new = jnp.result_type(value), jnp.result_type(fresh)
    if old == new and jnp.issubdtype(new, jax.dtypes.prng_key):
        return value
    kinds = (jnp.floating, jnp.integer, jnp.bool_, jnp.complexfloating)
    if not any(jnp.issubdtype(old, kind) and jnp.issubdtype(new, kind) for kind in kinds):
        return None
    array = jnp.array(value, new, copy=True)
    placed = isinstance(fresh, jax.Array) and not any(isinstance(x, Tracer) for x in (array, fresh))
    return jax.device_put(array, fresh.sharding) if placed else array


def _claim(candidates: list[Node], labels: tuple[str, ...]) -> Node | None:
    """The first of a kind with these labels, or the only one; none is given twice."""
    labelled = [node for node in candidates if node.labels == labels]
    found = next(iter(labelled), candidates[0] if len(candidates) == 1 else None)
    if found is not None:
        candidates.remove(found)
    return found


def _kind(tree: Any) -> tuple[Any, ...]:
    """What a record is recognised by: the fields that have something in them."""
    names = {_name(path[0]) for path, child in _children(tree) if jax.tree.leaves(child)}
    if {"count", "hyperparams", "overrides"} <= names:
        return ("clock", *sorted(_fields(_child(tree, "hyperparams"))))
    return ("record", *sorted(names))


def _mark(factor: Any) -> tuple[Any, ...]:
    return (*_kind(factor), *sorted(_fields(_child(factor, "mailbox"))))


def _fields(tree: Any) -> list[str]:
    return [_name(path[0]) for path, _ in _children(tree)]


def _children(tree: Any) -> list[tuple[Path, Any]]:
    """One level of any container; of a leaf, nothing."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)[0]
    return [(path, child) for path, child in flat if path]


def _child(tree: Any, name: str) -> Any:
    return next((child for path, child in _children(tree) if _name(path[0]) == name), None)


def _lookup(tree: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        tree = _child(tree, name)
    return tree


def _way(tree: Any, *names: str) -> Path:
    way: Path = ()
    for name in names:
        path, tree = next((p, c) for p, c in _children(tree) if _name(p[0]) == name)
        way = (*way, *path)
    return way


def _name(key: Any) -> str:
    return str(next(getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)))


def _is_record(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")
