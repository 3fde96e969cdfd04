"""The arguments of a range test: a loss, and the parameters and batches of each seed, stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._tasks._batches import given, size
from jaxsched._commands._tasks._task import Task, checking, task
from jaxsched._search._range_test._batches import stacked


class Seeds(NamedTuple):
    """The same task with several seeds."""

    task: Task  # of the first seed
    loss: Callable[[Any, Any], jax.Array]  # of the parameters, and of (a batch, its random key)
    params: Any  # stacked by seed
    batches: Any  # stacked by seed, then by batch


def seeded(said: str, seeds: int, steps: int, batch_size: int | None = None) -> Seeds:
    """Return a task, with parameters and batches for each seed."""
    keys = [jax.random.split(key, 3) for key in jax.random.split(jax.random.key(0), seeds)]
    tasks = [task(said, first, batch_size, steps) for first, _, _ in keys]
    with checking(said):
        drawn = [
            _with_keys(stacked(given(one.batches, order), steps, "task"), noise, steps)
            for one, (_, order, noise) in zip(tasks, keys, strict=True)
        ]
    trees = [(one.params, batches) for one, batches in zip(tasks, drawn, strict=True)]
    _require_alike(said, trees)
    params, batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return Seeds(tasks[0], lambda params, batch: tasks[0].loss(params, *batch)[0], params, batches)


def _with_keys(batches: Any, key: jax.Array, steps: int) -> tuple[Any, jax.Array]:
    """Return batches with a random key for each."""
    return batches, jax.random.split(key, steps if batches is None else size(batches))


def _require_alike(said: str, trees: Sequence[Any]) -> None:
    shapes = {str(jax.tree.map(jnp.shape, tree)) for tree in trees}
    if len(shapes) > 1:
        raise RefusedError(f"--task {said}: the shapes of its arrays differ from seed to seed")
