"""The schedules given on a command line, and the units of their lengths."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from jaxsched._commands._options import count
from jaxsched._commands._refused import RefusedError, refusing

_NEEDED = re.compile(r"needs `Units\((.*?)\)`")
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
        parser.add_argument(_option(name), type=count, metavar="N", help=what)


def spoken(command: str, words: Sequence[str], options: argparse.Namespace) -> Any:
    """Return the schedule that words define, stateful or not."""
    from jaxsched._commands._training._words import text_of
    from jaxsched._text._parse import parse

    with refusing(command):
        known = units(options)
    try:
        return parse(text_of(command, words), units=known)
    except ValueError as error:  # with the text and the caret below it
        raise RefusedError(f"{command}: {_NEEDED.sub(_options, str(error))}") from error


def units(options: argparse.Namespace) -> Any:
    """Return the units that the options define."""
    from jaxsched._schedules._units import Units

    given = {name: getattr(options, name) for name in UNITS}
    return Units(**{name: x for name, x in given.items() if x is not None})


def _options(found: re.Match[str]) -> str:
    """Return the options that define the units of a length."""
    names = re.findall(r"\w+(?==)", found[1])
    return f"needs {' and '.join(_option(name) + ' N' for name in names)}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
