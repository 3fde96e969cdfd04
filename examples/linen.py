"""Flax Linen with a `TrainState`: a schedule and a plateau rule, saved and resumed bit for bit.

`apply_gradients` takes no metric; use `observe`. Run it with `python examples/linen.py`.
"""

import tempfile

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

from jaxsched import hyperparams, inject, observe, reduce_on_plateau, warmup_cosine

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
TRAIN, BATCH, EPOCH = 1437, 128, 10


def loss(params, state, pixels, labels):
    logits = state.apply_fn({"params": params}, pixels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# 2. The rate: a schedule times a rule that responds to the validation loss. Both are in `tx`.
def fresh(steps):
    rate = warmup_cosine(1e-2, total_steps=steps, warmup_steps=steps // 10)
    plateau = reduce_on_plateau(patience=2, factor=0.5, rtol=0.1)
    tx = inject(optax.adamw, learning_rate=rate * plateau, weight_decay=1e-4)
    model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
    params = model.init(jax.random.key(0), pixels)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


# 3. One compiled step. The step selects the images, so a resumed run sees the same ones.
@jax.jit
def train_step(state):
    key = jax.random.fold_in(jax.random.key(1), state.step)
    batch = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
    grads = jax.grad(loss)(state.params, state, pixels[batch], labels[batch])
    return state.apply_gradients(grads=grads)


# 4. Pass a validation loss to the plateau rule every few steps.
@jax.jit
def judge(state):
    value = loss(state.params, state, pixels[TRAIN:], labels[TRAIN:])
    return observe(state, value=value), value


def train(state, steps):
    for i in range(1, steps + 1):
        state = train_step(state)
        if i % EPOCH == 0:
            state, value = judge(state)
            rate = hyperparams(state)["learning_rate"]
            print(f"step {state.step:3}  rate used {rate:.6f}  loss {value:.4f}")
    return state


# 5. Save half a run, restore it and finish it: the result is bit for bit the same.
def main(steps=100):
    start = fresh(steps)
    whole, half = train(start, steps), train(start, steps // 2)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/half", half)
        checkpointer.wait_until_finished()
        resumed = train(checkpointer.restore(f"{folder}/half", start), steps // 2)
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, whole, resumed)))
    print("resumed and uninterrupted are the same, bit for bit:", same)
    return whole, resumed


if __name__ == "__main__":
    main()
