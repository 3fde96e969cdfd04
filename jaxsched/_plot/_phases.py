"""The pieces of a chain, by name."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

from jaxsched._algebra import Clip, Product, Take, Then
from jaxsched._clock import known
from jaxsched._cycle import Cycle
from jaxsched._schedule import Schedule

MANY = 16  # cycles; of more no picture has room for the names


class Phase(NamedTuple):
    """A piece of a schedule, and when it is in charge."""

    start: int
    end: int
    name: str


@functools.singledispatch
def phases(schedule: Schedule, total: int) -> list[Phase]:
    """The pieces of a chain; what wraps a chain has those of the chain."""
    return []


@phases.register
def _(x: Then, total: int) -> list[Phase]:
    starts = [min(int(start), total) for start in x._starts]
    spans = zip(starts, [*starts[1:], total], x.pieces, strict=True)
    return [Phase(start, end, _name(piece)) for start, end, piece in spans if start < end]


@phases.register(Clip)
@phases.register(Take)
def _(x: Any, total: int) -> list[Phase]:
    return phases(x.schedule, total)


@phases.register
def _(x: Product, total: int) -> list[Phase]:
    chains = [found for y in x.factors if isinstance(y, Schedule) if (found := phases(y, total))]
    return chains[0] if len(chains) == 1 else []


@phases.register
def _(x: Cycle, total: int) -> list[Phase]:
    edges = [0, *itertools.islice(_cycle_starts(x, total), MANY), total]
    if len(edges) > MANY:
        return []
    spans = itertools.pairwise(edges)
    return [Phase(a, b, f"cycle {n}") for n, (a, b) in enumerate(spans, start=1) if a < b]


def _cycle_starts(x: Cycle, total: int) -> Any:
    """Where the second cycle begins, the third, and so on."""
    ends = (int(known(dataclasses.replace(x, cycles=n).steps)) for n in itertools.count(1))
    most = None if x.cycles is None else int(x.cycles) - 1
    return itertools.islice(itertools.takewhile(lambda end: end < total, ends), most)


def _name(piece: Schedule) -> str:
    """What a piece is, in a word: the name of its curve, or the operator."""
    text = str(piece)
    return text.partition("(")[0] or type(piece).__name__.lower()
