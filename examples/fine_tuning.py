"""Fine-tunes a pretrained transformer in many ways: the script of docs/fine_tuning.md.

    python examples/fine_tuning.py [--cache FOLDER] [--folder FOLDER] [--quick]

pretrains a small byte-level transformer on Python sources, then trains it to name the exception
in `raise NAME(...)`. It prints every number of the guide and draws its picture into FOLDER.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pretraining
from flax import linen as nn
from pretraining import BATCH, BEFORE, NAMES, Body

import jaxsched as js

# 1. Fine-tuning. Rates, decays and lengths are arguments, so most methods share one program.
GROUPS = ("head", "block_1", "block_0", "embed")
DEPTH = ["embed", "block_0", ("block_1", "norm"), "head"]
group = js.by_path(lambda path: path.split("/")[0].replace("norm", "block_1"))
kind = js.by_path(lambda path: "vector" if path.endswith(("bias", "scale")) else "matrix")


def optimizer(rates, layer_decay=1.0, vector_decay=0.0):
    def of(label):
        return lambda params: jax.tree.map(lambda x: x == label, kind(params))

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.01, mask=of("matrix")),
        optax.add_decayed_weights(vector_decay, mask=of("vector")),
        js.layerwise(decay=layer_decay, depth=DEPTH),
        js.per_group(group, rates),
    )


def logits(params, windows):
    """A linear head on the state before the mask, and on the mean of the states from there on."""
    params = dict(params)
    head = params.pop("head")
    x = Body().apply({"params": params}, windows)[0]
    x = jnp.concatenate([x[:, BEFORE - 1], x[:, BEFORE:].mean(1)], axis=-1)
    return nn.Dense(len(NAMES)).apply({"params": head}, x)


def log_loss(params, data):
    given = logits(params, data[0])
    return optax.softmax_cross_entropy_with_integer_labels(given, data[1]).mean()


@jax.jit
def fine_tune(params, order, steps, data, rates, **decays):
    tx = optimizer(rates, **decays)

    def step(t, carry):
        params, state = carry
        batch = jax.tree.map(lambda x: x[order[t]], data)
        updates, state = tx.update(jax.grad(log_loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]


@jax.jit
def judge(params, data):
    """The accuracy in percent and the log loss."""
    given = jax.lax.map(lambda x: logits(params, x[None])[0], data[0], batch_size=32)
    losses = optax.softmax_cross_entropy_with_integer_labels(given, data[1])
    return jnp.stack([100 * (given.argmax(-1) == data[1]).mean(), losses.mean()])


def begin(body, seed, labels, steps, data):
    """The seed draws the new head, the labelled examples, and their order."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(data[1]))[:labels]
    order = np.concatenate([rng.permutation(chosen) for _ in range(1 + steps * BATCH // labels)])
    body = pretraining.init(jax.random.key(seed)) if body is None else body
    wide = jnp.zeros((1, 2 * body["norm"]["scale"].size))
    head = nn.Dense(len(NAMES)).init(jax.random.key(seed), wide)["params"]
    return {**body, "head": head}, jnp.asarray(order[: steps * BATCH].reshape(steps, BATCH))


# 2. The methods: the three ways, and the recipe with one change each. The peaks are chosen by the
# validation packages. A frozen body needs higher peaks than one that is trained.
PEAKS = {
    "from scratch": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "frozen body": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "the recipe": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
}


def same(rate):
    return dict.fromkeys(GROUPS, rate)


def methods(peaks, steps):
    scratch, frozen, peak = (peaks[name] for name in PEAKS)
    rate = js.bert(peak, total_steps=steps)
    found = {
        "from scratch": {"rates": same(js.bert(scratch, total_steps=steps))},
        "frozen body": {
            "rates": {**same(js.constant(0.0)), "head": js.bert(frozen, total_steps=steps)},
        },
        "the recipe": {"rates": same(rate)},
        "constant rate": {"rates": same(js.constant(peak))},
        "linear decay without warmup": {"rates": same(js.linear(peak, 0.0, steps))},
        "cosine decay": {"rates": same(js.bert(peak, total_steps=steps, decay=js.cosine))},
        "layer-wise decay of 0.8": {"rates": same(rate), "layer_decay": 0.8},
        "layer-wise decay of 0.5": {"rates": same(rate), "layer_decay": 0.5},
        "body at a tenth of the rate": {"rates": {**same(0.1 * rate), "head": rate}},
        "gradual unfreezing": {"rates": js.unfreezing(rate, GROUPS, every=steps // 10)},
        "weight decay on everything": {"rates": same(rate), "vector_decay": 0.01},
    }
    # In a stack all schedules have one structure, so all methods share one program.
    stacked = js.stack([x["rates"] for x in found.values()])
    for i, method in enumerate(found.values()):
        method["rates"] = jax.tree.map(lambda x, i=i: x[i], stacked)
    return found


# 3. The study.
class Study(NamedTuple):
    learn: tuple
    valid: tuple
    test: tuple
    body: dict
    lengths: dict  # number of labels: steps of a run

    def run(self, name, method, labels, seed, data):
        steps, longest = self.lengths[labels], max(self.lengths.values())
        body = None if name == "from scratch" else self.body
        params, order = begin(body, seed, labels, steps, self.learn)
        order = jnp.pad(order, ((0, longest - steps), (0, 0)))  # one shape is one program
        decays = {"layer_decay": 1.0, "vector_decay": 0.0}
        return judge(fine_tune(params, order, steps, self.learn, **{**decays, **method}), data)

    def scores(self, names, peaks, labels, seeds, data):
        """The accuracy and the log loss of each method: (seeds, 2)."""
        known = methods(peaks, self.lengths[labels])
        return {
            name: np.array([self.run(name, known[name], labels, seed, data) for seed in seeds])
            for name in names
        }

    def chosen(self, labels, seeds, those):
        """The peak with the lowest validation loss, for each of the three ways."""
        peaks = {}
        for name, tried in PEAKS.items():
            tried = tried[those]
            losses = [
                self.scores([name], dict.fromkeys(PEAKS, x), labels, seeds, self.valid)[name][:, 1]
                for x in tried
            ]
            means = np.mean(losses, axis=1)
            peaks[name] = tried[means.argmin()]
            cells = (f"{loss:.3f} at {peak:<6}" for loss, peak in zip(means, tried, strict=True))
            print(f"  {labels:5} labels, {name:12} ", *cells, flush=True)
        return peaks


# 4. A run with few labels that is three times too long, and validates every six steps.
@jax.jit
def watched(params, order, learn, valid, rate):
    tx = js.keep_best(optax.chain(js.monitor(), optimizer(same(rate))), metric="validation")

    def step(carry, rows):
        params, state = carry
        batch = jax.tree.map(lambda x: x[rows], learn)
        loss, grads = jax.value_and_grad(log_loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    def six(carry, rows):
        params, state = carry
        loss = log_loss(params, valid)
        carry, _ = jax.lax.scan(step, (params, js.observe(state, validation=loss)), rows)
        return carry, loss

    carry = params, tx.init(params)
    return jax.lax.scan(six, carry, order.reshape(-1, 6, BATCH))


def watch(study, peak, seeds):
    """The last and the best parameters on the test data: (seeds, 2, 2)."""
    print("# 100 labels and three times as many steps, validated every six steps")
    found, steps = [], 3 * study.lengths[100]
    for seed in seeds:
        params, order = begin(study.body, seed, 100, steps, study.learn)
        rate = js.bert(peak, total_steps=steps)
        (last, state), losses = watched(params, order, study.learn, study.valid, rate)
        found.append([judge(x, study.test) for x in (last, js.best_params(state))])
        best = int(losses.argmin())
        print(f"  seed {seed}: validation loss {losses[best]:.3f} at step {6 * best}, ", end="")
        print(f"{losses[-1]:.3f} at step {6 * len(losses) - 6}")
    print(js.diagnose(state))
    found = np.array(found)
    report("test data", {"the last": found[:, 0], "the best": found[:, 1]})
    report("difference", {"the best - the last": found[:, 1] - found[:, 0]}, compared=True)
    return found


def shown(x, compared):
    error = x.std(ddof=1) / len(x) ** 0.5
    text = f"{x.mean():{'+' if compared else ''}.3f} ± {error:.3f}"
    return text + (" *" if abs(x.mean()) > 2 * error else "  ") * compared


def report(title, rows, compared=False):
    """Print means over the seeds, and a star where a difference is beyond two errors."""
    print(f"  {title:30}{'accuracy':20}log loss")
    for name, found in rows.items():
        accuracy, loss = (shown(x, compared) for x in found.T)
        print(f"    {name:28}{accuracy:20}{loss}".rstrip(), flush=True)


def always(learned, tested):
    """The accuracy of the most frequent class, and the log loss of the shares of the classes."""
    shares = (np.bincount(learned, minlength=len(NAMES)) + 1) / (len(learned) + len(NAMES))
    accuracy, loss = 100 * np.mean(tested == shares.argmax()), -np.log(shares[tested]).mean()
    print(f"  the shares of the training labels: accuracy {accuracy:.3f}, log loss {loss:.3f}")
    return accuracy


# 5. The picture.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def picture(results, largest, file):
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.2), layout="constrained")
    labels = list(results)
    for n, name in enumerate(reversed(PEAKS)):
        found = np.array([results[x][name][:, 0] for x in labels])
        error = found.std(1, ddof=1) / found.shape[1] ** 0.5
        left.errorbar(labels, found.mean(1), 2 * error, color=COLOURS[n], marker="o", label=name)
    left.axhline(largest, color="grey", ls=":", label="always the largest class")
    left.set(xscale="log", xlabel="labelled examples", ylabel="test accuracy, %", ylim=(40, 64))
    left.set_xticks(labels, labels)
    left.minorticks_off()
    left.legend(frameon=False, loc="lower right")
    names = [x for x in results[labels[0]] if x not in PEAKS]
    for n, x in enumerate(labels):
        found = np.array([results[x][name] - results[x]["the recipe"] for name in names])[..., 0]
        error = found.std(1, ddof=1) / found.shape[1] ** 0.5
        places = np.arange(len(names)) + 0.24 * (n - 1)
        style = {"fmt": "o", "ms": 4, "color": COLOURS[n + 2], "label": f"{x} labels"}
        right.errorbar(found.mean(1), places, xerr=2 * error, **style)
    right.axvline(0, color="grey", lw=1)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlim=(-7, 4), xlabel="accuracy beside the recipe, points")
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.1, 1.13), ncols=3)
    figure.savefig(file, dpi=150)


def main(quick=False, cache=None, folder=None):
    (learn, valid, test), body = pretraining.main(cache or tempfile.mkdtemp(), quick)
    every = len(learn[1])
    # 20 epochs, 4 epochs and 1 epoch.
    lengths = {100: 12} if quick else {100: 62, 1000: 125, every: every // BATCH}
    study, seeds = Study(learn, valid, test, body, lengths), range(2 if quick else 5)
    print("# the validation loss at several peaks")
    those = slice(2, 3) if quick else slice(None)
    peaks = {labels: study.chosen(labels, [10], those) for labels in lengths}
    print("# test accuracy in percent, and log loss, mean ± standard error")
    largest = always(learn[1], test[1])
    results = {}
    for labels in lengths:
        results[labels] = study.scores(PEAKS, peaks[labels], labels, seeds, study.test)
        report(f"{labels} labels", results[labels])
    long = None if quick else watch(study, peaks[100]["the recipe"], seeds)
    print("# differences to the recipe on the same seeds; * more than two standard errors")
    for labels in lengths:
        names = [x for x in methods(peaks[labels], 100) if x not in PEAKS][:: 6 if quick else 1]
        results[labels] |= study.scores(names, peaks[labels], labels, seeds, study.test)
        base = results[labels]["the recipe"]
        others = {x: found - base for x, found in results[labels].items() if x != "the recipe"}
        report(f"{labels} labels", others, compared=True)
    if folder:
        picture(results, largest, Path(folder) / "fine_tuning.png")
    return results, long


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="take seconds, and show nothing")
    parser.add_argument("--cache", help="the folder of the pretrained parameters")
    parser.add_argument("--folder", help="the folder for the picture")
    main(**vars(parser.parse_args()))
