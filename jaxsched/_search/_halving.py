"""Successive halving: trains all members a little, and continues with the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxsched._core._fields import choice_field
from jaxsched._core._node import Node
from jaxsched._core._numerics import real
from jaxsched._core._require import length, one_of, refuse, require, sequence
from jaxsched._search._contract import (
    is_score,
    require_devices,
    require_key,
    require_keys,
    require_population,
    returned,
)
from jaxsched._search._leaderboard import Sweep
from jaxsched._search._programs import as_tree
from jaxsched._search._runs import mapped
from jaxsched._search._sweep import repeated, tiled


def successive_halving(
    start: Callable[..., Any],
    advance: Callable[..., Any],
    population: Sequence[Any],
    *,
    rungs: Sequence[int],
    reduction: int = 2,
    key: ArrayLike = 0,
    seeds: int = 1,
    mode: str = "min",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Trains a population in rungs; after each rung only the best members continue.

        at rung r the best max(1, n // reduction**r) are trained from rungs[r - 1] to rungs[r] steps

    Survivors continue from where they stopped; no step is computed twice. A rung is one XLA
    program.

    Args:
      start: `start(schedule, key)` returns the state before the first step; traceable.
      advance: `advance(schedule, state, steps)` trains for `steps` more steps, a Python int, and
        returns (state, score); traceable.
      population: a list of schedules, or of other members that `stack` takes.
      rungs: the steps after which the population is judged, increasing.
      reduction: one in `reduction` members continues after each rung, at least 2.
      key: a random key, or an int to make one from. Every member is trained with the same keys, of
        which there are `seeds`.
      seeds: runs of each member, which is judged by their mean.
      mode: "min" if a lower score is better, "max" if a higher one is.
      chunk: number of runs that a device trains at a time; None: as many as fit.
      mesh: devices to use; None: all devices.

    Returns:
      The last score of each member, and its number of trained steps. Members that were trained
      further rank first, and members that diverged rank last.

    Raises:
      ValueError: the population is empty, or its members cannot be stacked; `rungs` do not
        increase; or `advance` does not return (state, score).

    Example:
      >>> def start(schedule, key):
      ...     return 1.0, 0
      >>> def advance(schedule, state, steps):  # a parabola
      ...     def step(state, _):
      ...         x, t = state
      ...         return (x - schedule(t) * 2 * x, t + 1), None
      ...     state, _ = jax.lax.scan(step, state, length=steps)
      ...     return state, state[0] ** 2
      >>> rates = grid(constant, value=[0.01, 0.1, 0.4, 1.5])
      >>> successive_halving(start, advance, rates, rungs=[2, 4, 8])
         score      steps  value
      1  6.554e-12  8      0.4
      2  0.1678     4      0.1
      3  0.9224     2      0.01
      4  16         2      1.5

    References:
      Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter
      optimization, 2016, https://arxiv.org/abs/1502.07943, figure 3.
    """
    call = "successive_halving"
    members = require_population(call, population)
    steps = _require_rungs(call, rungs)
    reduction = int(length(call, "reduction", reduction, least=2))
    one_of(call, "mode", mode, ("min", "max"))
    chunk = require_devices(call, chunk, mesh)
    keys: Any = require_keys(call, require_key(call, key), seeds)
    arguments = repeated(members, seeds), tiled(keys, len(members))
    returned(call, "start", start, "(schedule, key)", arguments)
    states = mapped(as_tree(start), arguments, chunk=chunk, mesh=mesh)

    alive = np.arange(len(members))
    scores, trained = np.full((len(members), seeds), np.nan), np.zeros(len(members), int)
    for before, until in itertools.pairwise([0, *steps]):
        run = _Advance(as_tree(advance), until - before)
        arguments = repeated([members[i] for i in alive], seeds), states
        _require_state_and_score(call, advance, arguments, run.steps)
        states, found = mapped(run, arguments, chunk=chunk, mesh=mesh)
        scores[alive], trained[alive] = np.asarray(found, float).reshape(-1, seeds), until
        ranked = Sweep(tuple(members[i] for i in alive), scores[alive], mode=mode).order
        places = np.sort(ranked[: max(len(alive) // reduction, 1)])
        rows = (places[:, None] * seeds + np.arange(seeds)).ravel()
        states, alive = jax.tree.map(lambda x, rows=rows: x[rows], states), alive[places]
    return Sweep(members, scores, None, mode, trained)


class _Advance(Node):
    """A part of a run. Parts of the same length are one program."""

    function: Callable[..., Any]
    steps: int = choice_field(kw_only=False)

    def __call__(self, schedule: Any, state: Any) -> tuple[Any, jax.Array]:
        state, score = self.function(schedule, state, self.steps)
        return state, real(score)


def _require_rungs(call: str, rungs: Any) -> list[int]:
    steps = [int(length(call, "rungs", rung, least=1)) for rung in sequence(call, "rungs", rungs)]
    increase = len(steps) > 0 and all(a < b for a, b in itertools.pairwise(steps))
    require(increase, refuse(call, "rungs", "increase", rungs))
    return steps


def _require_state_and_score(call: str, advance: Any, arguments: Any, steps: int) -> None:
    takes = "(schedule, state, steps)"
    found = returned(call, "advance", advance, takes, arguments, (steps,))
    is_pair = isinstance(found, tuple) and len(found) == 2 and is_score(found[1])
    must = "return (state, score), the score one number"
    require(is_pair, refuse(call, "advance", must, advance, f"It returns {found}."))
