"""Draws what a learning rate does on many minima and in a network: for docs/descent.md.

    python examples/descent_minima.py [FOLDER]

prints the numbers of the last two sections of the page and draws their pictures into FOLDER. The
runs are on a surface with many minima, and on the loss of a small Flax network.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from descent import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    arguments,
    contours,
    draw,
    interval,
    mean,
    named,
    new,
    save,
    share,
    write,
)
from flax import linen
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

import jaxsched as js


# 1. Many minima: do warm restarts find the lowest one more often?
def wells(p):
    """A bowl with many minima, of which the one at (0, 0) is the lowest."""
    return 0.05 * jnp.sum(p**2) + jnp.sum(1 - jnp.cos(2 * p))


LONG, CYCLES = 1000, 5
PEAKS = 0.2, 0.4, 0.8
COLOURS = VERMILION, BLUE, GREEN, PURPLE, "0.5"


def ways(peak):
    cycle = js.cosine(peak, 0.0, LONG // CYCLES)
    return {
        "one short decay": cycle,
        "one long decay": js.cosine(peak, 0.0, LONG),
        "restarts": cycle.cycle(cycles=CYCLES),
    }


def saddle(point):
    """The stationary point near `point`, by Newton's method, and its two curvatures."""
    for _ in range(20):
        point = point - jnp.linalg.solve(jax.hessian(wells)(point), jax.grad(wells)(point))
    return point, np.linalg.eigvalsh(jax.hessian(wells)(point))


def lowest(points):
    """Whether points have come to the lowest minimum; the next one is 3.07 away."""
    return np.linalg.norm(points, axis=-1) < 1


