"""Scaling of updates by a schedule, after the preconditioner, where a learning rate belongs.

Before Adam a factor would have no effect, because Adam divides it out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import optax

from jaxsched._core import _require
from jaxsched._rules._plateau import reduce_on_plateau
from jaxsched._transforms._checks import as_slot, require_own_steps, require_transform
from jaxsched._transforms._rates import behind, require_rate
from jaxsched._transforms._scheduled import AnyRate, Slot, Values, scheduled, times, with_extra_args

P = ParamSpec("P")
R = TypeVar("R")


def scale_by_schedule(
    schedule: AnyRate, *, name: str = "scale"
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates by a schedule.

        updates * schedule(count)

    A rule with `metric="gradient_norm"` receives the norm of the updates that arrive here. Behind
    other links these are not the gradients; see `with_gradient_norm`.

    Args:
      schedule: a float, a schedule, a stateful schedule, or any function of the step.
      name: name of the value in `hyperparams(opt_state)`.

    Returns:
      A transform. The product is computed in float32 or wider, and has the dtype of the update.

    Raises:
      ValueError: `schedule` is not a float, a schedule or a function.

    Example:
      >>> tx = optax.chain(optax.scale_by_adam(), scale_by_schedule(linear(-0.1, 0.0, 10)))
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'scale': Array(-0.1, dtype=float32)}

    References:
      `optax.scale_by_schedule`.
    """
    call = "scale_by_schedule"
    slot = as_slot(call, "schedule", schedule)
    return _scaled(optax.identity(), _require.word(call, "name", name), slot)


def scale_by_learning_rate(
    learning_rate: AnyRate, *, flip_sign: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates by a learning rate and negates them, usually last in a chain.

        -learning_rate(count) * updates

    Use it after a preconditioner such as `optax.scale_by_adam()`. A whole optimizer such as
    `optax.adam(1e-3)` already negates the updates. After it, this transform would negate them again
    and go uphill, just as `optax.scale_by_learning_rate` would. For a whole optimizer, use
    `wrap(optax.adam(1e-3), factor)`.

    Args:
      learning_rate: a float, a schedule, a stateful schedule, or any function of the step.
      flip_sign: whether to negate the updates.

    Returns:
      A transform whose `hyperparams` has "learning_rate". The product is computed in float32 or
      wider, and has the dtype of the update.

    Raises:
      ValueError: `learning_rate` is not a float, a schedule or a function; it is negative at its
        start or end; it is a rule without a learning rate to multiply; or an update has no
        `gradient_norm` although a rule listens to it, see `with_gradient_norm`.

    Example:
      >>> tx = optax.chain(
      ...     optax.scale_by_adam(),
      ...     scale_by_learning_rate(cosine(0.1, 0.0, 100) * reduce_on_plateau(patience=5)),
      ... )
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'learning_rate': Array(0.1, dtype=float32)}

    References:
      `optax.scale_by_learning_rate`.
    """
    call = "scale_by_learning_rate"
    sign = -1 if _require.flag(call, "flip_sign", flip_sign) else 1
    slot = as_slot(call, "learning_rate", learning_rate)
    if flip_sign:
        require_rate(call, "learning_rate", slot)
    return behind(call, _scaled(optax.identity(), "learning_rate", slot, sign), slot)


def _with_options_of(rule: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the signature of `rule`, for `help()` and type checkers."""

    def shown(function: Callable[..., R]) -> Callable[P, R]:
        options = [*inspect.signature(rule).parameters.values()]
        signature = inspect.signature(function).replace(parameters=options)
        function.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return shown


@_with_options_of(reduce_on_plateau)
def scale_by_plateau(**options: Any) -> optax.GradientTransformationExtraArgs:
    """Reduces the updates when a metric stops improving; placed after an optimizer in a chain.

        updates * reduce_on_plateau(**options)

    Args:
      **options: the arguments of `reduce_on_plateau`.

    Returns:
      A transform whose `hyperparams` has "scale". Pass the metric to `update(..., value=loss)`, or
      to `observe(opt_state, value=loss)`.

    Raises:
      ValueError: an option is out of its range.

    Example:
      >>> tx = optax.chain(optax.adam(1e-3), scale_by_plateau(patience=5))
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'scale': Array(1., dtype=float32)}

    References:
      `optax.contrib.reduce_on_plateau`, which takes the same place in a chain.
    """
    slot = reduce_on_plateau(**options)
    return behind("scale_by_plateau", scale_by_schedule(slot), slot)


def wrap(
    tx: optax.GradientTransformation, factor: AnyRate, *, name: str = "scale"
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates of a complete optimizer by a factor.

        factor(count) * tx's updates

    Args:
      tx: any optimizer, including its learning rate.
      factor: a float, a schedule, a stateful schedule, or any function of the step.
      name: name of the factor in `hyperparams(opt_state)`.

    Returns:
      A transform.

    Raises:
      ValueError: `tx` is not a transform; `factor` is not a float, a schedule or a function; or
        `tx` contains `optax.contrib.schedule_free`, whose average requires its own updates.

    Example:
      >>> tx = wrap(optax.adamw(1e-3), reduce_on_plateau(patience=5))
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'scale': Array(1., dtype=float32)}
    """
    inner = with_extra_args(require_transform("wrap", tx))

    def init(params: optax.Params) -> optax.OptState:
        state = inner.init(params)
        require_own_steps("wrap", state)
        return state

    tx = optax.GradientTransformationExtraArgs(init, inner.update)
    return _scaled(tx, _require.word("wrap", "name", name), as_slot("wrap", "factor", factor))


def _scaled(
    tx: optax.GradientTransformation, name: str, slot: Slot, sign: int = 1
) -> optax.GradientTransformationExtraArgs:
    inner = with_extra_args(tx)

    def make(values: Values) -> optax.GradientTransformationExtraArgs:
        def update(
            updates: optax.Updates, state: optax.OptState, params: Any = None, **extra_args: Any
        ) -> tuple[optax.Updates, optax.OptState]:
            updates, state = inner.update(updates, state, params, **extra_args)
            return jax.tree.map(lambda u: times(sign * values[name], u), updates), state

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return scheduled({name: slot}, make)
