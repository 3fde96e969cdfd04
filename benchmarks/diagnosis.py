"""How often `diagnose` is right: runs made to fail in a known way, and healthy ones.

    python benchmarks/diagnosis.py

The limits in `diagnose` were chosen on the tasks of `diagnosis_development.py` and on digits
(`--development`). What is reported is of the tasks of `diagnosis_report.py`, and of digits with
other seeds and rates. How a run was made says what is wrong with it, and how it ended whether that
came true (`truth`): it never asks what `diagnose` is made of.

A run that goes uphill may diverge as well. Every other second accusation is wrong.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import diagnosis_development
import diagnosis_report
import diagnosis_tasks
import jax
import jax.numpy as jnp
import measure
import numpy as np
import optax
from measure import Table

import jaxsched as js
from jaxsched._commands._tasks._data import TRAIN, Digits, Images, digits
from jaxsched._commands._tasks._model import WIDTH, Network

STEPS, BATCH, EVERY = 600, 32, 30  # a validation loss every so many steps
PROBLEMS = (
    "uphill",
    "too_high",
    "too_low",
    "stagnation",
    "overfitting",
)
TRUTHS = (*PROBLEMS, "dead", "underfitting", "healthy")  # the last three have no verdict
KIN = {"too_high": {"uphill"}}

# A healthy run at a middling rate, which decays as a cosine to `floor` times itself at `stop`.
TUNED = {"momentum": 0.05, "plain": 0.2, "adam": 0.003}
NAMES = {"momentum": "SGD with momentum", "plain": "plain SGD", "adam": "Adam"}
ORDINARY = {
    "decays": 1.0,
    "floor": 0.0,
    "stop": STEPS,
    "batch": BATCH,
    "images": TRAIN,
    "width": WIDTH,  # hidden units that work
    "bias": 0.0,  # added to those of the hidden layer
    "weight_decay": 0.0,
}

# Of development, and of test runs.
RATES: dict[str, dict[str, tuple[list[float], list[float]]]] = {
    "momentum": {
        "healthy": ([0.025, 0.05, 0.1], [0.035, 0.07]),
        "too_low": ([5e-5, 2e-4, 5e-4], [1e-4, 3e-4]),
        "too_high": ([0.15, 0.2, 0.3, 0.6, 2.0], [0.16, 0.18, 0.25, 0.45, 1.0]),
    },
    "plain": {
        "healthy": ([0.1, 0.3], [0.2]),
        "too_low": ([5e-4, 2e-3], [1e-3]),
        "too_high": ([1.0, 1.5, 2.0, 3.0], [1.25, 1.75, 2.5]),
    },
    "adam": {
        "healthy": ([0.0015, 0.003, 0.006], [0.002, 0.0042]),
        "too_low": ([3e-6, 1e-5, 3e-5], [5e-6, 2e-5]),
        "too_high": ([0.04, 0.06, 0.1, 0.2, 0.4, 1.0], [0.05, 0.08, 0.15, 0.3, 0.7]),
    },
}
DECAYS = {
    "momentum": ([0.6, 1.0, 1.5, 2.0], [0.8, 1.2, 1.8]),
    "plain": ([0.2, 0.4], [0.3]),
    "adam": ([4.0, 6.0, 10.0, 16.0], [5.0, 8.0, 12.0]),
}
STOPS = [8, 15, 25, 40], [10, 20, 30]
FEW = [15, 30, 60, 100], [20, 45, 80]
DEAD = [-30.0], [-40.0]


def cases(optimizer: str, test: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a run is made to be, and how it is made."""
    rates, tuned, both = RATES[optimizer], TUNED[optimizer], (1.0, 0.0)
    for made in ("healthy", "too_low"):
        for rate in rates[made][test]:
            yield from ((made, {"rate": rate, "decays": decays}) for decays in both)
    for rate in rates["healthy"][test]:  # noisy gradients are no illness
        yield "healthy", {"rate": rate / 2, "batch": 8}
    for rate in rates["too_high"][test]:
        yield "too_high", {"rate": rate, "decays": 0.0}
    for stop in STOPS[test]:
        for floor in (0.0, 1e-4):
            yield "stagnation", {"rate": tuned, "stop": stop, "floor": floor}
    for bias in DEAD[test]:  # no hidden unit is ever active
        yield "dead", {"rate": tuned, "bias": bias}
    for images in FEW[test]:
        yield "overfitting", {"rate": tuned, "images": images, "decays": 0.0}
    for decays in both:
        for width in (1, 2):
            yield "underfitting", {"rate": tuned, "width": width, "decays": decays}
        for weight_decay in DECAYS[optimizer][test]:
            yield "underfitting", {"rate": tuned, "weight_decay": weight_decay, "decays": decays}


