"""A list of the runs below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from jaxsched._commands._refused import first_line
from jaxsched._commands._reporting._log import is_run
from jaxsched._commands._reporting._run import run
from jaxsched._commands._reporting._several import HEADS, cells
from jaxsched._search._leaderboard import table

INSIDE = {"checkpoints"}  # folders of a run in which there is no other


def listing(folder: Path, place: str | None = None) -> tuple[str, list[str]]:
    """Return a table with a line for each run, and notes on those that cannot be read."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for path in runs_below(folder):
        try:
            rows.append((str(path.relative_to(folder)), *cells(run(path, place))))
        except (ValueError, OSError) as error:
            notes.append(f"{path} is left out: {first_line(error)}")
    return (table([("run", *HEADS), *rows]) if rows else ""), notes


def runs_below(folder: Path) -> Iterator[Path]:
    """Yield the folders with a log, in alphabetical order."""
    for path, inside, _ in os.walk(folder):
        inside[:] = sorted(name for name in inside if name not in INSIDE)
        if is_run(Path(path)):
            yield Path(path)
