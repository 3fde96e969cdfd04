"""A chain that is stretched as a whole: all its pieces keep their proportions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._core import _clock
from jaxsched._core._clock import Length, known
from jaxsched._core._fields import length_field
from jaxsched._core._numerics import real
from jaxsched._core._writing import length_text, owner
from jaxsched._schedules._retimed import Retimed
from jaxsched._schedules._schedule import Schedule, builds

ROUNDING = 2.0**-22  # relative error of a quotient of two real numbers, and some more


class Proportional(Retimed):
    """`a.proportional()`, over some steps: a(t * a.steps / steps)."""

    steps: Length = length_field(kw_only=False)  # pyright: ignore[reportIncompatibleMethodOverride]

    def at(self, t: jax.Array) -> jax.Array:
        inner, steps = real(known(self.schedule.steps)), real(_clock.total(self.steps))
        time = real(t) / jnp.maximum(steps / jnp.maximum(inner, 1), jnp.finfo(inner.dtype).tiny)
        # The quotient is rounded, and must not miss the start of a piece.
        whole = jnp.round(time)
        time = jnp.where(jnp.abs(time - whole) <= ROUNDING * time, whole, time)
        return self.schedule.at(jnp.where(steps > 0, time, inner))

    def _stretched(self, steps: Length) -> Schedule:
        return Proportional(self.schedule, steps)

    def _text(self) -> str:
        whole = f"{owner(self.schedule)}.proportional()"
        plain = isinstance(self.steps, int) and self.steps == self.schedule.steps
        return whole if plain else f"{whole}.stretch({length_text(self.steps)})"

    def _step_of(self, step: int) -> int:
        return -(-step * int(self.steps) // max(int(known(self.schedule.steps)), 1))

    def _step_inside(self, step: int) -> int:
        return -(-step * int(known(self.schedule.steps)) // max(int(self.steps), 1))


@builds("proportional")
def proportional(schedule: Schedule) -> Any:
    """Return `schedule.proportional()`, checked."""
    if schedule.steps is None:
        raise ValueError(f"`{schedule}` never ends; say how long: `.take(steps).proportional()`")
    return Proportional(schedule, schedule.steps)
