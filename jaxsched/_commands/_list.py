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
        raise RefusedError(f"list: nothing has {options.word!r} in its name or its sentence")
    print(found)


def add(commands: Any) -> None:
    """The options."""
    brief = "list the schedules, methods and units that text knows"
    parser = added(commands, "list", run, brief, description=brief.capitalize() + ".")
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="those that have it")
