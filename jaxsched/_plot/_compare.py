"""Schedules side by side, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsched._plot._curve import Curve, brief, drawn
from jaxsched._schedule import Schedule
from jaxsched._search._convex_bound import convex_bound
from jaxsched._show._still import still

LONGEST = 10**6  # steps of a bound, which looks at every one
HEADS = ("peak", "at step", "mean", "last", "steps", "bound", "schedule")


def compared(schedules: Mapping[str, Any], total_steps: int | None = None) -> str:
    """A table, a line for each schedule."""
    [curves] = drawn([schedules], total_steps=total_steps)
    quiet = [still(x) for x in schedules.values()]
    bounds = np.array([_bound(x, int(curves[0].steps[-1])) for x in quiet])
    best = np.nanmin(bounds) if np.isfinite(bounds).any() else 1.0
    rows = [
        (*_numbers(curve), _steps(x), f"{bound / best:.3f}" if np.isfinite(bound) else "-")
        for curve, x, bound in zip(curves, quiet, bounds, strict=True)
    ]
    table = [HEADS, *((*row, brief(label)) for row, label in zip(rows, schedules, strict=True))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([*(f"{x:>{w}}" for x, w in zip(row[:-1], widths, strict=False)), row[-1]])
        for row in table
    ]
    return "\n".join(lines)


def _numbers(curve: Curve) -> tuple[str, ...]:
    """The peak and where it is, the mean, and the last value."""
    peak = int(curve.values.argmax())
    spans = np.diff(curve.steps, append=curve.steps[-1] + 1)
    mean = np.average(curve.values, weights=spans)
    values = f"{curve.values[peak]:.4g}", str(curve.steps[peak])
    return *values, f"{mean:.4g}", f"{curve.values[-1]:.4g}"


def _steps(x: Schedule) -> str:
    return "endless" if x.steps is None else str(int(x.steps))


def _bound(x: Schedule, total: int) -> float:
    if total > LONGEST:
        return np.nan
    try:
        return float(convex_bound(x, total_steps=total))
    except ValueError:  # it is negative somewhere
        return np.nan
