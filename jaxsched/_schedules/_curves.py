"""Curves: schedules with a start value, an end value and a length.

    value(t) = init_value * of_init + end_value * of_end,    of_init + of_end = 1

Each class implements its formula as two weights, computed from the fractions of the steps that are
done and left. No weight is computed as one minus the other if that would cancel. So a curve is
accurate near both ends, and exact at both ends. Outside its steps a curve holds the nearer end
value.

The classes are ordered by increasing complexity.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._clock import Length, is_counted, total
from jaxsched._core._factory import factory
from jaxsched._core._fields import length_field, number_field
from jaxsched._core._numerics import (
    above_zero,
    blend,
    half_cosine,
    log_ratio,
    raised,
    real,
    whole_if_due,
)
from jaxsched._core._position import done_and_left, fractions
from jaxsched._core._require import POSITIVE, UNIT, Condition, refuse, require
from jaxsched._schedules._schedule import Schedule

Weights = tuple[jax.Array, jax.Array]


_CONSTANT = "Use `constant(...)` for a schedule that never changes."


class Curve(Schedule):
    """Base class of curves: schedules with a start value, an end value and a length."""

    init_value: ArrayLike = number_field(kw_only=False)
    end_value: ArrayLike = number_field(kw_only=False)
    steps: Length = length_field(kw_only=False, remedy=_CONSTANT)  # pyright: ignore[reportIncompatibleMethodOverride]

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        """Returns the weights of the start value and of the end value.

        `done` and `left` are the fractions of the steps that are done and left.
        """
        raise NotImplementedError

    @property
    def length(self) -> jax.Array:
        """The number of steps as a real number of at least 1, for formulas that need it."""
        return jnp.maximum(real(total(self.steps)), 1)

    def at(self, t: jax.Array) -> jax.Array:
        return blend(self.init_value, self.end_value, *self.weights(*fractions(t, self.steps)))

    def _stretched(self, steps: Length) -> Schedule:
        return dataclasses.replace(self, steps=steps)

    @classmethod
    def _expect(cls, call: str, init_value: Any = None, steps: Any = None, **_: Any) -> None:
        if isinstance(steps, float) and isinstance(init_value, int) and init_value > max(steps, 1):
            order = f"The order is `{call}(init_value, end_value, steps)`."
            raise ValueError(refuse(call, "steps", "be an integer", steps, order))


class Linear(Curve):
    """A linear schedule: a straight line from `init_value` to `end_value`.

        value(t) = init_value + (end_value - init_value) * t / steps,    0 <= t <= steps

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, or `steps` is negative or not an integer.

    Example:
      >>> print(linear(1.0, 0.0, 4)(jnp.arange(6)))
      [1.   0.75 0.5  0.25 0.   0.  ]

    References:
      `optax.linear_schedule`. As a decay to zero: Bergsma et al., Straight to Zero, 2025,
      https://arxiv.org/abs/2502.15938.
    """

    def at(self, t: jax.Array) -> jax.Array:
        value = super().at(t)
        if not is_counted(t, self.steps):
            return value
        return whole_if_due(value, total(self.steps), self.init_value, self.end_value)

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        return left, done


linear = factory(Linear)


class OneMinusSqrt(Curve):
    """A one-minus-square-root schedule: falls steeply first; a good cooldown after a stable phase.

        value(t) = end_value + (init_value - end_value) * (1 - sqrt(t / steps)),    0 <= t <= steps

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, or `steps` is negative or not an integer.

    Example:
      >>> print(np.asarray(one_minus_sqrt(1.0, 0.0, 4)(jnp.arange(5))).round(3))
      [1.    0.5   0.293 0.134 0.   ]

    References:
      Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
      2024, https://arxiv.org/abs/2405.18392, section 3.
    """

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        root = jnp.where(done > 0, jnp.sqrt(jnp.where(done > 0, done, 1)), 0)
        return left / (1 + root), root


one_minus_sqrt = factory(OneMinusSqrt)


class Rex(Curve):
    """A reflected exponential schedule (REX): stays high, then falls fast.

        left     = 1 - t / steps
        value(t) = end_value + (init_value - end_value) * left / (beta + (1 - beta) * left)

    This is the value for 0 <= t <= steps.

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      beta: bend, > 0. 1 is a straight line; with a smaller `beta` the value stays high longer. The
        paper uses 1/2.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, or `beta` is not
        positive.

    Example:
      >>> print(np.asarray(rex(1.0, 0.0, 4)(jnp.arange(5))).round(3))
      [1.    0.857 0.667 0.4   0.   ]

    References:
      Chen, Wolfe and Kyrillidis, REX, 2021, https://arxiv.org/abs/2107.04197.
    """

    beta: ArrayLike = number_field(default=0.5, within=POSITIVE)

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        beta = above_zero(self.beta)
        scale = beta * done + left
        return left / scale, beta * done / scale


rex = factory(Rex)


class Tanh(Curve):
    """A hyperbolic-tangent schedule: flat, then falling, then flat.

        done     = t / steps
        value(t) = end_value + (init_value - end_value) * (1 - tanh(low + (high - low) * done)) / 2

    This is the value for 0 <= t < steps; from `steps` on it is `end_value`. The formula does not
    quite reach either end. With the defaults it starts 8e-7 of the way towards `end_value`. At step
    `steps` it would still be 0.0025 of the way from `end_value`; at this step the value becomes
    `end_value`.

    Args:
      init_value: limit of the formula before step 0.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      low: argument of the tangent at step 0.
      high: argument of the tangent at step `steps`, above `low`.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, or low >= high.

    Example:
      >>> print(np.asarray(tanh(1.0, 0.0, 4)(jnp.arange(5))).round(3))
      [1.    1.    0.982 0.269 0.   ]

    References:
      `timm.scheduler.TanhLRScheduler`; Hsueh et al., Stochastic Gradient Descent with
      Hyperbolic-Tangent Decay on Classification, 2018, https://arxiv.org/abs/1806.01593.
    """

    low: ArrayLike = number_field(default=-7.0)
    high: ArrayLike = number_field(default=3.0)

    def _check(self, call: str) -> None:
        low: Any = self.low
        require(low < self.high, refuse(call, "low", f"be below high={self.high!r}", low))

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        z = 2 * (real(self.low) * left + real(self.high) * done)
        ended = left <= 0
        return jnp.where(ended, 0, jax.nn.sigmoid(-z)), jnp.where(ended, 1, jax.nn.sigmoid(z))


tanh = factory(Tanh)


class Sigmoid(Curve):
    """A sigmoid schedule: a logistic curve, scaled so that it reaches both ends exactly.

        s(x)     = 1 / (1 + exp(-steepness * (x - midpoint)))
        value(t) = init_value + (end_value - init_value) * (s(t / steps) - s(0)) / (s(1) - s(0))

    This is the value for 0 <= t <= steps.

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      steepness: slope of the logistic curve, > 0. A small one is nearly linear, a large one nearly
        a step.
      midpoint: fraction of the steps at which the curve is steepest, in [0, 1].

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, `steepness` is not
        positive, or `midpoint` is not in [0, 1].

    Example:
      >>> print(np.asarray(sigmoid(0.0, 1.0, 4)(jnp.arange(5))).round(3))
      [0.    0.07  0.5   0.93  1.   ]

    References:
      `tanh` is the same curve without the scaling.
    """

    steepness: ArrayLike = number_field(default=10.0, within=POSITIVE)
    midpoint: ArrayLike = number_field(default=0.5, within=UNIT)

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        # Each weight is a product: the difference of two sigmoids would cancel near an end.
        k, middle = above_zero(self.steepness), jnp.clip(real(self.midpoint), 0, 1)

        def weight(part: jax.Array, past: jax.Array, far: jax.Array) -> jax.Array:
            rise = jnp.expm1(-k * part) / jnp.expm1(-k) * (1 + jnp.exp(-k * far))
            return jnp.where(part >= 1, 1, jax.nn.sigmoid(k * past) * rise)

        return weight(left, middle - done, middle), weight(done, done - middle, 1 - middle)


sigmoid = factory(Sigmoid)


class Polynomial(Curve):
    """A polynomial schedule: a power of the time that is left.

        value(t) = end_value + (init_value - end_value) * (1 - (t / steps)**k)**power

    This is the value for 0 <= t <= steps. With `power` above 1 it changes fast first, and with
    `power` below 1 it changes late. So a warmup by `polynomial(0.0, 1.0, steps, power=2.0)` is
    steep at first; for a power of the elapsed time, use `power_ramp`.

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      power: exponent, > 0.
      k: exponent of t / steps, > 0. Above 1, early values are kept for longer. None means 1.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, or `power` or `k` is
        not positive.

    Example:
      >>> print(np.asarray(polynomial(1.0, 0.0, 4, power=2.0)(jnp.arange(5))).round(3))
      [1.    0.562 0.25  0.062 0.   ]

    References:
      `optax.polynomial_schedule`. For `k`: Zhang and Li, k-decay, 2020,
      https://arxiv.org/abs/2004.05909.
    """

    power: ArrayLike = number_field(within=POSITIVE)
    k: ArrayLike | None = number_field(default=None, within=POSITIVE)

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        done, left = _delayed(done, left, self.k)
        return raised(left, done, self.power)


polynomial = factory(Polynomial)


class Cosine(Curve):
    """A cosine schedule: half a period of a cosine from `init_value` to `end_value`.

        value(t) = end_value
                   + (init_value - end_value) * ((1 + cos(pi * (t / steps)**k)) / 2)**exponent

    This is the value for 0 <= t <= steps.

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      exponent: power of the whole cosine factor, > 0. None means 1.
      k: exponent of t / steps, > 0. Above 1, early values are kept for longer. None means 1.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, or `exponent` or `k`
        is not positive.

    Example:
      >>> print(np.asarray(cosine(1.0, 0.0, 4)(jnp.arange(6))).round(3))
      [1.    0.854 0.5   0.146 0.    0.   ]

    References:
      Loshchilov and Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983, eq. 5; with `exponent`
      as in `optax.cosine_decay_schedule`.
    """

    exponent: ArrayLike | None = number_field(default=None, within=POSITIVE)
    k: ArrayLike | None = number_field(default=None, within=POSITIVE)

    def at(self, t: jax.Array) -> jax.Array:
        # Without a power, no end needs an exact fraction.
        parts = fractions(t, self.steps) if self.k is not None else done_and_left(t, self.steps)
        return blend(self.init_value, self.end_value, *self.weights(*parts))

    def weights(self, done: jax.Array, left: jax.Array, length: ArrayLike = 1.0) -> Weights:
        weights = half_cosine(*_delayed(done, left, self.k), length)
        return weights if self.exponent is None else raised(*weights, self.exponent)


cosine = factory(Cosine)


NOT_ZERO = Condition(
    "not be zero",
    lambda x: x != 0,
    "For a curve that reaches zero, use `linear`, `cosine` or `one_minus_sqrt`.",
)


class Geometric(Curve):
    """A geometric schedule: the same factor at every step, a straight line on a log axis.

        value(t) = init_value * (end_value / init_value)**(t / steps),    0 <= t <= steps

    Args:
      init_value: value at step 0 and before, not zero.
      end_value: value from step `steps` on, with the same sign.
      steps: length in optimizer steps, not negative.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is zero or not finite, the signs differ, or `steps` is negative or not an
        integer.

    Example:
      >>> print(np.asarray(geometric(1.0, 0.01, 4)(jnp.arange(5))).round(3))
      [1.    0.316 0.1   0.032 0.01 ]

    References:
      `sched_exp` of fastai; the sweep of Smith, Cyclical Learning Rates, 2017,
      https://arxiv.org/abs/1506.01186, section 3.3, on a logarithmic axis.
    """

    init_value: ArrayLike = number_field(within=NOT_ZERO, kw_only=False)
    end_value: ArrayLike = number_field(within=NOT_ZERO, kw_only=False)

    def _check(self, call: str) -> None:
        init: Any = self.init_value
        end: Any = self.end_value
        same = (init > 0) == (end > 0)
        require(same, refuse(call, "end_value", f"have the sign of init_value={init!r}", end))

    def at(self, t: jax.Array) -> jax.Array:
        done, left = fractions(t, self.steps)
        init, end = real(self.init_value), real(self.end_value)
        rate = log_ratio(jnp.abs(end), jnp.abs(init))
        # From the nearer end, so that both ends are exact; no exponential exceeds the ratio's root.
        early = done < left
        return jnp.where(early, init, end) * jnp.exp(jnp.where(early, done, -left) * rate)


geometric = factory(Geometric)


class PowerRamp(Curve):
    """A curve that is a power of the elapsed time. With a power above 1 it is a smooth warmup.

        value(t) = init_value + (end_value - init_value) * (t / steps)**power,    0 <= t <= steps

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative.
      power: exponent, > 0.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, `steps` is negative or not an integer, or `power` is not
        positive.

    Example:
      >>> print(np.asarray(power_ramp(0.0, 1.0, 4)(jnp.arange(5))).round(3))
      [0.    0.062 0.25  0.562 1.   ]
      >>> rate = warmup_cosine(0.1, total_steps=100, warmup_steps=10, warmup=power_ramp)

    References:
      `polynomial` is the power of the time that is left, as in Optax.
    """

    power: ArrayLike = number_field(default=2.0, within=POSITIVE)

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        of_end, of_init = raised(done, left, self.power)
        return of_init, of_end


power_ramp = factory(PowerRamp)


class Logarithmic(Curve):
    """A logarithmic schedule: steep first, then ever slower; the default warmup of DeepSpeed.

        value(t) = init_value + (end_value - init_value) * log(1 + t) / log(1 + steps)

    This is the value for 0 <= t <= steps.

    Args:
      init_value: value at step 0 and before.
      end_value: value from step `steps` on.
      steps: length in optimizer steps, not negative. DeepSpeed's `warmup_num_steps` is `steps + 1`.

    Returns:
      A schedule that ends at `steps`. Call it with an integer or an integer array; it returns
      float32 of the same shape.

    Raises:
      ValueError: a value is not finite, or `steps` is negative or not an integer.

    Example:
      >>> print(np.asarray(logarithmic(0.0, 1.0, 7)(jnp.array([0, 1, 3, 7]))).round(3))
      [0.    0.333 0.667 1.   ]

    References:
      DeepSpeed's `WarmupLR`, `WarmupDecayLR` and `WarmupCosineLR` with `warmup_type="log"`.
    """

    def weights(self, done: jax.Array, left: jax.Array) -> Weights:
        t, whole = done * self.length, jnp.log1p(self.length)
        of_init, of_end = jnp.log1p(left * self.length / (1 + t)) / whole, jnp.log1p(t) / whole
        return jnp.where(done <= 0, 1, of_init), jnp.where(left <= 0, 1, of_end)


logarithmic = factory(Logarithmic)


def _delayed(done: jax.Array, left: jax.Array, k: ArrayLike | None) -> Weights:
    """Apply k-decay: the fraction done counts as done**k."""
    return (done, left) if k is None else raised(done, left, k)
