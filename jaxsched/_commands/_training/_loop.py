"""The compiled parts of a run: some steps as one program, and a validation.

The schedule is entirely inside. The rate is read from the state after each update, so the recorded
rate is the one that was used. The loss of the batch is passed to its update. The metrics of the
validation are observed after the last update of an epoch, and are received by the first update of
the next epoch.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from jaxsched._commands._tasks._batches import chunks, size
from jaxsched._commands._tasks._task import LOGITS, Loss, Task
from jaxsched._commands._training._history import BY_STEP
from jaxsched._rules._events import EVENTS
from jaxsched._rules._mailbox import listened
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._state._readers import events, factors, hyperparams
from jaxsched._state._readers import step as clock
from jaxsched._state._writers import observe
from jaxsched._transforms._scheduled import with_extra_args

Metrics = dict[str, Any]


class Epoch(NamedTuple):
    """The state after an epoch, and what was measured in it."""

    state: TrainState
    by_step: Metrics  # arrays over the steps
    by_epoch: Metrics  # numbers


def start(tx: optax.GradientTransformation, task: Task) -> TrainState:
    """Return the state before the first step."""
    params = jax.tree.map(jnp.array, task.params)  # a copy, which may be donated
    step = jnp.zeros((), jnp.int32)  # an array, as when restored from a file
    return TrainState(step, task.loss, params, tx, tx.init(params))


def epoch(
    state: TrainState, task: Task, order: jax.Array, noise: jax.Array, rate: Schedule | Stateful
) -> Epoch:
    """Train for one pass over the batches, and validate.

    Args:
      state: the state; its step is where the epoch begins.
      task: the loss and its batches.
      order: the random key of the run's batches; that of the epoch is folded from it and the step.
      noise: the random key that the loss of each step receives, folded in the same way.
      rate: the learning rate in the state, to read the values of its rules.
    """
    parts: list[Metrics] = []
    weights: list[int] = []
    for batches in chunks(task.batches, jax.random.fold_in(order, state.step)):
        state, measured = some_steps(state, batches, noise, rate)
        parts.append(measured)
        weights.append(examples(batches))
    by_step = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if task.validation is None:
        own = {name: by_step[f"train_{name}"] for name in ("loss", *task.metrics)}
        lengths = [len(part["train_loss"]) for part in parts]
        by_epoch = _mean(own, np.repeat(weights, lengths))
    else:
        by_epoch = judged(task, state.params)
    by_step = {name: by_step[name] for name in (*BY_STEP, *EVENTS)}
    return Epoch(_told(state, _heard(by_epoch)), by_step, by_epoch)


@jax.jit
def some_steps(
    state: TrainState, batches: Any, noise: jax.Array, rate: Schedule | Stateful
) -> tuple[TrainState, Metrics]:
    """Train on stacked batches, and return the measurements of each step."""

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        loss: Any = functools.partial(state.apply_fn, key=jax.random.fold_in(noise, state.step))
        (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        # Passed to the update instead of observed: rules must not see metrics of a skipped step.
        tx = with_extra_args(state.tx)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params, loss=value)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        if "kl" in listened(state):
            after = loss(state.params, batch)[1][LOGITS]
            state = _told(state, {"kl": _divergence(metrics[LOGITS], after)})
        happened = events(state)
        counts = {name: happened.get(name, jnp.zeros((), jnp.int32)) for name in EVENTS}
        own = {"learning_rate": hyperparams(state)["learning_rate"], "scale": scale(rate, state)}
        seen = {f"train_{name}": x for name, x in _numbers(value, metrics).items()}
        return state, own | seen | counts

    return jax.lax.scan(step, state, batches)


def judged(task: Task, params: Any) -> Metrics:
    """Return the mean metrics of parameters over the validation batches."""
    parts: list[Metrics] = []
    weights: list[np.ndarray] = []
    for batches in chunks(task.validation):
        parts.append(_judge(task.loss, params, batches))
        weights.append(np.full(size(batches), examples(batches)))
    names = ("loss", *task.metrics)
    together = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return _mean(together, np.concatenate(weights))


@functools.partial(jax.jit, static_argnums=0)
def _judge(loss: Loss, params: Any, batches: Any) -> Metrics:
    """Return the metrics of each batch."""
    return jax.lax.map(lambda batch: _numbers(*loss(params, batch, None)), batches)


def examples(batches: Any) -> int:
    """Return the number of examples in each of some stacked batches."""
    shapes = [np.shape(x) for x in jax.tree.leaves(batches)]
    return next((shape[1] for shape in shapes if len(shape) > 1), 1)


def scale(rate: Schedule | Stateful, state: Any) -> jax.Array:
    """Return the product of the rules in a learning rate in the last step; 1 without rules."""
    rules = rate.rules if isinstance(rate, Stateful) else ()
    pairs = zip(rules, factors(state)["learning_rate"], strict=True)
    values = [rule.value(own, last_step(state)) for rule, own in pairs if not rule._is_curve]
    return math.prod(values, start=jnp.ones(()))


def last_step(state: Any) -> jax.Array:
    """Return the step of the last update, on the step counter of the schedule."""
    return jnp.maximum(clock(state) - 1, 0)


def _numbers(value: jax.Array, metrics: Metrics) -> Metrics:
    """Return the loss and the metrics that are numbers."""
    found = {"loss": value, **{name: x for name, x in metrics.items() if name != LOGITS}}
    return {name: jnp.asarray(x, jnp.float32) for name, x in found.items()}


def _mean(metrics: Metrics, weights: np.ndarray) -> Metrics:
    return {name: np.float32(np.average(x, weights=weights)) for name, x in metrics.items()}


def _heard(by_epoch: Metrics) -> Metrics:
    """Return metrics by the names to which rules listen: the loss is the `value`."""
    return {"value" if name == "loss" else name: jnp.asarray(x) for name, x in by_epoch.items()}


def _told(state: TrainState, metrics: Metrics) -> TrainState:
    """Return the state with the metrics observed that something in it listens to."""
    names = listened(state)
    return observe(state, **{name: x for name, x in metrics.items() if name in names})


def _divergence(before: jax.Array, after: jax.Array) -> jax.Array:
    """Return the KL divergence between the predictions before and after, on the same examples."""
    said, says = map(jax.nn.log_softmax, (before, after))
    # From logarithms, so that it is exactly zero for an unchanged network.
    return optax.losses.kl_divergence_with_log_targets(says, said).mean()
