"""Errors that the user can fix: one line, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager


class RefusedError(Exception):
    """An error in the options or files of a run, with a remedy."""


class StoppedError(Exception):
    """A run was asked to end, and did. It can be resumed."""


@contextmanager
def refusing(said: str, *more: type[Exception]) -> Generator[None]:
    """Turn an error into one line that names the option or file."""
    try:
        yield
    except (ValueError, *more) as error:
        raise RefusedError(f"{said}: {str(error).strip().partition(chr(10))[0]}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error; a long line is shortened in the middle."""
    line, kind = str(error).strip().partition("\n")[0], type(error).__name__
    line = line if len(line) <= 240 else f"{line[:120]} ... {line[-115:]}"
    return line if isinstance(error, RefusedError) or kind == "ValueError" else f"{kind}: {line}"


def warn(line: str) -> None:
    """Print a warning to stderr."""
    print(f"jaxsched: {line}", file=sys.stderr)
