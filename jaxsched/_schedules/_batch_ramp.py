"""What a run consumes whose batch size is itself a schedule."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from jaxsched._core._padded import values_at
from jaxsched._core._require import refuse, require
from jaxsched._schedules._counter import counter
from jaxsched._schedules._foreseen import is_known
from jaxsched._schedules._integer import Integer
from jaxsched._schedules._piecewise import piecewise_linear
from jaxsched._schedules._schedule import Schedule

MOST = 2**23  # steps of a ramp


class BatchRamp:
    """A batch size over the steps, and the examples that are consumed before each step."""

    def __init__(self, batch_size: Any) -> None:
        call, remedy = "Units", "Write `batch_size=schedule.integer('floor')`."
        whole = isinstance(batch_size, Integer) and is_known(batch_size)
        must = "be an integer of at least 1, or an integer schedule with known numbers"
        require(whole, refuse(call, "batch_size", must, batch_size, remedy))
        end = batch_size.steps
        remedy = "End the ramp: `schedule.take(steps).integer('floor')`."
        require(end is not None, refuse(call, "batch_size", "end", batch_size, remedy))
        steps = int(end or 0)
        must = f"end within {MOST} steps, because the examples of each step are counted"
        require(steps <= MOST, refuse(call, "batch_size", must, batch_size))
        with jax.ensure_compile_time_eval():
            sizes = values_at(batch_size, np.arange(steps + 1)).astype(np.int64)
        require(sizes.min() >= 1, refuse(call, "batch_size", "be at least 1", batch_size))
        self.last = int(sizes[-1])  # the batch size from the last of these steps on
        self.consumed = np.concatenate([[0], np.cumsum(sizes[:-1])])  # before each of these steps
        changes = np.flatnonzero(np.diff(sizes)) + 1
        self.knots = [0, *(int(step) for step in changes)]

    def steps(self, examples: Fraction) -> Fraction:
        """Return the steps after which so many examples are consumed, with a fraction of a step."""
        step = int(np.searchsorted(self.consumed, math.floor(examples), side="right")) - 1
        sizes = np.append(np.diff(self.consumed), self.last)
        return step + (examples - int(self.consumed[step])) / int(sizes[step])

    def clock(self, scale: Fraction) -> Schedule:
        """Return what is consumed before each step, times a scale."""
        end, rest = self.knots[-1], counter(float(self.last * scale))
        if end == 0:
            return rest
        values = [float(int(self.consumed[step]) * scale) for step in self.knots]
        return piecewise_linear(values, self.knots).take(end) >> values[-1] + rest
