"""`jaxsched describe`."""

from __future__ import annotations

import argparse
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._refused import refusing
from jaxsched._commands._schedules import add_units, spoken

WHAT = """\
Show the values of a schedule at its start, at its first boundaries and at its end."""


MORE = """\
examples:
  jaxsched describe 'linear(0.0, 0.1, 50) >> cosine(0.1, 0.0, 950)'
  jaxsched describe 'warmup_cosine(0.1, warmup_steps=5%)' --total-steps 1000
  jaxsched describe 'warmup_linear(0.1, total_steps=90ep, warmup_steps=10000ex)' \\
    --batch-size 256 --dataset-size 50000
"""


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    from jaxsched._look._describe import describe

    with refusing("describe"):
        print(describe(spoken("describe", options.text, options), total_steps=options.total_steps))


def add(commands: Any) -> None:
    """Add the options."""
    brief = "show the values of a schedule, and where they change"
    parser = added(commands, "describe", run, brief, description=WHAT, epilog=MORE)
    parser.add_argument("text", nargs="+", metavar="TEXT", help="a schedule, stateful or not")
    add_units(parser)
