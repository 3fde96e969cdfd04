"""Plain optax without a framework: a schedule and a plateau rule, saved and resumed bit for bit.

The rate is last in the chain, after the preconditioner. Before Adam a factor would have no effect,
because Adam normalizes the gradients. Run it with `python examples/plain_optax.py`.
"""

import tempfile

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from sklearn.datasets import load_digits

from jaxsched import cosine, hyperparams, linear, observe, reduce_on_plateau, scale_by_learning_rate
from jaxsched import step as clock

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
TRAIN, BATCH, EPOCH, STEPS = 1437, 128, 10, 100

# 2. The rate: ten steps up, ninety down, times a rule that responds to the validation loss.
schedule = linear(1e-3, 1e-2, 10) >> cosine(1e-2, 0.0, STEPS - 10)
rate = schedule * reduce_on_plateau(patience=2, factor=0.5, rtol=0.1)
tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.scale_by_adam(), scale_by_learning_rate(rate)
)


def fresh():
    a, b = jax.random.split(jax.random.key(0))
    params = {"in": jax.random.normal(a, (64, 64)) / 8, "out": jax.random.normal(b, (64, 10)) / 8}
    return params, tx.init(params)


def loss(params, pixels, labels):
    logits = jax.nn.relu(pixels @ params["in"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# 3. One compiled step. The step selects the images, so a resumed run sees the same ones.
@jax.jit
def train_step(params, opt_state):
    key = jax.random.fold_in(jax.random.key(1), clock(opt_state))
    batch = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
    grads = jax.grad(loss)(params, pixels[batch], labels[batch])
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


# 4. Pass a validation loss to the plateau rule every few steps.
def train(params, opt_state, steps):
    for i in range(1, steps + 1):
        params, opt_state = train_step(params, opt_state)
        if i % EPOCH == 0:
            value = loss(params, pixels[TRAIN:], labels[TRAIN:])
            opt_state = observe(opt_state, value=value)
            rate = hyperparams(opt_state)["learning_rate"]
            print(f"step {clock(opt_state):3}  rate used {rate:.6f}  loss {value:.4f}")
    return params, opt_state


# 5. Save half a run, restore it and finish it: the result is bit for bit the same.
def main(steps=STEPS):
    whole, half = train(*fresh(), steps), train(*fresh(), steps // 2)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/half", half)
        checkpointer.wait_until_finished()
        resumed = train(*checkpointer.restore(f"{folder}/half", fresh()), steps // 2)
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, whole, resumed)))
    print("resumed and uninterrupted are the same, bit for bit:", same)
    return whole, resumed


if __name__ == "__main__":
    main()
