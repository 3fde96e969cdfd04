"""Reading and writing any optimizer's state: pure functions, jittable, through any wrapper.

They find the states of this package's transforms wherever they are: in a chain, in `MultiSteps`,
`masked` or `partition`, in a Flax `TrainState`, in an `nnx.Optimizer`. A state comes back as it
was given, with what changed; an `nnx.Optimizer`, which is mutable, is changed in place as well.

A hyperparameter that occurs once goes by its plain name; more often, by its labels too:
"encoder/learning_rate". A plain name in `override` and `retune` means all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched import _clock
from jaxsched._numerics import real
from jaxsched._require import finite_of, integer, refuse, require
from jaxsched._schedule import Schedule
from jaxsched._stateful import _mailbox
from jaxsched._stateful._flat import FlatState
from jaxsched._stateful._mailbox import Mail
from jaxsched._stateful._plateau import PlateauState
from jaxsched._stateful._tunable import TunableState, fits, retuned
from jaxsched._stateful._until import UntilState
from jaxsched._transforms._scheduled import Override, ScheduledState, factors_key, override_key
from jaxsched._transforms._walk import (
    Path,
    all_of,
    counts,
    each_clock,
    find_clocks,
    opened,
    rewritten,
    text_of,
)

S = TypeVar("S")


def hyperparams(opt_state: Any) -> dict[str, jax.Array]:
    """The hyperparameters that the last update used.

    Before the first update, those of `init`, which are of step 0, and what `override` has set;
    `set_step`, `retune` and `trigger` are seen after it.

    Args:
      opt_state: an optimizer state, a `TrainState`, an `nnx.Optimizer`, or any tree with one.

    Returns:
      Values by name: float32 (float64 under x64), scalar unless the state is stacked.

    Raises:
      ValueError: there is no transform of this package in it.

    Example:
      >>> tx = optax.chain(optax.scale_by_adam(), scale_by_learning_rate(linear(0.1, 0.0, 10)))
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'learning_rate': Array(0.1, dtype=float32)}
    """
    clocks = _clocks("hyperparams", opt_state)
    names = _named((path, name) for path, state in clocks for name in state.hyperparams)
    values = (value for _, state in clocks for value in state.hyperparams.values())
    return dict(zip(names, values, strict=True))


def factors(opt_state: Any) -> dict[str, tuple[Any, ...]]:
    """The states of the stateful factors of each hyperparameter, in their order in the product.

    What is in them is public: `PlateauState.scale` is the factor of a plateau, `UntilState.start`
    the first step of what came after.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      NamedTuples by name of the hyperparameter; one without stateful factors has none.

    Raises:
      ValueError: there is no transform of this package in it.

    Example:
      >>> tx = scale_by_learning_rate(linear(0.1, 0.0, 10) * reduce_on_plateau())
      >>> (plateau,) = factors(tx.init(jnp.ones(2)))["learning_rate"]
      >>> print(plateau.scale, plateau.bad)
      1.0 0
    """
    clocks = _clocks("factors", opt_state)
    names = _named((path, name) for path, state in clocks for name in state.hyperparams)
    states = (s.factors.get(factors_key(n), ()) for _, s in clocks for n in s.hyperparams)
    return dict(zip(names, states, strict=True))


def events(opt_state: Any) -> dict[str, jax.Array]:
    """How often what has happened so far, of all that reacts in a state together.

    "cuts" and "raises" of rates, "spikes" of `spike_guard`, "skips" of `skip_spikes`, "restores" of
    `keep_best`, "snapshots" of `snapshot`: those that can happen there. What happened in a step is
    what the counts after it have more than those before. "mixed" counts the updates in which one
    metric came from `observe` and from `update` too.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      int32 by name, scalar unless the state is stacked; nothing, if nothing there reacts.

    Raises:
      ValueError: there is no transform of this package in it.

    Example:
      >>> tx = wrap(optax.sgd(0.1), reduce_on_plateau(patience=1))
      >>> state = tx.init(jnp.ones(2))
      >>> for loss in (1.0, 2.0):
      ...     _, state = tx.update(jnp.ones(2), state, value=loss)
      >>> events(state)
      {'cuts': Array(1, dtype=int32), 'mixed': Array(0, dtype=int32)}
    """
    found = counts(opened(opt_state))
    if not found and not _is_ours(opt_state):
        _clocks("events", opt_state)  # which says what it looks for
    return found


def exhausted(opt_state: Any) -> jax.Array:
    """Is every plateau at its floor, and would it have cut again?

    Then no cut is left that could help, and the run may stop. A better metric makes it False again.
    It looks at `reduce_on_plateau` and `reduce_when_flat`, whose floor is `min_scale`. Without one
    a scale falls for ever, and a floor by `.clip(low)` is not known to them.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      bool, scalar unless the state is stacked; False until each of them has reached its floor.

    Raises:
      ValueError: there is no such rule in it.

    Example:
      >>> tx = wrap(optax.sgd(0.1), reduce_on_plateau(patience=1, factor=0.5, min_scale=0.5))
      >>> state = tx.init(jnp.ones(2))
      >>> for loss in (1.0, 2.0, 2.0):
      ...     _, state = tx.update(jnp.ones(2), state, value=loss)
      ...     print(exhausted(state))
      False
      False
      True
    """
    found = [x.spared > 0 for x in all_of((PlateauState, FlatState), opt_state)]
    require(
        bool(found),
        f"`exhausted(opt_state)` finds no plateau in a {type(opt_state).__name__}: multiply the "
        "rate with `reduce_on_plateau(min_scale=...)` or `reduce_when_flat(min_scale=...)`.",
    )
    return functools.reduce(jnp.logical_and, found)


def _is_ours(tree: Any) -> bool:
    """Is there any state of this package, with a clock or without?"""
    found: list[bool] = []

    def look(x: Any) -> bool:
        found.append(type(x).__module__.startswith("jaxsched."))
        return False  # it may be further in

    jax.tree.leaves(opened(tree), is_leaf=look)
    return any(found)


def step(opt_state: Any) -> jax.Array:
    """The clock: how many updates there have been, which is the step of the next one.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      int32, scalar unless the state is stacked. The largest, if there are several under `jit`.

    Raises:
      ValueError: there is no clock in it; or, outside `jit`, several that disagree.

    Example:
      >>> tx = scale_by_learning_rate(0.1)
      >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
      >>> print(step(state))
      1
    """
    clocks = _clocks("step", opt_state)
    latest, *others = (state.count for _, state in clocks)
    for count in others:  # of one clock nothing is asked: its count may still be on its way
        known = not isinstance(latest, Tracer) and not isinstance(count, Tracer)
        if known and not np.array_equal(latest, count):
            shown = ", ".join(f"{text_of(path) or 'the state'}: {s.count}" for path, s in clocks)
            raise ValueError(
                f"`step(opt_state)` finds clocks that disagree: {shown}. See `set_step`."
            )
        latest = jnp.maximum(latest, count)
    return latest


def set_step(opt_state: S, k: ArrayLike) -> S:
    """The state with every clock of this package at `k`.

    Adam's own count stays, which its bias correction needs, and so do metrics and factors.

    Args:
      opt_state: an optimizer state, or any tree with one.
      k: the step of the next update, int32, not negative.

    Returns:
      The state.

    Raises:
      ValueError: there is no clock in it, or `k` is not an integer of at least 0.

    Example:
      >>> tx = scale_by_learning_rate(linear(1.0, 0.0, 10))
      >>> _, state = tx.update(jnp.ones(2), set_step(tx.init(jnp.ones(2)), 5))
      >>> hyperparams(state), step(state)
      ({'learning_rate': Array(0.5, dtype=float32)}, Array(6, dtype=int32))
    """
    k = integer("set_step", k=k)
    require(k >= 0, refuse("set_step", "k", "not be negative", k))
    _clocks("set_step", opt_state)
    if isinstance(k, int):
        k = min(k, _clock.LAST)
    return each_clock(
        opt_state,
        lambda _, s: s._replace(count=jnp.full_like(s.count, _clock.read(k))),
    )


def observe(opt_state: S, /, **metrics: ArrayLike | None) -> S:
    """Post metrics to every stateful schedule that listens to their names.

    The next update reads them. What was posted since the last update counts as one observation,
    the mean of the finite values. If the update is given the same name too, its value is one of
    them: `events(opt_state)["mixed"]` counts how often that happened. A validation loss therefore
    needs a name of its own where the training loss is given to `update(value=loss)`:
    `reduce_on_plateau(metric="validation")` and `observe(opt_state, validation=loss)`.

    Inside `accumulate(...)` a metric that is given to `update` counts with every batch. Inside
    `optax.MultiSteps` only the one given with the last batch of a step is heard, because the
    wrapper shows an optimizer nothing else. There, observe the metric of every batch.

    Args:
      opt_state: an optimizer state, or any tree with one.
      **metrics: scalars by name; `reduce_on_plateau` listens to `value` unless told otherwise.

    Returns:
      The state. Use it in place of the one you gave: `state = observe(state, value=loss)`. Only an
      `nnx.Optimizer`, which is mutable, is changed in place, and returned.

    Raises:
      ValueError: nothing listens to a name; or a metric is None, or not a scalar.

    Example:
      >>> tx = wrap(optax.sgd(0.1), reduce_on_plateau(patience=1, factor=0.5))
      >>> state = tx.init(jnp.ones(2))
      >>> for loss in (1.0, 2.0):
      ...     _, state = tx.update(jnp.ones(2), observe(state, value=loss))
      >>> hyperparams(state)
      {'scale': Array(0.5, dtype=float32)}
    """
    for name, value in metrics.items():
        remedy = "Leave it out where there is none."
        require(value is not None, refuse("observe", name, "be a number", value, remedy))
    heard: set[str] = set()

    def post(path: Path, x: Any) -> Any:
        if not isinstance(x, Mail):
            return x
        heard.add(path[-1].key)
        metric = metrics.get(path[-1].key)
        return x if metric is None else _mailbox.observed(path[-1].key, x, metric)

    def posted(tree: Any) -> Any:
        is_mail = functools.partial(_is, Mail)
        new = jax.tree_util.tree_map_with_path(post, tree, is_leaf=is_mail)
        _require_heard(metrics, heard)
        return new

    return rewritten(opt_state, posted)


def _require_heard(metrics: Iterable[str], heard: set[str]) -> None:
    listeners = (
        f"Listened to: {', '.join(sorted(heard))}."
        if heard
        else "Nothing listens: multiply the schedule with `reduce_on_plateau()`, say."
    )
    for name in metrics:
        require(name in heard, f"`observe(opt_state, {name}=...)` reaches nothing. {listeners}")


def override(opt_state: S, /, **values: ArrayLike | None) -> S:
    """Use these values instead of the scheduled ones, until told otherwise. Nothing recompiles.

    Before the first update, `hyperparams` shows the value at once, and what None returns to after
    that update.

    Args:
      opt_state: an optimizer state, or any tree with one.
      **values: by name, a number to use from the next update on, or None to return to the
        schedule, as does a traced number that is not finite. Labelled names, which are no
        identifiers, go as `**{"encoder/learning_rate": x}`.

    Returns:
      The state.

    Raises:
      ValueError: there is no hyperparameter of that name, or the value is not a finite number.

    Example:
      >>> tx = scale_by_learning_rate(linear(1.0, 0.0, 10))
      >>> state = override(tx.init(jnp.ones(2)), learning_rate=0.3)
      >>> _, state = tx.update(jnp.ones(2), state)
      >>> hyperparams(state)
      {'learning_rate': Array(0.3, dtype=float32)}
    """
    numbers = {
        name: None if value is None else finite_of("override", name, value)
        for name, value in values.items()
    }

    def set_one(state: ScheduledState, name: str, value: Any) -> ScheduledState:
        new = _overriding(name, value, state.overrides[override_key(name)])
        # The record is what was used last; before the first update, what will be.
        at_once = new.active & (state.count == 0)
        record = jnp.where(at_once, new.value, state.hyperparams[name])
        return state._replace(
            hyperparams={**state.hyperparams, name: record},
            overrides={**state.overrides, override_key(name): new},
        )

    return _each_named("override", opt_state, numbers, set_one)


def _overriding(name: str, value: Any, old: Override) -> Override:
    if value is None:
        return Override(jnp.zeros_like(old.value), jnp.zeros_like(old.active))
    if jnp.shape(value) not in ((), old.value.shape):
        must = "be a number" if old.value.ndim == 0 else f"be a number or {old.value.shape} of them"
        raise ValueError(refuse("override", name, must, value))
    # A traced value that is not finite overrides nothing: the state stays finite.
    active = jnp.isfinite(real(value))
    number = jnp.where(active, real(value), 0)
    return Override(jnp.full_like(old.value, number), jnp.full_like(old.active, active))


def retune(opt_state: S, /, **schedules: Schedule) -> S:
    """Give a `tunable` schedule other numbers. Nothing recompiles.

    Args:
      opt_state: an optimizer state, or any tree with one.
      **schedules: by name of the hyperparameter, a schedule of the same tree as the tunable one.

    Returns:
      The state.

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

    return _each_named("retune", opt_state, schedules, set_one)


