"""The gradient norm as a metric for rules that come after a preconditioner."""

from __future__ import annotations

from typing import Any

import optax

from jaxsched._core._numerics import norm, with_norm
from jaxsched._core._require import flag
from jaxsched._rules._rule import GRADIENT_NORM
from jaxsched._transforms._checks import require_transform
from jaxsched._transforms._scheduled import with_extra_args


def with_gradient_norm(
    tx: optax.GradientTransformation, *, clips: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Passes the norm of the incoming gradients to the rules of an optimizer.

        tx.update(updates, state, params, gradient_norm=norm(updates))

    A rule with `metric="gradient_norm"` receives the norm of the updates that reach its own
    transform. Inside `inject(optax.adam, ...)` and `wrap(optax.adam(...), ...)` these updates are
    the gradients. In a chain they are the output of the previous links, and behind Adam their norm
    is not informative. `scale_by_learning_rate`, `scale_by_plateau` and `per_group` usually come
    last in a chain. In these three, a rule never uses the norm of the updates; without
    `gradient_norm` they raise an error. In `scale_by_schedule`, which can come anywhere in a chain,
    a rule uses the norm of the updates. This function wraps the whole chain: it computes the norm
    of the gradients once and passes it to every link.

    Args:
      tx: any optimizer, such as an `optax.chain(...)`.
      clips: whether `tx` begins with `optax.clip_by_global_norm`. If True, XLA computes the norm
        once for both. The values are the same either way; only the time differs.

    Returns:
      A transform with the state of `tx`. A `gradient_norm` passed to `update` is used instead.

    Raises:
      ValueError: `tx` is not a transform, or `clips` is not a bool.

    Example:
      >>> rate = 0.1 * spike_guard(metric="gradient_norm")
      >>> tx = with_gradient_norm(optax.chain(optax.scale_by_rms(), scale_by_learning_rate(rate)))
      >>> updates, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
      >>> print(factors(state)["learning_rate"][0].window.values[0])
      1.4142135
    """
    call = "with_gradient_norm"
    inner, shared = with_extra_args(require_transform(call, tx)), flag(call, "clips", clips)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        given = extra_args.pop(GRADIENT_NORM, None)
        if given is None:
            updates, given = (updates, norm(updates)) if shared else with_norm(updates)
        return inner.update(updates, state, params, **{**extra_args, GRADIENT_NORM: given})

    return optax.GradientTransformationExtraArgs(inner.init, update)
