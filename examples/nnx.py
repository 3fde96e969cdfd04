"""Flax NNX with an `nnx.Optimizer`: a schedule and a plateau rule, saved and resumed bit for bit.

An `nnx.Optimizer` is mutable, so `observe` changes it in place. Run: `python examples/nnx.py`.
"""

import tempfile

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits

from jaxsched import hyperparams, inject, observe, reduce_on_plateau, warmup_cosine

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
TRAIN, BATCH, EPOCH = 1437, 128, 10


def loss(model, pixels, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(pixels), labels).mean()


# 2. The rate: a schedule times a rule that responds to the validation loss. Both are in `tx`.
def fresh(steps):
    rate = warmup_cosine(1e-2, total_steps=steps, warmup_steps=steps // 10)
    plateau = reduce_on_plateau(patience=2, factor=0.5, rtol=0.1)
    tx = inject(optax.adamw, learning_rate=rate * plateau, weight_decay=1e-4)
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs))
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


# 3. One compiled step. The step selects the images, so a resumed run sees the same ones.
@nnx.jit
def train_step(model, optimizer):
    key = jax.random.fold_in(jax.random.key(1), optimizer.step[...])
    batch = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
    optimizer.update(model, nnx.grad(loss)(model, pixels[batch], labels[batch]))


# 4. Pass a validation loss to the plateau rule every few steps.
@nnx.jit
def judge(model, optimizer):
    value = loss(model, pixels[TRAIN:], labels[TRAIN:])
    observe(optimizer, value=value)
    return value


def train(model, optimizer, steps):
    for i in range(1, steps + 1):
        train_step(model, optimizer)
        if i % EPOCH == 0:
            value, rate = judge(model, optimizer), hyperparams(optimizer)["learning_rate"]
            print(f"step {optimizer.step[...]:3}  rate used {rate:.6f}  loss {value:.4f}")
    return nnx.to_pure_dict(nnx.state((model, optimizer)))


# 5. Save half a run, restore it into a new pair and finish it: the result is bit for bit the same.
def main(steps=100):
    whole, half = train(*fresh(steps), steps), train(*fresh(steps), steps // 2)
    pair = fresh(steps)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/half", half)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(f"{folder}/half", half)
    nnx.replace_by_pure_dict(state := nnx.state(pair), restored)
    nnx.update(pair, state)
    resumed = train(*pair, steps // 2)
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, whole, resumed)))
    print("resumed and uninterrupted are the same, bit for bit:", same)
    return whole, resumed


if __name__ == "__main__":
    main()
