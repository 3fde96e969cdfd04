"""Cooldown: a schedule that is multiplied by a decay from a trigger on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._fields import number_field
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import finite
from jaxsched._rules._rule import Rule
from jaxsched._rules._until import Triggered, UntilState
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule


class Cooldown(Triggered):
    """a(t) until triggered at step s, then end_value + (a(s) - end_value) * shape(t - s)."""

    a: Schedule
    shape: Schedule
    end_value: ArrayLike = number_field(default=0.0)

    def value(self, state: UntilState, t: jax.Array) -> jax.Array:
        # One evaluation: after the trigger, the schedule is read at the step of the trigger.
        held = self.a._grouped().at(jnp.where(state.begun, state.start, t))
        left = self.shape._grouped().at(_clock.since(t, state.start))
        cooled = saturated(held * left + real(self.end_value) * (1 - left))
        return jnp.where(state.begun, cooled, held)

    def _later(self, step: int) -> Schedule:
        end = real(self.end_value)
        return end + (self.a(step) - end) * self.shape


def cooldown(schedule: AnySchedule, shape: AnySchedule, *, end_value: ArrayLike = 0.0) -> Rule:
    """A schedule that cools down from its current value once `trigger(opt_state)` is called.

        value(t) = a(t)                                                before the trigger
                 = end_value + (a(start) - end_value) * shape(t - start)    from `start` on

    `start` is the step of the first update after the trigger. At step `start` the schedule may
    still be warming up, or may already decay. In both cases the cooldown continues from its value
    there, without a jump. The cooldown of `until(a, b)` begins at the first value of `b` instead.

    Args:
      schedule: the schedule before the cooldown; a schedule, or a function of the step.
      shape: the fraction of the distance to `end_value` that is left; it should start at 1, as
        `linear(1.0, 0.0, steps)` and `one_minus_sqrt(1.0, 0.0, steps)` do.
      end_value: the value that a shape of 0 leads to.

    Returns:
      A stateful schedule; it can be multiplied with other schedules.

    Raises:
      ValueError: `schedule` or `shape` is not a schedule, or `end_value` is not finite.

    Example:
      >>> rate = cooldown(linear(0.0, 1.0, 10), linear(1.0, 0.0, 2))
      >>> tx = scale_by_learning_rate(rate)
      >>> state = tx.init({})
      >>> for step in range(7):
      ...     _, state = tx.update({}, trigger(state) if step == 4 else state)
      ...     print(hyperparams(state)["learning_rate"])
      0.0
      0.1
      0.2
      0.3
      0.4
      0.2
      0.0

    References:
      `torch.optim.swa_utils.SWALR` moves from the current rate to another rate in this way.
    """
    call = "cooldown"
    before, after = as_schedule(call, schedule), as_schedule(call, shape)
    return Cooldown(before, after, end_value=finite(call, "end_value", end_value))
