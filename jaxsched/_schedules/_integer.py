"""Schedules whose values are integers: numbers of batches, layers or tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import LAST, Length
from jaxsched._core._fields import choice_field, length_field
from jaxsched._core._numerics import real
from jaxsched._core._require import length, one_of, refuse
from jaxsched._core._writing import length_text, owner
from jaxsched._schedules._foreseen import foreseen
from jaxsched._schedules._mapped import Mapped
from jaxsched._schedules._schedule import Schedule, builds

ROUNDINGS = "floor", "ceil", "half_up", "half_even"


class Integer(Mapped):
    """`a.integer(rounding, multiple)`: multiple * rounded(a(t) / multiple)."""

    rounding: str = choice_field(among=ROUNDINGS, kw_only=False)
    multiple: Length = length_field(least=1, kw_only=False)

    def _of(self, value: jax.Array) -> jax.Array:
        return rounded(value, self.rounding, self.multiple)

    def _returned(self, value: jax.Array) -> jax.Array:
        # The nearest float below 2^31, since float32 has no 2^31 - 1.
        last = jnp.nextafter(real(LAST + 1), real(0))
        inside = jnp.clip(value, -last, last).astype(jnp.int32)
        return jnp.where(value > last, LAST, jnp.where(value < -last, -LAST, inside))

    def _as_time(self, t: jax.Array) -> jax.Array:
        return _clock.read(self._returned(self.at(t)))

    def _text(self) -> str:
        multiple = f", multiple={length_text(self.multiple)}"
        every = multiple if multiple != ", multiple=1" else ""
        return f"{owner(self.schedule)}.integer({self.rounding!r}{every})"


@builds("integer")
def integer(schedule: Schedule, rounding: str, multiple: ArrayLike) -> Integer:
    """Return `schedule.integer(rounding, multiple)`, checked."""
    one_of("integer", "rounding", rounding, ROUNDINGS)
    every = _clock.held(length("integer", "multiple", multiple, least=1))
    # An unbounded schedule may be used only as far as its values are exact.
    known = None if schedule.steps is None else foreseen(schedule)
    if known is not None and not isinstance(every, jax.Array):
        largest = known.values[np.abs(known.values).argmax()]
        apart = np.spacing(np.abs(largest))
        if apart > every:
            must = f"be at least {int(apart)} for values as large as {largest:.3g}"
            why = f"Neighbouring {known.values.dtype} numbers of that size are so far apart."
            raise ValueError(refuse("integer", "multiple", must, multiple, why))
    return Integer(schedule, rounding, every)


def rounded(value: jax.Array, rounding: str, multiple: Length) -> jax.Array:
    """Return a value rounded to a multiple, exact below 2^24."""
    every = jnp.maximum(real(multiple), 1)
    below = every * jnp.floor(value / every)
    # The quotient is rounded, and so may be one too small or too large.
    below = jnp.where(below > value, below - every, below)
    below = jnp.where(below + every <= value, below + every, below)
    rest = value - below
    match rounding:
        case "floor":
            up = jnp.zeros_like(rest, bool)
        case "ceil":
            up = rest > 0
        case "half_up":
            up = 2 * rest >= every
        case _:
            half = jnp.round(below / every) / 2
            odd = half != jnp.floor(half)
            up = (2 * rest > every) | ((2 * rest == every) & odd)
    return jax.lax.stop_gradient(jnp.where(up, below + every, below))
