"""Spike guard: lowers the learning rate at a spike of a metric, then raises it step by step.

    spike:  value > mean + sigmas * std   of the latest observations, without this one
            low = max(scale * factor, min_scale), and the step is recorded
    scale:  low + (1 - low) * min(steps since the spike / recover_steps, 1)

The scale is a formula of the step, so updates without a metric do not change it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import blend, real
from jaxsched._core._position import fractions
from jaxsched._core._require import (
    POSITIVE,
    PROPER,
    UNIT,
    static_length,
)
from jaxsched._rules import _ring
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import initially
from jaxsched._rules._ring import Ring
from jaxsched._rules._rule import Listener
from jaxsched._rules._spikes import is_spike, require_within


class SpikeGuardState(NamedTuple):
    """The state of `spike_guard`. Every number is finite for any observation."""

    window: Ring  # the latest finite observations, spikes included
    low: jax.Array = initially(1.0)  # the scale right after the last spike, 1 before the first
    since: jax.Array = initially(0)  # the step of the last spike
    spikes: jax.Array = initially(0)  # how many spikes there were


class SpikeGuard(Listener):
    """Lowers the learning rate when a metric spikes, and restores it over `recover_steps`.

        spike:  metric > mean + sigmas * std of the last `window_size` observations before it
        drop :  low = max(scale * factor, min_scale)
        scale:  low + (1 - low) * n / recover_steps, n optimizer steps after the spike, at most 1

    The drop takes effect in the update that receives the spike. A second spike during the recovery
    drops the scale from its current value. Spikes enter the window too. If the metric jumps to a
    higher level and stays there, at most about window_size / (sigmas**2 + 1) observations count as
    spikes. After that, the new level is normal. If all observations in the window are equal, any
    rise beyond rounding is a spike.

    Args:
      factor: multiplier of the scale at a spike, in (0, 1).
      recover_steps: optimizer steps from a spike until the scale is 1 again, at least 1. With 1,
        only the update that receives the spike is lowered.
      sigmas: standard deviations above the mean at which an observation is a spike, > 0.
      window_size: number of latest observations to store, at least 2. It is the length of an array
        in the state.
      min_observations: number of stored observations before one can be a spike, from 2 to
        `window_size`. None: half of `window_size`.
      min_scale: lower limit of the scale, in [0, 1].
      nonfinite: effect of a NaN or infinite observation: a "spike", even before
        `min_observations`, or "ignore" it. It never enters the window.
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`. `inject` and `wrap` provide `"gradient_norm"`; see `with_gradient_norm`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), initially 1.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> guard = spike_guard(window_size=8, min_observations=4, recover_steps=3)
      >>> tx = scale_by_learning_rate(constant(0.1) * guard)
      >>> state = tx.init({})
      >>> for loss in (1.0, 1.1, 1.0, 1.1, 9.0, 1.0, 1.1, 1.0):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(f"{hyperparams(state)['learning_rate']:.2f}", end=" ")
      0.10 0.10 0.10 0.10 0.01 0.04 0.07 0.10

    References:
      `SkipStepOptimizer` of OLMo-core and `skip_bad_steps` of Levanter have the same defaults: a
      window of 128, at least 64 values in it, and 6 deviations. They skip the update; they do not
      reduce the rate.
    """

    factor: ArrayLike = number_field(default=0.1, within=PROPER)
    recover_steps: ArrayLike = length_field(default=100, least=1)
    sigmas: ArrayLike = number_field(default=6.0, within=POSITIVE)
    window_size: int = choice_field(default=128, check=functools.partial(static_length, least=2))
    min_observations: ArrayLike | None = length_field(default=None, least=2)
    min_scale: ArrayLike = number_field(default=0.01, within=UNIT)
    nonfinite: str = choice_field(default="spike", among=("spike", "ignore"))

    def _check(self, call: str) -> None:
        if self.min_observations is not None:
            require_within(call, self.min_observations, self.window_size)

    def start(self, params: Any) -> SpikeGuardState:
        return SpikeGuardState(_ring.empty(self.window_size))

    @property
    def hears_nonfinite(self) -> bool:
        return self.nonfinite == "spike"

    def value(self, state: SpikeGuardState, t: jax.Array) -> jax.Array:
        steps = jnp.maximum(_clock.read(self.recover_steps), 1)
        done, left = fractions(_clock.since(t, state.since), steps)
        # After the step counter was set back, the spike lies in the future.
        low = jnp.where(t < state.since, 1, state.low)
        return jnp.maximum(blend(low, 1.0, left, done), real(self.min_scale))

    def react(self, state: SpikeGuardState, seen: Observation, t: jax.Array) -> SpikeGuardState:
        _ring.require_size(state.window, "spike_guard", "window_size", self.window_size)
        leaps = is_spike(state.window, seen.value, self.sigmas, self.min_observations)
        spike = (seen.heard & leaps) | seen.broken
        low = jnp.maximum(self.value(state, t) * real(self.factor), real(self.min_scale))
        return state._replace(
            # The spike is included, so that a permanent change of level becomes normal.
            window=_ring.append(state.window, seen.value, seen.heard),
            low=jnp.where(spike, low, state.low),
            since=jnp.where(spike, t, state.since),
            spikes=counted(state.spikes, spike),
        )


spike_guard = factory(SpikeGuard)
