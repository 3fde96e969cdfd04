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
from jaxsched._core._clock import Length, counted, held
from jaxsched._core._fields import choice_field, length_field, number_field
from jaxsched._core._numerics import above_zero, real, saturated
from jaxsched._core._require import Number, length, one_of, positive, refuse, require, within
from jaxsched._rules import _blocks, _mailbox
from jaxsched._rules._better import MODES, lowered
from jaxsched._rules._blocks import Blocks
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._rolling import SMALL, parts, small
from jaxsched._rules._rule import Axis, Listener, listening
from jaxsched._rules._stateful import Rule, chosen

UNDECIDED, IMPROVING, FLAT = 0, 1, 2


class FlatState(NamedTuple):
    """What `reduce_when_flat` remembers. Every number is finite, whatever was observed."""

    mailbox: Mailbox  # what was observed since the last update
    scale: jax.Array  # float: the factor
    answer: jax.Array  # int32: the last one: 0 undecided, 1 improving, 2 flat, and cut
    ring: Blocks  # the latest blocks of observations
    cooldown: jax.Array  # int32: observations still to pass before one is looked at
    cuts: jax.Array  # int32: how often the scale was cut
    spared: jax.Array  # int32: cuts that found it at its floor, since it last improved

    @property
    def flat(self) -> jax.Array:
        """Was the last answer that it is flat?"""
        return self.answer == FLAT

    @property
    def improving(self) -> jax.Array:
        """Was it that it improves?"""
        return self.answer == IMPROVING


class ReduceWhenFlat(Listener):
    """scale, cut by `factor` when the metric is flat."""

    mode: str = choice_field(default="min")
    factor: Number = number_field(default=0.1)
    block_size: Length = length_field(default=16)
    blocks: int = choice_field(default=32)
    rtol: Number = number_field(default=0.05)
    atol: Number = number_field(default=0.0)
    sigmas: Number = number_field(default=2.0)
    cooldown: Length = length_field(default=0)
    min_scale: Number = number_field(default=0.0)
    metric: str = choice_field(default="value")
    axis_name: Axis = choice_field(default=None)

    def _start(self, params: Any = None) -> FlatState:
        def zero() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return FlatState(
            mailbox=_mailbox.empty(self.metric),
            scale=real(1.0),
            answer=zero(),
            ring=_blocks.start(self.blocks),
            cooldown=zero(),
            cuts=zero(),
            spared=zero(),
        )

    def _value(self, state: FlatState, t: jax.Array) -> jax.Array:
        return jnp.maximum(state.scale, real(self.min_scale))

    def _react(self, state: FlatState, seen: Observation, t: jax.Array) -> FlatState:
        found = state.ring.means.shape
        require(
            found == (self.blocks,),
            f"the state has {found[-1]} blocks, and `reduce_when_flat(blocks={self.blocks})` "
            "others: restore it with `graft`.",
        )
        cooling = state.cooldown > 0
        passed = state._replace(cooldown=state.cooldown - 1)
        new = chosen(cooling, passed, self._gather(state, seen.value))
        return chosen(seen.heard, new, state)

    def _gather(self, state: FlatState, value: jax.Array) -> FlatState:
        """With an observation more, and an answer if it ends a block."""
        ring, ends = _blocks.gather(state.ring, value, self.block_size)
        state = state._replace(ring=ring)
        return chosen(ends, self._judge(state), state)

    def _judge(self, state: FlatState) -> FlatState:
        ring = state.ring
        flat, improving = self._tested(ring)
        # Once the blocks were all there and have been merged, half of them are as long.
        ready = (ring.filled >= self.blocks) | (ring.merged > 1)
        flat, undecided = ready & flat, ready & ~flat & ~improving
        answer = jnp.where(flat, FLAT, jnp.where(ready & improving, IMPROVING, UNDECIDED))
        waited = jnp.where(undecided, counted(ring.waited, undecided), 0)
        ring = ring._replace(waited=waited)
        spared = jnp.where(answer == IMPROVING, 0, state.spared)
        state = state._replace(answer=answer.astype(jnp.int32), ring=ring, spared=spared)
        merges = (waited >= self.blocks) & (ring.filled >= self.blocks)
        longer = state._replace(ring=chosen(merges, _blocks.merge(ring), ring))
        return chosen(flat, self._cut(state), longer)

    def _tested(self, ring: Blocks) -> tuple[jax.Array, jax.Array]:
        """Is it flat, and is it improving? The slope is in parts of the range of the means."""
        n, at = real(jnp.maximum(ring.filled, 3)), _blocks.places(ring)
        inside = at < ring.filled
        low, high, part = parts(ring.means, inside)
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
        margin = (real(self.rtol) * level + real(self.atol)) * real(ring.merged) / self.blocks
        allowed = saturated(margin) * SMALL / above_zero(small(high, low))
        return slope - error >= -allowed, slope + error < 0

    def _cut(self, state: FlatState) -> FlatState:
        always = jnp.ones_like(state.scale, bool)
        lower, lowers = lowered(state.scale, self.factor, self.min_scale, always)
        return self._start()._replace(
            mailbox=state.mailbox,
            scale=lower,
            answer=state.answer,
            cooldown=_clock.read(self.cooldown),
            cuts=counted(state.cuts, lowers),
            spared=counted(state.spared, ~lowers),
        )


def reduce_when_flat(
    *,
    mode: str = "min",
    factor: ArrayLike = 0.1,
    block_size: ArrayLike = 16,
    blocks: int = 32,
    rtol: ArrayLike = 0.05,
    atol: ArrayLike = 0.0,
    sigmas: ArrayLike = 2.0,
    cooldown: ArrayLike = 0,
    min_scale: ArrayLike = 0.0,
    metric: str = "value",
    axis_name: Axis = None,
) -> Rule:
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
    call = "reduce_when_flat"
    one_of(call, MODES, mode=mode)
    n = length(call, blocks=blocks, least=8)
    even = isinstance(n, int) and n % 2 == 0
    require(even, refuse(call, "blocks", "be an even int: an array has that length", blocks))
    not_negative = "not be negative", lambda x: x >= 0
    return ReduceWhenFlat(
        mode=mode,
        factor=within(call, "be in (0, 1)", lambda x: (x > 0) & (x < 1), factor=factor),
        block_size=held(length(call, block_size=block_size, least=1)),
        blocks=int(n),
        rtol=within(call, *not_negative, rtol=rtol),
        atol=within(call, *not_negative, atol=atol),
        sigmas=positive(call, sigmas=sigmas),
        cooldown=held(length(call, cooldown=cooldown)),
        min_scale=within(call, "be in [0, 1]", lambda x: (x >= 0) & (x <= 1), min_scale=min_scale),
        **listening(call, metric, axis_name),
    )
