"""Hypergradient: raises the learning rate while consecutive gradients agree, else lowers it.

The derivative of the loss with respect to the last learning rate is minus the product of the new
gradient with the direction of the last step. The rule descends along this derivative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, number_field
from jaxsched._core._numerics import dot, real
from jaxsched._core._packed import LikeParams
from jaxsched._core._require import (
    NOT_NEGATIVE,
    POSITIVE,
    flag,
    refuse,
    require,
)
from jaxsched._rules._memory import chosen, initially
from jaxsched._rules._rule import Axis, Rule, agreed_over


class HypergradientState(NamedTuple):
    """The state of `hypergradient`."""

    scale: jax.Array  # float: the factor
    previous: LikeParams  # the previous gradient, in the dtypes of the parameters
    judged: jax.Array = initially(0)  # gradients seen so far


class Hypergradient(Rule):
    """Adapts the learning rate to the agreement of consecutive gradients; it needs no metric.

        scale = scale * exp(rate * cos(gradient, previous gradient))
        scale = scale + rate * (gradient, previous gradient)           with normalize=False

    The rule uses the gradients that reach its transform. In `inject(optax.adam,
    learning_rate=...)` and `wrap(tx, ...)` these are the raw gradients, as they should be. Behind a
    preconditioner with momentum, as in `chain(scale_by_adam(), scale_by_learning_rate(...))`,
    consecutive updates always agree, and the learning rate only rises.

    The state holds one copy of the gradients, which takes as much memory as the parameters. A
    gradient is ignored if it contains a NaN or an infinity, or if its product with the previous
    gradient overflows.

    Args:
      rate: step size for the scale, not negative. With `normalize` it is the largest relative
        change per update. Without `normalize`, the unit of `rate` is that of 1 / gradient**2.
      normalize: whether to use the cosine (True) or the product itself (False).
      init_value: initial scale, positive, between the bounds.
      min_scale: lower limit of the scale, not negative.
      max_scale: upper limit of the scale, positive.
      axis_name: mapped axis over which the products are averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64).

    Raises:
      ValueError: an argument is out of its range, or an update has no gradients.

    Example:
      >>> tx = inject(optax.sgd, learning_rate=0.1 * hypergradient(0.5))
      >>> params = jnp.ones(2)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(2 * params, state)  # the gradient of sum(params**2)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f"{hyperparams(state)['learning_rate']:.4f} {params[0]:.4f}")
      0.1000 0.8000
      0.1649 0.5362
      0.2718 0.2447

    References:
      Baydin et al., 2018, https://arxiv.org/abs/1703.04782, section 3: the additive rule for
      plain descent, and the multiplicative rule. Here the multiplicative rule uses exp, so that the
      cosines c and -c cancel exactly.
    """

    rate: ArrayLike = number_field(default=0.02, within=NOT_NEGATIVE, kw_only=False)
    normalize: bool = choice_field(default=True, check=flag)
    init_value: ArrayLike = number_field(default=1.0, within=POSITIVE)
    min_scale: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    max_scale: ArrayLike = number_field(default=10.0, within=POSITIVE)
    axis_name: Axis = choice_field(default=None, check=agreed_over)

    def _check(self, call: str) -> None:
        low: Any = self.min_scale
        high: Any = self.max_scale
        start: Any = self.init_value
        require(low <= high, refuse(call, "max_scale", f"be at least min_scale={low!r}", high))
        inside = (start >= low) & (start <= high)
        require(inside, refuse(call, "init_value", "be between the bounds", start))

    def start(self, params: Any) -> HypergradientState:
        return HypergradientState(
            scale=real(self.init_value),
            previous=LikeParams(jax.tree.map(_nothing, params)),
        )

    def react(
        self, state: HypergradientState, seen: dict[str, Any], t: jax.Array
    ) -> HypergradientState:
        gradient = seen.get("updates")
        if gradient is None or state.previous.tree is None:
            raise ValueError(
                f"`{self}` compares gradients, but the update has none. Use the rule in an "
                "optimizer, `inject(optax.sgd, learning_rate=...)` or `wrap(tx, ...)`, not alone."
            )
        alignment, usable = self._alignment(gradient, state.previous.tree)
        moved = self._moved(self.value(state, state.judged), alignment)
        new = HypergradientState(
            scale=jnp.where(state.judged > 0, moved, state.scale),
            previous=LikeParams(jax.tree.map(_as_before, gradient, state.previous.tree)),
            judged=counted(state.judged, usable),
        )
        return chosen(usable, new, state)

    def _alignment(self, a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
        """Return the product or the cosine of two gradients, and whether it is finite."""
        sums = jnp.stack([dot(a, b), dot(a, a), dot(b, b)])
        if self.axis_name is not None:
            # A ratio of sums is the same whether the devices hold shards or copies.
            reduced = jax.lax.psum if self.normalize else jax.lax.pmean
            sums = reduced(sums, self.axis_name)
        product, ours, theirs = sums
        usable = jnp.isfinite(product) & jnp.isfinite(ours)
        both = (ours > 0) & (theirs > 0)
        norms = jnp.sqrt(jnp.where(both, ours, 1)) * jnp.sqrt(jnp.where(both, theirs, 1))
        cosine = jnp.clip(jnp.where(both, product, 0) / norms, -1, 1)
        alignment = cosine if self.normalize else product
        return jnp.where(usable, alignment, 0), usable

    def _moved(self, scale: jax.Array, alignment: jax.Array) -> jax.Array:
        by = real(self.rate) * alignment
        new = scale * jnp.exp(by) if self.normalize else scale + by
        return jnp.clip(new, real(self.min_scale), real(self.max_scale))

    def value(self, state: HypergradientState, t: jax.Array) -> jax.Array:
        # A state that was restored under other bounds is clipped to the new bounds.
        return jnp.clip(state.scale, real(self.min_scale), real(self.max_scale))


hypergradient = factory(Hypergradient)


def _nothing(x: Any) -> jax.Array:
    return jnp.zeros_like(x, jnp.result_type(x))


def _as_before(gradient: Any, previous: jax.Array) -> jax.Array:
    """Return a gradient in the dtype of the stored one, clipped to its largest float."""
    if jnp.issubdtype(previous.dtype, jnp.floating):
        largest = jnp.finfo(previous.dtype).max.astype(jnp.result_type(gradient))
        gradient = jnp.clip(gradient, -largest, largest)
    return jnp.asarray(gradient, previous.dtype)
