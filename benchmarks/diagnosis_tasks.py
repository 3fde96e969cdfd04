"""Small tasks that are unlike each other, and runs on them that fail on purpose or succeed.

All runs of a task with one optimizer are one program. `course` returns the optimizer states of
every run at four moments, without the sample of gradients, so that they can be judged later.

The truth comes from a grid of rates: the loss at the end on held-out draws, minus the best of the
grid, over what the best run learns. This excess has neither scale nor offset. A rate is too low if
ten times the rate is much better, and too high if a tenth of it is; see `truth`.
"""

from __future__ import annotations

import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched._core._trees import all_of
from jaxsched._diagnose._monitor import MonitorState
from jaxsched._transforms._scheduled import ScheduledState

STEPS, EVERY, MOMENTS = 512, 32, 4  # a validation loss every so many steps
WIDTH = 32  # of hidden layers
# Decades around the usual rate.
GRID = (
    -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5,
)  # fmt: skip

Data = tuple[jax.Array, jax.Array]
Case = dict[str, Any]

ORDINARY: Case = {
    "rate": 1.0,
    "decays": 0.0,  # 1: as a cosine, to zero
    "warmup": 0,  # steps
    "stop": STEPS,  # the rate is zero from here on
    "sign": 1.0,
    "count": 2**30,  # training examples
    "batch": 2**30,
    "width": WIDTH,  # hidden units that work
    "bias": 0.0,  # added to those of the hidden layer
    "see": 1.0,  # 0: inputs are hidden, so that only the mean can be learnt
    "decay": 0.0,  # of the weights
    "scale": 1.0,  # of targets and predictions
    "offset": 0.0,  # of targets
    "easy": 0,  # first steps, whose losses are lower
    "lost": 0.0,  # added to every loss
}


class Task(NamedTuple):
    """A task: its data, its model, and what is known about it."""

    name: str
    init: Callable[[jax.Array], Any]
    losses: Callable[..., jax.Array]  # (params, x, y, c): one for each example
    train: Data
    valid: Data
    batch: int
    rates: dict[str, float]  # by optimizer: a usual one
    scales: tuple[float, ...] = (1.0,)
    batches: tuple[int, ...] = (2**30,)
    surrogate: Callable[..., jax.Array] | None = None  # what a policy minimizes
    dies: bool = False  # hidden units are rectified
    blind: str = "underfitting"  # what it is if the inputs are zero: "dead" if gradients are, too
    shifts: bool = False  # targets can have an offset
    few: tuple[int, ...] = ()  # examples that are too few


def dense(key: jax.Array, *sizes: int) -> dict[str, jax.Array]:
    """The parameters of a network with these widths."""
    params = {}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        w = jax.random.normal(jax.random.fold_in(key, i), (a, b)) * np.sqrt(1 / a)
        params |= {f"w{i}": w, f"b{i}": jnp.zeros(b)}
    return params


def hidden(x: jax.Array, c: Case) -> jax.Array:
    """The activations of the units that work."""
    return jnp.where(jnp.arange(x.shape[-1]) < c["width"], jax.nn.relu(x + c["bias"]), 0)


def network(params: Any, x: jax.Array, c: Case) -> jax.Array:
    return hidden(c["see"] * x @ params["w0"] + params["b0"], c) @ params["w1"] + params["b1"]


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Causal attention: of (batch, place, head, size)."""
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(q.shape[-1])
    seen = jnp.tri(q.shape[1], dtype=bool)
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e9))
    return jnp.einsum("bhij,bjhd->bihd", weights, v)


def squares(predict: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def losses(params: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        error = predict(params, x, c) - (y + c["offset"])
        return ((c["scale"] * error).reshape(len(x), -1) ** 2).mean(1)

    return losses


def entropies(predict: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def losses(params: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        each = optax.softmax_cross_entropy_with_integer_labels(predict(params, x, c), y)
        return each.reshape(len(x), -1).mean(1)

    return losses


def parted(x: Any, y: Any, valid: int) -> dict[str, Data]:
    """Training and validation examples, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(x))
    x, y = jnp.asarray(np.asarray(x)[order]), jnp.asarray(np.asarray(y)[order])
    return {"train": (x[valid:], y[valid:]), "valid": (x[:valid], y[:valid])}


