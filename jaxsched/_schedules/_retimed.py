"""Schedules that are read at other times: `take`, `shift`, `faster` and `hold`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length, held
from jaxsched._core._fields import length_field
from jaxsched._core._numerics import above_zero, periods, real, saturated
from jaxsched._core._require import Number, integer, is_whole, length, positive
from jaxsched._core._writing import length_text, owner, text
from jaxsched._schedules._marks import Jump, Phase
from jaxsched._schedules._schedule import Schedule, builds


class Retimed(Schedule):
    """A schedule read at other times, so that its changes move to other steps."""

    schedule: Schedule

    def _step_of(self, step: int) -> int:
        """The first step at which the inner schedule is at its own `step` or beyond."""
        raise NotImplementedError

    def _step_inside(self, step: int) -> int:
        """The step of the inner schedule that covers everything up to `step` here."""
        raise NotImplementedError

    def _changes(self) -> Iterator[int]:
        for step in map(self._step_of, self.schedule._changes()):
            if step >= LAST:
                return
            if step >= 0:
                yield step

    def _phases(self, total: int) -> list[Phase]:
        inside = self.schedule._phases(max(self._step_inside(total), 0))
        spans = [(self._step_of(start), self._step_of(end), name) for start, end, name in inside]
        if spans:  # the first phase is held before its start, and the last one continues
            spans[0] = (0, *spans[0][1:])
            spans[-1] = (spans[-1][0], total, spans[-1][2])
        held = [Phase(max(start, 0), min(end, total), name) for start, end, name in spans]
        return [phase for phase in held if phase.start < phase.end]

    def _joins(self) -> Iterator[Jump]:
        for join in self.schedule._joins():
            step = self._step_of(join.step)
            if 0 < step < LAST:
                yield join._replace(step=step)


class Take(Retimed):
    """`a.take(steps)`: a(min(t, steps))."""

    steps: Length = length_field(kw_only=False)  # pyright: ignore[reportIncompatibleMethodOverride]

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(jnp.minimum(t, _clock.as_length(self.steps, t)))

    def _text(self) -> str:
        return f"{owner(self.schedule)}.take({length_text(self.steps)})"

    def _step_of(self, step: int) -> int:
        return step if step <= int(self.steps) else LAST

    def _step_inside(self, step: int) -> int:
        return min(step, int(self.steps) + 1)

    def _changes(self) -> Iterator[int]:
        yield from super()._changes()
        yield int(self.steps)


class Shift(Retimed):
    """`a.shift(k)`: a(t - k), for positive or negative k."""

    by: Length = length_field(kw_only=False)

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        if isinstance(steps, (int, float)) and isinstance(self.by, int):
            return min(max(int(steps) + self.by, 0), LAST)
        later, earlier = _clock.read(self.by), _clock.read(jnp.negative(self.by))
        return _clock.add(jnp.maximum(_clock.read(steps) - earlier, 0), later)

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(_clock.since(t, self.by))

    def _text(self) -> str:
        return f"{owner(self.schedule)}.shift({length_text(self.by)})"

    def _step_of(self, step: int) -> int:
        return step + int(self.by)

    def _step_inside(self, step: int) -> int:
        return step - int(self.by)

    def _changes(self) -> Iterator[int]:
        yield max(int(self.by), 0)
        yield from super()._changes()


class Faster(Retimed):
    """`a.faster(rate)`: a(t * rate), also between the steps of `a`."""

    rate: Length | Number

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        if isinstance(steps, jax.Array) or isinstance(self.rate, jax.Array):
            return self._first_at(steps)
        if isinstance(steps, float):  # beyond the step counter
            return held(math.ceil(steps / self.rate))
        with jax.ensure_compile_time_eval():
            return int(self._first_at(steps))

    def _first_at(self, steps: Length) -> jax.Array:
        """The first step whose time is at least `steps`, computed with the same product as `at`."""
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
            if jnp.issubdtype(t.dtype, jnp.floating):
                return t * rate
            return jnp.where(t > LAST // rate, jnp.asarray(LAST, t.dtype), t * rate)
        time = real(t) * above_zero(self.rate)
        is_real = jnp.issubdtype(t.dtype, jnp.floating)
        return saturated(time) if is_real else jnp.minimum(time, real(LAST))

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(self._time(t))

    def _text(self) -> str:
        return f"{owner(self.schedule)}.faster({text(self.rate)})"

    def _step_of(self, step: int) -> int:
        first = int(self._first_at(step))
        return first if first >= 0 else LAST  # beyond the step counter

    def _step_inside(self, step: int) -> int:
        return math.ceil(float(self._time(jnp.asarray(step, jnp.int32))))


class Hold(Retimed):
    """`a.hold(each)`: a(t // each)."""

    each: Length = length_field(kw_only=False)

    @property
    def steps(self) -> Length | None:
        steps = self.schedule.steps
        if steps is None:
            return None
        known = isinstance(self.each, (int, float))
        return _clock.times(steps, self.each if known else jnp.maximum(_clock.read(self.each), 1))

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(periods(t, jnp.maximum(_clock.as_length(self.each, t), 1)))

    def _text(self) -> str:
        return f"{owner(self.schedule)}.hold({length_text(self.each)})"

    def _step_of(self, step: int) -> int:
        return step * int(self.each)

    def _step_inside(self, step: int) -> int:
        return -(-step // int(self.each))


@builds("take")
def take(schedule: Schedule, steps: ArrayLike) -> Take:
    """Return `schedule.take(steps)`, checked."""
    return Take(schedule, held(length("take", "steps", steps)))


@builds("shift")
def shift(schedule: Schedule, steps: ArrayLike) -> Shift:
    """Return `schedule.shift(steps)`, checked."""
    by = integer("shift", "steps", steps)
    return Shift(schedule, min(max(by, -LAST), LAST) if isinstance(by, int) else by)


@builds("faster")
def faster(schedule: Schedule, rate: Any) -> Faster:
    """Return `schedule.faster(rate)`, checked."""
    if is_whole(rate):
        return Faster(schedule, held(length("faster", "rate", rate, least=1)))
    return Faster(schedule, positive("faster", "rate", rate))


@builds("hold")
def hold(schedule: Schedule, steps: ArrayLike) -> Hold:
    """Return `schedule.hold(steps)`, checked."""
    return Hold(schedule, held(length("hold", "steps", steps, least=1)))
