"""Skip spikes: a step whose loss or gradient is far from all the latest ones is not made.

Both ways are computed and one is chosen: nothing waits for the host, and nothing branches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import counted, ticked
from jaxsched._core._numerics import norm, once
from jaxsched._core._require import flag, positive, static_length
from jaxsched._core._trees import replaced, rewritten
from jaxsched._rules import _mailbox, _ring
from jaxsched._rules._mailbox import Mail, Mailbox
from jaxsched._rules._memory import chosen
from jaxsched._rules._ring import Ring
from jaxsched._rules._rule import GRADIENT_NORM, OWN_NORM, Axis, heard, listening
from jaxsched._rules._spikes import first_of, is_spike
from jaxsched._transforms._checks import require_state, require_transform
from jaxsched._transforms._scheduled import ScheduledState, with_extra_args
from jaxsched._transforms._transform import everywhere, transform


class SkipSpikesState(NamedTuple):
    """The state of `skip_spikes`."""

    mailbox: Mailbox  # what was observed since the last update
    window: Ring  # the latest values, the spikes among them
    skipped: jax.Array  # bool: was the last step skipped?
    skips: jax.Array  # int32: how many were
    inner_state: optax.OptState


def skip_spikes(
    tx: optax.GradientTransformation,
    *,
    metric: str = GRADIENT_NORM,
    sigmas: ArrayLike = 6.0,
    window_size: int = 128,
    min_observations: ArrayLike | None = None,
    advance_on_skip: bool = True,
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that leaves out a step whose loss or gradient norm is a spike.

        spike: value > mean + sigmas * std     of the last `window_size` values, this one not among
                                               them; or the value or a gradient is NaN or infinite

    In a step that is left out the updates are zero and the state of `tx` stays as it is: moments,
    mail and factors. What was given to this very update, `tx.update(..., value=loss)`, `tx` never
    hears; what was observed before waits for the next step, as a validation should. A spike counts
    among the later values, so that a lasting change of level is accepted in the end; what is not
    finite never does. To guard loss and gradients, guard twice. `snapshot` stands outside,
    or misses a cycle whose last step is left out.

    Args:
      tx: any optimizer.
      metric: what is watched: `"gradient_norm"` of the gradients that come in, or the name of a
        metric, as in `observe(opt_state, value=loss)` and `tx.update(..., value=loss)`. An update
        without it is judged by whether its gradients are finite.
      sigmas: how many standard deviations are too far, positive.
      window_size: how many values are remembered, at least 2.
      min_observations: how many must be remembered before one can be a spike, from 2 to
        `window_size`; None: half of it.
      advance_on_skip: do the clocks of this package in `tx` tick in a step that is left out? If
        not, the schedule is as much later as there were skips. Adam's own count never does.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`: all
        devices skip, or none.

    Returns:
      A transform; `events(opt_state)["skips"]` counts. Its state has `window_size` numbers more.

    Raises:
      ValueError: `tx` is no transform, or an argument is out of its range.

    Example:
      >>> tx = skip_spikes(optax.sgd(1.0), min_observations=2)
      >>> state = tx.init(jnp.ones(1))
      >>> for gradient in (1.0, 1.1, 0.9, 99.0, jnp.nan, 1.0):
      ...     updates, state = tx.update(jnp.full(1, gradient), state)
      ...     print(updates, events(state)["skips"])
      [-1.] 0
      [-1.1] 0
      [-0.9] 0
      [0.] 1
      [0.] 2
      [-1.] 2

    References:
      OLMo-core's and Levanter's skip-step, whose numbers these are.
    """
    call = "skip_spikes"
    inner = with_extra_args(require_transform(call, tx))
    names = listening(call, metric, axis_name)
    limit = positive(call, sigmas=sigmas)
    size = static_length(call, window_size=window_size, least=2)
    first = first_of(call, min_observations, size)
    advances = flag(call, advance_on_skip=advance_on_skip)

    def init(params: optax.Params) -> SkipSpikesState:
        return SkipSpikesState(
            mailbox=_mailbox.empty(metric),
            window=_ring.empty(size),
            skipped=jnp.zeros((), bool),
            skips=jnp.zeros((), jnp.int32),
            inner_state=inner.init(params),
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, SkipSpikesState]:
        require_state(call, state, SkipSpikesState, metric)
        _ring.require_size(state.window, call, "window_size", size)
        # Without the barrier of `with_norm`: XLA shares this sum with a clip inside `tx`.
        length = norm(updates)
        mailbox = heard(state.mailbox, metric, {**extra_args, OWN_NORM: length})
        seen = _mailbox.read(mailbox, **names)
        spike = seen.heard & is_spike(state.window, seen.value, limit, first)
        skip = once(spike | seen.broken | _any(~jnp.isfinite(length), axis_name))
        new, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        frozen = _frozen(state.inner_state, axis_name, advances)
        return jax.tree.map(lambda u: jnp.where(skip, jnp.zeros_like(u), u), new), SkipSpikesState(
            mailbox=_mailbox.emptied(mailbox, axis_name),
            window=_ring.append(state.window, seen.value, seen.heard),
            skipped=skip,
            skips=counted(state.skips, skip),
            inner_state=chosen(skip, frozen, inner_state),
        )

    return transform(init, update, axis_name)


def _any(condition: jax.Array, axis_name: Axis) -> jax.Array:
    """Does it hold on any device?"""
    if axis_name is None:
        return condition
    return jax.lax.psum(condition.astype(jnp.int32), axis_name) > 0


def _frozen(state: optax.OptState, axis_name: Axis, advances: bool) -> optax.OptState:
    """The state after a step that is left out."""

    def frozen(tree: Any) -> Any:
        # This step reads no mail, so the mail that waits must be the same on every device.
        tree = replaced(Mail, tree, lambda _, mail: _mailbox.agreed(mail, axis_name))
        return _ticked(tree) if advances else tree

    return everywhere(rewritten(state, frozen), axis_name)


def _ticked(state: optax.OptState) -> optax.OptState:
    """The state with its clocks one step later, and nothing else."""

    def tick(_: Any, clock: ScheduledState) -> ScheduledState:
        return clock._replace(count=ticked(clock.count))

    def later(x: Any) -> Any:
        # What is in `MultiSteps` is at the next step when that has all its gradients.
        return x if isinstance(x, optax.MultiStepsState) else replaced(ScheduledState, x, tick)

    kinds = (optax.MultiStepsState, ScheduledState)
    return jax.tree.map(later, state, is_leaf=lambda x: isinstance(x, kinds))
