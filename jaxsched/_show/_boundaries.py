"""The steps at which something changes, told by the structure of a schedule.

Where a piece or a cycle begins, a knot lies, a stair falls, where all is over. They come in order,
one at a time: those of an endless cycle have no end.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxsched._algebra import Clip, Faster, Hold, Product, Shift, Sum, Take, Then
from jaxsched._clock import LAST, known
from jaxsched._compose import Maximum, Minimum, Select
from jaxsched._cycle import Cycle
from jaxsched._decays import ExponentialDecay, InverseTimeDecay, PowerLaw, SawtoothPolynomial
from jaxsched._piecewise import Knots, PiecewiseConstant
from jaxsched._powers import number_in
from jaxsched._schedule import Schedule


def boundaries(schedule: Schedule, until: int) -> Iterator[int]:
    """The steps in (0, until] at which something changes, each once, in order."""
    inside = itertools.takewhile(lambda step: step <= until, _changes(schedule))
    return (step for step, _ in itertools.groupby(inside) if step > 0)


@functools.singledispatch
def _changes(schedule: Schedule) -> Iterable[int]:
    """Steps in order, perhaps more than once."""
    return [] if schedule.steps is None else [int(schedule.steps)]


@_changes.register
def _(x: Then) -> Iterator[int]:
    for piece, start, end in zip(x.pieces, x._starts, [*x._starts[1:], math.inf], strict=True):
        yield int(start)
        yield from _moved(_changes(piece), int(start), float(end))


@_changes.register(Product)
@_changes.register(Sum)
@_changes.register(Minimum)
@_changes.register(Maximum)
@_changes.register(Select)
def _(x: Any) -> Iterable[int]:
    fields = (getattr(x, field.name) for field in dataclasses.fields(x))
    parts = itertools.chain.from_iterable(f if isinstance(f, tuple) else (f,) for f in fields)
    return heapq.merge(*(_changes(part) for part in parts if isinstance(part, Schedule)))


@_changes.register
def _(x: Clip) -> Iterable[int]:
    return _changes(x.schedule)


@_changes.register
def _(x: Take) -> Iterator[int]:
    yield from _moved(_changes(x.schedule), 0, int(x.steps))
    yield int(x.steps)


@_changes.register
def _(x: Shift) -> Iterator[int]:
    by = int(x.by)
    yield max(by, 0)
    yield from (step for step in _moved(_changes(x.schedule), by) if step > 0)


@_changes.register
def _(x: Faster) -> Iterator[int]:
    for step in _changes(x.schedule):
        first = int(x._first_at(step))
        if not 0 <= first < LAST:  # not within the clock
            return
        yield first


@_changes.register
def _(x: Hold) -> Iterator[int]:
    for step in _changes(x.schedule):
        if step * int(x.each) >= LAST:
            return
        yield step * int(x.each)


@_changes.register
def _(x: Cycle) -> Iterator[int]:
    mult = number_in(x, "mult") if hasattr(x, "mult") else 1
    first, start = int(known(x.schedule.steps)), 0
    for i in itertools.count():
        yield start
        # Below 1 a `mult` leaves no step to a cycle some day.
        if i == x.cycles or start >= LAST or first * mult**i < 1:
            return
        inside = itertools.takewhile(lambda step: step < first, _changes(x.schedule))
        end = int(known(dataclasses.replace(x, cycles=i + 1).steps))
        yield from _moved(inside, start, end)
        start = end


@_changes.register(ExponentialDecay)
@_changes.register(InverseTimeDecay)
def _(x: Any) -> Iterable[int]:
    return itertools.count(int(x.decay_steps), int(x.decay_steps)) if x.staircase else []


@_changes.register
def _(x: SawtoothPolynomial) -> Iterable[int]:
    return itertools.count(int(x.decay_steps) + 1, int(x.decay_steps))


@_changes.register
def _(x: PowerLaw) -> Iterable[int]:
    return [math.ceil(float(x.timescale))]


@_changes.register(Knots)
@_changes.register(PiecewiseConstant)
def _(x: Any) -> Iterable[int]:
    return [math.ceil(step) for step in np.asarray(x.boundaries).tolist()]


def _moved(steps: Iterable[int], by: int, end: float = math.inf) -> Iterator[int]:
    """Steps on another clock, up to an end."""
    return itertools.takewhile(lambda step: step <= end, (step + by for step in steps))
