"""What several twins need."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._clock import LAST
from jaxsched._core._numerics import real
from jaxsched._core._require import Number, Whole, finite, length, refuse, require
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._curves import cosine
from jaxsched._schedules._decays import constant
from jaxsched._schedules._schedule import Schedule, from_function, mark_rate
from jaxsched._schedules._table import table

F = TypeVar("F", bound=Callable[..., Any])


def rated(twin: F) -> F:
    """A twin whose first argument is the base rate: it is checked first, and the twin is a rate."""

    @functools.wraps(twin)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for base_lr in args[:1] or (kwargs.get("base_lr", 1.0),):
            finite(twin.__name__, base_lr=base_lr)
        made = twin(*args, **kwargs)
        given = inspect.signature(twin).bind(*args, **kwargs).arguments
        floor = given.get("min_lr", given.get("lr_min", 0.0)) if isinstance(made, Stateful) else 0.0
        if hasattr(made, "__dict__") and not any(made is x for x in given.values()):
            mark_rate(made, next(iter(given.values()), 1.0), floor)
        return made

    return cast(F, checked)


def concrete(call: str, /, **argument: Any) -> float:
    """A number that a twin must know while it is built."""
    ((name, value),) = argument.items()
    number = finite(call, **argument)
    known = not isinstance(number, Tracer)
    require(known, refuse(call, name, "be concrete: it decides the structure", value))
    return float(number)


def whole(x: ArrayLike) -> ArrayLike:
    """A factor such as 2.0, as the int that makes cycles exact."""
    return int(x) if isinstance(x, float) and x.is_integer() else x


def wave(high: ArrayLike, low: ArrayLike, steps: Whole, num_cycles: ArrayLike) -> Schedule:
    """A cosine that swings for ever, from `high`, `num_cycles` whole waves in `steps` steps."""
    if isinstance(num_cycles, (int, float)) and num_cycles == 0:
        return constant(high)
    rate, half = _ratio(2 * abs(num_cycles), steps)  # pyright: ignore[reportArgumentType]
    return _faster((cosine(high, low, half) >> cosine(low, high, half)).cycle(), rate, 2, half)


def sawtooth(high: ArrayLike, low: ArrayLike, steps: Whole, num_cycles: ArrayLike) -> Schedule:
    """A falling half cosine, `num_cycles` times in `steps` steps, for ever."""
    rate, one = _ratio(num_cycles, steps)
    return _faster(cosine(high, low, one).cycle(), rate, 1, one)


def _faster(schedule: Schedule, rate: ArrayLike, parts: int, part: Whole) -> Schedule:
    """A schedule of equal cycles, at a rate. The clock of what is faster ends earlier, so that it
    begins again, after as many steps as one of its cycles has."""
    rate = whole(rate)
    if isinstance(rate, int) and rate == 1:
        return schedule
    faster = schedule.faster(rate)
    fits = isinstance(rate, int) and isinstance(part, int) and parts * part * rate <= LAST
    return faster.take(parts * part).cycle() if fits else faster


def _ratio(rate: ArrayLike, steps: Whole) -> tuple[ArrayLike, Whole]:
    """The rate over the steps in lowest terms, so that the cycles are counted in integers."""
    if not isinstance(rate, (int, float)) or not isinstance(steps, int):
        return rate, steps
    exact = Fraction(str(rate)).limit_denominator(10_000)
    whole = exact / steps
    fits = 2 * whole.numerator * whole.denominator <= LAST
    if fits and abs(float(exact) - rate) <= 1e-9 * abs(rate):
        return whole.numerator, whole.denominator
    return float(rate), steps


TABULATE = "Give `total_steps=...`: it is then called for each of these steps, once."


def tabulated(
    call: str, function: Callable[[Any], Any], total_steps: int | None, **argument: Any
) -> Schedule:
    """A function of the step as a schedule: traced, or looked up in a table of its values."""
    if total_steps is None:
        return traced(call, function, TABULATE, **argument)
    steps = length(call, total_steps=total_steps)
    return table([float(function(t)) for t in range(int(steps) + 1)])


def traced(call: str, function: Callable[[Any], Any], remedy: str, /, **argument: Any) -> Schedule:
    """A function of the step that JAX can trace, as a schedule."""
    ((name, value),) = argument.items()

    def promoting(t: jax.Array) -> Any:
        # It was written for a Python number, which takes on any dtype.
        with jax.numpy_dtype_promotion("standard"):
            return function(t)

    try:
        return from_function(promoting)
    except ValueError as error:
        must = "be a function of the step that JAX can trace"
        raise ValueError(refuse(call, name, must, value, remedy)) from error


def repeated(function: Callable[[jax.Array, jax.Array], Any], init: ArrayLike) -> Any:
    """x(t) = function(t, x(t - 1)) with x(0) = init, as a function of the step.

    A step t costs t evaluations, and there is no gradient through their number.
    """

    def value(t: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(1, t + 1, lambda k, x: real(function(k, x)), real(init))

    return value


def is_zero(steps: Any) -> bool:
    """Is it known to be no step at all?"""
    return isinstance(steps, int) and steps == 0


def unless_empty(steps: Whole, value: ArrayLike, otherwise: ArrayLike) -> ArrayLike:
    """`value`, or for no steps at all the other; of traced ones too."""
    if isinstance(steps, int):
        return value if steps > 0 else otherwise
    return jnp.where(steps > 0, real(value), real(otherwise))


def scaled(value: ArrayLike, scale: ArrayLike) -> Number:
    """value * scale, of Python numbers a Python number."""
    if isinstance(value, (int, float)) and isinstance(scale, (int, float)):
        return value * scale
    return real(jnp.asarray(value)) * real(jnp.asarray(scale))


def lowest_scale(
    call: str, base_lr: ArrayLike, factor: ArrayLike, min_lr: ArrayLike, eps: ArrayLike
) -> float:
    """The scale below which no cut of torch's plateau goes: its floor, or where cuts get too small.

    All its cuts are known beforehand, base_lr * factor**k, so the last one is too.
    """
    base = concrete(call, base_lr=base_lr)
    low, least = concrete(call, min_lr=min_lr), concrete(call, eps=eps)
    cut = concrete(call, factor=factor)
    require(0 < cut < 1, refuse(call, "factor", "be in (0, 1)", factor))
    require(base > 0, refuse(call, "base_lr", "be positive", base_lr))
    require(low >= 0, refuse(call, "min_lr", "not be negative", min_lr))
    require(least >= 0, refuse(call, "eps", "not be negative", eps))
    rate, lower = base, max(base * cut, low)
    while rate - lower > least:
        rate, lower = lower, max(lower * cut, low)
    return rate / base
