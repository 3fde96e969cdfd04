"""Smoothing of a metric before it is compared: a mean of several, a moving average, or both."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._numerics import real, saturated
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import initially


class SmoothingState(NamedTuple):
    """The state of the smoothing between observations and comparisons."""

    window_total: jax.Array = initially(0.0)  # the sum of the observations not yet compared
    window_count: jax.Array = initially(0)  # how many observations that sum has
    average: jax.Array = initially(0.0)  # moving average, still to be divided by its weight
    weight: jax.Array = initially(0.0)  # 1 - ema_decay**(number of means so far)


def smoothed(
    state: SmoothingState,
    seen: Observation,
    accumulation_size: ArrayLike | None,
    ema_decay: ArrayLike,
) -> tuple[SmoothingState, Observation]:
    """Add an observation. The smoothed observation is heard only when the window is full.

    A window of None is full with every observation.
    """
    total = saturated(state.window_total + jnp.where(seen.heard, seen.value, 0))
    count = state.window_count + seen.heard.astype(jnp.int32)
    # ">=": a count restored from a larger window is full at once.
    full = seen.heard
    if accumulation_size is not None:
        full &= count >= _clock.read(accumulation_size)
    decay, mean = real(ema_decay), total / real(jnp.maximum(count, 1))
    new = SmoothingState(
        window_total=jnp.where(full, 0, total),
        window_count=jnp.where(full, 0, count),
        average=jnp.where(full, decay * state.average + (1 - decay) * mean, state.average),
        weight=jnp.where(full, decay * state.weight + (1 - decay), state.weight),
    )
    value = new.average / jnp.where(new.weight > 0, new.weight, 1)
    return new, Observation(value, full, seen.broken)
