"""Skip spikes: skips a step whose loss or gradient norm is far above the latest values.

Both outcomes are computed and one is selected, so the program neither waits for the host nor
branches.
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
from jaxsched._transforms._scheduled import CLOCKS, ScheduledState, StepCounter, with_extra_args
from jaxsched._transforms._transform import everywhere, transform


class SkipSpikesState(NamedTuple):
    """The state of `skip_spikes`."""

    mailbox: Mailbox  # observations since the last update
    window: Ring  # the latest values, spikes included
    skipped: jax.Array  # bool: whether the last step was skipped
    skips: jax.Array  # int32: how many steps were skipped
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
    """Skips optimizer steps whose gradient norm or loss is a spike.

        spike: value > mean + sigmas * std     of the last `window_size` values, without this one;
                                               or the value or a gradient is NaN or infinite

    In a skipped step the updates are zero. By default, only the step counter changes in the state
    of `tx`. Moments, waiting metrics and the states of rules do not change. `tx` does not see
    metrics passed to the skipped update, as in `tx.update(..., value=loss)`. Metrics observed
    earlier wait for the next step. Finite spikes enter the window, so that a lasting change of
    level is accepted in the end. Values that are not finite never enter it. To guard both the loss
    and the gradients, wrap twice. Put `snapshot` outside this wrapper; otherwise it misses a cycle
    whose last step is skipped.

    Args:
      tx: any optimizer.
      metric: the metric to watch: `"gradient_norm"` of the incoming gradients, or a metric name, as
        in `observe(opt_state, value=loss)` and `tx.update(..., value=loss)`. If an update has no
        such metric, it is skipped only if its gradients are not finite.
      sigmas: standard deviations above the mean at which a value is a spike, positive.
      window_size: number of latest values to store, at least 2.
      min_observations: number of stored values before one can be a spike, from 2 to `window_size`.
        None: half of `window_size`.
      advance_on_skip: whether jaxsched's step counters inside `tx` advance in a skipped step. If
        False, the schedule is delayed by the number of skips. Adam's own count never advances.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`. All
        devices skip a step, or none does.

    Returns:
      A transform with `window_size` additional numbers in its state. `events(opt_state)["skips"]`
      counts the skipped steps.

    Raises:
      ValueError: `tx` is not a transform, or an argument is out of its range.

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
      The skip-step optimizers of OLMo-core and Levanter, which have the same defaults.
    """
    call = "skip_spikes"
    inner = with_extra_args(require_transform(call, tx))
    names = listening(call, metric, axis_name)
    limit = positive(call, "sigmas", sigmas)
    size = static_length(call, "window_size", window_size, least=2)
    first = first_of(call, min_observations, size)
    advances = flag(call, "advance_on_skip", advance_on_skip)

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
    """Return whether the condition holds on any device."""
    if axis_name is None:
        return condition
    return jax.lax.psum(condition.astype(jnp.int32), axis_name) > 0


def _frozen(state: optax.OptState, axis_name: Axis, advances: bool) -> optax.OptState:
    """Return the state after a skipped step."""

    def frozen(tree: Any) -> Any:
        # A skipped step reads no metrics, so those that wait must be made equal on all devices.
        tree = replaced(Mail, tree, lambda _, mail: _mailbox.agreed(mail, axis_name))
        return _ticked(tree) if advances else tree

    return everywhere(rewritten(state, frozen), axis_name)


def _ticked(state: optax.OptState) -> optax.OptState:
    """Return the state with its step counters advanced by one, and nothing else changed."""

    def tick(_: Any, clock: ScheduledState | StepCounter) -> ScheduledState | StepCounter:
        return clock._replace(count=ticked(clock.count))

    def later(x: Any) -> Any:
        # Counters inside `MultiSteps` advance only when it has all gradients of a step.
        return x if isinstance(x, optax.MultiStepsState) else replaced(CLOCKS, x, tick)

    kinds = (optax.MultiStepsState, *CLOCKS)
    return jax.tree.map(later, state, is_leaf=lambda x: isinstance(x, kinds))
