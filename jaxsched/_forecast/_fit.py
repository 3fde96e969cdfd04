"""Fitting a loss law to runs: the most probable parameters, and how uncertain they are."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._numerics import real
from jaxsched._core._padded import power_of_two
from jaxsched._core._require import length, one_of
from jaxsched._forecast._annealing import Annealing
from jaxsched._forecast._curves import Curve, curves_of
from jaxsched._forecast._evidence import Evidence, deviation
from jaxsched._forecast._laws import LAWS, LossLaw
from jaxsched._forecast._least_squares import curvature, least_squares

NEAR = 2e-3  # the error of a law along a curve, relative to the loss; smaller ones are not fitted
# A law is for late losses. This is the power of the sum of rates with which its error falls.
EARLY = 0.7
OUTLIER = 2.0  # larger errors, in standard deviations, count linearly
# Errors of a law along the curves are alike for a long time: a fit has so many independent ones.
INDEPENDENT = 10


class _Points(NamedTuple):
    """The points of all curves."""

    seen: Annealing
    losses: jax.Array
    scale: jax.Array  # the standard deviation of the logarithm of each loss; infinite for padding
    place: jax.Array  # where a point is in its curve: 1 is its end


def fit_loss_law(runs: Any, *, form: str = "multi_power", starts: int = 16) -> LossLaw:
    """Fits a loss law to the loss curves of runs, so that it predicts those of other schedules.

        minimize over log(parameters):
          sum over losses of huber((log law - log loss) / s) + sum of ((x - mean) / spread)**2
        s**2 = noise**2 + (0.002 (S_end / S)**0.7)**2

    Here S is the sum of the rates of all steps before a loss was measured. This weight makes early
    losses, where no law holds, count less. The second sum is a prior, the same for all runs. It
    says that the exponents are about 0.5, and that a fall of the rate to zero lowers the loss by
    about 5 %. It says nothing about the memory. It decides what the runs do not determine;
    `law.undetermined` names these parameters, and the band of a forecast is wide where they matter.
    Two runs are enough for a good law: one at a constant rate, and a branch of it in which the rate
    falls, for example to a tenth, for a fifth of the run.

    The losses of the warmup are left out, but its rates count. Many losses are averaged in 128
    blocks per run, so the losses of single batches can be used; a validation loss is better.

    Args:
      runs: a list of runs, each a tuple (rates, steps, losses). The rates are the schedule of the
        run, or an array: one rate for each of `steps`, as in a log, or one for each step of the
        run. If a log has an entry every n steps, and its first entry is later than step 2n, a
        linear warmup from zero is assumed before that entry. A branch is a run whose rates include
        those before the branch. Losses are positive.
      form: the law: "multi_power" or "annealing". See `MultiPowerLaw` and `AnnealingLaw`.
      starts: the number of starting points of the search, all in one compiled program.

    Returns:
      The law. It is a pytree; `law(schedule, steps)` predicts losses.

    Raises:
      ValueError: a run has fewer than three losses after its warmup, or a loss that is not finite
        or not positive, or steps that do not rise, or rates that are negative or all zero.

    Example:
      >>> steps = np.arange(100, 2000, 20)
      >>> truth = MultiPowerLaw(
      ...     floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
      ...     unit_rate=0.01, unit_steps=2000)
      >>> stable, branch = constant(0.01), constant(0.01, 1000) >> constant(0.003)
      >>> runs = [(rates, steps, truth(rates, steps)) for rates in (stable, branch)]
      >>> law = fit_loss_law(runs)
      >>> decay = constant(0.01, 1600) >> linear(0.01, 0.0, 400)
      >>> print(f"{truth(decay, 2000):.2f} {law(decay, 2000):.2f}")
      3.02 3.02

    References:
      Luo et al., ICLR 2025, https://arxiv.org/abs/2503.12811; Tissue et al., 2024,
      https://arxiv.org/abs/2408.11029.
    """
    call = "fit_loss_law"
    one_of(call, "form", form, tuple(LAWS))
    starts = int(length(call, "starts", starts, least=1))
    curves = curves_of(call, runs)
    law, points = _unfitted(LAWS[form], curves), _joined(curves)
    begun = np.random.default_rng(0).standard_normal((starts, len(law.PRIOR))) * 0.7
    rates = real(min(c.lowest for c in curves)), real(max(c.highest for c in curves))
    return _fitted(law, points, real(begun), real(min(c.losses[-1] for c in curves)), rates)


def _unfitted(form: type[LossLaw], curves: list[Curve]) -> LossLaw:
    """Return a law with the units of the runs, and with the means of its prior."""
    means = {name: float(np.exp(mean)) for name, (mean, _) in form.PRIOR.items()}
    units = {
        "unit_rate": max(c.highest for c in curves),
        "unit_steps": float(max(c.steps for c in curves)),
    }
    return form(**means, **units)  # pyright: ignore[reportArgumentType]


def _joined(curves: list[Curve]) -> _Points:
    """Return the points of all curves, padded so that there is a program for a few shapes only."""
    seen = jax.tree.map(lambda *x: np.concatenate(x), *(c.seen for c in curves))
    losses = np.concatenate([c.losses for c in curves])
    scale = np.concatenate([np.hypot(c.noise, NEAR * _early(c)) for c in curves])
    place = np.concatenate([np.arange(1, len(c.losses) + 1) / len(c.losses) for c in curves])
    groups = np.any(seen.fall != 0, axis=0)
    order = np.argsort(~groups, kind="stable")[: power_of_two(int(groups.sum()))]
    more = power_of_two(len(losses)) - len(losses)

    def padded(x: np.ndarray) -> np.ndarray:
        x = x[:, order] if x.ndim == 2 else x
        return np.concatenate([x, np.repeat(x[-1:], more, axis=0)])

    # A point with an infinite scale has no weight.
    scale = np.concatenate([scale, np.full(more, np.inf)])
    return _Points(
        jax.tree.map(padded, seen), real(padded(losses)), real(scale), real(padded(place))
    )


def _early(curve: Curve) -> np.ndarray:
    """Return how much worse a law is expected to be at each point than at the last."""
    summed = np.asarray(curve.seen.summed)
    return (summed[-1] / summed) ** EARLY


@jax.jit
def _fitted(
    law: LossLaw,
    points: _Points,
    starts: jax.Array,
    last: jax.Array,
    rates: tuple[jax.Array, jax.Array],
) -> LossLaw:
    """Return the most probable law, with what is known of its errors."""
    # First as if each run had stopped halfway: the error at its end then shows what to expect.
    half = points._replace(scale=jnp.where(points.place <= 0.5, points.scale, jnp.inf))
    before = _searched(law, half, starts, last, rates, real(1.0))
    ends = (points.place == 1) & jnp.isfinite(points.scale)
    missed = jnp.abs(_errors(before, points)) / deviation(before, points.seen)
    return _searched(law, points, starts, last, rates, jnp.max(jnp.where(ends, missed, 0)))


def _searched(
    law: LossLaw,
    points: _Points,
    starts: jax.Array,
    last: jax.Array,
    rates: tuple[jax.Array, jax.Array],
    worse: jax.Array,
) -> LossLaw:
    prior = np.array([*law.PRIOR.values()])
    of_losses = real(np.array([x in law.LOSSES for x in law.PRIOR]))
    mean, spread = real(prior[:, 0]) + of_losses * jnp.log(last), real(prior[:, 1])

    def errors(x: jax.Array) -> jax.Array:
        return _errors(law.with_logs(mean + spread * x), points) / points.scale

    def residuals(x: jax.Array) -> jax.Array:
        return _robust(errors(x))

    found, values = least_squares(residuals, starts)
    x = found[jnp.argmin(values)]
    counted = jnp.isfinite(points.scale)
    # Where the law fits worse than usual, it also predicts worse.
    worse = jnp.maximum(jnp.maximum(worse, 1), jnp.sqrt(jnp.mean(errors(x) ** 2, where=counted)))
    # Neighbouring errors are alike, so that the points of a curve say less than as many separate
    # ones would.
    share = jnp.minimum(1, INDEPENDENT / jnp.sum(counted)) / worse**2
    covariance = jnp.linalg.inv(curvature(jax.jacfwd(residuals)(x) * jnp.sqrt(share)))
    summed = jnp.max(jnp.where(counted, points.seen.summed, 0))
    evidence = Evidence(covariance * jnp.outer(spread, spread), *rates, summed, worse)
    return dataclasses.replace(law.with_logs(mean + spread * x), evidence=evidence)


def _errors(law: LossLaw, points: _Points) -> jax.Array:
    predicted = jnp.maximum(law.at(points.seen), 1e-3 * points.losses)
    return jnp.log(predicted) - jnp.log(points.losses)


def _robust(z: jax.Array) -> jax.Array:
    """Return residuals whose squares grow linearly where `z` is beyond `OUTLIER`."""
    # The square of the pseudo-Huber residual, z**2 * 2 / (1 + root), so that nothing cancels.
    root = jnp.sqrt(1 + (z / OUTLIER) ** 2)
    return z * jnp.sqrt(2 / (1 + root))
