"""Draws the pictures of this folder: a run with each rule and guard on scikit-learn's digits.

    python docs/rules/draw.py             # all of them
    python docs/rules/draw.py spike_guard # one

Each picture is a run of a few seconds with the network of `jaxsched train`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import jaxsched as js
from jaxsched._commands._tasks._data import Digits, Images, digits
from jaxsched._commands._tasks._model import Network
from jaxsched._look._colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from jaxsched._look._colours import EVENTS as COLOURS
from jaxsched._rules._events import EVENTS
from jaxsched._rules._mailbox import listened

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NETWORK = Network()
EPOCHS, BATCH = 30, 32
STEPS = EPOCHS * (1437 // BATCH)


def loss_of(params: Any, images: Images) -> tuple[jax.Array, jax.Array]:
    logits = NETWORK.apply({"params": params}, images.pixels)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, images.labels)
    return losses.mean(), logits


def run(
    tx: optax.GradientTransformation,
    *,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    poison: tuple[int, ...] = (),
    noise: float = 0.0,
    after_epoch: Callable[[int, Any], Any] = lambda epoch, state: state,
) -> dict[str, np.ndarray]:
    """Train, and return the values to draw: one per step, and `val` once per epoch.

    In the steps of `poison` the labels are wrong and the pixels are too bright. A fraction `noise`
    of all labels is drawn at random each time, so no network can learn them.
    """
    data: Digits = digits()
    key, first = jax.random.split(jax.random.key(0))
    params = NETWORK.init(first, data.train.pixels[:1])["params"]
    tx = optax.with_extra_args_support(tx)
    state, names = tx.init(params), listened(tx.init(params))
    bad = jnp.zeros(10**5, bool).at[jnp.asarray(poison, int)].set(True)

    def told(state: Any, **metrics: Any) -> Any:
        return js.observe(state, **{k: x for k, x in metrics.items() if k in names})

    @jax.jit
    def epoch(params: Any, state: Any, key: jax.Array, start: jax.Array) -> Any:
        count = len(data.train.labels) // batch
        order = jax.random.permutation(key, len(data.train.labels))[: count * batch]

        def step(carry: Any, at: Any) -> Any:
            (params, state), (which, t) = carry, at
            noisy, drawn = jax.random.split(jax.random.fold_in(key, t))
            labels = jnp.where(bad[t], 9 - data.train.labels[which], data.train.labels[which])
            anything = jax.random.randint(drawn, labels.shape, 0, 10)
            labels = jnp.where(jax.random.bernoulli(noisy, noise, labels.shape), anything, labels)
            pixels = data.train.pixels[which] * jnp.where(bad[t], 5.0, 1.0)
            images = Images(pixels, labels)
            (loss, before), grads = jax.value_and_grad(loss_of, has_aux=True)(params, images)
            updates, state = tx.update(grads, told(state, loss=loss), params)
            params = optax.apply_updates(params, updates)
            said, says = map(jax.nn.log_softmax, (before, loss_of(params, images)[1]))
            kl = optax.losses.kl_divergence_with_log_targets(says, said).mean()
            seen = {"loss": loss, "kl": kl, "norm": optax.tree.norm(grads)}
            return (params, told(state, kl=kl)), (seen, js.hyperparams(state), js.events(state))

        times = start + jnp.arange(count)
        carry, rows = jax.lax.scan(step, (params, state), (order.reshape(count, batch), times))
        value = loss_of(carry[0], data.valid)[0]
        return carry[0], told(carry[1], value=value), rows, value

    tables, values = [], []
    for n in range(epochs):
        params, state, rows, value = epoch(
            params, state, jax.random.fold_in(key, n), n * (1437 // batch)
        )
        state = after_epoch(n, state)
        tables.append({name: np.asarray(x) for part in rows for name, x in part.items()})
        values.append(float(value))
    table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return {**table, "val": np.asarray(values), "state": state, "params": params}


def sgd(rate: Any, momentum: float = 0.9) -> optax.GradientTransformation:
    return js.inject(lambda learning_rate: optax.sgd(learning_rate, momentum), learning_rate=rate)


def picture(name: str, *panels: Callable[[Any], None]) -> None:
    """Draw panels below each other with a common axis of steps."""
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, 2.3 * len(panels)), sharex=True, layout="constrained"
    )
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        handles, _ = axis.get_legend_handles_labels()
        if handles:
            axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=8)
    axes[-1].set_xlabel("optimizer step")
    figure.savefig(HERE / f"{name}.png", dpi=85)
    plt.close(figure)
    print(f"{name}.png: {(HERE / f'{name}.png').stat().st_size // 1024} kB", flush=True)


def rate(found: dict[str, Any], alone: js.Schedule | None = None, log: bool = False) -> Any:
    """A panel with the rate used, the schedule without its rules, and the events."""

    def draw(axis: Any) -> None:
        if alone is not None:
            steps = np.arange(len(found["learning_rate"]))
            axis.plot(alone(steps), color=GREY, lw=1, ls=(0, (4, 2)), label="schedule alone")
        axis.plot(found["learning_rate"], color=BLUE, lw=1.6, label="learning rate used")
        for event in EVENTS:
            when = np.flatnonzero(np.diff(found.get(event, np.zeros(1)), prepend=0) > 0)
            height = np.full(len(when), 0.97)
            if len(when):
                label = f"{len(when)} {event}" if len(when) > 1 else event[:-1]
                style = {"ls": "", "marker": "v", "ms": 4, "color": COLOURS[event]}
                where = axis.get_xaxis_transform()
                axis.plot(when, height, transform=where, label=label, **style)
        axis.set_ylabel("learning rate")
        axis.set_yscale("log") if log else axis.set_ylim(bottom=0)

    return draw


def curve(found: dict[str, Any], name: str, label: str, log: bool = True, **style: Any) -> Any:
    def draw(axis: Any) -> None:
        values = found[name]
        ends = (np.arange(len(values)) + 1) * (len(found["loss"]) // len(values)) - 1
        options = {"color": SKY, "lw": 0.8} if len(ends) > 200 else {"color": BLUE, "marker": "o"}
        axis.plot(ends, values, **{"ms": 3, "label": label, **options, **style})
        axis.set_yscale("log" if log else "linear")
        axis.set_ylabel(name.replace("val", "validation loss"))

    return draw


def both(*draws: Any) -> Any:
    def draw(axis: Any) -> None:
        for one in draws:
            one(axis)

    return draw


def losses(found: dict[str, Any]) -> Any:
    def draw(axis: Any) -> None:
        curve(found, "loss", "training, each step")(axis)
        curve(found, "val", "validation, each epoch")(axis)
        axis.set_ylabel("loss")

    return draw


def reduce_on_plateau() -> None:
    found = run(sgd(js.constant(0.1) * js.reduce_on_plateau(patience=3, factor=0.5, rtol=0.01)))
    picture("reduce_on_plateau", rate(found, js.constant(0.1)), losses(found))


def reduce_when_flat() -> None:
    rule = js.reduce_when_flat(factor=0.3, rtol=0.1, metric="loss")
    found = run(sgd(js.constant(0.3) * rule, 0.0), batch=16, epochs=80, noise=0.3)
    picture("reduce_when_flat", rate(found, js.constant(0.3)), losses(found))


def greedy() -> None:
    rule = js.greedy(patience=1, factor=0.7, max_scale=20, metric="value")
    found = run(sgd(js.constant(0.01) * rule))
    picture("greedy", rate(found, js.constant(0.01), log=True), losses(found))


def kl_adaptive() -> None:
    found = run(sgd(js.constant(0.001) * js.kl_adaptive(0.002, max_scale=200)), epochs=10)

    def target(axis: Any) -> None:
        axis.axhline(0.002, color=ORANGE, lw=1.4, label="target")
        axis.axhspan(0.001, 0.004, color=ORANGE, alpha=0.15)

    divergence = curve(found, "kl", "divergence of each step")
    picture("kl_adaptive", rate(found, log=True), both(divergence, target))


def spike_guard() -> None:
    alone = js.warmup_cosine(0.1, total_steps=STEPS, warmup_steps=50)
    rule = js.spike_guard(metric="loss", recover_steps=100)
    found = run(sgd(alone * rule), poison=(300, 301, 640, 980))
    picture("spike_guard", rate(found, alone), losses(found))


def auto_warmup() -> None:
    found = run(sgd(0.1 * js.auto_warmup(metric="loss")))
    picture("auto_warmup", rate(found, js.constant(0.1)), losses(found))


def hypergradient() -> None:
    tx = sgd(0.003 * js.hypergradient(0.02, max_scale=1000.0), 0.0)
    found = run(tx)
    picture("hypergradient", rate(found, js.constant(0.003), log=True), losses(found))


def feedback() -> None:
    bold = js.feedback(
        lambda state, loss: {
            "scale": state["scale"] * jnp.where(loss < state["last"], 1.2, 0.5),
            "last": loss,
        },
        {"scale": 1.0, "last": 1e9},
        factor=lambda state: state["scale"],
    )
    found = run(sgd(0.03 * bold))
    picture("feedback", rate(found, js.constant(0.03)), losses(found))


def until() -> None:
    schedule = js.until(js.warmup_constant(0.1, warmup_steps=50), js.one_minus_sqrt(0.1, 0.0, 300))
    found = run(sgd(schedule), after_epoch=lambda n, s: js.trigger(s) if n == 14 else s)
    picture("until", rate(found), losses(found))


def cooldown() -> None:
    schedule = js.warmup_cosine(0.1, total_steps=2 * STEPS, warmup_steps=50)
    rule = js.cooldown(schedule, js.one_minus_sqrt(1.0, 0.0, 300))
    found = run(sgd(rule), after_epoch=lambda n, s: js.trigger(s) if n == 14 else s)
    picture("cooldown", rate(found, schedule), losses(found))


def tunable() -> None:
    def course(epoch: int, state: Any) -> Any:
        other = {9: js.cosine(0.05, 0.0, STEPS // 2), 19: js.cosine(0.1, 0.01, STEPS)}
        return js.retune(state, learning_rate=other[epoch]) if epoch in other else state

    found = run(sgd(js.tunable(js.cosine(0.1, 0.0, STEPS))), after_epoch=course)
    picture("tunable", rate(found, js.cosine(0.1, 0.0, STEPS)), losses(found))


def skip_spikes() -> None:
    poison = tuple(range(100, STEPS, 97))
    alone = js.cosine(0.05, 0.0, STEPS)
    guarded = run(js.skip_spikes(sgd(alone)), poison=poison)
    plain = run(sgd(alone), poison=poison)
    with_it = curve(guarded, "val", "with skip_spikes", color=BLUE)
    without = curve(plain, "val", "without", color=VERMILION)
    picture("skip_spikes", rate(guarded, alone), both(without, with_it))


def keep_best() -> None:
    alone = js.constant(0.3)
    tx = js.keep_best(
        sgd(alone * js.reduce_on_plateau(patience=3, factor=0.5), 0.0), backtrack=True
    )
    found = run(tx, batch=16)
    picture("keep_best", rate(found, alone), losses(found))


def snapshot() -> None:
    cycles = js.cosine(0.1, 0.0, STEPS // 5).cycle()
    found = run(optax.chain(sgd(cycles), js.snapshot(cycles, keep=5)))
    picture("snapshot", rate(found), losses(found))


def average() -> None:
    count, ends = STEPS // EPOCHS, (10, 20, 30)
    horizons = [epoch * count for epoch in ends]
    decays = [js.constant(1.0, n - n // 3) >> js.linear(1.0, 0.0, n // 3) for n in horizons]
    kept = [js.exponential_average(100), *map(js.merged_decay, decays)]
    mean, merged = [], []

    def look(epoch: int, state: Any) -> Any:
        valid = digits().valid
        mean.append(float(loss_of(js.averaged_params(state), valid)[0]))
        if epoch + 1 in ends:
            merge = js.average_at(state, (epoch + 1) * count)
            merged.append(float(loss_of(merge, valid)[0]))
        return state

    found = run(js.average(sgd(0.05), kept), noise=0.3, after_epoch=look)
    found["mean"] = np.asarray(mean)

    def rates(axis: Any) -> None:
        for n, decay in zip(horizons, decays, strict=True):
            steps = np.arange(n - n // 3, n + 1)
            label = "decays that the merges stand in for" if n == horizons[0] else None
            style = {"ls": (0, (4, 2)), "lw": 1.4, "color": VERMILION, "label": label}
            axis.plot(steps, 0.05 * decay(steps), **style)
        axis.axhline(0.05, color=BLUE, lw=1.6, label="learning rate used")
        axis.set_ylabel("learning rate")
        axis.set_ylim(0, 0.058)

    def points(axis: Any) -> None:
        style = {"ls": "", "marker": "D", "ms": 7, "color": VERMILION}
        axis.plot(np.asarray(horizons) - 1, merged, label="merges", **style)
        axis.set_ylabel("validation loss")

    last = curve(found, "val", "last iterate", log=False, color=BLUE)
    averaged = curve(found, "mean", "exponential average", log=False, color=GREEN)
    picture("average", rates, both(last, averaged, points))


def per_group() -> None:
    labels = js.by_path(lambda path: "head" if "Dense_1" in path else "body")
    alone = js.warmup_cosine(0.1, total_steps=STEPS, warmup_steps=50)
    rates = js.unfreezing(alone, ["head", "body"], every=STEPS // 3)
    found = run(optax.chain(optax.trace(0.9), js.per_group(labels, rates)))

    def groups(axis: Any) -> None:
        for name, colour in (("head", GREEN), ("body", PURPLE)):
            axis.plot(found[f"{name}/learning_rate"], color=colour, lw=1.6, label=name)
        axis.set_ylabel("learning rate")

    picture("per_group", groups, losses(found))


def layerwise() -> None:
    alone = js.warmup_cosine(0.1, total_steps=STEPS, warmup_steps=50)
    tx = optax.chain(
        optax.trace(0.9),
        js.layerwise(decay=0.5, depth=["Dense_0", "Dense_1"]),
        js.scale_by_learning_rate(alone),
    )
    found = run(tx)

    def layers(axis: Any) -> None:
        for name, colour in (("Dense_1", GREEN), ("Dense_0", PURPLE)):
            used = found[f"{name}/scale"] * found["learning_rate"]
            axis.plot(used, color=colour, lw=1.6, label=name)
        axis.set_ylabel("learning rate")

    picture("layerwise", layers, losses(found))


def monitor() -> None:
    rates = {"0.0003": PURPLE, "0.1": BLUE, "1.6": VERMILION}
    problems = {"too_high": "-", "too_low": "--"}
    scores: dict[str, list[Any]] = {}
    found = {}
    for text in rates:
        scores[text] = []
        watched = optax.chain(js.monitor(metric="loss", validation="value"), sgd(float(text), 0.0))

        def look(_: int, state: Any, said: list[Any] = scores[text]) -> Any:
            said.append(js.diagnose(state))
            return state

        found[text] = run(watched, after_epoch=look)
        print(f"  at {text}: {scores[text][-1]}")

    def lines(axis: Any) -> None:
        ends = (np.arange(EPOCHS) + 1) * (STEPS // EPOCHS) - 1
        for text, colour in rates.items():
            for problem, style in problems.items():
                values = [float(getattr(d, problem)) for d in scores[text]]
                if max(values) >= 0.5:
                    axis.plot(
                        ends,
                        values,
                        color=colour,
                        ls=style,
                        label=f"{problem.replace('_', ' ')} at {text}",
                    )
        axis.set_ylabel("score")
        axis.axhline(0.5, color=GREY, lw=1, ls=(0, (4, 2)))

    panels = [
        curve(found[text], "loss", f"rate {text}", color=colour) for text, colour in rates.items()
    ]
    picture("monitor", both(*panels), lines)


DRAWN = {
    f.__name__: f
    for f in (
        reduce_on_plateau, reduce_when_flat, greedy, kl_adaptive, spike_guard, auto_warmup,
        hypergradient, feedback, until, cooldown, tunable, skip_spikes, keep_best, snapshot,
        average, per_group, layerwise, monitor,
    )
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[1:] or DRAWN:
        DRAWN[name]()