def minima(count, peaks):
    starts = jax.random.uniform(jax.random.key(1), (count, 2), minval=-8.0, maxval=8.0)
    place, (low, high) = saddle(jnp.array([1.6, 0.0]))
    print("# many minima: the share of runs that end in the lowest one, with 95 % intervals")
    print(f"a saddle at ({place[0]:.2f}, {place[1]:.2f}) has curvatures {low:.2f} and {high:.2f}")
    calm = named(wells, {"no noise": js.constant(0.05)}, starts, LONG)["no noise"]
    print(f"  without noise, at a constant rate of 0.05: {share(lowest(calm[:, -1]))}")
    rows = {}
    for peak in peaks:
        paths = named(wells, ways(peak), starts, LONG, noise=2.0)
        ends = paths["restarts"][:, LONG // CYCLES :: LONG // CYCLES]
        hits = {name: lowest(path[:, -1]) for name, path in paths.items()}
        hits["restarts, any cycle"] = lowest(ends).any(axis=1)
        # The starts are independent, so five neighbours are five separate runs.
        hits["five short, any of them"] = hits["one short decay"].reshape(-1, CYCLES).any(axis=1)
        for name, hit in hits.items():
            print(f"  peak {peak}, {name:25}{share(hit)}")
        rows[peak] = hits, paths
    return rows


def draw_minima(folder, rows):
    figure, (left, right) = new(2, 3.7)
    draw_paths(left, *rows[PEAKS[1]])
    for n, (name, colour) in enumerate(zip(rows[PEAKS[0]][0], COLOURS, strict=True)):
        found = [interval(rows[peak][0][name]) for peak in PEAKS]
        middle, low, high = np.array(found).T
        places = np.arange(len(PEAKS)) + 0.08 * (n - 2)
        style = {"color": colour, "fmt": "-o", "ms": 4, "label": name}
        right.errorbar(places, middle, [middle - low, high - middle], **style)
    right.set(xticks=range(len(PEAKS)), xticklabels=PEAKS, xlabel="peak rate", ylim=(0, 1.15))
    right.set_title("share that finds the lowest minimum", fontsize=10)
    right.legend(fontsize=8, ncols=2, loc="upper left", columnspacing=0.8, handlelength=1)
    save(figure, folder, "minima")


def draw_paths(axes, hits, paths):
    """A start from which the restarts end in the lowest minimum, and one short decay does not."""
    seen = np.argmax(hits["restarts"] & ~hits["one short decay"])
    contours(axes, wells, (-9, 9), (-9, 9), power=1.0, levels=10)
    short, restarts = (paths[name][seen] for name in ("one short decay", "restarts"))
    for n, end in enumerate(restarts[LONG // CYCLES :: LONG // CYCLES]):
        axes.plot(*end, "o", color=GREEN, mec="white", ms=7, zorder=7)
        write(axes, end, f"{n + 1}", GREEN, xytext=(5, 4), textcoords="offset points")
    draw(axes, restarts, GREEN, "-", lw=0.6)
    draw(axes, short, VERMILION, "-", lw=0.6)
    axes.plot(*short[-1], "s", color=VERMILION, mec="white", ms=6, zorder=7)
    axes.plot(*saddle(jnp.array([1.6, 0.0]))[0], "kx", ms=6)
    axes.plot(0, 0, "k+", ms=11)
    axes.set_title("one start: the ends of five cycles", fontsize=10)


# 2. A network: the loss surface has thousands of dimensions, and the picture shows two.
VALID = 360
model = linen.Sequential([linen.Dense(32), linen.tanh, linen.Dense(10)])
pixels, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
pixels, labels = jnp.asarray(pixels[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)
rebuild = ravel_pytree(model.init(jax.random.key(0), pixels[:1]))[1]


def loss(flat, rows):
    logits = model.apply(rebuild(flat), pixels[rows])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()


def whole_loss(flat):
    """The loss of all training images."""
    return loss(flat, slice(VALID, None))


def train(schedule, key, steps):
    """The path of the parameters, and the training and the validation loss at its end."""
    first, batches = jax.random.split(key)
    flat = ravel_pytree(model.init(first, pixels[:1]))[0]
    tx = js.inject(optax.sgd, learning_rate=schedule)

    def step(carry, rows):
        flat, state = carry
        updates, state = tx.update(jax.grad(loss)(flat, rows), state, flat)
        return (optax.apply_updates(flat, updates), state), flat

    rows = jax.random.randint(batches, (steps, 64), VALID, len(labels))
    (last, _), path = jax.lax.scan(step, (flat, tx.init(flat)), rows)
    path = jnp.concatenate([path, last[None]])
    return path, jnp.stack([whole_loss(last), loss(last, slice(VALID))])


@partial(jax.jit, static_argnums=(2, 3))
def trained(schedules, keys, steps, what):
    """The paths (0) or the losses (1) by schedule and key. The paths of all runs are large."""
    return jax.vmap(lambda x: jax.vmap(lambda key: train(x, key, steps)[what])(keys))(schedules)


def tuned(steps, seeds):
    """The constant rate with the lowest validation loss, of seeds that nothing else uses."""
    rates = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    keys = jax.random.split(jax.random.key(2), seeds)
    losses = trained(js.stack([js.constant(rate) for rate in rates]), keys, steps, 1)
    return float(rates[np.nanargmin(losses[..., 1].mean(axis=1))])


def candidates(rate, steps):
    high = 3 * rate
    return {
        "too low": js.constant(rate / 30),
        "right": js.constant(rate),
        "too high": js.constant(high),
        "cosine": js.cosine(rate, 0.0, steps),
        "restarts": js.cosine(rate, 0.0, steps // 4).cycle(cycles=4),
        "too high, cosine": js.cosine(high, 0.0, steps),
        "too high, warmup": js.warmup_cosine(high, total_steps=steps, warmup_steps=steps // 10),
    }


def network(steps, seeds):
    rate = tuned(steps, seeds)
    schedules = candidates(rate, steps)
    stacked, keys = js.stack([*schedules.values()]), jax.random.split(jax.random.key(3), seeds)
    losses = np.asarray(trained(stacked, keys, steps, 1))
    print(f"# a network after {steps} steps: training and validation loss, {seeds} seeds")
    print(f"the best constant rate on other seeds: {rate}")
    for name, each in zip(schedules, losses, strict=True):
        print(f"  {name:17}{mean(each[:, 0]):16}{mean(each[:, 1])}")
    first = np.asarray(trained(stacked, keys[:1], steps, 0))[:, 0]
    paths = dict(zip(schedules, first, strict=True))
    barrier(paths["restarts"], steps // 4)
    shares(paths)
    return paths, dict(zip(schedules, losses, strict=True))


def barrier(path, cycle):
    """Prints the loss along the straight line from the end of each cycle to the next."""
    print("# the loss on the straight line from the end of a cycle to the end of the next")
    for n in range(1, 4):
        ends, parts = path[[n * cycle, (n + 1) * cycle]], np.linspace(0, 1, 21)[:, None]
        line = jax.vmap(whole_loss)((1 - parts) * ends[0] + parts * ends[1])
        print(f"  {n} to {n + 1}: from {line[0]:.3f} to {line[-1]:.3f}, at most {line.max():.3f}")


def plane(paths):
    """The two directions in which the paths move most from their common start."""
    moves = np.concatenate([path - path[0] for path in paths])
    return np.linalg.svd(moves, full_matrices=False)[2][:2]


def contained(path, axes):
    """The share of the squared distance from the start that the plane contains."""
    moves = path - path[0]
    return ((moves @ axes.T) ** 2).sum() / (moves**2).sum()


SHOWN = {"right": GREEN, "restarts": BLUE, "too low": ORANGE, "too high": VERMILION}
PANELS = {"three runs": [*SHOWN][:3], "the rate that is too high": ["too high"]}


def draw_network(folder, paths):
    figure, panels = new(2, 3.6)
    for axes, (title, names) in zip(panels, PANELS.items(), strict=True):
        draw_plane(axes, {name: paths[name] for name in names})
        axes.set_title(title, fontsize=10)
    save(figure, folder, "network")


def draw_plane(axes, paths):
    """The logarithm of the training loss in the plane of the paths, and their projections."""
    start, spans = paths[min(paths)][0], plane([*paths.values()])
    flat = {name: (path - start) @ spans.T for name, path in paths.items()}
    every = np.concatenate([*flat.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    edges = np.stack([low, high]) + 0.2 * (high - low).max() * np.array([[-1], [1]])
    contours(axes, lambda p: jnp.log(whole_loss(start + p @ spans)), *edges.T, power=1.0)
    for name, path in flat.items():
        draw(axes, path, SHOWN[name], lw=0.7)
        write(axes, path[-1], name, SHOWN[name], xytext=(6, -22), textcoords="offset points")


def shares(paths):
    print("# the share of the squared distance from the start that the plane contains")
    for names in PANELS.values():
        axes = plane([paths[name] for name in names])
        for name in names:
            print(f"  {name:18}{contained(paths[name], axes):.3f}")


def main(folder=None, quick=False):
    rows = minima(*((40, PEAKS[1:2]) if quick else (400, PEAKS)))
    paths, losses = network(*((40, 2) if quick else (400, 8)))
    if folder:
        draw_minima(folder, rows)
        draw_network(folder, paths)
    return rows, paths, losses


if __name__ == "__main__":
    main(**arguments(__doc__))
