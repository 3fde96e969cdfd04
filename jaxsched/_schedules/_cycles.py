"""Finds the cycle that contains a time. Cycles have one length, or each is longer or shorter.

The cycle of a step is found with integers, by subtracting lengths. The logarithm that inverts the
geometric sum would be off by one at one boundary in four. For real lengths, the logarithm is only a
guess, which a comparison with the sum corrects.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Beyond, Length
from jaxsched._core._numerics import above_zero, log_rate, looked_up, real, saturated
from jaxsched._core._powers import Leaf

# If each cycle is at least twice as long as the last, step 2**31 comes within this many cycles.
_GROWTHS = 32
_BEYOND = np.uint32(2**31)  # the first step beyond the step counter
# The number of last digits by which a computed start may be off: for a factor that float32 holds
# exactly, and for any other.
_ROUNDING = 1, 4
_NEVER = np.uint32(2**32 - 1)


class Place(NamedTuple):
    """The place of a time: its cycle, its position in the cycle, and the length of the cycle."""

    number: jax.Array
    position: jax.Array
    length: Any  # an array, or a `Beyond` if it exceeds the step counter


def among_equal(t: jax.Array, first: Length, last: jax.Array) -> Place:
    """Return the place of a time among cycles of equal length."""
    place, first = _as_place(t), _unsigned(first)
    first = first.astype(place.dtype)
    # Times are not negative, so a truncated quotient equals the floor.
    whole = jax.lax.div(place, jnp.broadcast_to(first, t.shape))
    index = jnp.minimum(jnp.floor(whole) if _is_real(t) else whole, last.astype(place.dtype))
    position = jnp.minimum(place - index * first, first)
    return Place(index.astype(t.dtype), position.astype(t.dtype), first)


def among_whole(t: jax.Array, first: Length, mult: Length, last: jax.Array) -> Place:
    """Return the place of a time among cycles that each are `mult` times as long, for an int."""
    starts, lengths = _whole_cycles(first, mult)
    # With mult = 1 there are more cycles than the table holds; then its first row is every cycle.
    equal = among_equal(t, first, jnp.where(_clock.read(mult) <= 1, last, 0))
    place = _as_place(t) - equal.number.astype(equal.length.dtype) * equal.length
    passed = jnp.expand_dims(place, -1) >= _beside(starts[1:], place)
    row = jnp.minimum(
        jnp.sum(passed, axis=-1, dtype=jnp.int32), jnp.minimum(last, _GROWTHS).astype(jnp.int32)
    )
    length = looked_up(lengths, row)
    position = jnp.minimum(
        place - looked_up(starts, row).astype(place.dtype), length.astype(place.dtype)
    )
    grown = real(first) * real(mult) ** real(row)
    more = jnp.where(length >= LAST, jnp.maximum(grown - LAST, 0), 0)
    length = jnp.minimum(length, np.uint32(LAST)).astype(jnp.int32)
    number = equal.number + row.astype(t.dtype)
    return Place(number, position.astype(t.dtype), Beyond(length, more))


def _whole_cycles(first: Length, mult: Length) -> tuple[jax.Array, jax.Array]:
    """Return the start and the length of each of the first cycles: uint32, saturated at 2**31.

    They do not depend on the step, so no loop over cycles is compiled into every step. Lengths are
    cut off at 2**31. Until then lengths at least double, so the sum of all earlier ones is less
    than twice the last of them and does not wrap.
    """
    mult = jnp.maximum(_clock.read(mult), 1).astype(jnp.uint32)
    powers, square = jnp.ones(1, jnp.uint32), mult
    for _ in range(5):  # 1, 2, 4, ... 32 powers
        powers = jnp.concatenate([powers, _times(powers, square)])
        square = _times(square, square)
    lengths = _times(powers, _unsigned(first))
    below = jnp.tri(_GROWTHS, dtype=bool)
    sums = jnp.sum(jnp.where(below, lengths, np.uint32(0)), axis=1, dtype=jnp.uint32)
    starts = jnp.where((lengths >= _BEYOND) | (mult == 1), _NEVER, sums)
    zero = jnp.zeros(1, jnp.uint32)
    return jnp.concatenate([zero, starts]), jnp.append(lengths, _BEYOND)


def _unsigned(first: Length) -> jax.Array:
    """Return the length of a first cycle as uint32; a length beyond the counter becomes 2**31."""
    whole = jnp.maximum(_clock.read(first), 1).astype(jnp.uint32)
    if jnp.issubdtype(jnp.result_type(first), jnp.integer):
        return whole
    return jnp.where(jnp.asarray(first) > LAST, _BEYOND, whole)


def _as_place(t: jax.Array) -> jax.Array:
    """Return a time in the type of cycle starts, since int32 would make the last one negative."""
    return t if _is_real(t) else t.astype(jnp.uint32)


def _beside(row: jax.Array, t: jax.Array) -> jax.Array:
    """Return a list of times with axes added, to compare it with an array of times."""
    return jnp.expand_dims(row, range(t.ndim)).astype(t.dtype)


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the product of two lengths of at least 1, cut off at 2**31."""
    return jnp.where(a > _BEYOND // b, _BEYOND, jnp.minimum(a * b, _BEYOND))


def among_real(t: jax.Array, cycles: RealCycles, last: jax.Array) -> Place:
    """Return the place of a time among cycles of real length."""
    last = jnp.minimum(real(last), cycles.last())

    def starts_by(t: jax.Array, index: jax.Array) -> jax.Array:
        begin = cycles.start(index)
        return (begin <= LAST) & (t >= _first_step(begin).astype(t.dtype))

    index = jnp.clip(jax.lax.stop_gradient(cycles.guess(real(t))), 0, last)
    index = jnp.where(starts_by(t, index), index, jnp.maximum(index - 1, 0))
    index = jnp.where(starts_by(t, index + 1), jnp.minimum(index + 1, last), index)
    begin, length = cycles.start(index), saturated(cycles.length(index))
    # The whole steps since the first step of this cycle, plus that step's position in it.
    whole = jnp.ceil(begin)
    position = real(t - _first_step(begin).astype(t.dtype)) + (whole - begin)
    position = jnp.where(starts_by(t, index + 1), length, jnp.clip(position, 0, length))
    return Place(index, position, length)


class RealCycles(NamedTuple):
    """Cycles of real length: the first length, and the factor in two parts."""

    first: jax.Array
    mult: jax.Array
    rest: jax.Array

    @classmethod
    def of(cls, first: Length, mult: Leaf) -> RealCycles:
        parts = real(mult)
        return cls(jnp.maximum(real(first), 1), above_zero(parts[..., 0]), parts[..., 1])

    def length(self, n: jax.Array) -> jax.Array:
        """first * mult**n. For a short factor every digit is right, so that cycles end exactly."""
        return self.first * self.power(n)

    def power(self, n: jax.Array) -> jax.Array:
        return self.mult**n * jnp.exp(n * jnp.log1p(self.rest / self.mult))

    def log(self) -> jax.Array:
        return log_rate(self.mult) + jnp.log1p(self.rest / self.mult)

    def start(self, n: jax.Array) -> jax.Array:
        """first * (mult**n - 1) / (mult - 1), which is first * n at mult = 1."""
        log, rise = self.log(), (self.mult - 1) + self.rest
        grows = rise != 0
        exponent = jnp.minimum(n * log, 80.0)  # beyond the counter, but not yet infinite
        # At mult = 1 the second term is zero, and its slope is the slope of the sum.
        level = n + n * (n - 1) / 2 * jnp.where(grows, 0, rise)
        power = self.power(jnp.minimum(n, 80.0 / jnp.maximum(log, 0.2)))
        # Near 1 the power would cancel, except for a short factor, whose power is exact.
        short = self.rest == 0
        far, near = ((self.mult >= 1 + x) | (self.mult <= 1 - x) for x in (0.25, 0.125))
        grown = jnp.where(far | (short & near), power - 1, jnp.expm1(exponent))
        total = jnp.where(grows, grown / jnp.where(grows, rise, 1), level)
        total = jnp.where(n <= 1, n, total)  # the first two starts are given exactly
        return _whole_if_near(self.first * total, jnp.where(short, *map(real, _ROUNDING)))

    def guess(self, t: jax.Array) -> jax.Array:
        """The cycle of `t`, off by at most one: the inverse of `start`."""
        rise = (self.mult - 1) + self.rest
        grows = rise != 0
        grown = jnp.maximum(t / self.first * rise, -1 + jnp.finfo(t.dtype).eps)
        log = jnp.where(grows, self.log(), 1)
        return jnp.floor(jnp.where(grows, jnp.log1p(grown) / log, t / self.first))

    def end(self, cycles: Length) -> jax.Array:
        """The step at which the last of `cycles` cycles ends."""
        return _first_step(self.start(jnp.minimum(real(cycles), self.last() + 1)))

    def last(self) -> jax.Array:
        """The last cycle with at least one step if cycles shrink; otherwise `LAST`."""
        cycles = jax.lax.stop_gradient(self)
        shrinks = cycles.log() < 0
        guess = jnp.floor(jnp.log(cycles.first) / -jnp.where(shrinks, cycles.log(), -1))
        # A length of one step may be computed slightly below 1.
        one = 1 - 8 * jnp.finfo(guess.dtype).eps
        guess = jnp.where(cycles.length(guess + 1) >= one, guess + 1, guess)
        guess = jnp.where(cycles.length(guess) >= one, guess, guess - 1)
        return jnp.where(shrinks, jnp.maximum(guess, 0), real(LAST))


def _whole_if_near(start: jax.Array, digits: jax.Array) -> jax.Array:
    """Round a start that is a whole step up to rounding, since its ceiling could be one late."""
    nearest = jnp.round(start)
    is_whole = jnp.abs(start - nearest) <= digits * jnp.finfo(start.dtype).eps * start
    return start + jax.lax.stop_gradient(jnp.where(is_whole, nearest - start, 0))


def _first_step(begin: jax.Array) -> jax.Array:
    return _clock.read(jnp.ceil(begin))


def last_of(cycles: Length | None) -> jax.Array:
    """Return the index of the last of `cycles` cycles."""
    return jnp.asarray(LAST) if cycles is None else jnp.maximum(_clock.read(cycles), 1) - 1


def _is_real(t: jax.Array) -> bool:
    return jnp.issubdtype(t.dtype, jnp.floating)


def end_of_whole(first: Length, mult: Length, cycles: Length) -> Length:
    """Return the step at which the last of `cycles` cycles ends."""
    if not any(isinstance(x, jax.Array) for x in (first, mult, cycles)):
        powers = int(mult) ** min(int(cycles), _GROWTHS)
        return min(int(first) * (powers - 1) // (int(mult) - 1), LAST)
    starts, _ = _whole_cycles(first, mult)
    row = jnp.clip(_clock.read(cycles), 1, _GROWTHS)
    total = jnp.minimum(starts[row], LAST).astype(jnp.int32)
    return jnp.where(_clock.read(mult) > 1, total, _clock.times(first, cycles))