def text(files: list[pathlib.Path], length: int) -> dict[str, Data]:
    """Pieces of files, and each with the next byte of every byte."""
    found = np.frombuffer(b"".join(p.read_bytes() for p in files), np.uint8).astype(np.int32) % 128
    rows = found[: (len(found) - 1) // length * length].reshape(-1, length)
    after = found[1 : rows.size + 1].reshape(-1, length)
    return parted(rows[:4000], after[:4000], 128)


def linear(
    name: str,
    width: int,
    noise: float,
    batches: tuple[int, ...],
    seed: int,
    correlation: float = 0.0,
) -> Task:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(20000, width)), rng.normal(size=width) / np.sqrt(width)
    if correlation:
        x = np.sqrt(1 - correlation) * x + np.sqrt(correlation) * rng.normal(size=(20000, 1))
    y = x @ w + noise * rng.normal(size=20000)
    return Task(
        name=name,
        init=lambda _: {"w": jnp.zeros(width)},
        losses=squares(lambda p, x, c: c["see"] * x @ p["w"]),
        blind="dead",
        **parted(x.astype(np.float32), y.astype(np.float32), 2048),
        batch=4,
        rates={"plain": 0.02, "adam": 0.02},
        batches=batches,
    )


def cases(task: Task, kind: str) -> Iterator[tuple[str, Case]]:
    """What each run is made to be, and how it is made."""
    for scale in task.scales:
        for batch in task.batches:
            same = {"scale": scale, "batch": batch}
            usual = task.rates[kind] * (1 if kind == "adam" else scale**-2)
            yield from (("grid", {**same, "rate": usual * 10**d, "decade": d}) for d in GRID)
            made = [("healthy", {"decays": 1.0}), ("healthy", {"decays": 1.0, "warmup": 160})]
            made += [("healthy", {"easy": 12})]
            made += [("healthy", {"offset": 2.0})] if task.shifts else []
            made += [("healthy", {"lost": 3 * scale**2})]
            made += [("uphill", {"sign": -1.0}), ("uphill", {"sign": -1.0, "rate": usual / 10})]
            made += [("stagnation", {"stop": stop}) for stop in (8, 24)]
            made += [("dead", {"bias": -40.0})] if task.dies else []
            made += [("overfitting", {"count": n}) for n in task.few]
            made += [(task.blind, {"see": 0.0})]
            made += [("underfitting", {"width": 1})] if task.dies else []
            made += [("underfitting", {"decay": 3.0 if kind == "adam" else 1.0})]
            for what, c in made:
                yield what, {**same, "rate": usual, "decade": 0.0, **c}


def optimizer(kind: str, c: Case) -> optax.GradientTransformationExtraArgs:
    def rate(t: jax.Array) -> jax.Array:
        warm = jnp.minimum((t + 1) / (c["warmup"] + 1), 1)
        falling = jnp.where(c["decays"] > 0, jnp.cos(jnp.pi / 2 * t / STEPS) ** 2, 1)
        return jnp.where(t < c["stop"], c["rate"] * warm * falling, 0)

    rule = {"adam": optax.scale_by_adam(), "momentum": optax.trace(0.9), "plain": optax.identity()}
    signed = optax.stateless(lambda u, _: jax.tree.map(lambda x: x * c["sign"], u))
    held = optax.add_decayed_weights(c["decay"] * (1 if kind == "adam" else c["scale"] ** 2))
    return optax.chain(js.monitor(), rule[kind], held, js.scale_by_learning_rate(rate), signed)


