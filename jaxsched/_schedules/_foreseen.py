"""The values of a schedule, looked up when another schedule is built from it.

Some operations cannot take every value: a divisor must not be zero. A schedule whose numbers are
known is therefore evaluated once, so that the error comes where the mistake is written.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._core._clock import LAST
from jaxsched._core._node import require_unstacked
from jaxsched._core._padded import values_at
from jaxsched._schedules._schedule import Schedule, functions_in

POINTS = 2**14  # up to so many steps, all are looked at; beyond, so many of them
EDGES = 2**10  # boundaries to look at


class Foreseen(NamedTuple):
    """Some steps of a schedule, and its values there."""

    steps: np.ndarray  # int64, increasing
    values: np.ndarray  # float


def is_known(schedule: Schedule) -> bool:
    """Return whether the numbers of a schedule are neither traced, nor stacked, nor elsewhere."""
    if not is_here(schedule):
        return False
    try:
        require_unstacked(schedule)
        for function in functions_in(schedule):  # which may hold a traced number
            with jax.ensure_compile_time_eval():
                np.asarray(function(0))
    except (ValueError, jax.errors.JAXTypeError):
        return False
    return True


def foreseen(schedule: Schedule) -> Foreseen | None:
    """Return values of a schedule; None if its numbers are not known."""
    if not is_known(schedule):
        return None
    with jax.ensure_compile_time_eval():
        steps = _steps(schedule)
        return Foreseen(steps, values_at(schedule, steps))


def is_here(tree: object) -> bool:
    """Return whether every number in a tree can be read here."""
    return all(map(_is_here, jax.tree.leaves(tree)))


def _is_here(leaf: object) -> bool:
    if isinstance(leaf, Tracer):
        return False
    return not isinstance(leaf, jax.Array) or (leaf.is_fully_addressable and not leaf.is_deleted())


def _steps(schedule: Schedule) -> np.ndarray:
    """Return every step, or of many steps the first ones, the boundaries, and a grid."""
    end = LAST if schedule.steps is None else min(int(schedule.steps), LAST)
    if end < POINTS:
        return np.arange(end + 1)
    changes = (min(edge, LAST) for edge in schedule._changes())
    edges = np.asarray([*itertools.islice(changes, EDGES)], np.int64)
    grids = np.linspace(0, end, POINTS), np.geomspace(1, end, POINTS)
    near = np.arange(POINTS), edges - 1, edges
    steps = np.unique(np.concatenate([*grids, *near]).astype(np.int64))
    return steps[(steps >= 0) & (steps <= end)]
