"""`jaxsched report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._refused import RefusedError, refusing

WHAT = """\
Make a page of a run: curves to zoom into, events, numbers, diagnosis and settings. It is one HTML
file that needs no other file, and no network. Several runs are on one page, in different colours,
with a table of their schedules and results, and a switch for each."""


MORE = """\
A run is the output folder of `jaxsched train`, or a folder of your own with metrics.csv,
metrics.jsonl, another table that is the only one there, or event files of TensorBoard, which need
the extra `tensorboard`. A run can also be such a file itself, for example an export of W&B. The
steps are in a column step, _step, global_step, iteration or epoch, or in the column of --x. Other
columns are recognised by their names: names that contain loss, rate or accuracy, or counts of
events, such as cuts or events/cuts. Any other number has a panel of its own. If there are epochs or
times, the curves can be drawn over them. The page shows a settings.json in the folder. If its
learning_rate is the text of a schedule, the schedule is drawn too.

examples:
  jaxsched report runs/digits
  jaxsched report runs/digits -o digits.html
  jaxsched report runs/* -o runs.html
  jaxsched report wandb_export.csv --x trainer/global_step
"""


def run(options: argparse.Namespace) -> None:
    """Write the page, and print notes on oddities of the runs."""
    from jaxsched._commands._reporting._page import page
    from jaxsched._core._files import write_text

    runs, notes = _logs(options.runs)
    with refusing("report"):
        text, found = page(*runs, place=options.x)
    notes += found
    file: Path = options.out or _beside(runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    print(file, *notes, sep="\n  ")


def _logs(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """Return the runs, and notes on other files, such as pictures, that a pattern has found."""
    from jaxsched._commands._reporting._log import is_run

    other = [path for path in paths if path.is_file() and not is_run(path)]
    if len(other) == len(paths):
        raise RefusedError(f"report: {other[0]} is no table and no event file")
    notes = [f"{path} is no table and no event file, and left out." for path in other]
    return [path for path in paths if path not in other], notes


def _beside(runs: list[Path]) -> Path:
    """Return the default file of a page: in the folder of the only run, or in the current one."""
    if len(runs) > 1:
        return Path("runs.html")
    return runs[0] / "report.html" if runs[0].is_dir() else runs[0].with_suffix(".html")


def add(commands: Any) -> None:
    """Add the options."""
    brief = "make a page of one or several runs: curves to zoom into, numbers, diagnosis, settings"
    parser = added(commands, "report", run, brief, description=WHAT, epilog=MORE)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder or file of a run")
    what = "file of the page; default: report.html in the folder, or runs.html for several runs"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=what)
    parser.add_argument("--x", metavar="NAME", help="the column with the steps")
