"""Cycles: a schedule that starts again, each time longer, each time lower.

Which cycle a step is in is decided in integers, by subtracting lengths: the logarithm that inverts
the geometric sum is off by one at one boundary in four. Where lengths are real it is the guess, and
the sum itself decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched import _clock
from jaxsched._algebra import is_whole
from jaxsched._clock import LAST, Beyond, Length, held, known
from jaxsched._numerics import above_zero, growth, log_rate, real, saturated
from jaxsched._require import Number, length, positive
from jaxsched._schedule import Schedule, node

# Cycles that at least double have passed LAST after this many.
_DOUBLINGS = 31


@node
class Cycle(Schedule):
    """`a.cycle(mult, decay, cycles)`: a.stretch(a.steps * mult**i) * decay**i for i = 0, 1, ..."""

    schedule: Schedule
    mult: Length | Number | None  # None: all of one length, so nothing is stretched
    decay: Number
    cycles: Length | None

    @property
    def steps(self) -> Length | None:
        if self.cycles is None:
            return None
        return _end(known(self.schedule.steps), self.mult, self.cycles)

    def _at(self, t: jax.Array) -> jax.Array:
        first, last = known(self.schedule.steps), _last(self.cycles).astype(t.dtype)
        schedule = self.schedule
        if self.mult is None:
            place = _among_equal(t, first, last)
        elif is_whole(self.mult):
            place = _among_whole(t, first, self.mult, last)
        else:
            place = _among_real(t, first, self.mult, last)
        if self.mult is not None:
            schedule = schedule._stretched(place.length)
        return saturated(schedule._at(place.position) * growth(self.decay, place.number))


def cycle(
    schedule: Schedule,
    mult: ArrayLike,
    decay: ArrayLike,
    cycles: ArrayLike | None,
    call: str = "cycle",
) -> Schedule:
    """`schedule.cycle(mult, decay, cycles)`, checked."""
    steps = schedule.steps
    if steps is None:
        raise ValueError(f"`{schedule}` never ends; say how long: `.take(steps).cycle(...)`")
    if isinstance(steps, int) and steps == 0:
        raise ValueError(f"`{schedule}` has no steps, so it cannot be repeated.")
    decay = positive(call, decay=decay)
    cycles = None if cycles is None else held(length(call, cycles=cycles, least=1))
    mult = held(length(call, mult=mult, least=1)) if is_whole(mult) else positive(call, mult=mult)
    if isinstance(mult, int) and mult == 1:
        return Cycle(schedule, None, decay, cycles)
    schedule._stretched(steps)  # raises if it cannot be stretched
    return Cycle(schedule, mult, decay, cycles)


class Place(NamedTuple):
    """Where a time is: in which cycle, how far into it, and how long that cycle is."""

    number: jax.Array
    position: jax.Array
    length: Any  # an array, or what it has beyond the clock


def _among_equal(t: jax.Array, first: Length, last: jax.Array) -> Place:
    first = jnp.maximum(_clock.read(first), 1).astype(t.dtype)
    # Of times, which are not negative, the quotient that truncates is the floor.
    whole = jax.lax.div(t, jnp.broadcast_to(first, t.shape))
    index = jnp.minimum(jnp.floor(whole) if _is_real(t) else whole, last)
    return Place(index, jnp.minimum(t - index * first, first), first)


def _among_whole(t: jax.Array, first: Length, mult: Length, last: jax.Array) -> Place:
    mult = jnp.maximum(_clock.read(mult), 1).astype(t.dtype)
    equal = _among_equal(t, first, jnp.where(mult == 1, last, 0))
    index, length, position = equal.number, equal.length, t - equal.number * equal.length
    longest = LAST // mult
    for _ in range(_DOUBLINGS):
        # With mult = 1 the position is inside already, and nothing here moves.
        over = (position >= length) & (index < last)
        index = index + over.astype(index.dtype)
        position = jnp.where(over, position - length, position)
        longer = jnp.where(length > longest, LAST, length * mult)
        length = jnp.where(over, longer, length)
    grown = real(first) * real(mult) ** real(index)
    more = jnp.where(length == LAST, jnp.maximum(grown - LAST, 0), 0)
    return Place(index, jnp.minimum(position, length), Beyond(length, more))


def _among_real(t: jax.Array, first: Length, mult: Number, last: jax.Array) -> Place:
    mult, first = above_zero(mult), jnp.maximum(real(first), 1)
    last = jnp.minimum(real(last), _last_of_one_step(first, mult))

    def start(index: jax.Array) -> jax.Array:
        return _geometric_sum(first, mult, index)

    def starts_by(t: jax.Array, index: jax.Array) -> jax.Array:
        return t >= _first_step(start(index)).astype(t.dtype)

    index = jnp.clip(jax.lax.stop_gradient(_guess(real(t), first, mult)), 0, last)
    index = jnp.where(starts_by(t, index), index, jnp.maximum(index - 1, 0))
    index = jnp.where(starts_by(t, index + 1), jnp.minimum(index + 1, last), index)
    # A power is exact where the length is: near the end of a cycle every digit of it counts.
    begin, length = start(index), saturated(first * mult**index)
    # The whole steps since the first one of this cycle, and how far that was into it.
    whole = jnp.ceil(begin)
    position = real(t - _first_step(begin).astype(t.dtype)) + (whole - begin)
    position = jnp.where(starts_by(t, index + 1), length, jnp.clip(position, 0, length))
    return Place(index, position, length)


def _geometric_sum(first: jax.Array, mult: jax.Array, n: jax.Array) -> jax.Array:
    """first * (mult**n - 1) / (mult - 1), which is first * n at mult = 1."""
    grows = mult != 1
    ratio = jnp.where(grows, mult - 1, 1)
    exponent = jnp.minimum(n * log_rate(mult), 80.0)  # beyond the clock, and not yet infinite
    # At mult = 1 the second term is zero, and its slope is that of the sum.
    level = n + n * (n - 1) / 2 * jnp.where(grows, 0, mult - 1)
    power = mult ** jnp.minimum(n, 80.0 / jnp.maximum(log_rate(mult), 0.2))
    grown = jnp.where(mult > 1.25, power - 1, jnp.expm1(exponent))  # near 1 the power would cancel
    total = first * jnp.where(grows, grown / ratio, level)
    # A sum that is whole must not come out as a hair above it: its ceiling is one step late.
    nearest = jnp.round(total)
    rounding = jnp.where(jnp.abs(total - nearest) <= 8 * jnp.finfo(total.dtype).eps * total, 1, 0)
    return total + jax.lax.stop_gradient(rounding * (nearest - total))


def _guess(t: jax.Array, first: jax.Array, mult: jax.Array) -> jax.Array:
    """The cycle of `t`, give or take one: the inverse of `_geometric_sum`."""
    grows = mult != 1
    grown = jnp.maximum(t / first * (mult - 1), -1 + jnp.finfo(t.dtype).eps)
    return jnp.floor(
        jnp.where(grows, jnp.log1p(grown) / jnp.where(grows, log_rate(mult), 1), t / first)
    )


def _last_of_one_step(first: jax.Array, mult: jax.Array) -> jax.Array:
    """The last cycle of at least one step, where they shrink; `LAST` where they do not."""
    first, mult = jax.lax.stop_gradient((first, mult))
    shrinks = mult < 1
    rate = jnp.where(shrinks, mult, 0.5)
    guess = jnp.floor(jnp.log(first) / -log_rate(rate))
    guess = jnp.where(growth(rate, guess + 1, first) >= 1, guess + 1, guess)
    guess = jnp.where(growth(rate, guess, first) >= 1, guess, guess - 1)
    return jnp.where(shrinks, jnp.maximum(guess, 0), real(LAST))


def _first_step(begin: jax.Array) -> jax.Array:
    return _clock.read(jnp.ceil(begin))


def _last(cycles: Length | None) -> jax.Array:
    return jnp.asarray(LAST) if cycles is None else jnp.maximum(_clock.read(cycles), 1) - 1


def _is_real(t: jax.Array) -> bool:
    return jnp.issubdtype(t.dtype, jnp.floating)


def _end(first: Length, mult: Length | Number | None, cycles: Length) -> Length:
    """The step at which the last of `cycles` cycles ends."""
    mult = 1 if mult is None else mult
    if any(isinstance(x, jax.Array) for x in (first, mult, cycles)):
        return _traced_end(first, mult, cycles)
    first, cycles = int(first), int(cycles)
    if mult == 1:
        return min(first * cycles, LAST)
    if isinstance(mult, int):
        return min(first * (mult ** min(cycles, _DOUBLINGS) - 1) // (mult - 1), LAST)
    with jax.ensure_compile_time_eval():
        return int(_first_step(_geometric_sum(real(first), real(mult), real(cycles))))


def _traced_end(first: Length, mult: Length | Number, cycles: Length) -> Length:
    if not is_whole(mult):
        return _first_step(_geometric_sum(real(first), above_zero(mult), real(cycles)))
    first, mult, cycles = map(_clock.read, (first, mult, cycles))
    equal = jnp.where(cycles > LAST // jnp.maximum(first, 1), LAST, first * cycles)
    total, longest = jnp.zeros((), jnp.int32), LAST // jnp.maximum(mult, 1)
    for i in range(_DOUBLINGS):
        total = total + jnp.where(i < cycles, jnp.minimum(first, LAST - total), 0)
        first = jnp.where(first > longest, LAST, first * mult)
    return jnp.where(mult > 1, total, equal)
