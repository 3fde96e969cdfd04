"""Loss laws: formulas for the loss of a run, given its learning rates.

Both laws say: the loss falls as a power of the sum of the rates; and it falls further when the rate
falls, because the noise of the updates dies away. They differ in how long a fall of the rate takes
to have its effect.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core._fields import fields_of, kind_of, number_field, tree_field
from jaxsched._core._node import Node, require_unstacked
from jaxsched._core._require import NOT_NEGATIVE, POSITIVE, PROPER, refuse, require, within
from jaxsched._forecast._annealing import Annealing, annealing
from jaxsched._forecast._evidence import Evidence, deviation
from jaxsched._forecast._rates import rates_of, read_at


class LossLaw(Node):
    """Base class of the laws.

        loss(t) = floor + gain S(t)**-alpha - drop sum_k (r[k-1] - r[k]) / unit_rate * effect_k(t)
        S(t) = (r[0] + ... + r[t-1]) / (unit_rate * unit_steps)

    The sum over k begins after the warmup: the rates of the warmup count only in S.
    """

    floor: float = number_field(within=POSITIVE)
    gain: float = number_field(within=POSITIVE)
    alpha: float = number_field(within=POSITIVE)
    drop: float = number_field(within=NOT_NEGATIVE)
    memory: float = number_field(within=POSITIVE)
    unit_rate: float = number_field(default=1.0, within=POSITIVE)
    unit_steps: float = number_field(default=1.0, within=POSITIVE)
    evidence: Evidence | None = tree_field(default=None, kw_only=True)

    # What is expected of the logarithm of each parameter before any run is seen, as a mean and a
    # standard deviation. The unit of `floor`, `gain` and `drop` is the last loss.
    PRIOR: ClassVar[dict[str, tuple[float, float]]] = {
        "floor": (math.log(0.8), 0.5),
        "gain": (math.log(0.2), 1.5),
        "alpha": (math.log(0.5), 0.7),
        "drop": (math.log(0.05), 0.7),
        "memory": (math.log(0.05), 3.0),
    }

    LOSSES: ClassVar[tuple[str, ...]] = ("floor", "gain", "drop")

    def __post_init__(self) -> None:
        call = type(self).__name__
        for field in fields_of(self):
            checked = kind_of(field).checked(call, field, getattr(self, field.name))
            vars(self)[field.name] = checked

    def __call__(self, rates: Any, steps: Any) -> jax.Array:
        """Return the losses of a run at some steps.

        Args:
          rates: a schedule, or any function of the step; an array with one rate per step of the
            run; or an array with one rate for each of `steps`, as a log has them. Rates between
            logged steps are interpolated. If the log begins late, at more than twice its interval,
            the rate is taken to rise linearly from zero before it.
          steps: the steps, a whole number or a list of them, at least 1. The loss at step t is the
            loss after t updates. Steps cannot be traced, because they set shapes.

        Returns:
          float32 (float64 under x64), of the shape of `steps`. It can be differentiated with
          respect to the numbers of the schedule and of the law, and mapped over both.
        """
        seen = self._seen(rates, steps)
        return self.at(seen).reshape(np.shape(steps))

    def band(self, rates: Any, steps: Any, *, level: float = 0.9) -> tuple[jax.Array, jax.Array]:
        """Return the losses between which the loss of a run is, with a probability of `level`.

        The band is wide where the fitted runs do not determine the law, and it includes the error
        of the law itself, as measured on published runs. It is not a proof.

        Args:
          rates: as for a call of the law.
          steps: as for a call of the law.
          level: a probability in (0, 1).

        Returns:
          The lower losses and the upper losses. Both have the shape and the dtype of the losses
          that a call of the law returns.

        Raises:
          ValueError: the law was not fitted, so that its error is not known.
        """
        within(f"{type(self).__name__}.band", "level", level, PROPER)
        seen = self._seen(rates, steps)
        wide = jax.scipy.stats.norm.ppf((1 + level) / 2) * deviation(self, seen)
        losses = self.at(seen)
        low, high = losses * jnp.exp(-wide), losses * jnp.exp(wide)
        return low.reshape(np.shape(steps)), high.reshape(np.shape(steps))

    def at(self, seen: Annealing) -> jax.Array:
        """Return the losses at some points, given what a law reads of the rates before them."""
        total = seen.summed / (self.unit_rate * self.unit_steps)
        falls = jnp.sum(seen.fall / self.unit_rate * self.effect(seen), axis=-1)
        return self.floor + self.gain * total**-self.alpha - self.drop * falls

    def effect(self, seen: Annealing) -> jax.Array:
        """Return the fraction of the effect of each fall that has been reached, in [0, 1)."""
        raise NotImplementedError

    def logs(self) -> jax.Array:
        """Return the logarithms of the parameters, in the order of `PRIOR`."""
        return jnp.log(jnp.stack([jnp.asarray(getattr(self, name), float) for name in self.PRIOR]))

    def with_logs(self, logs: jax.Array) -> Self:
        """Return the law with other parameters, from their logarithms."""
        return dataclasses.replace(self, **dict(zip(self.PRIOR, jnp.exp(logs), strict=True)))

    @property
    def undetermined(self) -> tuple[str, ...]:
        """The parameters that the fitted runs say little about; their prior decides.

        For example, one run at a constant rate says nothing about the effect of a fall, and the
        falls to one rate say nothing about `gamma`.
        """
        if self.evidence is None:
            return ()
        width = np.sqrt(np.diagonal(np.asarray(self.evidence.covariance)))
        prior = np.array([spread for _, spread in self.PRIOR.values()])
        return tuple(np.array([*self.PRIOR])[width > 0.8 * prior].tolist())

    def _seen(self, rates: Any, steps: Any) -> Annealing:
        call = type(self).__name__
        require_unstacked(self)
        points = read_at(call, np.atleast_1d(steps) if np.ndim(steps) == 0 else steps)
        return annealing(rates_of(call, rates, points), points)

    def __repr__(self) -> str:
        names = (*self.PRIOR, "unit_rate", "unit_steps")
        numbers = ", ".join(f"{name}={_short(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({numbers})"


class MultiPowerLaw(LossLaw):
    """The multi-power law: after a fall of the rate, the loss drops by a power law, gradually.

        loss(t) = floor + gain S(t)**-alpha - drop sum_k (r[k-1] - r[k]) / unit_rate * effect_k(t)
        effect_k(t) = 1 - (1 + (r[k] / unit_rate)**-gamma S_k(t) / memory)**-beta
        S(t) = (r[0] + ... + r[t-1]) / (unit_rate unit_steps)
        S_k(t) = (r[k] + ... + r[t-1]) / (unit_rate unit_steps)

    Here r[k] is the rate of update k. The sum over k begins after the warmup, whose rates count in
    S alone. Call the law with the rates of a run, and with the steps at which to predict its loss.
    `fit_loss_law` finds the parameters; with the default units they are those of the paper, with
    floor = L0, gain = A, drop = B and memory = 1 / C.

    Args:
      floor: the limit of the loss in an infinitely long run.
      gain: the loss above the floor at S = 1, at a constant rate.
      alpha: the power with which this part of the loss falls.
      drop: how much the loss falls in the end, if the rate falls from `unit_rate` to zero.
      memory: the sum of the rates, in units of S, that must follow a fall before it has much of
        its effect.
      beta: the exponent with which the effect of a fall approaches its final size.
      gamma: how much sooner the effect comes at a low rate.
      unit_rate: the unit of rates; in a fitted law, the highest rate of the runs.
      unit_steps: the unit of steps; in a fitted law, the length of the longest run.
      evidence: what a fit knows about its errors; None in a law that was not fitted.

    Example:
      >>> law = MultiPowerLaw(
      ...     floor=3.0, gain=0.5, alpha=0.5, drop=400.0, memory=0.5, beta=0.6, gamma=0.6)
      >>> for schedule in (constant(3e-4), cosine(3e-4, 3e-5, 20_000)):
      ...     print(f"{law(schedule, 20_000):.3f}")
      3.204
      3.171

    References:
      Luo et al., A multi-power law for loss curve prediction across learning rate schedules, ICLR
      2025, https://arxiv.org/abs/2503.12811, equations 1 to 3.
    """

    beta: float = number_field(within=POSITIVE)
    gamma: float = number_field(within=POSITIVE)

    PRIOR: ClassVar[dict[str, tuple[float, float]]] = {
        **LossLaw.PRIOR,
        "beta": (math.log(0.5), 0.7),
        "gamma": (math.log(0.5), 0.7),
    }

    def effect(self, seen: Annealing) -> jax.Array:
        since = seen.since / (self.unit_rate * self.unit_steps * self.memory)
        # Not as a power: its slope would take a logarithm for each start of a fit.
        sooner = jnp.exp(-self.gamma * jnp.log(seen.rate / self.unit_rate))
        grown = jnp.log1p(sooner * since)
        return -jnp.expm1(-self.beta * grown)


class AnnealingLaw(LossLaw):
    """The law of Tissue et al.: a fall has its effect within a fixed number of steps.

        loss(t) = floor + gain S(t)**-alpha - drop sum_k (r[k-1] - r[k]) / unit_rate * effect_k(t)
        effect_k(t) = 1 - exp(-(t - k) / (memory unit_steps))
        S(t) = (r[0] + ... + r[t-1]) / (unit_rate unit_steps)

    It has two parameters fewer than `MultiPowerLaw`, because a fall of the rate needs the same time
    for its effect, however high the rate is. The paper writes the same sums as S1 and S2, with the
    momentum lambda = exp(-1 / (memory unit_steps)) and with C = drop (1 - lambda) / unit_rate.

    Args:
      floor: the limit of the loss in an infinitely long run.
      gain: the loss above the floor at S = 1, at a constant rate.
      alpha: the power with which this part of the loss falls.
      drop: how much the loss falls in the end, if the rate falls from `unit_rate` to zero.
      memory: the time after which a fall has 63 % of its effect, in units of `unit_steps`.
      unit_rate: the unit of rates; in a fitted law, the highest rate of the runs.
      unit_steps: the unit of steps; in a fitted law, the length of the longest run.
      evidence: what a fit knows about its errors; None in a law that was not fitted.

    Example:
      >>> law = AnnealingLaw(
      ...     floor=3.0, gain=0.5, alpha=0.5, drop=400.0, memory=1000.0)
      >>> for schedule in (constant(3e-4), cosine(3e-4, 3e-5, 20_000)):
      ...     print(f"{law(schedule, 20_000):.3f}")
      3.204
      3.169

    References:
      Tissue, Wang and Wang, Scaling law with learning rate annealing, 2024,
      https://arxiv.org/abs/2408.11029, equation 1.
    """

    def effect(self, seen: Annealing) -> jax.Array:
        return -jnp.expm1(-seen.elapsed / (self.unit_steps * self.memory))


LAWS: dict[str, type[LossLaw]] = {"multi_power": MultiPowerLaw, "annealing": AnnealingLaw}


def require_law(call: str, law: Any) -> None:
    """Raise unless an argument is a law."""
    remedy = "Fit one with `fit_loss_law(...)`."
    require(isinstance(law, LossLaw), refuse(call, "law", "be a loss law", law, remedy))


def _short(x: Any) -> str:
    return f"{float(x):.4g}" if np.ndim(x) == 0 and not isinstance(x, Tracer) else "<...>"
