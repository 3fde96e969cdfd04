"""Columns of a table that a run has written: CSV with a header line, one row a step."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def column(file: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the values of a column.

    A column that is mostly empty is measured now and then, after the step of its row: what hears it
    is the following one. Any other is measured within its step.

    Raises:
      ValueError: there is no such column, or none of steps, or something in it is no number.
    """
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows, names = [*reader], reader.fieldnames or ()
    for wanted in ("step", name):
        if wanted not in names:
            raise ValueError(f"{file} has no column {wanted!r}, but {', '.join(names) or 'none'}")
    filled = [(line, row) for line, row in enumerate(rows, start=2) if row[name]]
    steps = [_number(file, line, row, "step") for line, row in filled]
    values = [_number(file, line, row, name) for line, row in filled]
    later = 2 * len(filled) < len(rows)
    return np.array(steps, np.int64) + later, np.array(values, np.float32)


def _number(file: Path, line: int, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise ValueError(f"{file}:{line}: {row[name]!r} in {name!r} is no number") from None
