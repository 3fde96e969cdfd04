"""Warmups whose length follows from Adam's second-moment decay `b2`. They are factors.

    cosine(3e-4, 0.0, 10_000) * untuned_linear_warmup(b2=0.999)

They count from 1, so the first update never has a learning rate of zero.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._factory import factory
from jaxsched._core._fields import form_field, number_field
from jaxsched._core._numerics import above_zero, ratio, real
from jaxsched._core._powers import LOGARITHM
from jaxsched._core._require import POSITIVE, PROPER, Condition, within
from jaxsched._schedules._curves import Linear
from jaxsched._schedules._schedule import Schedule

LONG = Condition("be between 0.7 and 1", lambda x: (x > 0.7) & (x < 1))


class ExponentialWarmup(Schedule):
    """An exponential warmup factor that approaches one.

        value(t) = 1 - exp(-(t + 1) / timescale)

    Args:
      timescale: number of steps after which 1 - value has fallen by a factor e; real, > 0.

    Returns:
      An unbounded factor. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: `timescale` is not positive.

    Example:
      >>> print(np.asarray(exponential_warmup(timescale=2)(jnp.arange(4))).round(3))
      [0.393 0.632 0.777 0.865]

    References:
      Ma and Yarats, On the Adequacy of Untuned Warmup for Adaptive Optimization, 2021,
      https://arxiv.org/abs/1910.04209, section 4.
    """

    timescale: ArrayLike = number_field(within=POSITIVE)

    def at(self, t: jax.Array) -> jax.Array:
        return -jnp.expm1(-(real(t) + 1) / above_zero(self.timescale))


exponential_warmup = factory(ExponentialWarmup)


class RadamWarmup(Schedule):
    """The variance rectification of RAdam, as a warmup factor for plain Adam.

        rho_inf  = 2 / (1 - b2) - 1
        rho(n)   = rho_inf - 2 n b2**n / (1 - b2**n)
        value(t) = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))

    Here rho = rho(n) at n = t + n0, and n0 is the first n with rho(n) > 4.

    Args:
      b2: Adam's second-moment decay, in (0.7, 1).

    Returns:
      An unbounded factor. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: `b2` is not in (0.7, 1).

    Example:
      >>> print(np.asarray(radam_warmup(b2=0.9)(jnp.arange(4))).round(3))
      [0.156 0.255 0.33  0.392]

    References:
      Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2020,
      https://arxiv.org/abs/1908.03265, section 4.
    """

    b2: ArrayLike = form_field(LOGARITHM, default=0.999, within=LONG)

    def at(self, t: jax.Array) -> jax.Array:
        h = jnp.clip(-real(self.b2), jnp.finfo(real(0).dtype).eps, -math.log(0.7))
        limit = 1 / jnp.tanh(h / 2)  # (1 + b2) / (1 - b2) = 2 / (1 - b2) - 1
        # rho(n) < n, so it exceeds 4 at n = 5 or, for a small b2, a little later.
        first = 5 + jnp.sum(_rho(5 + real(jnp.arange(16)), h) <= 4)
        rho = jnp.maximum(_rho(real(t) + real(first), h), 4)
        return jnp.sqrt((rho - 4) * (rho - 2) / rho * (limit / ((limit - 4) * (limit - 2))))


radam_warmup = factory(RadamWarmup)


def _rho(n: jax.Array, h: jax.Array) -> jax.Array:
    """coth(h/2) - 2n / (exp(nh) - 1), the length of the average of n squared gradients.

    For small n the two terms are equal up to the seventh digit. With g(u) = 1 - coth(u) + 1/u the
    result is n g(nh/2) + 1 - g(h/2), where nothing cancels.
    """
    return n * _g(n * h / 2) + (1 - _g(h / 2))


def _g(u: jax.Array) -> jax.Array:
    """1 - coth(u) + 1/u, which falls from 1 to 0 as 1/u."""
    small = u < 0.5
    x = jnp.where(small, u, 0)
    y = x**2
    series = 1 / 3 + y * (-1 / 45 + y * (2 / 945 + y * (-1 / 4725 + y * 2 / 93555)))
    v = jnp.where(small, 1, u)
    return jnp.where(small, 1 - x * series, 1 / v - 2 / jnp.expm1(jnp.minimum(2 * v, 80)))


def untuned_linear_warmup(*, b2: ArrayLike = 0.999) -> Schedule:
    """A linear warmup factor whose length follows from Adam's `b2`, so nothing needs tuning.

        value(t) = min(1, (t + 1) / w),    w = 2 / (1 - b2), rounded

    Args:
      b2: Adam's second-moment decay, in (0, 1). It must be concrete, because it sets a length.

    Returns:
      A factor that ends at w - 1. Call it with an integer or an integer array; it returns float32
      of the same shape.

    Raises:
      ValueError: `b2` is not in (0, 1).

    Example:
      >>> print(untuned_linear_warmup(b2=0.5)(jnp.arange(5)))
      [0.25 0.5  0.75 1.   1.  ]

    References:
      Ma and Yarats, 2021, https://arxiv.org/abs/1910.04209, section 5.
    """
    steps = ratio(2.0, 1 - within("untuned_linear_warmup", "b2", b2, PROPER))
    if isinstance(steps, float):
        return Linear(1 / round(steps), 1.0, _clock.held(round(steps) - 1))
    steps = jnp.maximum(jnp.round(steps), 1)
    return Linear(1 / steps, 1.0, _clock.read(steps) - 1)
