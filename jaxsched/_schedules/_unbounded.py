"""Unbounded schedules: their value changes forever, so `.take` must end them before `>>`.

exponential_decay(0.1, decay_rate=0.9, decay_steps=100).take(1_000) >> linear(...)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length, held
from jaxsched._core._factory import factory
from jaxsched._core._fields import choice_field, form_field, in_form, length_field, number_field
from jaxsched._core._numerics import above_zero, blend, growth, periods, raised, real, saturated
from jaxsched._core._powers import LOGARITHM
from jaxsched._core._require import (
    NOT_NEGATIVE,
    POSITIVE,
    Condition,
    Number,
    finite,
    flag,
    length,
    positive,
)
from jaxsched._schedules._schedule import Schedule

FALLING = Condition(
    "not be positive",
    lambda x: x <= 0,
    "A schedule must not grow without bound.",
)


class Constant(Schedule):
    """A constant schedule.

        value(t) = value

    Args:
      value: the value.
      steps: length in optimizer steps if another schedule follows; None: unbounded.

    Returns:
      A schedule. Call it with an integer or an integer array; it returns float32 of the same shape.

    Raises:
      ValueError: `value` is not finite, or `steps` is negative or not an integer.

    Example:
      >>> print((constant(1.0, 2) >> linear(1.0, 0.0, 2))(jnp.arange(5)))
      [1.  1.  1.  0.5 0. ]

    References:
      `optax.constant_schedule`.
    """

    value: ArrayLike = number_field(kw_only=False)
    steps: Length | None = length_field(default=None, kw_only=False)  # pyright: ignore[reportIncompatibleMethodOverride]

    def at(self, t: jax.Array) -> jax.Array:
        # `full_like` also copies the sharding of the steps, not only their shape.
        value = real(self.value)
        return jnp.full_like(t, value, dtype=value.dtype)

    def _stretched(self, steps: Length) -> Schedule:
        return super()._stretched(steps) if self.steps is None else Constant(self.value, steps)


constant = factory(Constant)


class InverseSqrt(Schedule):
    """Inverse-square-root decay, which needs no total number of steps.

        value(t) = peak_value / sqrt(1 + t / timescale)

    Args:
      peak_value: value at step 0.
      timescale: steps after which the value has fallen to 1/sqrt(2) of the peak; real, > 0.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: `peak_value` is not finite, or `timescale` is not positive.

    Example:
      >>> print(np.asarray(inverse_sqrt(1.0, timescale=1)(jnp.array([0, 3, 8, 15]))).round(3))
      [1.    0.5   0.333 0.25 ]

    References:
      `transformers.get_inverse_sqrt_schedule`; Zhai et al., Scaling Vision Transformers, 2022,
      https://arxiv.org/abs/2106.04560, section 3.5.
    """

    peak_value: ArrayLike = number_field(kw_only=False)
    timescale: ArrayLike = number_field(within=POSITIVE)

    def at(self, t: jax.Array) -> jax.Array:
        timescale = above_zero(self.timescale)
        return real(self.peak_value) * jnp.sqrt(timescale / (timescale + real(t)))


inverse_sqrt = factory(InverseSqrt)


class InverseTimeDecay(Schedule):
    """Inverse-time decay.

        value(t) = init_value / (1 + decay_rate * t / decay_steps)

    Args:
      init_value: value at step 0.
      decay_rate: increase of the divisor in `decay_steps` steps, not negative.
      decay_steps: number of optimizer steps in which the divisor grows by `decay_rate`, at least 1.
      staircase: whether to count only whole multiples of `decay_steps`.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: a number is not finite, `decay_rate` is negative, or `decay_steps` is not a
        positive integer.

    Example:
      >>> values = inverse_time_decay(1.0, decay_rate=1.0, decay_steps=2)(jnp.arange(5))
      >>> print(np.asarray(values).round(3))
      [1.    0.667 0.5   0.4   0.333]

    References:
      `keras.optimizers.schedules.InverseTimeDecay`; Robbins and Monro, 1951.
    """

    init_value: ArrayLike = number_field(kw_only=False)
    decay_rate: ArrayLike = number_field(within=NOT_NEGATIVE)
    decay_steps: ArrayLike = length_field(least=1)
    staircase: bool = choice_field(default=False, check=flag)

    def at(self, t: jax.Array) -> jax.Array:
        n = _periods(t, self.decay_steps, self.staircase)
        return real(self.init_value) / (1 + jnp.maximum(real(self.decay_rate), 0) * n)

    def _changes(self) -> Iterable[int]:
        return _stairs(self.decay_steps) if self.staircase else []


inverse_time_decay = factory(InverseTimeDecay)


class PowerLaw(Schedule):
    """Power-law decay that starts at step `timescale`.

        value(t) = peak_value * max(t / timescale, 1)**exponent

    `.shift(-timescale)` starts the fall at step 0. T5's schedule is
    `power_law(0.01, exponent=-0.5, timescale=10_000)`.

    Args:
      peak_value: value up to step `timescale`.
      exponent: the power, not positive.
      timescale: step at which the decay begins; real, > 0.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: a number is not finite, `exponent` is positive, or `timescale` is not positive.

    Example:
      >>> values = power_law(1.0, exponent=-0.5, timescale=2)(jnp.array([0, 2, 8, 18]))
      >>> print(np.asarray(values).round(3))
      [1.    1.    0.5   0.333]

    References:
      Shen et al., Power Scheduler, 2024, https://arxiv.org/abs/2408.13359, eq. 5; Raffel et al.,
      T5, 2020, https://arxiv.org/abs/1910.10683, section 3.1.2.
    """

    peak_value: ArrayLike = number_field(kw_only=False)
    exponent: ArrayLike = number_field(within=FALLING)
    timescale: ArrayLike = number_field(within=POSITIVE)

    def at(self, t: jax.Array) -> jax.Array:
        ratio = jnp.maximum(saturated(real(t) / above_zero(self.timescale)), 1)
        # Half of the power twice, because the whole power may underflow where the product does not.
        half = ratio ** (jnp.minimum(real(self.exponent), 0) / 2)
        return real(self.peak_value) * half * half

    def _changes(self) -> Iterable[int]:
        return [math.ceil(real(self.timescale))]


power_law = factory(PowerLaw)


class ExponentialDecay(Schedule):
    """Exponential decay: multiplies by `decay_rate` every `decay_steps` steps.

        value(t) = init_value * decay_rate**(t / decay_steps)

    If the value grows (`decay_rate` above 1), it stops at the largest float.

    Args:
      init_value: value at step 0.
      decay_rate: factor per `decay_steps` steps, > 0.
      decay_steps: optimizer steps per factor, at least 1.
      end_value: lower limit of a decay, or upper limit of a growth; None: no limit.
      staircase: whether to count only whole multiples of `decay_steps`.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: a number is not finite, `decay_rate` is not positive, or `decay_steps` is not a
        positive integer.

    Example:
      >>> decay = exponential_decay(1.0, decay_rate=0.25, decay_steps=2, end_value=0.1)
      >>> print(np.asarray(decay(jnp.arange(5))).round(3))
      [1.    0.5   0.25  0.125 0.1  ]

    References:
      `optax.exponential_decay`.
    """

    init_value: ArrayLike = number_field(kw_only=False)
    decay_rate: ArrayLike = form_field(LOGARITHM)
    decay_steps: ArrayLike = length_field(least=1)
    end_value: ArrayLike | None = number_field(default=None)
    staircase: bool = choice_field(default=False, check=flag)

    def at(self, t: jax.Array) -> jax.Array:
        n = _periods(t, self.decay_steps, self.staircase)
        value = growth(self.decay_rate, n, self.init_value)
        if self.end_value is None:
            return value
        end, falls = real(self.end_value), real(self.decay_rate) < 0
        return jnp.where(falls, jnp.maximum(value, end), jnp.minimum(value, end))

    def _changes(self) -> Iterable[int]:
        return _stairs(self.decay_steps) if self.staircase else []


exponential_decay = factory(ExponentialDecay)


class SawtoothPolynomial(Schedule):
    """A polynomial decay that restarts at each multiple of `decay_steps`."""

    init_value: Number
    end_value: Number
    power: Number = number_field()
    decay_steps: Length = length_field()

    def at(self, t: jax.Array) -> jax.Array:
        period = jnp.maximum(_clock.read(self.decay_steps), 1).astype(t.dtype)
        passed = t % period
        # A multiple of the period is the end of its cycle, except step 0, which begins the first.
        left = jnp.where((passed > 0) | (t == 0), period - passed, 0)
        length = real(t) + real(left)
        weights = raised(real(left) / length, real(t) / length, self.power)
        return blend(self.init_value, self.end_value, *weights)

    def _changes(self) -> Iterable[int]:
        return itertools.count(int(self.decay_steps) + 1, int(self.decay_steps))


def _periods(t: jax.Array, steps: ArrayLike, staircase: bool) -> jax.Array:
    """Return t / steps; for a staircase only the whole part, counted in integers."""
    if not staircase:
        return real(t) / jnp.maximum(real(steps), 1)
    return real(periods(t, jnp.maximum(_clock.read(steps), 1)))


def _stairs(steps: Any) -> Iterable[int]:
    """Yield the step at which each stair begins, except the first."""
    return itertools.count(int(steps), int(steps))


def step_decay(init_value: ArrayLike, *, factor: ArrayLike, every: ArrayLike) -> Schedule:
    """Step decay: multiplies the value by `factor` after each `every` steps.

        value(t) = init_value * factor**floor(t / every)

    Args:
      init_value: value at step 0.
      factor: factor per cut, > 0; below 1 for a decay.
      every: optimizer steps between two cuts, at least 1. The first cut is at step `every`.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: a number is not finite, `factor` is not positive, or `every` is not a positive
        integer.

    Example:
      >>> print(np.asarray(step_decay(1.0, factor=0.5, every=2)(jnp.arange(6))).round(3))
      [1.   1.   0.5  0.5  0.25 0.25]

    References:
      `torch.optim.lr_scheduler.StepLR`.
    """
    call = "step_decay"
    init_value, rate = (
        finite(call, "init_value", init_value),
        in_form(call, "factor", factor, LOGARITHM),
    )
    every = held(length(call, "every", every, least=1))
    return ExponentialDecay(init_value, decay_rate=rate, decay_steps=every, staircase=True)


def sawtooth_polynomial(
    init_value: ArrayLike, end_value: ArrayLike, *, power: ArrayLike, decay_steps: ArrayLike
) -> Schedule:
    """A sawtooth polynomial decay to the next multiple of `decay_steps` (Keras' `cycle=True`).

        n        = decay_steps * max(1, ceil(t / decay_steps))
        value(t) = end_value + (init_value - end_value) * (1 - t / n)**power

    It reaches `end_value` at every multiple of `decay_steps`, and jumps up in the next step. If
    `decay_steps` is large, 1 - t / n is about 1/2 after the first multiple, about 1/3 after the
    second, and so on.

    Args:
      init_value: value at step 0.
      end_value: value at every multiple of `decay_steps`.
      power: exponent, > 0.
      decay_steps: optimizer steps between two ends, at least 1.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: a number is not finite, `power` is not positive, or `decay_steps` is not a
        positive integer.

    Example:
      >>> values = sawtooth_polynomial(1.0, 0.0, power=1.0, decay_steps=2)(jnp.arange(6))
      >>> print(np.asarray(values).round(3))
      [1.    0.5   0.    0.25  0.    0.167]

    References:
      `keras.optimizers.schedules.PolynomialDecay(cycle=True)`.
    """
    call = "sawtooth_polynomial"
    init_value, end_value = (
        finite(call, "init_value", init_value),
        finite(call, "end_value", end_value),
    )
    steps = held(length(call, "decay_steps", decay_steps, least=1))
    power = positive(call, "power", power)
    return SawtoothPolynomial(init_value, end_value, power=power, decay_steps=steps)
