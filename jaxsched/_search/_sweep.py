"""Trains a whole population in one program.

All members have the same seeds, so that differences between them are not due to luck.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxsched._core._numerics import real
from jaxsched._core._require import one_of, refuse, require
from jaxsched._search._contract import (
    is_score,
    require_devices,
    require_keys,
    require_population,
    returned,
)
from jaxsched._search._leaderboard import Sweep
from jaxsched._search._programs import as_tree
from jaxsched._search._runs import mapped, with_keys
from jaxsched._search._stack import stack


def sweep(
    train: Callable[..., Any],
    population: Sequence[Any],
    *,
    key: ArrayLike | None = None,
    seeds: int = 1,
    mode: str = "min",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Trains every schedule of a population in one XLA program, and ranks them.

        score[i, j] = train(population[i], key j)

    The schedules may differ in structure. New numbers trigger no recompilation. Another population
    with the same structures and size reuses the program.

    Args:
      train: `train(schedule)`, or with a key `train(schedule, key)`: a complete run, traceable. It
        returns its score, a number, or (score, anything). Data in a closure is compiled into the
        program; bind large data with `jax.tree_util.Partial(train, data=data)` instead.
      population: a list of schedules, or of other members that `stack` takes.
      key: a random key, or an int to make one from. Every member is trained with the same keys, of
        which there are `seeds`.
      seeds: runs of each member, at least 1. More than 1 requires a key.
      mode: "min" if a lower score is better, "max" if a higher one is.
      chunk: number of runs that a device trains at a time, to save memory. None: all, or as many as
        fit if the device reports its memory.
      mesh: devices to use, of all processes that share them; None: all devices. Each device trains
        its own part of the runs.

    Returns:
      The scores as a `Sweep`, which prints as a leaderboard; the same in every process.

    Raises:
      ValueError: the population is empty, its members cannot be stacked, or `train` does not return
        a score.

    Example:
      >>> def train(schedule):  # the loss of a parabola after ten steps
      ...     def step(x, t):
      ...         return x - schedule(t) * 2 * x, None
      ...     return jax.lax.scan(step, 1.0, jnp.arange(10))[0] ** 2
      >>> sweep(train, [constant(0.1), linear(0.5, 0.0, 10), constant(2.0)])
         score     behind     schedule
      1  0                    linear(0.5, 0.0, 10)
      2  0.01153   0.01153    constant(0.1)
      3  3.487e+09 3.487e+09  constant(2.0)
    """
    members = require_population("sweep", population)
    one_of("sweep", "mode", mode, ("min", "max"))
    chunk = require_devices("sweep", chunk, mesh)
    keys = require_keys("sweep", key, seeds)
    each, takes = repeated(members, seeds), "(schedule), or (schedule, key) with a `key`"
    arguments = (each,) if keys is None else (each, tiled(keys, len(members)))
    shape = returned("sweep", "train", train, takes, arguments)
    must = "return a score, one number, or (score, anything)"
    require(
        is_score(_pair(shape)[0]), refuse("sweep", "train", must, train, f"It returns {shape}.")
    )
    run = jax.tree_util.Partial(_scored, as_tree(train))
    scores, results = mapped(run, arguments, chunk=chunk, mesh=mesh)
    results = jax.tree.map(lambda x: x.reshape(len(members), seeds, *x.shape[1:]), results)
    return Sweep(members, np.asarray(scores, float).reshape(-1, seeds), results, mode)


def repeated(members: Sequence[Any], seeds: int) -> Any:
    """Return the members stacked, each repeated for every seed."""
    each = functools.partial(with_keys, lambda x: np.repeat(np.asarray(x), seeds, axis=0))
    return jax.tree.map(each, stack(members))


def tiled(keys: jax.Array, members: int) -> jax.Array:
    """Return all keys, once for each member."""
    return keys[np.tile(np.arange(len(keys)), members)]


def _scored(train: Callable[..., Any], *run: Any) -> tuple[jax.Array, Any]:
    score, results = _pair(train(*run))
    return real(score), results


def _pair(result: Any) -> tuple[Any, Any]:
    """Return the score, and the other results or None."""
    return result if isinstance(result, tuple) and len(result) == 2 else (result, None)
