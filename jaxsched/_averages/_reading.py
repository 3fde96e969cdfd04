"""Readers of averaged parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import optax

from jaxsched._averages._average import AveragesState, AverageState
from jaxsched._averages._kinds import at, horizon_of
from jaxsched._core._require import require
from jaxsched._core._trees import all_of


def averaged_params(opt_state: Any, name: str | None = None) -> optax.Params:
    """Returns the running average of the parameters, as kept by `average`.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      name: "exponential_average" or "uniform_average"; None if there is only one of the two.

    Returns:
      The average, in float32 or wider. Before the first update it is the initial parameters. For a
      model that computes in bfloat16, cast it:
      `optax.tree.cast_like(averaged_params(opt_state), params)`.

    Raises:
      ValueError: `opt_state` has no such average, or more than one.

    Example:
      >>> tx = average(optax.sgd(1.0), uniform_average())
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(averaged_params(state))
      [2.]
    """
    call = "averaged_params"
    running = [(key, x) for key, x, _ in _averages(opt_state) if horizon_of(key) is None]
    found = [x for key, x in running if name in (None, key)]
    return _only(call, found, name or "running average", opt_state).mean


def average_at(opt_state: Any, horizon: int) -> optax.Params:
    """Returns the average that a `merged_decay` keeps for the decay that ends at step `horizon`.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      horizon: the step at which the decay ends, `decay.steps`.

    Returns:
      The parameters, in float32 or wider. They no longer change after the horizon. Under `jit`,
      they are the weighted mean so far if the run has not reached the horizon.

    Raises:
      ValueError: `opt_state` has no average with this horizon, or more than one; or, outside `jit`,
        the run has not reached the horizon, or the average was added to the run after the decay had
        begun.

    Example:
      >>> tx = average(optax.sgd(1.0), merged_decay(linear(1.0, 0.0, 2)))
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(average_at(state, 2))
      [1.5]
    """
    call = "average_at"
    found = [(x, count) for key, x, count in _averages(opt_state) if key == at(horizon)]
    state, count = _only(call, found, f"average with horizon={horizon!r}", opt_state)
    reached = f"`{call}(opt_state, {horizon})`: the run is at step {count}, before the horizon."
    require(count >= horizon, reached)
    late = f"`{call}(opt_state, {horizon})`: the average joined the run after its decay had begun."
    require(~state.late, late)
    return state.mean


def complete(opt_state: Any) -> dict[str, optax.Params]:
    """Return all averages of a state that are complete or running, by name."""
    return {
        name: average.mean
        for name, average, count in _averages(opt_state)
        if (horizon_of(name) or 0) <= count
    }


def _averages(opt_state: Any) -> Iterator[tuple[str, AverageState, jax.Array]]:
    """Yield the averages in a state, with their names and the step."""
    for state in all_of(AveragesState, opt_state):
        for name, average in state.averages.items():
            yield name, average, state.clock.count


def _only(call: str, found: list[Any], what: str, opt_state: Any) -> Any:
    names = ", ".join(name for name, _, _ in _averages(opt_state)) or "none"
    require(
        len(found) == 1,
        f"`{call}(opt_state)` needs exactly one {what}, but a {type(opt_state).__name__} has "
        f"{len(found) or 'none'}. The averages in it: {names}.",
    )
    return found[0]
