"""The numbers of a run: the most important ones, and a row for each column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxsched._commands._reporting._axes import UNSEEN
from jaxsched._commands._reporting._log import Column
from jaxsched._commands._reporting._panels import (
    ACCURACY,
    EVENTS,
    LOSS,
    RATE,
    Happened,
    kind,
)
from jaxsched._commands._reporting._run import Run, diagnosis

# The best value of a kind of column, as a function and as a word.
BEST = {LOSS: (np.argmin, "lowest"), ACCURACY: (np.argmax, "highest")}
HEADS = "curve", "first", "lowest", "highest", "last"


def facts(run: Run, happened: list[Happened]) -> dict[str, str]:
    """Return the most important facts of a run."""
    columns, steps = run.log.columns, run.log.steps
    found: dict[str, str] = {}
    if len(steps):
        found["steps"] = f"{len(steps)} ({number(steps[0])} to {number(steps[-1])})"
    if epochs := columns.get("epoch"):
        found["epochs"] = _highest(epochs, number)
    if found_verdict := verdict(run):
        found["diagnosis"] = found_verdict
    if rate := _of(RATE, columns):
        x = columns[rate]
        ends = _brief(x.values[0]), _highest(x, _brief), _brief(x.values[-1])
        found[f"{rate}: first / peak / last"] = " / ".join(ends)
    for what, (_, word) in BEST.items():
        if name := _of(what, columns):
            found[f"{name}: {word} / last"] = best_and_last(columns, what)
    if happened:
        found["what happened"] = ", ".join(f"{number(x.counts.sum())} {x.name}" for x in happened)
    return found


def verdict(run: Run) -> str:
    """Return the last diagnosis of a run in a word; an empty string if there is none."""
    return str(diagnosis(run.summary).get("verdict") or "")


def best_and_last(columns: Mapping[str, Column], what: str) -> str:
    """Return the best value of a kind with its step, and the last one; of the validation if any."""
    name = _of(what, columns)
    if name is None:
        return ""
    at = _extreme(columns[name], BEST[what][0], _brief)
    return f"{at} / {_brief(columns[name].values[-1])}"


def _highest(column: Column, shown: Callable[[Any], str]) -> str:
    values = column.values[~np.isnan(column.values)]
    return shown(values.max()) if len(values) else "–"


def _of(what: str, columns: Mapping[str, Column]) -> str | None:
    """Return the validation column of a kind, or else its first column."""
    names = [name for name in columns if kind(name) == what]
    return min(names, key=lambda name: not {"val", "valid"} & {*_words(name)}, default=None)


def _words(name: str) -> list[str]:
    return name.lower().replace("/", "_").replace("validation", "val").split("_")


def rows(columns: Mapping[str, Column]) -> list[tuple[str, ...]]:
    """Return the ends and the extremes of each curve."""
    return [
        (name, number(x.values[0]), _extreme(x, np.argmin), _extreme(x, np.argmax),
         number(x.values[-1]))
        for name, x in columns.items()
        if name not in UNSEEN and kind(name) not in EVENTS
    ]  # fmt: skip


def _extreme(
    column: Column, best: Callable[[np.ndarray], Any], shown: Callable[[Any], str] | None = None
) -> str:
    finite = np.isfinite(column.values)
    if not finite.any():
        return "–"
    at = int(best(column.values[finite]))
    return f"{(shown or number)(column.values[finite][at])} at {number(column.steps[finite][at])}"


def number(x: float) -> str:
    """Return a readable number: six digits, or all digits of an integer."""
    return f"{x:.15g}" if float(x).is_integer() and abs(x) < 1e15 else f"{x:.6g}"


def _brief(x: float) -> str:
    return f"{x:.3g}" if abs(x) < 1e3 else number(x)
