"""Schedules through values at given steps. Boundaries may be real numbers.

A boundary step belongs to the piece that follows it. All of these schedules are unbounded: the last
value is held until `.take(steps)` ends it. In an array with several axes, the last axis is the list
and the axes before it are those of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._factory import factory
from jaxsched._core._fields import list_field
from jaxsched._core._lists import List, as_array, given, plain_of, some_of
from jaxsched._core._numerics import blend, half_cosine, looked_up, real, whole_if_due
from jaxsched._core._require import Number, as_int32, finite, refuse, require, sequence
from jaxsched._core._writing import text
from jaxsched._schedules._schedule import Schedule


def _fit(call: str, values: List, boundaries: List, more: int) -> None:
    """Raise unless there are `more` more values than boundaries."""
    size, edges = values.shape[-1], boundaries.shape[-1]
    rule = "one more value than boundaries" if more else "one value for each boundary"
    require(
        size == edges + more,
        f"`{call}(values=..., boundaries=...)` needs {rule}: got {size} values and {edges} "
        f"boundaries, {text(values)} and {text(boundaries)}.",
    )


def _rising(call: str, name: str, boundaries: Any) -> List:
    """Return boundaries, checked not to decrease; whole numbers become integers."""
    is_real = jnp.issubdtype(getattr(boundaries, "dtype", int), jnp.floating)
    knots = _knots(call, boundaries)
    require(knots >= 0, refuse(call, name, "not be negative", boundaries))
    rising = knots[..., 1:] >= knots[..., :-1]
    require(rising, refuse(call, name, "not decrease", boundaries))
    # float32 loses steps beyond 2^24. An array of floats stays one.
    if isinstance(knots, np.ndarray) and not is_real and np.all(knots == np.floor(knots)):
        # A boundary beyond the step counter stays real, for a real clock.
        knots = knots if np.any(knots > _clock.LAST) else knots.astype(np.int32)
    return knots


def _step(call: str, boundary: ArrayLike) -> Number:
    return as_int32(boundary) if _is_whole(boundary) else finite(call, "boundaries", boundary)


def _knots(call: str, boundaries: Sequence[ArrayLike]) -> List:
    plain = plain_of(call, "boundaries", boundaries)
    if plain is not None:
        return plain
    steps = [_step(call, boundary) for boundary in sequence(call, "boundaries", boundaries)]
    if steps and all(map(_is_whole, steps)):
        return jnp.stack(steps, axis=-1)
    return as_array(steps)


def _is_whole(x: Any) -> TypeGuard[List]:
    return isinstance(x, (jax.Array, np.ndarray)) and jnp.issubdtype(x.dtype, jnp.integer)


class Listed(Schedule):
    """Base class of schedules given by values and boundaries."""

    values: List = list_field(check=some_of, converter=given)
    boundaries: List = list_field(check=_rising, converter=given)

    _more: ClassVar[int] = 0  # so many more values than boundaries

    def _check(self, call: str) -> None:
        _fit(call, self.values, self.boundaries, more=self._more)

    def _changes(self) -> Iterable[int]:
        return _first_steps(self.boundaries)


class PiecewiseConstant(Listed):
    """A piecewise-constant schedule: one value after the other.

        value(t) = values[k],    k = the number of boundaries <= t

    Args:
      values: the values themselves (not factors), one more than boundaries.
      boundaries: the steps at which the next value begins, not negative, not decreasing; they may
        be real. If two are equal, the value between them is never used.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: the lengths do not fit, a number is not finite, or the boundaries decrease.

    Example:
      >>> print(piecewise_constant([1.0, 0.1, 0.01], [2, 4])(jnp.arange(6)))
      [1.   1.   0.1  0.1  0.01 0.01]

    References:
      `optax.piecewise_constant_schedule`, which takes cumulative factors.
    """

    _more = 1

    def at(self, t: jax.Array) -> jax.Array:
        return looked_up(real(self.values), _passed(t, self.boundaries))


piecewise_constant = factory(PiecewiseConstant)


class Knots(Listed):
    """Base class of interpolations: finds the two knots around t and the fractions between."""

    def weights(self, done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the weights of the previous and of the next knot."""
        raise NotImplementedError

    def at(self, t: jax.Array) -> jax.Array:
        values, boundaries = real(self.values), jnp.asarray(self.boundaries)
        passed, last = _passed(t, boundaries), values.shape[0] - 1
        before, after = jnp.maximum(passed - 1, 0), jnp.minimum(passed, last)
        done = jnp.maximum(_elapsed(t, looked_up(boundaries, before)), 0)
        left = jnp.maximum(-_elapsed(t, looked_up(boundaries, after)), 0)
        width = done + left
        outside = (before == after) | (width <= 0)
        width = jnp.where(outside, 1, width)
        of_before, of_after = self.weights(
            jnp.where(outside, 0, done / width), jnp.where(outside, 1, left / width)
        )
        ends = looked_up(values, before), looked_up(values, after)
        value = blend(*ends, of_before, of_after)
        counted = _clock.is_counted(t, boundaries)
        return self._due(value, width, *ends) if counted else value

    def _due(self, value: jax.Array, width: jax.Array, *ends: jax.Array) -> jax.Array:
        """Return the value at a whole step between two knots at whole steps."""
        return value


