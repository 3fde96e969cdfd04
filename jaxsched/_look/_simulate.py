"""Simulation of a stateful schedule with given metrics, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core._clock import LAST, known
from jaxsched._core._padded import shortened, size
from jaxsched._core._require import refuse, require, static_length
from jaxsched._core._trees import Path, replaced
from jaxsched._rules._events import counts
from jaxsched._rules._mailbox import Mail, add, listened
from jaxsched._rules._memory import chosen
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._rules._until import Triggered, triggered
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule

Metrics = Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]]


class Simulated(NamedTuple):
    """The result of `simulate`; all arrays are over the steps.

    Attributes:
      values: float32: the value that each update used.
      events: int32 by name: running counts; each increase marks one event.
    """

    values: jax.Array
    events: dict[str, jax.Array]


def simulate(
    schedule: Stateful | AnySchedule,
    metrics: Metrics | None = None,
    *,
    total_steps: int | None = None,
    trigger_at: ArrayLike | None = None,
) -> Simulated:
    """Computes the values and the rule events of a schedule for given metrics, without training.

    For example, a patience can be chosen on the losses of a finished run. Rules receive no
    gradients: a rule that needs them keeps its initial value. Pass a gradient norm as a metric.

    Args:
      schedule: a schedule, stateful or not.
      metrics: by name, an array with one observation per step; or `(steps, values)`, where the
        update of each step receives its value. For a validation loss after every 44 steps, pass
        `{"value": (44 * np.arange(1, 11), losses)}`.
      total_steps: number of steps. None: as far as the metrics, or else the schedule, go.
      trigger_at: step before which `trigger(opt_state)` is called, for an `until` or a `cooldown`.

    Returns:
      The values, and the running counts of cuts, raises and other events.

    Raises:
      ValueError: a rule listens to a metric that is not given; a metric is given that no rule
        listens to; the number of steps is not known; or an observation lies outside of them.

    Example:
      >>> rate = constant(1.0) * reduce_on_plateau(patience=2, factor=0.5)
      >>> run = simulate(rate, {"value": np.array([1.0, 0.9, 0.9, 0.9, 0.9, 0.9])})
      >>> print(run.values, run.events["cuts"])
      [1.   1.   1.   0.5  0.5  0.25] [0 0 0 1 1 2]
    """
    rate = schedule if isinstance(schedule, Stateful) else as_schedule("simulate", schedule)
    told = metrics or {}
    require_heard("simulate", [rate], told)
    missing = sorted(_names(rate) - told.keys())
    names = ", ".join(map(repr, missing))
    require(not missing, f"`simulate(metrics=...)` needs {names}, which `{rate}` listens to.")
    require_until("simulate", [rate], trigger_at)
    total = _total(rate, told, total_steps)
    rows = {name: _spread(name, *pair(name, x), total) for name, x in told.items()}
    when = LAST if trigger_at is None else trigger_at
    # Padded with steps without observations, so that any number of steps uses the same program.
    steps = np.arange(size(total), dtype=np.int32)
    found = _run(rate, rows, jnp.asarray(when, jnp.int32), steps)
    return jax.tree.map(lambda x: shortened(x, total), found)


def has_until(rate: Any) -> bool:
    """Return whether there is anything to trigger."""
    return isinstance(rate, Stateful) and any(isinstance(x, Triggered) for x in rate.rules)


def require_until(call: str, rates: Sequence[Any], trigger_at: Any) -> None:
    """Raise if there is nothing to trigger."""
    shown = ", ".join(f"`{rate}`" for rate in rates)
    require(
        trigger_at is None or any(map(has_until, rates)),
        f"`{call}(trigger_at={trigger_at!r})`: there is no `until` or `cooldown` to trigger in "
        f"{shown}.",
    )


def heard(rate: Any, metrics: Metrics) -> Metrics:
    """Return the metrics that a schedule listens to."""
    names = _names(rate)
    return {name: x for name, x in metrics.items() if name in names}


def require_heard(call: str, rates: Sequence[Any], metrics: Metrics) -> None:
    """Raise if no schedule listens to a metric."""
    said: Any = metrics
    must = "be a dict, such as `{'value': losses}`"
    require(isinstance(said, Mapping), refuse(call, "metrics", must, said))
    strange = sorted(metrics.keys() - set().union(*map(_names, rates)))
    names = ", ".join(map(repr, strange))
    shown = ", ".join(f"`{rate}`" for rate in rates)
    require(not strange, f"`{call}(metrics=...)` has {names}, which no rule in {shown} listens to.")


def before(metrics: Metrics, total: int) -> Metrics:
    """Return the observations before a step."""
    pairs = {name: pair(name, x) for name, x in metrics.items()}
    return {name: (at[at < total], values[at < total]) for name, (at, values) in pairs.items()}


def metrics_end(metrics: Metrics) -> int:
    """Return the number of steps that metrics cover."""
    ends = [at.max() + 1 for name, x in metrics.items() if (at := pair(name, x)[0]).size]
    return int(max(ends, default=0))


@jax.jit
def _run(rate: Any, rows: Any, trigger_at: jax.Array, steps: jax.Array) -> Simulated:
    if isinstance(rate, Schedule):
        return Simulated(rate(steps), {})
    nothing = jnp.zeros(())  # in place of parameters and gradients

    def step(state: Any, now: Any) -> Any:
        t, observed = now

        def post(path: Path, mail: Mail) -> Mail:
            name = path[-1].key
            value, there = observed[name]
            return chosen(there, add(name, mail, value), mail)

        state = triggered(replaced(Mail, state, post), t == trigger_at)
        state = rate.update(state, step=t, updates=nothing)
        return state, Simulated(rate(state, step=t), counts(state))

    return jax.lax.scan(step, rate.init(nothing), (steps, rows))[1]


def pair(name: str, x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of a metric and its values."""
    steps, values = x if isinstance(x, tuple) else (np.arange(np.size(x)), x)
    steps, values = np.asarray(steps), np.asarray(values, np.float32)
    require(
        values.ndim == 1 and steps.shape == values.shape and steps.dtype.kind in "iu",
        "`simulate(metrics=...)` takes an array over the steps, or a tuple `(steps, values)` of "
        f"integer steps and equally many values, got {steps.dtype}{list(steps.shape)} and "
        f"{list(values.shape)} for {name!r}.",
    )
    return steps, values


def _total(rate: Any, told: Metrics, total_steps: int | None) -> int:
    if total_steps is not None:
        return static_length("simulate", "total_steps", total_steps)
    end = metrics_end(told) or still(rate).steps
    require(
        bool(end),
        "`simulate(total_steps=...)` must be given, because neither the metrics nor the schedule "
        f"`{rate}` have an end.",
    )
    return int(known(end))


def _names(rate: Any) -> set[str]:
    """Return the metrics that a schedule listens to."""
    return listened(jax.eval_shape(rate.init)) if isinstance(rate, Stateful) else set()


def _spread(
    name: str, steps: np.ndarray, values: np.ndarray, total: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a metric at every step, and whether there is an observation."""
    require(
        np.unique(steps).size == steps.size and ((steps >= 0) & (steps < total)).all(),
        f"`simulate(metrics=...)`: the steps of {name!r} must differ and lie in [0, {total}).",
    )
    at, there = np.zeros(size(total), np.float32), np.zeros(size(total), bool)
    at[steps], there[steps] = values, True
    return at, there
