"""Draws what a learning rate does: the script of docs/descent.md.

    python examples/descent.py [FOLDER]

prints the numbers of the first four sections and draws their pictures into FOLDER. The runs are on
two surfaces over a plane. examples/descent_minima.py is the script of the other two sections.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from PIL import Image
from scipy.stats import binomtest

import jaxsched as js

BLUE, SKY, VERMILION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"  # of Okabe and Ito
ORANGE, PURPLE = "#E69F00", "#CC79A7"


# 1. The surfaces.
def valley(p):
    """A quadratic function; its curvature is 1 along the valley and 20 across it."""
    return (p[0] ** 2 + 20 * p[1] ** 2) / 2


def rosenbrock(p):
    """A bent valley with its minimum at (1, 1)."""
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


# 2. Gradient descent: a run is one scan, and all runs on a surface are one program.
def descend(surface, rate, start, key, steps, noise):
    """The path of a run and its learning rates. Noise tilts the surface at random in each step."""
    tx = js.inject(optax.sgd, learning_rate=rate)

    def step(carry, key):
        point, state = carry
        tilt = noise * jax.random.normal(key, (2,))
        value, gradient = jax.value_and_grad(lambda p: surface(p) + tilt @ p)(point)
        updates, state = tx.update(gradient, state, point, value=value)
        used = js.hyperparams(state)["learning_rate"]
        return (optax.apply_updates(point, updates), state), (point, used)

    keys = jax.random.split(key, steps)
    (last, _), (path, used) = jax.lax.scan(step, (start, tx.init(start)), keys)
    return jnp.concatenate([path, last[None]]), used


@partial(jax.jit, static_argnames=("surface", "steps", "noise"))
def descents(surface, schedules, starts, steps, noise=0.0):
    """Paths and rates by schedule and start. The noise of a start is the same for all schedules."""
    keys = jax.random.split(jax.random.key(len(starts)), len(starts))

    def runs(schedule):
        one = partial(descend, surface, schedule, steps=steps, noise=noise)
        return jax.vmap(lambda start, key: one(start, key=key))(starts, keys)

    return jax.vmap(runs)(schedules)


def named(surface, schedules, starts, steps, noise=0.0):
    """The paths of `descents` by the names of the schedules."""
    paths, _ = descents(surface, js.stack([*schedules.values()]), starts, steps, noise)
    return dict(zip(schedules, np.asarray(paths), strict=True))


def mean(x):
    return f"{np.mean(x):.3f} ± {np.std(x, ddof=1) / len(x) ** 0.5:.3f}"


def interval(hits):
    """A share and the ends of its 95 % interval, of Wilson."""
    return hits.mean(), *binomtest(int(hits.sum()), hits.size).proportion_ci(method="wilson")


def share(hits):
    return "{:.3f} ({:.3f} to {:.3f})".format(*interval(hits))


# 3. The drawing tools.
def contours(axes, surface, x, y, levels=14, power=2.0):
    xs, ys = np.linspace(*x, 200), np.linspace(*y, 200)
    points = jnp.stack(jnp.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    heights = np.asarray(jax.lax.map(surface, points, batch_size=100)).reshape(200, 200)
    low, high = heights.min(), heights.max()
    at = low + (high - low) * np.linspace(0.03, 1, levels) ** power
    axes.contour(xs, ys, heights, at, colors="0.78", linewidths=0.7, linestyles="solid")
    axes.set(xlim=x, ylim=y)


def draw(axes, path, colour, marks="-o", **style):
    axes.plot(*path.T, marks, color=colour, **{"ms": 2.5, "lw": 1.1, **style})
    axes.plot(*path[0], "o", color="black", ms=4, zorder=5)


def write(axes, place, text, colour="black", **style):
    around = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
    axes.annotate(text, place, color=colour, fontsize=9, bbox=around, zorder=6, **style)


def new(columns, height, **style):
    return plt.subplots(1, columns, figsize=(7, height), layout="constrained", **style)


def save(figure, folder, name):
    file = folder / f"descent_{name}.png"
    figure.savefig(file, dpi=150)
    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)  # a third of the size
    plt.close(figure)


# 4. A rate that is too low, one that is right, one near the limit, and one that is too high.
START = jnp.array([[-9.0, 1.5]])
RATES = {"too low": 0.005, "right": 0.05, "near the limit": 0.095, "too high": 0.102}
COLOURS = dict(zip(RATES, (SKY, GREEN, ORANGE, VERMILION), strict=True))


def largest_stable(schedule, limit):
    """The largest rate at which the last steps do not lead away from the floor of the valley."""
    rates = np.linspace(0.9, 1.1, 201) * limit
    paths, _ = descents(valley, js.stack([schedule(rate) for rate in rates]), START, 200)
    before, after = np.abs(paths[:, 0, [100, 200], 1]).T
    return rates[after <= before].max()


def stability():
    curvature = np.linalg.eigvalsh(jax.hessian(valley)(jnp.zeros(2)))
    limit, found = 2 / curvature[-1], largest_stable(js.constant, 2 / curvature[-1])
    print(f"# distance from the minimum; condition number {curvature[-1] / curvature[0]:.0f}")
    print(f"2 / curvature: {limit:.4f}; largest stable rate found: {found:.4f}")
    paths = named(valley, {name: js.constant(rate) for name, rate in RATES.items()}, START, 100)
    for name, path in paths.items():
        near, end = np.linalg.norm(path[0, [20, 100]], axis=-1)
        print(f"  {name:15}{RATES[name]:<6} after 20 steps {near:.3f}, after 100 steps {end:.3f}")
    return limit, found, paths


def draw_stability(folder, paths):
    figure, panels = plt.subplots(2, 2, figsize=(7, 4.6), layout="constrained", sharex=True)
    for axes, (name, path) in zip(panels.flat, paths.items(), strict=True):
        contours(axes, valley, (-10, 4), (-3.4, 3.4))
        draw(axes, path[0, :21], COLOURS[name])
        axes.plot(0, 0, "k+", ms=9)
        axes.set_title(f"{name}: {RATES[name]}", fontsize=10, color=COLOURS[name])
    write(panels[0, 0], (-8.8, 1.9), "start")
    write(panels[0, 0], (-0.3, 0.5), "minimum")
    save(figure, folder, "rates")


# 5. Noisy gradients: a constant rate stays away from the minimum, and a decay approaches it.
NOISE, STEPS = 4.0, 300
DECAYS = {
    "constant 0.05": js.constant(0.05),
    "constant 0.005": js.constant(0.005),
    "linear": js.linear(0.05, 0.0, STEPS),
    "cosine": js.cosine(0.05, 0.0, STEPS),
}


def noise(seeds):
    paths = named(valley, DECAYS, jnp.repeat(START, seeds, axis=0), STEPS, NOISE)
    print(f"# noisy gradients: mean distance after {STEPS} steps ± standard error, {seeds} seeds")
    for name, path in paths.items():
        print(f"  {name:15}{mean(np.linalg.norm(path[:, -1], axis=-1))}")
    return paths


def draw_noise(folder, paths):
    figure, (left, right) = new(2, 3.2)
    contours(left, valley, (-10, 4), (-2.2, 2.2))
    for name, colour in (("constant 0.05", VERMILION), ("cosine", BLUE)):
        draw(left, paths[name][0], colour, alpha=0.8)
    left.set(title="the first seed", xlim=(-4, 3), ylim=(-1.2, 1.2))
    lines = dict(zip(paths, (VERMILION, SKY, GREEN, BLUE), strict=True))
    for (name, path), at in zip(paths.items(), (200, 120, 262, 245), strict=True):
        far = np.linalg.norm(path, axis=-1).mean(axis=0)
        right.semilogy(far, color=lines[name])
        above = (0, 12) if name != "cosine" else (-34, -18)
        write(right, (at, far[at]), name, lines[name], xytext=above, textcoords="offset points")
    write(left, (-3.9, 0.95), "constant 0.05", VERMILION)
    write(left, (-3.9, -1.1), "cosine", BLUE)
    right.set(title="mean distance to the minimum", xlabel="step", ylim=(0.13, 12))
    save(figure, folder, "noise")


# 6. A plateau rule hears the loss and cuts the rate.
PLATEAU = js.constant(0.08) * js.reduce_on_plateau(patience=3, factor=0.5, accumulation_size=10)


def plateau(seeds):
    starts = jnp.repeat(START, seeds, axis=0)
    paths, rates = map(np.asarray, descents(valley, js.stack([PLATEAU]), starts, STEPS, NOISE))
    print(f"# a plateau rule under the same noise, {seeds} seeds")
    print(f"  distance {mean(np.linalg.norm(paths[0, :, -1], axis=-1))}")
    print(f"  cuts     {mean((np.diff(rates[0]) < 0).sum(axis=-1))}")
    return paths[0], rates[0]


def draw_plateau(folder, paths, rates):
    cuts = 1 + np.flatnonzero(np.diff(rates[0]) < 0)
    figure, (left, right) = new(2, 3.2)
    contours(left, valley, (-10, 4), (-2.2, 2.2))
    draw(left, paths[0], SKY)
    left.plot(*paths[0, cuts].T, "X", color=VERMILION, ms=8, zorder=6)
    right.step(np.arange(STEPS), rates[0], where="post", color=BLUE)
    for n, step in enumerate(cuts):
        right.axvline(step, color=VERMILION, lw=0.8)
        write(right, (step + 3, rates[0, step - 1]), f"cut {n + 1}", VERMILION)
    left.set(title="a path with its cuts", xlim=(-9.5, 3))
    right.set(title="its learning rate", xlabel="step", ylim=(0, None))
    save(figure, folder, "plateau")


# 7. A warmup: it changes nothing on the valley, and it helps where the start is steep.
PEAK = 0.0015
WARMUPS = {"constant": js.constant(PEAK), "warmup": js.linear(0.0, PEAK, 500) >> js.constant(PEAK)}


def warmup(starts, limit):
    stable = largest_stable(lambda rate: js.linear(0.0, rate, 50) >> js.constant(rate), limit)
    print(f"# a warmup\nlargest stable rate on the valley with a warmup: {stable:.4f}")
    low, high = jnp.array([-2.0, -1.0]), jnp.array([2.0, 3.0])
    places = jax.random.uniform(jax.random.key(0), (starts, 2), minval=low, maxval=high)
    steep = np.linalg.eigvalsh(jax.vmap(jax.hessian(rosenbrock))(places))[:, -1]
    print(f"Rosenbrock: {PEAK} is above 2 / curvature at {share(steep > 2 / PEAK)} of the starts")
    paths = named(rosenbrock, WARMUPS, places, 5000)
    arrived = {name: np.linalg.norm(x[:, -1] - 1, axis=-1) < 0.1 for name, x in paths.items()}
    for name, hits in arrived.items():
        print(f"  {name:10}reaches the minimum from {share(hits)} of {starts} starts")
    return stable, arrived


def draw_warmup(folder):
    paths = named(rosenbrock, WARMUPS, jnp.array([[-1.9, -0.7]]), 5000)
    figure, (left, right) = new(2, 3.2, sharey=True)
    for axes, name, colour in ((left, "constant", VERMILION), (right, "warmup", GREEN)):
        contours(axes, rosenbrock, (-2.2, 2.2), (-1.2, 4.6), power=3)
        draw(axes, paths[name][0], colour)
        axes.plot(1, 1, "k+", ms=9)
        axes.set_title(f"{name}, rate {PEAK}", fontsize=10, color=colour)
    write(right, (1.1, 0.7), "minimum")
    save(figure, folder, "warmup")


def main(folder=None, quick=False):
    seeds, starts = (20, 40) if quick else (100, 400)
    limit, found, calm = stability()
    noisy, heard = noise(seeds), plateau(seeds)
    stable, arrived = warmup(starts, limit)
    if folder:
        draw_stability(folder, calm)
        draw_noise(folder, noisy)
        draw_plateau(folder, *heard)
        draw_warmup(folder)
    return limit, (found, stable), noisy, heard, arrived


def arguments(text):
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="the folder for the pictures")
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes")
    return vars(parser.parse_args())


if __name__ == "__main__":
    main(**arguments(__doc__))
