"""The loss curve in the log of a run: which columns are the loss and the rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsched._commands._reporting._log import Column
from jaxsched._commands._reporting._panels import LOSS, PLACES, RATE, kind
from jaxsched._commands._reporting._run import run
from jaxsched._forecast._rates import of_log
from jaxsched._schedules._schedule import Schedule


class Curve(NamedTuple):
    """The losses of a run, and the rates that it used."""

    name: str
    loss: str  # the name of the column
    steps: np.ndarray  # int64
    losses: np.ndarray
    rates: Any  # a schedule, or one rate for each step before the last loss
    begins: int  # the first step with a logged rate; 0 for a schedule
    schedule: Schedule | None  # of the whole run, if its settings name one
    notes: list[str]


def curve(path: Path, loss: str | None, rate: str | None, place: str | None) -> Curve:
    """Return the loss curve of a run.

    Args:
      path: a folder, or the file of a logger.
      loss: the column of the losses; None: the validation loss, or else the only loss.
      rate: the column of the rates; None: the only one, or else the schedule of the settings.
      place: the column of the steps; None: the usual one.

    Raises:
      ValueError: there is no log, or no such column, or several columns may be meant.
    """
    found = run(path, place)
    columns = found.log.columns
    of_loss = _chosen(path, columns, LOSS, loss, "--loss")
    planned = found.schedule if isinstance(found.schedule, Schedule) else None
    losses = columns[of_loss]
    steps = losses.steps.astype(np.int64)
    whole = bool(np.all(losses.steps == steps))
    if not whole:
        raise ValueError(f"{path} has fractions in its column {found.log.place}; laws need steps")
    rates, begins = planned, 0
    if rate is not None or planned is None or any(kind(name) == RATE for name in columns):
        used = columns[_chosen(path, columns, RATE, rate, "--rate")]
        rates = of_log(used.steps, used.values, np.arange(max(steps[-1], 1)))
        begins = int(used.steps[0])
    # A loss that is logged at step t is that of the parameters after t updates.
    return Curve(found.name, of_loss, steps, losses.values, rates, begins, planned, found.notes)


def _chosen(
    path: Path, columns: dict[str, Column], which: str, given: str | None, option: str
) -> str:
    if given is not None:
        if given not in columns:
            raise ValueError(f"{path} has no column {given}, but has {', '.join(columns)}")
        return given
    named = [name for name in columns if kind(name) == which]
    judged = [name for name in named if _is_validation(name)]
    # A validation loss has less noise than the losses of single batches.
    found = judged if which == LOSS and judged else named
    if len(found) == 1:
        return found[0]
    seen = f"several: {', '.join(found)}" if found else f"only {', '.join(columns) or 'nothing'}"
    raise ValueError(f"{path} must have one column of the {which}, but has {seen}. Use {option}")


def _is_validation(name: str) -> bool:
    place = PLACES.match(name.rpartition("/")[2]) or PLACES.match(name)
    words = name.lower().replace("/", "_").split("_")
    return (place is not None and place[1].startswith(("val", "eval"))) or bool(
        {"val", "valid", "validation", "eval"} & {*words}
    )
