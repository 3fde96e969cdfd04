"""Reduce when flat: the rate is cut when a noisy metric has surely stopped getting better.

Of the means of the latest blocks of observations, a line by least squares has the slope b and the
standard error e (less is better; of a metric of which more is, the signs are turned):

    flat:       b - sigmas * e >= -margin    it surely gets better by less than the margin
    improving:  b + sigmas * e < 0           it surely gets better
    undecided:  neither                      wait

"Not surely improving" is not "flat": where the noise is too strong for the blocks that there are,
a test for improvement alone would cut a run that improves. Waiting makes it sharper: after as many
undecided answers in a row as there are blocks, neighbours are merged and blocks get twice as long,
so that the error of the slope falls to about a third.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, counted
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import above_zero, real, saturated
from jaxsched._core._require import (
    NOT_NEGATIVE,
    POSITIVE,
    PROPER,
    UNIT,
    length,
    refuse,
    require,
)
from jaxsched._rules import _ring
from jaxsched._rules._better import MODES, lowered
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import chosen, fresh, initially
from jaxsched._rules._ring import SMALL, Ring, parts, small
from jaxsched._rules._rule import Listener

UNDECIDED, IMPROVING, FLAT = 0, 1, 2


def _even(call: str, /, **argument: Any) -> int:
    """The number of blocks, checked."""
    ((name, value),) = argument.items()
    n = length(call, **argument, least=8)
    must = "be an even int: an array has that length"
    require(isinstance(n, int) and n % 2 == 0, refuse(call, name, must, value))
    return int(n)


class Blocks(NamedTuple):
    """What is remembered of the metric: the means of blocks of observations."""

    means: Ring  # of the latest blocks since the last cut
    block: jax.Array = initially(0.0)  # the mean of the observations of the block to come
    gathered: jax.Array = initially(0)  # how many they are
    merged: jax.Array = initially(1)  # a block is this many times `block_size`
    waited: jax.Array = initially(0)  # undecided answers in a row


def gathered(old: Blocks, value: jax.Array, block_size: ArrayLike) -> tuple[Blocks, jax.Array]:
    """With an observation more; does it end a block?"""
    count = counted(old.gathered, jnp.ones((), bool))
    # A mean that goes along, for a sum of large ones would overflow.
    block = old.block + (value / real(count) - old.block / real(count))
    size = jnp.maximum(_clock.read(block_size), 1)
    # At least: a block that was begun when they were longer ends now.
    ends = count >= jnp.minimum(size, LAST // old.merged) * old.merged
    closed = old._replace(
        means=_ring.append(old.means, block),
        block=jnp.zeros_like(old.block),
        gathered=jnp.zeros_like(old.gathered),
    )
    return chosen(ends, closed, old._replace(block=block, gathered=count)), ends


def merged(old: Blocks) -> Blocks:
    """Half as many blocks, each of two neighbours."""
    return old._replace(
        means=_ring.halved(old.means),
        merged=jnp.minimum(old.merged, LAST // 2) * 2,
        waited=jnp.zeros_like(old.waited),
    )


class FlatState(NamedTuple):
    """What `reduce_when_flat` remembers. Every number is finite, whatever was observed."""

    latest: Blocks  # the latest blocks of observations
    scale: jax.Array = initially(1.0)  # the factor
    answer: jax.Array = initially(UNDECIDED)  # 0 undecided, 1 improving, 2 flat, and cut
    cooldown: jax.Array = initially(0)  # observations still to pass before one is looked at
    cuts: jax.Array = initially(0)  # how often the scale was cut
    spared: jax.Array = initially(0)  # cuts that found it at its floor, since it last improved

    @property
    def flat(self) -> jax.Array:
        """Was the last answer that it is flat?"""
        return self.answer == FLAT

    @property
    def improving(self) -> jax.Array:
        """Was it that it improves?"""
        return self.answer == IMPROVING


class ReduceWhenFlat(Listener):
    """A factor, cut when a noisy metric is flat: for the loss of every minibatch.

        b, e: slope, and its standard error, of a line through the means of the latest blocks
        flat     : b - sigmas * e >= -(rtol * |mean| + atol) / blocks: scale * factor, start anew
        improving: b + sigmas * e < 0
        undecided: neither; after `blocks` such answers in a row, blocks get twice as long

    There is an answer at the end of every block, once there are `blocks` of them; only "flat" cuts,
    in the very update that ends the block. A metric that gets worse is flat. (mode="max": of -b.)
    The answer is `FlatState.answer`, in `factors(opt_state)`: 0 undecided, 1 improving, 2 flat.

    Noise so strong that no answer is sure makes it wait, never cut: with noise of a tenth of the
    metric, about 500 observations after the last improvement at the defaults. For a few values that
    carry little noise, such as validation losses, take `reduce_on_plateau`.

    Args:
      mode: "min" if less is better, "max" if more is.
      factor: what the scale is multiplied with, in (0, 1).
      block_size: observations in a block, at least 1.
      blocks: how many blocks the line goes through, even and at least 8. It is the length of an
        array in the state.
      rtol: what counts as flat: an improvement by less than this part of the metric in
        `block_size * blocks` observations, not negative.
      atol: the same in units of the metric, added to it, not negative; for one around zero.
      sigmas: standard errors of the slope that are sure, > 0.
      cooldown: observations after a cut that are not looked at.
      min_scale: the scale never falls below, in [0, 1].
      metric: the name it listens to: `observe(opt_state, value=...)`, `tx.update(..., value=...)`.
        One that is NaN or infinite is ignored.
      axis_name: mapped axis to take the mean of the metric over, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), 1 at first.

    Raises:
      ValueError: an argument is out of its range, named with its value.

    Example:
      >>> rate = constant(0.1) * reduce_when_flat(block_size=1, blocks=8, factor=0.5)
      >>> tx = scale_by_learning_rate(rate)
      >>> state = tx.init({})
      >>> for step in range(17):
      ...     _, state = tx.update({}, state, value=2.0 - 0.1 * min(step, 9))
      ...     if step in (6, 10, 16):
      ...         (flat,) = factors(state)["learning_rate"]
      ...         print(hyperparams(state)["learning_rate"], flat.answer)
      0.1 0
      0.1 1
      0.05 2

    References:
      King, Automatic Learning Rate Scheduling That Really Works, 2018, http://blog.dlib.net, cuts
      where the slope of a line is as likely up as down; Schuirmann, 1987, for the test of
      equivalence, which tells "flat" from "too noisy to tell".
    """

    mode: str = choice_field(default="min", among=MODES)
    factor: ArrayLike = number_field(default=0.1, within=PROPER)
    block_size: ArrayLike = length_field(default=16, least=1)
    blocks: int = choice_field(default=32, check=_even)
    rtol: ArrayLike = number_field(default=0.05, within=NOT_NEGATIVE)
    atol: ArrayLike = number_field(default=0.0, within=NOT_NEGATIVE)
    sigmas: ArrayLike = number_field(default=2.0, within=POSITIVE)
    cooldown: ArrayLike = length_field(default=0)
    min_scale: ArrayLike = number_field(default=0.0, within=UNIT)

    def start(self, params: Any) -> FlatState:
        return FlatState(Blocks(_ring.empty(self.blocks)))

    def value(self, state: FlatState, t: jax.Array) -> jax.Array:
        return jnp.maximum(state.scale, real(self.min_scale))

    def react(self, state: FlatState, seen: Observation, t: jax.Array) -> FlatState:
        _ring.require_size(state.latest.means, "reduce_when_flat", "blocks", self.blocks)
        passed = state._replace(cooldown=state.cooldown - 1)
        return chosen(state.cooldown > 0, passed, self._gather(state, seen.value))

    def _gather(self, state: FlatState, value: jax.Array) -> FlatState:
        """With an observation more, and an answer if it ends a block."""
        latest, ends = gathered(state.latest, value, self.block_size)
        state = state._replace(latest=latest)
        return chosen(ends, self._judge(state), state)

    def _judge(self, state: FlatState) -> FlatState:
        latest = state.latest
        full = latest.means.filled >= self.blocks
        flat, improving = self._tested(latest)
        # Once the blocks were all there and have been merged, half of them are as long.
        ready = full | (latest.merged > 1)
        flat, undecided = ready & flat, ready & ~flat & ~improving
        answer = jnp.where(flat, FLAT, jnp.where(ready & improving, IMPROVING, UNDECIDED))
        waited = jnp.where(undecided, counted(latest.waited, undecided), 0)
        latest = latest._replace(waited=waited)
        spared = jnp.where(answer == IMPROVING, 0, state.spared)
        state = state._replace(answer=answer.astype(jnp.int32), latest=latest, spared=spared)
        merges = (waited >= self.blocks) & full
        longer = state._replace(latest=chosen(merges, merged(latest), latest))
        return chosen(flat, self._cut(state), longer)

    def _tested(self, latest: Blocks) -> tuple[jax.Array, jax.Array]:
        """Is it flat, and is it improving? The slope is in parts of the range of the means."""
        means, inside = latest.means, latest.means.inside
        n, at = real(jnp.maximum(means.filled, 3)), jnp.arange(means.size, dtype=jnp.int32)
        low, high, part = parts(means)
        mean = jnp.sum(part) / n
        # Both about their means: of neither is a large part taken off again.
        x = jnp.where(inside, real(at) - (n - 1) / 2, 0)
        y = jnp.where(inside, part - mean, 0)
        squares = n * (n * n - 1) / 12
        slope = jnp.sum(x * y) / squares
        noise = jnp.sum((y - slope * x) ** 2) / (n - 2)
        error = real(self.sigmas) * jnp.sqrt(noise / squares)
        slope = slope if self.mode == "min" else -slope
        level = jnp.abs(low * (1 - mean) + high * mean)
        # What is allowed from one block to the next.
        margin = (real(self.rtol) * level + real(self.atol)) * real(latest.merged) / self.blocks
        allowed = saturated(margin) * SMALL / above_zero(small(high, low))
        return slope - error >= -allowed, slope + error < 0

    def _cut(self, state: FlatState) -> FlatState:
        always = jnp.ones_like(state.scale, bool)
        lower, lowers = lowered(state.scale, self.factor, self.min_scale, always)
        return fresh(self.start(None))._replace(
            scale=lower,
            answer=state.answer,
            cooldown=_clock.read(self.cooldown),
            cuts=counted(state.cuts, lowers),
            spared=counted(state.spared, ~lowers),
        )


reduce_when_flat = factory(ReduceWhenFlat)
