"""Schedules made of schedules: what the operators build.

Every node answers the same two questions, `steps` (when does it end?) and `_at(t)` (what is it
worth?), by asking its children.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched import _clock
from jaxsched._clock import LAST, Length
from jaxsched._numerics import above_zero, real, saturated
from jaxsched._require import Number, finite, integer, length, positive, require
from jaxsched._schedule import Schedule, as_schedule, node

_RATE = "_whole_rate"  # an attribute of the object alone: whatever is made of it is no longer whole


@node
class Then(Schedule):
    """`a >> b`: a(t) for t < a.steps, else b(t - a.steps); n-ary."""

    pieces: tuple[Schedule, ...]

    @classmethod
    def of(cls, *schedules: Schedule) -> Then:
        pieces = _flat(cls, "pieces", schedules)
        for piece in pieces[:-1]:
            if piece.steps is None:
                raise ValueError(f"`{piece}` never ends; say how long: `.take(steps) >> ...`")
        return cls(pieces)

    @property
    def steps(self) -> Length | None:
        last = self.pieces[-1].steps
        return None if last is None else _clock.add(self._starts[-1], last)

    @property
    def _starts(self) -> tuple[Length, ...]:
        starts: list[Length] = [0]
        for piece in self.pieces[:-1]:
            starts.append(_clock.add(starts[-1], _clock.known(piece.steps)))
        return tuple(starts)

    @property
    def _begins(self) -> tuple[jax.Array, ...]:
        """When each piece begins: uint32, and 2^31 where that is never."""
        begins = [jnp.zeros((), jnp.uint32)]
        for piece in self.pieces[:-1]:
            begins.append(_clock.after(begins[-1], _clock.known(piece.steps)))
        return tuple(begins)

    def _at(self, t: jax.Array) -> jax.Array:
        value = self.pieces[0]._at(t)
        for start, piece in zip(self._begins[1:], self.pieces[1:], strict=True):
            # The clock is clamped before the piece sees it: a branch that `where` does not take
            # still has a gradient, and NaN * 0 is NaN.
            since = jnp.maximum(t - _clock.read(start).astype(t.dtype), 0)
            value = jnp.where(_clock.before(t, start), value, piece._at(since))
        return value

    def _stretched(self, steps: Length) -> Schedule:
        *earlier, last = self.pieces
        start = self._starts[-1]
        return Then((*earlier, last._stretched(_clock.less(steps, start))))


@node
class Product(Schedule):
    """`a * b`, each a schedule or a plain number; n-ary."""

    factors: tuple[Schedule | Number, ...]

    @classmethod
    def of(cls, *factors: Any) -> Product:
        require_one_rate(factors)
        return cls(_flat(cls, "factors", tuple(map(factor, factors))))

    @property
    def steps(self) -> Length | None:
        return longest(self.factors)

    def _at(self, t: jax.Array) -> jax.Array:
        return multiplied(value_at(x, t) for x in self.factors)

    def _stretched(self, steps: Length) -> Schedule:
        if _several(self.factors):
            return super()._stretched(steps)
        return Product(_each_stretched(self.factors, steps))


@node
class Sum(Schedule):
    """`a + b`, each a schedule or a plain number; n-ary."""

    terms: tuple[Schedule | Number, ...]

    @classmethod
    def of(cls, *terms: Any) -> Sum:
        summands = tuple(operand("schedule + number", number=x) for x in terms)
        return cls(_flat(cls, "terms", summands))

    @property
    def steps(self) -> Length | None:
        return longest(self.terms)

    def _at(self, t: jax.Array) -> jax.Array:
        return saturated(functools.reduce(operator.add, (value_at(x, t) for x in self.terms)))

    def _stretched(self, steps: Length) -> Schedule:
        if _several(self.terms):
            return super()._stretched(steps)
        return Sum(_each_stretched(self.terms, steps))


@node
class Clip(Schedule):
    """`a.clip(low, high)`; None is no bound."""

    schedule: Schedule
    low: Number | None
    high: Number | None

    @classmethod
    def of(cls, schedule: Schedule, low: ArrayLike | None, high: ArrayLike | None) -> Clip:
        return cls(schedule, *bounds("clip", low, high))

    @property
    def steps(self) -> Length | None:
        return self.schedule.steps

    def _at(self, t: jax.Array) -> jax.Array:
        return clipped(self.schedule._at(t), self.low, self.high)

    def _stretched(self, steps: Length) -> Schedule:
        return dataclasses.replace(self, schedule=self.schedule._stretched(steps))


@node
class Take(Schedule):
    """`a.take(steps)`: a(min(t, steps))."""

    schedule: Schedule
    steps: Length  # pyright: ignore[reportIncompatibleMethodOverride]

    def _at(self, t: jax.Array) -> jax.Array:
        return self.schedule._at(jnp.minimum(t, _clock.read(self.steps).astype(t.dtype)))


@node
class Shift(Schedule):
    """`a.shift(k)`: a(t - k), for k of either sign."""

    schedule: Schedule
    by: Length

    @classmethod
    def of(cls, schedule: Schedule, steps: ArrayLike) -> Shift:
        by = integer("shift", steps=steps)
        return cls(schedule, min(max(by, -LAST), LAST) if isinstance(by, int) else by)

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        if isinstance(steps, (int, float)) and isinstance(self.by, int):
            return min(max(int(steps) + self.by, 0), LAST)
        later, earlier = _clock.read(self.by), _clock.read(jnp.negative(self.by))
        return _clock.add(jnp.maximum(_clock.read(steps) - earlier, 0), later)

    def _at(self, t: jax.Array) -> jax.Array:
        return self.schedule._at(_clock.since(t, self.by))


@node
class Faster(Schedule):
    """`a.faster(rate)`: a(t * rate), also between the steps."""

    schedule: Schedule
    rate: Length | Number

    @classmethod
    def of(cls, schedule: Schedule, rate: Any) -> Faster:
        if is_whole(rate):
            return cls(schedule, _clock.held(length("faster", rate=rate, least=1)))
        return cls(schedule, positive("faster", rate=rate))

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        if isinstance(steps, jax.Array) or isinstance(self.rate, jax.Array):
            return self._first_at(steps)
        with jax.ensure_compile_time_eval():
            return int(self._first_at(steps))

    def _first_at(self, steps: Length) -> jax.Array:
        """The first step whose time is at least `steps`, by the very product that `_at` forms."""
        steps = _clock.read(steps)
        if jnp.issubdtype(jnp.result_type(self.rate), jnp.integer):
            rate = jnp.maximum(_clock.read(self.rate), 1)
            return steps // rate + (steps % rate > 0).astype(jnp.int32)
        guess = _clock.read(jnp.ceil(real(steps) / above_zero(self.rate)))
        late = self._time(jnp.maximum(guess - 1, 0)) >= real(steps)
        early = self._time(guess) < real(steps)
        later, earlier = jnp.minimum(guess, LAST - 1) + 1, jnp.maximum(guess - 1, 0)
        return jnp.where(early, later, jnp.where(late, earlier, guess))

    def _time(self, t: jax.Array) -> jax.Array:
        if jnp.issubdtype(jnp.result_type(self.rate), jnp.integer):
            rate = jnp.maximum(_clock.read(self.rate), 1).astype(t.dtype)
            return jnp.where(t > LAST // rate, jnp.asarray(LAST, t.dtype), t * rate)
        return jnp.minimum(real(t) * above_zero(self.rate), real(LAST))

    def _at(self, t: jax.Array) -> jax.Array:
        return self.schedule._at(self._time(t))


@node
class Hold(Schedule):
    """`a.hold(each)`: a(t // each)."""

    schedule: Schedule
    each: Length

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        known = isinstance(self.each, (int, float))
        return _clock.times(steps, self.each if known else jnp.maximum(_clock.read(self.each), 1))

    def _at(self, t: jax.Array) -> jax.Array:
        each = jnp.maximum(_clock.read(self.each), 1).astype(t.dtype)
        return self.schedule._at(t // each)


def bounds(
    call: str, low: ArrayLike | None, high: ArrayLike | None
) -> tuple[Number | None, Number | None]:
    """The bounds of a clip, checked."""
    low = None if low is None else finite(call, low=low)
    high = None if high is None else finite(call, high=high)
    if low is not None and high is not None:
        require(low <= high, f"`{call}(low=..., high=...)` is empty: low={low!r} > high={high!r}.")
    return low, high


def clipped(value: jax.Array, low: Number | None, high: Number | None) -> jax.Array:
    """min(max(value, low), high), where None is no bound."""
    value = value if low is None else jnp.maximum(value, real(low))
    return value if high is None else jnp.minimum(value, real(high))


def is_whole(x: Any) -> bool:
    """Is a number an integer by its type, of which exact things can be said?"""
    if isinstance(x, (jax.Array, np.ndarray)):
        return jnp.issubdtype(x.dtype, jnp.integer)
    return isinstance(x, numbers.Integral) and x is not True


def operand(call: str, /, **argument: Any) -> Schedule | Number:
    """What may stand beside a schedule: a schedule, or a plain number."""
    (x,) = argument.values()
    return as_schedule(call, x) if callable(x) else finite(call, **argument)


def factor(x: Any) -> Schedule | Number:
    """What may stand in a product, beside a schedule or a stateful one."""
    return operand("schedule * number", number=x)


def mark_rate(schedule: Any, base_lr: Any, floor: Any) -> None:
    """Note that a schedule is a whole learning rate, with its base rate and its floor in it."""
    vars(schedule)[_RATE] = base_lr, floor


def require_one_rate(factors: tuple[Any, ...]) -> None:
    """Raise if a product would multiply two base rates, or the floor under one of them."""
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
            f"`{_product_text(factors)}` would multiply the floor min_lr={floors[0]} too. Leave it "
            f"out, and put the floor under the product: `(...).clip({floors[0]})`."
        )


def _product_text(factors: tuple[Any, ...]) -> str:
    return " * ".join(map(str, factors))


def multiplied(values: Iterable[jax.Array]) -> jax.Array:
    """The product, saturated after each factor: of huge and tiny ones, no infinity and no NaN."""
    return functools.reduce(lambda a, b: saturated(a * b), values)


def value_at(x: Schedule | Number, t: jax.Array) -> jax.Array:
    """What an operand is worth at clock time `t`."""
    return x._at(t) if isinstance(x, Schedule) else real(x)


def longest(operands: tuple[Schedule | Number, ...]) -> Length | None:
    """When the last of the schedules ends; None: one never does. A number has no say."""
    lengths = [x.steps for x in operands if isinstance(x, Schedule)]
    known = [length for length in lengths if length is not None]
    return _clock.longest(*known) if len(known) == len(lengths) else None


def _several(operands: tuple[Schedule | Number, ...]) -> bool:
    return sum(isinstance(x, Schedule) for x in operands) > 1


def _each_stretched(
    operands: tuple[Schedule | Number, ...], steps: Length
) -> tuple[Schedule | Number, ...]:
    return tuple(x._stretched(steps) if isinstance(x, Schedule) else x for x in operands)


def _flat(cls: type, field: str, children: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        itertools.chain.from_iterable(
            getattr(child, field) if isinstance(child, cls) else (child,) for child in children
        )
    )
