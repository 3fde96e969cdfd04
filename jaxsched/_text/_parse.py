"""Parsing: the inverse of `repr`."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from jaxsched._core._require import refuse
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._units import Units
from jaxsched._text._evaluate import Scope, evaluate, is_plain, kind
from jaxsched._text._syntax import tree
from jaxsched._text._tokens import MisreadError, shown

_LONGEST = 2000  # characters of a reason, which may quote a table


def parse(text: str, *, units: Units | None = None) -> Schedule | Stateful:
    """Parses a text into a schedule. It is the inverse of `repr`.

    `parse(repr(schedule))` equals `schedule`, which means the same tree with the same numbers.
    Compare with `==`. `testing.assert_same` also shows the place of the first difference. The text
    of a very long `table`, or of a schedule made of a Python function, cannot be parsed.

    A text is written as in Python: calls of the functions of this package and of the methods of a
    schedule, numbers, strings, lists, `>>`, arithmetic and parentheses. A list of numbers becomes
    an array. With `units`, a length may be `90ep` (epochs), `5000ex` (examples), `2e10tok` (tokens)
    or `10%`. A percentage refers to the `total_steps` of the enclosing call, or else of the units.
    The larger of two numbers or lengths is `max(10%, 500)`, and the smaller is `min(10%, 500)`. If
    a required `total_steps` is left out, that of the units is used. `parse` calls only the
    functions and methods of this package, whatever the text.

    Args:
      text: text to parse.
      units: what an optimizer step consumes, for lengths that are not in steps.

    Returns:
      A schedule, or a stateful schedule if it contains a rule.

    Raises:
      ValueError: the text cannot be read, or a function rejects its arguments. The message shows
        the place.

    Example:
      >>> parse("linear(0.0, 0.1, 10) >> cosine(0.1, 0.0, 90)").steps
      100
      >>> parse("warmup_cosine(0.1, warmup_steps=5%) * greedy()", units=Units(total_steps=1000))
      (linear(0.00196078431372549, 0.1, 50) >> cosine(0.1, 0.0, 950)) * greedy()
      >>> parse("linear(0.0, 0.1, 10) >> cosin(0.1, 0.0, 90)")
      Traceback (most recent call last):
      ValueError: there is no schedule `cosin`. Did you mean cosine?
          linear(0.0, 0.1, 10) >> cosin(0.1, 0.0, 90)
                                  ^
    """
    _require_kinds(text, units)
    with reading(text):
        return _made(evaluate(tree(text), Scope(units, units and units.total_steps)))


@contextlib.contextmanager
def reading(text: str) -> Generator[None]:
    """Add the place in the text to an error."""
    try:
        yield
    except MisreadError as error:
        reason = error.reason if len(error.reason) < _LONGEST else error.reason[:_LONGEST] + "..."
        raise ValueError(f"{reason}\n{shown(text, error.at)}") from error.__cause__
    except RecursionError:
        raise ValueError("the text is nested too deeply for the remaining stack.") from None


def _require_kinds(text: Any, units: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(refuse("parse", "text", "be a string", text))
    if not (units is None or isinstance(units, Units)):
        raise ValueError(refuse("parse", "units", "be `Units(...)`", units))


def _made(result: Any) -> Schedule | Stateful:
    if isinstance(result, (Schedule, Stateful)):
        return result
    remedy = f" Write `constant({result!r})`." if is_plain(result) else ""
    raise MisreadError(0, f"the text must be a schedule, got {kind(result)}.{remedy}")