def trigger(opt_state: S, when: ArrayLike = True) -> S:
    """Let every `until(a, b)` go over to `b` at the next update. Once is for ever.

    Args:
      opt_state: an optimizer state, or any tree with one.
      when: a bool, which may be traced: False leaves the state as it is.

    Returns:
      The state.

    Raises:
      ValueError: there is no `until` in it, or `when` is not a bool.

    Example:
      >>> tx = scale_by_learning_rate(until(constant(1.0), constant(0.1)))
      >>> _, state = tx.update(jnp.ones(2), trigger(tx.init(jnp.ones(2))))
      >>> hyperparams(state)
      {'learning_rate': Array(0.1, dtype=float32)}
    """
    found, is_array = False, isinstance(when, (bool, np.bool_, np.ndarray, jax.Array))
    is_bool = is_array and jnp.result_type(when) == jnp.bool_ and jnp.ndim(when) == 0
    require(is_bool, refuse("trigger", "when", "be True or False", when))
    now = jnp.asarray(when)

    def set_one(x: Any) -> Any:
        nonlocal found
        if not isinstance(x, UntilState):
            return x
        found = True
        return x._replace(triggered=x.triggered | now)

    is_until = functools.partial(_is, UntilState)
    state = rewritten(opt_state, lambda tree: jax.tree.map(set_one, tree, is_leaf=is_until))
    require(found, "`trigger(opt_state)` finds no `until(a, b)` in the state.")
    return state


