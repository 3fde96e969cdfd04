"""The `jaxsched` command."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxsched._commands import (
    _describe,
    _find,
    _forecast,
    _list,
    _plot,
    _report,
    _runs,
    _train,
)
from jaxsched._commands._options import Parser
from jaxsched._commands._refused import RefusedError, StoppedError
from jaxsched._core._extra import MissingExtraError

WHAT = (
    "Learning-rate schedules for JAX: train, report, find, forecast, plot, describe and list them."
)
COMMANDS = (_train, _report, _runs, _find, _forecast, _plot, _describe, _list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: the words after `jaxsched`; None: those of the process.

    Returns:
      The exit code: 0; 1 if `find` has no suggestion; 2 if the options are invalid; or 143 if
      SIGTERM ended a run, which can be resumed.
    """
    _print_anything()
    try:
        options = _options(argv)
        return options.run(options) or 0
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.stderr.close()
        return 0
    except (RefusedError, MissingExtraError, OSError) as error:
        print(f"jaxsched: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxsched: interrupted", file=sys.stderr)
        return 130
    except StoppedError as stopped:
        print(f"jaxsched: {stopped}", file=sys.stderr)
        return 143


def _print_anything() -> None:
    """Print characters that the terminal's encoding lacks as escapes, such as `\\udcff`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line, which override those of a config file."""
    parser, _ = _parsers()
    options = parser.parse_args(argv)
    if getattr(options, "config", None) is None:
        return options
    from jaxsched._commands._training._config import said

    parser, trains = _parsers()
    trains.set_defaults(**said(options.config, trains._actions))
    return parser.parse_args(argv)


class _Version(argparse.Action):
    """Prints the versions of jaxsched, JAX and Optax without importing them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(*(f"{name} {version(name)}" for name in ("jaxsched", "jax", "optax")), sep=", ")
        parser.exit()


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parser of the command, and the parser of `train`."""
    parser = Parser(prog="jaxsched", description=WHAT)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the versions and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser, commands.choices["train"]
