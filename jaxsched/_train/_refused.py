"""What the person at the keyboard can put right: one line, no traceback."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class RefusedError(Exception):
    """A run that cannot be, and what to do about it."""


@contextmanager
def refusing(said: str, *more: type[Exception]) -> Generator[None]:
    """What is wrong with what somebody said, in the line that says it."""
    try:
        yield
    except (ValueError, *more) as error:
        raise RefusedError(f"{said}: {str(error).strip().partition(chr(10))[0]}") from error
