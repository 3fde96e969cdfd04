"""Orbax: saves on a mesh of eight devices, restores onto other meshes, and continues there.

The rates are the same to the last bit. The losses differ only by the order of summation.
Run it with `python examples/resharded_restore.py`.
"""

import os
import tempfile

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")  # before JAX

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax import P
from jax.sharding import Mesh, NamedSharding
from sklearn.datasets import load_digits

from jaxsched import cosine, hyperparams, inject, linear, reduce_on_plateau

# 1. Data: 1797 handwritten digits of 8 x 8 pixels, in batches sharded over all devices.
pixels, labels = load_digits(return_X_y=True)
BATCH, STEPS, SHAPES = 128, 60, [(8, 1), (4, 2), (2, 1)]

# 2. A rate with a rule that has acted before the state is saved.
schedule = linear(0.01, 0.1, 10) >> cosine(0.1, 0.0, STEPS - 10)
rate = schedule * reduce_on_plateau(patience=8, factor=0.5, rtol=0.02)
tx = inject(optax.adamw, learning_rate=rate, weight_decay=cosine(1e-2, 0.0, STEPS))


def fresh():
    a, b = jax.random.split(jax.random.key(0))
    params = {"in": jax.random.normal(a, (64, 64)) / 8, "out": jax.random.normal(b, (64, 10)) / 8}
    return params, tx.init(params)


def on(mesh):
    """Shapes and shardings of a run: matrices are sharded, everything else is replicated."""
    everywhere, parts = NamedSharding(mesh, P()), NamedSharding(mesh, P("rows", "columns"))
    place = {0: everywhere, 1: everywhere, 2: parts}
    return jax.tree.map(lambda x: x.update(sharding=place[x.ndim]), jax.eval_shape(fresh))


@jax.jit
def train_step(run, pixels, labels):
    def loss(params):
        logits = jax.nn.relu(pixels @ params["in"]) @ params["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, grads = jax.value_and_grad(loss)(run[0])
    updates, opt_state = tx.update(grads, run[1], run[0], value=value)
    params = optax.apply_updates(run[0], updates)
    return (params, opt_state), {"loss": value, **hyperparams(opt_state)}


def train(mesh, run, steps):
    log = []
    for i in steps:
        rows = np.random.default_rng(i).choice(len(labels), BATCH, replace=False)
        batch = np.float32(pixels[rows] / 16), np.int32(labels[rows])
        run, seen = train_step(run, *jax.device_put(batch, NamedSharding(mesh, P("rows"))))
        log.append(seen)
    return run, jax.tree.map(lambda *x: np.array(x), *log)


# 3. Train the first half on one mesh, and the second half on each mesh.
def main():
    meshes = [Mesh(np.resize(jax.devices(), shape), ("rows", "columns")) for shape in SHAPES]
    begin = jax.jit(fresh, out_shardings=jax.tree.map(lambda x: x.sharding, on(meshes[0])))
    half, ends = train(meshes[0], begin(), range(STEPS // 2))[0], []
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/half", half)
        checkpointer.wait_until_finished()
        for mesh in meshes:
            restored = checkpointer.restore(f"{folder}/half", on(mesh))
            ends.append((restored, *train(mesh, restored, range(STEPS // 2, STEPS))))
            piece, log = restored[0]["in"].addressable_shards[0].data.shape, ends[-1][2]
            rate, loss = log["learning_rate"][0], log["loss"][-1]
            print(f"shards of {piece}: first rate used {rate:.6f}, final loss {loss:.6f}")
    return half, ends


if __name__ == "__main__":
    main()
