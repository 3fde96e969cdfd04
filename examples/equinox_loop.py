"""Equinox: a schedule and a plateau rule inside `filter_jit`, saved and resumed bit for bit.

A schedule can also be a field of a module. Run it with `python examples/equinox_loop.py`.
"""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jaxsched as js

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.float32(pixels / 16), jnp.int32(labels)
TRAIN, BATCH, EPOCH, STEPS = 1437, 128, 10, 100

# 2. The rate is in `tx`. The noise is in the model; its numbers are floats, so it is not trained.
schedule = js.linear(1e-3, 1e-2, 10) >> js.cosine(1e-2, 0.0, STEPS - 10)
rate = schedule * js.reduce_on_plateau(patience=2, factor=0.5, rtol=0.1)
tx = js.inject(optax.adamw, learning_rate=rate, weight_decay=1e-4)


class Noisy(eqx.Module):
    net: eqx.nn.MLP
    noise: js.Schedule

    def __call__(self, x, step, key):
        return self.net(x + self.noise(step) * jax.random.normal(key, x.shape))


def fresh():
    net = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
    model = Noisy(net, js.linear(0.2, 0.0, STEPS))
    return model, tx.init(eqx.filter(model, eqx.is_inexact_array))


@eqx.filter_jit
def loss(model, rows, step):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2), step), len(rows))
    logits = jax.vmap(model, (0, None, 0))(pixels[rows], step, keys)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()


# 3. One compiled step. The optimizer's step counter selects the images and the noise.
@eqx.filter_jit
def train_step(model, opt_state):
    step = js.step(opt_state)
    rows = jax.random.choice(jax.random.fold_in(jax.random.key(1), step), TRAIN, (BATCH,))
    grads = eqx.filter_grad(loss)(model, rows, step)
    updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), opt_state


def train(model, opt_state, steps):
    for i in range(1, steps + 1):
        model, opt_state = train_step(model, opt_state)
        if i % EPOCH == 0:
            value = loss(model, jnp.arange(TRAIN, len(pixels)), jnp.int32(STEPS))  # without noise
            opt_state, used = js.observe(opt_state, value=value), js.hyperparams(opt_state)
            print(f"step {i:3}  rate used {used['learning_rate']:.6f}  loss {value:.4f}")
    return model, opt_state


# 4. Save half a run, restore it into a new pair and finish it: the result is bit for bit the same.
def main(steps=STEPS):
    whole, half = train(*fresh(), steps), train(*fresh(), steps // 2)
    eqx.tree_serialise_leaves(file := io.BytesIO(), half)
    file.seek(0)
    resumed = train(*eqx.tree_deserialise_leaves(file, fresh()), steps // 2)
    print("the same, bit for bit:", bool(eqx.tree_equal(whole, resumed)))
    return whole, resumed


if __name__ == "__main__":
    main()
