"""Is a warmup from the loss as good as one of tuned length? The study of docs/rules/auto_warmup.md.

    python examples/auto_warmup.py [PICTURE] [--quick]

trains six networks with three optimizers, at eight peaks each, with five lengths of a fixed warmup
and with `auto_warmup()`. Its `ratio` was chosen before, on the digits and the text of
examples/adaptive_optimizers.py, which are not among the six.
"""

import argparse
from functools import partial

import adaptive_optimizers as others
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import jaxsched as js

STEPS, LENGTHS = 600, (0, 10, 30, 100, 300)
TUNING, SEEDS, TIMES = 3, 8, 4.0  # seeds for tuning, fresh seeds, and a peak far too high
WINDOW = np.arange(-3, 5)  # powers of 2 in a curve of eight peaks
AUTO, CONTROL = len(LENGTHS), len(LENGTHS) + 1  # ways of a run beside the lengths
OPTIMIZERS = {
    "SGD": (partial(optax.sgd, momentum=0.9), 0.02),
    "Adam": (optax.adam, 0.003),
    "Muon": (others.MUON, 0.02),
}


# 1. The networks. Muon is for matrices in layers called "hidden".
class Attention(nn.Module):
    """Two layers of a transformer that normalises after each sum, which is hard without warmup."""

    width: int = 32

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="embedding")(jax.nn.one_hot(x, others.BYTES))
        x = x + self.param("places", nn.initializers.normal(0.1), (x.shape[1], self.width))
        for n in range(2):
            q, k, v = (nn.Dense(self.width, name=f"hidden_{n}_{c}")(x) for c in "qkv")
            weights = jax.nn.softmax(q @ k.swapaxes(1, 2) / self.width**0.5)
            x = nn.LayerNorm()(x + nn.Dense(self.width, name=f"hidden_{n}_o")(weights @ v))
            inside = nn.relu(nn.Dense(2 * self.width, name=f"hidden_{n}_up")(x))
            x = nn.LayerNorm()(x + nn.Dense(self.width, name=f"hidden_{n}_down")(inside))
        return nn.Dense(others.BYTES, name="outputs")(x[:, -1])


class Recurrent(nn.Module):
    """A recurrent network that reads an image row by row."""

    width: int = 48

    @nn.compact
    def __call__(self, x):
        inputs, again = nn.Dense(self.width, name="inputs"), nn.Dense(self.width, name="hidden")
        h = jnp.zeros((len(x), self.width))
        for row in x.reshape(len(x), 8, 8).swapaxes(0, 1):
            h = jnp.tanh(inputs(row) + again(h))
        return nn.Dense(10, name="outputs")(h)


