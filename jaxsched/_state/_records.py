"""Records: what an optimizer's state is made of, and what each is recognised by.

A record is the NamedTuple of a transform. It is recognised by the names of its class and of its
fields; a clock by its hyperparameters; a stateful factor also by the metrics that it listens to.
A checkpoint may come back as nested dicts and lists: then the names of the fields must do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.tree_util import GetAttrKey

from jaxsched._core._packed import INNER, entries_of, parts
from jaxsched._core._trees import Path
from jaxsched._transforms._scheduled import ScheduledState

Leaves = dict[Path, tuple[tuple[str, ...], Any]]  # by place: the names from its record on, the leaf

CLOCK = ScheduledState.__name__


class Kind(NamedTuple):
    """What a record is recognised by."""

    name: str | None  # of its class; None of a dict or a list, which has none
    fields: tuple[str, ...]  # those with something in them; of a clock, its hyperparameters

    def is_of(self, other: Kind) -> bool:
        """Can a record of the other kind be taken for one of this?"""
        return self.fields == other.fields and other.name in (None, self.name)


class Node(NamedTuple):
    """A container in a tree: where it is, and the dict keys on the way there, which label it."""

    path: Path
    labels: tuple[str, ...]
    tree: Any
    kind: Kind


def nodes(tree: Any, path: Path = (), labels: tuple[str, ...] = ()) -> Iterator[Node]:
    """Every container, the outer before the inner; of a clock or a guard, only what it wraps."""
    kind = kind_of(tree)
    yield Node(path, labels, tree, kind)
    whole = kind.name == CLOCK or _listens(tree)
    for way, child in children(tree):
        name = name_of(way[0])
        if not children(child) or (whole and name != "inner_state"):
            continue
        label = () if not isinstance(tree, dict) or name.isdigit() else (name,)
        yield from nodes(child, (*path, *way), (*labels, *label))


def attributes(node: Node) -> set[str]:
    """The names of attributes on the way to a node: a dict has them as keys."""
    return {key.name for key in node.path if isinstance(key, GetAttrKey)}


def named(tree: Any) -> Any:
    """The tree with nested dicts in place of packed states that came back as dicts."""
    match tree:
        case {"floats": dict() as floats, "ints": dict() as ints}:
            record = {INNER: named(tree.get(INNER)), **_by_name(floats, ints)}
            for name, array in (tree.get("arrays") or {}).items():
                _put(record, entries_of(name)[0].way, array)
            return record
        case dict():
            return {key: named(x) for key, x in tree.items()}
        case list() | tuple() if not is_record(tree):
            return [named(x) for x in tree]
        case _:
            return tree


def _by_name(floats: dict[str, Any], ints: dict[str, Any]) -> dict[str, Any]:
    """The numbers of two vectors by their names, as nested dicts."""
    record: dict[str, Any] = {}
    # The key of the ints starts with the names of the record classes, which are not numbers.
    keys = [(x, key) for key, x in floats.items()]
    keys += [(x, key.partition("/")[2]) for key, x in ints.items()]
    for vector, key in keys:
        places = entries_of(key)
        for place, x in zip(places, parts(places, vector), strict=True):
            _put(record, place.way, x)
    return record


def _put(record: dict[str, Any], way: tuple[str, ...], x: Any) -> None:
    for name in way[:-1]:
        record = record.setdefault(name, {})
    record[way[-1]] = x


def own_leaves(node: Node) -> Leaves:
    """The leaves of a node that are in no record below it, nor in a clock's factors."""
    clock = isinstance(node.tree, ScheduledState)
    found: Leaves = {}
    if _listens(node.tree):  # what it has heard means nothing without the rest of it
        for path, child in children(node.tree):
            if name_of(path[0]) != "inner_state":
                found |= leaves(child, (*node.path, *path), (name_of(path[0]),))
        return found
    for path, leaf in jax.tree_util.tree_flatten_with_path(
        node.tree, is_leaf=lambda x: x is not node.tree and is_record(x)
    )[0]:
        names = tuple(map(name_of, path))
        if clock and names[0] == "overrides":
            found |= leaves(leaf, (*node.path, *path), names)
        elif not is_record(leaf) and not (clock and names[0] == "factors"):
            found[*node.path, *path] = names, leaf
    return found


