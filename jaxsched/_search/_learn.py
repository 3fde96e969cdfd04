"""Learning a schedule by gradient descent on the score of complete training runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxsched._core._numerics import norm, real
from jaxsched._core._padded import shortened, size
from jaxsched._core._require import length, refuse, require
from jaxsched._schedules._schedule import Schedule, as_schedule
from jaxsched._schedules._trainable import Numbers, trainable
from jaxsched._search._contract import is_score, require_key, returned
from jaxsched._search._programs import as_tree, program
from jaxsched._search._space import plain

OPTIMIZER = optax.sgd(0.1, momentum=0.9)


class Learned(NamedTuple):
    """The result of `learn_schedule`."""

    schedule: Schedule  # with the learned numbers
    scores: jax.Array  # float32, (updates,): the mean before each update; NaN if a run has none


def learn_schedule(
    train: Callable[..., Any],
    schedule: Any,
    *,
    updates: int,
    key: ArrayLike = 0,
    seeds: int = 1,
    optimizer: optax.GradientTransformation = OPTIMIZER,
) -> Learned:
    """Optimizes a schedule's numbers by gradient descent through complete training runs.

        g = mean over seeds of clipped(d train(schedule, key) / d log(numbers))
        log(numbers) <- log(numbers) + optimizer(g)

    At a high learning rate a run is chaotic, and its gradient is huge and useless. Therefore the
    gradient of each seed is clipped to a norm of 1, and a gradient that is not finite is dropped.

    Args:
      train: `train(schedule, key)`, a complete run, differentiable. It returns a score, such as
        the validation loss, where lower is better. Write its loop as a `checkpointed_scan`.
      schedule: initial schedule. Its positive floats are learned; zero, negative numbers and
        lengths are not changed.
      updates: number of updates, at least 1. All of them are one program.
      key: a random key, or an int to make one from. Every update has different keys.
      seeds: runs per update.
      optimizer: optimizer for the logarithms of the numbers. The default is SGD with rate 0.1 and
        momentum 0.9, so that no number changes by more than a factor e per update.

    Returns:
      The learned schedule, and the mean score before each update.

    Raises:
      ValueError: the schedule has no positive float, or `train` does not return a score.

    Example:
      >>> def train(schedule, key):  # a parabola, from a random start for each seed
      ...     step = lambda x, t: (x - schedule(t) * 2 * x, None)
      ...     x, _ = checkpointed_scan(step, jax.random.normal(key), jnp.arange(5))
      ...     return x**2
      >>> learned = learn_schedule(train, constant(0.01), updates=50, seeds=8)
      >>> print(learned.scores[0] > 0.5, learned.scores[-1] < 1e-3)
      True True

    References:
      Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through reversible
      learning, 2015, https://arxiv.org/abs/1502.03492; Metz et al., Gradients are not all you need,
      2021, https://arxiv.org/abs/2111.05803, on chaos and clipping.
    """
    call = "learn_schedule"
    updates = int(length(call, "updates", updates, least=1))
    seeds = int(length(call, "seeds", seeds, least=1))
    numbers, rebuild = trainable(as_schedule(call, schedule))
    positive = any(bool((x > 0).any()) for x in numbers.values())
    require(positive, refuse(call, "schedule", "have a positive float to learn", schedule))
    is_optimizer = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    must = "be an optax optimizer"
    require(is_optimizer, refuse(call, "optimizer", must, optimizer, "Use `optax.sgd(0.1)`, say."))
    keys = jax.random.split(require_key(call, key), size(updates))
    _require_score(call, train, rebuild(numbers), keys)
    tree = as_tree(train)
    run = program(_learn, tree, "seeds", "optimizer")
    learned, scores = run(tree, rebuild(numbers), keys, updates, seeds=seeds, optimizer=optimizer)
    numbers: Any = {name: plain(np.asarray(x)) for name, x in learned.items()}
    return Learned(rebuild(numbers), shortened(scores, updates))


def _learn(
    train: Any, schedule: Schedule, keys: jax.Array, updates: Any, *, seeds: int, optimizer: Any
) -> tuple[Numbers, jax.Array]:
    start, rebuild = trainable(schedule)

    def numbers(logs: Numbers) -> Numbers:
        return {name: jnp.where(x > 0, _grown(x, logs[name]), x) for name, x in start.items()}

    def run(logs: Numbers, key: jax.Array) -> tuple[jax.Array, Numbers]:
        def score(logs: Numbers) -> jax.Array:
            return real(train(rebuild(numbers(logs)), key))

        value, slope = jax.value_and_grad(score)(logs)
        size = norm(slope)
        usable = jnp.isfinite(size) & jnp.isfinite(value)
        clipped = jax.tree.map(lambda x: jnp.where(usable, x / jnp.maximum(size, 1), 0), slope)
        return value, clipped

    def update(i: jax.Array, carry: Any) -> Any:
        logs, state, scores = carry
        values, slopes = jax.vmap(run, (None, 0))(logs, jax.random.split(keys[i], seeds))
        slope = jax.tree.map(lambda x: x.mean(axis=0), slopes)
        moves, state = optimizer.update(slope, state, logs)
        return optax.apply_updates(logs, moves), state, scores.at[i].set(values.mean())

    # The change of each logarithm, so that a number that does not move stays exactly the same.
    logs = jax.tree.map(jnp.zeros_like, start)
    scores, updates = real(np.zeros(len(keys))), jnp.asarray(updates, jnp.int32)
    # The number of updates is not a shape here: the loop ends there, and the keys are padded.
    logs, _, scores = jax.lax.fori_loop(
        jnp.zeros_like(updates), updates, update, (logs, optimizer.init(logs), scores)
    )
    return numbers(logs), scores


def _grown(x: jax.Array, log: jax.Array) -> jax.Array:
    """Return x * exp(log) for x > 0; if that overflows, about the largest float."""
    room = jnp.log(jnp.finfo(x.dtype).max) - jnp.log(jnp.where(x > 0, x, 1)) - 1e-3
    # In two halves, because the factor alone may overflow where the product does not.
    root = jnp.exp(jnp.minimum(log, jnp.maximum(room, 0)) / 2)
    return x * root * root


def _require_score(call: str, train: Any, schedule: Schedule, keys: jax.Array) -> None:
    arguments = jax.tree.map(lambda x: jnp.asarray(x)[None], schedule), keys
    shape = returned(call, "train", train, "(schedule, key)", arguments)
    must = "return a score, one number"
    require(is_score(shape), refuse(call, "train", must, train, f"It returns {shape}."))