class PiecewiseLinear(Knots):
    """A piecewise-linear schedule: straight lines between knots.

        value(boundaries[k]) = values[k]

    Between two knots the value is a straight line. Before the first knot the value is the first
    one, and after the last knot it is the last one.

    Args:
      values: the values at the knots.
      boundaries: the steps of the knots, one per value; not negative, not decreasing; they may be
        real. Two equal ones make a jump.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: the lengths do not fit, a number is not finite, or the boundaries decrease.

    Example:
      >>> print(np.asarray(piecewise_linear([0.0, 1.0, 0.0], [0, 2, 6.5])(jnp.arange(8))).round(3))
      [0.    0.5   1.    0.778 0.556 0.333 0.111 0.   ]

    References:
      `optax.piecewise_interpolate_schedule("linear", ...)`.
    """

    def weights(self, done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
        return left, done

    def _due(self, value: jax.Array, width: jax.Array, *ends: jax.Array) -> jax.Array:
        return whole_if_due(value, width, *ends)


piecewise_linear = factory(PiecewiseLinear)


class PiecewiseCosine(Knots):
    """A piecewise-cosine schedule: half a cosine between two knots, flat at each knot.

        value(boundaries[k]) = values[k]

    Between two knots with the values a and b, the value is a + (b - a) * (1 - cos(pi * x)) / 2.
    Here x goes from 0 at the first of the two knots to 1 at the second. Before the first knot the
    value is the first value, and after the last knot it is the last value.

    Args:
      values: the values at the knots.
      boundaries: the steps of the knots, one per value; not negative, not decreasing; they may be
        real. Two equal ones make a jump.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: the lengths do not fit, a number is not finite, or the boundaries decrease.

    Example:
      >>> print(np.asarray(piecewise_cosine([0.0, 1.0, 0.0], [0, 2, 6])(jnp.arange(7))).round(3))
      [0.    0.5   1.    0.854 0.5   0.146 0.   ]

    References:
      `optax.piecewise_interpolate_schedule("cosine", ...)`.
    """

    def weights(self, done: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
        return half_cosine(done, left)


piecewise_cosine = factory(PiecewiseCosine)


class PiecewiseCubic(Listed):
    """A piecewise-cubic schedule: a smooth curve through the knots that never overshoots.

        value(boundaries[k]) = values[k],    with a continuous slope

    Between two knots the value is a cubic polynomial in t. Where the knots rise, the curve rises.
    At a local maximum or minimum, and at the first and the last knot, the curve is flat. Before the
    first knot the value is the first one, and after the last knot it is the last one.

    Args:
      values: the values at the knots, two or more.
      boundaries: the steps of the knots, one per value; not negative, and each greater than the one
        before; they may be real.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: the lengths do not fit, there is one knot, a number is not finite, or the
        boundaries do not increase.

    Example:
      >>> curve = piecewise_cubic([0.0, 1.0, 0.2, 0.0], [0, 2, 6, 10])
      >>> print(np.asarray(curve(jnp.arange(0, 11, 2))).round(3))
      [0.   1.   0.64 0.2  0.06 0.  ]

    References:
      Fritsch and Butland, 1984, https://doi.org/10.1137/0905021, equation (4).
      `scipy.interpolate.PchipInterpolator` has the same slopes at the knots in between.
    """

    def _check(self, call: str) -> None:
        super()._check(call)
        several = self.values.shape[-1] > 1
        require(several, refuse(call, "values", "have two knots or more", text(self.values)))
        rising = self.boundaries[..., 1:] > self.boundaries[..., :-1]
        require(rising, refuse(call, "boundaries", "increase", text(self.boundaries)))

    def at(self, t: jax.Array) -> jax.Array:
        values, knots = real(self.values), real(self.boundaries)
        slopes = _flat_at_turns(values, knots)
        after = jnp.clip(_passed(t, self.boundaries), 1, values.shape[0] - 1)
        a, b = looked_up(knots, after - 1), looked_up(knots, after)
        width = jnp.where(b > a, b - a, 1)
        done = jnp.clip((real(t) - a) / width, 0, 1)
        left = jnp.clip((b - real(t)) / width, 0, 1)
        curved = left * looked_up(slopes, after - 1) - done * looked_up(slopes, after)
        ends = looked_up(values, after - 1), looked_up(values, after)
        weights = left**2 * (1 + 2 * done), done**2 * (1 + 2 * left)
        return blend(*ends, *weights) + width * done * left * curved


piecewise_cubic = factory(PiecewiseCubic)


def _flat_at_turns(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the slopes at knots: weighted harmonic means of the slopes beside them, or zero."""
    widths = jnp.where(jnp.diff(x) > 0, jnp.diff(x), 1)
    rises = jnp.where(jnp.diff(x) > 0, jnp.diff(y) / widths, 0)
    before, after = rises[:-1], rises[1:]
    same = before * after > 0
    near, far = widths[1:] + 2 * widths[:-1], 2 * widths[1:] + widths[:-1]
    one = jnp.where(same, before, 1), jnp.where(same, after, 1)
    mean = (near + far) / (far / one[0] + near / one[1])
    return jnp.pad(jnp.where(same, mean, 0), 1)


def _first_steps(boundaries: List) -> list[int]:
    """Return the first whole step at or after each boundary."""
    return [math.ceil(step) for step in np.asarray(boundaries).tolist()]


def _passed(t: jax.Array, boundaries: List) -> jax.Array:
    """Return the number of boundaries at or before t."""
    boundaries = jnp.asarray(boundaries)
    if jnp.issubdtype(boundaries.dtype, jnp.floating):
        # A real time passes a boundary that lies between two steps before the next step.
        is_real = jnp.issubdtype(t.dtype, jnp.floating)
        boundaries = boundaries if is_real else _clock.read(jnp.ceil(boundaries))
    else:
        boundaries = _clock.read(boundaries)
    first = boundaries.astype(t.dtype)
    return jnp.sum(jnp.expand_dims(t, -1) >= jnp.expand_dims(first, range(t.ndim)), axis=-1)


def _elapsed(t: jax.Array, boundary: jax.Array) -> jax.Array:
    """Return t - boundary: whole steps in integers, then the fraction of a real boundary."""
    if jnp.issubdtype(t.dtype, jnp.floating):
        return t - real(boundary)
    if jnp.issubdtype(boundary.dtype, jnp.integer):
        return real(t - _clock.read(boundary))
    whole = jnp.ceil(boundary)
    return real(t - _clock.read(whole)) + real(whole - boundary)
