"""Code that the options of several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._training._limits import POSITIVE, SEEDS


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise with one line; the usage is in `--help`."""
        raise RefusedError(f"{message} (see `{self.prog} --help`)")


def added(
    commands: Any, name: str, run: Callable[..., int | None], brief: str, **texts: str
) -> Any:
    parser = commands.add_parser(
        name, help=brief, formatter_class=argparse.RawDescriptionHelpFormatter, **texts
    )
    parser.set_defaults(run=run)
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {least} to {most}, got {text}"
            )
        return number

    return parsed


def number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text}")
    return number


steps, seeds = _whole(10, 10**6), _whole(1, 10**4)
positive, count, seed = _whole(*POSITIVE), _whole(1, 10**15), _whole(*SEEDS)
