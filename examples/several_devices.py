"""Trains on several devices: with `jit`, and with `shard_map`, where rules need an axis name.

Under `jit` the loss of a sharded batch is one number. Under `shard_map` each device has its own
loss, and a rule with `axis_name` receives the mean. Run: `python examples/several_devices.py`.
"""

import os
from functools import partial

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")  # before JAX

import jax
import numpy as np
import optax
from jax import P
from jax.sharding import Mesh, NamedSharding
from sklearn.datasets import load_digits

from jaxsched import cosine, events, hyperparams, inject, reduce_on_plateau, skip_spikes

# 1. Data: 1797 handwritten digits of 8 x 8 pixels, in batches sharded over all devices.
pixels, labels = load_digits(return_X_y=True)
BATCH, STEPS, mesh = 128, 60, Mesh(np.array(jax.devices()[:8]), ("batch",))


def batch(step):
    which = np.random.default_rng(step).choice(len(labels), BATCH, replace=False)
    shown = np.asarray(pixels[which] / 16, np.float32)
    shown[:16] *= 1e3 if step == 40 else 1  # one corrupted batch on the first device
    return jax.device_put((shown, np.int32(labels[which])), NamedSharding(mesh, P("batch")))


def loss(params, pixels, labels):
    logits = jax.nn.relu(pixels @ params["in"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# 2. A rule and a guard. Both listen to the loss, which must be the same on all devices.
def optimizer(axis_name=None):
    rate = cosine(0.5, 0.0, STEPS) * reduce_on_plateau(patience=6, factor=0.5, axis_name=axis_name)
    tx = inject(optax.sgd, learning_rate=rate)
    return skip_spikes(tx, metric="value", window_size=32, axis_name=axis_name)


# 3. Under jit: the step is written as for one device, and receives a sharded batch.
def step(tx, params, state, batch, mean=lambda x: x):
    grads = jax.grad(lambda params: mean(loss(params, *batch)))(params)
    updates, state = tx.update(grads, state, params, value=loss(params, *batch))
    return optax.apply_updates(params, updates), state


# 4. Under shard_map: the gradient is of the mean over all devices; the loss is local.
def step_of_each(tx):
    own = partial(step, tx, mean=lambda x: jax.lax.pmean(x, "batch"))
    specs = {"in_specs": (P(), P(), P("batch")), "out_specs": P()}  # P(): checked to be replicated
    return jax.shard_map(own, mesh=mesh, **specs)


def run(name, tx, step):
    a, b = jax.random.split(jax.random.key(0))
    params = {"in": jax.random.normal(a, (64, 64)) / 8, "out": jax.random.normal(b, (64, 10)) / 8}
    params, state = jax.device_put((params, tx.init(params)), NamedSharding(mesh, P()))
    step, rates = jax.jit(step), []
    for i in range(STEPS):
        params, state = step(params, state, batch(i))
        rates.append(float(hyperparams(state)["learning_rate"]))
    copies = ([np.asarray(c.data) for c in x.addressable_shards] for x in jax.tree.leaves(state))
    alike = all(len({copy.tobytes() for copy in replicas}) == 1 for replicas in copies)
    print(f"{name:9} {jax.tree.map(int, events(state))}  all replicas alike: {alike}")
    return rates, events(state), alike


def main():
    tx, mapped = optimizer(), optimizer(axis_name="batch")
    return run("jit", tx, partial(step, tx)), run("shard_map", mapped, step_of_each(mapped))


if __name__ == "__main__":
    main()
