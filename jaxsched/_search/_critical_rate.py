"""The critical rate of the first step, at which a warmup can begin.

A linear warmup from zero spends its first steps on rates that would do no harm at once. The rate
from which a step raises the loss tells how many of them can be left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._numerics import real, wide
from jaxsched._core._require import positive, refuse, require
from jaxsched._search._range_test._steps import require_floats, require_optimizer, scalar_of

_HALVINGS = 12  # of a factor of 2: to 1 part in 4096
_ROUNDING = 32  # units in the last place of the loss that are no rise
_CALL = "critical_rate"


def critical_rate(
    function: Callable[..., Any],
    params: Any,
    batch: Any,
    optimizer: Callable[..., optax.GradientTransformation] = optax.sgd,
    *,
    low: ArrayLike = 1e-8,
    high: ArrayLike = 1e4,
) -> jax.Array:
    """Returns the learning rate above which the first step raises the loss.

        loss(params + rate * update) > loss(params)

    `update` is the first update of the optimizer at a rate of 1, from the gradient of the same
    batch. The rate is doubled, starting at `low`, until the loss rises. Then twelve bisections
    narrow down the rate between the last two. So it takes one gradient and about 40 losses. A rise
    by rounding does not count.

    Args:
      function: `loss(params, batch)`, which returns a scalar or a tuple that begins with one.
      params: parameters, usually the initial ones.
      batch: a batch, as large as one of training or larger.
      optimizer: function that makes the optimizer from a learning rate.
      low: first rate to try, positive.
      high: rate at which to stop, above `low`.

    Returns:
      The rate, float32 (float64 under x64); `low` if the loss rises there already, and infinity if
      it rises nowhere below `high`. A loss that is not finite counts as raised.

    Raises:
      ValueError: `low` is not positive or not below `high`; a parameter is not a float;
        `optimizer` needs more than a learning rate; or, outside `jit`, the loss is not finite
        before the step.

    Example:
      >>> def loss(x, batch):
      ...     return 2 * jnp.sum((x - batch) ** 2)  # of curvature 4: from 2 / 4 on, it rises
      >>> rate = critical_rate(loss, jnp.ones(3), jnp.zeros(3))
      >>> print(f"{rate:.3f}")
      0.500
      >>> peak, warmup_steps = 2.0, 1000  # a warmup from 0 that need not begin there
      >>> linear(0.5, peak, round(warmup_steps * (1 - 0.5 / peak)))
      linear(0.5, 2.0, 750)

    References:
      Kalra and Barkeshli, 2024, https://arxiv.org/abs/2406.09405, section 6 (the critical rate as
      the first rate of a warmup).
    """
    least, most = positive(_CALL, "low", low), positive(_CALL, "high", high)
    require(least < most, refuse(_CALL, "high", "be above low", high))
    require_floats(params, _CALL, "Pass the parameters alone.")
    require_optimizer(optimizer, "learning_rate", _CALL)
    loss = functools.partial(scalar_of(function, _CALL), batch=batch)
    tx = optax.with_extra_args_support(optimizer(learning_rate=1.0))
    before, gradients = jax.value_and_grad(loss)(params)
    require(jnp.isfinite(before), f"`{_CALL}`: the loss is {before} before the first step.")
    update = tx.update(gradients, tx.init(params), params, value=before, grad=gradients)[0]
    # At a tiny rate the loss changes by rounding alone.
    highest = before + _ROUNDING * jnp.finfo(before.dtype).eps * jnp.abs(before)

    def rises(rate: jax.Array) -> jax.Array:
        def moved(x: Any, u: Any) -> jax.Array:
            return (wide(x) + rate.astype(wide(x).dtype) * wide(u)).astype(jnp.result_type(x))

        after = loss(jax.tree.map(moved, params, update))
        return ~((after <= highest) & jnp.isfinite(after))

    def doubled(around: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return around[1], jnp.minimum(2 * around[1], real(most))

    def halved(_: Any, around: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        below, above = around
        middle = jnp.sqrt(below * above)
        high = rises(middle)
        return jnp.where(high, below, middle), jnp.where(high, middle, above)

    def goes_on(around: tuple[jax.Array, jax.Array]) -> jax.Array:
        return ~rises(around[1]) & (around[1] < real(most))

    first = jax.lax.while_loop(goes_on, doubled, (real(least), real(least)))
    _, found = jax.lax.fori_loop(0, _HALVINGS, halved, first)
    return jnp.where(rises(first[1]), found, jnp.inf)
