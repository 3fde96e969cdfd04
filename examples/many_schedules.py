"""Sixteen peak values, one program: a schedule is data, so a stack of them goes through `vmap`.

With closures in their place this would be sixteen programs, compiled one after the other. Run it
with `python examples/many_schedules.py`.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from jaxsched import scale_by_learning_rate, warmup_cosine

# 1. Data: 1797 handwritten digits of 8 x 8 pixels, the last 360 to judge by.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
TRAIN, BATCH = 1437, 128


def loss(params, pixels, labels):
    hidden = jax.nn.relu(pixels @ params["in"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["out"], labels).mean()


# 2. A whole run as a function of its schedule: its validation loss at the end.
def run(schedule, steps):
    tx = optax.chain(optax.scale_by_adam(), scale_by_learning_rate(schedule))
    a, b = jax.random.split(jax.random.key(0))
    params = {"in": jax.random.normal(a, (64, 64)) / 8, "out": jax.random.normal(b, (64, 10)) / 8}

    def step(carry, key):
        params, opt_state = carry
        batch = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
        grads = jax.grad(loss)(params, pixels[batch], labels[batch])
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    keys = jax.random.split(jax.random.key(1), steps)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    return loss(params, pixels[TRAIN:], labels[TRAIN:])


# 3. Sixteen schedules, their numbers stacked: one schedule whose leaves are arrays of sixteen.
def main(steps=100):
    peaks = jnp.logspace(-4, 0, 16)
    schedules = [warmup_cosine(p, total_steps=steps, warmup_steps=steps // 10) for p in peaks]
    stacked = jax.tree.map(lambda *numbers: jnp.stack(jnp.array(numbers)), *schedules)

    # 4. One compilation, one call.
    traces = []
    run_all = jax.jit(jax.vmap(lambda schedule: traces.append(1) or run(schedule, steps)))
    losses = run_all(stacked)
    for peak, value in zip(peaks, losses, strict=True):
        best = "  best" if value == losses.min() else ""
        print(f"peak {peak:.5f}  validation loss {value:.4f}{best}")
    print(f"{len(peaks)} runs, traced and compiled {len(traces)} time(s)")
    return losses, len(traces)


if __name__ == "__main__":
    main()
