"""Reduce on plateau: the rate is cut when a metric has stopped getting better.

    an observation is better if it is beyond the best so far by rtol * |best| + atol,
    bad if it is not, and every `patience` bad ones in a row cut the scale by `factor`.

The margin is taken from |best|, so that it lies on the right side of a negative metric too.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched import _clock
from jaxsched._clock import Length, held
from jaxsched._numerics import real
from jaxsched._require import Number, length, name, one_of, within
from jaxsched._schedule import node
from jaxsched._stateful import _mailbox
from jaxsched._stateful._mailbox import Mailbox, Observation
from jaxsched._stateful._protocol import Rule, chosen

MODES = ("min", "max")
POLICIES = ("ignore", "bad", "reduce")


class PlateauState(NamedTuple):
    """What `reduce_on_plateau` remembers. Every number is finite, whatever was observed."""

    mailbox: Mailbox  # what was observed since the last update
    scale: jax.Array  # float: the factor
    best: jax.Array  # float: the best metric; means nothing while `judged` is 0
    judged: jax.Array  # int32: metrics compared so far
    bad: jax.Array  # int32: bad ones in a row
    cooldown: jax.Array  # int32: metrics still to pass before a bad one counts
    window_total: jax.Array  # float: the sum of the observations not yet compared
    window_count: jax.Array  # int32: how many they are
    average: jax.Array  # float: moving average of the metric, still to be divided by its weight
    weight: jax.Array  # float: 1 - ema_decay**judged


def _number(default: Any) -> Any:
    return dataclasses.field(default=default, kw_only=True)


def _choice(default: Any) -> Any:
    return dataclasses.field(default=default, kw_only=True, metadata={"static": True})


@node
class ReduceOnPlateau(Rule):
    """scale, cut by `factor` after `patience` bad metrics in a row."""

    mode: str = _choice("min")
    factor: Number = _number(0.1)
    patience: Length = _number(10)
    rtol: Number = _number(1e-4)
    atol: Number = _number(0.0)
    cooldown: Length = _number(0)
    min_scale: Number = _number(0.0)
    start_after: Length = _number(0)
    accumulation_size: Length = _number(1)
    ema_decay: Number = _number(0.0)
    nonfinite: str = _choice("ignore")
    metric: str = _choice("value")
    axis_name: str | tuple[str, ...] | None = _choice(None)

    def _start(self) -> PlateauState:
        def zero() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return PlateauState(
            mailbox=_mailbox.empty(self.metric),
            scale=real(1.0),
            best=real(0.0),
            judged=zero(),
            bad=zero(),
            cooldown=zero(),
            window_total=real(0.0),
            window_count=zero(),
            average=real(0.0),
            weight=real(0.0),
        )

    def _hear(self, state: PlateauState, metrics: dict[str, Any]) -> PlateauState:
        return state._replace(mailbox=_mailbox.post(state.mailbox, metrics))

    def _value(self, state: PlateauState, t: jax.Array) -> jax.Array:
        return state.scale

    def _next(self, state: PlateauState, t: jax.Array) -> PlateauState:
        seen = _mailbox.read(state.mailbox, self.metric, self.axis_name)
        new = self._judge(self._collect(state, seen), state, seen)
        state = chosen(t >= _clock.read(self.start_after), new, state)
        return state._replace(mailbox=_mailbox.empty(self.metric))

    def _collect(self, state: PlateauState, seen: Observation) -> PlateauState:
        """With the observation in the window, and the window in the average once it is full."""
        total = state.window_total + jnp.where(seen.heard, seen.value, 0)
        count = state.window_count + seen.heard.astype(jnp.int32)
        # At least: a count restored from a larger window is full at once.
        full = seen.heard & (count >= _clock.read(self.accumulation_size))
        decay, mean = real(self.ema_decay), total / real(jnp.maximum(count, 1))
        return state._replace(
            judged=state.judged + full.astype(jnp.int32),
            window_total=jnp.where(full, 0, total),
            window_count=jnp.where(full, 0, count),
            average=jnp.where(full, decay * state.average + (1 - decay) * mean, state.average),
            weight=jnp.where(full, decay * state.weight + (1 - decay), state.weight),
        )

    def _judge(self, new: PlateauState, old: PlateauState, seen: Observation) -> PlateauState:
        judged = new.judged > old.judged
        metric = new.average / jnp.where(new.weight > 0, new.weight, 1)
        better = judged & ((old.judged == 0) | self._beyond(metric, old.best))
        broken = seen.broken & (self.nonfinite != "ignore")
        bad_one = (judged & ~better) | broken
        cooling = old.cooldown > 0
        bad = jnp.where(bad_one & ~cooling, old.bad + 1, jnp.where(judged | broken, 0, old.bad))
        # At least: a count restored above a lowered patience still cuts.
        cut = bad_one & (bad >= jnp.maximum(_clock.read(self.patience), 1))
        cut = (cut | (broken & (self.nonfinite == "reduce"))) & ~cooling
        lower = jnp.maximum(new.scale * real(self.factor), real(self.min_scale))
        passed = ((judged | broken) & cooling).astype(jnp.int32)
        return new._replace(
            scale=jnp.where(cut, lower, new.scale),
            best=jnp.where(better, metric, old.best),
            bad=jnp.where(cut, 0, bad),
            cooldown=jnp.where(cut, _clock.read(self.cooldown), old.cooldown - passed),
        )

    def _beyond(self, metric: jax.Array, best: jax.Array) -> jax.Array:
        margin = real(self.rtol) * jnp.abs(best) + real(self.atol)
        return metric < best - margin if self.mode == "min" else metric > best + margin


def reduce_on_plateau(
    *,
    mode: str = "min",
    factor: ArrayLike = 0.1,
    patience: ArrayLike = 10,
    rtol: ArrayLike = 1e-4,
    atol: ArrayLike = 0.0,
    cooldown: ArrayLike = 0,
    min_scale: ArrayLike = 0.0,
    start_after: ArrayLike = 0,
    accumulation_size: ArrayLike = 1,
    ema_decay: ArrayLike = 0.0,
    nonfinite: str = "ignore",
    metric: str = "value",
    axis_name: str | tuple[str, ...] | None = None,
) -> Rule:
    """A factor, cut when a metric has stopped getting better.

        better:  metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)
        bad   :  bad + 1, or 0 after a better one
        cut   :  scale = max(scale * factor, min_scale) when bad >= max(patience, 1)

    Patience counts observations, not updates: an update that saw no metric changes nothing. The cut
    acts in the very update that sees the metric. An absolute floor is `.clip(low)` on the product.

    Args:
      mode: "min" if less is better, "max" if more is.
      factor: what the scale is multiplied with, in (0, 1).
      patience: the number of bad observations in a row that cuts; 0 is read as 1.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      cooldown: observations after a cut in which no bad one counts.
      min_scale: the scale never falls below, in [0, 1].
      start_after: optimizer steps before which observations are not looked at.
      accumulation_size: compare the mean of this many observations, at least 1.
      ema_decay: compare a bias-corrected moving average instead, in [0, 1); 0 is none.
      nonfinite: what a NaN or infinite observation does: "ignore" it, count it as "bad", or
        "reduce" now. None is ever stored.
      metric: the name it listens to: `observe(opt_state, value=...)`, `tx.update(..., value=...)`.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), 1 at first.

    Raises:
      ValueError: an argument is out of its range, named with its value.

    Example:
      >>> rate = constant(0.1) * reduce_on_plateau(patience=2, factor=0.5)
      >>> tx = scale_by_learning_rate(rate)
      >>> state = tx.init({})
      >>> for loss in (1.0, 0.9, 0.9, 0.9):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(hyperparams(state)["learning_rate"])
      0.1
      0.1
      0.1
      0.05

    References:
      `optax.contrib.reduce_on_plateau`, whose words and count of patience these are;
      `torch.optim.lr_scheduler.ReduceLROnPlateau`, which waits for one more.
    """
    call = "reduce_on_plateau"
    one_of(call, MODES, mode=mode)
    one_of(call, POLICIES, nonfinite=nonfinite)
    if not isinstance(axis_name, tuple):
        axis_name = None if axis_name is None else name(call, axis_name=axis_name)
    return ReduceOnPlateau(
        mode=mode,
        factor=within(call, "be in (0, 1)", lambda x: (x > 0) & (x < 1), factor=factor),
        patience=held(length(call, patience=patience)),
        rtol=within(call, "not be negative", lambda x: x >= 0, rtol=rtol),
        atol=within(call, "not be negative", lambda x: x >= 0, atol=atol),
        cooldown=held(length(call, cooldown=cooldown)),
        min_scale=within(call, "be in [0, 1]", lambda x: (x >= 0) & (x <= 1), min_scale=min_scale),
        start_after=held(length(call, start_after=start_after)),
        accumulation_size=held(length(call, accumulation_size=accumulation_size, least=1)),
        ema_decay=within(call, "be in [0, 1)", lambda x: (x >= 0) & (x < 1), ema_decay=ema_decay),
        nonfinite=nonfinite,
        metric=name(call, metric=metric),
        axis_name=axis_name,
    )
