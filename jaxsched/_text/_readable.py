"""The text of a schedule for somebody who reads it back: asked first whether that is possible."""

from __future__ import annotations

from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._text._parse import parse


def readable(call: str, schedule: Schedule | Stateful) -> str:
    """The text of a schedule, from which `parse` makes the same schedule.

    Args:
      call: who writes it, for the error.
      schedule: a schedule, stateful or not.

    Raises:
      ValueError: it has no text, or one that is too long or too deep to be read.
    """
    text = repr(schedule)
    try:
        parse(text)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`{call}` writes the text of a schedule, and this one cannot be read back: {reason}"
        ) from None
    return text
