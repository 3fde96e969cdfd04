"""Greedy: raises the learning rate while a metric improves, and lowers it while it does not.

    better `patience` times in a row:      scale / factor, at most max_scale
    not better `patience` times in a row:  scale * factor, at least min_scale

After `reset_after` cuts at the floor, the rule starts over.
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
    NOT_NEGATIVE,
    POSITIVE,
    PROPER,
    static_length,
)
from jaxsched._rules import _ring
from jaxsched._rules._better import MODES, beyond, lowered
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import chosen, fresh, initially
from jaxsched._rules._ring import Ring
from jaxsched._rules._rule import Listener


class GreedyState(NamedTuple):
    """The state of `greedy`. Every number is finite for any observation."""

    scale: jax.Array = initially(1.0)  # the factor
    best: jax.Array = initially(0.0)  # the best metric; not meaningful while `judged` is 0
    judged: jax.Array = initially(0)  # better observations since the start
    good: jax.Array = initially(0)  # better observations in a row
    bad: jax.Array = initially(0)  # observations in a row that were not better
    quiet: jax.Array = initially(0)  # observations still to be skipped
    floored: jax.Array = initially(0)  # cuts at the floor since the scale last rose
    window: Ring | tuple[()] = ()  # the latest metrics, to be averaged
    cuts: jax.Array = initially(0)  # how often the scale fell
    raises: jax.Array = initially(0)  # how often the scale rose


class Greedy(Listener):
    """Raises the learning rate while a metric improves, and lowers it while it does not.

        better: metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)
        up    : scale = min(scale / factor, max_scale) after `patience` better ones in a row
        down  : scale = max(scale * factor, min_scale) after `patience` in a row that are not better

    Patience counts observations, not updates. After each change of the scale the count starts
    again. The change takes effect in the update that receives the metric.

    Args:
      mode: "min" if lower is better, "max" if higher is better.
      factor: multiplier of the scale at a cut and divisor at a raise, in (0, 1).
      patience: observations in a row that change the scale; 0 is read as 1.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      cooldown: observations to skip after a cut.
      warmup: observations to skip after a raise.
      min_scale: lower limit of a cut, not negative. If it is above 1, no cut is made at the start.
      max_scale: upper limit of a raise, > 0.
      min_change: smallest change. A change of the scale by this amount or less is not made.
      reset_after: number of cuts at the floor, without a raise between them, after which the rule
        starts anew with the scale 1. None: never.
      window_size: number of latest observations whose mean is compared, at least 1. It is the
        length of an array in the state. None: each observation is compared by itself.
      nonfinite: effect of a NaN or infinite observation: "ignore" it, or count it as "bad". It is
        never stored.
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), initially 1.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> tx = scale_by_learning_rate(constant(0.1) * greedy(patience=1, factor=0.5))
      >>> state = tx.init({})
      >>> for loss in (1.0, 0.9, 0.9, 0.9):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(hyperparams(state)["learning_rate"])
      0.2
      0.4
      0.2
      0.1

    References:
      GreedyLR, 2025, https://arxiv.org/abs/2512.14527, as implemented in `transformers.GreedyLR`.
      That class waits for one more observation, and its bounds are rates, not factors.
    """

    mode: str = choice_field(default="min", among=MODES)
    factor: ArrayLike = number_field(default=0.95, within=PROPER)
    patience: ArrayLike = length_field(default=10)
    rtol: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    atol: ArrayLike = number_field(default=1e-6, within=NOT_NEGATIVE)
    cooldown: ArrayLike = length_field(default=0)
    warmup: ArrayLike = length_field(default=0)
    min_scale: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    max_scale: ArrayLike = number_field(default=10.0, within=POSITIVE)
    min_change: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    reset_after: ArrayLike | None = length_field(default=None)
    window_size: int | None = choice_field(default=None, check=static_length)
    nonfinite: str = choice_field(default="ignore", among=("ignore", "bad"))

    def start(self, params: Any) -> GreedyState:
        # Empty without a window: a checkpointer may not write an array of size 0.
        return GreedyState(window=_ring.empty(self.window_size) if self.window_size else ())

    def value(self, state: GreedyState, t: jax.Array) -> jax.Array:
        return state.scale

    def react(self, state: GreedyState, seen: Observation, t: jax.Array) -> GreedyState:
        state, metric = self._averaged(state, seen)
        quiet = state.quiet > 0
        waited = state._replace(
            quiet=state.quiet - 1, good=jnp.zeros_like(state.good), bad=jnp.zeros_like(state.bad)
        )
        return chosen(quiet, waited, self._judge(state, seen._replace(value=metric)))

    @property
    def hears_nonfinite(self) -> bool:
        return self.nonfinite == "bad"

    def _averaged(self, state: GreedyState, seen: Observation) -> tuple[GreedyState, jax.Array]:
        """The mean of the latest metrics, including this one."""
        if self.window_size is None or not isinstance(state.window, Ring):
            return state, seen.value
        _ring.require_size(state.window, "greedy", "window_size", self.window_size)
        window = _ring.append(state.window, seen.value, seen.heard)
        # Each value is divided first, so that the sum of large metrics stays finite.
        mean = jnp.sum(window.values / real(jnp.maximum(window.filled, 1)))
        return state._replace(window=window), mean

    def _judge(self, old: GreedyState, seen: Observation) -> GreedyState:
        first = old.judged == 0
        better = first | beyond(seen.value, old.best, self.mode, self.rtol, self.atol)
        better = better & ~seen.broken & seen.heard
        good, bad = jnp.where(better, old.good + 1, 0), jnp.where(better, 0, old.bad + 1)
        patience = jnp.maximum(_clock.read(self.patience), 1)
        state = old._replace(
            best=jnp.where(better, seen.value, old.best),
            judged=counted(old.judged, better),
            good=good,
            bad=bad,
        )
        # ">=": counts restored above a lowered patience still move the scale.
        state = chosen(good >= patience, self._raised(state), state)
        return chosen(bad >= patience, self._lowered(state), state)

    def _raised(self, state: GreedyState) -> GreedyState:
        higher = jnp.minimum(state.scale / real(self.factor), real(self.max_scale))
        moves = higher - state.scale > real(self.min_change)
        return state._replace(
            scale=jnp.where(moves, higher, state.scale),
            good=jnp.zeros_like(state.good),
            quiet=_clock.read(self.warmup),
            floored=jnp.zeros_like(state.floored),
            raises=counted(state.raises, moves),
        )

    def _lowered(self, state: GreedyState) -> GreedyState:
        always = jnp.ones((), bool)
        lower, _ = lowered(state.scale, self.factor, self.min_scale, always)
        moves = state.scale - lower > real(self.min_change)
        scale = jnp.where(moves, lower, state.scale)
        at_floor = scale <= real(self.min_scale)
        floored = counted(state.floored, at_floor)
        cut = state._replace(
            scale=scale,
            bad=jnp.zeros_like(state.bad),
            quiet=_clock.read(self.cooldown),
            floored=floored,
            cuts=counted(state.cuts, moves),
        )
        if self.reset_after is None:
            return cut
        over = at_floor & (floored >= jnp.maximum(_clock.read(self.reset_after), 1))
        anew = fresh(self.start(None))._replace(quiet=cut.quiet, cuts=cut.cuts, raises=cut.raises)
        return chosen(over, anew, cut)


greedy = factory(Greedy)