def _is(kind: type, x: Any) -> bool:
    return isinstance(x, kind)


def _clocks(call: str, tree: Any) -> list[tuple[Path, ScheduledState]]:
    found = list(find_clocks(opened(tree)))
    require(
        bool(found),
        f"`{call}(opt_state)` finds no jaxsched transform in a {type(tree).__name__}: build the "
        "optimizer with `scale_by_learning_rate(...)`, `inject(...)` or `wrap(...)`.",
    )
    return found


def _each_named(
    call: str,
    tree: S,
    arguments: dict[str, Any],
    change: Callable[[ScheduledState, str, Any], ScheduledState],
) -> S:
    """Change the hyperparameters that the names of the arguments mean."""
    places = [(path, name) for path, state in _clocks(call, tree) for name in state.hyperparams]
    labels = dict(zip(places, _named(places), strict=True))
    for given in arguments:
        known = given in labels.values() or any(given in _plain(name) for _, name in places)
        names = ", ".join(labels.values())
        require(known, f"`{call}(opt_state, {given}=...)`: there is only {names}.")

    whole = {name for _, name in places}

    def meaning(path: Path, name: str) -> list[str]:
        """What a hyperparameter is called, the most precise last."""
        plain, _ = _plain(name)
        # A name of its own is not that of all groups.
        return [*([] if plain in whole else [plain]), name, labels[path, name]]

    def one(path: Path, state: ScheduledState) -> ScheduledState:
        for name in state.hyperparams:
            for given in dict.fromkeys(meaning(path, name)):
                if given in arguments:
                    state = change(state, name, arguments[given])
        return state

    return each_clock(tree, one)


def _plain(name: str) -> tuple[str, str]:
    """A name without its group, which means all groups, and the name."""
    return name.rpartition("/")[2], name


def _named(places: Any) -> list[str]:
    """Names for (path, name): plain if there is one, else with the labels on the way to it."""
    places = list(places)
    names = [name for _, name in places]
    dicts = ["/".join([*(str(k.key) for k in p if hasattr(k, "key")), n]) for p, n in places]
    full = ["/".join([*filter(None, [text_of(path)]), name]) for path, name in places]
    return [
        name if names.count(name) == 1 else labelled if dicts.count(labelled) == 1 else everything
        for name, labelled, everything in zip(names, dicts, full, strict=True)
    ]
