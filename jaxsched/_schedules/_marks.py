"""Marks for tables and pictures of a schedule: phases, jumps, and steps where it changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MANY_CYCLES = 16  # with more cycles, no picture has room for their names


class Phase(NamedTuple):
    """A piece of a schedule, and the steps at which it is active."""

    start: int
    end: int
    name: str


class Jump(NamedTuple):
    """A step at which one piece ends and the next begins with another value."""

    step: int
    before: float  # the value that the previous piece would have held
    after: float  # the first value of the next piece

    def through(self, value: Callable[[float], float]) -> Jump:
        """The jump after a function is applied to both values."""
        return Jump(self.step, value(self.before), value(self.after))


def moved(steps: Iterable[int], by: int, end: float = math.inf) -> Iterator[int]:
    """Yield steps moved by an offset, up to an end."""
    return itertools.takewhile(lambda step: step <= end, (step + by for step in steps))
