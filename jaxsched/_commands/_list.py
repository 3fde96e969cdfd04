"""`jaxsched list`."""

from __future__ import annotations

import argparse
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._training._refused import RefusedError


def run(options: argparse.Namespace) -> None:
    """Print the entries."""
    from jaxsched._text._listing import listing

    found = listing(options.word)
    if not found:
        raise RefusedError(f"list: no name or description contains {options.word!r}")
    print(found)


def add(commands: Any) -> None:
    """Add the options."""
    brief = "list the schedules, methods and units that a text can use"
    parser = added(commands, "list", run, brief, description=brief.capitalize() + ".")
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="only entries with it")
