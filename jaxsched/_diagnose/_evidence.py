"""The numbers by which a run is judged, from the record that `monitor` keeps.

Most of these numbers do not change if all losses are multiplied by a number, or if a number is
added to all of them. They are differences of losses, divided by other differences or by the
deviation from one step to the next. Ratios of losses such as `level` depend on the zero of the
losses. They are used only if all losses are positive: to recognise an explosion, and to be silent
near zero. Trends are fitted to the second half of the run, by least squares over the means of its
blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import real, saturated
from jaxsched._diagnose._monitor import Gradients, MonitorState, Parameters
from jaxsched._diagnose._stream import BLOCKS, History, Stream

LARGE = 1e15  # what is read for a number over zero
TREND = 8  # smallest number of blocks for a trend
CHANCE = 3  # deviations between the first loss and the mean of a few that may be chance


class Evidence(NamedTuple):
    """The numbers behind the scores: finite floats. A floor that is not given is read as zero."""

    steps: jax.Array  # int32: finite losses seen
    broken: jax.Array  # the share of losses that were not finite, or of gradients if it is higher
    lost: jax.Array  # int32: non-finite losses since the last finite one
    floored: jax.Array  # bool: whether the floor is known
    positive: jax.Array  # bool: whether the first loss and all blocks are above the floor
    level: jax.Array  # the recent mean loss over the first losses, both minus the floor
    share: jax.Array  # the same over the lower one of the first loss and the mean of a few
    leapt: jax.Array  # the highest mean loss over the very first, both minus the floor
    peak: jax.Array  # the highest rise of the mean loss above the very first, in deviations
    luck: jax.Array  # distance of the first loss from the mean of a few, over the higher of them
    noise: jax.Array  # the deviation of the loss from step to step, over its mean minus the floor
    learnt: jax.Array  # the fall from the first losses to the recent mean, in deviations
    climbed: jax.Array  # the rise from the lowest block to the recent mean, in deviations
    regained: jax.Array  # that rise over the fall to that block; 0 if no block is below the first
    sudden: jax.Array  # the largest rise from block to block, over the rise from the lowest one
    trend: jax.Array  # the fall in the second half, in standard errors of that fall
    moved: jax.Array  # int32: updates known to have gone along the gradient or against it
    climb: jax.Array  # (updates along - updates against) / all of them; downhill is -1
    outward: jax.Array  # cosine of the descent direction and the parameters
    placed: jax.Array  # int32: updates that received the parameters
    still: jax.Array  # the share of the small arrays whose gradient is zero
    gradient: jax.Array  # the recent mean norm of the gradient over the first one
    moving: jax.Array  # movement of the parameters in the second half, divided by the first half
    ahead: jax.Array  # slope down per distance in the second half, over the sizes of both halves'
    surely: jax.Array  # the mean of the slopes down in the second half, in standard errors
    expected: jax.Array  # the sum of the slopes down, in deviations: the fall if steps are small
    past: jax.Array  # the slopes of the worse half, up minus down, over what was learnt
    validated: jax.Array  # bool: whether there are enough validations for a trend
    worse: jax.Array  # bool: whether the last validation loss is above the best
    gap: jax.Array  # validation loss minus training loss, less the first gap, over what was learnt
    gap_error: jax.Array  # the deviation of the mean training loss, over what was learnt
    rise: jax.Array  # the rise of the validation loss above its best, over its fall to the best
    validation_late: jax.Array  # its fall in the second half, over what was learnt
    validation_trend: jax.Array  # the fall of the validation loss, in standard errors


class Trend(NamedTuple):
    """A line through the second half of a history."""

    fall: jax.Array  # the fall of the line
    error: jax.Array  # the standard error of the fall


class Travel(NamedTuple):
    """How the parameters moved, and how the loss sloped down at the end of each movement."""

    moving: jax.Array  # the length of the second half over the first; 1 if it is not known
    ahead: (
        jax.Array
    )  # slope per distance of the second half, over the sizes of both; 0 after a rise
    surely: jax.Array  # the mean slope of the second half, in standard errors
    least: jax.Array  # the sum of the slopes of the worse half: a difference of losses
    total: jax.Array  # the sum of the slopes of both halves


def evidence(state: MonitorState, floor: jax.Array | None) -> Evidence:
    """Return the numbers of one run, or under `vmap` of many."""
    loss, gradient = state.loss, state.gradient
    updates = jnp.maximum(loss.seen + loss.broken, gradient.seen + gradient.broken)
    found = Evidence(
        steps=loss.seen,
        broken=real(jnp.maximum(loss.broken, gradient.broken)) / real(jnp.maximum(updates, 1)),
        lost=loss.lost,
        floored=jnp.asarray(floor is not None),
        **_of_losses(loss, real(0.0) if floor is None else floor),
        **_of_movements(loss, gradient, state.parameters),
        **_of_validations(loss, state.validation),
    )
    return jax.tree.map(lambda x: saturated(x) if x.dtype == loss.mean.dtype else x, found)


def _of_losses(loss: Stream, least: jax.Array) -> dict[str, jax.Array]:
    base, deviation, trend = _base(loss), _deviation(loss), _trend(loss.history)
    lowest, highest, step = _heights(loss)
    lower = jnp.minimum(loss.first, loss.start)
    return {
        "positive": (lower > least) & (lowest >= least),
        "level": over(loss.mean - least, base - least),
        "share": over(loss.mean - least, lower - least),
        "leapt": over(highest - least, loss.first - least),
        "peak": over(highest - loss.first, deviation),
        "luck": over(jnp.abs(loss.start - loss.first), base - least),
        "noise": over(deviation, loss.mean - least),
        "learnt": over(base - loss.mean, deviation),
        "climbed": over(loss.mean - lowest, deviation),
        "regained": jnp.where(base > lowest, over(loss.mean - lowest, base - lowest), 0),
        "sudden": over(step, loss.mean - lowest),
        "trend": over(trend.fall, trend.error),
    }


def _of_movements(
    loss: Stream, gradient: Gradients, parameters: Parameters
) -> dict[str, jax.Array]:
    travel = _travel(parameters.travel)
    return {
        "moved": parameters.moved,
        "climb": parameters.climb,
        "outward": parameters.outward,
        "placed": parameters.seen,
        "still": gradient.still,
        "gradient": over(gradient.norm, gradient.first),
        "moving": travel.moving,
        "ahead": travel.ahead,
        "surely": travel.surely,
        "expected": over(travel.total, _deviation(loss)),
        "past": over(-travel.least, _learnt(loss)),
    }


def _of_validations(loss: Stream, valid: Stream) -> dict[str, jax.Array]:
    base, trend = _base(loss), _trend(valid.history)
    judged, learnt = (valid.seen > 0) & (loss.seen > 0), base - loss.mean
    apart = (valid.latest - loss.mean) - jnp.maximum(valid.first - base, 0)
    return {
        "validated": valid.history.blocks >= TREND,
        "worse": (valid.seen > 0) & (valid.latest > valid.best),
        "gap": jnp.where(judged & (learnt > 0), over(apart, learnt), 0),
        "gap_error": jnp.where(learnt > 0, over(_deviation(loss), learnt), LARGE),
        "rise": jnp.where(judged, over(valid.latest - valid.best, valid.first - valid.best), 0),
        "validation_late": jnp.where(learnt > 0, over(trend.fall, learnt), 0),
        "validation_trend": over(trend.fall, trend.error),
    }


def _base(loss: Stream) -> jax.Array:
    """Return the level of the first losses.

    One loss may be far off by chance, and a mean of several by an explosion among them. The higher
    one is the cautious one: what has risen above both has risen.
    """
    return jnp.maximum(loss.first, loss.start)


def _deviation(loss: Stream) -> jax.Array:
    """Return the deviation of the loss, from its jumps, which do not include the trend."""
    return jnp.sqrt(loss.jumps / 2)


def over(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a quotient of any scale, at most `LARGE`: no number is too small a divisor but 0."""
    known = b > 0
    quotient = jnp.where(known, a, 0) / jnp.where(known, b, 1)
    return jnp.clip(jnp.where(known, quotient, jnp.sign(a) * LARGE), -LARGE, LARGE)


