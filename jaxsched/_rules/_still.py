"""The schedule under its rules: what a learning rate is while nothing acts."""

from __future__ import annotations

from typing import Any

from jaxsched._rules._stateful import at_first
from jaxsched._schedules._decays import constant
from jaxsched._schedules._schedule import Schedule


def still(x: Any) -> Schedule:
    """The schedule that `x` is, stateful or not, while nothing acts."""
    quiet = at_first(x)
    return quiet if isinstance(quiet, Schedule) else constant(quiet)
