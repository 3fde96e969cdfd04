"""A schedule as a table: its values, and the steps at which it changes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxsched._core._clock import LAST
from jaxsched._core._node import require_unstacked
from jaxsched._core._padded import values_at
from jaxsched._core._require import length, refuse
from jaxsched._look._boundaries import boundaries, jumps
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._schedules._marks import Jump
from jaxsched._schedules._schedule import Schedule, as_schedule

FEW, MOST = 4, 12  # boundaries to show: of an unbounded schedule, and of one with an end
POINTS = 2**16  # steps evaluated at once


class Row(NamedTuple):
    """A step, and the value at that step."""

    step: int
    value: float


@dataclasses.dataclass(frozen=True, repr=False)
class Description:
    """The result of `describe`, which prints as a table."""

    text: str  # the schedule
    rows: tuple[Row, ...]  # step 0, both sides of the first boundaries, and the end if there is one
    peak: Row  # the highest value, at its first step
    floor: Row  # the lowest value, at its first step
    rules: tuple[str, ...]  # the rules of a stateful schedule, in words
    left_out: int | None  # the row before which boundaries are left out
    jumps: tuple[Jump, ...]  # the first few joins of a chain where two pieces do not meet

    def __repr__(self) -> str:
        table = [("step", "value"), *((str(step), f"{value:.4g}") for step, value in self.rows)]
        if self.left_out is not None:
            table.insert(self.left_out + 1, ("...", ""))
        wide, high = (max(map(len, column)) for column in zip(*table, strict=True))
        lines = [f"  {step:>{wide}}  {value:>{high}}".rstrip() for step, value in table]
        peak, floor = (f"{x.value:.4g} at step {x.step}" for x in (self.peak, self.floor))
        jumps = [f"jumps from {a:.4g} to {b:.4g} at step {step}" for step, a, b in self.jumps]
        return "\n".join([self.text, *lines, f"peak {peak}, floor {floor}", *jumps, *self.rules])


def describe(
    schedule: Schedule | Stateful | Callable[..., Any], *, total_steps: int | None = None
) -> Description:
    """Describes a schedule as a table: its start, both sides of its first boundaries, and its end.

    A boundary is the start of a piece or of a cycle, a knot of `piecewise_linear`, or a stair of
    `step_decay`. At most 12 boundaries are shown, or at most 4 if the schedule is unbounded and
    `total_steps` is None. A row `...` stands for the rest. If two pieces of a chain do not meet, a
    line `jumps from ... to ...` is added, for the first 12 joins of the chain.

    A stateful schedule is described as if no rule had acted. With more than 65,536 steps, the peak
    and the floor are searched for on a grid that is refined around the best point.

    Args:
      schedule: a schedule, stateful or not, or a function of the step.
      total_steps: number of optimizer steps to describe; None: to the end of the schedule.

    Returns:
      A `Description`, which prints as a table. `rows` is a tuple of pairs of step and value. `peak`
      and `floor` are the pairs with the highest and the lowest value. `jumps` lists the first few
      steps at which two pieces of a chain do not meet, each with the value before and after.

    Raises:
      ValueError: `schedule` is not a schedule, or is stacked; or `total_steps` is not a length.

    Example:
      >>> describe(warmup_cosine(0.1, total_steps=100, warmup_steps=9) * reduce_on_plateau())
      (linear(0.01, 0.1, 9) >> cosine(0.1, 0.0, 91)) * reduce_on_plateau()
        step      value
           0       0.01
           8       0.09
           9        0.1
          99  2.979e-05
         100          0
      peak 0.1 at step 9, floor 0 at step 100
      times reduce_on_plateau(), 1 until it acts
      >>> describe(cosine(0.1, 0.0, 100).cycle()).peak
      Row(step=0, value=0.10000000149011612)
    """
    require_unstacked(schedule)
    reacts = isinstance(schedule, Stateful)
    quiet = still(schedule) if reacts else as_schedule("describe", schedule)
    last = _last(quiet, total_steps)
    steps, left_out = _shown(quiet, last)
    grid = _grid(LAST if last is None else last, steps)
    return Description(
        text=str(schedule if reacts else quiet),
        rows=_rows(quiet, steps),
        peak=_extreme(quiet, np.argmax, grid),
        floor=_extreme(quiet, np.argmin, grid),
        rules=tuple(rule._said() for rule in schedule.rules) if reacts else (),
        left_out=left_out,
        jumps=tuple(x for x in jumps(quiet) if last is None or x.step <= last),
    )


def _last(schedule: Schedule, total_steps: Any) -> int | None:
    if total_steps is None:
        return None if schedule.steps is None else min(int(schedule.steps), LAST)
    steps = length("describe", "total_steps", total_steps)
    if not isinstance(steps, int):
        raise ValueError(refuse("describe", "total_steps", "be one number", total_steps))
    return min(steps, LAST)


def _shown(schedule: Schedule, last: int | None) -> tuple[list[int], int | None]:
    """Return the steps of the rows, and the row before which boundaries are left out."""
    most, until = (FEW, LAST) if last is None else (MOST, last)
    edges = list(itertools.islice(boundaries(schedule, until), most + 1))
    shown = {0}.union(*((edge - 1, edge) for edge in edges[:most]))
    goes_on = last is None or len(edges) > most
    return sorted(shown if last is None else {*shown, last}), len(shown) if goes_on else None


def _rows(schedule: Schedule, steps: Any) -> tuple[Row, ...]:
    values = values_at(schedule, steps).tolist()
    return tuple(Row(int(step), value) for step, value in zip(steps, values, strict=True))


def _grid(last: int, steps: list[int]) -> np.ndarray:
    """Return a grid: the first steps one by one, then fewer; and the steps of the rows."""
    thin = [np.linspace(0, last, POINTS), np.geomspace(1, 1 + last, POINTS) - 1]
    return np.unique(np.concatenate([np.arange(min(last, POINTS)), *thin, steps]).astype(np.int64))


def _extreme(schedule: Schedule, best: Callable[..., Any], grid: np.ndarray) -> Row:
    """Return the best point of a grid, refined around it until every step is included."""
    while True:
        values = values_at(schedule, grid)
        at = int(best(values))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
        if high - low <= 2:
            return Row(int(grid[at]), float(values[at]))
        grid = np.unique([*np.linspace(low, high, POINTS).astype(np.int64), grid[at]])
