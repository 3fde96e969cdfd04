"""A table that compares schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsched._core._padded import values_at
from jaxsched._look._curve import brief, horizon
from jaxsched._rules._still import still
from jaxsched._schedules._schedule import Schedule
from jaxsched._search._convex_bound import convex_bound
from jaxsched._search._leaderboard import table

LONGEST = 10**6  # steps for which a bound is computed, because it evaluates every one
HEADS = ("peak", "at step", "mean", "end", "steps", "bound", "schedule")


def compared(schedules: Mapping[str, Any], total_steps: int | None = None) -> str:
    """Return a table with a line for each schedule, for the steps from 0 to the end (excluded)."""
    quiet = [still(x) for x in schedules.values()]
    total = total_steps or horizon(quiet)
    bounds = np.array([_bound(x, total) for x in quiet])
    best = np.nanmin(bounds) if np.isfinite(bounds).any() else 1.0
    rows = [
        (*_numbers(x, total), _steps(x), f"{bound / best:.3f}" if np.isfinite(bound) else "-")
        for x, bound in zip(quiet, bounds, strict=True)
    ]
    return table(
        [HEADS, *((*row, brief(label)) for row, label in zip(rows, schedules, strict=True))]
    )


def _numbers(x: Schedule, total: int) -> tuple[str, ...]:
    """Return the peak and its step, the mean, and the value at the end."""
    last = f"{float(x(total)):.4g}"
    if total > LONGEST:
        return "-", "-", "-", last
    values = values_at(x, np.arange(total)).astype(np.float64)
    peak = int(values.argmax())
    return f"{values[peak]:.4g}", str(peak), f"{values.mean():.4g}", last


def _steps(x: Schedule) -> str:
    return "endless" if x.steps is None else str(int(x.steps))


def _bound(x: Schedule, total: int) -> float:
    if total > LONGEST:
        return np.nan
    try:
        return float(convex_bound(x, total_steps=total))
    except ValueError:  # the schedule is negative somewhere
        return np.nan
