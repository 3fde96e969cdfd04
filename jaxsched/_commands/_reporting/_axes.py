"""What a horizontal axis can show besides steps: epochs, and seconds since the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsched._commands._reporting._log import Column, Log

STEP, EPOCH, SECONDS = "step", "epoch", "seconds"
RUNTIMES = "_runtime", "seconds", "elapsed"  # columns with seconds since the start
CLOCKS = "wall_time", "_timestamp", "timestamp"  # columns with seconds of a clock
UNSEEN = {EPOCH, *RUNTIMES, *CLOCKS}  # columns that are an axis, and no curve


def places(log: Log, sessions: Sequence[Mapping[str, Any]]) -> dict[str, Column | None]:
    """Return the axes of a run: the value at some steps, or None where it is the step itself.

    Args:
      log: the log of the run.
      sessions: the sessions that `jaxsched train` has recorded, which have no clock in the log.
    """
    if log.place == EPOCH:
        return {EPOCH: None}
    named = STEP if log.place.lower() in (STEP, "_step", "global_step", "iteration") else log.place
    found = {named: None, EPOCH: _epochs(log), SECONDS: _seconds(log) or _of_sessions(sessions)}
    return {name: x for name, x in found.items() if name == named or x is not None}


def _epochs(log: Log) -> Column | None:
    found = _rising(log.columns.get(EPOCH))
    if found is None or not np.array_equal(found.values, np.round(found.values)):
        return found
    # Whole numbers are those of the epoch that a step is in, which ends with its last step.
    last = np.append(np.diff(found.values) > 0, True)
    steps = np.append(found.steps[0], found.steps[last])
    values = np.append(found.values[0] - 1, found.values[last])
    return Column(steps, values) if steps[1] > steps[0] else Column(*found)


def _seconds(log: Log) -> Column | None:
    for name in (*RUNTIMES, *CLOCKS):
        if (found := _rising(log.columns.get(name))) is not None:
            start = found.values[0] if name in CLOCKS else 0.0
            return Column(found.steps, found.values - start)
    return None


def _of_sessions(sessions: Sequence[Mapping[str, Any]]) -> Column | None:
    """Return the seconds as if each session had been equally fast throughout."""
    steps, seconds, spent = list[float](), list[float](), 0.0
    for session in sessions:
        told: list[Any] = [session.get(name) for name in ("first_step", "steps", "seconds")]
        first, last, took = told
        if not all(isinstance(x, int | float) for x in told) or last - 1 <= first:
            continue
        while steps and steps[-1] >= first:  # it went back, to a checkpoint before a damaged one
            del steps[-1], seconds[-1]
        steps += [first, last - 1]
        seconds += [spent, spent + took]
        spent += took
    return _rising(Column(np.array(steps, float), np.array(seconds, float))) if steps else None


def _rising(column: Column | None) -> Column | None:
    """Return a column without gaps, if its values never fall."""
    if column is None:
        return None
    there = np.isfinite(column.values)
    steps, values = (x[there] for x in column)
    rises = len(values) > 1 and (np.diff(values) >= 0).all() and values[-1] > values[0]
    return Column(steps, values) if rises else None
