"""Learns a schedule by gradient descent on the validation loss, through whole training runs.

    python examples/learned_schedule.py

The knots of a `piecewise_linear` schedule follow the gradient of the validation loss after 150
steps on digits, in 4800 runs. The result is compared with the best of 160 cosines, which a sweep
found on the same validation images in 2560 runs. Both are then tested on seeds and images that
neither has seen. Everything is repeated five times with other seeds.
"""

from __future__ import annotations

import jax
import numpy as np
import optax
from flax import linen

import jaxsched as js
from jaxsched._commands._tasks._data import Images, digits

STEPS, BATCH, KNOTS = 150, 32, 6


class Network(linen.Module):
    """One smooth hidden layer: kinks would make the gradient through a run misleading."""

    @linen.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        return linen.Dense(10)(linen.tanh(linen.Dense(32)(pixels)))


def loss_of(params: optax.Params, images: Images) -> jax.Array:
    logits = Network().apply({"params": params}, images.pixels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, images.labels).mean()


def train(schedule: js.Schedule, key: jax.Array, learn: Images, judge: Images) -> jax.Array:
    """The loss on the images of `judge` after a run."""
    tx = optax.chain(optax.trace(decay=0.9), js.scale_by_learning_rate(schedule))
    first, order = jax.random.split(key)
    params = Network().init(first, learn.pixels[:1])["params"]
    batches = jax.random.randint(order, (STEPS, BATCH), 0, len(learn.labels))

    def step(carry, batch):
        params, state = carry
        images = jax.tree.map(lambda x: x[batch], learn)
        updates, state = tx.update(jax.grad(loss_of)(params, images), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = js.checkpointed_scan(step, (params, tx.init(params)), batches)
    return loss_of(params, judge)


def main(tries: int = 5, updates: int = 300, seeds: int = 16, peaks: int = 8) -> np.ndarray:
    data = digits()
    half = len(data.valid.labels) // 2
    valid = jax.tree.map(lambda x: x[:half], data.valid)
    test = jax.tree.map(lambda x: x[half:], data.valid)
    on_valid = jax.tree_util.Partial(train, learn=data.train, judge=valid)
    on_test = jax.tree_util.Partial(train, learn=data.train, judge=test)

    cosines = js.grid(
        lambda peak, warmup, end: js.warmup_cosine(
            peak, total_steps=STEPS, warmup_steps=warmup, end_value=end * peak
        ),
        peak=np.geomspace(0.02, 1.0, peaks).round(3),
        warmup=[0, 5, 10, 20, 40],
        end=[0.0, 0.01, 0.1, 0.3],
    )
    steps = np.linspace(0, STEPS - 1, KNOTS).round().astype(int).tolist()
    begin = js.piecewise_linear([0.05] * KNOTS, steps)
    losses = []
    for key in range(tries):  # repeat both searches with other seeds
        best = js.sweep(on_valid, cosines, key=10 + key, seeds=seeds).best
        learned = js.learn_schedule(on_valid, begin, updates=updates, key=20 + key, seeds=seeds)
        found = js.sweep(on_test, [begin, best, learned.schedule], key=0, seeds=256)
        losses.append(found.mean)
        values = np.array2string(learned.schedule.values, precision=3)
        print(f"cosine {found.mean[1]:.4f}, {best}\nlearned {found.mean[2]:.4f}, knots {values}")

    behind = np.array(losses)[:, 2] - np.array(losses)[:, 1]
    print(f"initial schedule: {losses[0][0]:.4f}")
    print(f"learned - best cosine, {tries} tries: {behind.mean():+.4f} ± {error(behind):.4f}")
    clear = abs(behind.mean()) > 2 * error(behind)
    verdict = "better" if behind.mean() < 0 else "worse"
    print(f"the learned schedule is {verdict if clear else 'not significantly different'} here")
    return np.array(losses)


def error(x: np.ndarray) -> float:
    return x.std(ddof=1) / np.sqrt(len(x))


if __name__ == "__main__":
    main()
