"""Twins of `optax.schedules` and of `optax.contrib.reduce_on_plateau` (compared with optax 0.2.8).

The names and the arguments are optax's. The twins have four improvements. Every number may be
traced, so a new number needs no recompilation. Powers and end values are exact. The cost does not
grow with the number of restarts. Hyperparameters are float32 for any dtype of the parameters. If
optax returns a constant, because a number of steps or a decay rate is zero, so does the twin.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from optax.schedules import Schedule as Schedule
from optax.schedules import StatefulSchedule as StatefulSchedule

from jaxsched._core import _clock
from jaxsched._core._numerics import ratio
from jaxsched._core._require import finite, integer, length, one_of, refuse, require
from jaxsched._schedules._chain import Then
from jaxsched._schedules._compose import join
from jaxsched._schedules._curves import cosine, linear, polynomial
from jaxsched._schedules._piecewise import piecewise_constant, piecewise_cosine, piecewise_linear
from jaxsched._schedules._schedule import Schedule as Curve
from jaxsched._schedules._unbounded import constant
from jaxsched._schedules._unbounded import exponential_decay as decaying
from jaxsched.compat._common import explain, own, scaled, unless_empty
from jaxsched.compat._optax_inject import InjectHyperparamsState as InjectHyperparamsState
from jaxsched.compat._optax_inject import (
    InjectStatefulHyperparamsState as InjectStatefulHyperparamsState,
)
from jaxsched.compat._optax_inject import WrappedSchedule as WrappedSchedule
from jaxsched.compat._optax_inject import WrappedScheduleState as WrappedScheduleState
from jaxsched.compat._optax_inject import inject_hyperparams as inject_hyperparams
from jaxsched.compat._optax_inject import (
    inject_stateful_hyperparams as inject_stateful_hyperparams,
)
from jaxsched.compat._optax_plateau import ReduceLROnPlateauState as ReduceLROnPlateauState
from jaxsched.compat._optax_plateau import reduce_on_plateau as reduce_on_plateau

Scales = Mapping[Any, ArrayLike]


def constant_schedule(value: ArrayLike) -> Curve:
    """A constant schedule.

        value(t) = value

    Example:
      >>> print(constant_schedule(0.1)(7))
      0.1

    References:
      `optax.constant_schedule`.
    """
    return constant(value)


def polynomial_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    power: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Curve:
    """Polynomial decay.

        value(t) = end + (init - end) * (1 - (t - begin) / steps)**power

    Before step `transition_begin` the start value is held; after the transition, the end value is
    held. If `transition_steps` is not positive, the value is always `init_value`, never
    `end_value`, as in optax. A fractional power gives no NaN at the end; in optax, under `jit`, it
    gives NaN there.

    Example:
      >>> print(np.asarray(polynomial_schedule(1.0, 0.0, 2, 4)(jnp.arange(5))).round(3))
      [1.    0.562 0.25  0.062 0.   ]

    References:
      `optax.polynomial_schedule`.
    """
    steps = integer("polynomial_schedule", "transition_steps", transition_steps)
    if _none(steps):
        return constant(init_value)
    end_value = unless_empty(steps, end_value, init_value)
    if isinstance(power, (int, float)) and power == 1:
        return _begun(linear(init_value, end_value, steps), transition_begin)
    return _begun(polynomial(init_value, end_value, steps, power=power), transition_begin)


def linear_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Curve:
    """A linear schedule.

        value(t) = init + (end - init) * (t - begin) / steps

    Before step `transition_begin` the start value is held; after the transition, the end value is
    held. If `transition_steps` is not positive, the value is always `init_value`, never
    `end_value`, as in optax.

    Example:
      >>> print(linear_schedule(1.0, 0.0, 2, transition_begin=1)(jnp.arange(4)))
      [1.  1.  0.5 0. ]

    References:
      `optax.linear_schedule`.
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def piecewise_constant_schedule(
    init_value: ArrayLike, boundaries_and_scales: Scales | None = None
) -> Curve:
    """A piecewise-constant schedule, scaled at each boundary by cumulative factors.

        value(t) = init_value * product of the scales whose boundary <= t

    Example:
      >>> print(piecewise_constant_schedule(1.0, {1: 0.5, 3: 0.5})(jnp.arange(4)))
      [1.   0.5  0.5  0.25]

    References:
      `optax.piecewise_constant_schedule`.
    """
    boundaries, scales = _scales("piecewise_constant_schedule", boundaries_and_scales)
    passed = sum(bool(boundary <= 0) for boundary in boundaries)
    values = _multiplied(init_value, scales)[passed:]
    return piecewise_constant(values, boundaries[passed:])


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: ArrayLike, boundaries_and_scales: Scales | None = None
) -> Curve:
    """Linear or cosine interpolation between values that are scaled from knot to knot.

        value(0) = init_value,    value(boundary k) = init_value * the first k scales

    Example:
      >>> print(piecewise_interpolate_schedule("linear", 1.0, {2: 0.5})(jnp.arange(4)))
      [1.   0.75 0.5  0.5 ]

    References:
      `optax.piecewise_interpolate_schedule`.
    """
    call = "piecewise_interpolate_schedule"
    one_of(call, "interpolate_type", interpolate_type, ("linear", "cosine"))
    boundaries, scales = _scales(call, boundaries_and_scales)
    through = piecewise_linear if interpolate_type == "linear" else piecewise_cosine
    return through(_multiplied(init_value, scales), [0, *boundaries])


