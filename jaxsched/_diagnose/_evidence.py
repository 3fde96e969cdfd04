"""The numbers by which a run is judged, from the record that `monitor` keeps.

They have no unit: losses are divided by the mean of the first few, after subtracting the floor.
Trends are fitted to the second half of the run, by least squares over the means of its blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import real, saturated
from jaxsched._diagnose._monitor import MonitorState
from jaxsched._diagnose._stream import BLOCKS, History

SMALL = 1e-18  # smallest divisor
LARGE = 1e15  # largest number that is squared
TREND = 8  # smallest number of blocks for a trend


class Evidence(NamedTuple):
    """The numbers behind the scores: finite floats. Losses are in units of the first mean loss."""

    steps: jax.Array  # int32: finite losses seen
    broken: jax.Array  # losses and gradients that were NaN or infinite, over all updates
    lost: jax.Array  # int32: non-finite losses since the last finite one
    level: jax.Array  # the recent mean loss, minus the floor
    best: jax.Array  # the lowest mean loss
    worst: jax.Array  # the highest mean loss
    alarm: jax.Array  # Page and Hinkley's statistic, in deviations; 12 is the usual limit
    spread: jax.Array  # the deviation of the loss from one step to the next
    neumann: jax.Array  # von Neumann's ratio: near 0 for a trend, 1 for noise, 2 for oscillation
    fall: jax.Array  # the fall of the loss
    fall_error: jax.Array  # the standard error of that fall
    pressure: jax.Array  # Prechelt's P_k: mean over lowest loss in the second half, minus 1
    early: jax.Array  # the rise of the mean loss above the very first, in units of that
    moved: jax.Array  # int32: updates known to have gone along the gradient or against it
    climb: jax.Array  # (updates along - updates against) / all of them; downhill is -1
    cosine: jax.Array  # cosine of consecutive gradients
    norm: jax.Array  # norm of the gradients, divided by that of the first
    outward: jax.Array  # cosine of the descent direction and the parameters
    moving: jax.Array  # movement of the parameters in the second half, divided by the first half
    gap: jax.Array  # the last validation loss, minus the mean training loss
    rise: jax.Array  # Prechelt's GL: the last validation loss over the best, minus 1
    validation_fall: jax.Array  # the fall of the validation loss
    validation_error: jax.Array  # the standard error of that fall


class Trend(NamedTuple):
    """A line through the second half of a history."""

    fall: jax.Array  # the fall of the line
    error: jax.Array  # the standard error of the fall
    pressure: jax.Array  # the mean over the lowest, minus 1


def evidence(state: MonitorState, floor: jax.Array) -> Evidence:
    """Return the numbers of one run, or under `vmap` of many."""
    loss, valid, gradient = state.loss, state.validation, state.gradient
    # One loss may be far off by chance, and a mean of several by an explosion among them.
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
        # From the jumps, not from the variance, which includes the trend.
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
    """Return the movement in the second half over the first half; 1 if it is not known."""
    at, half = jnp.arange(BLOCKS, dtype=jnp.int32), travel.blocks // 2
    early = jnp.where(at < half, travel.means, 0).sum()
    late = jnp.where((at >= half) & (at < 2 * half), travel.means, 0).sum()
    known = (travel.blocks >= TREND) & (early > 0)
    return jnp.where(known, late / jnp.where(known, early, 1), 1)
