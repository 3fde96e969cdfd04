"""What are averages of the parameters worth? The study of docs/averages.md.

    python examples/averages.py [PICTURE] [--quick]

compares the merges of one run at a constant rate with a tuned cosine for each of five horizons. It
also prints what a merge misses with decoupled weight decay.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from adaptive_optimizers import TASKS
from scipy import stats

import jaxsched as js
from jaxsched._look._colours import BLUE, GREY, ORANGE, VERMILION

HORIZONS = [300, 600, 1200, 2400, 4800]
WARMUP, PART = 30, 30  # steps of every warmup, and steps in one call of a program
TUNED, PEAKS = 4, 6  # tuning seeds, and peaks in a window of the grid
RUNS = TUNED * PEAKS  # runs in one call of a program, and seeds of the report

# 1. The optimizers, the tasks of docs/adaptive_optimizers.md, and a peak to begin with.
OPTIMIZERS = {
    "AdamW": partial(optax.adamw, weight_decay=0.1),
    "momentum": partial(optax.sgd, momentum=0.9),
}
PAIRS = {
    ("AdamW", "digits"): 0.012,
    ("AdamW", "text"): 0.012,
    ("AdamW", "photo"): 0.012,
    ("momentum", "digits"): 0.04,
    ("momentum", "text"): 0.08,
    ("momentum", "photo"): 0.02,
}


# 2. The averages. The decay of a merge is relative to the constant rate.
def late(curve, share):
    """A decay over the last part of a run: the share, and a schedule for a horizon."""
    return share, lambda n: js.constant(1.0, n - n // share) >> curve(1.0, 0.0, n // share)


SHAPES = {
    "linear, last fifth": late(js.linear, 5),
    "linear, last half": late(js.linear, 2),
    "1-sqrt, last fifth": late(js.one_minus_sqrt, 5),
}
KINDS = ["last", *SHAPES, "exponential", "uniform"]


def averages(horizons):
    """Transforms that keep all averages. Each shape needs its own, for a horizon is a name."""
    for _, shape in SHAPES.values():
        yield js.average(optax.identity(), [js.merged_decay(shape(n)) for n in horizons])
    half_life = js.linear(1.0, horizons[-1] / 20, horizons[-1])  # a twentieth of the steps so far
    running = [js.exponential_average(half_life), js.uniform_average(WARMUP)]
    yield js.average(optax.identity(), running)


def offered(carry, horizon):
    """The parameters of each kind that a run at a constant rate has at a horizon."""
    params, (_, *merging, running) = carry
    merged = [js.average_at(state, horizon) for state in merging]
    names = "exponential_average", "uniform_average"
    return [params, *merged, *(js.averaged_params(running, name) for name in names)]


# 3. Many runs in one program. Runs with the same seed have the same parameters and batches.
class Start(NamedTuple):
    params: dict  # of each run
    places: np.ndarray  # of its examples: run, step, example


def started(task, longest, seeds):
    shape, size = (longest, task.batch), len(task.train[0])
    places = np.stack([np.random.default_rng(n).integers(size, size=shape) for n in seeds])
    every = np.tile(np.arange(len(seeds)), RUNS // len(seeds))
    keys = jax.vmap(jax.random.key)(np.asarray(seeds)[every])
    params = jax.vmap(task.network.init, (0, None))(keys, task.train[0][:1])["params"]
    return Start(params, places[every])


def trainer(task, loss, optimizer):
    """A function that trains all runs from one step to another with `optimizer(peak, horizon)`."""

    def part(peak, horizon, carry, batches):
        tx = optimizer(peak, horizon)

        def step(carry, batch):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, batches)[0]

    advance = jax.jit(jax.vmap(part, (0, None, 0, 0)))
    begin = jax.vmap(lambda params: optimizer(0.1, HORIZONS[-1]).init(params))

    def train(peaks, start, horizon, first=0, last=None, carry=None):
        carry = (start.params, begin(start.params)) if carry is None else carry
        for t in range(first, last or horizon, PART):
            batches = tuple(x[start.places[:, t : t + PART]] for x in task.train)
            carry = advance(peaks, horizon, carry, batches)
        return carry

    return train


# 4. The best peak by the validation loss of the tuning seeds, then the test loss on other seeds.
def tuned(run, first, score, found):
    """The best peak. The grid grows until the best is not at its edge."""
    window = range(-PEAKS // 2, PEAKS // 2)
    while True:
        if not found.keys() & set(window):
            peaks = first * 2.0 ** np.repeat(window, TUNED)
            losses = run(peaks)
            means = losses.reshape(*losses.shape[:-1], PEAKS, TUNED).mean(axis=-1)
            found |= dict(zip(window, np.moveaxis(means, -1, 0), strict=True))
        best = min(found, key=lambda k: score(found[k]))
        if min(found) < best < max(found):
            return first * 2.0**best, found[best]
        low = best - PEAKS if best == min(found) else best + 1
        window = range(low, low + PEAKS)


def study(pair, task, horizons, seeds):
    """The test losses by kind, each with the axes horizon and seed, and what was chosen."""
    (name, _), first = pair, PAIRS[pair]

    def loss(params, batch):
        return task.loss(task.network.apply({"params": params}, batch[0]), batch[1]).mean()

    def optimizer(rate, *kept):
        return optax.chain(js.inject(OPTIMIZERS[name], learning_rate=rate), *kept)

    def constant(peak, horizon, decay=lambda n: js.constant(1.0), kept=()):
        return optimizer(js.warmup_constant(peak, warmup_steps=WARMUP) * decay(horizon), *kept)

    def cosine(peak, horizon):
        return optimizer(js.warmup_cosine(peak, total_steps=horizon, warmup_steps=WARMUP))

    judged = jax.jit(jax.vmap(loss, (0, None)))
    tuning, report = (started(task, horizons[-1], numbers) for numbers in seeds)
    stable = trainer(task, loss, lambda *x: constant(*x, kept=averages(horizons)))
    whole = trainer(task, loss, cosine)

    def merging(peaks, start, data, stops=()):
        """The losses by horizon, kind and run, and the run itself at some steps."""
        losses, seen, carry, at = [], {}, None, 0
        for stop in sorted({*horizons, *stops}):
            carry = seen[stop] = stable(peaks, start, stop, at, stop, carry)
            at = stop
            if stop in horizons:
                kinds = jax.vmap(partial(offered, horizon=stop))(carry)
                losses.append([judged(params, data) for params in kinds])
        return np.nan_to_num(losses, nan=np.inf), seen

    def ending(peaks, start, data, n):
        return np.nan_to_num(judged(whole(peaks, start, n)[0], data), nan=np.inf)

    # One peak and one shape for all horizons, by the mean of the logarithm of the loss.
    over, grid = (lambda row: np.log(row).mean(axis=0)), {}
    run = partial(merging, start=tuning, data=task.valid)
    own, _ = tuned(lambda peaks: run(peaks)[0], first, lambda row: over(row)[0], grid)
    merges = slice(1, 1 + len(SHAPES))
    peak, row = tuned(lambda peaks: run(peaks)[0], first, lambda row: over(row)[merges].min(), grid)
    scores = over(row)[merges]
    shape = [*SHAPES][np.argmin(scores)]
    share, decay = SHAPES[shape]
    cosines = [
        tuned(partial(ending, start=tuning, data=task.valid, n=n), first, np.max, {})[0]
        for n in horizons
    ]

    branches = [n - n // share for n in horizons]
    losses, seen = merging(np.full(RUNS, peak), report, task.test, branches)
    losses = dict(zip(KINDS, np.moveaxis(losses, 1, 0), strict=True))
    losses["merge"] = losses[shape]
    losses["last, own peak"] = losses["last"]
    if own != peak:
        losses["last, own peak"] = merging(np.full(RUNS, own), report, task.test)[0][:, 0]
    tests = zip(cosines, horizons, strict=True)
    losses["cosine"] = np.stack([ending(np.full(RUNS, p), report, task.test, n) for p, n in tests])
    # A branch of the same run, whose rate really decays.
    decaying, real = trainer(task, loss, partial(constant, decay=decay)), []
    for n, begin in zip(horizons, branches, strict=True):
        params, state = seen[begin]
        carry = decaying(np.full(RUNS, peak), report, n, begin, n, (params, state[:1]))
        real.append(judged(carry[0], task.test))
    losses["real decay"] = np.stack(real)
    shapes = dict(zip(SHAPES, 100 * np.expm1(scores - scores.min()), strict=True))
    return losses, {"peak": peak, "own": own, "shape": shape, "cosines": cosines, "shapes": shapes}


# 5. With decoupled weight decay a merge is not the run that decays, with fixed gradients either.
def decoupled(weight_decay, rate, steps=1000):
    """The distances of the merge and of the last iterate to the run that decays, in percent."""
    gradients = jax.random.normal(jax.random.key(0), (steps, 1000))
    start = jax.random.normal(jax.random.key(1), (1000,))
    decay = late(js.linear, 5)[1](steps)

    def run(schedule):
        adamw = optax.adamw(schedule, weight_decay=weight_decay)
        tx = js.average(adamw, js.merged_decay(decay))

        def step(carry, gradient):
            updates, state = tx.update(gradient, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None

        return jax.lax.scan(step, (start, tx.init(start)), gradients)[0]

    (last, state), (real, _) = jax.jit(partial(run, rate))(), jax.jit(partial(run, rate * decay))()
    norm = np.linalg.norm
    return [100 * norm(x - real) / norm(real) for x in (js.average_at(state, steps), last)]


# 6. What is printed, and the picture.
DIFFERENCES = [
    ("merge", "cosine"), ("merge", "real decay"), ("real decay", "cosine"),
    ("merge", "last, own peak"), ("last, own peak", "cosine"),
    ("exponential", "cosine"), ("uniform", "cosine"),
]  # fmt: skip


def interval(x):
    """Half of the 95 % interval of a mean over seeds."""
    return stats.t.ppf(0.975, x.shape[-1] - 1) * stats.sem(x, axis=-1)


def percents(losses, a, b):
    """The differences of two kinds by seed, in percent of the loss of the second."""
    return 100 * (losses[a] - losses[b]) / losses[b].mean(axis=-1, keepdims=True)


def word(mean, half):
    return "none found" if abs(mean) < half else "better" if mean < 0 else "worse"


def show(title, columns, rows, width=22):
    names = max(map(len, rows))
    print(f"{title}\n{'':{names}}" + "".join(f"{name:>{width}}" for name in columns))
    for name, cells in rows.items():
        print(f"{name:{names}}" + "".join(f"{cell:>{width}}" for cell in cells))


def told(x, digits=1, compared=True):
    """Cells of means with their intervals, and the word."""
    for mean, half in zip(x.mean(axis=-1), interval(x), strict=True):
        sign, after = ("+", " " + word(mean, half)) if compared else ("", "")
        yield f"{mean:{sign}.{digits}f} ± {half:.{digits}f}{after}"


def report(found, horizons):
    for pair, (losses, chosen) in found.items():
        print("# {}: test losses, mean ± 95 % interval".format(", ".join(pair)))
        print("constant peak {peak:.2g} (own: {own:.2g}), merge: {shape}".format(**chosen))
        print("peaks of the cosine: " + ", ".join(f"{peak:.2g}" for peak in chosen["cosines"]))
        kinds = ["cosine", "real decay", *KINDS, "last, own peak"]
        rows = {kind: told(losses[kind], 4, compared=False) for kind in kinds}
        show("by horizon", horizons, rows)
    each = {", ".join(pair): losses for pair, (losses, _) in found.items()}
    for a, b in DIFFERENCES:
        rows = {name: told(percents(losses, a, b)) for name, losses in each.items()}
        show(f"# {a} - {b}, in percent of the loss of the latter", horizons, rows)
        all_of = np.concatenate([percents(losses, a, b) for losses in each.values()])
        words = [*map(word, all_of.mean(axis=-1), interval(all_of))]
        counts = ", ".join(f"{x} {words.count(x)}" for x in ("better", "worse", "none found"))
        print(f"{len(words)} comparisons: {counts}; mean {all_of.mean():+.1f} %")
    above = {", ".join(pair): chosen["shapes"].values() for pair, (_, chosen) in found.items()}
    rows = {name: (f"{x:.1f}" for x in each) for name, each in above.items()}
    show(
        "# merges on the tuning seeds: loss above that of the best shape, in percent", SHAPES, rows
    )


def picture(found, horizons, file):
    figure, panels = plt.subplots(
        2, 3, figsize=(7, 4.6), sharex=True, sharey=True, layout="constrained"
    )
    kinds = {"last, own peak": GREY, "exponential": ORANGE, "real decay": VERMILION, "merge": BLUE}
    labels = "last iterate", "exponential average", "real decay", "merge"
    for panel, (pair, (losses, _)) in zip(panels.flat, found.items(), strict=False):
        panel.axhline(0, color="black", lw=1)
        for n, ((kind, colour), label) in enumerate(zip(kinds.items(), labels, strict=True)):
            x, places = percents(losses, kind, "cosine"), np.multiply(horizons, 1.05 ** (n - 2))
            style = {"fmt": "o-", "ms": 3.5, "lw": 1.3, "color": colour, "label": label}
            panel.errorbar(places, x.mean(axis=-1), interval(x), **style)
        panel.set(title=", ".join(pair), xscale="log", ylim=(-11, 13))
        panel.set_xticks(horizons, horizons, fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    figure.supxlabel("horizon, in steps", fontsize=10)
    figure.supylabel("test loss above that of the cosine, in %", fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(file, dpi=200)


def main(file=None, quick=False):
    horizons = HORIZONS[:2] if quick else HORIZONS
    pairs = [("AdamW", "digits")] if quick else PAIRS
    tasks = {key: TASKS[key]() for key in dict.fromkeys(key for _, key in pairs)}
    seeds = range(TUNED), range(100, 100 + RUNS)
    mapped = map if quick else ThreadPoolExecutor(2).map  # two programs run at a time
    rows = mapped(lambda pair: study(pair, tasks[pair[1]], horizons, seeds), pairs)
    found = dict(zip(pairs, rows, strict=True))
    report(found, horizons)
    rates, kept = (0.001, 0.01), (0.0, 0.1)
    fixed = {f"weight decay {x}": [decoupled(x, rate) for rate in rates] for x in kept}
    rows = {name: (f"{a:.2g} ({b:.2g})" for a, b in x) for name, x in fixed.items()}
    title = "# fixed gradients: distance of the merge (of the last iterate) to the real decay, in %"
    show(title, [f"rate {rate}" for rate in rates], rows)
    if file:
        picture(found, horizons, file)
    return found, fixed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="the picture")
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes")
    main(**vars(parser.parse_args()))