# 2. The tasks, in the form of the other study.
def digits():
    """The digits in three parts, without noise in their labels."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(labels))
    x, y = np.float32(pixels[order] / 16), labels[order]
    return [(x[part], y[part]) for part in np.split(np.arange(len(y)), [1000, 1400])]


def labelled(network):
    loss = optax.softmax_cross_entropy_with_integer_labels
    return lambda: others.Task(*digits(), loss, network, 32)


def autoencoder():
    """The pixels of a digit, through a bottleneck of eight numbers."""
    parts = [(x, x) for x, _ in digits()]
    return others.Task(*parts, optax.squared_error, others.Network((64, 8, 64), 64), 32)


def attention():
    """The next byte of a text. All runs are judged at once, so on fewer bytes."""
    task = others.text()._replace(network=Attention(), batch=16)
    valid, test = (
        tuple(x[::step][:1500] for x in part) for part, step in ((task.valid, 1), (task.test, 13))
    )
    return task._replace(valid=valid, test=test)


def density():
    """The density of a pixel given its neighbours. Its logarithm, and so the loss, has any sign."""

    def loss(outputs, y):
        return outputs[:, 1:] + 0.5 * jnp.square((y - outputs[:, :1]) * jnp.exp(-outputs[:, 1:]))

    return others.photo()._replace(loss=loss, network=others.Network((32, 32), 2))


TASKS = {
    "photo": others.photo,
    "density": density,
    "attention": attention,
    "recurrent": labelled(Recurrent()),
    "12 layers": labelled(others.Network((32,) * 12, 10)),
    "autoencoder": autoencoder,
}


# 3. A run: the test loss, the validation loss, and the first, last and mean factor.
def optimizer(name, way, peak):
    """A decay to zero behind a warmup of that way: a length, the rule, or a constant factor."""
    starts = [js.linear(1 / (n + 1), 1.0, n) >> js.constant(1.0) for n in LENGTHS]
    warmup = js.select(jnp.minimum(way, len(LENGTHS)), [*starts, js.constant(1.0)])
    rule = js.auto_warmup(ratio=jnp.where(way == AUTO, 3.0, 0.0))
    rate = peak * warmup * js.linear(1.0, 0.0, STEPS) * rule
    rates = {"adam_learning_rate": 0.15 * rate} if name == "Muon" else {}
    return js.inject(OPTIMIZERS[name][0], learning_rate=rate, **rates)


def train(task, name, way, peak, params, batches):
    tx = optimizer(name, way, peak)

    def loss(params, batch):
        return task.loss(task.network.apply({"params": params}, batch[0]), batch[1]).mean()

    def step(carry, batch):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(gradients, state, params, value=value)
        factor = js.hyperparams(state)["learning_rate"]
        return (optax.apply_updates(params, updates), state), factor

    first = loss(params, task.valid)
    (params, _), rates = jax.lax.scan(step, (params, tx.init(params)), batches)
    factors = rates[:-1] / (peak * js.linear(1.0, 0.0, STEPS)(jnp.arange(STEPS - 1)))
    return jnp.stack(
        [loss(params, task.test), loss(params, task.valid), first, factors[-1], factors.mean()]
    )


def started(task, key, seeds):
    first, order = jax.random.split(key)
    params = jax.vmap(task.network.init, (0, None))(
        jax.random.split(first, seeds), task.train[0][:1]
    )
    places = jax.random.randint(order, (seeds, STEPS, task.batch), 0, len(task.train[0]))
    return params["params"], tuple(data[np.asarray(places)] for data in task.train)


# 4. A pair of a task and an optimizer. Peaks and lengths are chosen on the tuning seeds.
def study(name, task, seeds=SEEDS):
    """The curves of eight peaks, what was chosen, and runs of fresh seeds at it and at four times.

    The runs are: the best fixed length, the rule, and a constant factor with the mean of the rule.
    """
    each = jax.vmap(partial(train, task, name), (None, None, 0, 0))
    run = jax.jit(jax.vmap(each, (0, 0, None, None)))
    tuning, fresh = (started(task, jax.random.key(k), n) for k, n in enumerate((TUNING, seeds)))
    centre, ways = OPTIMIZERS[name][1], np.arange(AUTO + 1)
    while True:  # until no chosen peak is at the edge of the curves
        peaks = centre * 2.0**WINDOW
        found = np.asarray(run(np.repeat(ways, 8), np.tile(peaks, len(ways)), *tuning))
        found = found.reshape(len(ways), 8, TUNING, -1)
        curves = np.nan_to_num(found[..., 1].mean(axis=2), nan=np.inf)
        best, fixed = curves.argmin(axis=1), int(curves[:AUTO].min(axis=1).argmin())
        if {best[fixed], best[AUTO]} <= set(range(1, 7)):
            break
        centre *= 4.0 if 7 in (best[fixed], best[AUTO]) else 0.25
    mean = found[AUTO, best[AUTO], :, 4].mean()
    chosen = np.array([fixed, AUTO, CONTROL]), peaks[best[[fixed, AUTO, AUTO]]] * [1, 1, mean]
    cells = np.tile(chosen[0], 2), np.concatenate([chosen[1], TIMES * chosen[1]])
    runs = np.asarray(run(*cells, *fresh)).reshape(2, 3, seeds, -1)
    return peaks, curves, chosen, runs


# 5. What is printed, and the picture.
def failed(runs):
    """Whether a run lost more than half of the way from its first loss to the best one."""
    best = np.nanmin(runs[0, ..., 0])
    return ~(runs[..., 0] < (best + runs[..., 2]) / 2)


def compared(row):
    """The losses of the chosen runs, and the difference of the rule and the fixed length."""
    runs = row[3]
    loss = np.where(failed(runs)[0], np.nan, runs[0, ..., 0])
    gap = loss[1] - loss[0]
    return loss, np.nanmean(gap), others.error(gap[~np.isnan(gap)])


def show(found):
    """A table of all pairs, and the counts below it."""
    print("# test loss at the own best peak: the best length, and the rule; and seeds that fail")
    print(f"{'':24}{'length: peak':>14}{'loss':>10}{'the rule':>16}{'final':>7}{'difference':>20}"
          f"{'fail: 1x':>10}{'4x: length':>12}{'rule':>6}{'control':>9}")  # fmt: skip
    within, better, worse, counts = 0, 0, 0, np.zeros((2, 3), int)
    for (task, name), row in found.items():
        loss, gap, error = compared(row)
        _, _, (ways, peaks), runs = row
        bad = failed(runs).sum(axis=-1)
        counts += bad
        within += gap <= error
        better, worse = better + (gap < -2 * error), worse + (gap > 2 * error)
        means = np.nanmean(loss, axis=-1)
        print(f"{task:13}{name:11}{f'{LENGTHS[ways[0]]}: {peaks[0]:.3g}':>14}{means[0]:10.4f}"
              f"{f'{peaks[1]:.3g}: {means[1]:.4f}':>16}{runs[0, 1, :, 3].mean():7.2f}"
              f"{f'{gap:+.4f} ± {error:.4f}':>20}{'{}, {}, {}'.format(*bad[0]):>10}"
              f"{bad[1, 0]:12}{bad[1, 1]:6}{bad[1, 2]:9}")  # fmt: skip
    pairs, each = len(found), runs.shape[2]
    print(f"the rule is at most one standard error worse in {within} of {pairs} pairs; beyond two, "
          f"it is better in {better} and worse in {worse}")  # fmt: skip
    print(f"of {pairs * each} runs fail at the own peak: {{}} with the length, {{}} with the rule, "
          "{} with the control; at four times: {}, {}, {}".format(*counts.flat))  # fmt: skip
    return within, better, worse, counts


def picture(found, file):
    """For each pair, the part of the fall of the loss that is missing, over the peak."""
    tasks, names = (list(dict.fromkeys(x)) for x in zip(*found, strict=True))
    shape = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, panels = plt.subplots(len(names), len(tasks), figsize=(9, 4.8), **shape)
    for (task, name), (peaks, curves, (_, chosen), runs) in found.items():
        panel = panels[names.index(name), tasks.index(task)]
        missing = (curves - curves.min()) / (runs[..., 2].mean() - curves.min())
        for k, length in enumerate(LENGTHS):
            style = {"color": str(0.75 - 0.18 * k), "lw": 1, "label": f"warmup of {length} steps"}
            panel.plot(peaks / chosen[0], missing[k], **style)
        panel.plot(peaks / chosen[0], missing[AUTO], color="#d55e00", lw=2, label="auto_warmup()")
        panel.set(xscale="log", xlim=(0.05, 20), ylim=(-0.02, 0.5))
        panel.grid(alpha=0.3)
        panel.set_title(task if name == names[0] else "", fontsize=10)
        panel.set_ylabel(name if task == tasks[0] else "")
    figure.supxlabel(
        "peak, as a multiple of the best one with a warmup of fixed length", fontsize=10
    )
    figure.supylabel("missing part of the fall of the validation loss", fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(file, dpi=150)


def main(file=None, quick=False):
    tasks, names = (["recurrent"], ["SGD"]) if quick else (TASKS, OPTIMIZERS)
    found = {}
    for key in tasks:
        task = TASKS[key]()
        for name in names:
            found[key, name] = study(name, task, 4 if quick else SEEDS)
    counts = show(found)
    if file:
        picture(found, file)
    return found, counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="the picture")
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes")
    main(**vars(parser.parse_args()))
