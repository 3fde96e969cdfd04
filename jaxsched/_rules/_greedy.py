"""Greedy: the rate goes up as long as a metric gets better, and down as long as it does not.

    better `patience` times in a row:      scale / factor, at most max_scale
    not better `patience` times in a row:  scale * factor, at least min_scale

Where nothing helps any more, at the floor, it starts over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length, counted, held
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import real
from jaxsched._core._require import Number, length, one_of, positive, static_length, within
from jaxsched._rules import _mailbox
from jaxsched._rules._better import MODES, beyond
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._rule import Axis, Listener, listening
from jaxsched._rules._stateful import Rule, chosen

POLICIES = ("ignore", "bad")


class GreedyState(NamedTuple):
    """What `greedy` remembers. Every number is finite, whatever was observed."""

    mailbox: Mailbox  # what was observed since the last update
    scale: jax.Array  # float: the factor
    best: jax.Array  # float: the best metric; means nothing while `judged` is 0
    judged: jax.Array  # int32: metrics compared since the start
    good: jax.Array  # int32: better ones in a row
    bad: jax.Array  # int32: ones in a row that were not
    quiet: jax.Array  # int32: observations still to pass before one counts
    floored: jax.Array  # int32: cuts at the floor since the scale rose last
    window: jax.Array | tuple[()]  # float[window_size]: the latest metrics, to be averaged
    filled: jax.Array  # int32: how many metrics have been in the window
    cuts: jax.Array  # int32: how often the scale fell
    raises: jax.Array  # int32: how often it rose


class Greedy(Listener):
    """scale, moved by `factor` up or down."""

    mode: str = choice_field(default="min")
    factor: Number = number_field(default=0.95)
    patience: Length = length_field(default=10)
    rtol: Number = number_field(default=0.0)
    atol: Number = number_field(default=1e-6)
    cooldown: Length = length_field(default=0)
    warmup: Length = length_field(default=0)
    min_scale: Number = number_field(default=0.0)
    max_scale: Number = number_field(default=10.0)
    min_change: Number = number_field(default=0.0)
    reset_after: Length | None = length_field(default=None)
    window_size: int | None = choice_field(default=None)
    nonfinite: str = choice_field(default="ignore")
    metric: str = choice_field(default="value")
    axis_name: Axis = choice_field(default=None)

    def _start(self, params: Any = None) -> GreedyState:
        def zero() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return GreedyState(
            mailbox=_mailbox.empty(self.metric),
            scale=real(1.0),
            best=real(0.0),
            judged=zero(),
            good=zero(),
            bad=zero(),
            quiet=zero(),
            floored=zero(),
            # Empty if there is none: a checkpointer may not write an array of no size.
            window=jnp.zeros(self.window_size, real(0).dtype) if self.window_size else (),
            filled=zero(),
            cuts=zero(),
            raises=zero(),
        )

    def _value(self, state: GreedyState, t: jax.Array) -> jax.Array:
        return state.scale

    def _react(self, state: GreedyState, seen: Observation, t: jax.Array) -> GreedyState:
        state, metric = self._averaged(state, seen)
        event = seen.heard | (seen.broken & (self.nonfinite == "bad"))
        quiet = state.quiet > 0
        waited = state._replace(
            quiet=state.quiet - 1, good=jnp.zeros_like(state.good), bad=jnp.zeros_like(state.bad)
        )
        new = chosen(quiet, waited, self._judge(state, seen._replace(value=metric)))
        return chosen(event, new, state)

    def _averaged(self, state: GreedyState, seen: Observation) -> tuple[GreedyState, jax.Array]:
        """The mean of the latest metrics, this one included."""
        if self.window_size is None or isinstance(state.window, tuple):
            return state, seen.value
        if state.window.shape != (self.window_size,):
            raise ValueError(
                f"the state has a window of {state.window.shape[-1]} metrics, and "
                f"`greedy(window_size={self.window_size})` another: restore it with `graft`."
            )
        at = state.filled % self.window_size
        window = jnp.where(seen.heard, state.window.at[at].set(seen.value), state.window)
        # Counted round, so that it stays a count: full is full.
        filled = jnp.where(state.filled >= LAST - 1, at + self.window_size, state.filled)
        filled = filled + seen.heard.astype(jnp.int32)
        count = jnp.clip(filled, 1, self.window_size)
        # Summed as parts of the mean, so that the sum of large metrics stays finite.
        mean = jnp.sum(window / real(count))
        return state._replace(window=window, filled=filled), mean

    def _judge(self, old: GreedyState, seen: Observation) -> GreedyState:
        first = old.judged == 0
        better = first | beyond(seen.value, old.best, self.mode, self.rtol, self.atol)
        better = better & ~(seen.broken & (self.nonfinite == "bad")) & seen.heard
        good, bad = jnp.where(better, old.good + 1, 0), jnp.where(better, 0, old.bad + 1)
        patience = jnp.maximum(_clock.read(self.patience), 1)
        state = old._replace(
            best=jnp.where(better, seen.value, old.best),
            judged=counted(old.judged, better),
            good=good,
            bad=bad,
        )
        # At least: counts restored above a lowered patience still move the scale.
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
        lower = jnp.maximum(state.scale * real(self.factor), real(self.min_scale))
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
        kept = {"quiet": cut.quiet, "cuts": cut.cuts, "raises": cut.raises}
        anew = self._start()._replace(mailbox=state.mailbox, **kept)
        return chosen(over, anew, cut)


def greedy(
    *,
    mode: str = "min",
    factor: ArrayLike = 0.95,
    patience: ArrayLike = 10,
    rtol: ArrayLike = 0.0,
    atol: ArrayLike = 1e-6,
    cooldown: ArrayLike = 0,
    warmup: ArrayLike = 0,
    min_scale: ArrayLike = 0.0,
    max_scale: ArrayLike = 10.0,
    min_change: ArrayLike = 0.0,
    reset_after: ArrayLike | None = None,
    window_size: int | None = None,
    nonfinite: str = "ignore",
    metric: str = "value",
    axis_name: Axis = None,
) -> Rule:
    """A factor that rises while a metric gets better, and falls while it does not.

        better: metric < best - (rtol * |best| + atol)    (mode="max": > best + ...)
        up    : scale = min(scale / factor, max_scale) after `patience` better ones in a row
        down  : scale = max(scale * factor, min_scale) after `patience` others in a row

    Patience counts observations, not updates. After a move the count starts again. The move acts in
    the very update that sees the metric.

    Args:
      mode: "min" if less is better, "max" if more is.
      factor: what the scale is multiplied with or divided by, in (0, 1).
      patience: observations in a row that move the scale; 0 is read as 1.
      rtol: relative margin, not negative.
      atol: absolute margin, not negative.
      cooldown: observations after a move down that are not looked at.
      warmup: observations after a move up that are not looked at.
      min_scale: no move down goes below; if it is above 1 there is none from the start.
      max_scale: no move up goes above, > 0.
      min_change: a move by this or less is not made.
      reset_after: cuts at the floor, without a rise between, after which everything starts anew
        with the scale 1; None never does.
      window_size: compare the mean of this many of the latest observations, at least 1; None: the
        observation. It is the length of an array in the state.
      nonfinite: is a NaN or infinite observation to be "ignore"d, or counted as "bad"? None is ever
        stored.
      metric: the name it listens to: `observe(opt_state, value=...)`, `tx.update(..., value=...)`.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), 1 at first.

    Raises:
      ValueError: an argument is out of its range, named with its value.

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
      GreedyLR, 2025, https://arxiv.org/abs/2512.14527, as `transformers.GreedyLR` has it, which
      waits for one observation more.
    """
    call = "greedy"
    one_of(call, MODES, mode=mode)
    one_of(call, POLICIES, nonfinite=nonfinite)
    size = None if window_size is None else static_length(call, window_size=window_size)
    not_negative = "not be negative", lambda x: x >= 0
    return Greedy(
        mode=mode,
        factor=within(call, "be in (0, 1)", lambda x: (x > 0) & (x < 1), factor=factor),
        patience=held(length(call, patience=patience)),
        rtol=within(call, *not_negative, rtol=rtol),
        atol=within(call, *not_negative, atol=atol),
        cooldown=held(length(call, cooldown=cooldown)),
        warmup=held(length(call, warmup=warmup)),
        min_scale=within(call, *not_negative, min_scale=min_scale),
        max_scale=positive(call, max_scale=max_scale),
        min_change=within(call, *not_negative, min_change=min_change),
        reset_after=None if reset_after is None else held(length(call, reset_after=reset_after)),
        window_size=size,
        nonfinite=nonfinite,
        **listening(call, metric, axis_name),
    )
