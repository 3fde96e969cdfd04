"""Tunes AdamW on handwritten digits in seven ways at equal cost: the script of docs/tuning.md.

    python examples/tuning.py [FOLDER] [--quick]

prints every number of the page, and draws its picture into FOLDER. The problem is small and noisy:
300 images, a fifth of the labels replaced by random ones, and 1497 test images that no search sees.
"""

import argparse
import functools
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")  # before Keras is imported

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
from flax import linen
from scipy import stats
from sklearn.datasets import load_digits

import jaxsched as js

STEPS, BATCH, IMAGES, FOLDS, SEEDS = 200, 32, 300, 3, 16
Partial = jax.tree_util.Partial


# 1. The problem. Each repetition draws other images for the search; all others are for the test.
def digits(repetition):
    pixels, labels = load_digits(return_X_y=True)
    noise = np.random.default_rng(0)
    labels = np.where(noise.random(len(labels)) < 0.2, noise.integers(0, 10, len(labels)), labels)
    order = np.random.default_rng(repetition).permutation(len(labels))
    data = jnp.asarray(pixels[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)
    return tuple(x[:IMAGES] for x in data), tuple(x[IMAGES:] for x in data)


class Network(linen.Module):
    @linen.compact
    def __call__(self, pixels):
        return linen.Dense(10)(linen.relu(linen.Dense(32)(pixels)))


def loss(params, images):
    logits = Network().apply({"params": params}, images[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, images[1]).mean()


# 2. The search space: a function of the hyperparameters, and a range for each.
def member(peak_value, warmup_steps, weight_decay):
    rate = js.warmup_cosine(peak_value, total_steps=STEPS, warmup_steps=warmup_steps)
    return {"learning_rate": rate, "weight_decay": weight_decay, "fold": 0}


SPACE = {
    "peak_value": js.log_uniform(1e-4, 1.0),
    "warmup_steps": js.uniform(1, STEPS // 2),
    "weight_decay": js.log_uniform(1e-3, 1.0),
}


# 3. A run that can stop and go on. The fold is a number of the member, so folds share a program.
def split(data, fold):
    """The images to learn from, and the images of the fold that is held out."""
    size = len(data[1]) // FOLDS
    rows = jnp.roll(jnp.arange(FOLDS * size), -size * (1 + jnp.asarray(fold).astype(int)))
    return tuple(x[rows[:-size]] for x in data), tuple(x[rows[-size:]] for x in data)


def standardised(learn, held):
    """Both, with the mean and the deviation of the images to learn from."""
    mean, deviation = (f(learn[0], axis=0, keepdims=True) for f in (jnp.mean, jnp.std))
    scaled = [(x[0] - mean) / (deviation + 0.1) for x in (learn, held)]
    return (scaled[0], learn[1]), (scaled[1], held[1])


def optimizer(member):
    return js.inject(optax.adamw, **{name: x for name, x in member.items() if name != "fold"})


def start(member, key, data):
    params = Network().init(key, data[0][:1])["params"]
    return params, optimizer(member).init(params), key


def course(member, state, steps, learn, held):
    """The state after some more steps, and the loss on the images that are held out."""
    learn, held = standardised(learn, held)
    tx = optimizer(member)

    def step(state, _):
        params, opt_state, key = state
        key_now = jax.random.fold_in(key, js.step(opt_state))
        rows = jax.random.randint(key_now, (BATCH,), 0, len(learn[1]))
        gradients = jax.grad(loss)(params, tuple(x[rows] for x in learn))
        updates, opt_state = tx.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, key), None

    state, _ = jax.lax.scan(step, state, length=steps)
    return state, loss(state[0], held)


def advance(member, state, steps, data):
    return course(member, state, steps, *split(data, member["fold"]))


def train(member, key, data):
    """The validation loss of a whole run."""
    return advance(member, start(member, key, data), STEPS, data)[1]


def final(member, key, data, test):
    """The test loss of a whole run that learns from all images of the search."""
    return course(member, start(member, key, data), STEPS, data, test)[1]


# 4. The searches. Each returns a `Sweep`, and may train `budget` runs or as many steps.
def centred(n):
    return (np.arange(n) + 0.5) / n


def lattice(fractions):
    """A grid of the values that have these fractions of their ranges below them."""
    values = {
        name: [float(f"{SPACE[name].at(x):.2g}") for x in each]
        for name, each in zip(SPACE, fractions, strict=True)
    }
    return js.grid(member, **values | {"warmup_steps": [*map(int, values["warmup_steps"])]})


def grid(data, key, shape):
    return js.sweep(Partial(train, data=data), lattice(map(centred, shape)), key=key)


def refined(data, key, shape):
    """A coarse grid, then a finer one of the same size around its best member."""
    coarse = grid(data, key, shape)
    best, size = np.unravel_index(coarse.order[0], shape), np.array(shape)
    width = 0.75 / size  # half the width of the finer grid, which reaches into the next cells
    middle = np.clip((np.array(best) + 0.5) / size, width, 1 - width)
    around = [m + w * (2 * centred(n) - 1) for m, w, n in zip(middle, width, shape, strict=True)]
    fine = js.sweep(Partial(train, data=data), lattice(around), key=key)
    return js.Sweep(coarse.population + fine.population, np.vstack([coarse.scores, fine.scores]))


def random(data, key, draws, seeds=1):
    drawn = js.random_search(member, key, draws, **SPACE)
    return js.sweep(Partial(train, data=data), drawn, key=key, seeds=seeds)


def cross_validated(data, key, draws):
    """Random draws, each trained once for each fold that is held out."""
    drawn = js.random_search(member, key, draws, **SPACE)
    folds = [x | {"fold": fold} for x in drawn for fold in range(FOLDS)]
    scores = js.sweep(Partial(train, data=data), folds, key=key).scores
    return js.Sweep(drawn, scores.reshape(draws, FOLDS))


def bayesian(data, key, trials):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=key, constant_liar=True))
    run = Partial(train, data=data)
    return js.bayesian_search(run, member, SPACE, trials=trials, batch=8, key=key, study=study)


