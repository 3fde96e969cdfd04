"""Writers: functions that return a changed optimizer state. All can be used under `jit`.

The returned state has the type of the given one. An `nnx.Optimizer` is mutable; it is changed in
place, and returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._numerics import real
from jaxsched._core._require import finite, length, refuse, require
from jaxsched._core._trees import Path, all_of, replaced, rewritten
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Mail
from jaxsched._rules._tunable import TunableState, fits, retuned
from jaxsched._rules._until import UntilState, triggered
from jaxsched._schedules._schedule import Schedule
from jaxsched._state._clocks import clocks_of, each_named
from jaxsched._transforms._scheduled import (
    CLOCKS,
    Override,
    ScheduledState,
    StepCounter,
    factors_key,
    override_key,
)

S = TypeVar("S")


def set_step(opt_state: S, k: ArrayLike) -> S:
    """Sets the step counter of every transform of this package to `k`.

    Adam's own count stays, because its bias correction needs it. Metrics and factors stay too.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      k: the step of the next update, int32, not negative.

    Returns:
      The changed state.

    Raises:
      ValueError: `opt_state` has no step counter, or `k` is not an integer of at least 0.

    Example:
      >>> tx = scale_by_learning_rate(linear(1.0, 0.0, 10))
      >>> _, state = tx.update(jnp.ones(2), set_step(tx.init(jnp.ones(2)), 5))
      >>> hyperparams(state), step(state)
      ({'learning_rate': Array(0.5, dtype=float32)}, Array(6, dtype=int32))
    """
    k = _clock.held(length("set_step", "k", k))
    clocks_of("set_step", opt_state)

    def moved(_: Path, clock: ScheduledState | StepCounter) -> ScheduledState | StepCounter:
        return clock._replace(count=jnp.full_like(clock.count, _clock.read(k)))

    return rewritten(opt_state, lambda tree: replaced(CLOCKS, tree, moved))


def observe(opt_state: S, /, **metrics: ArrayLike | None) -> S:
    """Delivers metrics to every rule and guard that listens to their names.

    The next update reads them. All values delivered between two updates count as one observation:
    the mean of the finite values. If the update also receives the same name, its value is included,
    and `events(opt_state)["mixed"]` counts the update. So if the training loss is passed to
    `update(value=loss)`, give the validation loss its own name:
    `reduce_on_plateau(metric="validation")` and `observe(opt_state, validation=loss)`.

    Inside `accumulate(...)`, the metric that you pass to `update` with each batch is counted, and
    the rules receive the mean over the batches of a step. Inside `optax.MultiSteps`, only the
    metric passed with the last batch of a step arrives, because that wrapper passes on nothing
    else. There, observe the metric of every batch.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      **metrics: scalars by name; `reduce_on_plateau` listens to `value` by default.

    Returns:
      The changed state. Use it instead of the one you passed: `state = observe(state, value=loss)`.
      Only an `nnx.Optimizer`, which is mutable, is changed in place, and returned.

    Raises:
      ValueError: no rule or guard listens to a name; or a metric is None, or not a scalar.

    Example:
      >>> tx = wrap(optax.sgd(0.1), reduce_on_plateau(patience=1, factor=0.5))
      >>> state = tx.init(jnp.ones(2))
      >>> for loss in (1.0, 2.0):
      ...     _, state = tx.update(jnp.ones(2), observe(state, value=loss))
      >>> hyperparams(state)
      {'scale': Array(0.5, dtype=float32)}
    """
    for name, value in metrics.items():
        remedy = "Leave it out if there is no value."
        require(value is not None, refuse("observe", name, "be a number", value, remedy))
    heard: set[str] = set()

    def post(path: Path, mail: Mail) -> Mail:
        name = path[-1].key
        heard.add(name)
        metric = metrics.get(name)
        return mail if metric is None else _mailbox.observed(name, mail, metric)

    def posted(tree: Any) -> Any:
        new = replaced(Mail, tree, post)
        _require_heard(metrics, heard)
        return new

    return rewritten(opt_state, posted)


def _require_heard(metrics: Iterable[str], heard: set[str]) -> None:
    listeners = (
        f"Names in use: {', '.join(sorted(heard))}."
        if heard
        else "The state has no rule. Multiply a schedule by one, such as `reduce_on_plateau()`, "
        "and pass the product to `inject`, `scale_by_learning_rate` or `wrap`."
    )
    for name in metrics:
        require(
            name in heard,
            f"`observe(opt_state, {name}=...)`: no rule listens to `{name}`. {listeners}",
        )


def override(opt_state: S, /, **values: ArrayLike | None) -> S:
    """Replaces scheduled values by fixed ones, or returns to the schedule, without recompilation.

    Only the named hyperparameters change: another one keeps its value, even if it is computed from
    the same schedule. Before the first update, `hyperparams` shows a new value at once. If you pass
    None instead, `hyperparams` shows the value of the schedule only after the first update.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      **values: by hyperparameter name, a number to use from the next update on, or None to return
        to the schedule. A traced number that is not finite also returns to the schedule. For
        labelled names, which are not identifiers, use `**{"encoder/learning_rate": x}`.

    Returns:
      The changed state.

    Raises:
      ValueError: there is no hyperparameter of that name, or a value is not a finite number.

    Example:
      >>> tx = scale_by_learning_rate(linear(1.0, 0.0, 10))
      >>> state = override(tx.init(jnp.ones(2)), learning_rate=0.3)
      >>> _, state = tx.update(jnp.ones(2), state)
      >>> hyperparams(state)
      {'learning_rate': Array(0.3, dtype=float32)}
    """
    numbers = {
        name: None if value is None else finite("override", name, value)
        for name, value in values.items()
    }

    def set_one(state: ScheduledState, name: str, value: Any) -> ScheduledState:
        new = _overriding(name, value, state.overrides[override_key(name)])
        # `hyperparams` shows the value used last; before the first update, the next value.
        at_once = new.active & (state.count == 0)
        record = jnp.where(at_once, new.value, state.hyperparams[name])
        return state._replace(
            hyperparams={**state.hyperparams, name: record},
            overrides={**state.overrides, override_key(name): new},
        )

    return each_named("override", opt_state, numbers, set_one)


def _overriding(name: str, value: Any, old: Override) -> Override:
    if value is None:
        return Override(jnp.zeros_like(old.value), jnp.zeros_like(old.active))
    if jnp.shape(value) not in ((), old.value.shape):
        must = (
            "be a number" if old.value.ndim == 0 else f"be a number or have shape {old.value.shape}"
        )
        raise ValueError(refuse("override", name, must, value))
    # A traced value that is not finite is ignored, so that the state stays finite.
    active = jnp.isfinite(real(value))
    number = jnp.where(active, real(value), 0)
    return Override(jnp.full_like(old.value, number), jnp.full_like(old.active, active))


def retune(opt_state: S, /, **schedules: Schedule) -> S:
    """Changes the numbers of a `tunable` schedule, without recompilation.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      **schedules: by hyperparameter name, a schedule with the same tree as the tunable one.

    Returns:
      The changed state.

    Raises:
      ValueError: there is no such hyperparameter, it is not tunable, or the trees differ.

    Example:
      >>> tx = scale_by_learning_rate(tunable(constant(1.0)))
      >>> state = retune(tx.init(jnp.ones(2)), learning_rate=constant(0.3))
      >>> _, state = tx.update(jnp.ones(2), state)
      >>> hyperparams(state)
      {'learning_rate': Array(0.3, dtype=float32)}
    """

    def set_one(state: ScheduledState, name: str, schedule: Any) -> ScheduledState:
        key = factors_key(name)
        states = state.factors.get(key, ())
        places = [i for i, x in enumerate(states) if isinstance(x, TunableState)]
        require(
            bool(places),
            f"`retune(opt_state, {name}=...)`: {name} is not tunable. "
            "Build it as `tunable(schedule)`.",
        )
        fitting = [i for i in places if fits(states[i], schedule)]
        require(
            len(fitting) <= 1,
            f"`retune(opt_state, {name}=...)`: {len(fitting)} tunable factors have this tree.",
        )
        at = (fitting or places)[0]
        new = (*states[:at], retuned(states[at], schedule), *states[at + 1 :])
        return state._replace(factors={**state.factors, key: new})

    return each_named("retune", opt_state, schedules, set_one)


def trigger(opt_state: S, when: ArrayLike = True) -> S:
    """Triggers every `until` and `cooldown`. They switch at the next update, permanently.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      when: a bool, which may be traced. False leaves the state unchanged.

    Returns:
      The changed state.

    Raises:
      ValueError: `opt_state` contains no `until` and no `cooldown`, or `when` is not a bool.

    Example:
      >>> tx = scale_by_learning_rate(until(constant(1.0), constant(0.1)))
      >>> _, state = tx.update(jnp.ones(2), trigger(tx.init(jnp.ones(2))))
      >>> hyperparams(state)
      {'learning_rate': Array(0.1, dtype=float32)}
    """
    is_array = isinstance(when, (bool, np.bool_, np.ndarray, jax.Array))
    is_bool = is_array and jnp.result_type(when) == jnp.bool_ and jnp.ndim(when) == 0
    require(is_bool, refuse("trigger", "when", "be True or False", when))
    require(
        bool(all_of(UntilState, opt_state)),
        "`trigger(opt_state)` finds no `until` and no `cooldown` in the state. Schedule one first.",
    )

    return rewritten(opt_state, lambda tree: triggered(tree, when))
