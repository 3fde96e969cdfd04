"""KL-adaptive: keeps the KL divergence between the old and the new policy near a target.

    kl > target * tolerance:      scale / down, at least min_scale
    0 < kl < target / tolerance:  scale * up, at most max_scale

Between the two limits, nothing changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, number_field
from jaxsched._core._numerics import real
from jaxsched._core._require import (
    AT_LEAST_ONE,
    POSITIVE,
    Condition,
)
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import initially
from jaxsched._rules._rule import Listener, listened_to

PART = Condition("be in (0, 1]", lambda x: (x > 0) & (x <= 1))


class KLAdaptiveState(NamedTuple):
    """The state of `kl_adaptive`. Every number is finite for any observation."""

    scale: jax.Array = initially(1.0)  # the factor
    cuts: jax.Array = initially(0)  # how often the factor fell
    raises: jax.Array = initially(0)  # how often the factor rose


class KlAdaptive(Listener):
    """Adapts the learning rate to keep the KL divergence of a policy update near a target.

        above: scale = max(scale / down, min_scale)  if kl > target * tolerance
        below: scale = min(scale * up, max_scale)    if 0 < kl < target / tolerance

    A divergence of zero (or below zero by rounding) means that the policy has not moved, and
    changes nothing. An update without a metric changes nothing. A change of the scale takes effect
    in the update that receives the metric.

    Args:
      target: target divergence in nats, > 0; 0.01 is usual.
      tolerance: width of the band around the target, from target / tolerance to target *
        tolerance, at least 1.
      up: multiplier of the scale below the band, at least 1. With 1 the scale never rises.
      down: divisor of the scale above the band, at least 1.
      min_scale: lower limit of the scale, in (0, 1].
      max_scale: upper limit of the scale, at least 1.
      nonfinite: effect of a NaN or infinite divergence, which a diverged policy produces: "cut"
        as for a divergence above the band, or "ignore" it. It is never stored.
      metric: name of the metric, as in `observe(opt_state, kl=...)` and `tx.update(..., kl=...)`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), initially 1.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> tx = scale_by_learning_rate(constant(1e-3) * kl_adaptive(0.01))
      >>> state = tx.init({})
      >>> for kl in (0.001, 0.01, 0.03):
      ...     _, state = tx.update({}, state, kl=kl)
      ...     print(f"{hyperparams(state)['learning_rate']:.4f}")
      0.0015
      0.0015
      0.0010

    References:
      Schulman et al., Proximal Policy Optimization Algorithms, 2017, section 4, adapts a penalty
      in this way. `rsl_rl` adapts the learning rate with its schedule "adaptive", which has the
      same band, factors and bounds (1e-5 and 1e-2 around 1e-3). `KLAdaptiveLR` of `skrl` also
      raises the learning rate at zero.
    """

    target: ArrayLike = number_field(within=POSITIVE, kw_only=False)
    tolerance: ArrayLike = number_field(default=2.0, within=AT_LEAST_ONE)
    up: ArrayLike = number_field(default=1.5, within=AT_LEAST_ONE)
    down: ArrayLike = number_field(default=1.5, within=AT_LEAST_ONE)
    min_scale: ArrayLike = number_field(default=0.01, within=PART)
    max_scale: ArrayLike = number_field(default=10.0, within=AT_LEAST_ONE)
    nonfinite: str = choice_field(default="cut", among=("cut", "ignore"))
    metric: str = choice_field(default="kl", check=listened_to)

    def start(self, params: Any) -> KLAdaptiveState:
        return KLAdaptiveState()

    @property
    def hears_nonfinite(self) -> bool:
        return self.nonfinite == "cut"

    def value(self, state: KLAdaptiveState, t: jax.Array) -> jax.Array:
        # A state that was restored under other bounds is clipped to the new bounds.
        return jnp.clip(state.scale, real(self.min_scale), real(self.max_scale))

    def react(self, state: KLAdaptiveState, seen: Observation, t: jax.Array) -> KLAdaptiveState:
        scale, kl = self.value(state, t), seen.value
        target, tolerance = real(self.target), jnp.maximum(real(self.tolerance), 1)
        far = seen.broken | (seen.heard & (kl > target * tolerance))
        # A divergence of zero, or below zero by rounding, means that the policy has not moved.
        near = ~far & seen.heard & (kl > 0) & (kl < target / tolerance)
        lower = jnp.maximum(scale / jnp.maximum(real(self.down), 1), real(self.min_scale))
        higher = jnp.minimum(scale * jnp.maximum(real(self.up), 1), real(self.max_scale))
        return state._replace(
            scale=jnp.where(far, lower, jnp.where(near, higher, scale)),
            cuts=counted(state.cuts, far & (lower < scale)),
            raises=counted(state.raises, near & (higher > scale)),
        )


kl_adaptive = factory(KlAdaptive)
