"""A clock of one's own: a schedule that is read at the times that another schedule tells.

Samples, tokens and epochs are such times. The clock is a schedule of the step. A clock that counts,
`counter(512)` or `a.integer(...)`, tells whole times exactly. Any other clock tells real times,
which float32 resolves to one part in 2^24.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length
from jaxsched._core._padded import values_at
from jaxsched._core._require import refuse
from jaxsched._core._writing import owner, text
from jaxsched._schedules._foreseen import foreseen, is_known
from jaxsched._schedules._marks import Phase
from jaxsched._schedules._schedule import AnySchedule, Retimed, Schedule, as_schedule, builds

WAYS = 2**10  # steps that a search looks at once
ROUNDS = 31  # halvings of all steps


class On(Retimed):
    """`a.on(clock)`: a(max(clock(t), 0))."""

    clock: Schedule

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(self.clock._as_time(t))

    def _as_time(self, t: jax.Array) -> jax.Array:
        return self.schedule._as_time(self.clock._as_time(t))

    @property
    def steps(self) -> Length | None:
        end, last = self.schedule.steps, self.clock.steps
        if end is None:
            return last
        if is_known(self):
            return _end(self)
        first = _searched(self.clock, jnp.asarray(end))
        return first if last is None else jnp.minimum(first, _clock.read(last))

    def _text(self) -> str:
        return f"{owner(self.schedule)}.on({text(self.clock)})"

    def _step_of(self, step: int) -> int:
        first = first_at(self.clock, step)
        return LAST if first is None else first

    def _step_inside(self, step: int) -> int:
        return min(int(np.ceil(_times(self.clock, [step])[0])), LAST)

    def _changes(self) -> Iterator[int]:
        inside = super()._changes() if rises(self.clock) else iter(())
        return heapq.merge(inside, self.clock._changes())

    def _phases(self, total: int) -> list[Phase]:
        return super()._phases(total) if rises(self.clock) else []


@builds("on")
def on(schedule: Schedule, clock: AnySchedule) -> On:
    """Return `schedule.on(clock)`, checked."""
    if not callable(clock):
        remedy = "Write `schedule.on(units.clock('examples'))`, or `schedule.on(counter(512))`."
        raise ValueError(refuse("on", "clock", "be a schedule", clock, remedy))
    return On(schedule, as_schedule("on", clock))


@functools.lru_cache(maxsize=256)
def _end(schedule: On) -> int | None:
    """Return the step from which the value is held, for known numbers."""
    last = None if schedule.clock.steps is None else int(schedule.clock.steps)
    end = schedule.schedule.steps
    # A chain that ends beyond the step counter says `LAST`, and a clock may come there later.
    if end is None or end == LAST or not rises(schedule.clock):
        return last
    first = first_at(schedule.clock, end)
    return last if first is None else first if last is None else min(first, last)


@functools.lru_cache(maxsize=256)
def rises(clock: Schedule) -> bool:
    """Return whether a clock with known numbers never goes back."""
    seen = foreseen(clock)
    return seen is not None and bool(np.all(np.diff(_times(clock, seen.steps)) >= 0))


def first_at(clock: Schedule, time: Any) -> int | None:
    """Return the first step at which a rising clock tells `time` or more; None if it never does."""
    low, high = -1, LAST if clock.steps is None else int(clock.steps)
    if _times(clock, [high])[0] < time:
        return None
    while high - low > 1:
        steps = np.unique(np.linspace(low + 1, high, WAYS).astype(np.int64))
        found = int(np.argmax(_times(clock, steps) >= time))
        low, high = (int(steps[found - 1]) if found else low), int(steps[found])
    return high


def _times(clock: Schedule, steps: Any) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return values_at(functools.partial(_told, clock), np.asarray(steps, np.int32))


@jax.jit
def _told(clock: Schedule, steps: Any) -> jax.Array:
    return clock._grouped()._as_time(_clock.read(steps))


def _searched(clock: Schedule, time: jax.Array) -> jax.Array:
    """Return the first step at which a rising clock tells `time` or more, for traced numbers."""

    def halved(_: Any, around: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = around
        middle = low + (high - low) // 2
        told = clock._as_time(middle)
        reached = told >= time.astype(told.dtype)
        return jnp.where(reached, low, middle + 1), jnp.where(reached, middle, high)

    start = jnp.zeros((), jnp.int32), jnp.full((), LAST, jnp.int32)
    first = jax.lax.fori_loop(0, ROUNDS, halved, start)[1]
    return jnp.where(_clock.read(time) == LAST, LAST, first)  # as in `_end`
