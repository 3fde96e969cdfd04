"""Batch normalisation: averaged parameters need batch statistics of their own.

    python examples/averaged_statistics.py

trains a Flax network with batch normalisation on scikit-learn's digits, with 24 seeds. It compares
the last parameters and the average of the last half, each with the running statistics of the run
and with statistics that `batch_statistics` estimates again.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from adaptive_optimizers import digits
from averages import interval, show
from flax import linen as nn

import jaxsched as js

SEEDS, MORE, BATCH = 24, 100, 32  # MORE batches estimate the statistics
MODELS = [f"{model}, {what}" for model in ("last", "average") for what in ("running", "again")]


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for size in (48, 48):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(size)(x)))
        return nn.Dense(10)(x)


MODEL = Network()


def apply(params, statistics, x):
    """Outputs and new statistics, in training mode."""
    variables = {"params": params, "batch_stats": statistics}
    outputs, new = MODEL.apply(variables, x, train=True, mutable=["batch_stats"])
    return outputs, new["batch_stats"]


def study(task, rate, steps):
    """The test losses and accuracies: measure, model, seed."""
    tx = js.average(optax.sgd(rate, momentum=0.9), js.uniform_average(start=steps // 2))
    shape, size = (SEEDS, steps + MORE, BATCH), len(task.train[0])
    places = np.random.default_rng(0).integers(size, size=shape)

    def loss(params, statistics, x, y):
        outputs, new = apply(params, statistics, x)
        return task.loss(outputs, y).mean(), new

    def run(key, places):
        def step(carry, place):
            params, state, statistics = carry
            batch = (jnp.asarray(x)[place] for x in task.train)
            grads, statistics = jax.grad(loss, has_aux=True)(params, statistics, *batch)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state, statistics), None

        first = MODEL.init(key, task.train[0][:1], train=False)
        carry = first["params"], tx.init(first["params"]), first["batch_stats"]
        return jax.lax.scan(step, carry, places)[0]

    keys = jax.random.split(jax.random.key(0), SEEDS)
    last, state, running = jax.jit(jax.vmap(run))(keys, places[:, :steps])

    @jax.jit
    @jax.vmap
    def judged(params, statistics):
        variables, (x, y) = {"params": params, "batch_stats": statistics}, task.test
        logits = MODEL.apply(variables, x, train=False)
        right = logits.argmax(axis=-1) == y.argmax(axis=-1)
        return jnp.stack([task.loss(logits, y).mean(), 100 * right.mean()])

    found = []
    for params in (last, js.averaged_params(state)):

        def update(statistics, x, params=params):  # of all seeds at once
            return jax.vmap(apply)(params, statistics, x)[1]

        batches = (task.train[0][places[:, n]] for n in range(steps, steps + MORE))
        again = js.batch_statistics(update, running, batches)
        found += [judged(params, running), judged(params, again)]
    return np.moveaxis(np.stack(found), -1, 0)


def main(cases=((0.05, 1200), (0.2, 1200), (0.05, 300))):
    task = digits()
    found = {f"rate {rate}, {steps} steps": study(task, rate, steps) for rate, steps in cases}
    for n, (what, places) in enumerate({"loss": 4, "accuracy in percent": 2}.items()):
        rows = {name: cells(x[n], places) for name, x in found.items()}
        show(f"# test {what}, mean ± 95 % interval", MODELS, rows)
        rows = {name: cells(x[n, 3] - x[n, :3], places, "+") for name, x in found.items()}
        show(f"# test {what}: {MODELS[3]} - each of the others", MODELS[:3], rows)
    return found


def cells(x, places, sign=""):
    return (f"{y.mean():{sign}.{places}f} ± {interval(y):.{places}f}" for y in x)


if __name__ == "__main__":
    main()