def leaves(tree: Any, path: Path, names: tuple[str, ...]) -> Leaves:
    """All leaves of a tree that is at `path`, and that its record knows by `names`."""
    return {
        (*path, *way): ((*names, *map(name_of, way)), leaf)
        for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def kind_of(tree: Any) -> Kind:
    """The kind of a record, or of any other container."""
    fields = {name_of(path[0]) for path, child in children(tree) if jax.tree.leaves(child)}
    if {"count", "hyperparams", "overrides"} <= fields:
        return Kind(CLOCK, tuple(sorted(field_names(field(tree, "hyperparams")))))
    if _listens(tree):
        heard = field_names(field(tree, "mailbox"))
        return Kind(_class_of(tree), (*sorted(fields - {"inner_state"}), *sorted(heard)))
    return Kind(_class_of(tree), tuple(sorted(fields)))


def akin(factor: Any, old: Any) -> bool:
    """Is an old state of the same rule: its class, what it listens to, and the numbers it has?

    One of them may have numbers that the other does not: rules learn to count more.
    """
    name, kind = _class_of(_memory(old)), _class_of(_memory(factor))
    heard, listens = (field_names(field(x, "mailbox")) for x in (old, factor))
    has, needs = _numbers(old), _numbers(factor)
    return name in (None, kind) and heard == listens and (has <= needs or needs <= has)


def _numbers(factor: Any) -> set[str]:
    """The names of a factor's own numbers."""
    memory = children(_memory(factor))
    return {name_of(path[0]) for path, child in memory if jax.tree_util.all_leaves([child])}


def fields_of_rule(factor: Any) -> list[tuple[Path, Any]]:
    """The fields of a rule's state: its mailbox, and each of what it remembers."""
    memory, fields = _memory(factor), children(factor)
    if memory is factor:
        return fields
    inside = [
        ((*path, *way), x)
        for path, child in fields
        if name_of(path[0]) == "memory"
        for way, x in children(child)
    ]
    return [(path, x) for path, x in fields if name_of(path[0]) != "memory"] + inside


def rule_title(factor: Any) -> str:
    """What a person calls the state of a rule."""
    return title(_memory(factor))


def _memory(factor: Any) -> Any:
    """What a rule remembers, without its mailbox."""
    memory = field(factor, "memory") if _listens(factor) else None
    return factor if memory is None else memory


def by_names(tree: Any) -> dict[tuple[str, ...], Any]:
    """Every leaf of a tree, by the names on the way to it."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {tuple(map(name_of, path)): leaf for path, leaf in flat}


def title(tree: Any) -> str:
    """What a person calls a record."""
    kind = kind_of(tree)
    if kind.name == CLOCK:
        return f"a clock of {', '.join(kind.fields)}"
    return kind.name or "+".join(field_names(tree))


def children(tree: Any) -> list[tuple[Path, Any]]:
    """One level of any container; of a leaf, nothing."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)[0]
    return [(path, child) for path, child in flat if path]


def field(tree: Any, *names: str) -> Any:
    """What is in a field of a container, or in a field of that; None if there is nothing."""
    for name in names:
        tree = next((child for path, child in children(tree) if name_of(path[0]) == name), None)
    return tree


def field_names(tree: Any) -> list[str]:
    """The names of the fields of a container: a position is as good as a name."""
    return [name_of(path[0]) for path, _ in children(tree)]


def name_of(key: Any) -> str:
    """The name in a key of a path."""
    return str(next(getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)))


def _listens(tree: Any) -> bool:
    """Is it the state of something with a mailbox?"""
    return any(name_of(path[0]) == "mailbox" for path, _ in children(tree))


def is_record(x: Any) -> bool:
    """Is it a NamedTuple?"""
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _class_of(tree: Any) -> str | None:
    return type(tree).__name__ if is_record(tree) else None
