"""The numbers by which a run is judged, from what `monitor` remembers of it.

They have no unit: that of a loss is the mean of the first few less the floor. Trends are of the
latter half of the run, by least squares over the means of its blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import real, saturated
from jaxsched._diagnose._monitor import MonitorState
from jaxsched._diagnose._stream import BLOCKS, History

SMALL = 1e-18  # what is divided by is at least this
LARGE = 1e15  # and what is squared at most this
TREND = 8  # blocks before which nothing is said of a trend


class Evidence(NamedTuple):
    """The numbers behind the scores: finite floats. The unit of a loss is the mean of the first."""

    steps: jax.Array  # int32: finite losses seen
    broken: jax.Array  # losses and gradients that were NaN or infinite, over all updates
    lost: jax.Array  # int32: such losses since the last finite one
    level: jax.Array  # the mean loss of late, less the floor
    best: jax.Array  # the lowest it has been
    worst: jax.Array  # the highest it has been
    alarm: jax.Array  # Page and Hinkley's, in deviations; 12 is the usual limit
    spread: jax.Array  # the deviation of the loss, from one step to the next
    neumann: jax.Array  # von Neumann's ratio: a trend is near 0, noise 1, an oscillation 2
    fall: jax.Array  # by how much the loss fell
    fall_error: jax.Array  # the standard error of that
    pressure: jax.Array  # Prechelt's P_k: mean over least loss in the latter half, less 1
    early: jax.Array  # how high the mean loss has risen above the very first, in units of that
    moved: jax.Array  # int32: updates that are known to have gone along the gradient or against it
    climb: jax.Array  # those along it less those against it, over all of them; downhill is -1
    cosine: jax.Array  # of consecutive gradients
    norm: jax.Array  # of the gradients, over that of the first
    outward: jax.Array  # the cosine of the descent and the parameters
    moving: jax.Array  # how far the parameters moved in the latter half, over the former
    gap: jax.Array  # the last validation loss, less the mean training loss
    rise: jax.Array  # Prechelt's GL: the last validation loss over the best, less 1
    validation_fall: jax.Array  # by how much the validation loss fell
    validation_error: jax.Array  # the standard error of that


class Trend(NamedTuple):
    """A line through the latter half of a history."""

    fall: jax.Array  # by how much it falls
    error: jax.Array  # the standard error of that
    pressure: jax.Array  # the mean over the least, less 1


def evidence(state: MonitorState, floor: jax.Array) -> Evidence:
    """The numbers of one run, or under `vmap` of many."""
    loss, valid, gradient = state.loss, state.validation, state.gradient
    # One loss may be far off by chance, and the mean of several by an explosion among them.
    first = jnp.abs(loss.first - floor)
    unit = jnp.maximum(jnp.clip(jnp.abs(loss.start - floor), first / 1.5, first * 1.5), SMALL)
    trend, validation = _trend(loss.history, unit, floor), _trend(valid.history, unit, floor)
    judged = (valid.seen > 0) & (loss.seen > 0)
    updates = jnp.maximum(jnp.maximum(loss.seen + loss.broken, gradient.seen + gradient.broken), 1)
    found = Evidence(
        steps=loss.seen,
        broken=real(jnp.maximum(loss.broken, gradient.broken)) / real(updates),
        lost=loss.lost,
        level=(loss.mean - floor) / unit,
        best=(loss.best - floor) / unit,
        worst=(loss.worst - floor) / unit,
        alarm=loss.alarm,
        # Of the jumps, not of the variance, which a trend has too.
        spread=jnp.sqrt(loss.jumps / 2) / unit,
        neumann=loss.jumps / jnp.maximum(2 * loss.variance, SMALL),
        fall=trend.fall,
        fall_error=trend.error,
        pressure=trend.pressure,
        early=(loss.worst - loss.first) / _least(loss.first - floor),
        moved=state.parameters.moved,
        climb=state.parameters.climb,
        cosine=gradient.cosine,
        norm=gradient.norm / jnp.maximum(gradient.first, SMALL),
        outward=state.parameters.outward,
        moving=_moving(state.parameters.travel),
        gap=jnp.where(judged, (valid.latest - loss.mean) / unit, 0),
        rise=jnp.where(judged, (valid.latest - valid.best) / _least(valid.best - floor), 0),
        validation_fall=validation.fall,
        validation_error=validation.error,
    )
    return jax.tree.map(lambda x: saturated(x) if x.dtype == unit.dtype else x, found)


def _least(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, SMALL)


def _trend(history: History, unit: jax.Array, floor: jax.Array) -> Trend:
    at = jnp.arange(BLOCKS, dtype=jnp.int32)
    late = (at >= history.blocks // 2) & (at < history.blocks)
    n = real(jnp.maximum(late.sum(), 3))
    y = jnp.clip(jnp.where(late, (history.means - floor) / unit, 0), -LARGE, LARGE)
    x = jnp.where(late, real(at) - jnp.where(late, real(at), 0).sum() / n, 0)
    spread, mean = _least((x**2).sum()), y.sum() / n
    slope = (x * y).sum() / spread
    rest = jnp.where(late, y - mean - slope * x, 0)
    error = jnp.sqrt((rest**2).sum() / (n - 2) / spread)
    pressure = mean / _least(jnp.where(late, y, LARGE).min()) - 1
    known = history.blocks >= TREND
    return Trend(*(jnp.where(known, x, 0) for x in (-slope * n, error * n, pressure)))


def _moving(travel: History) -> jax.Array:
    """Travelled in the latter half over the former; 1 if that is not known."""
    at, half = jnp.arange(BLOCKS, dtype=jnp.int32), travel.blocks // 2
    early = jnp.where(at < half, travel.means, 0).sum()
    late = jnp.where((at >= half) & (at < 2 * half), travel.means, 0).sum()
    known = (travel.blocks >= TREND) & (early > 0)
    return jnp.where(known, late / jnp.where(known, early, 1), 1)
