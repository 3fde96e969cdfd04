"""The counter: a clock that advances by the same amount at every step."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from jaxsched._core._factory import factory
from jaxsched._core._fields import number_field
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import NOT_NEGATIVE
from jaxsched._schedules._schedule import Schedule


class Counter(Schedule):
    """A counter of what the steps consume, such as samples, tokens or epochs.

        value(t) = rate * t

    It is a clock for `schedule.on(clock)`: a schedule over samples becomes a schedule over steps.

    Args:
      rate: what one optimizer step consumes, at least 0: the batch size for samples, batch size
        times sequence length for tokens, `1 / units.steps_per_epoch` for epochs.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape, which resolves a count to one part in 2^24.

    Raises:
      ValueError: `rate` is not a finite number of at least 0.

    Example:
      >>> over_samples = linear(0.0, 1.0, 1000) >> cosine(1.0, 0.0, 9000)
      >>> rate = over_samples.on(counter(100))
      >>> print(rate.steps, rate(jnp.array([5, 10, 100])))
      100 [0.5 1.  0. ]

    References:
      Megatron-LM's `OptimizerParamScheduler`, whose steps are samples.
    """

    rate: ArrayLike = number_field(within=NOT_NEGATIVE, kw_only=False)

    def at(self, t: jax.Array) -> jax.Array:
        return saturated(real(t) * real(self.rate))


counter = factory(Counter)
