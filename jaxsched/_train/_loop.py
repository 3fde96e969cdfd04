"""One epoch is one compiled program: shuffle, a scan over the batches, judge, tell the rules.

Nothing of the schedule is outside. The rate is read from the state after each update, so what is
recorded is what was used; the validation loss goes back in with `observe`, and the next update, the
first of the following epoch, acts on it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

from jaxsched._state import factors, hyperparams, observe
from jaxsched._train._data import Digits, Images
from jaxsched._train._model import Network


class Steps(NamedTuple):
    """What each step was like: arrays over the steps."""

    learning_rate: jax.Array  # float32: the one really used
    scale: jax.Array  # float32: the factor in it of plateaus and the like
    train_loss: jax.Array  # float32: of the batch, before the update


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


@functools.partial(jax.jit, static_argnames=("batch_size", "metrics"))
def epoch(
    state: TrainState, data: Digits, key: jax.Array, *, batch_size: int, metrics: tuple[str, ...]
) -> tuple[TrainState, Steps, Judged]:
    """One pass over the data.

    Args:
      state: the state; its step is where the epoch begins.
      data: images to learn from and to judge by.
      key: the run's random key; the epoch's own is folded from it and the step.
      batch_size: images per step; those left over sit this epoch out.
      metrics: what the rules listen to: "value", the validation loss, and "accuracy", or neither.

    Returns:
      The state after it, what each step was like, and how good the model is now.
    """

    def step(state: TrainState, batch: Images) -> tuple[TrainState, Steps]:
        loss, gradients = jax.value_and_grad(_loss)(state.params, state, batch)
        state = state.apply_gradients(grads=gradients)
        return state, Steps(hyperparams(state)["learning_rate"], scale(state), loss)

    batches = _shuffled(data.train, jax.random.fold_in(key, state.step), batch_size)
    state, steps = jax.lax.scan(step, state, batches)
    judged = Judged(_loss(state.params, state, data.valid), _accuracy(state, data.valid))
    told = {"value": judged.loss, "accuracy": judged.accuracy}
    return observe(state, **{name: told[name] for name in metrics}), steps, judged


def scale(state: Any) -> jax.Array:
    """The product of the scales in a state: of plateaus and the like; 1 if there is none."""
    scales = [x.scale for x in factors(state)["learning_rate"] if hasattr(x, "scale")]
    return math.prod(scales, start=jnp.ones(()))


def _shuffled(images: Images, key: jax.Array, batch_size: int) -> Images:
    count = len(images.labels) // batch_size
    order = jax.random.permutation(key, len(images.labels))[: count * batch_size]
    return jax.tree.map(lambda x: x[order].reshape(count, batch_size, *x.shape[1:]), images)


def _loss(params: Any, state: TrainState, images: Images) -> jax.Array:
    logits = state.apply_fn({"params": params}, images.pixels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, images.labels).mean()


def _accuracy(state: TrainState, images: Images) -> jax.Array:
    logits = state.apply_fn({"params": state.params}, images.pixels)
    return (logits.argmax(axis=1) == images.labels).mean(dtype=jnp.float32)
