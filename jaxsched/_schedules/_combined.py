"""Combinations of values: `a * b`, `a + b`, and the base class of all others.

An operand is a schedule or a plain number. A combination is given by a function of the values of
its operands. It ends with the longest of its schedules; numbers have no say.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any, cast

import jax

from jaxsched._core import _clock
from jaxsched._core._clock import Length
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import Number
from jaxsched._core._writing import PRODUCT, SUM, infix, snake, text
from jaxsched._schedules._grouped import Combination
from jaxsched._schedules._marks import Jump, Phase
from jaxsched._schedules._schedule import Grouped, Schedule, builds, operand

_RATE = "_whole_rate"  # an attribute of the object only: a schedule derived from it is not whole

Operand = Schedule | Number


class Combined(Schedule):
    """A function of the values of some operands, each a schedule or a plain number."""

    operands: tuple[Operand, ...]

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        """The value, from those of the operands."""
        raise NotImplementedError

    @property
    def steps(self) -> Length | None:
        return longest(self.operands)

    def at(self, t: jax.Array) -> jax.Array:
        return self._combined(value_at(x, t) for x in self.operands)

    def _grouped(self) -> Schedule:
        same = cast(Combined, super()._grouped())
        form = Combination.of(same.operands, self._combined)
        return same if form is None else Grouped(form)

    def _text(self) -> str:
        return f"{snake(type(self).__name__)}({', '.join(map(text, self.operands))})"

    def _changes(self) -> Iterator[int]:
        return heapq.merge(*(x._changes() for x in schedules_of(self.operands)))


class Operator(Combined):
    """A combination that is like its only schedule, if the other operands are numbers."""

    def _stretched(self, steps: Length) -> Schedule:
        if len(schedules_of(self.operands)) > 1:
            return super()._stretched(steps)
        each = (x._stretched(steps) if isinstance(x, Schedule) else x for x in self.operands)
        return type(self)(tuple(each))

    def _phases(self, total: int) -> list[Phase]:
        chains = [found for x in schedules_of(self.operands) if (found := x._phases(total))]
        return chains[0] if len(chains) == 1 else []

    def _joins(self) -> Iterator[Jump]:
        only, *others = schedules_of(self.operands)
        for join in () if others else only._joins():
            yield join.through(self._with_value)

    def _with_value(self, value: float) -> float:
        """The result for a value of the only schedule."""
        values = (real(value if isinstance(x, Schedule) else x) for x in self.operands)
        return float(self._combined(values))


class Product(Operator):
    """`a * b`, for any number of factors."""

    _binds = PRODUCT

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return multiplied(values)

    def _text(self) -> str:
        return infix(" * ", PRODUCT, self.operands, Schedule)


class Sum(Operator):
    """`a + b`, for any number of terms."""

    _binds = SUM

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return saturated(functools.reduce(operator.add, values))

    def _text(self) -> str:
        return infix(" + ", SUM, self.operands, Schedule)


@builds("*")
def product(*factors: Any) -> Product:
    """Return the product of schedules and numbers."""
    require_one_rate(factors)
    return Product(flat(Product, "operands", map(factor, factors)))


@builds("+")
def _sum(*terms: Any) -> Sum:
    return Sum(flat(Sum, "operands", (operand("schedule + number", "number", x) for x in terms)))


def flat(cls: type, field: str, children: Iterable[Any]) -> tuple[Any, ...]:
    """Return children, of which those of the class itself are replaced by their own children."""
    each = (getattr(x, field) if isinstance(x, cls) else (x,) for x in children)
    return tuple(itertools.chain.from_iterable(each))


def factor(x: Any) -> Schedule | Number:
    """Return a factor of a product, checked."""
    return operand("schedule * number", "number", x)


def mark_rate(schedule: Any, base_lr: Any, floor: Any) -> None:
    """Record that a schedule is a whole learning rate, with its base rate and floor included."""
    vars(schedule)[_RATE] = base_lr, floor


def require_one_rate(factors: tuple[Any, ...]) -> None:
    """Raise if a product would multiply two base rates, or the floor of one of them."""
    whole = [vars(x)[_RATE] for x in factors if _RATE in getattr(x, "__dict__", ())]
    rates = [base for base, _ in whole if not (isinstance(base, (int, float)) and base == 1)]
    floors = [floor for _, floor in whole if floor]
    if len(rates) > 1:
        raise ValueError(
            f"`{_product_text(factors)}` multiplies two learning rates, "
            f"{' and '.join(map(str, rates))}. Give one of them the base rate 1.0, so that it is "
            "a factor."
        )
    if floors:
        raise ValueError(
            f"`{_product_text(factors)}` would also multiply the floor min_lr={floors[0]}. Leave "
            f"it out, and clip the product instead: `(...).clip({floors[0]})`."
        )


def _product_text(factors: tuple[Any, ...]) -> str:
    return " * ".join(map(str, factors))


def multiplied(values: Iterable[jax.Array]) -> jax.Array:
    """Return the product, saturated after each factor, so that no infinity or NaN appears."""
    return functools.reduce(lambda a, b: saturated(a * b), values)


def value_at(x: Operand, t: jax.Array) -> jax.Array:
    """Return the value of an operand at time `t`."""
    return x.at(t) if isinstance(x, Schedule) else real(x)


def schedules_of(operands: Iterable[Operand]) -> list[Schedule]:
    """Return the schedules among some operands."""
    return [x for x in operands if isinstance(x, Schedule)]


def longest(operands: Iterable[Operand]) -> Length | None:
    """Return the end of the longest schedule; None if one is unbounded."""
    return _clock.latest(x.steps for x in schedules_of(operands))
