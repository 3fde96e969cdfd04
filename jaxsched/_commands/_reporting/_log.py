"""The log of a run as columns over increasing steps, whatever its logger has been through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsched._commands._reporting._cells import rows

FILES = "metrics.csv", "metrics.jsonl"
CHUNK = 2**16  # rows whose cells are in memory at once
NOTHING = {"", "none", "null", "na", "n/a"}


class Column(NamedTuple):
    """A number that was written now and then."""

    steps: np.ndarray  # float64, increasing
    values: np.ndarray  # float64; NaN and infinities as they were written


class Log(NamedTuple):
    """What was written, and what is odd about it."""

    file: Path
    steps: np.ndarray  # float64, increasing: those of all rows
    columns: dict[str, Column]  # in the order of the file, but for the steps
    notes: list[str]


class _Cells(NamedTuple):
    """A column as it was written, with a place for every row."""

    values: np.ndarray  # float64; NaN where there is no number
    there: np.ndarray  # bool: is it a number?
    texts: int  # how many are neither a number nor nothing


def log(folder: Path) -> Log:
    """The log in a folder.

    Raises:
      ValueError: there is none, or it has no steps.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"there is no {' or '.join(FILES)} in {folder}: no run has logged there")
    return read(file)


def read(file: Path) -> Log:
    """The log in a file.

    Raises:
      ValueError: it has no steps.
    """
    notes: list[str] = []
    table, count = _table(rows(file, notes))
    if count and "step" not in table:
        raise ValueError(f"{file} has no column `step`, but {_named(table)}")
    if not count:
        return Log(file, np.zeros(0), {}, [*notes, f"{file.name} has no rows yet."])
    return _ordered(file, table, notes)


def _named(columns: Iterable[str]) -> str:
    """The names of columns, which may be as long and as strange as a file that is no table."""
    names = "".join(c if c.isprintable() else "?" for c in ", ".join(columns))
    return names if len(names) <= 200 else f"{names[:200]}..."


def _table(rows: Iterable[dict[str, str]]) -> tuple[dict[str, _Cells], int]:
    """The columns of rows, and how many rows there are."""
    rows, count, parts = iter(rows), 0, dict[str, list[_Cells]]()
    while some := list(itertools.islice(rows, CHUNK)):
        for name in dict.fromkeys(itertools.chain(*some)):
            known = parts.setdefault(name, [_nothing(count)])
            missing = count - sum(len(part.values) for part in known)
            known += [_nothing(missing), _numbers([row.get(name, "") for row in some])]
        count += len(some)
    return {name: _joined(known, count) for name, known in parts.items()}, count


def _numbers(cells: list[str]) -> _Cells:
    try:
        values = np.array([float(cell) if cell else math.nan for cell in cells])
        return _Cells(values, np.array([*map(bool, cells)]), 0)
    except ValueError:  # there is some text among them
        read = [*map(_number, cells)]
        there = np.array([x is not None for x in read])
        texts = sum(cell.strip().lower() not in NOTHING for cell in cells) - int(there.sum())
        return _Cells(np.array([math.nan if x is None else x for x in read]), there, texts)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _nothing(count: int) -> _Cells:
    return _Cells(np.full(count, math.nan), np.zeros(count, bool), 0)


def _joined(parts: list[_Cells], count: int) -> _Cells:
    parts = [*parts, _nothing(count - sum(len(part.values) for part in parts))]
    values, there, texts = zip(*parts, strict=True)
    return _Cells(np.concatenate(values), np.concatenate(there), sum(texts))


def _ordered(file: Path, table: dict[str, _Cells], notes: list[str]) -> Log:
    """The columns over their steps, the later of what is there twice."""
    step, notes = table.pop("step"), [*notes]
    placed = step.there & np.isfinite(step.values)
    if not placed.all():
        notes.append(f"Rows without a step, which are left out: {(~placed).sum()}.")
    # What was written before somebody went back behind it, such as to a checkpoint, is void.
    back = np.minimum.accumulate(np.where(placed, step.values, np.inf)[::-1])[::-1]
    kept = placed & (step.values <= back)
    if (void := int((placed & ~kept).sum())) > 0:
        notes.append(f"The steps go back{_whence(step.values[placed])}: of {void} rows the later "
                     "ones are shown.")  # fmt: skip
    columns: dict[str, Column] = {}
    for name, cells in table.items():
        there = cells.there & kept
        if cells.texts > cells.there.sum():
            notes.append(f"{name} is text, and left out.")
        elif there.any():
            columns[name] = _last_of_each(step.values[there], cells.values[there])
            notes += _oddities(name, columns[name], cells.texts)
    return Log(file, np.unique(step.values[kept]), columns, notes)


def _whence(steps: np.ndarray) -> str:
    """Where steps go back: that of a run that was resumed, or was it more often?"""
    at = np.flatnonzero(np.diff(steps) < 0)
    first = f" from {steps[at[0]]:.15g} to {steps[at[0] + 1]:.15g}"
    return first if len(at) == 1 else f" {len(at)} times, first{first}"


def _last_of_each(steps: np.ndarray, values: np.ndarray) -> Column:
    """One value a step: a logger may write several rows of it."""
    last = np.append(np.diff(steps) > 0, True)
    return Column(steps[last], values[last])


def _oddities(name: str, column: Column, texts: int) -> list[str]:
    strange = ~np.isfinite(column.values)
    said = [f"{name} is text in {texts} rows, which are left out."] if texts else []
    if count := int(strange.sum()):
        first = column.steps[strange][0]
        said.append(f"{name} is NaN or infinite {count}x, first at step {first:.15g}: gaps.")
    return said
