"""Keep best: stores a copy of the parameters with the best metric."""

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

    mailbox: Mailbox  # observations since the last update
    best: jax.Array  # float: the best metric; not meaningful while `judged` is 0
    judged: jax.Array  # int32: metrics compared so far
    params: optax.Params  # the parameters with the best metric; initially those of `init`
    restores: jax.Array  # int32: how often the parameters were restored
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
    """Keeps a copy of the parameters with the best metric inside the optimizer state.

        better: metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)

    The next update reads the metric. The metric belongs to the parameters that you pass to that
    update. It is the mean of the values observed since the last update and of the value passed to
    this update. `best_params(opt_state)` returns the best parameters.

    To judge the last metric of a run, make one more update, for example with zero gradients. This
    update also delivers the metric to the rules in `tx`. So use the state after this extra update
    only for `best_params`, and read `events` and `hyperparams` from the state before it.

    With `backtrack`, an update in which a rule in `tx` cuts the learning rate also restores the
    best parameters, so training continues from there with a lower rate. The moments of `tx` are
    kept. The parameters are restored by adding an update; the result can differ from the copy by
    float rounding. An update cannot restore parameters that are not finite; use `skip_spikes` to
    keep them finite.

    The state holds one extra copy of the parameters. Every update selects between that copy and the
    current parameters, even if the metric has not improved. Each update therefore reads and writes
    about as much memory as the parameters take.

    Args:
      tx: any optimizer.
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`.
      mode: "min" if lower is better, "max" if higher is better.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      backtrack: whether to restore the best parameters when the learning rate is cut.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A transform that needs the parameters. `events(opt_state)["restores"]` counts the restores.

    Raises:
      ValueError: `tx` is not a transform; with `backtrack`, it has no rule that cuts a rate, or it
        contains `optax.contrib.schedule_free`, whose average cannot be restored; an argument is out
        of its range; or an update has no parameters.

    Example:
      >>> tx = keep_best(optax.sgd(0.1))
      >>> params = jnp.ones(1)
      >>> state = tx.init(params)
      >>> for loss in (0.5, 0.4, 0.9):
      ...     updates, state = tx.update(jnp.ones(1), state, params, value=loss)
      ...     params = optax.apply_updates(params, updates)
      >>> print(np.asarray(params).round(3), best_params(state))
      [0.7] [0.9]

    References:
      `restore_best_weights` and `BackupAndRestore` of Keras; here inside the compiled step.
    """
    call = "keep_best"
    inner = with_extra_args(require_transform(call, tx))
    names = listening(call, metric, axis_name)
    one_of(call, "mode", mode, MODES)
    relative = within(call, "rtol", rtol, NOT_NEGATIVE)
    absolute = within(call, "atol", atol, NOT_NEGATIVE)
    better = functools.partial(beyond, mode=mode, rtol=relative, atol=absolute)
    goes_back = flag(call, "backtrack", backtrack)

    def init(params: optax.Params) -> KeepBestState:
        inner_state = inner.init(params)
        if goes_back:
            require_own_steps("keep_best(backtrack=True)", inner_state)
        require(
            not goes_back or "cuts" in counts(unpacked(inner_state)),
            "`keep_best(backtrack=True)` restores when the rate is cut, but nothing in `tx` cuts "
            "it. Multiply the schedule by a rule, such as `reduce_on_plateau()`.",
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
    """Return the state with these parameters, if the metric is the best so far."""
    now = seen.heard & ((state.judged == 0) | better(seen.value, state.best))
    return state._replace(
        best=jnp.where(now, seen.value, state.best),
        judged=counted(state.judged, seen.heard),
        params=chosen(now, params, state.params),
    )


def _is_back(state: KeepBestState, inner_state: Any, params: optax.Params) -> jax.Array:
    """Return whether the rate was cut in this update and there are parameters to restore."""
    cut = counts(unpacked(inner_state))["cuts"] > counts(unpacked(state.inner_state))["cuts"]
    # Without a best yet, there is nothing to restore. An update cannot repair non-finite values.
    return cut & (state.judged > 0) & jnp.isfinite(norm(params))


def _way(here: jax.Array, there: jax.Array, update: jax.Array) -> jax.Array:
    """Return the update that leads from one array to another."""
    return (wide(there) - wide(here)).astype(update.dtype)
