"""Reads the log of a run as columns over increasing steps, however it was written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsched._commands._reporting._cells import Rows, rows
from jaxsched._commands._reporting._tensorboard import EVENTS, rows_of_events

FILES = "metrics.csv", "metrics.jsonl"
OTHERS = "*.csv", "*.jsonl"  # a folder may have one such file of another name
PLACES = "step", "_step", "global_step", "iteration", "epoch"  # columns for the horizontal axis
CHUNK = 2**16  # rows whose cells are in memory at once
BOUNDS = "__MIN", "__MAX"  # ends of the columns that W&B adds to one
NOTHING = {"", "none", "null", "na", "n/a"}


class Column(NamedTuple):
    """A number that was logged at some of the steps."""

    steps: np.ndarray  # float64, increasing
    values: np.ndarray  # float64; NaN and infinities are kept


class Log(NamedTuple):
    """The content of a log, and notes on its oddities."""

    file: Path
    place: str  # the name of the column with the steps
    steps: np.ndarray  # float64, increasing: the steps of all rows
    columns: dict[str, Column]  # in the order of the file, without the steps
    notes: list[str]


class _Cells(NamedTuple):
    """A column as it was written, with a place for every row."""

    values: np.ndarray  # float64; NaN where there is no number
    there: np.ndarray  # bool: whether there is a number
    texts: int  # number of cells that are neither a number nor empty


def log(run: Path, place: str | None = None) -> Log:
    """Return the log of a run: a folder, or the file of a logger.

    Args:
      run: folder or file.
      place: the column with the steps; None: the first of `PLACES` that there is.

    Raises:
      ValueError: there is no log, or it has no such column.
    """
    file = run if run.is_file() else _file(run)
    notes: list[str] = []
    table, count = _table(_rows(file, notes))
    found = place or next((name for name in map(_as_known(table), PLACES) if name in table), None)
    if count and found not in table:
        wanted = f"`{place}`" if place else f"`{PLACES[0]}`"
        raise ValueError(
            f"{file} has no column {wanted}, but has {_named(table)}. Name one with --x"
        )
    if not count:
        return Log(file, PLACES[0], np.zeros(0), {}, [*notes, f"{file.name} has no rows yet."])
    assert found is not None
    return _ordered(file, found, table, notes)


def _as_known(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function from a name to the same name in the case in which a logger writes it."""
    known = {name.lower(): name for name in names}
    return lambda name: known.get(name, name)


def is_run(path: Path) -> bool:
    """Return whether a path is a folder with a log, or may be the file of a logger."""
    if path.is_dir():
        return bool(_files(path))
    return path.name.startswith(EVENTS) or any(path.match(pattern) for pattern in OTHERS)


def _file(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"there is no folder or file {folder}")
    files = _files(folder)
    if not files:
        raise ValueError(
            f"there is no {' or '.join(FILES)} in {folder}, and no other table or event file"
        )
    if len(files) > 1 and not files[0].name.startswith(EVENTS):
        names = ", ".join(sorted(file.name for file in files))
        raise ValueError(f"there are several tables in {folder}: {names}. Name one of them")
    return files[0]


def _files(folder: Path) -> list[Path]:
    """Return the file that is the log of a folder, or all that may be."""
    known = [folder / name for name in FILES if (folder / name).is_file()]
    others = [file for pattern in OTHERS for file in sorted(folder.glob(pattern))]
    return known[:1] or others or sorted(folder.glob(f"{EVENTS}*"))


def _rows(file: Path, notes: list[str]) -> Rows:
    if file.name.startswith(EVENTS):
        return rows_of_events(file.parent, notes)
    return rows(file, notes)


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


def _ordered(file: Path, place: str, table: dict[str, _Cells], notes: list[str]) -> Log:
    """Return the columns over their steps; of repeated steps the later one is used."""
    step, notes = table.pop(place), [*notes]
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
    if bounds := [name for name in table if name.endswith(BOUNDS) and name[:-5] in table]:
        notes.append(f"{', '.join(bounds)} are the bounds of other columns, and left out.")
    for name, cells in table.items():
        if name in bounds:
            continue
        there = cells.there & kept
        if cells.texts > cells.there.sum():
            notes.append(f"{name} is text, and left out.")
        elif there.any():
            columns[name] = _last_of_each(step.values[there], cells.values[there])
            notes += _oddities(name, columns[name], cells.texts)
    return Log(file, place, np.unique(step.values[kept]), columns, notes)


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
