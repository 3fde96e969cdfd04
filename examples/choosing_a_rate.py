"""Chooses a learning rate step by step: the script of docs/choosing_a_rate.md.

    python examples/choosing_a_rate.py [FOLDER]

prints every number of the guide and draws its pictures into FOLDER. It trains a Flax network on
scikit-learn's digits, with SGD with momentum, for 600 steps of 32 images.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from sklearn.datasets import load_digits

import jaxsched as js

STEPS, BATCH, VALID = 600, 32, 360
SGD = functools.partial(optax.sgd, momentum=0.9)


# 1. The problem: a network, a loss, random batches, and a whole run as one function.
class Network(linen.Module):
    @linen.compact
    def __call__(self, pixels):
        return linen.Dense(10)(linen.relu(linen.Dense(64)(pixels)))


def digits():
    """The training set and the validation set."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = jnp.asarray(pixels[order] / 16, jnp.float32), jnp.asarray(labels[order])
    return (pixels[VALID:], labels[VALID:]), (pixels[:VALID], labels[:VALID])


def loss(params, batch):
    logits = Network().apply({"params": params}, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def begin(key, images, times=1):
    """Parameters and batches of a run. The batches are `times` as large, and fewer."""
    first, order = jax.random.split(key)
    places = jax.random.randint(order, (STEPS // times, BATCH * times), 0, len(images[1]))
    return Network().init(first, images[0][:1])["params"], tuple(x[places] for x in images)


def train(schedule, key, data, times=1):
    """The validation loss after a run, and the optimizer state with the monitor."""
    learn, judge = data
    params, batches = begin(key, learn, times)
    tx = optax.chain(js.monitor(), js.inject(SGD, learning_rate=schedule))

    def step(carry, batch):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(gradients, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    return loss(params, judge), state


# 2. Find the stable range: a range test of eight seeds at once.
def range_test(data, folder):
    def one(key):
        return js.lr_range_test(loss, *begin(key, data[0]), SGD, low=1e-4, high=10.0)

    band = jax.vmap(one)(jax.random.split(jax.random.key(0), 8))
    print(band)
    for rule, rate in band.suggestions._asdict().items():
        print(f"  {rule:8} {rate:.3g}")
    if folder:
        band.plot(folder / "choosing_range.png")
    return band


# 3. Compare shapes: the bound ranks shapes and converts rates without training.
def shapes(peak=1.0):
    tenth, half = STEPS // 10, STEPS // 2
    return {
        "constant": js.constant(peak),
        "cosine": js.cosine(peak, 0.0, STEPS),
        "linear": js.linear(peak, 0.0, STEPS),
        "warmup, linear": js.warmup_linear(peak, total_steps=STEPS, warmup_steps=tenth),
        "hold, then linear": js.constant(peak, half) >> js.linear(peak, 0.0, half),
        "one_cycle": js.one_cycle(peak, total_steps=STEPS),
    }


def ranked(rate):
    linear = shapes()["linear"]
    rows = {
        name: (
            float(js.convex_bound(shape, total_steps=STEPS)),
            float(js.transfer_rate(rate, linear, shape, total_steps=STEPS)),
        )
        for name, shape in shapes().items()
    }
    for name, (bound, peak) in sorted(rows.items(), key=lambda row: row[1]):
        print(f"  {name:18} bound {bound:.4f}, peak {peak:.3g}")
    return rows


# 4. Train all shapes at seven peaks around the suggestion, four seeds each, in one program.
def swept(rate, data, folder):
    peaks = np.round(rate * 2.0 ** np.arange(-3, 4), 3)
    population = js.grid(lambda shape, peak: shapes(peak)[shape], shape=[*shapes()], peak=peaks)
    run = jax.tree_util.Partial(lambda s, k, data: train(s, k, data)[0], data=data)
    found = js.sweep(run, population, key=1, seeds=4)
    print(found.leaderboard(top=8))
    for shape, losses in zip(shapes(), found.mean.reshape(-1, len(peaks)), strict=True):
        print(f"  {shape:18} {np.nanmin(losses):.4f} at {peaks[np.nanargmin(losses)]}")
    if folder:
        found.plot(folder / "choosing_sweep.png")
    return found


# 5. Check the choice on eight new seeds, and print the diagnosis of the monitor.
def judged(schedules, data):
    run = jax.tree_util.Partial(train, data=data)
    found = js.sweep(run, list(schedules.values()), key=2, seeds=8)
    rows = {}
    for i, name in enumerate(schedules):
        states = jax.tree.map(lambda x, i=i: x[i], found.results)
        seen = [js.diagnose(jax.tree.map(lambda x, j=j: x[j], states)) for j in range(8)]
        rows[name] = found.mean[i], seen
        print(f"{name}: validation loss {found.mean[i]:.4f}\n{seen[0]}")
    return rows


# 6. Change the batch size: four times as large, for a quarter of the steps.
def larger(schedule, data):
    rows = {
        "the same rate": schedule,
        "sqrt rule": js.scale_with_batch(schedule, BATCH, 4 * BATCH, rule="sqrt"),
        "linear rule": js.scale_with_batch(schedule, BATCH, 4 * BATCH, rule="linear"),
    }
    run = jax.tree_util.Partial(functools.partial(train, times=4), data=data)
    found = js.sweep(run, [x.faster(4) for x in rows.values()], key=2, seeds=8)
    for name, scores in zip(rows, found.scores, strict=True):
        print(f"  {name:18} {scores.mean():.4f} ± {scores.std(ddof=1) / len(scores) ** 0.5:.4f}")
    return dict(zip(rows, found.mean, strict=True))


def main(folder=None):
    data = digits()
    print("# a range test of eight seeds")
    band = range_test(data, folder)
    print("# shapes by their bound, and a peak for each if linear decay is best at the rate found")
    bounds = ranked(band.rate)
    print("# the sweep")
    found = swept(band.rate, data, folder)
    print("# other seeds")
    candidates = {
        "the best of the sweep": found.best,
        "linear decay from the rate found": shapes(band.rate)["linear"],
        "a hundredth of that": shapes(band.rate / 100)["linear"],
        "ten times that": shapes(band.rate * 10)["linear"],
    }
    seen = judged(candidates, data)
    print("# the best of the sweep with batches four times as large, in a quarter of the steps")
    return band, bounds, found, seen, larger(found.best, data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
