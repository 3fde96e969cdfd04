"""Which shape of a schedule is best for which task? The study of docs/which_schedule.md.

    python examples/which_schedule.py [PICTURE] [--quick]

trains four kinds of networks with eight shapes, each at its best peak of several. All runs of a
task are one program: the shapes are pieces of one `select`.
"""

import argparse
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from adaptive_optimizers import digits, photo, text
from flax import linen as nn
from scipy.stats import sem

import jaxsched as js

TUNED, REPORTED, RATES = 4, 16, 6  # seeds to choose a peak, seeds of the results, peaks at a time


# 1. The shapes, each with the peak 1. Their lengths are those of the presets.
def shapes(steps):
    warmup = steps // 20
    half = js.constant(1.0, steps // 2)
    return {
        "constant": js.constant(1.0, steps),
        "linear": js.linear(1.0, 0.0, steps),
        "warmup, linear": js.warmup_linear(1.0, total_steps=steps, warmup_steps=steps // 10),
        "warmup, cosine": js.warmup_cosine(1.0, total_steps=steps, warmup_steps=warmup),
        "warmup, stable, decay": js.warmup_stable_decay(
            1.0, total_steps=steps, warmup_steps=warmup, decay_steps=steps // 10
        ),
        "constant, then linear": half >> js.linear(1.0, 0.0, steps - steps // 2),
        "exponential": js.geometric(1.0, 0.01, steps),
        "one cycle": js.one_cycle(1.0, total_steps=steps),
    }


NAMES = [*shapes(100)]


# 2. The tasks: a loss to train, a loss to report, the parameters, and the batches of a run.
class Task(NamedTuple):
    optimizer: callable
    peak: float  # to begin the search with
    steps: int
    init: callable  # of a key: the parameters
    batches: callable  # of a key: all batches of a run
    train: callable  # of the parameters and a batch
    valid: callable  # of the parameters: the loss by which the peak is chosen
    test: callable


def supervised(made, optimizer, peak, steps=900):
    """A task of the study of optimizers."""

    def loss(params, x, y):
        return made.loss(made.network.apply(params, x), y).mean()

    def batches(key):
        places = jax.random.randint(key, (steps, made.batch), 0, len(made.train[0]))
        return tuple(jnp.asarray(x)[places] for x in made.train)

    return Task(
        optimizer, peak, steps, partial(made.network.init, x=made.train[0][:1]), batches,
        lambda params, batch: loss(params, *batch),
        lambda params: loss(params, *made.valid), lambda params: loss(params, *made.test),
    )  # fmt: skip


def equation(steps=3_000, points=32):
    """A physics-informed network: u'' = f on [0, 1], with u = 0 at both ends.

    The solution is known: sin(2 pi x) + sin(8 pi x) / 4. The reported loss is the relative error.
    """
    network = nn.Sequential([nn.Dense(32), nn.tanh, nn.Dense(32), nn.tanh, nn.Dense(1)])

    def solution(x):
        return jnp.sin(2 * jnp.pi * x) + jnp.sin(8 * jnp.pi * x) / 4

    def u(params, x):  # zero at both ends by construction
        return x * (1 - x) * network.apply(params, 2 * x[None, None] - 1)[0, 0]

    def train(params, x):
        bend = jax.vmap(jax.grad(jax.grad(u, 1), 1), (None, 0))(params, x)
        return jnp.mean((bend - jax.vmap(jax.grad(jax.grad(solution)))(x)) ** 2) / 1e4

    def error(params, x):
        wrong = jax.vmap(u, (None, 0))(params, x) - solution(x)
        return jnp.sqrt(jnp.mean(wrong**2) / jnp.mean(solution(x) ** 2))

    grid = jnp.linspace(0, 1, 201)
    return Task(
        optax.adam, 3e-3, steps, partial(network.init, inputs=jnp.zeros((1, 1))),
        lambda key: jax.random.uniform(key, (steps, points)), train,
        lambda params: error(params, grid[::2]), lambda params: error(params, grid[1::2]),
    )  # fmt: skip


TASKS = {
    "language model": lambda: supervised(text(), partial(optax.adamw, weight_decay=0.1), 0.01),
    "vision": lambda: supervised(digits(), partial(optax.sgd, momentum=0.9, nesterov=True), 0.05),
    "regression": lambda: supervised(photo(), partial(optax.adamw, weight_decay=0.1), 0.003),
    "PINN": equation,
}


# 3. A run, which is one of many in a program.
def run(task, which, peak, key):
    """The validation loss and the test loss."""
    first, order = jax.random.split(key)
    rate = peak * js.select(which, [*shapes(task.steps).values()])
    tx = js.inject(task.optimizer, learning_rate=rate)

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(task.train)(params, batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    params = task.init(first)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), task.batches(order))
    return jnp.stack([task.valid(params), task.test(params)])


def tuned(many, which, first, keys):
    """The best peak of a shape. The grid grows until the best peak is not at its edge."""
    found, window = {}, range(-2, RATES - 2)
    while True:
        peaks = first * 2.0 ** np.repeat(window, TUNED)
        losses = many(np.full(len(peaks), which), peaks, jnp.tile(keys, RATES))[:, 0]
        means = np.nan_to_num(losses.reshape(RATES, TUNED).mean(axis=1), nan=np.inf)
        found |= dict(zip(window, means, strict=True))
        best = min(found, key=found.get)
        if min(found) < best < max(found):
            return first * 2.0**best
        low = best - RATES if best == min(found) else best + 1
        window = range(low, low + RATES)


def study(task, reported):
    """The best peak of each shape, and its test losses by seed."""
    keys = jax.random.split(jax.random.key(0), TUNED + reported)
    many = jax.jit(jax.vmap(partial(run, task)))
    peaks = [tuned(many, k, task.peak, keys[:TUNED]) for k in range(len(NAMES))]
    losses = [
        many(np.full(reported, k), np.full(reported, peak), keys[TUNED:])[:, 1]
        for k, peak in enumerate(peaks)
    ]
    return peaks, np.array(losses)


# 4. What is printed, and the picture.
def gains(losses):
    """The reduction of the loss by each shape, by seed, in percent of that of a constant rate."""
    return 100 * (losses[0] - losses) / losses[0].mean()


def show(name, peaks, losses):
    print(f"# {name}: best peak, test loss, and its reduction by the shape in percent")
    for shape, peak, x, gain in zip(NAMES, peaks, losses, gains(losses), strict=True):
        less = f"{gain.mean():5.1f} ± {sem(gain):.1f}"
        print(f"  {shape:22} {peak:<8.2g} {x.mean():.4f} ± {sem(x):.4f}   {less}")
    best = np.argmax(gains(losses).mean(axis=1))
    behind = gains(losses)[best] - gains(losses)
    alike = [
        shape
        for shape, x in zip(NAMES, behind, strict=True)
        if x.mean() <= 2 * sem(x) and shape != NAMES[best]
    ]
    print(f"  best: {NAMES[best]}; no difference to: {'; '.join(alike) or 'none'}")


def picture(found, file):
    figure, panels = plt.subplots(
        1, len(found), figsize=(8, 3.6), sharey=True, layout="constrained"
    )
    for panel, (name, (_, losses)) in zip(panels, found.items(), strict=True):
        gain = gains(losses)
        panel.axvline(0, color="0.6", lw=1)
        panel.errorbar(
            gain.mean(axis=1), range(len(NAMES)), xerr=2 * sem(gain, axis=1), fmt="o", ms=4, lw=1.5,
            color="#0072b2",
        )  # fmt: skip
        panel.grid(axis="x", alpha=0.3)
        panel.set(title=name, yticks=range(len(NAMES)), yticklabels=NAMES)
    panels[0].invert_yaxis()
    figure.supxlabel("reduction of the test loss of a constant rate, in percent", fontsize=10)
    figure.savefig(file, dpi=160)


def main(file=None, quick=False):
    found = {}
    for name in ["vision"] if quick else TASKS:
        task = TASKS[name]()
        if quick:
            task = supervised(digits(copies=2), task.optimizer, task.peak, steps=60)
        found[name] = study(task, 4 if quick else REPORTED)
        show(name, *found[name])
    if file:
        picture(found, file)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="the picture")
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes")
    main(**vars(parser.parse_args()))
