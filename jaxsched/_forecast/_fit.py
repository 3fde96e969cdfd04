"""Fitting a loss law to runs: the most probable parameters, and how uncertain they are."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._numerics import real
from jaxsched._core._require import length, one_of
from jaxsched._forecast._annealing import Annealing
from jaxsched._forecast._curves import Curve, curves_of
from jaxsched._forecast._evidence import Evidence
from jaxsched._forecast._laws import LAWS, LossLaw
from jaxsched._forecast._least_squares import curvature, least_squares

NEAR = 2e-3  # the error of a law along a curve, relative to the loss; smaller ones are not fitted
# A law is for late losses. This is the power of the sum of rates with which its error falls.
EARLY = 0.7
OUTLIER = 2.0  # larger errors, in standard deviations, count linearly
# Errors of a law along a curve are alike for a long time: a run has so many independent ones.
INDEPENDENT = 10


def fit_loss_law(runs: Any, *, form: str = "multi_power", starts: int = 16) -> LossLaw:
    """Fits a loss law to the loss curves of runs, so that it predicts those of other schedules.

        minimize over log(parameters):
          sum over losses of huber((log law - log loss) / s) + sum of ((x - mean) / spread)**2
        s**2 = noise**2 + (0.002 (S_end / S)**0.7)**2

    Here S is the sum of the rates up to a loss, so that early losses, where no law holds, count
    less. The second sum is a prior, which is the same for all runs: exponents about 0.5, a fall of
    the rate to zero worth about 5 % of the last loss, and a memory of any length. It decides what
    the runs do not determine; `law.undetermined` names these parameters, and the band of a forecast
    is wide where they matter. Two runs are enough for a good law: one at a constant rate, and a
    branch of it in which the rate falls, for example to a third, for a fifth of the run.

    The losses of the warmup are left out, but its rates count. Many losses are averaged in 128
    blocks per run, so the losses of single batches can be used; a validation loss is better.

    Args:
      runs: a list of runs, each a tuple (rates, steps, losses). The rates are the schedule of the
        run, or an array: one rate for each of `steps`, as in a log, or one for each step of the
        run. A branch is a run whose rates include those before the branch. Losses are positive.
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
    one_of(call, tuple(LAWS), form=form)
    starts = int(length(call, starts=starts, least=1))
    curves = curves_of(call, runs)
    law = _unfitted(LAWS[form], curves)
    seen, losses, scale = _joined(curves)
    means = jnp.log(real(curves[-1].losses[-1])) * real(
        np.array([x in law.LOSSES for x in law.PRIOR])
    )
    points = np.random.default_rng(0).standard_normal((starts, len(law.PRIOR))) * 0.7
    logs, covariance, worse = _fitted(law, seen, losses, scale, means, real(points))
    lowest, highest = (
        real(f(getattr(c, x) for c in curves)) for f, x in ((min, "lowest"), (max, "highest"))
    )
    summed = real(max(float(np.max(c.seen.summed)) for c in curves))
    evidence = Evidence(covariance, lowest, highest, summed, worse)
    return dataclasses.replace(law.with_logs(logs), evidence=evidence)


def _unfitted(form: type[LossLaw], curves: list[Curve]) -> LossLaw:
    """Return a law with the units of the runs, and with the means of its prior."""
    means = {name: float(np.exp(mean)) for name, (mean, _) in form.PRIOR.items()}
    units = {
        "unit_rate": max(c.highest for c in curves),
        "unit_steps": float(max(c.steps for c in curves)),
    }
    return form(**means, **units)  # pyright: ignore[reportArgumentType]


def _joined(curves: list[Curve]) -> tuple[Annealing, jax.Array, jax.Array]:
    """Return the points of all curves, padded so that there is a program for a few shapes only."""
    seen = jax.tree.map(lambda *x: np.concatenate(x), *(c.seen for c in curves))
    losses = np.concatenate([c.losses for c in curves])
    scale = np.concatenate([np.hypot(c.noise, NEAR * _early(c)) for c in curves])
    groups = np.any(seen.fall != 0, axis=0)
    order = np.argsort(~groups, kind="stable")[: _power(int(groups.sum()))]
    more = _power(len(losses)) - len(losses)

    def padded(x: np.ndarray) -> np.ndarray:
        x = x[:, order] if x.ndim == 2 else x
        return np.concatenate([x, np.repeat(x[-1:], more, axis=0)])

    # A point with an infinite scale has no weight.
    ends = np.concatenate([scale, np.full(more, np.inf)])
    return jax.tree.map(padded, seen), real(padded(losses)), real(ends)


def _early(curve: Curve) -> np.ndarray:
    """Return how much worse a law is expected to be at each point than at the last."""
    summed = np.asarray(curve.seen.summed)
    return (summed[-1] / summed) ** EARLY


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


@partial(jax.jit)
def _fitted(
    law: LossLaw,
    seen: Annealing,
    losses: jax.Array,
    scale: jax.Array,
    shift: jax.Array,
    points: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the logarithms of the parameters, their covariance, and how much worse the fit is."""
    mean = real(np.array([mean for mean, _ in law.PRIOR.values()])) + shift
    spread = real(np.array([spread for _, spread in law.PRIOR.values()]))

    def errors(x: jax.Array) -> jax.Array:
        predicted = law.with_logs(mean + spread * x).at(seen)
        return jnp.log(jnp.maximum(predicted, 1e-3 * losses)) - jnp.log(losses)

    def residuals(x: jax.Array) -> jax.Array:
        return _robust(errors(x) / scale)

    found, values = least_squares(residuals, points)
    x = found[jnp.argmin(values)]
    # Neighbouring errors are alike, so that the points of a curve say less than as many separate
    # ones would.
    counted = jnp.isfinite(scale)
    share = jnp.minimum(1, INDEPENDENT / jnp.sum(counted))
    # Where the law fits worse than usual, it also predicts worse.
    worse = jnp.maximum(1, jnp.mean((errors(x) / scale) ** 2, where=counted))
    share /= worse
    slopes = jax.jacfwd(residuals)(x) * jnp.sqrt(share)
    covariance = jnp.linalg.inv(curvature(slopes))
    return mean + spread * x, covariance * jnp.outer(spread, spread), jnp.sqrt(worse)


def _robust(z: jax.Array) -> jax.Array:
    """Return residuals whose squares grow linearly where `z` is beyond `OUTLIER`."""
    # The square of the pseudo-Huber residual, z**2 * 2 / (1 + root), so that nothing cancels.
    root = jnp.sqrt(1 + (z / OUTLIER) ** 2)
    return z * jnp.sqrt(2 / (1 + root))
