"""KL-adaptive: the rate keeps the step of a policy, as its KL divergence shows it, near a target.

    kl > target * tolerance:      scale / down, at least min_scale
    0 < kl < target / tolerance:  scale * up, at most max_scale

Between the two nothing changes.
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
    """What `kl_adaptive` remembers. Every number is finite, whatever was observed."""

    scale: jax.Array = initially(1.0)  # the factor
    cuts: jax.Array = initially(0)  # how often it fell
    raises: jax.Array = initially(0)  # how often it rose


class KlAdaptive(Listener):
    """A factor that keeps the KL divergence between the old policy and the new near a target.

        far :  scale = max(scale / down, min_scale)  if kl > target * tolerance
        near:  scale = min(scale * up, max_scale)    if 0 < kl < target / tolerance

    A divergence of zero, or below by rounding, is that of a policy that has not moved, and counts
    for nothing. An update without a metric changes nothing. The move acts in the very update that
    sees it.

    Args:
      target: the divergence to be kept, in nats, > 0; 0.01 is usual.
      tolerance: the band around it is from target / tolerance to target * tolerance, at least 1.
      up: what the scale is multiplied with below the band, at least 1, which never raises it.
      down: what it is divided by above the band, at least 1.
      min_scale: the scale never falls below, in (0, 1].
      max_scale: the scale never rises above, at least 1.
      nonfinite: is a NaN or infinite divergence, which a policy gives that is broken, to "cut" as
        one that is too large, or to be "ignore"d? None is ever stored.
      metric: the name it listens to: `observe(opt_state, kl=...)`, `tx.update(..., kl=...)`.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), 1 at first.

    Raises:
      ValueError: an argument is out of its range, named with its value.

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
      Schulman et al., Proximal Policy Optimization Algorithms, 2017, section 4, which adapts a
      penalty so; the rate instead: `rsl_rl`'s schedule "adaptive", whose band, factors and bounds
      (1e-5 and 1e-2 around 1e-3) these are, and `skrl`'s `KLAdaptiveLR`, which raises at zero too.
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
        # A state restored under other bounds is held to these.
        return jnp.clip(state.scale, real(self.min_scale), real(self.max_scale))

    def react(self, state: KLAdaptiveState, seen: Observation, t: jax.Array) -> KLAdaptiveState:
        scale, kl = self.value(state, t), seen.value
        target, tolerance = real(self.target), jnp.maximum(real(self.tolerance), 1)
        far = seen.broken | (seen.heard & (kl > target * tolerance))
        # A divergence of zero, or below by rounding, is that of a policy that has not moved yet.
        near = ~far & seen.heard & (kl > 0) & (kl < target / tolerance)
        lower = jnp.maximum(scale / jnp.maximum(real(self.down), 1), real(self.min_scale))
        higher = jnp.minimum(scale * jnp.maximum(real(self.up), 1), real(self.max_scale))
        return state._replace(
            scale=jnp.where(far, lower, jnp.where(near, higher, scale)),
            cuts=counted(state.cuts, far & (lower < scale)),
            raises=counted(state.raises, near & (higher > scale)),
        )


kl_adaptive = factory(KlAdaptive)