def course(task: Task, kind: str, c: Case) -> dict[str, Any]:
    """One run: its losses, and the states of its monitor at several moments."""
    key = jax.random.key(c["seed"])
    params = task.init(key)
    tx = optimizer(kind, c)
    x, y = task.train
    count = jnp.minimum(c["count"], len(x))
    # Which examples are seen differs from run to run.
    start = jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(x))
    among = jnp.arange(task.batch) < jnp.minimum(c["batch"], task.batch)

    def mean(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(among, task.losses(params, x, y, c), 0).sum() / among.sum()

    def step(carry: Any, t: jax.Array) -> Any:
        params, before, state = carry
        mine = jax.random.fold_in(key, 2 + t)
        drawn = (start + jax.random.randint(mine, (task.batch,), 0, count)) % len(x)
        before = jax.tree.map(lambda a, b: jnp.where(t % 8 == 0, a, b), params, before)

        def loss_of(p: Any) -> jax.Array:
            if task.surrogate:
                loss = task.surrogate(p, before, x[drawn], y[drawn], mine, c)
            else:
                loss = mean(p, x[drawn], y[drawn])
            return loss * jnp.where(t < c["easy"], 0.6, 1)

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(gradients, state, params, value=loss + c["lost"])
        return (optax.apply_updates(params, updates), before, state), loss + c["lost"]

    def score(params: Any) -> jax.Array:
        return task.losses(params, *task.valid, c).mean()

    def epoch(carry: Any, steps: jax.Array) -> Any:
        params, before, state = carry
        valid = score(params)
        if not task.surrogate:
            state = js.observe(state, validation=valid + c["lost"])
        carry, losses = jax.lax.scan(step, (params, before, state), steps)
        return carry, (losses, valid, kept(carry[2]))

    times = jnp.arange(STEPS).reshape(-1, EVERY)
    (end, _, _), (losses, valid, states) = jax.lax.scan(
        epoch, (params, params, tx.init(params)), times
    )
    own = (start + jnp.arange(512) % count) % len(x)
    each = len(times) // MOMENTS
    return {
        "losses": losses.reshape(-1),
        "before": score(params),
        "after": score(end),
        "lowest": jnp.nanmin(valid),  # of the validation losses
        "own": task.losses(end, x[own], y[own], c).mean(),  # on its own examples
        "states": jax.tree.map(lambda s: s[each - 1 :: each], states),
    }


def kept(state: Any) -> Any:
    """What `diagnose` reads of a state: all but the samples."""
    (monitor,) = all_of(MonitorState, state)
    clocks = [x._replace(inner_state=()) for x in all_of(ScheduledState, state)]
    return monitor._replace(previous=jnp.zeros(0)), clocks


def runs(task: Task, kind: str, seeds: range) -> list[dict[str, Any]]:
    """All runs of a task by one optimizer, and the truth about each."""
    made = [(m, ORDINARY | c, s) for m, c in cases(task, kind) for s in seeds]
    todo = [{**c, "seed": s} for _, c, s in made]
    stacked = {name: jnp.asarray([c[name] for c in todo]) for name in todo[0] if name != "decade"}
    found = jax.jit(jax.vmap(functools.partial(course, task, kind)))(stacked)
    found = jax.tree.map(np.asarray, found)
    rows: list[dict[str, Any]] = []
    for i, (what, c, seed) in enumerate(made):
        ran = jax.tree.map(lambda x, i=i: x[i], found)
        rows.append({**ran, "made": what, "task": task.name, "kind": kind, "options": c})
        rows[-1] |= {"seed": seed}
    return told(rows)


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the excess of each run, the best of the rates, and the truth."""
    for same in {same_task(row) for row in rows}:
        group = [row for row in rows if same_task(row) == same]
        grid = [row for row in group if row["made"] == "grid"]
        ends = {d: [r["after"] for r in grid if r["options"]["decade"] == d] for d in GRID}
        median = {d: float(np.median(np.nan_to_num(ends[d], nan=np.inf))) for d in GRID}
        best = min(median, key=lambda d: median[d])
        first = float(np.median([row["before"] for row in grid]))
        span = first - median[best]
        excess = {d: (median[d] - median[best]) / span for d in GRID}
        for row in group:
            loss = float(np.nan_to_num(row["after"], nan=np.inf, posinf=np.inf))
            offset = row["options"]["offset"]
            # An offset makes the first loss higher: the excess is in units of the span without.
            row["excess"] = (loss - median[best]) / span
            row["best"] = best
            row["span"] = span
            row["truth"] = truth(row, excess) if offset == 0 or row["made"] != "grid" else None
    return rows


def same_task(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["kind"], row["options"]["scale"], row["options"]["batch"]


WELL, ILL = 0.1, 0.25  # excess of a run that went well, or failed


def truth(row: dict[str, Any], excess: dict[float, float]) -> str | None:
    """What was wrong with a run; None if it neither failed nor succeeded clearly."""
    made, found, decade = row["made"], row["excess"], row["options"]["decade"]
    if made == "grid":
        if found < WELL:
            return "healthy"
        if found < ILL:
            return None
        if decade < row["best"]:
            if found > 1:
                return None  # one run may diverge at a rate at which most do not
            higher = min(
                (x for d, x in excess.items() if 0.75 <= d - decade <= 1.25), default=np.inf
            )
            return "too_low" if higher < found - 0.1 else None
        lower = min((x for d, x in excess.items() if d <= decade - 0.75), default=np.inf)
        if decade == row["best"] or not lower < found - 0.1:
            return None
        return "too_high"
    if made == "healthy":
        return made if found < WELL else None
    if made == "uphill":
        return made if found > 1 else None
    if made == "overfitting":
        apart = (row["after"] - row["own"]) / row["span"]
        return made if apart > ILL and found > ILL else None
    return made if ILL < found < 1.2 else None  # and above that it has diverged
