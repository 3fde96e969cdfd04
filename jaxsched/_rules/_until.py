"""Until: one schedule until a trigger, then another from its own step 0."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._trees import Path, replaced
from jaxsched._rules._memory import initially
from jaxsched._rules._rule import Rule
from jaxsched._schedules._schedule import Schedule, as_schedule


class UntilState(NamedTuple):
    """The state of `until`."""

    triggered: jax.Array = initially(False)  # whether the second schedule is to begin
    begun: jax.Array = initially(False)  # whether it has begun
    start: jax.Array = initially(0)  # the first step of the second schedule


def triggered(tree: Any, when: ArrayLike) -> Any:
    """Return the tree with every `until` in it triggered, if `when` holds."""

    def told(_: Path, state: UntilState) -> UntilState:
        return state._replace(triggered=state.triggered | jnp.asarray(when))

    return replaced(UntilState, tree, told)


class Triggered(Rule):
    """Base class of rules that follow a schedule `a` until a trigger."""

    a: Schedule

    def start(self, params: Any) -> UntilState:
        return UntilState()

    def react(self, state: UntilState, seen: Any, t: jax.Array) -> UntilState:
        start = jnp.where(state.triggered & ~state.begun, t, state.start)
        return state._replace(start=start, begun=state.begun | state.triggered)

    @property
    def _is_curve(self) -> bool:
        return True

    def _at_first(self) -> Schedule:
        return self.a

    def _said(self) -> str:
        return f"times {self}, the first part until `trigger(opt_state)`"


class Until(Triggered):
    """a(t) until triggered, then b(t - start)."""

    b: Schedule

    def value(self, state: UntilState, t: jax.Array) -> jax.Array:
        a, b = self.a._grouped(), self.b._grouped()
        return jnp.where(state.begun, b.at(_clock.since(t, state.start)), a.at(t))

    def _later(self, step: int) -> Schedule:
        return self.b


def until(a: Any, b: Any) -> Rule:
    """A schedule that follows `a` until `trigger(opt_state)`, then `b` from its own step 0.

        value(t) = a(t)             before the trigger
                 = b(t - start)     from the first update after it, at step `start`, on

    Use it if the end of a run is decided late: a stable phase, then a cooldown that starts on
    demand. The switch happens inside the compiled step; nothing is rebuilt. `b` starts with its own
    first value. To continue from the current value, use `cooldown`.

    Args:
      a: a schedule, or any function of the step.
      b: a schedule, or any function of the step.

    Returns:
      A stateful schedule; it can be multiplied with other schedules.

    Raises:
      ValueError: `a` or `b` is not a schedule.

    Example:
      >>> tx = scale_by_learning_rate(until(constant(1.0), linear(1.0, 0.0, 4)))
      >>> state = tx.init({})
      >>> for step in range(5):
      ...     _, state = tx.update({}, trigger(state) if step == 2 else state)
      ...     print(hyperparams(state)["learning_rate"])
      1.0
      1.0
      1.0
      0.75
      0.5

    References:
      Hägele et al., 2024, https://arxiv.org/abs/2405.18392: one stable run, many cooldowns.
    """
    return Until(as_schedule("until", a), as_schedule("until", b))
