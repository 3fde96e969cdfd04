"""The schedule under its rules: the learning rate while no rule acts."""

from __future__ import annotations

from typing import Any

from jaxsched._rules._stateful import at_first
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._unbounded import constant


def still(x: Any) -> Schedule:
    """Return `x` without its rules, as a schedule."""
    quiet = at_first(x)
    return quiet if isinstance(quiet, Schedule) else constant(quiet)
