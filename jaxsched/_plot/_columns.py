"""Columns of a table that a run has written: CSV with a header line, one row a step."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def column(file: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the values of a column.

    A column with gaps is measured now and then, after the step of its row: what hears it is the
    following one. One without is measured within its step.

    Raises:
      ValueError: there is no such column, or something in it is no number.
    """
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows, names = [*reader], reader.fieldnames or ()
    if name not in names:
        raise ValueError(f"{file} has no column {name!r}, but {', '.join(names)}")
    filled = [(int(row.get("step") or n), row[name]) for n, row in enumerate(rows) if row[name]]
    steps = np.array([step for step, _ in filled], np.int64)
    values = np.array([float(value) for _, value in filled], np.float32)
    return steps + (len(filled) < len(rows)), values