def truth(made: str, ran: dict[str, Any]) -> str | None:
    """What was wrong with a run; None if it was not made ill, or well, enough to say so.

    By the loss on its own training images before and after, the mean training loss of the last
    steps, and the validation loss at the end.
    """
    before, after, tail, valid = (float(ran[k]) for k in ("before", "after", "tail", "valid"))
    learnt = tail < before / 10
    if made == "too_high":
        return made if not tail <= before or not learnt else None  # or NaN
    if made == "overfitting":
        return made if learnt and valid > max(5 * after, before / 10) else None
    return made if learnt == (made == "healthy") else None


def crippled(params: Any, width: jax.Array) -> Any:
    """The parameters of a network whose hidden layer has `width` units that work."""
    works = jnp.arange(WIDTH) < width
    hidden = jax.tree.map(lambda x: jnp.where(works, x, 0), params["Dense_0"])
    return {**params, "Dense_0": hidden}


def losses(params: Any, images: Images, width: jax.Array) -> jax.Array:
    logits = Network().apply({"params": crippled(params, width)}, images.pixels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, images.labels)


def mean_of_first(x: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.where(jnp.arange(len(x)) < count, x, 0).sum() / count


def optimizer_of(kind: str, c: dict[str, jax.Array]) -> optax.GradientTransformationExtraArgs:
    def rate(t: jax.Array) -> jax.Array:
        falling = jnp.cos(jnp.pi / 2 * jnp.minimum(t / c["stop"], 1)) ** 2
        return c["rate"] * jnp.where(c["decays"] > 0, jnp.maximum(falling, c["floor"]), 1)

    rule = {"adam": optax.scale_by_adam(), "momentum": optax.trace(0.9), "plain": optax.identity()}
    decay = optax.add_decayed_weights(c["weight_decay"])
    return optax.chain(js.monitor(), rule[kind], decay, js.scale_by_learning_rate(rate))


def run(kind: str, data: Digits, c: dict[str, jax.Array]) -> dict[str, Any]:
    """One run: how it went, and what `diagnose` said of it at every validation."""
    key = jax.random.key(c["seed"])
    order = jax.random.permutation(jax.random.fold_in(key, 0), TRAIN)
    mine = jax.tree.map(lambda x: x[order], data.train)
    params = Network().init(key, mine.pixels[:1])["params"]
    params["Dense_0"]["bias"] += c["bias"]
    tx = optimizer_of(kind, c)

    def step(carry: Any, t: jax.Array) -> Any:
        params, state = carry
        drawn = jax.random.randint(jax.random.fold_in(key, 1 + t), (BATCH,), 0, c["images"])
        images = jax.tree.map(lambda x: x[drawn], mine)
        loss, gradients = jax.value_and_grad(
            lambda p: mean_of_first(losses(p, images, c["width"]), c["batch"])
        )(params)
        updates, state = tx.update(gradients, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    def epoch(carry: Any, steps: jax.Array) -> Any:
        params, state = carry
        valid = losses(params, data.valid, c["width"]).mean()
        carry, seen = jax.lax.scan(step, (params, js.observe(state, validation=valid)), steps)
        return carry, (seen, js.diagnose(carry[1]))

    times = jnp.arange(STEPS).reshape(-1, EVERY)
    (end, _), (seen, course) = jax.lax.scan(epoch, (params, tx.init(params)), times)
    return {
        "before": mean_of_first(losses(params, mine, c["width"]), c["images"]),
        "after": mean_of_first(losses(end, mine, c["width"]), c["images"]),
        "tail": seen[-2:].mean(),
        "valid": losses(end, data.valid, c["width"]).mean(),
        "course": course,
    }


def trained(test: bool) -> list[dict[str, Any]]:
    """All runs: one program for each optimizer."""
    data, rows = digits(), []
    for kind in TUNED:
        made = [(m, ORDINARY | c, s) for m, c in cases(kind, test) for s in seeds(test)]
        todo = [{**c, "seed": seed} for _, c, seed in made]
        stacked = {name: jnp.asarray([c[name] for c in todo]) for name in todo[0]}
        found = jax.jit(jax.vmap(functools.partial(run, kind, data)))(stacked)
        found = jax.tree.map(np.asarray, found)
        for i, (what, c, seed) in enumerate(made):
            ran = jax.tree.map(lambda x, i=i: x[i], found)
            ran |= {"made": what, "kind": kind, "options": {**c, "seed": seed}}
            rows.append(ran | {"truth": truth(what, ran)})
    return rows


def seeds(test: bool) -> range:
    return range(100, 120) if test else range(10)


def at(row: dict[str, Any], when: int) -> js.Diagnosis:
    return jax.tree.map(lambda x: x[when], row["course"])


def accused(row: dict[str, Any], when: int = -1) -> set[str]:
    said = at(row, when)
    return {problem for problem in PROBLEMS if getattr(said, problem) >= 0.5}


def interval(hits: int, of: int) -> str:
    """A share with Wilson's 95 % interval, as if runs were independent."""
    if of == 0:
        return "-"
    z, p = 1.96, hits / of
    middle, half = p + z**2 / (2 * of), z * np.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    low, high = ((middle + s * half) / (1 + z**2 / of) for s in (-1, 1))
    return f"{p:.3f} [{max(low, 0):.3f}, {min(high, 1):.3f}] {hits}/{of}"


def reports(rows: list[dict[str, Any]]) -> list[Table]:
    """How often each problem is found, the verdicts at the end, and how early they are right."""
    told = [row for row in rows if row["truth"] is not None]
    well = [row for row in told if row["truth"] == "healthy"]
    ill = [row for row in told if row["truth"] != "healthy"]
    unsaid = collections.Counter((r["made"], r["kind"]) for r in rows if r["truth"] is None)
    groups = ((n, made, NAMES[kind]) for (made, kind), n in unsaid.items())
    left = ", ".join(f'{n} made as "{made}" with {name}' for n, made, name in groups)

    found: list[tuple[Any, ...]] = []
    for problem in PROBLEMS[1:]:
        hits = sum(problem in accused(row) for row in ill if row["truth"] == problem)
        of = sum(row["truth"] == problem for row in ill)
        kin = {problem, *KIN.get(problem, ())}
        wrong = sum(problem in accused(row) for row in told if row["truth"] not in kin)
        found.append((problem, interval(hits, of), interval(hits, hits + wrong)))
    found.append(("healthy", interval(sum(not accused(row) for row in well), len(well)), ""))

    columns = tuple(x.replace("_", " ") for x in (*PROBLEMS[1:], "no problem found"))
    counts = collections.Counter((row["truth"], at(row, -1).verdict) for row in told)
    truths = TRUTHS[1:]
    verdicts = [(name, *(counts[name, column] for column in columns)) for name in truths]

    course: list[tuple[Any, ...]] = []
    for when in range(STEPS // EVERY // 4 - 1, STEPS // EVERY, STEPS // EVERY // 4):
        right = sum(row["truth"] in accused(row, when) for row in ill) / len(ill)
        wrong = sum(bool(accused(row, when)) for row in well) / len(well)
        course.append((f"{EVERY * (when + 1)}", f"{right:.1%}", f"{wrong:.1%}"))

    note = (
        f"{len(told)} runs on digits were each made to fail in a known way, or to succeed. "
        f"{sum(unsaid.values())} more runs were left out, because they neither failed nor "
        f"succeeded clearly: {left or 'none'}. A problem counts as found if its score is at least "
        "1/2 at the end, even if another problem has a higher score. `diagnose` has no verdict for "
        "dead units and underfitting. Brackets are 95 % Wilson intervals."
    )
    return [
        Table(
            "How often `diagnose` is right on digits",
            note,
            ("problem", "recall", "precision"),
            (*found,),
        ),
        Table(
            "The verdict of `diagnose` at the end of a run on digits",
            "The table counts runs, with a row for each true problem and a column for each "
            "verdict. The verdict is the problem with the highest score.",
            ("truth", *columns),
            (*verdicts,),
        ),
        Table(
            "How early `diagnose` is right on digits",
            "The table shows the share of failing runs in which `diagnose` finds the true problem "
            "after a number of steps. It also shows the share of healthy runs in which "
            "`diagnose` finds a problem.",
            ("steps", "failing, found", "healthy, accused"),
            (*course,),
        ),
    ]


def elsewhere(tasks: Iterable[Callable[[], Any]], seeds: range) -> list[dict[str, Any]]:
    """The runs of other tasks, and what `diagnose` says of them."""
    made = [make() for make in tasks]
    pairs = [(task, kind) for task in made for kind in task.rates]
    found = (judged(diagnosis_tasks.runs(task, kind, seeds)) for task, kind in pairs)
    return [row for rows in found for row in rows]


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of a task with the diagnosis at every moment, in place of the states."""
    states = jax.tree.map(lambda *x: jnp.stack(x), *[row.pop("states") for row in rows])
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(js.diagnose)))(states))
    for i, row in enumerate(rows):
        row["course"] = jax.tree.map(lambda x, i=i: x[i], found)
    return rows


def tables_elsewhere(rows: list[dict[str, Any]]) -> list[Table]:
    """How often each problem is found on other tasks, with new seeds."""
    told = [row for row in rows if row["truth"] is not None]
    found: list[tuple[Any, ...]] = []
    for problem in PROBLEMS:
        hits = sum(problem in accused(row) for row in told if row["truth"] == problem)
        of = sum(row["truth"] == problem for row in told)
        kin = {problem, *KIN.get(problem, ())}
        wrong = sum(problem in accused(row) for row in told if row["truth"] not in kin)
        found.append((problem, interval(hits, of), interval(hits, hits + wrong)))
    high = [row for row in told if row["truth"] == "too_high"]
    low = [row for row in told if row["truth"] == "too_low"]
    well = [row for row in told if row["truth"] == "healthy"]
    found.append(("healthy", interval(sum(not accused(row) for row in well), len(well)), ""))

    columns = tuple(x.replace("_", " ") for x in (*PROBLEMS, "no problem found"))
    verdicts: list[tuple[Any, ...]] = []
    for task in dict.fromkeys(row["task"] for row in told):
        counts = collections.Counter(
            (row["truth"], at(row, -1).verdict) for row in told if row["task"] == task
        )
        truths = [name for name in TRUTHS if any(t == name for t, _ in counts)]
        verdicts += [(f"{task}: {name}", *(counts[name, c] for c in columns)) for name in truths]

    course: list[tuple[Any, ...]] = []
    for when in range(diagnosis_tasks.MOMENTS):
        raised = sum("too_low" in accused(row, when) for row in high)
        lowered = sum("too_high" in accused(row, when) for row in low)
        course.append(
            (
                f"{diagnosis_tasks.STEPS * (when + 1) // diagnosis_tasks.MOMENTS}",
                interval(sum(bool(accused(row, when)) for row in well), len(well)),
                f"{raised}/{len(high)}",
                f"{lowered}/{len(low)}",
            )
        )

    finite = [row for row in high if "the loss rose" in str(at(row, -1))]
    words: list[tuple[Any, ...]] = []
    for true in (True, False):
        said = [bool(at(row, -1).evidence.sudden >= 0.5) for row in finite if abrupt(row) == true]
        words.append(("sudden" if true else "slow", sum(said), len(said) - sum(said)))

    note = (
        f"We trained {len(told)} runs of {diagnosis_tasks.STEPS} steps on "
        f"{len(diagnosis_report.REPORT)} tasks. No threshold of `diagnose` was chosen on these "
        "tasks or seeds. "
        f"{len(rows) - len(told)} more runs neither failed nor succeeded clearly. A run counts as "
        "healthy if its loss at the end is close to the best of 15 rates. Its rate is too high if "
        "a tenth of it is much better, and too low if ten times as much is much better. Brackets "
        "are 95 % Wilson intervals."
    )
    return [
        Table(
            "How often `diagnose` is right on other tasks",
            note,
            ("problem", "recall", "precision"),
            (*found,),
        ),
        Table(
            "The verdict of `diagnose` by task",
            "The table counts runs at their end. A row is a task and the true problem, and a "
            "column is a verdict.",
            ("task: truth", *columns),
            (*verdicts,),
        ),
        Table(
            "Healthy runs accused, and remedies in the wrong direction",
            "The table shows, for several steps at which `diagnose` was asked, how many healthy "
            "runs were accused, and how many runs were told to change the rate in the wrong "
            "direction. The state of a run at its end decides what is right.",
            ("steps", "healthy, accused", "too high, told to raise", "too low, told to lower"),
            (*course,),
        ),
        Table(
            "Sudden and slow divergence",
            "The table counts the runs whose text says that the loss rose. A divergence is sudden "
            "if more than half of the rise from the lowest mean of 16 losses to the last one "
            "happened within 48 steps.",
            ("truth", "said to be sudden", "said to be slow"),
            (*words,),
        ),
    ]


def abrupt(row: dict[str, Any]) -> bool:
    """Whether more than half of the rise of the losses happened within 48 steps."""
    means = np.asarray(row["losses"], float).reshape(-1, 16).mean(1)
    means = means[int(means.argmin()) :]
    rise = means[-1] - means[0]
    return any(
        b - a > rise / 2 for a, b in zip(means, [*means[3:], *[means[-1]] * 3], strict=False)
    )


def tables(turns: int) -> list[Table]:
    """The reported runs, once: it takes minutes."""
    others = elsewhere(diagnosis_report.REPORT, range(500, 506))
    return [*tables_elsewhere(others), *reports(trained(True))]


def mistakes(rows: list[dict[str, Any]]) -> None:
    for row in (row for row in rows if row["truth"] is not None):
        right = {row["truth"]} - {"healthy"}
        if right - accused(row) or accused(row) - right - KIN.get(row["truth"], set()):
            made = {k: v for k, v in row["options"].items() if v != ORDINARY.get(k)}
            print(f"\n{row['truth']} ({row['kind']}, {made}):\n{at(row, -1)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--development", action="store_true", help="the runs for choosing limits")
    parser.add_argument(
        "--mistakes", action="store_true", help="what was said of runs it misjudged"
    )
    options, _ = parser.parse_known_args()
    if not (options.development or options.mistakes):
        return measure.run(tables)
    rows = trained(not options.development)
    if options.development:
        for table in tables_elsewhere(elsewhere(diagnosis_development.DEVELOPMENT, range(6))):
            print(dataclasses.replace(table, note="Of the development tasks.").markdown())
    print("\n".join(table.markdown() for table in reports(rows)))
    if options.mistakes:
        mistakes(rows)
    return None


if __name__ == "__main__":
    main()
