"""One epoch is one compiled program: shuffle, a scan over the batches, judge, tell the rules.

Nothing of the schedule is outside. The rate is read from the state after each update, so what is
recorded is what was used; the loss of the batch goes into its update, and the validation loss, with
`observe`, after the last one, for the first update of the following epoch to act on.
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

# What a step can tell, and what an epoch can; the norm of its gradients a rule hears by itself.
BY_STEP, BY_EPOCH = ("loss", "kl"), ("value", "accuracy")


class Steps(NamedTuple):
    """What each step was like: arrays over the steps."""

    learning_rate: jax.Array  # float32: the one really used
    scale: jax.Array  # float32: what the rules have made of the schedule
    train_loss: jax.Array  # float32: of the batch, before the update
    counts: tuple[jax.Array, ...]  # int32: how often each of `EVENTS` has happened


class Judged(NamedTuple):
    """What the validation images say of an epoch."""

    loss: jax.Array
    accuracy: jax.Array


def start(tx: optax.GradientTransformation, data: Digits, key: jax.Array) -> TrainState:
    """The state before the first step."""
    network = Network()
    params = network.init(key, data.train.pixels[:1])["params"]
    state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
    return state.replace(step=jnp.zeros((), jnp.int32))  # an array, as it comes back from a file


@functools.partial(jax.jit, static_argnames="batch_size")
def epoch(
    state: TrainState,
    data: Digits,
    key: jax.Array,
    rate: Schedule | Stateful,
    *,
    batch_size: int,
) -> tuple[TrainState, Steps, Judged]:
    """One pass over the data.

    Args:
      state: the state; its step is where the epoch begins.
      data: images to learn from and to judge by.
      key: the run's random key; the epoch's own is folded from it and the step.
      rate: the learning rate that is in the state, to read what its rules are worth.
      batch_size: images per step; those left over sit this epoch out.

    Returns:
      The state after it, what each step was like, and how good the model is now.
    """

    def step(state: TrainState, batch: Images) -> tuple[TrainState, Steps]:
        value_and_grad = jax.value_and_grad(loss_and_logits, has_aux=True)
        (loss, before), gradients = value_and_grad(state.params, batch)
        # Not observed but given to the update: of a step that is skipped no rule is to hear.
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
    """What the rules in a learning rate made of it in the last step: 1 if there are none."""
    rules = rate.rules if isinstance(rate, Stateful) else ()
    pairs = zip(rules, factors(state)["learning_rate"], strict=True)
    values = [rule.value(own, last_step(state)) for rule, own in pairs if not rule._is_curve]
    return math.prod(values, start=jnp.ones(()))


def last_step(state: Any) -> jax.Array:
    """The step of the last update, on the clock of the schedule."""
    return jnp.maximum(clock(state) - 1, 0)


@jax.jit
def judge(params: Any, data: Digits) -> Judged:
    """How good a model is with these parameters."""
    loss, logits = loss_and_logits(params, data.valid)
    return Judged(loss, _accuracy(logits, data.valid))


@jax.jit
def judge_together(stacked: Any, data: Digits) -> jax.Array:
    """The accuracy of the mean of what several models say."""
    logits = jax.vmap(lambda params: logits_of(params, data.valid))(stacked)
    return _accuracy(jax.nn.softmax(logits).mean(axis=0), data.valid)


def _told(state: TrainState, **metrics: jax.Array) -> TrainState:
    """The state, with those of the metrics in it that somebody listens to."""
    names = listened(state)
    return observe(state, **{name: x for name, x in metrics.items() if name in names})


def _divergence(before: jax.Array, after: jax.Array) -> jax.Array:
    """The KL divergence of what a model said from what it says now, of the same images."""
    said, says = map(jax.nn.log_softmax, (before, after))
    # Of logarithms: of a network that has not changed it is exactly zero.
    return optax.losses.kl_divergence_with_log_targets(says, said).mean()


def _accuracy(logits: jax.Array, images: Images) -> jax.Array:
    return (logits.argmax(axis=1) == images.labels).mean(dtype=jnp.float32)
