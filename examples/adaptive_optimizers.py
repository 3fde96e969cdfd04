"""Does an adaptive optimizer need a schedule? The study of docs/adaptive_optimizers.md.

    python examples/adaptive_optimizers.py [PICTURE] [--quick]

trains nine optimizers with four schedules on three tasks, prints every number of the page and draws
its picture. All runs of one optimizer on one task share a program.
"""

import argparse
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn
from scipy.stats import sem
from sklearn.datasets import load_digits, load_sample_image

import jaxsched as js

STEPS, CHECKS = 900, 30  # of a run, and the validations in it, which the plateau rule sees
TUNED, RATES = 4, 6  # tuning seeds, and rates in a window of the grid
RUNS, BYTES = TUNED * RATES, 128  # runs in one call of the program, and the size of the alphabet


# 1. The optimizers, with optax's defaults where nothing is said, and a rate to begin with.
def muon(path):
    """Muon is for the hidden matrices. Embedding, output layer and biases are left to Adam."""
    inside = "hidden" in path and path.endswith("kernel")
    return optax.contrib.MuonDimensionNumbers() if inside else None


MUON = partial(optax.contrib.muon, muon_weight_dimension_numbers=js.by_path(muon))
OPTIMIZERS = {
    "SGD": (optax.sgd, 0.1),
    "momentum": (partial(optax.sgd, momentum=0.9), 0.02),
    "RMSProp": (optax.rmsprop, 0.001),
    "AdaGrad": (optax.adagrad, 0.05),
    "AdaDelta": (optax.adadelta, 1.0),
    "Adam": (optax.adam, 0.003),
    "AdamW": (partial(optax.adamw, weight_decay=0.1), 0.003),
    "Lion": (optax.lion, 0.0005),
    "Muon": (MUON, 0.02),
}
SCHEDULES = ["constant", "linear", "warmup, cosine", "plateau"]


