"""The text of a schedule, checked to be readable."""

from __future__ import annotations

from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._text._parse import parse


def readable(call: str, schedule: Schedule | Stateful) -> str:
    """Return the text of a schedule, from which `parse` makes the same schedule.

    Args:
      call: the calling function, for the message.
      schedule: a schedule, stateful or not.

    Raises:
      ValueError: the schedule has no text, or its text is too long or too deep to be read.
    """
    text = repr(schedule)
    try:
        parse(text)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`{call}` writes the schedule as text, but this text cannot be read back: {reason}"
        ) from None
    return text
