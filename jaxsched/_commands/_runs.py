"""`jaxsched runs`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._refused import RefusedError

WHAT = """\
List the runs below a folder: their steps, schedules, optimizers, results and diagnoses."""

MORE = """\
A run is a folder that `jaxsched report` can read.

examples:
  jaxsched runs
  jaxsched runs experiments --x epoch
"""


def run(options: argparse.Namespace) -> None:
    """Print a line for each run, and then notes on folders that cannot be read."""
    from jaxsched._commands._reporting._listing import listing

    if not options.folder.is_dir():
        raise RefusedError(f"runs: there is no folder {options.folder}")
    table, notes = listing(options.folder, options.x)
    if not table:
        raise RefusedError(f"runs: there is no run below {options.folder}")
    print(table, *notes, sep="\n")


def add(commands: Any) -> None:
    """Add the options."""
    brief = "list the runs below a folder"
    parser = added(commands, "runs", run, brief, description=WHAT, epilog=MORE)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="default: runs"
    )
    parser.add_argument("--x", metavar="NAME", help="the column with the steps")
