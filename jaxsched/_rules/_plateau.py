"""Reduce on plateau: the rate is cut when a metric has stopped getting better.

    an observation is better if it is beyond the best so far by rtol * |best| + atol,
    bad if it is not, and every `patience` bad ones in a row cut the scale by `factor`.

The margin is taken from |best|, so that it lies on the right side of a negative metric too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length, counted, held
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import real
from jaxsched._core._require import Number, length, one_of, within
from jaxsched._rules import _mailbox, _smoothing
from jaxsched._rules._better import MODES, beyond, lowered
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._rule import Axis, Listener, listening
from jaxsched._rules._smoothing import SmoothingState
from jaxsched._rules._stateful import Rule, chosen

POLICIES = ("ignore", "bad", "reduce")


class PlateauState(NamedTuple):
    """What `reduce_on_plateau` remembers. Every number is finite, whatever was observed."""

    mailbox: Mailbox  # what was observed since the last update
    scale: jax.Array  # float: the factor
    best: jax.Array  # float: the best metric; means nothing while `judged` is 0
    judged: jax.Array  # int32: metrics compared so far
    bad: jax.Array  # int32: bad ones in a row
    cooldown: jax.Array  # int32: metrics still to pass before a bad one counts
    cuts: jax.Array  # int32: how often the scale was cut
    spared: jax.Array  # int32: cuts that found it at its floor, since a metric was better
    smoothing: SmoothingState | tuple[()]  # of the metric; empty if there is none


class ReduceOnPlateau(Listener):
    """scale, cut by `factor` after `patience` bad metrics in a row."""

    mode: str = choice_field(default="min")
    factor: Number = number_field(default=0.1)
    patience: Length = length_field(default=10)
    rtol: Number = number_field(default=1e-4)
    atol: Number = number_field(default=0.0)
    cooldown: Length = length_field(default=0)
    min_scale: Number = number_field(default=0.0)
    start_after: Length = length_field(default=0)
    # None, both: no smoothing, and no state of it.
    accumulation_size: Length | None = length_field(default=None)
    ema_decay: Number | None = number_field(default=None)
    nonfinite: str = choice_field(default="ignore")
    metric: str = choice_field(default="value")
    axis_name: Axis = choice_field(default=None)

    def _start(self, params: Any = None) -> PlateauState:
        def zero() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return PlateauState(
            mailbox=_mailbox.empty(self.metric),
            scale=real(1.0),
            best=real(0.0),
            judged=zero(),
            bad=zero(),
            cooldown=zero(),
            cuts=zero(),
            spared=zero(),
            smoothing=_smoothing.start() if self._smooths else (),
        )

    @property
    def _smooths(self) -> bool:
        return self.accumulation_size is not None or self.ema_decay is not None

    def _value(self, state: PlateauState, t: jax.Array) -> jax.Array:
        return jnp.maximum(state.scale, real(self.min_scale))

    def _react(self, state: PlateauState, seen: Observation, t: jax.Array) -> PlateauState:
        new = self._judge(*self._smoothed(state, seen))
        return chosen(t >= _clock.read(self.start_after), new, state)

    def _smoothed(self, state: PlateauState, seen: Observation) -> tuple[PlateauState, Observation]:
        if not isinstance(state.smoothing, SmoothingState):
            return state, seen
        size = 1 if self.accumulation_size is None else self.accumulation_size
        decay = 0.0 if self.ema_decay is None else self.ema_decay
        smoothing, seen = _smoothing.smooth(state.smoothing, seen, size, decay)
        return state._replace(smoothing=smoothing), seen

    def _judge(self, old: PlateauState, seen: Observation) -> PlateauState:
        better = seen.heard & (
            (old.judged == 0) | beyond(seen.value, old.best, self.mode, self.rtol, self.atol)
        )
        broken = seen.broken & (self.nonfinite != "ignore")
        bad_one = (seen.heard & ~better) | broken
        event, cooling = seen.heard | broken, old.cooldown > 0
        bad = jnp.where(bad_one & ~cooling, old.bad + 1, jnp.where(event, 0, old.bad))
        # At least: a count restored above a lowered patience still cuts.
        cut = bad_one & (bad >= jnp.maximum(_clock.read(self.patience), 1))
        cut = (cut | (broken & (self.nonfinite == "reduce"))) & ~cooling
        lower, lowers = lowered(old.scale, self.factor, self.min_scale, cut)
        passed = (event & cooling).astype(jnp.int32)
        return old._replace(
            scale=jnp.where(cut, lower, old.scale),
            best=jnp.where(better, seen.value, old.best),
            judged=counted(old.judged, seen.heard),
            bad=jnp.where(cut, 0, bad),
            cooldown=jnp.where(cut, _clock.read(self.cooldown), old.cooldown - passed),
            cuts=counted(old.cuts, lowers),
            spared=jnp.where(better, 0, counted(old.spared, cut & ~lowers)),
        )


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
    axis_name: Axis = None,
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
      accumulation_size: compare the mean of this many observations, at least 1, which is none.
      ema_decay: compare a bias-corrected moving average, in [0, 1); 0 is none. Smoothing of either
        kind has a state of its own: `graft` restores a run that begins or ceases to smooth.
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
    size = length(call, accumulation_size=accumulation_size, least=1)
    decay = within(call, "be in [0, 1)", lambda x: (x >= 0) & (x < 1), ema_decay=ema_decay)
    return ReduceOnPlateau(
        mode=mode,
        factor=within(call, "be in (0, 1)", lambda x: (x > 0) & (x < 1), factor=factor),
        patience=held(length(call, patience=patience)),
        rtol=within(call, "not be negative", lambda x: x >= 0, rtol=rtol),
        atol=within(call, "not be negative", lambda x: x >= 0, atol=atol),
        cooldown=held(length(call, cooldown=cooldown)),
        min_scale=within(call, "be in [0, 1]", lambda x: (x >= 0) & (x <= 1), min_scale=min_scale),
        start_after=held(length(call, start_after=start_after)),
        accumulation_size=None if size == 1 and isinstance(size, int) else held(size),
        ema_decay=None if decay == 0 and isinstance(decay, float) else decay,
        nonfinite=nonfinite,
        **listening(call, metric, axis_name),
    )
