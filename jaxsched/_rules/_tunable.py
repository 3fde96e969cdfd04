"""Tunable: a schedule whose numbers are in the optimizer state, so that a run can change them.

Usually the code holds configuration and the state holds data; this is a deliberate exception. The
numbers are a dict, keyed by their place in the schedule, so that a checkpoint is readable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._rules._rule import Rule
from jaxsched._schedules._schedule import Schedule, as_schedule, functions_in
from jaxsched._schedules._trainable import Numbers, numbers_of, places


class TunableState(NamedTuple):
    """The state of `tunable`: all numbers of its schedule."""

    # Float, or int32 for lengths, by place: "Then.0.Linear.steps". A decay is stored as its log.
    numbers: Numbers


class Tunable(Rule):
    """schedule(t), with the numbers of the state."""

    schedule: Schedule

    def start(self, params: Any) -> TunableState:
        return TunableState(numbers_of(self.schedule))

    def react(self, state: TunableState, seen: Any, t: jax.Array) -> TunableState:
        return state

    def value(self, state: TunableState, t: jax.Array) -> jax.Array:
        leaves = [state.numbers[place.name] for place in places(self.schedule)]
        schedule: Schedule = jax.tree.unflatten(jax.tree.structure(self.schedule), leaves)
        return schedule._grouped().at(t)

    @property
    def _is_curve(self) -> bool:
        return True

    def _at_first(self) -> Schedule:
        return self.schedule

    def _said(self) -> str:
        return f"times {self}, unchanged until `retune(opt_state, ...)`"


def tunable(schedule: Any) -> Rule:
    """A schedule whose numbers are stored in the optimizer state, where `retune` can change them.

        value(t) = schedule(t), with the numbers that `retune(opt_state, ...)` set last

    You can set a new peak, a longer decay or another end value in the middle of a run. Nothing is
    rebuilt or recompiled, although `tx` is static in `TrainState` and `nnx.Optimizer`. The numbers
    are saved and restored with the state. From `tx.init` on, the numbers in the code are not used.

    Args:
      schedule: any schedule of numbers.

    Returns:
      A stateful schedule; it can be multiplied with other schedules.

    Raises:
      ValueError: `schedule` is not a schedule, or it contains a function without numbers.

    Example:
      >>> tx = scale_by_learning_rate(tunable(linear(1.0, 0.0, 4)))
      >>> state = retune(tx.init({}), learning_rate=linear(0.5, 0.0, 2))
      >>> _, state = tx.update({}, state)
      >>> _, state = tx.update({}, state)
      >>> print(hyperparams(state)["learning_rate"])
      0.25
    """
    schedule = as_schedule("tunable", schedule)
    if functions := functions_in(schedule):
        raise ValueError(
            f"`tunable(schedule)` stores the schedule's numbers in the state, but {functions} has "
            "no numbers. Build the schedule from curves."
        )
    return Tunable(schedule)


def retuned(state: TunableState, schedule: Schedule) -> TunableState:
    """Return the state with the numbers of another schedule that has the same tree."""
    new = numbers_of(as_schedule("retune", schedule))
    if not fits(state, schedule):
        raise ValueError(
            f"`retune` takes a schedule with the same tree: {_described(state.numbers)}. "
            f"`{schedule}` has {_described(new)}. To shift or clip later, build the schedule "
            "with `.shift(0)`, `.clip(low, high)`."
        )
    return TunableState({k: jnp.broadcast_to(new[k], x.shape) for k, x in state.numbers.items()})


def fits(state: TunableState, schedule: Any) -> bool:
    """Return whether a schedule has the numbers of the state: same places, types and shapes.

    If the state is stacked, its arrays have extra axes in front.
    """
    new, old = numbers_of(as_schedule("retune", schedule)), state.numbers
    return sorted(new) == sorted(old) and all(
        x.dtype == new[k].dtype and x.shape[x.ndim - new[k].ndim :] == new[k].shape
        for k, x in old.items()
    )


def _described(numbers: Numbers) -> str:
    return ", ".join(f"{k}: {x.dtype}{list(x.shape)}" for k, x in sorted(numbers.items()))
