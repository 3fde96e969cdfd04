"""Accumulation: the gradients of as many batches as a schedule says, averaged for each step."""

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
from jaxsched._schedules._decays import constant
from jaxsched._schedules._schedule import AnySchedule, as_schedule
from jaxsched._transforms._checks import require_transform
from jaxsched._transforms._scheduled import ScheduledState


def accumulate(
    tx: optax.GradientTransformation, multiplier: ArrayLike | AnySchedule
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that averages the gradients of so many batches before each of its steps.

        step n takes max(1, round(multiplier(n))) batches

    It is `optax.MultiSteps` by a schedule of optimizer steps, such as `seesaw` gives. The train
    step is of one batch, the same however many are averaged: nothing is compiled again. What is in
    `tx` counts optimizer steps, and its clock is that of the multiplier: where `set_step` moves the
    rate, the batch goes with it. Without a clock in `tx`, it is the count of `MultiSteps`.

    A metric that is given to `update` with each batch is heard as the mean over the batches of a
    step.

    A NaN stays in the mean for ever: leave such batches out before, by
    `skip_spikes(accumulate(...))`.

    Args:
      tx: any optimizer.
      multiplier: how many batches: a number, or a schedule.

    Returns:
      A transform, whose updates are zero until all batches of a step are in.

    Raises:
      ValueError: `tx` is no transform, or `multiplier` is no number of at least 1, nor a schedule.

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
        many = constant(within(call, AT_LEAST_ONE, multiplier=multiplier))

    def batches(state: optax.MultiStepsState) -> jax.Array:
        # Of a clock that was moved, the batches may be fewer than there are already.
        least = _clock.read(state.mini_step) + 1
        return jnp.maximum(_clock.read(jnp.rint(many(_step(state)))), least)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.MultiStepsState]:
        count = batches(state)
        stepped = optax.MultiSteps(tx, lambda _: count)  # pyright: ignore[reportArgumentType]
        # The last batch of a step hands its metrics on to `tx`, which no other does.
        waits = _clock.read(state.mini_step) + 1 < count
        inner = _posted(state.inner_opt_state, extra_args, waits)
        # It adds booleans to integers.
        with jax.numpy_dtype_promotion("standard"):
            state = state._replace(inner_opt_state=inner)
            return stepped.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(optax.MultiSteps(tx, 1).init, update)


def _posted(state: optax.OptState, metrics: dict[str, Any], when: jax.Array) -> optax.OptState:
    """The state of an optimizer with these metrics in its mailboxes, if they are to wait there."""

    def post(path: Any, mail: Mail) -> Mail:
        name = path[-1].key
        metric = metrics.get(name)
        return mail if metric is None else chosen(when, _mailbox.add(name, mail, metric), mail)

    return rewritten(state, lambda tree: replaced(Mail, tree, post))


def _step(state: optax.MultiStepsState) -> jax.Array:
    """The step of the clocks in it, or where there are none, its own."""
    counts = [clock.count for _, clock in found(ScheduledState, unpacked(state.inner_opt_state))]
    return functools.reduce(jnp.maximum, counts or [jnp.asarray(state.gradient_step)])
