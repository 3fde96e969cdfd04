"""What tables and pictures mark in a schedule: phases, jumps, the steps where it changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MANY_CYCLES = 16  # of more no picture has room for the names


class Phase(NamedTuple):
    """A piece of a schedule, and when it is in charge."""

    start: int
    end: int
    name: str


class Jump(NamedTuple):
    """A step where one piece ends and another begins with another value."""

    step: int
    before: float  # what the piece before would have held
    after: float  # what the piece after begins with

    def through(self, value: Callable[[float], float]) -> Jump:
        """The jump of what is made of both values."""
        return Jump(self.step, value(self.before), value(self.after))


def moved(steps: Iterable[int], by: int, end: float = math.inf) -> Iterator[int]:
    """Steps on another clock, up to an end."""
    return itertools.takewhile(lambda step: step <= end, (step + by for step in steps))
