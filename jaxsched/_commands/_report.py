"""`jaxsched report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._training._refused import refusing

WHAT = """\
Make a page of a run: curves to zoom into, events, numbers, diagnosis and settings. It is one HTML
file that needs no other file, and no network."""


MORE = """\
A run is the output folder of `jaxsched train`, or a folder of your own with metrics.csv or
metrics.jsonl and a column `step`. Other columns are recognised by their names: names that contain
loss, rate or accuracy, or counts of events, such as cuts or events/cuts. Any other number has a
panel of its own. The page shows a settings.json in the folder. If its learning_rate is the text of
a schedule, the schedule is drawn too.

examples:
  jaxsched report runs/digits
  jaxsched report runs/digits -o digits.html
"""


def run(options: argparse.Namespace) -> None:
    """Write the page, and print notes on oddities of the run."""
    from jaxsched._commands._reporting._page import page
    from jaxsched._core._files import write_text

    with refusing("report"):
        text, notes = page(options.folder)
    file: Path = options.out or options.folder / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    print(file, *notes, sep="\n  ")


def add(commands: Any) -> None:
    """Add the options."""
    brief = "make a page of a run: curves to zoom into, numbers, diagnosis, settings"
    parser = added(commands, "report", run, brief, description=WHAT, epilog=MORE)
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="folder of the run")
    what = "file of the page; default: report.html in the folder"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=what)
