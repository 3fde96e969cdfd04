"""Powers and quotients of schedules: `a ** p`, `c ** a`, `a / b` and `c / a`.

Every value is finite. A result that would overflow is the largest float. Where a formula has no
value, it has a stated one: a negative base of a power that is not whole is read as 0, `0 ** 0` is
1, and 0 / 0 is 0. Slopes are finite too: where the slope of a power is infinite, at a base of 0, it
is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._fields import form_field, in_form, number_in
from jaxsched._core._numerics import growth, saturated
from jaxsched._core._powers import LOGARITHM, Leaf
from jaxsched._core._writing import POWER, PRODUCT, SUM, text
from jaxsched._core._writing import operand as written
from jaxsched._schedules._combined import Operator
from jaxsched._schedules._foreseen import foreseen
from jaxsched._schedules._mapped import Mapped
from jaxsched._schedules._schedule import Schedule, as_schedule, builds, operand


class Power(Operator):
    """`a ** b`, for a schedule `a`."""

    _binds = POWER

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return power(*values)

    def _text(self) -> str:
        a, b = self.operands
        return f"{written(a, POWER)} ** {written(b, POWER)}"


class Quotient(Operator):
    """`a / b`, for a schedule `b`."""

    _binds = PRODUCT

    @staticmethod
    def _combined(values: Iterable[jax.Array]) -> jax.Array:
        return divided(*values)

    def _text(self) -> str:
        a, b = self.operands
        return f"{written(a, SUM)} / {written(b, PRODUCT)}"


class Exponential(Mapped):
    """`base ** a`, for a positive number."""

    _binds = POWER

    base: Leaf = form_field(LOGARITHM)

    def _of(self, value: jax.Array) -> jax.Array:
        return growth(self.base, value)

    def _text(self) -> str:
        return f"{text(number_in(self, 'base'))} ** {written(self.schedule, POWER)}"


@builds("**")
def raised(base: Any, exponent: Any) -> Schedule:
    """Return `base ** exponent`, of which one is a schedule."""
    call = "number ** schedule"
    if callable(base):
        return Power((as_schedule(call, base), operand("schedule ** number", "exponent", exponent)))
    return Exponential(as_schedule(call, exponent), base=in_form(call, "base", base, LOGARITHM))


@builds("/")
def quotient(dividend: Any, divisor: Any) -> Quotient:
    """Return `dividend / divisor`, for a schedule as the divisor."""
    a, b = operand("number / schedule", "number", dividend), as_schedule("/", divisor)
    require_never_zero(b)
    return Quotient((a, b))


def require_never_zero(divisor: Schedule) -> None:
    """Raise if the values of a divisor are known, and one of them is zero."""
    known = foreseen(divisor)
    if known is None:
        return
    zero = np.abs(known.values) < np.finfo(known.values.dtype).tiny
    if not zero.any():
        return
    step = int(known.steps[zero.argmax()])
    held = divisor.steps is not None and step == int(divisor.steps)
    raise ValueError(
        f"`... / schedule`: the divisor `{divisor}` {'ends at zero,' if held else 'is zero'} at "
        f"step {step}. Keep it away from zero: `(...).clip(low)` with a `low` above 0."
    )


def power(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a**b, always finite; see the top of this file for values that do not exist."""
    return _power(*jnp.broadcast_arrays(a, b))


@jax.custom_jvp
def _power(a: jax.Array, b: jax.Array) -> jax.Array:
    # A subnormal exponent is zero to comparisons, but not to the power itself.
    b = jnp.where(jnp.abs(b) < jnp.finfo(b.dtype).tiny, 0, b)
    return saturated(jnp.where(_is_whole(b), a, jnp.maximum(a, 0)) ** b)


@_power.defjvp
def _power_jvp(given: Any, moved: Any) -> tuple[jax.Array, jax.Array]:
    (a, b), (by, more) = given, moved
    value, inside = _power(a, b), (a > 0) | (_is_whole(b) & (a < 0))
    slope = _slope(b * _power(jnp.where(inside, a, 1), b - 1))
    steepness = jnp.where(inside, slope, jnp.where(b == 1, 1, 0))
    log = jnp.log(jnp.where(a > 0, a, 1))
    return value, steepness * by + _slope(value * log) * more


def _is_whole(b: jax.Array) -> jax.Array:
    return jnp.floor(b) == b


def _slope(x: jax.Array) -> jax.Array:
    """Return a slope, or 0 if it overflows."""
    return jnp.where(jnp.abs(x) < jnp.finfo(x.dtype).max, x, 0)


def divided(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a / b, always finite: the largest float if b is zero, and 0 for 0 / 0."""
    return _divided(*jnp.broadcast_arrays(a, b))


@jax.custom_jvp
def _divided(a: jax.Array, b: jax.Array) -> jax.Array:
    zero = b == 0
    most = jnp.where(a == 0, 0, jnp.copysign(jnp.finfo(a.dtype).max, a))
    return jnp.where(zero, most, saturated(a / jnp.where(zero, 1, b)))


@_divided.defjvp
def _divided_jvp(given: Any, moved: Any) -> tuple[jax.Array, jax.Array]:
    (a, b), (by, more) = given, moved
    value, zero = _divided(a, b), b == 0
    one = jnp.where(zero, 1, b)
    of_a, of_b = _slope(1 / one), _slope(-value / one)
    return value, jnp.where(zero, 0, of_a) * by + jnp.where(zero, 0, of_b) * more
