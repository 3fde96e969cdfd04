"""Readers: functions that return values from any optimizer state. All can be used under `jit`.

They find the states of this package's transforms anywhere: in a chain, in `MultiSteps`, `masked` or
`partition`, in a Flax `TrainState`, or in an `nnx.Optimizer`.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core._require import require
from jaxsched._core._trees import all_of, opened, text_of
from jaxsched._rules._events import counts
from jaxsched._rules._flat import FlatState
from jaxsched._rules._plateau import PlateauState
from jaxsched._rules._rule import memory_of
from jaxsched._state._clocks import clocks_of, named
from jaxsched._transforms._scheduled import factors_key, leading

S = TypeVar("S")


def hyperparams(opt_state: Any) -> dict[str, jax.Array]:
    """Returns the hyperparameter values used in the last update.

    Before the first update, these are the values at step 0, or those set by `override`. The
    effects of `set_step`, `retune` and `trigger` are visible after the next update.

    Args:
      opt_state: an optimizer state, a `TrainState`, an `nnx.Optimizer`, or a tree with one of them.

    Returns:
      A new dict of values by name: float32 (float64 under x64), scalar unless the state is stacked.
      Writing to it has no effect on the state; use `override`.

    Raises:
      ValueError: `opt_state` contains no transform of this package.

    Example:
      >>> tx = optax.chain(optax.scale_by_adam(), scale_by_learning_rate(linear(0.1, 0.0, 10)))
      >>> hyperparams(tx.init(jnp.ones(2)))
      {'learning_rate': Array(0.1, dtype=float32)}
    """
    clocks = clocks_of("hyperparams", opt_state)
    names = named((path, name) for path, state in clocks for name in state.hyperparams)
    values = (value for _, state in clocks for value in state.hyperparams.values())
    return dict(zip(names, map(jnp.asarray, values), strict=True))


def factors(opt_state: Any) -> dict[str, tuple[Any, ...]]:
    """Returns the states of the rules of each hyperparameter, in their order in the product.

    The fields of these states are public. For example, `PlateauState.scale` is the factor of a
    plateau rule, and `UntilState.start` is the first step of the second schedule.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      Tuples of NamedTuples by hyperparameter name; an empty tuple if it has no rules.

    Raises:
      ValueError: `opt_state` contains no transform of this package.

    Example:
      >>> tx = scale_by_learning_rate(linear(0.1, 0.0, 10) * reduce_on_plateau())
      >>> (plateau,) = factors(tx.init(jnp.ones(2)))["learning_rate"]
      >>> print(plateau.scale, plateau.bad)
      1.0 0
    """
    clocks = clocks_of("factors", opt_state)
    names = named((path, name) for path, state in clocks for name in state.hyperparams)
    states = (s.factors.get(factors_key(n), ()) for _, s in clocks for n in s.hyperparams)
    memories = (tuple(map(memory_of, x)) for x in states)
    return {name: jax.tree.map(jnp.asarray, x) for name, x in zip(names, memories, strict=True)}


def events(opt_state: Any) -> dict[str, jax.Array]:
    """Returns the event counts of an optimizer state: cuts, spikes, skips and others.

    The counts are summed over all rules and guards: "cuts" and "raises" of learning rates, "spikes"
    of `spike_guard`, "skips" of `skip_spikes`, "restores" of `keep_best`, and "snapshots" of
    `snapshot`. In `per_group`, each group has its own rule: if one rule is in the schedules of two
    groups, every cut counts twice. Only events that can happen in this state are listed. The
    difference between the counts after a step and before it shows the events in that step. "mixed"
    counts the updates in which one metric came both from `observe` and from `update`.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      int32 by name, scalar unless the state is stacked. Empty if there are no rules or guards.

    Raises:
      ValueError: `opt_state` contains no transform of this package.

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
        clocks_of("events", opt_state)  # raises, with a list of what it looks for
    return {name: jnp.asarray(count) for name, count in found.items()}


def exhausted(opt_state: Any) -> jax.Array:
    """Returns whether every plateau rule is at its floor and has since skipped a cut.

    While it is True, no cut is left, and the run may stop. A better metric resets it to False. A
    metric that was observed, but not yet read by an update, does not count, so ask before
    `observe`. All rules of the kinds `reduce_on_plateau` and `reduce_when_flat` count. Their floor
    is `min_scale`, which must be above 0 here: without it the scale falls without limit. A floor
    set by `.clip(low)` is ignored.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      bool, scalar unless the state is stacked. It is False until each of the rules is at its floor.

    Raises:
      ValueError: `opt_state` contains no such rule.

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
        f"`exhausted(opt_state)` finds no plateau rule in a {type(opt_state).__name__}. Multiply "
        "the rate by `reduce_on_plateau(min_scale=...)` or `reduce_when_flat(min_scale=...)`.",
    )
    return jnp.asarray(functools.reduce(jnp.logical_and, found))


def _is_ours(tree: Any) -> bool:
    """Return whether the tree has any state of this package, with a step counter or without."""
    found: list[bool] = []

    def look(x: Any) -> bool:
        found.append(type(x).__module__.startswith("jaxsched."))
        return False  # a state may be deeper in the tree

    jax.tree.leaves(opened(tree), is_leaf=look)
    return any(found)


def step(opt_state: Any) -> jax.Array:
    """Returns the step counter: the number of optimizer steps so far.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      int32, scalar unless the state is stacked. Under `jit` it is the largest of several counters.

    Raises:
      ValueError: `opt_state` has no step counter; or, outside `jit`, several that disagree.

    Example:
      >>> tx = scale_by_learning_rate(0.1)
      >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
      >>> print(step(state))
      1
    """
    clocks = clocks_of("step", opt_state)
    latest, *others = leading(state for _, state in clocks)
    for count in others:  # a single counter is not compared: it may still be on its way
        known = not isinstance(latest, Tracer) and not isinstance(count, Tracer)
        if known and not np.array_equal(latest, count):
            shown = ", ".join(f"{text_of(path) or 'the state'}: {s.count}" for path, s in clocks)
            raise ValueError(
                f"`step(opt_state)` finds step counters that disagree: {shown}. See `set_step`."
            )
        latest = jnp.maximum(latest, count)
    return jnp.asarray(latest)
