"""Trains a population of sixty-four schedules from eight families in one compiled program.

With closures, this would be sixty-four programs, compiled one after the other. Run it with
`python examples/many_schedules.py`. `benchmarks/sweep.py` times both.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxsched as js

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
TRAIN, BATCH = 1437, 64


def loss(params, pixels, labels):
    hidden = jax.nn.relu(pixels @ params["in"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["out"], labels).mean()


# 2. A whole run as a function of a schedule and a key. It returns the final validation loss.
def run(schedule, key, steps):
    tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(schedule))
    a, b, order = jax.random.split(key, 3)
    params = {"in": jax.random.normal(a, (64, 64)) / 8, "out": jax.random.normal(b, (64, 10)) / 8}

    def step(carry, key):
        params, opt_state = carry
        batch = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
        grads = jax.grad(loss)(params, pixels[batch], labels[batch])
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(order, steps))
    return loss(params, pixels[TRAIN:], labels[TRAIN:])


# 3. A population: every family at every peak. Lists of schedules join with `+`.
def population(steps):
    peaks, half = np.geomspace(1e-4, 1.0, 8), steps // 2
    return (
        js.grid(js.constant, value=peaks)
        + js.grid(js.linear, init_value=peaks, end_value=0.0, steps=steps)
        + js.grid(js.cosine, init_value=peaks, end_value=0.0, steps=steps)
        + js.grid(js.one_minus_sqrt, init_value=peaks, end_value=0.0, steps=steps)
        + js.grid(js.warmup_cosine, peak_value=peaks, total_steps=steps, warmup_steps=steps // 10)
        + js.grid(js.one_cycle, peak_value=peaks, total_steps=steps)
        + js.grid(lambda p: js.constant(p, half) >> js.linear(p, 0.0, half), p=peaks)
        + js.grid(lambda p: js.cosine(p, 0.0, half).cycle(cycles=2), p=peaks)
    )


# 4. One compilation and one call, with the same two seeds for each member. If there are several
#    devices, each trains a part.
def main(steps=100, picture=None):
    traces = []

    def train(schedule, key):
        traces.append(schedule)
        return run(schedule, key, steps)

    found = js.sweep(train, population(steps), key=0, seeds=2)
    print(found.leaderboard(top=10))
    print(f"{found.scores.size} runs in one program")
    if picture:
        found.plot(picture)
    return found, len(traces)


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
