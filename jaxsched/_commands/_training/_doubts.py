"""Warnings of a run that can be trained, but that is probably not what its author meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._commands._tasks._task import Task
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule

HIGHER = {"accuracy", "acc", "psnr", "f1", "auc"}  # metrics of which a higher value is better


def doubts(task: Task, rate: Schedule | Stateful, *, is_own: bool) -> Iterator[str]:
    """Yield a line for each doubt.

    Args:
      task: the task.
      rate: its learning rate.
      is_own: whether the optimizer is that of the task.
    """
    shapes = [x.shape for x in jax.tree.leaves(task.batch)]
    if () in shapes and any(shapes):
        shown = ", ".join(map(str, shapes))
        yield (
            f"a batch has arrays of shapes {shown}, of which one has no axis of examples. If "
            "`batches` are whole arrays, reshape them to (batches, examples, ...)"
        )
    if is_own and task.optimizer is not None and _ignores_its_rate(task.optimizer, task.params):
        yield (
            "the first update of the task's optimizer is the same at any learning rate. Use its "
            "argument `learning_rate`, or the schedule has no effect"
        )
    for rule in rate.rules if isinstance(rate, Stateful) else ():
        metric = getattr(rule, "metric", None)
        if metric in HIGHER and getattr(rule, "mode", None) == "min":
            yield f"a rule waits for a lower {metric}. For a higher one, write mode='max'"


def _ignores_its_rate(optimizer: Callable[..., Any], params: Any) -> bool:
    """Return whether an optimizer makes the same first update at two learning rates."""
    ones = jax.tree.map(jnp.ones_like, params)

    @jax.jit
    def update(rate: jax.Array) -> Any:
        tx = optimizer(learning_rate=rate)
        return tx.update(ones, tx.init(params), params)[0]

    low, high = (jax.tree.leaves(update(jnp.asarray(rate))) for rate in (1e-3, 2e-3))
    return all(bool(jnp.array_equal(a, b)) for a, b in zip(low, high, strict=True))
