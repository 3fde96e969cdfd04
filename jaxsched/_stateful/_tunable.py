"""Tunable: a schedule whose numbers are in the state, to be changed while the run goes on.

Code holds configuration and state holds data; this is the deliberate other way. The numbers are a
dict, keyed by where they are in the schedule, so that a checkpoint says what they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxsched._places import Numbers, numbers_of, places
from jaxsched._require import require
from jaxsched._schedule import Schedule, as_schedule, node
from jaxsched._stateful._protocol import Rule


class TunableState(NamedTuple):
    """What `tunable` remembers: all of its schedule's numbers."""

    numbers: Numbers  # float, or int32 for lengths; keyed by place, such as "Then.0.Linear.steps"


@node
class Tunable(Rule):
    """schedule(t), with the numbers of the state."""

    schedule: Schedule

    def _start(self) -> TunableState:
        return TunableState(numbers_of(self.schedule))

    def _next(self, state: TunableState, t: jax.Array) -> TunableState:
        return state

    def _value(self, state: TunableState, t: jax.Array) -> jax.Array:
        leaves = [state.numbers[name] for name in places(self.schedule)]
        return jax.tree.unflatten(jax.tree.structure(self.schedule), leaves)._at(t)


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
    return Tunable(as_schedule("tunable", schedule))


def retuned(state: TunableState, schedule: Schedule) -> TunableState:
    """The state with the numbers of another schedule of the same tree."""
    numbers = numbers_of(schedule)
    require(
        sorted(numbers) == sorted(state.numbers),
        f"`retune` takes a schedule with the same tree. Here are {sorted(state.numbers)}, "
        f"and `{schedule}` has {sorted(numbers)}.",
    )
    return TunableState(numbers)
