"""Readers of any optimizer's state: pure functions, jittable, through any wrapper.

They find the states of this package's transforms wherever they are: in a chain, in `MultiSteps`,
`masked` or `partition`, in a Flax `TrainState`, in an `nnx.Optimizer`.
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
from jaxsched._transforms._scheduled import factors_key

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
      ValueError: it holds no transform of this package.

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
    """The states of the stateful factors of each hyperparameter, in their order in the product.

    What is in them is public: `PlateauState.scale` is the factor of a plateau, `UntilState.start`
    the first step of what came after.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      NamedTuples by name of the hyperparameter; one without stateful factors has none.

    Raises:
      ValueError: it holds no transform of this package.

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
      ValueError: it holds no transform of this package.

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
        clocks_of("events", opt_state)  # which says what it looks for
    return {name: jnp.asarray(count) for name, count in found.items()}


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
      ValueError: it holds no such rule.

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
    return jnp.asarray(functools.reduce(jnp.logical_and, found))


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
    clocks = clocks_of("step", opt_state)
    latest, *others = (state.count for _, state in clocks)
    for count in others:  # of one clock nothing is asked: its count may still be on its way
        known = not isinstance(latest, Tracer) and not isinstance(count, Tracer)
        if known and not np.array_equal(latest, count):
            shown = ", ".join(f"{text_of(path) or 'the state'}: {s.count}" for path, s in clocks)
            raise ValueError(
                f"`step(opt_state)` finds clocks that disagree: {shown}. See `set_step`."
            )
        latest = jnp.maximum(latest, count)
    return jnp.asarray(latest)