def optimizer(name, which, peak, steps):
    """An optimizer with the schedule of that number. The rule cuts only for the last of them."""
    cosine = js.warmup_cosine(peak, total_steps=steps, warmup_steps=steps // 10)
    shapes = [js.constant(peak), js.linear(peak, 0.0, steps), cosine, js.constant(peak)]
    lowest = jnp.where(which == 3, 0.0, 1.0)
    rate = js.select(which, shapes) * js.reduce_on_plateau(patience=2, factor=0.5, min_scale=lowest)
    rates = {"adam_learning_rate": 0.15 * rate} if name == "Muon" else {}
    return js.inject(OPTIMIZERS[name][0], learning_rate=rate, **rates)


# 2. The network.
class Network(nn.Module):
    """Dense layers, with an embedding in front if the inputs are bytes."""

    hidden: tuple
    outputs: int
    embedding: int = 0  # its width

    @nn.compact
    def __call__(self, x):
        if self.embedding:  # as a product, whose gradient is faster than that of a look-up
            x = nn.Dense(self.embedding, use_bias=False, name="embedding")(jax.nn.one_hot(x, BYTES))
            x = x.reshape(len(x), -1)
        for n, size in enumerate(self.hidden):
            x = nn.relu(nn.Dense(size, name=f"hidden_{n}")(x))
        return nn.Dense(self.outputs, name="outputs")(x)


# 3. The tasks: inputs and targets for training, validation and test, and a loss.
class Task(NamedTuple):
    train: tuple
    valid: tuple
    test: tuple
    loss: Callable  # of the outputs and the targets, for each example
    network: nn.Module
    batch: int


def digits(noise=0.3, copies=100):
    """Handwritten digits. Of the labels for training, 30 % are drawn at random, anew in each copy.

    Without noise a network fits all digits, the gradients vanish, and a decay has hardly any noise
    left to average away: see benchmarks/ranking.py. The loss is above the lowest possible one.
    """
    rng = np.random.default_rng(0)
    pixels, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    x, y = np.float32(pixels[order] / 16), labels[order]
    learn, many = np.tile(x[:1000], (copies, 1)), np.tile(y[:1000], copies)
    many = np.where(rng.random(len(many)) < noise, rng.integers(10, size=len(many)), many)
    expected = np.eye(10, dtype=np.float32)[y] * (1 - noise) + noise / 10
    valid, test = ((x[part], expected[part]) for part in (slice(1000, 1400), slice(1400, None)))

    def loss(logits, y):
        return optax.softmax_cross_entropy(logits, y) - jax.scipy.special.entr(y).sum(axis=-1)

    return Task(
        (learn, np.eye(10, dtype=np.float32)[many]), valid, test, loss, Network((48, 48), 10), 16
    )


def text(context=8):
    """The next byte of the sources of Python's standard library, from the eight before it.

    Whole files are for training, validation or test. All bytes above 126 count as one.
    """
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    order = np.random.default_rng(0).permutation(len(files))
    read = [b"\n".join(files[n].read_bytes() for n in order[k::10]) for k in range(10)]

    def pairs(part, every):
        codes = np.minimum(np.frombuffer(part, np.uint8), BYTES - 1)
        windows = np.lib.stride_tricks.sliding_window_view(codes, context + 1)[::every]
        return windows[:, :-1], windows[:, -1].astype(np.int32)

    parts = pairs(b"".join(read[2:]), 1), pairs(read[0], 601), pairs(read[1], 53)
    loss = optax.softmax_cross_entropy_with_integer_labels
    return Task(*parts, loss, Network((64,), BYTES, 12), 32)


def photo():
    """The brightness of a pixel of a photograph, from 24 pixels above it and to its left.

    The regressions bundled with scikit-learn have 442 rows and 20 rows, too few to tell schedules
    apart. A photograph has 270,000. The loss is the part of the variance that is not explained.
    """
    image = load_sample_image("china.jpg").mean(axis=2)
    image = np.float32((image - image.mean()) / image.std())
    patches = np.lib.stride_tricks.sliding_window_view(image, (4, 7))
    band = np.arange(len(patches)) // 8 % 5  # bands of eight rows, of which three train

    def pairs(rows, every):
        chosen = patches[rows].reshape(-1, 28)[::every]
        return chosen[:, :24], chosen[:, 24:25]

    parts = pairs(band < 3, 1), pairs(band == 3, 31), pairs(band == 4, 7)
    return Task(*parts, optax.squared_error, Network((32, 32), 1), 32)


TASKS = {"digits": digits, "text": text, "photo": photo}


# 4. A run. The plateau rule sees the validation loss after each of 30 parts.
def started(task, steps, key, seeds):
    """What `RUNS` runs begin with. Random numbers are drawn here because they compile slowly."""
    first, order = jax.random.split(key)
    begin = jax.vmap(task.network.init, (0, None))
    params = begin(jax.random.split(first, seeds), task.train[0][:1])["params"]
    shape = seeds, CHECKS, steps // CHECKS, task.batch
    places = np.asarray(jax.random.randint(order, shape, 0, len(task.train[0])))
    every = np.tile(np.arange(seeds), RUNS // seeds)
    batches = tuple(data[places[every]] for data in task.train)
    return jax.tree.map(lambda x: x[every], params), batches, (task.valid, task.test)


def train(task, name, which, peak, start):
    """The losses of a run on the validation data and on the test data."""
    params, batches, (valid, test) = start
    tx = optimizer(name, which, peak, CHECKS * batches[0].shape[1])

    def loss(params, batch):
        outputs = task.network.apply({"params": params}, batch[0])
        return task.loss(outputs, batch[1]).mean()

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    def part(carry, batches):
        params, state = jax.lax.scan(step, carry, batches)[0]
        return (params, js.observe(state, value=loss(params, valid))), None

    (params, _), _ = jax.lax.scan(part, (params, tx.init(params)), batches)
    return jnp.stack([loss(params, valid), loss(params, test)])


# 5. The best rate by the validation loss of the tuning seeds, then the test loss on other seeds.
def tuned(run, which, first, start):
    """The best rate for a schedule. The grid grows until the best rate is not at its edge."""
    found, window = {}, range(-3, RATES - 3)
    while True:
        rates = first * 2.0 ** np.repeat(window, TUNED)
        losses = run(np.full(RUNS, which), rates, start)[:, 0].reshape(RATES, TUNED)
        found |= dict(zip(window, np.nan_to_num(losses.mean(axis=1), nan=np.inf), strict=True))
        best = min(found, key=found.get)
        if min(found) < best < max(found):
            return first * 2.0**best, found[best]
        low = best - RATES if best == min(found) else best + 1
        window = range(low, low + RATES)


def study(name, task, starts):
    """For the four schedules: the best rates, their validation losses, and their test losses."""
    run = jax.jit(jax.vmap(partial(train, task, name), (0, 0, (0, 0, None))))
    rates, valid = np.array([tuned(run, k, OPTIMIZERS[name][1], starts[0]) for k in range(4)]).T
    each = [np.repeat(x, RUNS // 4) for x in (np.arange(4), rates)]
    losses = [run(*each, start)[:, 1].reshape(4, -1) for start in starts[1:]]
    return rates, valid, np.hstack(losses)


# 6. What is printed, and the picture.
error = partial(sem, axis=-1)  # the standard error of a mean over seeds


def percents(row):
    """The gains over the constant rate, by seed. The last is of the best schedule in validation."""
    _, valid, losses = row
    gain = 100 * (losses[0] - losses[1:]) / losses[0].mean()
    return np.concatenate([gain, gain[[np.argmin(valid[1:])]]])


def show(title, columns, rows, width=26):
    print(f"# {title}\n{'':8}" + "".join(f"{name:>{width}}" for name in columns))
    for name, cells in rows.items():
        print(f"{name:8}" + "".join(f"{cell:>{width}}" for cell in cells))


def losses_of(row):
    for rate, x in zip(row[0], row[2], strict=True):
        lost, kept = f"{np.isnan(x).sum()} of {len(x)} diverged", f"{x.mean():.4f} ± {error(x):.4f}"
        yield f"{rate:.2g}: {lost if np.isnan(x).any() else kept}"


def best_of(row):
    gain, best = percents(row)[3], SCHEDULES[1 + np.argmin(row[1][1:])]
    return f"{best}: {gain.mean():4.1f} ± {error(gain):.1f}"


def summary(found):
    """How often a gain differs from 0 by more than two standard errors."""
    rows = [row for rows in found.values() for row in rows.values()]
    every = np.array([percents(row) for row in rows])
    mean, twice = every.mean(axis=-1), 2 * error(every)
    counts = np.array([mean > twice, mean < -twice, np.isnan(mean)]).sum(axis=1)
    gain = np.median(np.nan_to_num(mean, nan=-np.inf), axis=0)
    print(f"# the schedules in {len(rows)} pairs of an optimizer and a task: counts and medians")
    for name, counted, x in zip([*SCHEDULES[1:], "the best"], counts.T, gain, strict=True):
        print(f"{name:15}better {{}}, worse {{}}, diverged {{}}, gain {x:.1f} %".format(*counted))
    times = np.median([row[0][1:] / row[0][0] for row in rows], axis=0)
    print("best rate as a multiple of the constant rate: " + ", ".join(f"{x:.3g}" for x in times))
    return mean, twice


def picture(found, file):
    figure, panels = plt.subplots(1, 3, figsize=(7, 4.6), sharey=True, layout="constrained")
    for panel, (task, rows) in zip(panels, found.items(), strict=True):
        panel.axvline(0, color="0.6", lw=1)
        for k, colour in enumerate(("#0072b2", "#e69f00", "#009e73")):
            each = np.array([percents(row)[k] for row in rows.values()])
            places, bars = np.arange(len(rows)) + 0.22 * (k - 1), 2 * error(each)
            style = {"fmt": "o", "ms": 3.5, "lw": 1.3, "color": colour, "label": SCHEDULES[1 + k]}
            panel.errorbar(each.mean(axis=1), places, xerr=bars, **style)
        panel.grid(axis="x", alpha=0.3)
        panel.set(title=task, yticks=range(len(rows)), yticklabels=[*rows])
    panels[0].invert_yaxis()
    figure.supxlabel("reduction of the test loss of a constant rate, in percent", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(file, dpi=200)


def main(file=None, quick=False):
    names, tasks = (["AdaGrad", "Adam"], ["digits"]) if quick else (OPTIMIZERS, TASKS)
    steps, seeds = (300, [TUNED, RUNS // 4]) if quick else (STEPS, [TUNED, *[RUNS // 4] * 3])
    mapped = map if quick else ThreadPoolExecutor(2).map  # two programs compile and run at a time
    found = {}
    for key in tasks:
        task = TASKS[key]()
        starts = [started(task, steps, jax.random.key(k), n) for k, n in enumerate(seeds)]
        rows = mapped(partial(study, task=task, starts=starts), names)
        found[key] = dict(zip(names, rows, strict=True))
        shown = {name: losses_of(row) for name, row in found[key].items()}
        show(f"{key}: best rate, and test loss ± standard error", SCHEDULES, shown)
    shown = {name: [best_of(rows[name]) for rows in found.values()] for name in names}
    show("the gain of the best schedule in percent ± standard error", found, shown, 28)
    if file:
        picture(found, file)
    return found, *summary(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="the picture")
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes")
    main(**vars(parser.parse_args()))
