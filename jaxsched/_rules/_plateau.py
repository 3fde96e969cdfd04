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
from jaxsched._core._clock import counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import real
from jaxsched._core._require import (
    BELOW_ONE,
    NOT_NEGATIVE,
    PROPER,
    UNIT,
)
from jaxsched._rules._better import MODES, beyond, lowered
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import chosen, initially
from jaxsched._rules._rule import Listener
from jaxsched._rules._smoothing import SmoothingState, smoothed


class PlateauState(NamedTuple):
    """What `reduce_on_plateau` remembers. Every number is finite, whatever was observed."""

    scale: jax.Array = initially(1.0)  # the factor
    best: jax.Array = initially(0.0)  # the best metric; means nothing while `judged` is 0
    judged: jax.Array = initially(0)  # metrics compared so far
    bad: jax.Array = initially(0)  # bad ones in a row
    cooldown: jax.Array = initially(0)  # metrics still to pass before a bad one counts
    cuts: jax.Array = initially(0)  # how often the scale was cut
    spared: jax.Array = initially(0)  # cuts that found it at its floor, since a metric was better
    smoothing: SmoothingState | tuple[()] = ()  # of the metric; empty if there is none


class ReduceOnPlateau(Listener):
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
      accumulation_size: compare the mean of this many observations, at least 1; None compares each.
      ema_decay: compare a bias-corrected moving average, in [0, 1); None compares what there is.
        Smoothing of either kind has a state of its own: `graft` restores a run that begins or
        ceases to smooth.
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

    mode: str = choice_field(default="min", among=MODES)
    factor: ArrayLike = number_field(default=0.1, within=PROPER)
    patience: ArrayLike = length_field(default=10)
    rtol: ArrayLike = number_field(default=1e-4, within=NOT_NEGATIVE)
    atol: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    cooldown: ArrayLike = length_field(default=0)
    min_scale: ArrayLike = number_field(default=0.0, within=UNIT)
    start_after: ArrayLike = length_field(default=0)
    accumulation_size: ArrayLike | None = length_field(default=None, least=1)
    ema_decay: ArrayLike | None = number_field(default=None, within=BELOW_ONE)
    nonfinite: str = choice_field(default="ignore", among=("ignore", "bad", "reduce"))

    def start(self, params: Any) -> PlateauState:
        return PlateauState(smoothing=SmoothingState() if self._smooths else ())

    def react(self, state: PlateauState, seen: Observation, t: jax.Array) -> PlateauState:
        new = self._judge(*self._smoothed(state, seen))
        return chosen(t >= _clock.read(self.start_after), new, state)

    def value(self, state: PlateauState, t: jax.Array) -> jax.Array:
        return jnp.maximum(state.scale, real(self.min_scale))

    @property
    def hears_nonfinite(self) -> bool:
        return self.nonfinite != "ignore"

    @property
    def _smooths(self) -> bool:
        return self.accumulation_size is not None or self.ema_decay is not None

    def _smoothed(self, state: PlateauState, seen: Observation) -> tuple[PlateauState, Observation]:
        if not isinstance(state.smoothing, SmoothingState):
            return state, seen
        size = 1 if self.accumulation_size is None else self.accumulation_size
        decay = 0.0 if self.ema_decay is None else self.ema_decay
        smoothing, seen = smoothed(state.smoothing, seen, size, decay)
        return state._replace(smoothing=smoothing), seen

    def _judge(self, old: PlateauState, seen: Observation) -> PlateauState:
        beats = beyond(seen.value, old.best, self.mode, self.rtol, self.atol)
        # A mean of which a part was NaN is none that could be better.
        better = seen.heard & ~seen.broken & ((old.judged == 0) | beats)
        bad_one, cooling = (seen.heard & ~better) | seen.broken, old.cooldown > 0
        event = seen.heard | seen.broken
        bad = jnp.where(bad_one & ~cooling, old.bad + 1, jnp.where(event, 0, old.bad))
        # At least: a count restored above a lowered patience still cuts.
        cut = bad_one & (bad >= jnp.maximum(_clock.read(self.patience), 1))
        cut = (cut | (seen.broken & (self.nonfinite == "reduce"))) & ~cooling
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


reduce_on_plateau = factory(ReduceOnPlateau)