def halved(data, key, budget):
    """Many draws, of which half stop after an eighth, a quarter and a half of a run."""
    rungs = [STEPS // 8, STEPS // 4, STEPS // 2, STEPS]
    drawn = js.random_search(member, key, 16 * budget // 5, **SPACE)
    functions = Partial(start, data=data), Partial(advance, data=data)
    return js.successive_halving(*functions, drawn, rungs=rungs, key=key)


def searches(shape, coarse):
    """By name, functions of the data and a key. They cost the same number of training steps."""
    budget, bind = int(np.prod(shape)), functools.partial
    return {
        "grid": bind(grid, shape=shape),
        "coarse, then fine grid": bind(refined, shape=coarse),
        "random": bind(random, draws=budget),
        "random, 3 seeds": bind(random, draws=budget // 3, seeds=3),
        "random, 3 folds": bind(cross_validated, draws=budget // FOLDS),
        "Bayesian": bind(bayesian, trials=budget),
        "successive halving": bind(halved, budget=budget),
    }


def steps(found):
    """The training steps of a search."""
    return int(np.sum(found.trained)) if found.trained is not None else found.scores.size * STEPS


# 5. Repeat all searches with other images and other random numbers, and test what they choose.
def repeated(repetitions, ways):
    """By search, its result in each repetition, and the test losses of the members it chose."""
    found, losses = {name: [] for name in ways}, {name: [] for name in ["no search", *ways]}
    default = member(1e-3, STEPS // 10, 1e-4)
    for key in range(repetitions):
        data, test = digits(key)
        for name, search in ways.items():
            found[name].append(search(data, key))
        chosen = [default, *(each[-1].best for each in found.values())]
        run = Partial(final, data=data, test=test)
        judged = js.sweep(run, chosen, key=1000 + key, seeds=SEEDS).mean
        for name, value in zip(losses, judged, strict=True):
            losses[name].append(value)
    return found, {name: np.array(x) for name, x in losses.items()}


def report(found, losses):
    print(f"{'':24}test loss        own score  steps")
    for name, x in losses.items():
        line = f"{name:24}{x.mean():.4f} ± {stats.sem(x):.4f}"
        if name in found:
            own = np.mean([each.mean[each.order[0]] for each in found[name]])
            line += f"  {own:.4f}     {steps(found[name][0])}"
        print(line)
    print("# differences of the test loss on the same images, with 95 % intervals")
    pairs = [(name, "random") for name in losses if name != "random"]
    pairs += [("coarse, then fine grid", "grid"), ("random, 3 folds", "random, 3 seeds")]
    for a, b in pairs:
        if a in losses and b in losses:
            print(f"{a + ' - ' + b:40}{difference(losses[a] - losses[b])}")


def difference(x):
    """The mean with its interval, and whether the interval leaves out zero."""
    half = stats.t.ppf(0.975, len(x) - 1) * stats.sem(x)
    verdict = "" if abs(x.mean()) > half else "   no difference was found"
    return f"{x.mean():+.4f} ± {half:.4f}{verdict}"


def heat_map(grids, folder):
    """The grids of all repetitions, as one leaderboard and one picture."""
    found = js.Sweep(grids[0].population, np.hstack([each.scores for each in grids]))
    print(found.leaderboard(top=5))
    if folder:
        found.plot_grid("peak_value", "warmup_steps", folder / "tuning_grid.png")
    return found


# 6. The same space for a Keras model: a loop over the members.
def keras_search(data, draws, epochs):
    import keras

    (images, labels), held = standardised(*split(data, 0))
    population, losses = js.random_search(member, 0, draws, **SPACE), []
    for each in population:
        keras.utils.set_random_seed(0)
        layers = keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)
        model = keras.Sequential(layers)
        rate = js.compat.keras.to_keras(each["learning_rate"])
        adamw = keras.optimizers.AdamW(rate, weight_decay=each["weight_decay"])
        model.compile(adamw, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        how = {"batch_size": 40, "epochs": epochs, "validation_data": held, "verbose": 0}
        losses.append(model.fit(images, labels, **how).history["val_loss"][-1])
    return js.Sweep(population, np.array(losses)[:, None])


def main(folder=None, quick=False):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = searches((9, 4, 2), (6, 3, 2))
    if quick:  # these searches are one program
        ways = {name: ways[name] for name in ("grid", "random", "random, 3 folds")}
    repetitions = 3 if quick else 40
    print(f"# the mean of {repetitions} repetitions of each search")
    found, losses = repeated(repetitions, ways)
    report(found, losses)
    print("# the grids of all repetitions")
    table = heat_map(found["grid"], folder)
    if not quick:
        print("# a Keras model")
        print(keras_search(digits(0)[0], draws=8, epochs=40).leaderboard())
    return found, losses, table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.folder, given.quick)
