"""Warmup from the loss: the learning rate rises as the loss falls.

A step may be as long as the curvature of the loss allows, 1 / L. In many models the curvature is
larger where the loss is higher, about

    L = a + b * (loss - lowest loss)

so the longest step is 1 / (a + b * (loss - lowest)). In units of the step at the lowest loss this
is 1 / (1 + ratio * (loss - floor) / (first - floor)), with ratio = b / a * (first - floor). At the
beginning of a run the loss falls fast, and the rate rises with it. This is a warmup, and its length
need not be chosen. If the loss rises again, the rate falls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import number_field
from jaxsched._core._numerics import real
from jaxsched._core._require import BELOW_ONE, NOT_NEGATIVE
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import initially
from jaxsched._rules._rule import Listener

_HIGHEST = 10.0  # a loss counts as at most so many times the first one, above the floor


class AutoWarmupState(NamedTuple):
    """The state of `auto_warmup`. Every number is finite for any observation."""

    mean: jax.Array = initially(0.0)  # the moving average of the loss
    weight: jax.Array = initially(0.0)  # the sum of its weights; 0 before the first loss
    first: jax.Array = initially(0.0)  # the average of the first losses
    settled: jax.Array = initially(False)  # whether `first` is complete
    below: jax.Array = initially(0)  # losses that were below the floor


class AutoWarmup(Listener):
    """Lowers the learning rate while the loss is high, in place of a warmup of fixed length.

        factor = 1 / (1 + ratio * (loss - floor) / (first - floor))

    `loss` is a moving average of the observed losses. `first` is the value of this average after
    the first n losses, where n is `1 / (1 - ema_decay)`, rounded up. So the factor starts at
    1 / (1 + ratio), and comes near 1 as the loss comes near `floor`. If the loss rises, the factor
    falls. After the first losses, a loss is clipped at `floor + 10 * (first - floor)`.

    The floor is the loss of a perfect model. It is 0 for a squared error, the entropy of the labels
    for a cross-entropy, and may be negative for a log density. If the loss cannot come near the
    floor, the factor stays below 1 to the end. The best peak is then higher than without the rule,
    by about the inverse of the last factor. A loss below the floor is read as the floor, and
    `factors(opt_state)` counts it as `below`. If `first` is not above the floor, the factor is 1.
    The unit of the loss does not matter.

    Args:
      ratio: the factor at the start is 1 / (1 + ratio); not negative.
      floor: the loss of a perfect model.
      ema_decay: decay of the moving average of the loss, in [0, 1).
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the factor: float32 (float64 under x64), initially
      1 / (1 + ratio).

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> tx = scale_by_learning_rate(0.1 * auto_warmup(ratio=9.0, ema_decay=0.0))
      >>> state = tx.init({})
      >>> for loss in (4.0, 4.0, 2.0, 0.4, 4.0):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(f"{hyperparams(state)['learning_rate']:.4f}")
      0.0100
      0.0100
      0.0182
      0.0526
      0.0100

    References:
      Alimisis et al., 2025, https://arxiv.org/abs/2510.03164: a warmup follows from a curvature
      that is linear in the loss. The moving average, the floor and the normalisation by the first
      loss are ours.
    """

    ratio: ArrayLike = number_field(default=3.0, within=NOT_NEGATIVE)
    floor: ArrayLike = number_field(default=0.0)
    ema_decay: ArrayLike = number_field(default=0.9, within=BELOW_ONE)

    @property
    def _is_factor(self) -> bool:
        return True

    def _said(self) -> str:
        return f"times {self}, {self._at_first():g} at first, nearer to 1 as the loss falls"

    def start(self, params: Any) -> AutoWarmupState:
        return AutoWarmupState()

    def react(self, state: AutoWarmupState, seen: Observation, t: jax.Array) -> AutoWarmupState:
        # In float32 a decay nearer to 1 would be 1.
        decay, floor = jnp.minimum(real(self.ema_decay), 1 - 2**-20), real(self.floor)
        weight = decay * state.weight + 1
        # The weight of a moving average of n losses is (1 - decay**n) / (1 - decay).
        begins = state.weight * (1 - decay) < 1 - decay ** (1 / (1 - decay))
        # One loss of 1e10 would hold the rate at zero for hundreds of steps.
        highest = floor + _HIGHEST * (state.first - floor)
        known = ~begins & (state.first > floor)
        loss = jnp.where(known, jnp.minimum(seen.value, highest), seen.value)
        mean = state.mean + (loss - state.mean) / weight
        return AutoWarmupState(
            mean=mean,
            weight=weight,
            first=jnp.where(begins, mean, state.first),
            settled=~begins,
            below=counted(state.below, seen.value < floor),
        )

    def value(self, state: AutoWarmupState, t: jax.Array) -> jax.Array:
        floor = real(self.floor)
        above, span = jnp.maximum(state.mean - floor, 0), state.first - floor
        known = span > 0
        left = jnp.where(known, above / jnp.where(known, span, 1), 0)
        left = jnp.where(state.settled, left, 1)
        return 1 / (1 + jnp.maximum(real(self.ratio), 0) * left)


auto_warmup = factory(AutoWarmup)
