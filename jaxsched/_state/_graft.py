"""Graft: copies an old state into the fresh state of a changed optimizer.

A record is copied as a whole from a record of the same kind, or not at all. Half of Adam's state
would be worse than none, and so would the moments of another optimizer. A step counter is
recognised by its hyperparameters, or by most of them. Each hyperparameter keeps its value, its
override and its factors; factors are matched by kind, not by position.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import DictKey, GetAttrKey

from jaxsched._core._packed import name_of
from jaxsched._core._require import require
from jaxsched._core._trees import opened, rewritten
from jaxsched._state import _records
from jaxsched._state._records import CLOCK, Kind, Leaves, Node, Path, is_record, own_leaves, title
from jaxsched._transforms._scheduled import factors_key

S = TypeVar("S")
_log = logging.getLogger("jaxsched")


def graft(new_state: S, old_state: Any) -> S:
    """Restores an old optimizer state into the fresh state of a changed optimizer.

    Use it to resume a run after the optimizer has changed: a hyperparameter, rule or wrapper was
    added or removed. Parts that are missing in the old state keep the values of `new_state`. The
    logger "jaxsched" lists these parts, and the parts of the old state that are not used. New step
    counters start at the old step.

    Args:
      new_state: `tx.init(params)` of the changed optimizer, a `TrainState` or an `nnx.Optimizer`.
      old_state: the state to restore. Nested dicts and lists are accepted too; they do not contain
        class names, so they are matched by field names alone.

    Returns:
      A state with the structure and dtypes of `new_state`, in new buffers.

    Raises:
      ValueError: the two states have nothing in common; or, outside `jit`, a rule occurs more often
        in one state than in the other, so that it is unclear which ones belong together.

    Example:
      >>> old = scale_by_learning_rate(0.1).init(jnp.ones(2))
      >>> new = scale_by_learning_rate(0.1 * reduce_on_plateau()).init(jnp.ones(2))
      >>> print(step(graft(new, set_step(old, 7))))
      7
    """
    old = _records.named(opened(old_state))

    def take(new: Any) -> Any:
        taken = _matched(new, old)
        require(
            bool(taken.values) or not jax.tree.leaves(new),
            f"`graft(new_state, old_state)` found nothing to take from old_state, which is of type "
            f"{type(old).__name__}. Pass an optimizer state, or what a checkpoint made of one.",
        )
        if not any(isinstance(x, Tracer) for x in jax.tree.leaves(old)):
            taken.report()
        return jax.tree_util.tree_map_with_path(lambda path, x: taken.values.get(path, x), new)

    return rewritten(new_state, take)


class Taken(NamedTuple):
    """The values to copy, by path in the new tree, and the names of parts that were not matched."""

    values: dict[Path, Any]
    fresh: list[str]  # parts of the new state that the old state does not have
    lost: list[str]  # parts of the old state that the new state has no place for

    def whole(self, values: dict[Path, Any] | None, name: str) -> None:
        """Take all the leaves of a record, or record that there is no match."""
        self.values.update(values or {})
        if values is None:
            self.fresh.append(name)

    def each(self, leaves: Leaves, old: Any) -> list[str]:
        """Take each leaf that has a match, and return the names of the others."""
        values = _found(leaves, old)
        self.values.update({path: value for path, value in values.items() if value is not None})
        return ["/".join(names) for path, (names, _) in leaves.items() if values[path] is None]

    def report(self) -> None:
        """Log the parts that were not matched."""
        if self.fresh:
            _log.warning("graft: missing in the old state: %s", ", ".join(self.fresh))
        if self.lost:
            _log.warning("graft: unused parts of the old state: %s", ", ".join(self.lost))


def _matched(new: Any, old: Any) -> Taken:
    nodes, free = [*_records.nodes(new)], {node.path: node for node in _records.nodes(old)}
    clocks = [node for node in free.values() if node.kind.name == CLOCK]
    known = not any(isinstance(x, Tracer) for x in jax.tree.leaves((new, old)))
    pairs, taken = _pairs(nodes, free, known=known), Taken({}, [], [])
    for node in nodes:
        found, leaves = pairs.get(node.path), own_leaves(node)
        if node.kind.name == CLOCK:
            _take_clock(taken, node, found, clocks)
        elif is_record(node.tree) and leaves:
            _take_record(taken, node, leaves, found)
        elif node.path == ():
            # Leaves outside any record, such as a `TrainState`'s params, are matched by name.
            taken.fresh.extend(taken.each(leaves, old))
    unused = [node for node in free.values() if node.kind.name == CLOCK or is_record(node.tree)]
    taken.lost.extend(title(node.tree) for node in unused if own_leaves(node))
    return taken


def _take_record(taken: Taken, node: Node, leaves: Leaves, found: Node | None) -> None:
    """Take all the numbers of a record; a part that may restart stays fresh if it does not fit."""
    if found is None:
        taken.whole(None, title(node.tree))
        return
    for part in getattr(node.tree, "RESTARTS", ()):
        way = tuple(part.split("."))
        own = {path: leaf for path, leaf in leaves.items() if leaf[0][: len(way)] == way}
        if _whole(own, found.tree) is None:
            leaves = {path: leaf for path, leaf in leaves.items() if path not in own}
            taken.fresh.append(f"{part} of {title(node.tree)}")
    taken.whole(_whole(leaves, found.tree), title(node.tree))


def _pairs(nodes: list[Node], free: dict[Path, Node], *, known: bool) -> dict[Path, Node]:
    """Match each new record with an old one, by path. A matched record is no longer free.

    Step counters are matched first, by their hyperparameters. The contents of a matched counter go
    to the same place in the new one. Within one kind, a record at the same place is matched first,
    then records with the same labels, in order, and finally a record that is the only one.
    """
    pairs: dict[Path, Node] = {}
    nodes = [node for node in nodes if is_record(node.tree) and own_leaves(node)]
    clocks = [node for node in nodes if node.kind.name == CLOCK]
    others = [node for node in nodes if node.kind.name != CLOCK]
    fields = {name for node in nodes for name in _records.attributes(node)}

    def labels(node: Node) -> Any:
        """The user's labels: in nested dicts, the names of fields are keys too."""
        return [label for label in node.labels if label not in fields]

    for same in (_place, labels, _anywhere):
        _claim(clocks, free, pairs, same, same)
    # A changed counter takes only an old one that no unchanged counter has matched.
    for node in clocks:
        if node.path not in pairs and (found := _nearest(node, free.values())) is not None:
            pairs[node.path] = free.pop(found.path)
    owners = {path: old.path for path, old in pairs.items()}
    old_owners = {path: path for path in owners.values()}
    _claim(others, free, pairs, partial(_inside, owners), partial(_inside, old_owners))
    for same in (labels, _anywhere):
        _claim(others, free, pairs, same, same)
    if known:
        _require_known(nodes, free, pairs)
    return pairs


