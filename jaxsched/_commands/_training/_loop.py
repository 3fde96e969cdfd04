"""One epoch as one compiled program: shuffle, scan over the batches, validate, observe.

The schedule is entirely inside. The rate is read from the state after each update, so the recorded
rate is the one that was used. The loss of the batch is passed to its update. The validation loss is
observed after the last update, and is received by the first update of the next epoch.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

from jaxsched._commands._training._data import Digits, Images, shuffled
from jaxsched._commands._training._model import Network, logits_of, loss_and_logits
from jaxsched._rules._events import EVENTS
from jaxsched._rules._mailbox import listened
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._state._readers import events, factors, hyperparams
from jaxsched._state._readers import step as clock
from jaxsched._state._writers import observe
from jaxsched._transforms._scheduled import with_extra_args

# Metrics of a step and of an epoch. The gradient norm reaches a rule without observation.
BY_STEP, BY_EPOCH = ("loss", "kl"), ("value", "accuracy")


class Steps(NamedTuple):
    """Measurements of each step: arrays over the steps."""

    learning_rate: jax.Array  # float32: the learning rate used
    scale: jax.Array  # float32: the product of the rules
    train_loss: jax.Array  # float32: of the batch, before the update
    counts: tuple[jax.Array, ...]  # int32: running counts of each of `EVENTS`


class Judged(NamedTuple):
    """Measurements on the validation images after an epoch."""

    loss: jax.Array
    accuracy: jax.Array


def start(tx: optax.GradientTransformation, data: Digits, key: jax.Array) -> TrainState:
    """Return the state before the first step."""
    network = Network()
    params = network.init(key, data.train.pixels[:1])["params"]
    state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
    return state.replace(step=jnp.zeros((), jnp.int32))  # an array, as when restored from a file


@functools.partial(jax.jit, static_argnames="batch_size")
def epoch(
    state: TrainState,
    data: Digits,
    key: jax.Array,
    rate: Schedule | Stateful,
    *,
    batch_size: int,
) -> tuple[TrainState, Steps, Judged]:
    """Train for one pass over the data.

    Args:
      state: the state; its step is where the epoch begins.
      data: training and validation images.
      key: the run's random key; the key of the epoch is folded from it and the step.
      rate: the learning rate in the state, to read the values of its rules.
      batch_size: images per step; the remainder is left out in this epoch.

    Returns:
      The state after the epoch, the measurements of each step, and those of the validation.
    """

    def step(state: TrainState, batch: Images) -> tuple[TrainState, Steps]:
        value_and_grad = jax.value_and_grad(loss_and_logits, has_aux=True)
        (loss, before), gradients = value_and_grad(state.params, batch)
        # Passed to the update instead of observed: rules must not see metrics of a skipped step.
        tx = with_extra_args(state.tx)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params, loss=loss)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        if "kl" in listened(state):
            state = _told(state, kl=_divergence(before, logits_of(state.params, batch)))
        happened = events(state)
        counts = tuple(happened.get(name, jnp.zeros((), jnp.int32)) for name in EVENTS)
        return state, Steps(hyperparams(state)["learning_rate"], scale(rate, state), loss, counts)

    batches = shuffled(data.train, jax.random.fold_in(key, state.step), batch_size)
    state, steps = jax.lax.scan(step, state, batches)
    judged = judge(state.params, data)
    return _told(state, value=judged.loss, accuracy=judged.accuracy), steps, judged


def scale(rate: Schedule | Stateful, state: Any) -> jax.Array:
    """Return the product of the rules in a learning rate in the last step; 1 without rules."""
    rules = rate.rules if isinstance(rate, Stateful) else ()
    pairs = zip(rules, factors(state)["learning_rate"], strict=True)
    values = [rule.value(own, last_step(state)) for rule, own in pairs if not rule._is_curve]
    return math.prod(values, start=jnp.ones(()))


def last_step(state: Any) -> jax.Array:
    """Return the step of the last update, on the step counter of the schedule."""
    return jnp.maximum(clock(state) - 1, 0)


@jax.jit
def judge(params: Any, data: Digits) -> Judged:
    """Return the validation loss and accuracy of parameters."""
    loss, logits = loss_and_logits(params, data.valid)
    return Judged(loss, _accuracy(logits, data.valid))


@jax.jit
def judge_together(stacked: Any, data: Digits) -> jax.Array:
    """Return the accuracy of the mean prediction of several models."""
    logits = jax.vmap(lambda params: logits_of(params, data.valid))(stacked)
    return _accuracy(jax.nn.softmax(logits).mean(axis=0), data.valid)


def _told(state: TrainState, **metrics: jax.Array) -> TrainState:
    """Return the state with the metrics observed that something in it listens to."""
    names = listened(state)
    return observe(state, **{name: x for name, x in metrics.items() if name in names})


def _divergence(before: jax.Array, after: jax.Array) -> jax.Array:
    """Return the KL divergence between the predictions before and after, on the same images."""
    said, says = map(jax.nn.log_softmax, (before, after))
    # From logarithms, so that it is exactly zero for an unchanged network.
    return optax.losses.kl_divergence_with_log_targets(says, said).mean()


def _accuracy(logits: jax.Array, images: Images) -> jax.Array:
    return (logits.argmax(axis=1) == images.labels).mean(dtype=jnp.float32)
