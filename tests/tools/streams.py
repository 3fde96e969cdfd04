"""A rule follows a stream of metrics: its scale, and the state, after each update."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js


def _updated(tx: Any, state: Any, seen: dict[str, Any]) -> tuple[Any, jax.Array, jax.Array]:
    """The new state, its scale, and whether all of it is finite: all that is asked, at once."""
    state = tx.update({}, state, **seen)[1]
    finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)]
    return state, js.hyperparams(state)["scale"], jnp.all(jnp.stack(finite))


@jax.jit
def _with_arguments(rule: Any, state: Any, seen: dict[str, Any]) -> Any:
    """A rule is an argument: one program is for all of its numbers."""
    return _updated(js.scale_by_schedule(1 * rule), state, seen)


@functools.cache
def _with_constants(rule: Any) -> Any:
    """Its numbers are in the program, as where a user writes them: one for equal rules."""
    return jax.jit(functools.partial(_updated, js.scale_by_schedule(1 * rule)))


def follow(
    rule: Any,
    metrics: Iterable[float | None],
    state: Any = None,
    metric: str = "value",
    numbers_are_constants: bool = True,
    transform: Any = None,
) -> tuple[list[float], list[Any]]:
    """The scale after each update, and the states; None is an update without a metric.

    Args:
      rule: what follows.
      metrics: one for each update.
      state: where it begins.
      metric: the name that it listens to.
      numbers_are_constants: or are they arguments of a program that is for all numbers?
      transform: what updates it, if not `scale_by_schedule`.
    """
    tx = js.scale_by_schedule(1 * rule) if transform is None else transform
    if transform is not None:
        update = jax.jit(functools.partial(_updated, tx))
    elif numbers_are_constants:
        update = _with_constants(rule)
    else:
        update = functools.partial(_with_arguments, rule)
    state = tx.init({}) if state is None else state
    scales, states = [], []
    for seen in metrics:
        state, scale, finite = update(state, {} if seen is None else {metric: np.float32(seen)})
        assert finite, state
        scales.append(float(scale))
        states.append(state)
    np.testing.assert_allclose(scales[-1], js.hyperparams(state)["scale"], rtol=1e-6)
    return scales, states
