"""Groups pieces of equal structure into one computation on stacked numbers.

Written out, a chain of three hundred cosines is three hundred copies of one formula. Each copy is
traced, compiled and run at every step, but only one result is used. But schedules are data: two
pieces have equal structure if they have the same classes with numbers of the same kinds and shapes.
They differ only in their numbers. So their numbers are stacked, the piece of a step is found once,
its numbers are gathered, and the formula runs once. For a sum it runs on all rows at once.

A schedule is brought into one of these forms only for its computation. Printing, comparison,
stretching and learning use the tree as it was built.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length
from jaxsched._core._fields import choice_field, tree_field
from jaxsched._core._node import Node, require_unstacked, same_leaf
from jaxsched._core._numerics import looked_up, real, weak
from jaxsched._core._padded import power_of_two

# Smaller groups are written out. Measured on a CPU: finding the piece and gathering its numbers
# costs as much as 6 cosines or 8 lines, and on an array of steps as much as 20 vectorised lines.
LEAST = 8

# In a shorter chain of all-different pieces, each piece adds up the lengths before it.
SHORT = 8

Groups = list[tuple[int, ...]]  # the places of the schedules with equal structure


class Stack(Node):
    """Schedules of equal structure as one, with leaves stacked along their first axis.

    A plain number that all schedules share is not stacked, so that XLA can treat it as a constant.
    """

    # Three things: the tree of one schedule; for each leaf, whether it is weakly typed; and for
    # each leaf, the axis of the schedules, or None if they share one number.
    structure: Any = choice_field(kw_only=False)
    leaves: tuple[Any, ...] = tree_field()

    @classmethod
    def of(cls, schedules: Sequence[Any]) -> Stack:
        columns = [*zip(*map(jax.tree.leaves, schedules), strict=True)]
        shared = [*map(_is_shared, columns)]
        axes = tuple(None if one and not all(shared) else 0 for one in shared)
        are_weak = tuple(_is_weak(column[0]) for column in columns)
        leaves = (
            column[0] if axis is None else _stacked(column)
            for column, axis in zip(columns, axes, strict=True)
        )
        return cls((jax.tree.structure(schedules[0]), are_weak, axes), tuple(leaves))

    def row(self, leaves: Sequence[jax.Array]) -> Any:
        """Return one of the schedules, from its own leaves."""
        tree, are_weak, _ = self.structure
        given = (weak(x) if is_weak else x for x, is_weak in zip(leaves, are_weak, strict=True))
        schedule = jax.tree.unflatten(tree, given)
        require_unstacked(schedule)
        return schedule

    def each(self, f: Callable[[Any], Any]) -> Any:
        """Return the result of a function for each of the schedules."""
        mapped = jax.vmap(lambda leaves: f(self.row(leaves)), [[*self.structure[2]]])
        return mapped([*map(jnp.asarray, self.leaves)])

    def pick(self, index: jax.Array) -> list[jax.Array]:
        """Return the leaves of the schedule with each index."""
        leaves = zip(map(jnp.asarray, self.leaves), self.structure[2], strict=True)
        return [leaf if axis is None else looked_up(leaf, index) for leaf, axis in leaves]

    def at(self, index: jax.Array, t: jax.Array) -> jax.Array:
        """Return the value at each time, of the schedule with the corresponding index."""

        def value(leaves: list[jax.Array], t: jax.Array) -> jax.Array:
            return real(self.row(leaves).at(t))

        # One `vmap` per axis: flattened steps would lose their sharding.
        axes = [*self.structure[2]], 0
        mapped = functools.reduce(lambda f, _: jax.vmap(f, axes), range(t.ndim), value)
        return mapped(self.pick(index), t)

    @property
    def steps(self) -> Length | None:
        """The end of the longest schedule; None if they are unbounded."""
        ends = self.each(lambda x: None if x.steps is None else _clock.read(x.steps))
        return None if ends is None else jnp.max(ends)


class Several(Node):
    """Pieces of a chain with equal structure."""

    stack: Stack
    begins: Any = tree_field()
    # For each piece of the chain, the index in this group of the latest piece. None if the group is
    # the whole chain without its last piece; then the index is that of the piece.
    nth: Any = tree_field()

    def at(self, t: jax.Array, piece: jax.Array) -> jax.Array:
        index = piece if self.nth is None else looked_up(jnp.asarray(self.nth), piece)
        return self.stack.at(index, _clock.elapsed(t, looked_up(jnp.asarray(self.begins), index)))


class One(Node):
    """A piece of a chain with a structure of its own."""

    piece: Any
    begin: Any = tree_field()

    def at(self, t: jax.Array, piece: jax.Array) -> jax.Array:
        return self.piece.at(_clock.elapsed(t, self.begin))


class Chain(Node):
    """Pieces in sequence. The last piece is kept apart, because it can be stretched."""

    parts: tuple[Several | One, ...]
    last: Any
    end: Any = tree_field()  # the step at which the last piece begins
    begins: Any = tree_field()  # the starts of the others, padded to a power of two
    owner: Any = tree_field()  # the part that each of the others belongs to

    @classmethod
    def of(cls, pieces: tuple[Any, ...], lengths: Callable[[], list[Length]]) -> Chain | None:
        """Build from pieces and the lengths of all but the last; None if grouping gains nothing."""
        *others, last = pieces
        groups = alike(others)
        if len(groups) == len(others) and len(others) < SHORT:
            return None
        begins = begins_of(lengths())
        parts = tuple(_part(others, begins[:-1], places) for places in groups)
        owner = _by_place(groups, _owners(groups))
        return cls(parts, last, begins[-1], _padded(begins[:-1]), owner)

    @property
    def steps(self) -> Length | None:
        steps = self.last.steps
        return None if steps is None else _clock.add(_clock.read(self.end), steps)

    def at(self, t: jax.Array) -> jax.Array:
        alone = [part for part in self.parts if isinstance(part, One)]
        value = self._searched(t) if len(alone) < len(self.parts) else _in_turn(alone, t)
        return jnp.where(
            _clock.before(t, self.end), value, self.last.at(_clock.elapsed(t, self.end))
        )

    def _searched(self, t: jax.Array) -> jax.Array:
        piece = _last_begun(t, jnp.asarray(self.begins))
        owner = looked_up(jnp.asarray(self.owner), piece)
        return chosen(owner, [part.at(t, piece) for part in self.parts])

    def stretched(self, steps: Any) -> Chain:
        last = self.last._stretched(_clock.less(steps, _clock.read(self.end)))
        return Chain(self.parts, last, self.end, self.begins, self.owner)


class Combination(Node):
    """A sum or a product, in which schedules of equal structure are computed at once."""

    parts: tuple[Any, ...]
    order: Any = choice_field(kw_only=False)  # of the operands among the values of all parts
    combined: Any = choice_field(kw_only=False)

    @classmethod
    def of(cls, operands: tuple[Any, ...], combined: Callable[[Any], Any]) -> Combination | None:
        """Build from operands and the function that combines them; None if nothing is gained."""
        groups = alike(operands)
        if len(groups) == len(operands):
            return None
        order = np.argsort([place for places in groups for place in places]).tolist()
        return cls(_stacks(operands, groups), tuple(order), combined)

    @property
    def steps(self) -> Length | None:
        return _clock.latest(x.steps for x in self.parts if isinstance(x, Node))  # pyright: ignore

    def at(self, t: jax.Array) -> jax.Array:
        values = [value for part in self.parts for value in _values(part, t)]
        return self.combined(values[k] for k in self.order)


class Selection(Node):
    """The schedule with an index, among several of which some have equal structure."""

    parts: tuple[Any, ...]
    owner: Any = tree_field()  # the part that contains the schedule with that index
    nth: Any = tree_field()  # the position of that schedule in its part

    @classmethod
    def of(cls, index: Any, schedules: tuple[Any, ...]) -> Selection | None:
        """Build from an index and schedules; None if grouping gains nothing."""
        groups = alike(schedules)
        if len(groups) == len(schedules):
            return None
        owner = _by_place(groups, _owners(groups))
        nth = _by_place(groups, [k for places in groups for k in range(len(places))])
        return cls(_stacks(schedules, groups), _entry(owner, index), _entry(nth, index))

    @property
    def steps(self) -> Length | None:
        return _clock.latest(x.steps for x in self.parts if isinstance(x, Node))  # pyright: ignore

    def at(self, t: jax.Array) -> jax.Array:
        return chosen(jnp.asarray(self.owner), [self._value(part, t) for part in self.parts])

    def _value(self, part: Any, t: jax.Array) -> jax.Array:
        is_stack = isinstance(part, Stack)
        return real((part.row(part.pick(jnp.asarray(self.nth))) if is_stack else part).at(t))


def alike(schedules: Sequence[Any]) -> Groups:
    """Return the places of schedules with equal structure; small groups are split up."""
    found: dict[Any, list[int]] = {}
    for place, schedule in enumerate(schedules):
        leaves, tree = jax.tree.flatten(schedule)
        kinds = tuple(map(_kind, leaves))
        single = not isinstance(schedule, Node) or not leaves or None in kinds
        key = place if single else (tree, kinds)
        found.setdefault(key, []).append(place)
    several = [tuple(places) for places in found.values() if len(places) >= LEAST]
    alone = [(place,) for places in found.values() if len(places) < LEAST for place in places]
    return sorted(several + alone)


def begins_of(lengths: Sequence[Length]) -> Any:
    """Return the start of each piece and the end of the last: uint32, and 2^31 for never."""
    if all(isinstance(length, (int, float)) for length in lengths):
        begins = [0]
        for length in lengths:
            begins.append(min(begins[-1] + int(min(max(length, 0), LAST)), LAST + 1))
        return np.asarray(begins, np.uint32)
    if len(lengths) < SHORT:
        return [*itertools.accumulate(lengths, _clock.after, initial=jnp.zeros((), jnp.uint32))]
    # A cumulative sum, because XLA would compute sequential sums anew for each piece. It is
    # computed in two halves, so that no sum wraps.
    steps = jnp.stack([_clock.read(length) for length in lengths]).astype(jnp.uint32)
    half = np.uint32(2**16 - 1)
    low = jnp.cumsum(steps & half, dtype=jnp.uint32)
    high = jnp.cumsum(steps >> np.uint32(16), dtype=jnp.uint32) + (low >> np.uint32(16))
    begins = (high << np.uint32(16)) | (low & half)
    begins = jnp.where(high >= np.uint32(2**15), np.uint32(LAST + 1), begins)
    return jnp.append(jnp.zeros(1, jnp.uint32), begins)


def _padded(begins: Any) -> Any:
    """Return starts, padded with starts that never come to a power of two."""
    more = power_of_two(len(begins)) - len(begins)
    append = jnp.append if isinstance(begins, jax.Array) else np.append
    return append(begins, np.full(more, LAST + 1, np.uint32))


def _last_begun(t: jax.Array, begins: jax.Array) -> jax.Array:
    """Return the piece that has begun last; of pieces that begin together, the last one.

    It is a binary search: with 300 pieces, a time is compared with 9 starts. Counting all
    comparisons would cost five times as much, and would not fuse with the operations that follow.
    """
    piece = jnp.zeros_like(t, dtype=jnp.int32)
    for half in reversed(range((begins.shape[0] - 1).bit_length())):
        begun = ~_clock.before(t, looked_up(begins, piece + 2**half))
        piece = piece + begun.astype(jnp.int32) * 2**half
    return piece


def _in_turn(pieces: list[One], t: jax.Array) -> jax.Array:
    """Return the value of a chain without equal pieces, written out."""
    value = pieces[0].at(t, t)
    for piece in pieces[1:]:
        value = jnp.where(_clock.before(t, piece.begin), value, piece.at(t, t))
    return value


def _part(pieces: list[Any], begins: Any, places: tuple[int, ...]) -> Several | One:
    if len(places) == 1:
        return One(pieces[places[0]], begins[places[0]])
    stack = Stack.of([pieces[place] for place in places])
    if len(places) == len(pieces):
        return Several(stack, begins, None)
    begun = np.searchsorted(places, np.arange(len(pieces)), side="right")
    nth = np.maximum(begun - 1, 0).astype(np.int32)
    return Several(stack, begins[np.asarray(places)], nth)


def _stacks(schedules: Sequence[Any], groups: Groups) -> tuple[Any, ...]:
    several = ([schedules[place] for place in places] for places in groups)
    return tuple(Stack.of(x) if len(x) > 1 else x[0] for x in several)


def _by_place(groups: Groups, numbers: Sequence[int]) -> np.ndarray:
    """Return the numbers given for the places of all groups in sequence, ordered by place."""
    return np.asarray(numbers, np.int32)[np.argsort(np.concatenate(groups))]


def _owners(groups: Groups) -> list[int]:
    return [k for k, places in enumerate(groups) for _ in places]


def _entry(row: np.ndarray, index: Any) -> Any:
    """Return row[index], with the index clipped to its range."""
    if not isinstance(index, jax.Array):
        return row[min(max(int(index), 0), len(row) - 1)]
    return looked_up(jnp.asarray(row), jnp.clip(index, 0, len(row) - 1))


def _values(part: Any, t: jax.Array) -> Sequence[jax.Array]:
    if isinstance(part, Stack):
        return jnp.unstack(part.each(lambda x: real(x.at(t))))
    return [part.at(t) if isinstance(part, Node) else real(part)]  # pyright: ignore


def chosen(index: jax.Array, values: Sequence[jax.Array]) -> jax.Array:
    """Return values[index], where all values are computed."""
    value = values[0]
    for k, other in enumerate(values[1:], start=1):
        value = jnp.where(index < k, value, other)
    return value


def _kind(leaf: Any) -> Any:
    """Return what two leaves must share to be stacked; None if a leaf cannot be stacked."""
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype, _is_weak(leaf)
    return type(leaf) if isinstance(leaf, (int, float)) else None


def _is_shared(column: tuple[Any, ...]) -> bool:
    """Return whether a column is one plain number in all schedules."""
    plain = all(isinstance(leaf, (int, float)) for leaf in column)
    return plain and all(same_leaf(column[0], leaf) for leaf in column[1:])


def _stacked(column: tuple[Any, ...]) -> Any:
    arrays = any(isinstance(leaf, jax.Array) for leaf in column)
    return jnp.stack([*map(jnp.asarray, column)]) if arrays else np.stack(column)


def _is_weak(leaf: Any) -> bool:
    return not hasattr(leaf, "dtype") or getattr(leaf, "weak_type", False)
