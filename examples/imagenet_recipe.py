"""The ImageNet recipe of Flax' examples: warmup and cosine in epochs, SGD with Nesterov momentum.

An epoch is a scan that returns the rate of each step. Run: `python examples/imagenet_recipe.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training import train_state
from sklearn.datasets import load_digits

from jaxsched import Units, cosine, hyperparams, inject, linear, parse, scale_with_batch

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
digits, TRAIN, BATCH = load_digits(), 1437, 128
pixels, labels = jnp.float32(digits.images[..., None] / 16), jnp.int32(digits.target)

# 2. The recipe in epochs of whole batches, as an expression and as text for a config file.
units = Units(batch_size=BATCH, dataset_size=TRAIN, drop_remainder=True)
peak = scale_with_batch(0.1, 256, BATCH)
rate = linear(0.0, peak, units.epochs(5)) >> cosine(peak, 0.0, units.epochs(10))
TEXT = "linear(0.0, 0.05, 5ep) >> cosine(0.05, 0.0, 10ep)"


class TrainState(train_state.TrainState):
    batch_stats: dict


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(32, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(nn.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))


def fresh(rate):
    decay = optax.add_decayed_weights(1e-4, lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    sgd = inject(partial(optax.sgd, momentum=0.9, nesterov=True), learning_rate=rate)
    variables = Net().init(jax.random.key(0), pixels[:1], train=False)
    return TrainState.create(apply_fn=Net().apply, tx=optax.chain(decay, sgd), **variables)


# 3. An epoch is a scan, which returns the values used at every step.
def train_step(state, batch):
    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, new = state.apply_fn(variables, pixels[batch], train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean(), new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    state = state.apply_gradients(grads=grads, **new)
    return state, {"loss": value, **hyperparams(state)}


@jax.jit
def train_epoch(state, epoch):
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(1), epoch), TRAIN)
    state, log = jax.lax.scan(train_step, state, order[: TRAIN // BATCH * BATCH].reshape(-1, BATCH))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    guess = state.apply_fn(variables, pixels[TRAIN:], train=False).argmax(-1)
    return state, log, jnp.mean(guess == labels[TRAIN:])


def main():
    state, logs = fresh(parse(TEXT, units=units)), []
    for epoch in range(15):
        state, log, right = train_epoch(state, epoch)
        logs += [log]
        used, loss = log["learning_rate"][-1], log["loss"].mean()
        print(f"epoch {epoch:2}  rate used {used:.5f}  loss {loss:.4f}  {right:.1%} right")
    return logs, right


if __name__ == "__main__":
    main()
