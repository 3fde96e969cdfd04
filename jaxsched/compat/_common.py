"""Code that several twins share."""

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
from jaxsched._core._meant import explained
from jaxsched._core._numerics import real
from jaxsched._core._require import Number, Whole, finite, length, refuse, require
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._combined import mark_rate
from jaxsched._schedules._curves import cosine
from jaxsched._schedules._schedule import Schedule, from_function
from jaxsched._schedules._table import table
from jaxsched._schedules._unbounded import constant

F = TypeVar("F", bound=Callable[..., Any])


def own(names: dict[str, Any]) -> list[str]:
    """Return the public names of a module of twins, without the helpers that it imports."""
    places = {name: getattr(x, "__module__", None) or "" for name, x in names.items()}
    return sorted(
        name
        for name, place in places.items()
        if name[0] != "_" and place.startswith(names["__package__"]) and place != __name__
    )


def explain(names: dict[str, Any]) -> None:
    """Give the functions of a module of twins an error that shows how they are called."""
    for name in own(names):
        if inspect.isfunction(names[name]):
            names[name] = explained(names[name], names["__name__"])


def rated(twin: F) -> F:
    """Mark a twin whose first argument is the base rate: it is checked first, and recorded."""

    @functools.wraps(twin)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for base_lr in args[:1] or (kwargs.get("base_lr", 1.0),):
            finite(twin.__name__, "base_lr", base_lr)
        made = twin(*args, **kwargs)
        given = inspect.signature(twin).bind(*args, **kwargs).arguments
        floor = given.get("min_lr", given.get("lr_min", 0.0)) if isinstance(made, Stateful) else 0.0
        if hasattr(made, "__dict__") and not any(made is x for x in given.values()):
            mark_rate(made, next(iter(given.values()), 1.0), floor)
        return made

    return cast(F, checked)


def concrete(call: str, name: str, value: Any) -> float:
    """Return a number that a twin must know when it is built."""
    number = finite(call, name, value)
    known = not isinstance(number, Tracer)
    require(known, refuse(call, name, "be concrete, because it sets the structure", value))
    return float(number)


def whole(x: ArrayLike) -> ArrayLike:
    """Return a factor such as 2.0 as an int, which makes cycles exact."""
    return int(x) if isinstance(x, float) and x.is_integer() else x


def wave(high: ArrayLike, low: ArrayLike, steps: Whole, num_cycles: ArrayLike) -> Schedule:
    """Return an unbounded cosine wave that starts at `high`, with `num_cycles` per `steps`."""
    if isinstance(num_cycles, (int, float)) and num_cycles == 0:
        return constant(high)
    rate, half = _ratio(2 * abs(num_cycles), steps)  # pyright: ignore[reportArgumentType]
    return _faster((cosine(high, low, half) >> cosine(low, high, half)).cycle(), rate, 2, half)


def sawtooth(high: ArrayLike, low: ArrayLike, steps: Whole, num_cycles: ArrayLike) -> Schedule:
    """Return an unbounded sequence of falling half cosines, `num_cycles` per `steps` steps."""
    rate, one = _ratio(num_cycles, steps)
    return _faster(cosine(high, low, one).cycle(), rate, 1, one)


def _faster(schedule: Schedule, rate: ArrayLike, parts: int, part: Whole) -> Schedule:
    """Return a schedule of equal cycles at a rate. A faster schedule reaches the last step of the
    step counter earlier, so it is restarted after each full set of cycles."""
    rate = whole(rate)
    if isinstance(rate, int) and rate == 1:
        return schedule
    faster = schedule.faster(rate)
    fits = isinstance(rate, int) and isinstance(part, int) and parts * part * rate <= LAST
    return faster.take(parts * part).cycle() if fits else faster


def _ratio(rate: ArrayLike, steps: Whole) -> tuple[ArrayLike, Whole]:
    """Return the rate over the steps in lowest terms, so that cycles are counted in integers."""
    if not isinstance(rate, (int, float)) or not isinstance(steps, int):
        return rate, steps
    exact = Fraction(str(rate)).limit_denominator(10_000)
    whole = exact / steps
    fits = 2 * whole.numerator * whole.denominator <= LAST
    if fits and abs(float(exact) - rate) <= 1e-9 * abs(rate):
        return whole.numerator, whole.denominator
    return float(rate), steps


TABULATE = "Give `total_steps=...`; the function is then called once for each of these steps."


def tabulated(
    call: str, function: Callable[[Any], Any], total_steps: int | None, **argument: Any
) -> Schedule:
    """Return a function of the step as a schedule: traced, or as a table of its values."""
    if total_steps is None:
        return traced(call, function, TABULATE, **argument)
    steps = length(call, "total_steps", total_steps)
    return table([float(function(t)) for t in range(int(steps) + 1)])


def traced(call: str, function: Callable[[Any], Any], remedy: str, /, **argument: Any) -> Schedule:
    """Return a function of the step that JAX can trace as a schedule."""
    ((name, value),) = argument.items()

    def promoting(t: jax.Array) -> Any:
        # The function was written for a Python number, which adapts to any dtype.
        with jax.numpy_dtype_promotion("standard"):
            return function(t)

    try:
        return from_function(promoting)
    except ValueError as error:
        must = "be a function of the step that JAX can trace"
        raise ValueError(refuse(call, name, must, value, remedy)) from error


def repeated(function: Callable[[jax.Array, jax.Array], Any], init: ArrayLike) -> Any:
    """Return x(t) = function(t, x(t - 1)) with x(0) = init, as a function of the step.

    Step t costs t evaluations, and the number of evaluations has no gradient.
    """

    def value(t: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(1, t + 1, lambda k, x: real(function(k, x)), real(init))

    return value


def is_zero(steps: Any) -> bool:
    """Return whether a number of steps is known to be zero."""
    return isinstance(steps, int) and steps == 0


def unless_empty(steps: Whole, value: ArrayLike, otherwise: ArrayLike) -> ArrayLike:
    """Return `value`, or `otherwise` if there are no steps, also for traced steps."""
    if isinstance(steps, int):
        return value if steps > 0 else otherwise
    return jnp.where(steps > 0, real(value), real(otherwise))


def scaled(value: ArrayLike, scale: ArrayLike) -> Number:
    """Return value * scale; for Python numbers a Python number."""
    if isinstance(value, (int, float)) and isinstance(scale, (int, float)):
        return value * scale
    return real(jnp.asarray(value)) * real(jnp.asarray(scale))


def lowest_scale(
    call: str, base_lr: ArrayLike, factor: ArrayLike, min_lr: ArrayLike, eps: ArrayLike
) -> float:
    """Return the scale below which torch's plateau never cuts: its floor, or the last cut.

    All its cuts are known in advance, base_lr * factor**k, and so is the last one larger than eps.
    """
    base = concrete(call, "base_lr", base_lr)
    low, least = concrete(call, "min_lr", min_lr), concrete(call, "eps", eps)
    cut = concrete(call, "factor", factor)
    require(0 < cut < 1, refuse(call, "factor", "be in (0, 1)", factor))
    require(base > 0, refuse(call, "base_lr", "be positive", base_lr))
    require(low >= 0, refuse(call, "min_lr", "not be negative", min_lr))
    require(least >= 0, refuse(call, "eps", "not be negative", eps))
    rate, lower = base, max(base * cut, low)
    while rate - lower > least:
        rate, lower = lower, max(lower * cut, low)
    return rate / base
