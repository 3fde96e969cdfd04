"""The content of a run's folder: the log, the settings, and the summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsched._commands._refused import first_line
from jaxsched._commands._reporting._axes import places
from jaxsched._commands._reporting._log import Column, Log, log
from jaxsched._core._files import read_json, shown
from jaxsched._look._curve import drawn
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._text._parse import parse

RATES = "learning_rate", "schedule", "rate", "lr"  # settings that may be the text of a schedule


class Run(NamedTuple):
    """A run, as far as it has been written."""

    name: str
    log: Log
    axes: dict[str, Column | None]  # see `places`
    settings: dict[str, Any]
    rate: str | None  # the setting that is a schedule
    schedule: Schedule | Stateful | None
    alone: Column | None  # the values of the schedule alone at the steps of the log
    restarts: np.ndarray  # the steps at which it restarts
    summary: dict[str, Any]  # of `jaxsched train`
    notes: list[str]


def run(path: Path, place: str | None = None) -> Run:
    """Return the run in a folder, or in the file of a logger.

    Args:
      path: the folder, or the file.
      place: the column with the steps; None: the usual one.

    Raises:
      ValueError: there is no log.
    """
    found, notes = log(path, place), list[str]()
    folder = path if path.is_dir() else path.parent
    settings, summary = (_read(folder / f"{name}.json", notes) for name in ("settings", "summary"))
    read = {name: _schedule(settings.get(name)) for name in RATES}
    rate = next((name for name, x in read.items() if x is not None), None)
    schedule = None if rate is None else read[rate]
    try:
        alone, restarts = _alone(schedule, found.steps)
    except ValueError as error:  # for example a stacked schedule
        notes.append(f"The {rate} of settings.json cannot be drawn: {first_line(error)}")
        rate, schedule, alone, restarts = None, None, None, np.zeros(0)
    notes = [*_staleness(summary, found), *found.notes, *notes]
    name = path.resolve().name if path.is_dir() else path.name
    axes = places(found, sessions(summary))
    return Run(name, found, axes, settings, rate, schedule, alone, restarts, summary, notes)


def _read(file: Path, notes: list[str]) -> dict[str, Any]:
    """Return the object in a file; an empty one if there is no file."""
    try:
        found = read_json(file)
        if not isinstance(found, dict):
            raise ValueError(f"it must be an object, got {shown(found)}")
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        notes.append(f"{file.name} is damaged, and left out: {first_line(error)}.")
        return {}
    return found


def _schedule(text: Any) -> Schedule | Stateful | None:
    try:
        return parse(text) if isinstance(text, str) else None
    except ValueError:  # it is not the text of a schedule
        return None


def _alone(
    schedule: Schedule | Stateful | None, steps: np.ndarray
) -> tuple[Column | None, np.ndarray]:
    """Return the values of a schedule before rules act, and its restarts."""
    if schedule is None or not len(steps) or not 0 <= steps[-1] < 2**31 - 1:
        return None, np.zeros(0)
    [[curve]] = drawn([{"": schedule}], total_steps=int(steps[-1]) + 1)
    within = (curve.steps >= steps[0]) & (curve.steps <= steps[-1])
    again = curve.restarts[(curve.restarts >= steps[0]) & (curve.restarts <= steps[-1])]
    return Column(curve.steps[within].astype(float), curve.values[within]), again


def sessions(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sessions: the times that the run was started or resumed."""
    found = summary.get("sessions")
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []


def diagnosis(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the last recorded diagnosis."""
    found = summary.get("diagnosis")
    return found if isinstance(found, dict) else {}


def _staleness(summary: dict[str, Any], log: Log) -> list[str]:
    said: list[str] = []
    now = sessions(summary)
    if now and not now[-1].get("ended"):
        said.append("The run has not ended, or was killed; this is the part that it has written.")
    steps, last = diagnosis(summary).get("steps"), log.steps[-1] if len(log.steps) else -1
    if isinstance(steps, int) and steps != last + 1:
        said.append(f"The diagnosis is from {steps} steps; the log ends at step {last:.15g}.")
    return said
