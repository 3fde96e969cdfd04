"""Reduce when flat: cuts the learning rate when a statistical test finds a noisy metric flat.

A line is fitted by least squares to the means of the latest blocks of observations. It has the
slope b and the standard error e. (Lower is better; with mode="max" the signs are reversed.)

    flat:       b - sigmas * e >= -margin    the metric improves by less than the margin
    improving:  b + sigmas * e < 0           the metric improves
    undecided:  neither                      wait

"Not improving" is not the same as "flat". If the noise is too strong for the number of blocks, a
test for improvement alone would cut a run that improves. Waiting makes the test sharper: after
`blocks` undecided answers in a row, neighbouring blocks are merged and blocks get twice as long.
The standard error of the slope then falls to about a third.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, counted, ticked
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


def _even(call: str, name: str, value: Any) -> int:
    """Return the number of blocks, checked."""
    n = length(call, name, value, least=8)
    must = "be an even int, because it is the length of an array"
    require(isinstance(n, int) and n % 2 == 0, refuse(call, name, must, value))
    return int(n)


class Blocks(NamedTuple):
    """The means of the latest blocks of observations."""

    means: Ring  # of the latest blocks since the last cut
    block: jax.Array = initially(0.0)  # the mean of the unfinished block
    gathered: jax.Array = initially(0)  # observations in the unfinished block
    merged: jax.Array = initially(1)  # blocks are this many times `block_size` long
    waited: jax.Array = initially(0)  # undecided answers in a row


def gathered(old: Blocks, value: jax.Array, block_size: ArrayLike) -> tuple[Blocks, jax.Array]:
    """Return the blocks with one more observation, and whether it completes a block."""
    count = ticked(old.gathered)
    # A running mean, because a sum of large values would overflow.
    block = old.block + (value / real(count) - old.block / real(count))
    size = jnp.maximum(_clock.read(block_size), 1)
    # ">=": a block that was begun when blocks were longer ends now.
    ends = count >= jnp.minimum(size, LAST // old.merged) * old.merged
    closed = old._replace(
        means=_ring.append(old.means, block),
        block=jnp.zeros_like(old.block),
        gathered=jnp.zeros_like(old.gathered),
    )
    return chosen(ends, closed, old._replace(block=block, gathered=count)), ends


def merged(old: Blocks) -> Blocks:
    """Return half as many blocks, each the mean of two neighbours."""
    return old._replace(
        means=_ring.halved(old.means),
        merged=jnp.minimum(old.merged, LAST // 2) * 2,
        waited=jnp.zeros_like(old.waited),
    )


class FlatState(NamedTuple):
    """The state of `reduce_when_flat`. Every number is finite for any observation."""

    latest: Blocks  # the latest blocks of observations
    scale: jax.Array = initially(1.0)  # the factor
    answer: jax.Array = initially(UNDECIDED)  # 0 undecided, 1 improving, 2 flat (and cut)
    cooldown: jax.Array = initially(0)  # observations still to be skipped
    cuts: jax.Array = initially(0)  # how often the scale was cut
    spared: jax.Array = initially(0)  # cuts at the floor since the metric last improved

    @property
    def flat(self) -> jax.Array:
        """Whether the last answer was "flat"."""
        return self.answer == FLAT

    @property
    def improving(self) -> jax.Array:
        """Whether the last answer was "improving"."""
        return self.answer == IMPROVING


class ReduceWhenFlat(Listener):
    """Reduces the learning rate when a noisy metric, such as the minibatch loss, is flat.

        b, e: slope and its standard error, of a line through the means of the latest blocks
        flat     : b - sigmas * e >= -(rtol * |mean| + atol) / blocks: scale * factor, start anew
        improving: b + sigmas * e < 0
        undecided: neither; after `blocks` such answers in a row, blocks get twice as long

    Once there are `blocks` blocks, the rule decides at the end of every block whether the metric is
    flat. If both tests hold, the answer is "flat". Only the answer "flat" cuts, and the cut takes
    effect in the update that completes the block. After a cut, the rule counts blocks from 1 again.
    A metric that gets worse counts as flat. With mode="max" the test uses -b. `factors(opt_state)`
    returns the state, in which `FlatState.answer` is 0 (undecided), 1 (improving) or 2 (flat).

    If the noise is too strong for a clear answer, the rule waits; it does not cut. With noise of
    10% of the metric and the defaults, it cuts about 500 observations after the last improvement.
    For a few values with little noise, such as validation losses, use `reduce_on_plateau`.

    Args:
      mode: "min" if lower is better, "max" if higher is better.
      factor: multiplier of the scale at each cut, in (0, 1).
      block_size: observations per block, at least 1.
      blocks: number of blocks that the line is fitted to, even and at least 8. It is the length
        of an array in the state.
      rtol: relative margin, not negative. An improvement by less than this fraction of the metric
        in `block_size * blocks` observations counts as flat.
      atol: absolute margin in units of the metric, added to the relative one, not negative. Use
        it for a metric around zero.
      sigmas: number of standard errors of the slope that an answer requires, > 0.
      cooldown: observations to skip after a cut.
      min_scale: lower limit of the scale, in [0, 1].
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`. A value that is NaN or infinite is ignored.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule whose value is the scale: float32 (float64 under x64), initially 1.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

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
      King, Automatic Learning Rate Scheduling That Really Works, 2018, http://blog.dlib.net, fits a
      line and cuts when a falling slope is no more likely than a rising one. Schuirmann, 1987, has
      the test of equivalence, which tells "flat" from "too noisy to tell".
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
        """Add an observation, and judge the blocks if it completes one."""
        latest, ends = gathered(state.latest, value, self.block_size)
        state = state._replace(latest=latest)
        return chosen(ends, self._judge(state), state)

    def _judge(self, state: FlatState) -> FlatState:
        latest = state.latest
        full = latest.means.filled >= self.blocks
        flat, improving = self._tested(latest)
        # After a merge only half of the blocks are there, but each is twice as long.
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
        """Return whether the metric is flat, and whether it is improving.

        The slope is in fractions of the range of the means.
        """
        means, inside = latest.means, latest.means.inside
        n, at = real(jnp.maximum(means.filled, 3)), jnp.arange(means.size, dtype=jnp.int32)
        low, high, part = parts(means)
        mean = jnp.sum(part) / n
        # Both are centred, so that no large common part cancels.
        x = jnp.where(inside, real(at) - (n - 1) / 2, 0)
        y = jnp.where(inside, part - mean, 0)
        squares = n * (n * n - 1) / 12
        slope = jnp.sum(x * y) / squares
        noise = jnp.sum((y - slope * x) ** 2) / (n - 2)
        error = real(self.sigmas) * jnp.sqrt(noise / squares)
        slope = slope if self.mode == "min" else -slope
        level = jnp.abs(low * (1 - mean) + high * mean)
        # The margin from one block to the next.
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
