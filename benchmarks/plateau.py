"""Does a plateau rule cut too early, and how late does it cut, on the noisy loss of minibatches?

    python benchmarks/plateau.py

First on streams that are known: 100 losses that improve until step 1500 and then do not, with noise
of three strengths; a cut before step 1500 is early, and the delay is that of the others. Then with
a noisy quadratic that is trained: how far above the least its loss is in the end, by rule.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

STREAMS, END, STEPS = 100, 1500, 4000
NOISES = (0.02, 0.1, 0.3)
RULES = {
    "reduce_on_plateau(patience=10)": js.reduce_on_plateau(patience=10),
    "the same, of means of 50": js.reduce_on_plateau(patience=10, accumulation_size=50),
    "reduce_when_flat()": js.reduce_when_flat(),
}


def streams(kind: str, noise: float) -> np.ndarray:
    """Losses that fall from 2 to about 1, on a line or ever more slowly, and then stay."""
    done = np.minimum(np.arange(STEPS) / END, 1)
    mean = 2 - done if kind == "line" else 1 + np.exp(-2 * done) - np.exp(-2)
    draw = np.random.default_rng(0).normal(size=(STREAMS, STEPS))
    return np.float32(mean + noise * draw)


def first_cut(rule: Any, losses: jax.Array) -> jax.Array:
    """The number of losses seen at the first cut; all of them and one more if there is none."""
    tx = js.scale_by_schedule(1 * rule)

    def one(state: Any, loss: jax.Array) -> tuple[Any, jax.Array]:
        state = tx.update({}, state, value=loss)[1]
        return state, js.events(state)["cuts"] > 0

    cut = jax.lax.scan(one, tx.init({}), losses)[1]
    return jnp.where(jnp.any(cut), jnp.argmax(cut) + 1, losses.shape[0] + 1)


def known_streams() -> None:
    print(
        f"{STREAMS} losses that improve until step {END}: early cuts, and the median delay (p90)\n"
    )
    print("| loss | rule | " + " | ".join(f"noise {noise}" for noise in NOISES) + " |")
    print("| --- | --- |" + " --- |" * len(NOISES))
    for kind in ("line", "exponential"):
        for name, rule in RULES.items():
            find = jax.jit(jax.vmap(functools.partial(first_cut, rule)))
            cells = [cell(np.asarray(find(streams(kind, noise)))) for noise in NOISES]
            print(f"| {kind} | {name} | " + " | ".join(cells) + " |")


def cell(cuts: np.ndarray) -> str:
    early, later = (cuts <= END).sum(), cuts[cuts > END] - END
    if not later.size:
        return f"{early} early, at {np.median(cuts):.0f}"
    return f"{early} early, {np.median(later):.0f} ({np.quantile(later, 0.9):.0f})"


# A quadratic in 32 directions, of curvatures from 1 to 1/100, seen through minibatches of 8 of its
# examples: each moves the minimum by a normal deviate, so that the loss of a batch is noisy.
SIZE, TRAIN, SEEDS = 32, 6000, 12
CURVATURE = np.float32(np.geomspace(1, 0.01, SIZE))
PEAKS = (0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.2)


def trained(rate: Any, peak: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The excess loss in the end, and how often the rate was cut."""
    tx = js.inject(optax.adam, learning_rate=rate(peak))

    def loss(x: jax.Array, key: jax.Array) -> jax.Array:
        moved = x - jax.random.normal(key, (8, SIZE))
        return 0.5 * jnp.mean(jnp.sum(CURVATURE * moved**2, axis=-1))

    def one(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x, key)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
        return (x, state), 0.5 * jnp.sum(CURVATURE * x**2)

    start = jnp.full(SIZE, 3.0)
    (_, state), excess = jax.lax.scan(one, (start, tx.init(start)), jax.random.split(key, TRAIN))
    return jnp.mean(excess[-100:]), js.events(state).get("cuts", jnp.zeros((), jnp.int32))


def training() -> None:
    rates = {
        "constant": lambda peak: js.constant(peak),
        "linear to 0, told the end": lambda peak: js.linear(peak, 0.0, TRAIN),
        **{name: functools.partial(times, rule) for name, rule in RULES.items()},
    }
    keys = jax.random.split(jax.random.key(0), SEEDS)
    print(f"\nAdam on a noisy quadratic, {TRAIN} steps, {SEEDS} seeds:", end=" ")
    print(f"the best of {len(PEAKS)} rates, and the highest\n")
    print(f"| learning rate | excess loss in the end | cuts | at the rate {PEAKS[-1]} |")
    print("| --- | --- | --- | --- |")
    for name, rate in rates.items():
        run = jax.vmap(functools.partial(trained, rate), (None, 0))
        excess, cuts = map(np.asarray, jax.jit(jax.vmap(run, (0, None)))(jnp.float32(PEAKS), keys))
        best = excess.mean(axis=1).argmin()
        means, errors = excess.mean(axis=1), excess.std(axis=1, ddof=1) / np.sqrt(SEEDS)
        told = [f"{means[i]:.5f} ± {errors[i]:.5f}" for i in (best, -1)]
        often = np.median(cuts[best])
        print(f"| {name}, {PEAKS[best]} | {told[0]} | {often:.0f} | {told[1]} |")


def times(rule: Any, peak: jax.Array) -> Any:
    return peak * rule


def main() -> None:
    start = time.perf_counter()
    known_streams()
    training()
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
