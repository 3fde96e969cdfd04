"""What a fit knows about the errors of its law.

A forecast is wrong for two reasons. The fitted runs leave the parameters uncertain: that is the
posterior covariance of their logarithms. And no law is exact: its own error grows with the part of
the loss that comes from falls of the rate, and with the distance beyond the runs that were fitted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._require import refuse
from jaxsched._forecast._annealing import Annealing

# The error of the law itself, calibrated on the ends of the published runs of 25 million parameters
# by `benchmarks/forecast.py --calibrate`. All are relative to the loss.
ALWAYS = 1e-3
OF_FALLS = 0.1  # of the part of the loss that comes from falls of the rate
BEYOND = 3e-3  # for each e-fold of the sum of the rates beyond that of the runs


class Evidence(NamedTuple):
    """What the fitted runs say about a law, beside its parameters."""

    covariance: jax.Array
    """The posterior covariance of the logarithms of the parameters, float[n, n]."""
    lowest: jax.Array
    """The lowest rate after a warmup."""
    highest: jax.Array
    """The highest rate."""
    summed: jax.Array
    """The largest sum of rates."""
    worse: jax.Array
    """How many times larger than usual the errors on the fitted runs are, at least 1.

    It is the largest of the errors along the curves, and of the errors at their ends when only
    their first halves are fitted.
    """


def deviation(law: Any, seen: Annealing) -> jax.Array:
    """Return the standard deviation of the logarithm of each loss."""
    evidence: Evidence | None = law.evidence
    if evidence is None:
        remedy = "Use a law of `fit_loss_law(...)`."
        raise ValueError(refuse(type(law).__name__, "evidence", "be known", None, remedy))

    def log_loss(logs: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(law.with_logs(logs).at(seen), jnp.finfo(logs.dtype).tiny))

    slope = jax.jacfwd(log_loss)(law.logs())
    posterior = jnp.sum((slope @ evidence.covariance) * slope, axis=-1)
    falls = jnp.sum(seen.fall / law.unit_rate * law.effect(seen), axis=-1)
    of_falls = law.drop * falls / law.at(seen)
    beyond = jnp.log(jnp.maximum(seen.summed / evidence.summed, 1))
    own = ALWAYS**2 + (OF_FALLS * of_falls) ** 2 + (BEYOND * beyond) ** 2
    return jnp.sqrt(posterior + evidence.worse**2 * own)
