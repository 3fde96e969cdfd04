"""Seesaw: grows the batch where the learning rate would fall, with a schedule of batches per step.

If the purpose of a decay is to reduce the noise of SGD, a step of m batches at m times the rate is
as good as m steps. For Adam the factor is sqrt(m). So a decay of the rate can be replaced by a
growth of the batch. The run then sees the same examples in the same order, in fewer steps.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._core._require import one_of, refuse, static_length
from jaxsched._schedules._batch_size import RULES
from jaxsched._schedules._chain import Then
from jaxsched._schedules._piecewise import piecewise_constant
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule


def seesaw(
    schedule: AnySchedule,
    *,
    total_steps: int | None = None,
    factor: int = 2,
    rule: str = "sqrt",
    max_multiplier: int | None = None,
) -> tuple[Schedule, Schedule]:
    """Grows the batch where the learning rate would fall: the same examples in fewer steps.

        m     = factor**k, from the step where schedule <= peak / factor**k, after the peak
        rate  = m**p * schedule, once every m of its steps;  p = 1/2 for "sqrt", 1 for "linear"

    Each new step takes m batches and replaces m steps of the schedule. At every example,
    rate / batch**p is the same as before. The total number of examples is also the same. The last
    step takes the remainder. If every cut of the schedule is by `factor`, `rule="linear"` keeps the
    rate constant and only grows the batch.

    Args:
      schedule: the schedule for steps of one batch, or any function of the step; not negative. It
        must fall after its peak.
      total_steps: number of its steps, an int of at least 1; None: `schedule.steps`.
      factor: growth factor of the batch each time, an int of at least 2.
      rule: "sqrt" for Adam and similar optimizers, "linear" for SGD; see `scale_with_batch`.
      max_multiplier: largest number of batches per step, at least 1; None: no limit.

    Returns:
      `(rate, multiplier)`: schedules of the new steps. The new run has `rate.steps` steps. The
      optimizer is `accumulate(inject(optax.adam, learning_rate=rate), multiplier)`.

    Raises:
      ValueError: an argument is out of its range; the schedule is unbounded and `total_steps` is
        None; it is negative, zero throughout, or rises after it has fallen by `factor`; or it is
        traced, although the steps at which the batch grows must be static.

    Example:
      >>> rate, multiplier = seesaw(cosine(1.0, 0.0, 100))
      >>> print(rate.steps, multiplier(jnp.array([0, 50, 58, 61])))
      64 [1. 2. 2. 4.]
      >>> rate, multiplier = seesaw(step_decay(1.0, factor=0.5, every=4).take(12), rule="linear")
      >>> print(np.asarray(rate(jnp.arange(7))).round(3), multiplier(jnp.arange(7)))
      [1. 1. 1. 1. 1. 1. 1.] [1. 1. 1. 1. 2. 2. 4.]

    References:
      Smith et al., 2018, https://arxiv.org/abs/1711.00489; Meterez et al., 2025,
      https://arxiv.org/abs/2510.14717, for the square root.
    """
    call = "seesaw"
    base = as_schedule(call, schedule)
    one_of(call, "rule", rule, tuple(RULES))
    ends = base.steps if total_steps is None else total_steps
    if ends is None:
        remedy = "The schedule is unbounded. Give `total_steps`, or end it with `.take(steps)`."
        raise ValueError(refuse(call, "total_steps", "be an int", ends, remedy))
    known = functools.partial(static_length, call, why="the steps where the batch grows are static")
    steps, grows = known("total_steps", ends), known("factor", factor, least=2)
    most = steps if max_multiplier is None else known("max_multiplier", max_multiplier)
    levels = _levels(call, base, schedule, steps, grows, most)
    parts = [(start, count, m) for start, count, m in _parts(levels, grows, steps) if count > 0]
    pieces = [_part(base, start, count, m, RULES[rule]) for start, count, m in parts]
    edges = list(itertools.accumulate(count for _, count, _ in parts))
    multiplier = piecewise_constant([m for _, _, m in parts], edges[:-1]).take(edges[-1])
    return Then.of(*pieces), multiplier


def _levels(
    call: str, base: Schedule, given: Any, steps: int, factor: int, most: int
) -> np.ndarray:
    """Return how often the schedule has fallen by `factor`, at each step."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(base))
    if traced:
        must = "be concrete, because the steps where the batch grows are static"
        raise ValueError(refuse(call, "schedule", must, given, "Build it outside `jit`."))
    with jax.ensure_compile_time_eval():
        values = np.asarray(base(np.arange(steps)), np.float64)
    fine = bool(np.all(np.isfinite(values)) and np.all(values >= 0) and np.any(values > 0))
    if not fine:
        must = "be finite, not negative, and not zero throughout"
        raise ValueError(refuse(call, "schedule", must, given))
    peak = values.max()
    # A float32 value on a threshold may be off by rounding.
    fallen = np.full(steps, np.inf)
    np.divide(peak * (1 + 1e-6), values, out=fallen, where=values > 0)
    highest = int(np.floor(np.log(most) / np.log(factor) + 1e-9))
    levels = np.minimum(np.floor(np.log(fallen) / np.log(factor)), highest).astype(int)
    levels[: values.argmax()] = 0
    if np.any(np.diff(levels) < 0):
        must = f"not rise again after it has fallen by {factor}"
        remedy = "Pass one cycle at a time, and join the results with `>>`."
        raise ValueError(refuse(call, "schedule", must, given, remedy))
    return levels


def _parts(levels: np.ndarray, factor: int, steps: int) -> Iterator[tuple[int, int, int]]:
    """Yield the start of each level, its number of new steps, and old steps per new step."""
    start = 0
    for level in range(int(levels[-1]) + 1):
        m = factor**level
        end = int(np.searchsorted(levels, level, side="right"))
        # The batch grows after a whole number of steps, or the run ends.
        count = min(-(-(end - start) // m), (steps - start) // m) if end > start else 0
        yield start, count, m
        start += count * m
    yield start, int(start < steps), steps - start


def _part(base: Schedule, start: int, count: int, m: int, power: float) -> Schedule:
    part = base if start == 0 else base.shift(-start)
    return (part if m == 1 else part.faster(m) * m**power).take(count)
