"""Keep the best: a copy of the parameters as they were when a metric was best."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._numerics import norm, real, wide
from jaxsched._core._require import NOT_NEGATIVE, flag, one_of, require, within
from jaxsched._core._trees import unpacked
from jaxsched._rules import _mailbox
from jaxsched._rules._better import MODES, beyond
from jaxsched._rules._events import counts
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._memory import chosen
from jaxsched._rules._rule import Axis, heard, listening
from jaxsched._transforms._checks import (
    require_own_steps,
    require_params,
    require_state,
    require_transform,
)
from jaxsched._transforms._scheduled import with_extra_args
from jaxsched._transforms._transform import transform


class KeepBestState(NamedTuple):
    """The state of `keep_best`."""

    mailbox: Mailbox  # what was observed since the last update
    best: jax.Array  # float: the best metric; means nothing while `judged` is 0
    judged: jax.Array  # int32: metrics compared so far
    params: optax.Params  # of when it was best; at first those of `init`
    restores: jax.Array  # int32: how often they were gone back to
    inner_state: optax.OptState

    BESIDE = ("params",)


def keep_best(
    tx: optax.GradientTransformation,
    *,
    metric: str = "value",
    mode: str = "min",
    rtol: ArrayLike = 0.0,
    atol: ArrayLike = 0.0,
    backtrack: bool = False,
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that remembers the parameters of which a metric was best.

        better: metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)

    The parameters that a metric is of are those that the update which sees it is given: the loss of
    this step's batch, or what was observed since the last update. So the last metric of a run is
    judged by one update more, of zero gradients say. `best_params(opt_state)` has the best ones.

    With `backtrack`, the update in which a rule in `tx` cuts its rate goes back to them: training
    continues lower from the best point so far. The moments of `tx` are kept. What comes back is
    added as an update, exact but for a rounding of the larger of the two; parameters that are not
    finite no update brings back: keep them from it by `skip_spikes`.

    The state holds one copy of the parameters, and every update selects between two of them: both
    cost memory traffic of about the size of the parameters, however seldom they get better.

    Args:
      tx: any optimizer.
      metric: the name it listens to: `observe(opt_state, value=...)`, `tx.update(..., value=...)`.
      mode: "min" if less is better, "max" if more is.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      backtrack: go back to the best parameters when the rate is cut?
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A transform, which needs the parameters; `events(opt_state)["restores"]` counts.

    Raises:
      ValueError: `tx` is no transform, or has no rule that cuts a rate where `backtrack` asks for
        one; or it is schedule-free, whose average cannot go back; an argument is out of its
        range; or an update has no parameters.

    Example:
      >>> tx = keep_best(optax.sgd(0.1))
      >>> params = jnp.ones(1)
      >>> state = tx.init(params)
      >>> for loss in (0.5, 0.4, 0.9):
      ...     updates, state = tx.update(jnp.ones(1), state, params, value=loss)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params, best_params(state))
      [0.7] [0.9]

    References:
      Keras' `restore_best_weights`, and its `BackupAndRestore`, inside the compiled step.
    """
    call = "keep_best"
    inner = with_extra_args(require_transform(call, tx))
    names = listening(call, metric, axis_name)
    one_of(call, MODES, mode=mode)
    relative = within(call, NOT_NEGATIVE, rtol=rtol)
    absolute = within(call, NOT_NEGATIVE, atol=atol)
    better = functools.partial(beyond, mode=mode, rtol=relative, atol=absolute)
    goes_back = flag(call, backtrack=backtrack)

    def init(params: optax.Params) -> KeepBestState:
        inner_state = inner.init(params)
        if goes_back:
            require_own_steps("keep_best(backtrack=True)", inner_state)
        require(
            not goes_back or "cuts" in counts(unpacked(inner_state)),
            "`keep_best(backtrack=True)` goes back when the rate is cut, and nothing in `tx` cuts "
            "it: multiply its schedule with `reduce_on_plateau()`, say.",
        )
        return KeepBestState(
            mailbox=_mailbox.empty(metric),
            best=real(0.0),
            judged=jnp.zeros((), jnp.int32),
            params=jax.tree.map(lambda x: jnp.array(x, jnp.result_type(x), copy=True), params),
            restores=jnp.zeros((), jnp.int32),
            inner_state=inner_state,
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, KeepBestState]:
        here = require_params(call, params)
        require_state(call, state, KeepBestState, metric)
        mailbox = heard(state.mailbox, metric, extra_args)
        seen = _mailbox.read(mailbox, **names)
        new, inner_state = inner.update(updates, state.inner_state, here, **extra_args)
        kept = _judged(state, seen, here, better)
        if goes_back:
            back = _is_back(state, inner_state, here)
            way = jax.tree.map(_way, here, kept.params, new)
            new, kept = chosen(back, way, new), kept._replace(restores=counted(kept.restores, back))
        return new, kept._replace(
            mailbox=_mailbox.emptied(mailbox, axis_name), inner_state=inner_state
        )

    return transform(init, update, axis_name)


def _judged(
    state: KeepBestState, seen: Observation, params: optax.Params, better: Callable[..., jax.Array]
) -> KeepBestState:
    """With these parameters, if the metric says that they are the best."""
    now = seen.heard & ((state.judged == 0) | better(seen.value, state.best))
    return state._replace(
        best=jnp.where(now, seen.value, state.best),
        judged=counted(state.judged, seen.heard),
        params=chosen(now, params, state.params),
    )


def _is_back(state: KeepBestState, inner_state: Any, params: optax.Params) -> jax.Array:
    """Was the rate cut in this update, and is there something to go back to?"""
    cut = counts(unpacked(inner_state))["cuts"] > counts(unpacked(state.inner_state))["cuts"]
    # Not before there is a best; nor can an update bring back what is not finite.
    return cut & (state.judged > 0) & jnp.isfinite(norm(params))


def _way(here: jax.Array, there: jax.Array, update: jax.Array) -> jax.Array:
    """The update from one array to another."""
    return (wide(there) - wide(here)).astype(update.dtype)
