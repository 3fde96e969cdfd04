"""Reads the log of a run as columns over increasing steps, however it was written."""

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
    """A number that was logged at some of the steps."""

    steps: np.ndarray  # float64, increasing
    values: np.ndarray  # float64; NaN and infinities are kept


class Log(NamedTuple):
    """The content of a log, and notes on its oddities."""

    file: Path
    steps: np.ndarray  # float64, increasing: the steps of all rows
    columns: dict[str, Column]  # in the order of the file, without the steps
    notes: list[str]


class _Cells(NamedTuple):
    """A column as it was written, with a place for every row."""

    values: np.ndarray  # float64; NaN where there is no number
    there: np.ndarray  # bool: whether there is a number
    texts: int  # number of cells that are neither a number nor empty


def log(folder: Path) -> Log:
    """Return the log in a folder.

    Raises:
      ValueError: there is no log, or it has no steps.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"there is no {' or '.join(FILES)} in {folder}: no run has logged there")
    return read(file)


def read(file: Path) -> Log:
    """Return the log in a file.

    Raises:
      ValueError: it has no steps.
    """
    notes: list[str] = []
    table, count = _table(rows(file, notes))
    if count and "step" not in table:
        raise ValueError(f"{file} has no column `step`, but has {_named(table)}")
    if not count:
        return Log(file, np.zeros(0), {}, [*notes, f"{file.name} has no rows yet."])
    return _ordered(file, table, notes)


def _named(columns: Iterable[str]) -> str:
    """Return the names of columns, shortened and printable even if the file is not a table."""
    names = "".join(c if c.isprintable() else "?" for c in ", ".join(columns))
    return names if len(names) <= 200 else f"{names[:200]}..."


def _table(rows: Iterable[dict[str, str]]) -> tuple[dict[str, _Cells], int]:
    """Return the columns of rows, and the number of rows."""
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
    except ValueError:  # some cells are text
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
    """Return the columns over their steps; of repeated steps the later one is used."""
    step, notes = table.pop("step"), [*notes]
    placed = step.there & np.isfinite(step.values)
    if not placed.all():
        notes.append(f"Rows without a step, which are left out: {(~placed).sum()}.")
    # Rows are void if the run was later resumed from an earlier step, such as a checkpoint.
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
    """Return where the steps go back, and how often."""
    at = np.flatnonzero(np.diff(steps) < 0)
    first = f" from {steps[at[0]]:.15g} to {steps[at[0] + 1]:.15g}"
    return first if len(at) == 1 else f" {len(at)} times, first{first}"


def _last_of_each(steps: np.ndarray, values: np.ndarray) -> Column:
    """Return one value per step; a logger may write several rows per step."""
    last = np.append(np.diff(steps) > 0, True)
    return Column(steps[last], values[last])


def _oddities(name: str, column: Column, texts: int) -> list[str]:
    strange = ~np.isfinite(column.values)
    said = [f"{name} is text in {texts} rows, which are left out."] if texts else []
    if count := int(strange.sum()):
        first = column.steps[strange][0]
        said.append(f"{name} is NaN or infinite {count}x, first at step {first:.15g}: gaps.")
    return said
