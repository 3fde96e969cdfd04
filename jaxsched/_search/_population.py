"""A population: a list of members that remembers the arguments each member was made from."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax


class Made(NamedTuple):
    """A member, and the arguments of the factory that made it; no arguments if not known."""

    member: Any
    arguments: dict[str, Any]


class Population(list[Any]):
    """A list of members, with the arguments of the factory for each.

    The list may be changed in any way. A member is found again as an object, so members that were
    added by hand have no arguments.
    """

    _made: Sequence[Made] = ()
    _factory: Any = None  # of all members; None if several functions or a person made them

    def __init__(self, members: Iterable[Any] = (), made: Iterable[Made] = (), factory: Any = None):
        super().__init__(members)
        self._made, self._factory = [*made], factory

    @classmethod
    def by(cls, factory: Callable[..., Any], rows: Iterable[Mapping[str, Any]]) -> Population:
        """Return the results of a factory, one for each row of arguments."""
        made = [Made(factory(**row), dict(row)) for row in rows]
        return cls((each.member for each in made), made, factory)

    @classmethod
    def of(cls, members: Iterable[Any]) -> Population:
        """Return a population itself, or other members as one without arguments."""
        return members if isinstance(members, Population) else cls(members)

    @property
    def made(self) -> list[Made]:
        """Each member with its arguments, in the present order of the list."""
        known: dict[int, collections.deque[Made]] = collections.defaultdict(collections.deque)
        for each in self._made:
            known[id(each.member)].append(each)
        # A factory may return one object twice, so each entry is used once, in order.
        return [known[id(x)].popleft() if known[id(x)] else Made(x, {}) for x in self]

    @property
    def one_factory(self) -> bool:
        """Whether one function made all members, so that their arguments tell them apart."""
        known = {id(each.member) for each in self._made}
        return self._factory is not None and known.issuperset(map(id, self))

    @property
    def arguments(self) -> list[dict[str, Any]]:
        """The arguments of each member; empty for a member that was added by hand."""
        return [each.arguments for each in self.made]

    def __add__(self, other: Any) -> Any:
        return self._joined(self, other) if isinstance(other, list) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self._joined(other, self) if isinstance(other, list) else NotImplemented

    def __iadd__(self, other: Iterable[Any]) -> Population:  # pyright: ignore
        self.extend(other)
        return self

    def extend(self, iterable: Iterable[Any], /) -> None:
        joined = self._joined(self, Population.of(iterable))
        super().extend(joined[len(self) :])
        self._made, self._factory = joined.made, joined._factory

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return Population(super().__getitem__(index), self.made[index], self._factory)

    def __reduce__(self) -> Any:
        # Without the factory, which is often a lambda: that cannot be pickled.
        return _again, ([*self], self.arguments, self.one_factory)

    @staticmethod
    def _joined(first: list[Any], second: list[Any]) -> Population:
        made = [*_made(first), *_made(second)]
        factories = [getattr(x, "_factory", None) for x in (first, second) if x]
        same = len(factories) > 0 and all(x is factories[0] for x in factories)
        return Population((each.member for each in made), made, factories[0] if same else None)


def _again(members: list[Any], arguments: list[dict[str, Any]], one_factory: bool) -> Population:
    """Return a population that was pickled or copied; its factory is like no other."""
    made = [Made(*each) for each in zip(members, arguments, strict=True)]
    return Population(members, made, object() if one_factory else None)


def _made(members: Iterable[Any]) -> list[Made]:
    return members.made if isinstance(members, Population) else [Made(x, {}) for x in members]


# JAX maps over lists, but takes a subclass for a leaf until it is registered.
jax.tree_util.register_pytree_with_keys(
    Population,
    lambda x: ([(jax.tree_util.SequenceKey(i), each) for i, each in enumerate(x)], None),
    lambda _, members: Population(members),
    lambda x: (list(x), None),
)
