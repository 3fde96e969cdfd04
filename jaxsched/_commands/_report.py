"""`jaxsched report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._training._refused import refusing

WHAT = """\
Make a page of a run: curves to zoom into, what happened, numbers, diagnosis, settings. It is one
file of HTML that needs nothing else, and no network."""


MORE = """\
A run is a folder of `jaxsched train`, or of your own: metrics.csv, or metrics.jsonl, with a column
`step`. Other columns are known by their names: loss, rate, accuracy somewhere in them, or counts of
what has happened, such as cuts or events/cuts; what else is a number has a panel of its own. A
settings.json beside it is shown; if its learning_rate is the text of a schedule, it is drawn too.

examples:
  jaxsched report runs/digits
  jaxsched report runs/digits -o digits.html
"""


def run(options: argparse.Namespace) -> None:
    """Write the page, and say what is odd about the run."""
    from jaxsched._commands._reporting._page import page
    from jaxsched._core._files import write_text

    with refusing("report"):
        text, notes = page(options.folder)
    file: Path = options.out or options.folder / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    print(file, *notes, sep="\n  ")


def add(commands: Any) -> None:
    """The options."""
    brief = "make a page of a run: curves to zoom into, numbers, diagnosis, settings"
    parser = added(commands, "report", run, brief, description=WHAT, epilog=MORE)
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the folder of the run")
    what = "the page; default: report.html in the folder"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=what)
