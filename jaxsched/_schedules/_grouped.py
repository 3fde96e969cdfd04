"""Pieces of one structure are one computation on stacked numbers.

Written out, a chain of three hundred cosines is three hundred copies of one formula. Each of them
is traced, compiled and run at every step, and one of them is asked for. But schedules are data: two
pieces of one structure, which are the same classes with numbers of the same kinds and shapes,
differ in their numbers alone. So these are stacked, the piece that a step is in is found once, its
numbers are gathered, and the formula runs once. A sum runs it on all rows at once.

A schedule is brought into this form before it is computed, and for nothing else: what is printed,
compared, stretched and learnt is the tree as it was built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core.primitives import convert_element_type_p

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length
from jaxsched._core._fields import choice_field, tree_field
from jaxsched._core._node import Node, require_unstacked
from jaxsched._core._numerics import looked_up, real

# Fewer of one structure are written out.
LEAST = 4
# A chain of fewer pieces of which no two are alike is left as it is.
SHORT = 8


class Timed(Protocol):
    """What has a value at a time, and perhaps an end."""

    @property
    def steps(self) -> Length | None: ...
    def at(self, t: jax.Array) -> jax.Array: ...


class Stack(Node):
    """Schedules of one structure as one, each of whose leaves has them along its first axis."""

    leaves: tuple[Any, ...] = tree_field()
    structure: Any = choice_field(kw_only=False)  # the tree, and which leaves are weakly typed

    @classmethod
    def of(cls, schedules: Sequence[Any]) -> Stack:
        rows = [jax.tree.leaves(schedule) for schedule in schedules]
        weak = tuple(not hasattr(x, "dtype") or getattr(x, "weak_type", False) for x in rows[0])
        leaves = tuple(_stacked(column) for column in zip(*rows, strict=True))
        return cls(leaves, (jax.tree.structure(schedules[0]), weak))

    def row(self, leaves: Sequence[jax.Array]) -> Any:
        """One of the schedules, of its own leaves."""
        tree, weak = self.structure
        schedule = jax.tree.unflatten(tree, map(_as_given, leaves, weak))
        require_unstacked(schedule)
        return schedule

    def each(self, f: Callable[[Any], Any]) -> Any:
        """What a function makes of each of the schedules."""
        return jax.vmap(lambda leaves: f(self.row(leaves)))(list(map(jnp.asarray, self.leaves)))

    def at(self, index: jax.Array, t: jax.Array) -> jax.Array:
        """The value at each time of the schedule with the index beside it."""
        leaves = [looked_up(jnp.asarray(leaf), index) for leaf in self.leaves]

        def value(leaves: list[jax.Array], t: jax.Array) -> jax.Array:
            return real(self.row(leaves).at(t))

        # Axis by axis: flattened, steps would lose their sharding.
        return functools.reduce(lambda f, _: jax.vmap(f), range(t.ndim), value)(leaves, t)

    def longest(self) -> jax.Array | None:
        """When the last of the schedules ends; None if they do not."""
        ends = self.each(lambda x: None if x.steps is None else _clock.read(x.steps))
        return None if ends is None else jnp.max(ends)


class Several(Node):
    """Pieces of a chain, of one structure."""

    stack: Stack
    begins: Any = tree_field()
    nth: Any = tree_field()  # which of them began last, by the piece of the chain; None: that one

    def at(self, t: jax.Array, piece: jax.Array) -> jax.Array:
        index = piece if self.nth is None else looked_up(jnp.asarray(self.nth), piece)
        return self.stack.at(index, _since(t, looked_up(jnp.asarray(self.begins), index)))


class One(Node):
    """A piece of a chain."""

    piece: Any
    begin: Any = tree_field()

    def at(self, t: jax.Array, piece: jax.Array) -> jax.Array:
        return self.piece.at(_since(t, self.begin))


class Chain(Node):
    """Pieces one after the other. The last, which is the one to be stretched, is apart."""

    parts: tuple[Several | One, ...]
    last: Any
    end: Any = tree_field()  # when the last begins
    begins: Any = tree_field()  # so many that their number is a power of two
    owner: Any = tree_field()  # to which part each piece belongs

    @property
    def steps(self) -> Length | None:
        steps = self.last.steps
        return None if steps is None else _clock.add(_clock.read(self.end), steps)

    def at(self, t: jax.Array) -> jax.Array:
        begins = jnp.asarray(self.begins)
        piece = _last_begun(t, begins)
        owner = looked_up(jnp.asarray(self.owner), piece)
        values = [part.at(t, piece) for part in self.parts]
        value = chosen(owner, values)
        return jnp.where(
            _clock.before(t, self.end), value, self.last.at(_since(t, self.end))
        )

    def stretched(self, steps: Any) -> Chain:
        start = _clock.read(self.end)
        last = self.last._stretched(_clock.less(steps, start))
        return Chain(self.parts, last, self.end, self.begins, self.owner)


class Choice(Node):
    """One of several of one structure."""

    stack: Stack
    index: Any = tree_field()

    @property
    def steps(self) -> Length | None:
        return self.stack.longest()

    def at(self, t: jax.Array) -> jax.Array:
        leaves = [jnp.asarray(leaf)[self.index] for leaf in self.stack.leaves]
        return real(self.stack.row(leaves).at(t))


class Fold(Node):
    """What an associative operation makes of several of one structure."""

    stack: Stack
    operation: Callable[[Any, Any], Any] = choice_field(kw_only=False)
    start: Any = choice_field(kw_only=False)

    @property
    def steps(self) -> Length | None:
        return self.stack.longest()

    def at(self, t: jax.Array) -> jax.Array:
        values = self.stack.each(lambda x: real(x.at(t)))
        return jax.lax.reduce(values, real(self.start), self.operation, (0,))


def chain(pieces: tuple[Any, ...], lengths: Callable[[], list[Length]]) -> Chain | None:
    """A chain in this form, from its pieces and the lengths of all but the last."""
    groups = alike(pieces[:-1])
    if len(pieces) < SHORT and len(groups) == len(pieces) - 1:
        return None
    begins = begins_of(lengths())
    parts = tuple(_part(pieces, begins, places) for places in groups)
    owner = _owners(groups, len(pieces) - 1)
    return Chain(parts, pieces[-1], begins[-1], _padded(begins[:-1]), owner)


def _part(pieces: tuple[Any, ...], begins: Any, places: tuple[int, ...]) -> Several | One:
    if len(places) == 1:
        return One(pieces[places[0]], begins[places[0]])
    stack, begins = Stack.of([pieces[k] for k in places]), begins[np.asarray(places)]
    if len(places) == len(pieces) - 1:
        return Several(stack, begins, None)
    passed = np.searchsorted(places, np.arange(len(pieces) - 1), side="right")
    return Several(stack, begins, np.maximum(passed - 1, 0).astype(np.int32))


def choice(index: Any, schedules: tuple[Any, ...]) -> tuple[Any, list[Any]] | None:
    """One of several in this form: an index, and of what; None if no more than a few are alike."""
    groups = alike(schedules)
    if len(groups) == len(schedules):
        return None
    index = jnp.clip(jnp.asarray(index), 0, len(schedules) - 1)
    nth = np.zeros(len(schedules), np.int32)
    for places in groups:
        nth[list(places)] = np.arange(len(places))
    nth, owner = (jnp.asarray(x)[index] for x in (nth, _owners(groups, len(schedules))))
    return owner, [
        Choice(Stack.of([schedules[k] for k in places]), nth) if len(places) > 1
        else schedules[places[0]]
        for places in groups
    ]


def folds(
    operands: tuple[Any, ...], operation: Callable[[Any, Any], Any], start: float
) -> list[Any]:
    """The operands of a sum or a product, of which those of one structure are one."""
    return [
        Fold(Stack.of([operands[k] for k in places]), operation, start) if len(places) > 1
        else operands[places[0]]
        for places in alike(operands)
    ]


def alike(schedules: Sequence[Any]) -> list[tuple[int, ...]]:
    """The places of those that have one structure; of too few, each is alone."""
    places: dict[Any, list[int]] = {}
    for k, schedule in enumerate(schedules):
        leaves, tree = jax.tree.flatten(schedule)
        kinds = tuple(map(_kind, leaves))
        key = k if not leaves or None in kinds else (tree, kinds)
        places.setdefault(key, []).append(k)
    found = places.values()
    several = [tuple(group) for group in found if len(group) >= LEAST]
    alone = [(k,) for group in found if len(group) < LEAST for k in group]
    return sorted(several + alone)


def begins_of(lengths: Sequence[Length]) -> Any:
    """When each piece begins, and the one after them: uint32, and 2^31 where that is never."""
    if all(isinstance(length, (int, float)) for length in lengths):
        begins = [0]
        for length in lengths:
            begins.append(min(begins[-1] + int(min(max(length, 0), LAST)), LAST + 1))
        return np.asarray(begins, np.uint32)
    steps = jnp.stack([_clock.read(length) for length in lengths]).astype(jnp.uint32)
    # In two halves, of which no sum wraps.
    low = jnp.cumsum(steps & np.uint32(2**16 - 1), dtype=jnp.uint32)
    high = jnp.cumsum(steps >> np.uint32(16), dtype=jnp.uint32) + (low >> np.uint32(16))
    begins = (high << np.uint32(16)) | (low & np.uint32(2**16 - 1))
    begins = jnp.where(high >= np.uint32(2**15), np.uint32(LAST + 1), begins)
    return jnp.concatenate([jnp.zeros(1, jnp.uint32), begins])


def _padded(begins: Any) -> Any:
    """Times of start, and so many of which none comes that their number is a power of two."""
    more = 2 ** (len(begins) - 1).bit_length() - len(begins)
    append = jnp.append if isinstance(begins, jax.Array) else np.append
    return append(begins, np.full(more, LAST + 1, np.uint32))


def chosen(index: jax.Array, values: Sequence[jax.Array]) -> jax.Array:
    """values[index], where all are there."""
    value = values[0]
    for k, other in enumerate(values[1:], start=1):
        value = jnp.where(index < k, value, other)
    return value


def _owners(groups: list[tuple[int, ...]], size: int) -> np.ndarray:
    owner = np.zeros(size, np.int32)
    for k, places in enumerate(groups):
        owner[list(places)] = k
    return owner


def _last_begun(t: jax.Array, begins: jax.Array) -> jax.Array:
    """Which piece has begun last, of those that begin together the last one.

    By halves: the time is compared with the starts of 9 pieces of 300. A sum of all comparisons
    would cost five times as much, and is no part of one kernel with what follows.
    """
    piece = jnp.zeros_like(t, dtype=jnp.int32)
    for half in reversed(range((begins.shape[0] - 1).bit_length())):
        begun = ~_clock.before(t, looked_up(begins, piece + 2**half))
        piece = piece + begun.astype(jnp.int32) * 2**half
    return piece


def _since(t: jax.Array, start: Any) -> jax.Array:
    # Clamped before the piece sees it: a branch that is not taken still has a gradient.
    return jnp.maximum(t - _clock.read(start).astype(t.dtype), 0)


def _kind(leaf: Any) -> Any:
    """What two leaves share that can be stacked; None of what cannot."""
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    return type(leaf) if isinstance(leaf, (int, float)) else None


def _stacked(column: tuple[Any, ...]) -> Any:
    arrays = any(isinstance(x, jax.Array) for x in column)
    return jnp.stack(list(map(jnp.asarray, column))) if arrays else np.stack(column)


def _as_given(leaf: jax.Array, weak: bool) -> jax.Array:
    """A leaf as strongly typed as it is outside."""
    if not weak:
        return leaf
    return convert_element_type_p.bind(leaf, new_dtype=leaf.dtype, weak_type=True, sharding=None)
