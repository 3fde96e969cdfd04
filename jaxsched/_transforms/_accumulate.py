"""Gradient accumulation: averages the gradients of a scheduled number of batches per step."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._require import AT_LEAST_ONE, within
from jaxsched._core._trees import found, replaced, rewritten, unpacked
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Mail
from jaxsched._rules._memory import chosen
from jaxsched._schedules._schedule import AnySchedule, as_schedule
from jaxsched._schedules._unbounded import constant
from jaxsched._transforms._checks import require_transform
from jaxsched._transforms._scheduled import CLOCKS, leading


def accumulate(
    tx: optax.GradientTransformation, multiplier: ArrayLike | AnySchedule
) -> optax.GradientTransformationExtraArgs:
    """Averages the gradients of several batches before each optimizer step.

        step n takes max(1, round(multiplier(n))) batches

    It works like `optax.MultiSteps`, with any schedule for the number of batches, such as the
    multiplier that `seesaw` returns. The train step processes one batch, so a change of the number
    of batches triggers no recompilation. The transforms in `tx` count optimizer steps, and the
    multiplier follows their step counter. So if `set_step` moves the learning rate, the number of
    batches moves with it. If `tx` has no step counter, the count of `MultiSteps` is used.

    If a metric is passed to `update` with each batch, `tx` receives its mean over the batches of a
    step.

    A NaN stays in the accumulated mean. To drop such batches first, use
    `skip_spikes(accumulate(...))`.

    Args:
      tx: any optimizer.
      multiplier: number of batches per step: a number, a schedule, or any function of the step.

    Returns:
      A transform. Its updates are zero until all batches of a step have arrived.

    Raises:
      ValueError: `tx` is not a transform, or `multiplier` is neither a number of at least 1, nor a
        schedule, nor a function of the step.

    Example:
      >>> tx = accumulate(optax.sgd(1.0), piecewise_constant([1, 2], [1]))
      >>> state = tx.init(jnp.zeros(1))
      >>> for gradient in (1.0, 2.0, 4.0, 6.0, 8.0):
      ...     updates, state = tx.update(jnp.full(1, gradient), state)
      ...     print(abs(updates))
      [1.]
      [0.]
      [3.]
      [0.]
      [7.]

    References:
      `optax.MultiSteps`.
    """
    call = "accumulate"
    tx = require_transform(call, tx)
    if callable(multiplier):
        many = as_schedule(call, multiplier)
    else:
        many = constant(within(call, "multiplier", multiplier, AT_LEAST_ONE))

    def batches(state: optax.MultiStepsState) -> jax.Array:
        # After `set_step`, more batches may be accumulated than the multiplier asks for.
        least = _clock.read(state.mini_step) + 1
        return jnp.maximum(_clock.read(jnp.rint(many(_step(state)))), least)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.MultiStepsState]:
        count = batches(state)
        stepped = optax.MultiSteps(tx, lambda _: count)  # pyright: ignore[reportArgumentType]
        # For the last batch of a step, `MultiSteps` itself passes the metrics on to `tx`.
        waits = _clock.read(state.mini_step) + 1 < count
        inner = _posted(state.inner_opt_state, extra_args, waits)
        # `MultiSteps` adds booleans to integers.
        with jax.numpy_dtype_promotion("standard"):
            state = state._replace(inner_opt_state=inner)
            return stepped.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(optax.MultiSteps(tx, 1).init, update)


def _posted(state: optax.OptState, metrics: dict[str, Any], when: jax.Array) -> optax.OptState:
    """Return the state with these metrics in its mailboxes where `when` holds."""

    def post(path: Any, mail: Mail) -> Mail:
        name = path[-1].key
        metric = metrics.get(name)
        return mail if metric is None else chosen(when, _mailbox.add(name, mail, metric), mail)

    return rewritten(state, lambda tree: replaced(Mail, tree, post))


def _step(state: optax.MultiStepsState) -> jax.Array:
    """Return the step counter in it, or if it has none, the count of `MultiSteps`."""
    clocks = (clock for _, clock in found(CLOCKS, unpacked(state.inner_opt_state)))
    return functools.reduce(jnp.maximum, leading(clocks) or [jnp.asarray(state.gradient_step)])
