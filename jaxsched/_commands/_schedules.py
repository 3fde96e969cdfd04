"""The schedules given on a command line, and the units of their lengths."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from jaxsched._commands._options import count
from jaxsched._commands._training._refused import refusing

UNITS = {
    "batch_size": "examples per batch",
    "dataset_size": "examples per epoch",
    "accumulation": "batches per optimizer step; default: 1",
    "sequence_length": "tokens per example",
    "total_steps": "optimizer steps of the run; output stops there",
}


def add_units(parser: Any) -> None:
    """Add the options that define `1ep` and `5%`."""
    for name, what in UNITS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=count, metavar="N", help=what)


def spoken(command: str, words: Sequence[str], options: argparse.Namespace) -> Any:
    """Return the schedule that words define, stateful or not."""
    from jaxsched._commands._training._words import text_of
    from jaxsched._schedules._units import Units
    from jaxsched._text._parse import parse

    given = {name: getattr(options, name) for name in UNITS}
    with refusing(command):
        units = Units(**{name: x for name, x in given.items() if x is not None})
        return parse(text_of(command, words), units=units)
