"""The learning rates of a run, step by step: from a schedule, from an array, or from a log."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core._lists import numbers_of
from jaxsched._core._numerics import real
from jaxsched._core._padded import size
from jaxsched._core._require import refuse, require
from jaxsched._schedules._schedule import as_schedule

CELLS = 2**17  # longer runs are read at so many steps only


class Rates(NamedTuple):
    """The rates of a run. The rate of a cell is used at each of its steps.

    The number of cells is padded to a power of two, with the last rate of the run. So there is a
    compiled program for each of a few lengths only.
    """

    values: jax.Array
    """The rate of each cell, float[cells]."""
    width: int
    """The number of steps in a cell. It is 1, except in a run of more than 131,072 steps."""

    @property
    def warmup(self) -> int:
        """The step at which the warmup ends."""
        return int(warmed_up(self.values)) * self.width

    def used(self, begin: int, end: int) -> np.ndarray:
        """Return the rates of the cells from one step to another, on the host."""
        return np.asarray(self.values)[begin // self.width : -(-end // self.width)]


def rates_of(call: str, rates: Any, steps: np.ndarray) -> Rates:
    """Return the rates up to the last of some steps.

    Args:
      call: the function that was called, for errors.
      rates: a schedule; an array with one rate per logged step, see `of_log`; or an array with one
        rate per step of the run.
      steps: the steps at which the loss is read, int[points].
    """
    total = int(steps.max())
    width = -(-total // CELLS)
    cells = -(-total // width)
    place = np.minimum(np.arange(size(cells)) * width, max(total - 1, 0))
    if callable(rates):
        return Rates(_checked(call, rates, as_schedule(call, rates)(place.astype(np.int32))), width)
    known = jnp.asarray(numbers_of(call, "rates", rates))
    fits = known.ndim == 1 and (known.shape == steps.shape or known.shape[0] >= total)
    logged = f"have a rate for each of the {len(steps)} points, or for each of {total} steps"
    require(fits, refuse(call, "rates", logged, f"an array of shape {known.shape}"))
    if known.shape[0] >= total:
        return Rates(_checked(call, rates, real(known)[place]), width)
    require(bool(np.all(np.diff(steps) > 0)), refuse(call, "steps", "rise", steps.tolist()))
    if isinstance(known, Tracer):
        values = jnp.interp(real(place), real(steps), real(known))
    else:
        values = of_log(steps, np.asarray(known), place)
    return Rates(_checked(call, rates, values), width)


def of_log(steps: np.ndarray, rates: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the rates at some steps, from those that a log has.

    If the log begins late, at more than twice its interval, a warmup is missing: the rate is taken
    to rise linearly from zero. Otherwise the first logged rate is used from step 0 on.
    """
    late = len(steps) > 1 and steps[0] > 2 * (steps[1] - steps[0])
    first = 0.0 if late else rates[0]
    begun = np.insert(steps, 0, 0) if steps[0] > 0 else steps
    used = np.insert(rates, 0, first) if steps[0] > 0 else rates
    return np.interp(place, *_with_jumps(begun, used))


def _with_jumps(steps: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add a jump between two logged rates if the rate is constant before and after them.

    Such a rate was changed at once, in the middle of the interval for all that is known. A line
    would be a slow change, which has an effect of its own.
    """
    same = np.diff(rates) == 0
    jump = np.flatnonzero(same[:-2] & ~same[1:-1] & same[2:]) + 1
    middle = (steps[jump] + steps[jump + 1]) // 2
    places = np.repeat(jump + 1, 2)
    return (
        np.insert(steps, places, np.stack([middle, middle + 1], axis=1).ravel()),
        np.insert(rates, places, np.stack([rates[jump], rates[jump + 1]], axis=1).ravel()),
    )


def warmed_up(rates: jax.Array) -> jax.Array:
    """Return the cell at which the warmup ends: the first peak before the first fall."""
    place = jnp.arange(rates.shape[0], dtype=jnp.int32)
    # A log holds rounded rates, so a fall has to be larger than their last digits.
    falls = jnp.append(rates[1:] < rates[:-1] * (1 - 1e-5), True)
    return jnp.argmax(jnp.where(place <= jnp.argmax(falls), rates, -1))


def _checked(call: str, given: Any, values: Any) -> jax.Array:
    values = real(values)
    if not isinstance(values, Tracer):
        known = np.asarray(values)
        fine = bool(np.all(np.isfinite(known) & (known >= 0)))
        require(fine, refuse(call, "rates", "be finite and not negative at every step", given))
        require(bool(known.any()), refuse(call, "rates", "be above zero at some step", given))
    return jnp.maximum(values, 0)


def read_at(call: str, steps: Any, least: int = 1) -> np.ndarray:
    """Return the steps at which losses are read, checked: how many updates were made before."""
    listed = numbers_of(call, "steps", steps)
    if isinstance(listed, Tracer):
        must = "be known when the program is traced, because they set its shapes"
        raise ValueError(refuse(call, "steps", must, steps))
    known = np.asarray(listed)
    require(known.ndim == 1 and known.size > 0, refuse(call, "steps", "be a list of steps", steps))
    whole = bool(np.all(known == np.floor(known)) and np.all(known >= least))
    must = f"be whole numbers of at least {least}: how many updates were made before each loss"
    require(whole, refuse(call, "steps", must, steps))
    return known.astype(np.int64)
