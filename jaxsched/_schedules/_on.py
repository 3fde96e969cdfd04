"""A clock of one's own: a schedule that is read at the times that another schedule tells.

Samples, tokens and epochs are such times. The clock is a schedule of the step. An integer schedule
tells whole times, and exactly. Any other clock tells real times, which float32 resolves to one part
in 2^24. A real time may be beyond the step counter.
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
from jaxsched._core._clock import LAST, Length, known
from jaxsched._core._fields import choice_field
from jaxsched._core._node import Node
from jaxsched._core._padded import values_at
from jaxsched._core._require import refuse, require
from jaxsched._core._writing import owner, text
from jaxsched._schedules._chain import Then
from jaxsched._schedules._foreseen import foreseen, is_known
from jaxsched._schedules._marks import Phase
from jaxsched._schedules._restarts import Cycle
from jaxsched._schedules._retimed import Retimed
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule, builds

WAYS = 2**10  # steps that a search looks at once
ROUNDS = 31  # halvings of all steps
CLOCKS = 4  # clocks within a clock: each searches, at every step, for the end of the next


class On(Retimed):
    """`a.on(clock)`: a(max(clock(t), 0))."""

    clock: Schedule
    rises: bool = choice_field(default=True)  # whether the clock never goes back

    def at(self, t: jax.Array) -> jax.Array:
        return self.schedule.at(self.clock._as_time(t))

    def _as_time(self, t: jax.Array) -> jax.Array:
        return self.schedule._as_time(self.clock._as_time(t))

    @property
    def steps(self) -> Length | None:
        end, last = self.schedule.steps, self.clock.steps
        if end is None or not self.rises:
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
        inside = super()._changes() if self.rises else iter(())
        return heapq.merge(inside, self.clock._changes())

    def _phases(self, total: int) -> list[Phase]:
        return super()._phases(total) if self.rises else []


@builds("on")
def on(schedule: Schedule, clock: AnySchedule) -> On:
    """Return `schedule.on(clock)`, checked."""
    if not callable(clock):
        remedy = "Write `schedule.on(units.clock('examples'))`, or `schedule.on(counter(512))`."
        raise ValueError(refuse("on", "clock", "be a schedule", clock, remedy))
    _require_countable(schedule)
    found = as_schedule("on", clock)
    inside = sum(isinstance(x, On) for x in _nodes(found))
    must = f"have at most {CLOCKS} clocks within it"
    require(inside <= CLOCKS, refuse("on", "clock", must, found))
    return On(schedule, found, rises=_rises(found))


def _require_countable(schedule: Schedule) -> None:
    """Raise for lengths that a node can count only up to the last step."""
    for x in _nodes(schedule):
        first = x.schedule.steps if isinstance(x, Cycle) else None
        pieces = [known(piece.steps) for piece in x.pieces[:-1]] if isinstance(x, Then) else []
        plain = [length for length in pieces if isinstance(length, int)]
        together = len(plain) == len(pieces) and sum(plain) > LAST
        if isinstance(first, float) or first == LAST or together:
            raise ValueError(
                f"`on`: `{x}` counts only up to 2^31 - 1. Count in a larger unit, such as millions "
                "of tokens: divide its lengths and the clock by 10**6."
            )


def _nodes(schedule: Schedule) -> Iterator[Schedule]:
    """Yield a schedule and everything in it."""
    yield schedule
    for x in jax.tree.leaves(schedule, is_leaf=lambda x: isinstance(x, Node) and x is not schedule):
        if isinstance(x, Schedule):
            yield from _nodes(x)


def _rises(clock: Schedule) -> bool:
    """Return whether a clock never goes back; a traced one is assumed not to."""
    seen = foreseen(clock)
    return seen is None or bool(np.all(np.diff(_times(clock, seen.steps)) >= 0))


@functools.lru_cache(maxsize=256)
def _end(schedule: On) -> int | None:
    """Return the step from which the value is held, for known numbers."""
    last = None if schedule.clock.steps is None else min(int(schedule.clock.steps), LAST)
    end = np.asarray(known(schedule.schedule.steps)).item()
    # A chain that ends beyond the step counter says `LAST`, and a clock may come there later.
    first = None if end == LAST else first_at(schedule.clock, end)
    return last if first is None else first if last is None else min(first, last)


def first_at(clock: Schedule, time: float) -> int | None:
    """Return the first step at which a rising clock tells `time` or more; None if it never does."""
    low, high = -1, LAST if clock.steps is None else min(int(clock.steps), LAST)
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
    shape = jax.eval_shape(clock._as_time, jax.ShapeDtypeStruct((), np.int32)).shape
    shape = jnp.broadcast_shapes(shape, time.shape)

    def halved(_: Any, around: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = around
        middle = low + (high - low) // 2
        told = clock._as_time(middle)
        reached = told >= time.astype(told.dtype)
        return jnp.where(reached, low, middle + 1), jnp.where(reached, middle, high)

    start = jnp.zeros(shape, jnp.int32), jnp.full(shape, LAST, jnp.int32)
    first = jax.lax.fori_loop(0, ROUNDS, halved, start)[1]
    if jnp.issubdtype(time.dtype, jnp.floating):
        return first
    return jnp.where(time == LAST, LAST, first)  # as in `_end`
