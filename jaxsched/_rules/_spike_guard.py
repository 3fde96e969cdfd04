"""Spike guard: the rate falls where a metric leaps, and climbs back in steps of the clock.

    spike:  value > mean + sigmas * std   of the latest observations, without this one
            drop to low = max(scale * factor, min_scale), and note the time
    scale:  low + (1 - low) * min(steps since the spike / recover_steps, 1)

The scale is a formula of the clock, so nothing is lost or gained by updates that see no metric.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length, counted, held
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import blend, fractions, real
from jaxsched._core._require import Number, length, one_of, positive, static_length, within
from jaxsched._rules import _mailbox, _rolling
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._rolling import Window
from jaxsched._rules._rule import Axis, Listener, listening
from jaxsched._rules._stateful import Rule

POLICIES = ("spike", "ignore")


class SpikeGuardState(NamedTuple):
    """What `spike_guard` remembers. Every number is finite, whatever was observed."""

    mailbox: Mailbox  # what was observed since the last update
    window: Window  # the latest finite observations, spikes included
    low: jax.Array  # float: the scale right after the last spike, 1 before the first
    since: jax.Array  # int32: the step of the last spike
    spikes: jax.Array  # int32: how many there were


class SpikeGuard(Listener):
    """low at a spike, then a line to 1 over `recover_steps`."""

    factor: Number = number_field(default=0.1)
    recover_steps: Length = length_field(default=100)
    sigmas: Number = number_field(default=6.0)
    window_size: int = choice_field(default=128)
    min_observations: Length | None = length_field(default=None)
    min_scale: Number = number_field(default=0.01)
    nonfinite: str = choice_field(default="spike")
    metric: str = choice_field(default="value")
    axis_name: Axis = choice_field(default=None)

    def _start(self, params: Any = None) -> SpikeGuardState:
        return SpikeGuardState(
            mailbox=_mailbox.empty(self.metric),
            window=_rolling.start(self.window_size),
            low=real(1.0),
            since=jnp.zeros((), jnp.int32),
            spikes=jnp.zeros((), jnp.int32),
        )

    def _value(self, state: SpikeGuardState, t: jax.Array) -> jax.Array:
        steps = jnp.maximum(_clock.read(self.recover_steps), 1)
        done, left = fractions(_clock.since(t, state.since), steps)
        # A clock that was set back is before the spike.
        low = jnp.where(t < state.since, 1, state.low)
        return jnp.maximum(blend(low, 1.0, left, done), real(self.min_scale))

    def _react(self, state: SpikeGuardState, seen: Observation, t: jax.Array) -> SpikeGuardState:
        _rolling.require_size("spike_guard", state.window, self.window_size)
        spike = seen.heard & _rolling.is_spike(
            state.window, seen.value, self.sigmas, self.min_observations
        )
        spike = spike | (seen.broken & (self.nonfinite == "spike"))
        low = jnp.maximum(self._value(state, t) * real(self.factor), real(self.min_scale))
        return state._replace(
            # With the spike, so that a level that has changed for good is the level in the end.
            window=_rolling.add(state.window, seen.value, seen.heard),
            low=jnp.where(spike, low, state.low),
            since=jnp.where(spike, t, state.since),
            spikes=counted(state.spikes, spike),
        )


def spike_guard(
    *,
    factor: ArrayLike = 0.1,
    recover_steps: ArrayLike = 100,
    sigmas: ArrayLike = 6.0,
    window_size: int = 128,
    min_observations: ArrayLike | None = None,
    min_scale: ArrayLike = 0.01,
    nonfinite: str = "spike",
    metric: str = "value",
    axis_name: Axis = None,
) -> Rule:
    """A factor that falls where a metric leaps up, and climbs back to 1.

        spike:  metric > mean + sigmas * std of the last `window_size` observations before it
        drop :  low = max(scale * factor, min_scale)
        scale:  low + (1 - low) * n / recover_steps, n optimizer steps after the spike, at most 1

    The drop acts in the very update that sees the spike; another on the way back drops the scale
    from where it is. The spike is put in the window: of a metric that stays up there, no more than
    about window_size / (sigmas**2 + 1) observations are spikes, and then it is an ordinary one.
    Where all observations of the window are the same, any rise beyond rounding is a spike.

    Args:
      factor: what the scale is multiplied with at a spike, in (0, 1).
      recover_steps: optimizer steps from a spike until the scale is 1 again, at least 1, which
        lowers the update that sees the spike alone.
      sigmas: standard deviations above the mean from which an observation is a spike, > 0.
      window_size: how many of the latest observations are remembered, at least 2. It is the length
        of an array in the state.
      min_observations: how many must be remembered before one can be a spike, from 2 to
        `window_size`; None: half of it.
      min_scale: the scale never falls below, in [0, 1].
      nonfinite: is a NaN or infinite observation a "spike", before `min_observations` too, or to be
        "ignore"d? It is never put in the window.
      metric: the name it listens to: `observe(opt_state, value=...)`, `tx.update(..., value=...)`;
        `"gradient_norm"` comes by itself in `inject` and `wrap`; see `with_gradient_norm`.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), 1 at first.

    Raises:
      ValueError: an argument is out of its range, named with its value.

    Example:
      >>> guard = spike_guard(window_size=8, min_observations=4, recover_steps=3)
      >>> tx = scale_by_learning_rate(constant(0.1) * guard)
      >>> state = tx.init({})
      >>> for loss in (1.0, 1.1, 1.0, 1.1, 9.0, 1.0, 1.1, 1.0):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(f"{hyperparams(state)['learning_rate']:.2f}", end=" ")
      0.10 0.10 0.10 0.10 0.01 0.04 0.07 0.10

    References:
      The window of 128, half of it at least, and 6 deviations are those of `SkipStepOptimizer` in
      OLMo-core and of Levanter's `skip_bad_steps`, which leave the update out.
    """
    call = "spike_guard"
    one_of(call, POLICIES, nonfinite=nonfinite)
    size = static_length(call, window_size=window_size, least=2)
    return SpikeGuard(
        factor=within(call, "be in (0, 1)", lambda x: (x > 0) & (x < 1), factor=factor),
        recover_steps=held(length(call, recover_steps=recover_steps, least=1)),
        sigmas=positive(call, sigmas=sigmas),
        window_size=size,
        min_observations=_rolling.first_of(call, min_observations, size),
        min_scale=within(call, "be in [0, 1]", lambda x: (x >= 0) & (x <= 1), min_scale=min_scale),
        nonfinite=nonfinite,
        **listening(call, metric, axis_name),
    )
