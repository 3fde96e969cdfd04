"""Snapshot ensemble: five models from one run with warm restarts, as an ensemble and an average.

`snapshot(cycles, keep=5)` copies the parameters at each minimum of the schedule, in the compiled
step. Twenty seeds, three peaks and three schedules are one program. Run it with
`python examples/snapshot_ensemble.py`; `--quick` takes seconds and shows less.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxsched as js

# 1. Data: 1797 handwritten digits, only 150 of them for training. Noise is added to the images: new
# noise at every training step, and fixed noise for validation. This makes the task hard.
TRAIN, BATCH, NOISE, KEEP = 150, 32, 0.3, 5
pixels, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
pixels, labels = jnp.asarray(pixels[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)
judged = pixels[TRAIN:] + NOISE * jax.random.normal(jax.random.key(0), pixels[TRAIN:].shape)
model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])


def loss(params, images, labels):
    logits = model.apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def probabilities(params):
    return jax.nn.softmax(model.apply({"params": params}, judged))


def judge(probabilities):
    """Accuracy, and the mean negative log-likelihood of the true digit."""
    right = probabilities.argmax(-1) == labels[TRAIN:]
    said = jnp.take_along_axis(probabilities, labels[TRAIN:, None], axis=1)
    return jnp.stack([right.mean(dtype=jnp.float32), -jnp.log(said).mean()])


# 2. Three schedules of the same length: one decay, and cycles down to zero or to half the peak.
def schedule(which, peak, steps):
    one_decay = js.cosine(peak, 0.0, KEEP * steps)
    to_zero = js.cosine(peak, 0.0, steps).cycle(cycles=KEEP)
    to_a_half = js.cosine(peak, peak / 2, steps).cycle(cycles=KEEP)
    return js.select(which, [one_decay, to_zero, to_a_half])


# 3. A run. `snapshot` is last in the chain, where it sees the final updates.
def run(which, peak, key, steps):
    rate = schedule(which, peak, steps)
    tx = optax.chain(
        optax.scale_by_adam(), js.scale_by_learning_rate(rate), js.snapshot(rate, keep=KEEP)
    )
    params = model.init(key, pixels[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    def step(_, state):
        which, noise = jax.random.split(jax.random.fold_in(key, js.step(state)))
        batch = jax.random.randint(which, (BATCH,), 0, TRAIN)
        images = pixels[batch] + NOISE * jax.random.normal(noise, (BATCH, 64))
        return state.apply_gradients(grads=jax.grad(loss)(state.params, images, labels[batch]))

    state = jax.lax.fori_loop(0, KEEP * steps, step, state)
    # 4. Results: the last parameters, the ensemble of the snapshots, and their average.
    last = judge(probabilities(state.params))
    ensemble = judge(jax.vmap(probabilities)(js.snapshots(state)).mean(axis=0))
    average = judge(probabilities(js.snapshot_average(state)))
    return jnp.stack([last, ensemble, average]), js.events(state)["snapshots"]


ROWS = {  # name: (schedule, result)
    "one decay": (0, 0),
    "restarts to 0: the last": (1, 0),
    "restarts to 0: ensemble": (1, 1),
    "restarts to 0: average": (1, 2),
    "restarts to 1/2: the last": (2, 0),
    "restarts to 1/2: ensemble": (2, 1),
    "restarts to 1/2: average": (2, 2),
}
PAIRS = [
    ("restarts to 0: ensemble", "restarts to 0: the last"),
    ("restarts to 0: ensemble", "one decay"),
    ("restarts to 1/2: average", "restarts to 1/2: the last"),
    ("restarts to 1/2: average", "restarts to 0: average"),
    ("restarts to 1/2: average", "one decay"),
]


def main(quick=False):
    steps, peaks, seeds = (60, (5e-2,), 10) if quick else (300, (5e-3, 2e-2, 5e-2), 20)
    keys = jax.random.split(jax.random.key(1), seeds)
    over_seeds = jax.vmap(run, (None, None, 0, None))
    over_peaks = jax.vmap(over_seeds, (None, 0, None, None))
    run_all = jax.jit(jax.vmap(over_peaks, (0, None, None, None)), static_argnums=3)
    results, taken = run_all(jnp.arange(3), jnp.array(peaks), keys, steps)
    results = np.asarray(results)  # (schedules, peaks, seeds, results, measures)
    rows = {name: results[which, :, :, what] for name, (which, what) in ROWS.items()}
    differences = {(a, b): rows[a] - rows[b] for a, b in PAIRS}

    def table(title, rows, errors):
        for measure, name in enumerate(("accuracy", "negative log likelihood")):
            print(f"\n{name}, {title}\n{'peak':56}" + "".join(f"{peak:>18}" for peak in peaks))
            for row, found in rows.items():
                mean, spread = found[..., measure].mean(1), found[..., measure].std(1, ddof=1)
                shown = zip(mean, errors * spread / seeds**0.5, strict=True)
                cells = "".join(f"{f'{m:.4f} ± {e:.4f}':>18}" for m, e in shown)
                print(f"{row if isinstance(row, str) else ' - '.join(row):56}{cells}")

    print(f"{seeds} seeds, {KEEP} x {steps} steps; snapshots taken: {np.unique(taken[1:])}")
    table("mean ± standard error", rows, 1)
    table("differences on the same seeds, mean ± two standard errors", differences, 2)
    return rows, np.asarray(taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="take seconds instead of a minute")
    main(**vars(parser.parse_args()))
