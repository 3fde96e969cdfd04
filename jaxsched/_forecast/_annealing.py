"""What a loss law reads of a schedule: the sum of the rates, and how the rate fell.

A law adds up the effects of all changes of the rate, from the end of the warmup to the step where
the loss is read. With one term per step and per loss, that takes 36 million terms for 500 losses in
a run of 72,000 steps. So changes that follow one another are put into groups of equal change. The
effect of a group is that of its whole change at its mean rate and its mean time. For these, the
rule with one point is exact for linear effects, so its error falls with the square of the number
of groups. A group in which a loss is read counts for this loss up to that step, with the means of
that part. A sudden change is one group, and is exact.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._numerics import real
from jaxsched._forecast._rates import Rates, warmed_up

GROUPS = 128
LEAST_RATE = 1e-6  # of the highest rate: a rate of zero has no power


class Annealing(NamedTuple):
    """The rates before each point, as a law reads them. A point is a step with a loss."""

    summed: jax.Array
    """The sum of the rates of all updates before the point, float[points]."""
    fall: jax.Array
    """How much the rate fell in a group of changes before the point, float[points, groups]."""
    rate: jax.Array
    """The mean rate after these changes, float[points, groups]."""
    since: jax.Array
    """The sum of the rates from the mean change to the point, float[points, groups]."""
    elapsed: jax.Array
    """The number of steps from the mean change to the point, float[points, groups]."""


def annealing(rates: Rates, steps: np.ndarray, groups: int = GROUPS) -> Annealing:
    """Return what a law reads of the rates at some steps."""
    cell, within = np.divmod(steps, rates.width)
    # The point after the last step of the last cell is read in this cell, at its full width.
    over = cell >= len(rates.values)
    cell, within = np.where(over, cell - 1, cell), np.where(over, rates.width, within)
    return _annealing(
        rates.values, cell.astype(np.int32), within.astype(np.int32), float(rates.width), groups
    )


@partial(jax.jit, static_argnames="groups")
def _annealing(
    rates: jax.Array, cell: jax.Array, within: jax.Array, width: jax.Array, groups: int
) -> Annealing:
    place = jnp.arange(rates.shape[0], dtype=jnp.int32)
    change = jnp.append(jnp.zeros_like(rates[:1]), rates[:-1] - rates[1:])
    change = jnp.where(place > warmed_up(rates), change, 0)
    size = jnp.abs(change)
    summed = width * (jnp.cumsum(rates) - rates)  # before each cell
    fallen, changed, at_rate, at_sum, at_time = map(
        jnp.cumsum, (change, size, size * rates, size * summed, size * real(place) * width)
    )

    share = real(np.arange(1, groups + 1) / groups)
    ends = jnp.searchsorted(changed, changed[-1] * share)
    ends = jnp.append(jnp.zeros_like(ends[:1]), jnp.minimum(ends, rates.shape[0] - 1))
    # To each point, a group ends at the point's step at the latest.
    upto = jnp.minimum(ends[None, :], cell[:, None])

    def of_groups(totals: jax.Array) -> jax.Array:
        return jnp.diff(totals[upto], axis=1)

    weight = of_groups(changed)
    empty = weight <= 0
    weight = jnp.where(empty, 1, weight)
    highest = jnp.max(rates)
    here = summed[cell] + real(within) * rates[cell]
    now = real(cell) * width + real(within)

    def gap(point: jax.Array, totals: jax.Array) -> jax.Array:
        mean = of_groups(totals) / weight
        return jnp.where(empty, 0, jnp.maximum(point[:, None] - mean, 0))

    return Annealing(
        summed=here,
        fall=jnp.where(empty, 0, of_groups(fallen)),
        rate=jnp.maximum(
            jnp.where(empty, highest, of_groups(at_rate) / weight), highest * LEAST_RATE
        ),
        since=gap(here, at_sum),
        elapsed=gap(now, at_time),
    )
