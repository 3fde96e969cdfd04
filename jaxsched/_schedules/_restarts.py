"""Schedules that begin again at each end, as warm restarts: `cycle`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length, held, known
from jaxsched._core._fields import form_field, in_form, length_field, number_in
from jaxsched._core._node import same_leaf
from jaxsched._core._numerics import growth, saturated
from jaxsched._core._powers import LOGARITHM, PARTS, Leaf
from jaxsched._core._require import is_whole, length
from jaxsched._core._writing import options, owner, whole
from jaxsched._schedules._cycles import (
    Place,
    RealCycles,
    among_equal,
    among_real,
    among_whole,
    end_of_whole,
    last_of,
)
from jaxsched._schedules._marks import MANY_CYCLES, Phase, moved
from jaxsched._schedules._schedule import Schedule, builds


class Cycle(Schedule):
    """`a.cycle(1, decay, cycles)`: a(t - i * a.steps) * decay**i in cycle i = 0, 1, ..."""

    schedule: Schedule
    decay: Leaf = form_field(LOGARITHM)
    cycles: Length | None = length_field()

    @property
    def steps(self) -> Length | None:
        return None if self.cycles is None else self._end(known(self.schedule.steps), self.cycles)

    def at(self, t: jax.Array) -> jax.Array:
        place = self._place(t, known(self.schedule.steps), last_of(self.cycles).astype(t.dtype))
        value = self._of_length(place.length).at(place.position)
        return saturated(value * growth(self.decay, place.number))

    def _place(self, t: jax.Array, first: Length, last: jax.Array) -> Place:
        return among_equal(t, first, last)

    def _of_length(self, steps: Any) -> Schedule:
        return self.schedule

    def _end(self, first: Length, cycles: Length) -> Length:
        return _clock.times(first, cycles)

    def _text(self) -> str:
        decay, cycles = number_in(self, "decay"), whole(self.cycles)
        mult = None if type(self) is Cycle else self._mult()
        decay = None if same_leaf(decay, 1.0) else decay
        return f"{owner(self.schedule)}.cycle({options(mult=mult, decay=decay, cycles=cycles)})"

    def _mult(self) -> Any:
        """The factor from the length of one cycle to the next."""
        return 1

    def _begins(self) -> Iterator[int]:
        """The start of each cycle, and the end of the last one, if there is a last one."""
        yield 0
        mult, first = self._mult(), int(known(self.schedule.steps))
        for n in itertools.count(1):
            step = int(known(dataclasses.replace(self, cycles=n).steps))
            yield step
            # With `mult` below 1, cycles become shorter than one step at some point.
            if n == self.cycles or step >= LAST or first * mult**n < 1:
                return

    def _changes(self) -> Iterator[int]:
        first, end = int(known(self.schedule.steps)), 0
        for start, end in itertools.pairwise(self._begins()):
            yield start
            inside = itertools.takewhile(lambda step: step < first, self.schedule._changes())
            yield from moved(inside, start, end)
        yield end

    def _phases(self, total: int) -> list[Phase]:
        starts = (start for start, _ in itertools.pairwise(self._begins()))
        begun = itertools.takewhile(lambda step: step < total, starts)
        edges = [*itertools.islice(begun, MANY_CYCLES + 1), total]
        if len(edges) > MANY_CYCLES + 1:
            return []
        spans = itertools.pairwise(edges)
        return [Phase(a, b, f"cycle {n}") for n, (a, b) in enumerate(spans, start=1) if a < b]


class WholeCycle(Cycle):
    """`a.cycle(mult, decay, cycles)`: a.stretch(a.steps * mult**i) * decay**i, for an int mult."""

    mult: Length = length_field()

    def _place(self, t: jax.Array, first: Length, last: jax.Array) -> Place:
        return among_whole(t, first, self.mult, last)

    def _mult(self) -> Any:
        return number_in(self, "mult")

    def _of_length(self, steps: Any) -> Schedule:
        return self.schedule._stretched(steps)

    def _end(self, first: Length, cycles: Length) -> Length:
        return end_of_whole(first, self.mult, cycles)


class RealCycle(Cycle):
    """`a.cycle(mult, decay, cycles)`: a.stretch(a.steps * mult**i) * decay**i, for a real mult."""

    mult: Leaf = form_field(PARTS)

    def _place(self, t: jax.Array, first: Length, last: jax.Array) -> Place:
        return among_real(t, RealCycles.of(first, self.mult), last)

    def _mult(self) -> Any:
        return number_in(self, "mult")

    def _of_length(self, steps: Any) -> Schedule:
        return self.schedule._stretched(steps)

    def _end(self, first: Length, cycles: Length) -> Length:
        if isinstance(cycles, int) and cycles == 1:
            return first
        if any(isinstance(x, jax.Array) for x in (first, self.mult, cycles)):
            return RealCycles.of(first, self.mult).end(cycles)
        with jax.ensure_compile_time_eval():
            return int(RealCycles.of(first, self.mult).end(cycles))


@builds("cycle")
def cycle(
    schedule: Schedule,
    mult: ArrayLike,
    decay: ArrayLike,
    cycles: ArrayLike | None,
    call: str = "cycle",
) -> Schedule:
    """Return `schedule.cycle(mult, decay, cycles)`, checked."""
    steps = schedule.steps
    if steps is None:
        raise ValueError(f"`{schedule}` never ends; say how long: `.take(steps).cycle(...)`")
    if isinstance(steps, int) and steps == 0:
        raise ValueError(f"`{schedule}` has no steps, so it cannot be repeated.")
    rate = in_form(call, "decay", decay, LOGARITHM)
    number = None if cycles is None else held(length(call, "cycles", cycles, least=1))
    whole = held(length(call, "mult", mult, least=1)) if is_whole(mult) else None
    if isinstance(whole, int) and whole == 1:
        return Cycle(schedule, decay=rate, cycles=number)
    # A whole factor beyond the step counter is treated as a real number, as such a length is.
    is_real = whole is None or isinstance(whole, float)
    parts = in_form(call, "mult", mult if whole is None else whole, PARTS) if is_real else None
    schedule._stretched(steps)  # raises if it cannot be stretched
    if parts is None:
        return WholeCycle(schedule, mult=known(whole), decay=rate, cycles=number)
    return RealCycle(schedule, mult=parts, decay=rate, cycles=number)