def _claim(
    nodes: list[Node],
    free: dict[Path, Node],
    pairs: dict[Path, Node],
    of_new: Callable[[Node], Any],
    of_old: Callable[[Node], Any],
) -> None:
    """Pair records of one kind with equal keys, if there are as many old as new ones."""
    for node in nodes:
        left = [x for x in nodes if x.path not in pairs and x.kind == node.kind]
        new = [x for x in left if of_new(x) == of_new(node)]
        old = [x for x in _alike(node, free) if of_old(x) == of_new(node)]
        if node.path not in pairs and len(new) == len(old):
            found = zip(new, old, strict=True)
            pairs.update({x.path: free.pop(y.path) for x, y in found})


def _alike(node: Node, free: dict[Path, Node]) -> list[Node]:
    return [other for other in free.values() if node.kind.is_of(other.kind)]


def _anywhere(node: Node) -> Any:
    """Return None: any record of the same kind fits."""
    return None


def _place(node: Node) -> Any:
    """The names on the path to a record."""
    return _named(node.path)


def _inside(owners: dict[Path, Path], node: Node) -> Any:
    """The old path of the counter that a record is in, and the names on the path from there."""
    around = [path for path in owners if node.path[: len(path)] == path]
    clock = max(around, key=len, default=())
    return owners.get(clock), _named(node.path[len(clock) :])


def _named(path: Path) -> tuple[str, ...]:
    return tuple(map(name_of, path))


def _require_known(nodes: list[Node], free: dict[Path, Node], pairs: dict[Path, Node]) -> None:
    """Raise for records that cannot be told apart. Under `jit`, they stay fresh."""
    for node in nodes:
        left = [x for x in nodes if x.path not in pairs and x.kind == node.kind]
        old = _alike(node, free)
        both = " and ".join(
            ", ".join(f"`{'/'.join(_place(x)) or 'the state'}`" for x in some)
            for some in (left, old)
        )
        require(
            node.path in pairs or not old,
            f"`graft(new_state, old_state)` cannot match several records of {title(node.tree)}: "
            f"new {both} of the old state. Label them as before, or graft each one separately: "
            "`graft(new_state[...], old_state[...])`.",
        )


