"""What the person at the keyboard can put right: one line, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager


class RefusedError(Exception):
    """A run that cannot be, and what to do about it."""


class StoppedError(Exception):
    """A run that was asked to end, and did: it can be resumed."""


@contextmanager
def refusing(said: str, *more: type[Exception]) -> Generator[None]:
    """What is wrong with what somebody said, in the line that says it."""
    try:
        yield
    except (ValueError, *more) as error:
        raise RefusedError(f"{said}: {str(error).strip().partition(chr(10))[0]}") from error


def first_line(error: Exception) -> str:
    """What an error is, without the pages behind it; of a long line its two ends."""
    line, kind = str(error).strip().partition("\n")[0], type(error).__name__
    line = line if len(line) <= 240 else f"{line[:120]} ... {line[-115:]}"
    return line if isinstance(error, RefusedError) or kind == "ValueError" else f"{kind}: {line}"


def warn(line: str) -> None:
    """Say something that the run goes on in spite of."""
    print(f"jaxsched: {line}", file=sys.stderr)