def _heights(loss: Stream) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the lowest block, the highest mean, and the largest rise to a block or the mean.

    The lowest of the running means is not used: the first of them are means of one or two losses.
    """
    at, history = jnp.arange(BLOCKS, dtype=jnp.int32), loss.history
    there = at < history.blocks
    lowest = jnp.where(there, history.means, jnp.inf).min()
    lowest = jnp.where(history.blocks > 0, lowest, loss.mean)
    after = jnp.where(at + 1 < history.blocks, jnp.roll(history.means, -1), loss.mean)
    step = jnp.where(there, after - history.means, -jnp.inf).max()
    return lowest, loss.worst, jnp.where(history.blocks > 0, step, 0)


def _trend(history: History) -> Trend:
    at = jnp.arange(BLOCKS, dtype=jnp.int32)
    late = (at >= history.blocks // 2) & (at < history.blocks)
    n = real(jnp.maximum(late.sum(), 3))
    # In units of the largest, so that squares neither overflow nor vanish.
    unit = jnp.abs(jnp.where(late, history.means, 0)).max()
    y = jnp.where(late, history.means, 0) / jnp.where(unit > 0, unit, 1)
    x = jnp.where(late, real(at) - jnp.where(late, real(at), 0).sum() / n, 0)
    spread, mean = jnp.maximum((x**2).sum(), 1), y.sum() / n
    slope = (x * y).sum() / spread
    rest = jnp.where(late, y - mean - slope * x, 0)
    error = jnp.sqrt((rest**2).sum() / (n - 2) / spread)
    known = (history.blocks >= TREND) & (unit > 0)
    return Trend(*(jnp.where(known, x * unit, 0) for x in (-slope * n, error * n)))


def _learnt(loss: Stream) -> jax.Array:
    """Return how far the recent mean loss is from the first losses, above or below them.

    The first loss alone may be low by chance. But a mean of several that is far above it comes from
    a loss that has leapt. A difference of means is known to about a quarter of the deviation.
    """
    deviation = _deviation(loss)
    near = jnp.abs(loss.start - loss.first) <= CHANCE * deviation
    first = jnp.where(near, _base(loss), loss.first)
    learnt = jnp.maximum(jnp.abs(first - loss.mean), jnp.abs(loss.first - loss.mean))
    return jnp.maximum(learnt, deviation / 4)


def _travel(travel: History) -> Travel:
    at, half = jnp.arange(BLOCKS, dtype=jnp.int32), travel.blocks // 2
    early, late = (at < half)[:, None], ((at >= half) & (at < travel.blocks))[:, None]
    # Without the last of an odd number of blocks, the halves are equally long.
    even = (at < 2 * half)[:, None]
    first, second = (jnp.where(x & even, travel.means, 0).sum(0) for x in (early, late))
    n = real(jnp.maximum(late.sum(), 2))
    slopes = jnp.where(late[:, 0], travel.means[:, 1], 0)
    mean = slopes.sum() / n
    error = jnp.sqrt(jnp.where(late[:, 0], (slopes - mean) ** 2, 0).sum() / (n - 1) / n)
    known = travel.blocks >= TREND
    before, after = (jnp.where(known & (x[0] > 0), over(x[1], x[0]), 0) for x in (first, second))
    return Travel(
        moving=jnp.where(known & (first[0] > 0), over(second[0], first[0]), 1),
        # A slope down after a slope up is a recovery, not a trend.
        ahead=jnp.where(
            (before > 0) | (after < 0), over(after, jnp.abs(before) + jnp.abs(after)), 0
        ),
        surely=jnp.where(known, over(mean, error), 0),
        least=jnp.where(known, jnp.minimum(first[1], second[1]), 0) * real(travel.size),
        total=jnp.where(known, first[1] + second[1], 0) * real(travel.size),
    )
