"""Records: the parts of an optimizer state, and the properties by which they are recognised.

A record is the NamedTuple of a transform. It is recognised by the names of its class and fields. A
`ScheduledState` is recognised by its hyperparameters, and a rule's state also by its metrics. A
checkpoint may be restored as nested dicts and lists; then only the names of the fields are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.tree_util import GetAttrKey

from jaxsched._core._packed import INNER, entries_of, name_of, parts
from jaxsched._core._trees import Path
from jaxsched._transforms._scheduled import ScheduledState

Leaves = dict[Path, tuple[tuple[str, ...], Any]]  # by path: the names within its record, the leaf

CLOCK = ScheduledState.__name__


class Kind(NamedTuple):
    """The properties by which a record is recognised."""

    name: str | None  # of the class; None for a dict or a list
    fields: tuple[str, ...]  # fields that are not empty; for a clock, its hyperparameters

    def is_of(self, other: Kind) -> bool:
        """Return whether a record of the other kind can be used as one of this kind."""
        return self.fields == other.fields and other.name in (None, self.name)


class Node(NamedTuple):
    """A container in a tree: its path, and its labels, which are the dict keys on the path."""

    path: Path
    labels: tuple[str, ...]
    tree: Any
    kind: Kind


def nodes(tree: Any, path: Path = (), labels: tuple[str, ...] = ()) -> Iterator[Node]:
    """Yield every container, outer first; inside a clock or a guard, those of its inner state."""
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
    """Return the names of attributes on the path to a node; in a dict they are keys."""
    return {key.name for key in node.path if isinstance(key, GetAttrKey)}


def named(tree: Any) -> Any:
    """Return the tree with packed states that were restored as dicts turned into nested dicts."""
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
    """Return the numbers of two vectors by name, as nested dicts."""
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
    """Return the leaves of a node that are in no inner record and not in a clock's factors."""
    clock = isinstance(node.tree, ScheduledState)
    found: Leaves = {}
    if _listens(node.tree):  # its mailbox is only meaningful together with the rest
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
    """Return all leaves of a tree at `path`, with their names in the record."""
    return {
        (*path, *way): ((*names, *map(name_of, way)), leaf)
        for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def kind_of(tree: Any) -> Kind:
    """Return the kind of a record or another container."""
    fields = {name_of(path[0]) for path, child in children(tree) if jax.tree.leaves(child)}
    if {"count", "hyperparams", "overrides"} <= fields:
        return Kind(CLOCK, tuple(sorted(field_names(field(tree, "hyperparams")))))
    if _listens(tree):
        heard = field_names(field(tree, "mailbox"))
        return Kind(_class_of(tree), (*sorted(fields - {"inner_state"}), *sorted(heard)))
    # One of several averages is recognised by its name.
    return Kind(_class_of(tree), (*sorted(fields), *sorted(field_names(field(tree, "totals")))))


def akin(factor: Any, old: Any) -> bool:
    """Return whether an old state is of the same rule: same class, metric and numbers.

    One of the two may have additional numbers, because a newer version may count more.
    """
    name, kind = _class_of(_memory(old)), _class_of(_memory(factor))
    heard, listens = (field_names(field(x, "mailbox")) for x in (old, factor))
    has, needs = _numbers(old), _numbers(factor)
    return name in (None, kind) and heard == listens and (has <= needs or needs <= has)


def _numbers(factor: Any) -> set[str]:
    """Return the names of a rule's own numbers."""
    memory = children(_memory(factor))
    return {name_of(path[0]) for path, child in memory if jax.tree_util.all_leaves([child])}


def fields_of_rule(factor: Any) -> list[tuple[Path, Any]]:
    """Return the fields of a rule's state: its mailbox, and each field of its own state."""
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
    """Return the name of a rule's state for messages."""
    return title(_memory(factor))


def _memory(factor: Any) -> Any:
    """Return a rule's own state, without its mailbox."""
    memory = field(factor, "memory") if _listens(factor) else None
    return factor if memory is None else memory


def by_names(tree: Any) -> dict[tuple[str, ...], Any]:
    """Return every leaf of a tree, keyed by the names on its path."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {tuple(map(name_of, path)): leaf for path, leaf in flat}


def title(tree: Any) -> str:
    """Return the name of a record for messages."""
    kind = kind_of(tree)
    if kind.name == CLOCK:
        return f"the step counter of {', '.join(kind.fields)}"
    return kind.name or "+".join(field_names(tree))


def children(tree: Any) -> list[tuple[Path, Any]]:
    """Return one level of any container; a leaf has none."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)[0]
    return [(path, child) for path, child in flat if path]


def field(tree: Any, *names: str) -> Any:
    """Return the content of a field, or of a nested field; None if it does not exist."""
    for name in names:
        tree = next((child for path, child in children(tree) if name_of(path[0]) == name), None)
    return tree


def field_names(tree: Any) -> list[str]:
    """Return the names of the fields of a container; a position counts as a name."""
    return [name_of(path[0]) for path, _ in children(tree)]


def _listens(tree: Any) -> bool:
    """Return whether a tree is the state of something with a mailbox."""
    return any(name_of(path[0]) == "mailbox" for path, _ in children(tree))


def is_record(x: Any) -> bool:
    """Return whether `x` is a NamedTuple."""
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _class_of(tree: Any) -> str | None:
    return type(tree).__name__ if is_record(tree) else None
