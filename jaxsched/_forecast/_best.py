"""The schedule with the lowest loss at the end, by a loss law.

The rate is a line between knots. The knots are found by gradient descent on the loss that the law
predicts for the last step, from several starts in one compiled program.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsched._core._numerics import real
from jaxsched._core._require import flag, length, positive, refuse, require
from jaxsched._forecast._annealing import LEAST_RATE, Annealing, annealing
from jaxsched._forecast._forecast import ended
from jaxsched._forecast._laws import LossLaw, require_law
from jaxsched._forecast._rates import rates_of
from jaxsched._schedules._piecewise import piecewise_linear
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule

CELLS = 1024  # of the rest of the run, in the search
UPDATES = 300
MOST = 129  # knots, beyond which the search is too short
STARTS = 0.1, 0.2, 0.4, 0.7, 1.0  # fractions of the rest in which the rate falls, at the start


class _Past(NamedTuple):
    """What a law reads of the steps before the search begins."""

    seen: Annealing  # at the first step of the rest
    rate: jax.Array  # the last rate before


def best_schedule(
    law: LossLaw,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    knots: int = 33,
    lowest: float | None = None,
    highest: float | None = None,
    monotone: bool = True,
) -> Schedule:
    """Returns the schedule for which a law predicts the lowest loss at the end of a run.

        minimize over the rates at the knots: law(schedule, total_steps)

    Between knots the rate is a straight line. The knots are evenly spaced from the end of the
    warmup to the end of the run. A law is reliable only for rates like those on which it was
    fitted. So by default the bounds are the lowest and the highest of these rates.

    Args:
      law: a law of `fit_loss_law`.
      total_steps: number of optimizer steps of the run, warmup included.
      warmup_steps: steps in which the rate rises linearly from near zero to the first knot.
      knots: number of knots, including those of the warmup, at least 4.
      lowest: lowest rate allowed; None: the lowest rate of the fitted runs, or a thousandth of the
        highest if the rate of one of them fell to zero.
      highest: highest rate allowed; None: the highest rate of the fitted runs.
      monotone: whether the rate must not rise after the warmup. A law knows nothing about rises if
        the rates of its runs only fall.

    Returns:
      A `piecewise_linear` schedule with `knots` values, unbounded: it holds its last value.

    Raises:
      ValueError: a length is not a whole number or too small, or a bound is not positive.

    Example:
      >>> law = MultiPowerLaw(
      ...     floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
      ...     unit_rate=0.01, unit_steps=2000)
      >>> best = best_schedule(law, 4000, lowest=0.001, highest=0.01)
      >>> others = linear(0.01, 0.001, 4000), cosine(0.01, 0.001, 4000), constant(0.01)
      >>> all(law(best, 4000) < law(other, 4000) for other in others)
      True

    References:
      Luo et al., ICLR 2025, https://arxiv.org/abs/2503.12811, section 5.
    """
    call = "best_schedule"
    total = int(length(call, "total_steps", total_steps, least=2))
    warmup = int(length(call, "warmup_steps", warmup_steps))
    fits = warmup < total - 1
    require(fits, refuse(call, "warmup_steps", f"be below {total - 1}", warmup_steps))
    bounds = _bounds(call, law, lowest, highest)
    begins = [0] if warmup else []
    count = _knots(call, knots, total - warmup) - len(begins)
    rates = _searched(call, law, None, warmup, total, count, bounds, monotone)
    before = [rates[0] / (warmup + 1)] if warmup else []
    places = np.linspace(warmup, total, count).round().astype(int)
    return piecewise_linear([*before, *rates], [*begins, *places.tolist()])


def best_remaining(
    law: LossLaw,
    schedule: AnySchedule,
    step: int,
    *,
    total_steps: int | None = None,
    knots: int = 33,
    lowest: float | None = None,
    highest: float | None = None,
    monotone: bool = True,
) -> Schedule:
    """Returns the schedule of a run's remaining steps that a law predicts to be the best.

        minimize over the rates at the knots: law(schedule until `step`, then knots; total_steps)

    If the last rate that the run used is outside the bounds, the result starts at the nearer bound.

    If the optimizer was built with `tunable(piecewise_linear(...))` of the same number of knots,
    pass the result to `retune`: nothing is compiled again. To make such a `piecewise_linear` from a
    schedule `plan`, read the plan at `knots` steps: `piecewise_linear(plan(places), places)`.

    Args:
      law: a law of `fit_loss_law`, usually fitted to the run itself and to a branch of it.
      schedule: the schedule that the run has followed up to `step`.
      step: the first step at which the rate may change.
      total_steps: number of optimizer steps of the run; None: the end of the schedule.
      knots: number of knots, from `step` to the end, at least 4.
      lowest: lowest rate allowed; None: the lowest rate of the fitted runs, or a thousandth of the
        highest if the rate of one of them fell to zero.
      highest: highest rate allowed; None: the highest rate of the fitted runs.
      monotone: whether the rate must not rise, starting from the last rate that the run used.

    Returns:
      A `piecewise_linear` schedule. Its steps are those of the whole run, not those since `step`.
      Before `step` it holds its first value, which no longer matters to the run itself.

    Raises:
      ValueError: as in `best_schedule`; or the schedule never ends and there is no `total_steps`;
        or `step` is not below `total_steps`.

    Example:
      >>> law = MultiPowerLaw(
      ...     floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
      ...     unit_rate=0.01, unit_steps=2000)
      >>> bounds = {"lowest": 0.001, "highest": 0.01}
      >>> rest = best_remaining(law, constant(0.01), 1000, total_steps=4000, **bounds)
      >>> whole = constant(0.01, 1000) >> rest.shift(-1000)  # to predict the loss of the whole run
      >>> print(law(whole, 4000) < law(linear(0.01, 0.001, 4000), 4000))
      True

    References:
      Luo et al., ICLR 2025, https://arxiv.org/abs/2503.12811, section 5, for a whole run.
    """
    call = "best_remaining"
    schedule = as_schedule(call, schedule)
    total = ended(call, schedule, total_steps)
    begin = int(length(call, "step", step, least=1))
    require(begin < total - 1, refuse(call, "step", f"be below {total - 1}", step))
    warm = rates_of(call, schedule, np.array([total])).warmup
    remedy = "Choose the rest after the warmup, or give `monotone=False`."
    late = begin > warm or not flag(call, "monotone", monotone)
    require(late, refuse(call, "step", f"be above {warm}, the end of the warmup", step, remedy))
    bounds = _bounds(call, law, lowest, highest)
    count = _knots(call, knots, total - begin)
    at = np.array([begin])
    past = _Past(annealing(rates_of(call, schedule, at), at), real(schedule(begin - 1)))
    if monotone:  # the rate may be below all rates of the law already
        bounds = min(bounds[0], float(past.rate)), bounds[1]
    rates = _searched(call, law, past, begin, total, count, bounds, monotone)
    places = np.linspace(begin, total, count).round().astype(int)
    return piecewise_linear(rates, places.tolist())


def _knots(call: str, knots: Any, steps: int) -> int:
    count = int(length(call, "knots", knots, least=4))
    most = min(MOST, steps + 1)
    require(count <= most, refuse(call, "knots", f"be at most {most} here", knots))
    return count


def _bounds(call: str, law: Any, lowest: Any, highest: Any) -> tuple[float, float]:
    require_law(call, law)
    if law.evidence is None and (lowest is None or highest is None):
        remedy = "Give `lowest` and `highest` for a law that was not fitted."
        raise ValueError(refuse(call, "law", "know the rates of its runs", law, remedy))
    seen = (0.0, 0.0) if law.evidence is None else (law.evidence.lowest, law.evidence.highest)
    low = float(seen[0] if lowest is None else positive(call, "lowest", lowest))
    high = float(seen[1] if highest is None else positive(call, "highest", highest))
    if lowest is None and low == 0:  # a fitted run fell to zero
        low = high / 1000
    if lowest is not None or highest is not None:
        between = f"be below the highest, {high:.4g}"
        require(low < high, refuse(call, "lowest", between, f"{low:.4g}"))
    remedy = "The rate of a fitted run must fall: add a branch, or give `lowest`."
    require(low < high, refuse(call, "law", "know several rates", f"{low:.4g} alone", remedy))
    return low, high


def _searched(
    call: str, law: LossLaw, past: _Past | None, begin: int, total: int, count: int,
    bounds: tuple[float, float], monotone: Any,
) -> list[float]:  # fmt: skip
    monotone = flag(call, "monotone", monotone)
    numbers = (begin, total, *bounds)
    rates = _search(law, past, *map(real, numbers), count=count, monotone=monotone)
    return [float(x) for x in np.asarray(rates)]


@partial(jax.jit, static_argnames=("count", "monotone"))
def _search(
    law: LossLaw, past: _Past | None, begin: jax.Array, total: jax.Array, low: jax.Array,
    high: jax.Array, *, count: int, monotone: bool,
) -> jax.Array:  # fmt: skip
    """Return the best rates at the knots. Without a past, there is a warmup to the first knot."""
    top = high if past is None else jnp.clip(past.rate, low, high)

    def rates(x: jax.Array) -> jax.Array:
        share = jax.nn.sigmoid(x)
        if monotone:
            return low + (top - low) * jnp.cumprod(share)
        return low + (high - low) * share

    def loss(x: jax.Array) -> jax.Array:
        knots = rates(x)
        place = (real(np.arange(CELLS)) + 0.5) * ((count - 1) / CELLS)
        values = jnp.interp(place, real(np.arange(count)), knots)
        before = _warmup(begin, knots[0]) if past is None else past
        return law.at(_whole(before, values, (total - begin) / CELLS))[0]

    optimizer = optax.rmsprop(0.05)  # not Adam, whose count is refused under strict promotion

    def update(carry: Any, _: Any) -> tuple[Any, None]:
        x, state, best, lowest = carry
        value, slope = jax.value_and_grad(loss)(x)
        changes, state = optimizer.update(slope, state)
        best = jnp.where(value < lowest, x, best)
        return (x + changes, state, best, jnp.minimum(value, lowest)), None

    def searched(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = (start, optimizer.init(start), start, real(jnp.inf))
        (_, _, best, lowest), _ = jax.lax.scan(update, first, length=UPDATES)
        return best, lowest

    found, losses = jax.vmap(searched)(_starts(count, monotone))
    return rates(found[jnp.argmin(losses)])


def _starts(count: int, monotone: bool) -> jax.Array:
    """Return schedules that are stable and then fall: the unknowns of each, one per row."""
    left = np.linspace(1, 0, count)[None, :]
    shape = np.clip(left / np.array(STARTS)[:, None], 0.02, 0.98)
    if monotone:
        shape = np.clip(
            shape / np.append(np.ones((len(STARTS), 1)), shape[:, :-1], axis=1), 0.02, 0.998
        )
    return real(np.log(shape / (1 - shape)))


def _warmup(steps: jax.Array, peak: jax.Array) -> _Past:
    """Return the past of a run that has only warmed up, linearly from near zero."""
    none = jnp.zeros((1, 1))
    return _Past(Annealing((steps * peak / 2)[None], none, none + peak, none, none), peak)


def _whole(past: _Past, rates: jax.Array, width: jax.Array) -> Annealing:
    """Return what a law reads at the end of a run: its past, and each change of its rest."""
    seen = past.seen
    rest = width * jnp.sum(rates)
    before = width * (jnp.cumsum(rates) - rates)
    fall = jnp.append(past.rate, rates[:-1]) - rates
    elapsed = width * real(np.arange(len(rates), 0, -1))
    rate = jnp.maximum(rates, LEAST_RATE * jnp.max(rates))

    def joined(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.append(a[0], b)[None]

    return Annealing(
        summed=seen.summed + rest,
        fall=joined(seen.fall, fall),
        rate=joined(seen.rate, rate),
        since=joined(seen.since + rest, rest - before),
        elapsed=joined(seen.elapsed + width * len(rates), elapsed),
    )
