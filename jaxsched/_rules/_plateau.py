"""Reduce on plateau: cuts the learning rate when a metric has stopped improving.

    better: the observation beats the best so far by more than rtol * |best| + atol
    bad   : any other observation; every `patience` bad ones in a row cut the scale by `factor`

The margin uses |best|, so that it has the right sign for negative metrics too.
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
    """The state of `reduce_on_plateau`. Every number is finite for any observation."""

    scale: jax.Array = initially(1.0)  # the factor
    best: jax.Array = initially(0.0)  # the best metric; not meaningful while `judged` is 0
    judged: jax.Array = initially(0)  # observations compared so far
    bad: jax.Array = initially(0)  # bad observations in a row
    cooldown: jax.Array = initially(0)  # observations to pass before a bad one counts
    cuts: jax.Array = initially(0)  # how often the scale was cut
    spared: jax.Array = initially(0)  # cuts at the floor since the metric last improved
    smoothing: SmoothingState | tuple[()] = ()  # of the metric; empty without smoothing


class ReduceOnPlateau(Listener):
    """Reduces the learning rate when a metric stops improving.

        better:  metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)
        bad   :  bad + 1, or 0 after a better one
        cut   :  scale = max(scale * factor, min_scale) when bad >= max(patience, 1)

    Patience counts observations, not updates. An update without a metric does not count towards the
    patience. A cut takes effect in the update that receives the metric. For an absolute lower
    limit, add `.clip(low)` to the product.

    Args:
      mode: "min" if lower is better, "max" if higher is better.
      factor: multiplier of the scale at each cut, in (0, 1).
      patience: number of bad observations in a row that trigger a cut; 0 is read as 1.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      cooldown: number of observations after a cut that cannot count as bad.
      min_scale: lower limit of the scale, in [0, 1].
      start_after: number of optimizer steps before which observations are ignored.
      accumulation_size: number of observations whose mean is compared, at least 1. None: each
        observation is compared by itself.
      ema_decay: decay of a bias-corrected moving average that is compared, in [0, 1). None: no
        moving average. Both kinds of smoothing add a state of their own. To switch smoothing on or
        off when a run is resumed, use `graft`.
      nonfinite: effect of a NaN or infinite observation: "ignore" it, count it as "bad", or
        "reduce" at once. It is never stored.
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), initially 1.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

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
      `optax.contrib.reduce_on_plateau`, whose arguments have the same names here. There too, a cut
      follows `patience` bad observations in a row, but every update counts as an observation.
      `torch.optim.lr_scheduler.ReduceLROnPlateau` waits for one more bad observation.
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
        decay = 0.0 if self.ema_decay is None else self.ema_decay
        smoothing, seen = smoothed(state.smoothing, seen, self.accumulation_size, decay)
        return state._replace(smoothing=smoothing), seen

    def _judge(self, old: PlateauState, seen: Observation) -> PlateauState:
        beats = beyond(seen.value, old.best, self.mode, self.rtol, self.atol)
        # A mean of values of which one was NaN cannot be better.
        better = seen.heard & ~seen.broken & ((old.judged == 0) | beats)
        bad_one, cooling = (seen.heard & ~better) | seen.broken, old.cooldown > 0
        event = seen.heard | seen.broken
        bad = jnp.where(bad_one & ~cooling, old.bad + 1, jnp.where(event, 0, old.bad))
        # ">=": a count restored above a lowered patience still cuts.
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