def exponential_decay(
    init_value: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Curve:
    """Exponential decay: multiplies by `decay_rate` every `transition_steps` steps.

        value(t) = init_value * decay_rate**((t - begin) / steps)

    The value is limited by `end_value`. If `transition_steps` is not positive or `decay_rate` is 0,
    the value is always `init_value`, as in optax.

    Example:
      >>> values = jaxsched.compat.optax.exponential_decay(1.0, 1, 0.5)(jnp.arange(3))
      >>> print(np.asarray(values).round(3))
      [1.   0.5  0.25]

    References:
      `optax.exponential_decay`.
    """
    call = "exponential_decay"
    steps = integer(call, "transition_steps", transition_steps)
    rate = finite(call, "decay_rate", decay_rate)
    if _none(steps) or (isinstance(rate, float) and rate == 0.0):
        return constant(init_value)
    rate = unless_empty(steps, rate, 1.0)
    if not staircase and isinstance(rate, float):
        decay = decaying(init_value, decay_rate=rate, decay_steps=steps)
        if end_value is not None:
            decay = decay.clip(low=end_value) if rate < 1 else decay.clip(high=end_value)
        return _begun(decay, transition_begin)
    decay = decaying(
        init_value, decay_rate=rate, decay_steps=steps, staircase=staircase, end_value=end_value
    )
    return _begun(decay, transition_begin)


def cosine_decay_schedule(
    init_value: ArrayLike, decay_steps: ArrayLike, alpha: ArrayLike = 0.0, exponent: ArrayLike = 1.0
) -> Curve:
    """Cosine decay.

        value(t) = init_value * (alpha + (1 - alpha) * half**exponent),
        half = (1 + cos(pi * t / decay_steps)) / 2

    Example:
      >>> print(np.asarray(cosine_decay_schedule(1.0, 4)(jnp.arange(5))).round(3))
      [1.    0.854 0.5   0.146 0.   ]

    References:
      `optax.cosine_decay_schedule`.
    """
    steps = length("cosine_decay_schedule", "decay_steps", decay_steps, least=1)
    return cosine(init_value, scaled(init_value, alpha), steps, exponent=_power(exponent))


def linear_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Curve:
    """The 1cycle schedule with three lines.

        step 0: peak / div_factor,    pct_start: peak,    pct_final: peak / div_factor,
        end: peak / (div_factor * final_div_factor)

    The fractions are rounded down to steps. With few steps, two knots can be at the same step. Then
    the later one replaces the earlier one, as in optax.

    Example:
      >>> print(linear_onecycle_schedule(10, 1.0, 0.3, 0.7, 10.0, 100.0)(jnp.array([0, 3, 7, 10])))
      [0.1   1.    0.1   0.001]

    References:
      `optax.linear_onecycle_schedule`.
    """
    call, remedy = "linear_onecycle_schedule", "A linear onecycle schedule needs a step."
    steps = int(length(call, "transition_steps", transition_steps, remedy=remedy, least=1))
    first = ratio(finite(call, "peak_value", peak_value), finite(call, "div_factor", div_factor))
    knots = {
        int(pct_start * steps): div_factor,
        int(pct_final * steps): ratio(1.0, finite(call, "div_factor", div_factor)),
        steps: ratio(1.0, finite(call, "final_div_factor", final_div_factor)),
    }
    return piecewise_interpolate_schedule("linear", first, knots)


def cosine_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: float = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Curve:
    """The 1cycle schedule with two half cosines.

        step 0: peak / div_factor,    pct_start: peak,
        end: peak / (div_factor * final_div_factor)

    The product of `pct_start` and `transition_steps` is rounded down to a step.

    Example:
      >>> values = cosine_onecycle_schedule(10, 1.0, div_factor=10.0)(jnp.array([0, 3, 10]))
      >>> print(np.asarray(values).round(3))
      [0.1 1.  0. ]

    References:
      `optax.cosine_onecycle_schedule`.
    """
    call, remedy = "cosine_onecycle_schedule", "A cosine onecycle schedule needs a step."
    steps = int(length(call, "transition_steps", transition_steps, remedy=remedy, least=1))
    div = finite(call, "div_factor", div_factor)
    last = ratio(1.0, scaled(div, finite(call, "final_div_factor", final_div_factor)))
    knots = {int(pct_start * steps): div_factor, steps: last}
    return piecewise_interpolate_schedule(
        "cosine", ratio(finite(call, "peak_value", peak_value), div), knots
    )


def warmup_constant_schedule(
    init_value: ArrayLike, peak_value: ArrayLike, warmup_steps: ArrayLike
) -> Curve:
    """A linear warmup, then a constant.

        linear_schedule(init_value, peak_value, warmup_steps)

    If `warmup_steps` is 0, the value is always `init_value`, as in optax.

    Example:
      >>> print(warmup_constant_schedule(0.0, 1.0, 2)(jnp.arange(4)))
      [0.  0.5 1.  1. ]

    References:
      `optax.warmup_constant_schedule`.
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    exponent: ArrayLike = 1.0,
) -> Curve:
    """A linear warmup, then cosine decay. `decay_steps` includes the warmup.

        linear(init, peak, warmup_steps) >> cosine(peak, end, decay_steps - warmup_steps)

    With a peak of zero, the end value is zero too, as in optax.

    Raises:
      ValueError: `decay_steps` is not greater than `warmup_steps`.

    Example:
      >>> print(np.asarray(warmup_cosine_decay_schedule(0.0, 1.0, 1, 3)(jnp.arange(5))).round(3))
      [0.  1.  0.5 0.  0. ]

    References:
      `optax.warmup_cosine_decay_schedule`.
    """
    call = "warmup_cosine_decay_schedule"
    warmup = length(call, "warmup_steps", warmup_steps)
    total = length(call, "decay_steps", decay_steps)
    more = refuse(call, "decay_steps", f"be above warmup_steps={warmup_steps!r}", decay_steps)
    require(total > warmup, more)
    end = 0.0 if isinstance(peak_value, (int, float)) and peak_value == 0 else end_value
    up = linear(init_value, peak_value, warmup)
    down = cosine(peak_value, end, _clock.between(warmup, total), exponent=_power(exponent))
    return up >> down


def warmup_exponential_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Curve:
    """A linear warmup, then `exponential_decay`.

        linear(init, peak, warmup_steps) >> exponential_decay(peak, ...)

    Example:
      >>> values = warmup_exponential_decay_schedule(0.0, 1.0, 1, 1, 0.5)(jnp.arange(4))
      >>> print(np.asarray(values).round(3))
      [0.   1.   0.5  0.25]

    References:
      `optax.warmup_exponential_decay_schedule`.
    """
    warmup = length("warmup_exponential_decay_schedule", "warmup_steps", warmup_steps)
    down = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return linear(init_value, peak_value, warmup) >> down


def sgdr_schedule(cosine_kwargs: Iterable[dict[str, Any]]) -> Curve:
    """A sequence of warmups and cosine decays, each with its own arguments.

        warmup_cosine_decay_schedule(**kwargs) >> warmup_cosine_decay_schedule(**kwargs) >> ...

    For regular cycles, use `warmup_cosine_restarts`, whose cost does not grow with their number.

    Example:
      >>> cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
      >>> print(np.asarray(sgdr_schedule([cycle, cycle])(jnp.arange(7))).round(3))
      [0.  1.  0.5 0.  1.  0.5 0. ]

    References:
      `optax.sgdr_schedule`.
    """
    cycles = [warmup_cosine_decay_schedule(**kwargs) for kwargs in cosine_kwargs]
    require(bool(cycles), refuse("sgdr_schedule", "cosine_kwargs", "not be empty", cycles))
    return Then.of(*cycles)


def join_schedules(schedules: Sequence[Any], boundaries: Sequence[ArrayLike]) -> Curve:
    """Joins schedules in sequence; each starts from its own step 0.

        join(schedules, boundaries)

    Unlike optax, it checks that the lengths of the lists fit and that the boundaries are in order.

    Example:
      >>> print(join_schedules([optax.constant_schedule(1.0), lambda t: 0.5], [2])(jnp.arange(4)))
      [1.  1.  0.5 0.5]

    References:
      `optax.join_schedules`.
    """
    return join(schedules, boundaries)


def _begun(schedule: Curve, begin: ArrayLike) -> Curve:
    """Return the schedule delayed by `begin` steps; a negative number means no delay."""
    steps = integer("transition_begin", "transition_begin", begin)
    if isinstance(steps, int):
        return schedule.shift(steps) if steps > 0 else schedule
    return schedule.shift(jnp.maximum(steps, 0))


def _none(steps: Any) -> bool:
    return isinstance(steps, int) and steps <= 0


def _power(exponent: ArrayLike) -> ArrayLike | None:
    return None if isinstance(exponent, (int, float)) and exponent == 1 else exponent


def _scales(call: str, boundaries_and_scales: Scales | None) -> tuple[list[Any], list[Any]]:
    pairs = sorted((boundaries_and_scales or {}).items(), key=operator.itemgetter(0))
    scales = [finite(call, "boundaries_and_scales", scale) for _, scale in pairs]
    for scale in scales:
        message = refuse(call, "boundaries_and_scales", "not be negative", scale)
        require(scale >= 0, message)
    return [boundary for boundary, _ in pairs], scales


def _multiplied(init_value: ArrayLike, scales: Sequence[Any]) -> list[Any]:
    return list(itertools.accumulate([init_value, *scales], scaled))


explain(globals())


def __dir__() -> list[str]:
    return own(globals())