def _nearest(node: Node, free: Iterable[Node]) -> Node | None:
    """Return the old counter with the most common hyperparameters, if there is exactly one."""

    def common(other: Node) -> int:
        return len({*node.kind.fields} & {*other.kind.fields})

    clocks = [other for other in free if node.kind.name == other.kind.name == CLOCK]
    most = max(map(common, clocks), default=0)
    near = [other for other in clocks if most and common(other) == most]
    near = [other for other in near if other.labels == node.labels] or near
    return near[0] if len(near) == 1 else None


def _take_clock(taken: Taken, node: Node, found: Node | None, clocks: list[Node]) -> None:
    """Take the count of a step counter and, by name, its values, overrides and factors."""
    names, whole = node.kind.fields, found is not None
    if found is None:
        taken.fresh.append(title(node.tree))
        if not clocks:
            return
        # All counters of a run are at the same step.
        count = {"count": _records.field(clocks[0].tree, "count")}
        found = node._replace(tree=count, kind=Kind(CLOCK, names))
    missing = taken.each(own_leaves(node), found.tree)
    # A name with a slash belongs to a hyperparameter, which is listed as a whole.
    taken.fresh.extend(name for name in missing if whole and "/" not in name)
    taken.fresh.extend(name for name in names if name not in found.kind.fields)
    taken.lost.extend(name for name in found.kind.fields if name not in names)
    for name in dict.fromkeys([*names, *found.kind.fields]):
        key = factors_key(name)
        place = (*node.path, GetAttrKey("factors"), DictKey(key))
        old = [child for _, child in _records.children(_records.field(found.tree, "factors", key))]
        for path, factor in _records.children(node.tree.factors.get(key, ())):
            old = _take_factor(taken, name, factor, (*place, *path), old)
        taken.lost.extend(f"{_records.rule_title(factor)} of {name}" for factor in old)


def _take_factor(taken: Taken, name: str, factor: Any, place: Path, old: list[Any]) -> list[Any]:
    """Take a factor from the first old one that fits, and return the others."""
    own: Leaves = {}
    parts: dict[str, Leaves] = {}
    for path, child in _records.fields_of_rule(factor):
        leaves = _records.leaves(child, (*place, *path), tuple(map(name_of, path)))
        # A part that is a record, such as smoothing, may be in only one of the two.
        (parts.setdefault(title(child), {}) if is_record(child) else own).update(leaves)
    for other in old:
        values = _known(own, other) if _records.akin(factor, other) else None
        if values is not None:
            taken.values.update(values)
            missing = [[x for x in own[path][0] if x != "memory"] for path in own.keys() - values]
            whose = _records.rule_title(factor)
            taken.fresh.extend(f"{names[0]} of {whose} of {name}" for names in missing)
            for part, leaves in parts.items():
                taken.whole(_whole(leaves, other), f"{part} of {name}")
            return [rest for rest in old if rest is not other]
    taken.fresh.append(f"{_records.rule_title(factor)} of {name}")
    return old


def _whole(leaves: Leaves, old: Any) -> dict[Path, Any] | None:
    """Return all of the leaves from an old record, or None if one of them does not fit."""
    values = _found(leaves, old)
    return None if any(value is None for value in values.values()) else values


def _known(leaves: Leaves, old: Any) -> dict[Path, Any] | None:
    """Return the leaves that an old record has, or None if one of them does not fit.

    A number that the rule did not have when the old state was written stays fresh. A number whose
    meaning has changed would make the others wrong.
    """
    flat = _records.by_names(old)
    values = {
        path: _fitting(flat[names], leaf) for path, (names, leaf) in leaves.items() if names in flat
    }
    return None if not values or any(value is None for value in values.values()) else values


def _found(leaves: Leaves, old: Any) -> dict[Path, Any]:
    flat = _records.by_names(old)
    return {path: _fitting(flat.get(names), leaf) for path, (names, leaf) in leaves.items()}


def _fitting(value: Any, fresh: Any) -> Any:
    """Return an old leaf in the dtype and placement of the fresh one, or None if it cannot fit."""
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
