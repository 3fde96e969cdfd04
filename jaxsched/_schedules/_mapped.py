"""Functions of the value of one schedule; `a.clip(low, high)` is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._clock import Length
from jaxsched._core._numerics import real
from jaxsched._core._require import Number, finite, require
from jaxsched._core._writing import options, owner
from jaxsched._schedules._marks import Jump, Phase
from jaxsched._schedules._schedule import Schedule, builds


class Mapped(Schedule):
    """A function of the value of one schedule."""

    schedule: Schedule

    @property
    def steps(self) -> Length | None:
        return self.schedule.steps

    def _of(self, value: jax.Array) -> jax.Array:
        """The result for a value of the schedule."""
        raise NotImplementedError

    def at(self, t: jax.Array) -> jax.Array:
        return self._of(self.schedule.at(t))

    def _stretched(self, steps: Length) -> Schedule:
        return dataclasses.replace(self, schedule=self.schedule._stretched(steps))

    def _changes(self) -> Iterable[int]:
        return self.schedule._changes()

    def _phases(self, total: int) -> list[Phase]:
        return self.schedule._phases(total)

    def _joins(self) -> Iterator[Jump]:
        for join in self.schedule._joins():
            yield join.through(lambda x: float(self._of(real(x))))


class Clip(Mapped):
    """`a.clip(low, high)`; None means no limit."""

    low: Number | None
    high: Number | None

    def _of(self, value: jax.Array) -> jax.Array:
        return clipped(value, self.low, self.high)

    def _text(self) -> str:
        return f"{owner(self.schedule)}.clip({options(low=self.low, high=self.high)})"


@builds("clip")
def _clip(schedule: Schedule, low: ArrayLike | None, high: ArrayLike | None) -> Clip:
    return Clip(schedule, *bounds("clip", low, high))


def bounds(
    call: str, low: ArrayLike | None, high: ArrayLike | None
) -> tuple[Number | None, Number | None]:
    """Return the bounds of a clip, checked."""
    low = None if low is None else finite(call, "low", low)
    high = None if high is None else finite(call, "high", high)
    if low is not None and high is not None:
        require(low <= high, f"`{call}(low=..., high=...)` is empty: low={low!r} > high={high!r}.")
    return low, high


def clipped(value: jax.Array, low: Number | None, high: Number | None) -> jax.Array:
    """Return min(max(value, low), high), where None means no limit."""
    value = value if low is None else jnp.maximum(value, real(low))
    return value if high is None else jnp.minimum(value, real(high))
