"""Functions that combine schedules into one."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length
from jaxsched._core._fields import length_field
from jaxsched._core._require import integer, length, refuse, require, sequence
from jaxsched._schedules._chain import Then
from jaxsched._schedules._combined import Combined, Operand, longest
from jaxsched._schedules._grouped import Selection, chosen
from jaxsched._schedules._schedule import AnySchedule, Grouped, Schedule, as_schedule, operand


class Minimum(Combined):
    """The smaller of two operands."""

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return jnp.minimum(*values)


class Maximum(Combined):
    """The larger of two operands."""

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return jnp.maximum(*values)


class Select(Schedule):
    """schedules[index]."""

    index: Length = length_field(kw_only=False)
    schedules: tuple[Schedule, ...]

    @property
    def steps(self) -> Length | None:
        return longest(self.schedules)

    def _changes(self) -> Iterator[int]:
        return heapq.merge(*(x._changes() for x in self.schedules))

    def at(self, t: jax.Array) -> jax.Array:
        return chosen(jnp.asarray(self.index), [schedule.at(t) for schedule in self.schedules])

    def _grouped(self) -> Schedule:
        same = cast(Select, super()._grouped())
        form = Selection.of(same.index, same.schedules)
        return same if form is None else Grouped(form)


def minimum(a: AnySchedule | ArrayLike, b: AnySchedule | ArrayLike) -> Schedule:
    """Returns the smaller of two schedules at every step.

        value(t) = min(a(t), b(t))

    Args:
      a: a schedule, any function of the step, or a number.
      b: a schedule, any function of the step, or a number.

    Returns:
      A schedule that ends with the longer of the two.

    Raises:
      ValueError: an operand is neither a schedule nor a finite number, or both are numbers.

    Example:
      >>> print(minimum(linear(0.0, 4.0, 4), linear(3.0, 0.0, 3))(jnp.arange(5)))
      [0. 1. 1. 0. 0.]
    """
    return Minimum(_pair("minimum", a, b))


def maximum(a: AnySchedule | ArrayLike, b: AnySchedule | ArrayLike) -> Schedule:
    """Returns the larger of two schedules at every step.

        value(t) = max(a(t), b(t))

    Args:
      a: a schedule, any function of the step, or a number.
      b: a schedule, any function of the step, or a number.

    Returns:
      A schedule that ends with the longer of the two.

    Raises:
      ValueError: an operand is neither a schedule nor a finite number, or both are numbers.

    Example:
      >>> print(maximum(linear(4.0, 0.0, 4), 1.5)(jnp.arange(5)))
      [4.  3.  2.  1.5 1.5]
    """
    return Maximum(_pair("maximum", a, b))


def join(schedules: Sequence[AnySchedule], boundaries: Sequence[ArrayLike]) -> Schedule:
    """Joins schedules at given boundary steps; each starts from its own step 0.

        value(t) = schedules[k](t - boundaries[k - 1]),    k = the number of boundaries <= t

    It is the chain `schedules[0].take(boundaries[0]) >> ... >> schedules[-1]`.

    Args:
      schedules: schedules, or any functions of the step.
      boundaries: the steps at which the next schedule begins, one fewer than schedules; integers,
        not negative, not decreasing.

    Returns:
      A schedule that ends with its last piece.

    Raises:
      ValueError: the lengths do not fit, or the boundaries decrease or are not integers.

    Example:
      >>> halves = join([constant(1.0), linear(0.5, 0.0, 2)], [3])
      >>> print(halves(jnp.arange(6)))
      [1.   1.   1.   0.5  0.25 0.  ]

    References:
      `optax.join_schedules`.
    """
    schedules = sequence("join", "schedules", schedules)
    boundaries = sequence("join", "boundaries", boundaries)
    require(
        len(schedules) == len(boundaries) + 1,
        "`join(schedules=..., boundaries=...)` needs one more schedule than boundaries: "
        f"got {len(schedules)} schedules and {len(boundaries)} boundaries.",
    )
    pieces = [as_schedule("join", schedule) for schedule in schedules]
    edges = [0, *(length("join", "boundaries", b) for b in boundaries)]
    falls = refuse("join", "boundaries", "not decrease", boundaries)
    for a, b in itertools.pairwise(edges):
        require(a <= b, falls)
    lengths = [_clock.between(a, b) for a, b in itertools.pairwise(edges)]
    taken = [piece.take(gap) for piece, gap in zip(pieces[:-1], lengths, strict=True)]
    return Then.of(*taken, pieces[-1])


def select(index: ArrayLike, schedules: Sequence[AnySchedule]) -> Schedule:
    """Selects one of several schedules by index, which may be traced, as in a population.

        value(t) = schedules[index](t)

    Args:
      index: integer in [0, len(schedules)). A traced index outside is clipped to this range.
      schedules: schedules, or any functions of the step. All of them are evaluated.

    Returns:
      A schedule that ends with the longest of them.

    Raises:
      ValueError: `schedules` is empty, or `index` is not an integer in its range.

    Example:
      >>> either = jax.vmap(lambda i: select(i, [linear(1.0, 0.0, 4), constant(0.5)])(1))
      >>> print(either(jnp.arange(2)))
      [0.75 0.5 ]
    """
    schedules = sequence("select", "schedules", schedules)
    if not schedules:
        raise ValueError(refuse("select", "schedules", "not be empty", schedules))
    number = integer("select", "index", index)
    last = len(schedules) - 1
    inside = (number >= 0) & (number <= last)
    require(inside, refuse("select", "index", f"be between 0 and {last}", index))
    return Select(number, tuple(as_schedule("select", schedule) for schedule in schedules))


def _pair(call: str, a: Any, b: Any) -> tuple[Operand, Operand]:
    pair = operand(call, "a", a), operand(call, "b", b)
    if not any(isinstance(x, Schedule) for x in pair):
        raise ValueError(f"`{call}(a, b)` needs a schedule as an operand, got {a!r} and {b!r}.")
    return pair
