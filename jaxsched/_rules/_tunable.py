"""Tunable: a schedule whose numbers are in the state, to be changed while the run goes on.

Code holds configuration and state holds data; this is the deliberate other way. The numbers are a
dict, keyed by where they are in the schedule, so that a checkpoint says what they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._rules._rule import Rule
from jaxsched._schedules._schedule import Function, Schedule, as_schedule
from jaxsched._schedules._trainable import Numbers, numbers_of, places


class TunableState(NamedTuple):
    """What `tunable` remembers: all of its schedule's numbers."""

    # Float, or int32 for lengths, by place: "Then.0.Linear.steps". A decay is its logarithm.
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
        return f"times {self}, as it is until `retune(opt_state, ...)`"


def tunable(schedule: Any) -> Rule:
    """A schedule whose numbers move into the optimizer's state.

        value(t) = schedule(t), with the numbers that `retune(opt_state, ...)` set last

    A new peak, a longer decay, another course in mid-run: no rebuild, no recompilation, although
    `tx` is static in `TrainState` and `nnx.Optimizer`. The numbers are saved and restored with the
    state, and from then on the code's are no longer used.

    Args:
      schedule: any schedule of numbers.

    Returns:
      A stateful schedule; multiply it with others.

    Raises:
      ValueError: it is not a schedule.

    Example:
      >>> tx = scale_by_learning_rate(tunable(linear(1.0, 0.0, 4)))
      >>> state = retune(tx.init({}), learning_rate=linear(0.5, 0.0, 2))
      >>> _, state = tx.update({}, state)
      >>> _, state = tx.update({}, state)
      >>> print(hyperparams(state)["learning_rate"])
      0.25
    """
    schedule = as_schedule("tunable", schedule)
    functions = [x for x in jax.tree.leaves(schedule, is_leaf=_is_function) if _is_function(x)]
    if functions:
        raise ValueError(
            f"`tunable(schedule)` moves numbers into the state, and {functions} has none."
        )
    return Tunable(schedule)


def retuned(state: TunableState, schedule: Schedule) -> TunableState:
    """The state with the numbers of another schedule of the same tree."""
    new = numbers_of(as_schedule("retune", schedule))
    if not fits(state, schedule):
        raise ValueError(
            f"`retune` takes a schedule with the same tree: {_described(state.numbers)}. "
            f"`{schedule}` has {_described(new)}. What is to be shifted or clipped later is built "
            "with `.shift(0)`, `.clip(low, high)`."
        )
    return TunableState({k: jnp.broadcast_to(new[k], x.shape) for k, x in state.numbers.items()})


def fits(state: TunableState, schedule: Any) -> bool:
    """Does a schedule have the numbers of the state: the same places, types and shapes?

    The state may be stacked, and then has axes in front.
    """
    new, old = numbers_of(as_schedule("retune", schedule)), state.numbers
    return sorted(new) == sorted(old) and all(
        x.dtype == new[k].dtype and x.shape[x.ndim - new[k].ndim :] == new[k].shape
        for k, x in old.items()
    )


def _described(numbers: Numbers) -> str:
    return ", ".join(f"{k}: {x.dtype}{list(x.shape)}" for k, x in sorted(numbers.items()))


def _is_function(x: Any) -> bool:
    return isinstance(x, Function)
