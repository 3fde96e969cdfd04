"""`reduce_on_plateau`: golden tables, and a reference in plain Python over random metrics."""

import itertools
import math

import jax
import numpy as np
import optax
import pytest
from streams import follow

import jaxsched as js

NAN, INF = float("nan"), float("inf")


def scales(metrics, start=None, numbers_are_constants=True, **options):
    """The scale after each update that sees a metric; None is an update without one."""
    rule = js.reduce_on_plateau(**options)
    tx = js.scale_by_plateau(**options) if numbers_are_constants else None
    found, states = follow(rule, metrics, start, "value", numbers_are_constants, tx)
    out = [round(x, 6) for x in found]
    return out if start is None else (out, states[-1])


def reference(
    metrics,
    mode="min",
    factor=0.1,
    patience=10,
    rtol=1e-4,
    atol=0.0,
    cooldown=0,
    min_scale=0.0,
    start_after=0,
    accumulation_size=1,
    ema_decay=0.0,
    nonfinite="ignore",
):
    """The docstring of `reduce_on_plateau`, in Python floats."""
    scale, best, bad, cool, window, average, weight = 1.0, None, 0, 0, [], 0.0, 0.0
    out = []
    for step, metric in enumerate(metrics):
        if metric is not None and step >= start_after:
            broken = not math.isfinite(metric)
            judged = better = False
            if not broken:
                window.append(metric)
                if len(window) >= accumulation_size:
                    average = ema_decay * average + (1 - ema_decay) * sum(window) / len(window)
                    weight = ema_decay * weight + (1 - ema_decay)
                    window, judged = [], True
                    value = average / weight
                    margin = 0 if best is None else rtol * abs(best) + atol
                    better = best is None or (
                        value < best - margin if mode == "min" else value > best + margin
                    )
                    best = value if better else best
            counts = broken and nonfinite != "ignore"
            if judged or counts:
                cooling, cool = cool > 0, max(cool - 1, 0)
                bad = 0 if cooling or better else bad + 1
                now = counts and nonfinite == "reduce"
                if not cooling and not better and (now or bad >= max(patience, 1)):
                    scale, bad, cool = max(scale * factor, min_scale), 0, cooldown
        out.append(round(scale, 6))
    return out


FLAT = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.85, 0.85, 0.85, 0.85, 0.85, 0.85]


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        (
            FLAT,
            dict(patience=1, factor=0.5, cooldown=2),
            [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.0625],
        ),
        (
            FLAT,
            dict(patience=0, factor=0.5),
            [
                1,
                1,
                0.5,
                0.25,
                0.125,
                0.0625,
                0.0625,
                0.03125,
                0.015625,
                0.007812,
                0.003906,
                0.001953,
            ],
        ),
        ([1.0, 1.0, 1.0], dict(patience=1, factor=0.5, min_scale=0.4), [1, 0.5, 0.4]),
        ([-1.0] * 4, dict(patience=2, factor=0.5), [1, 1, 0.5, 0.5]),
        ([-1.0, -1.1, -1.2, -1.3], dict(patience=1), [1, 1, 1, 1]),
        ([-1.0, -0.99995, -0.9999], dict(patience=1, factor=0.5), [1, 0.5, 0.25]),
        ([0.5, 0.6, 0.7], dict(mode="max", patience=1), [1, 1, 1]),
        ([0.5, 0.5, 0.4], dict(mode="max", patience=1, factor=0.5), [1, 0.5, 0.25]),
        ([-0.5, -0.4, -0.4], dict(mode="max", patience=1, factor=0.5), [1, 1, 0.5]),
        ([0.0, 0.0, -0.1, -0.1], dict(patience=1, factor=0.5), [1, 0.5, 0.5, 0.25]),
        ([1.0, None, None, 1.0], dict(patience=1, factor=0.5), [1, 1, 1, 0.5]),
        ([1.0, NAN, NAN, 0.5], dict(patience=1), [1, 1, 1, 1]),
        ([1.0, -INF, 0.5, 0.4, 0.3], dict(patience=1), [1] * 5),
        ([1.0, NAN, INF, NAN], dict(patience=2, factor=0.5, nonfinite="bad"), [1, 1, 0.5, 0.5]),
        ([1.0, NAN, 0.9], dict(patience=9, factor=0.5, nonfinite="reduce"), [1, 0.5, 0.5]),
        (
            [NAN, NAN, NAN, NAN],
            dict(factor=0.5, cooldown=2, nonfinite="reduce"),
            [0.5, 0.5, 0.5, 0.25],
        ),
        ([1.0] * 5, dict(patience=1, factor=0.5, start_after=3), [1, 1, 1, 1, 0.5]),
        (
            [2.0, 1.0, 3.0, 0.0, 2.0, 2.0],
            dict(patience=1, factor=0.5, accumulation_size=2),
            [1, 1, 1, 0.5, 0.5, 0.25],
        ),
    ],
)
def test_golden(metrics, options, expected):
    assert scales(metrics, **options) == pytest.approx(expected, abs=1e-6)


OPTIONS = [
    dict(
        zip(
            ("mode", "patience", "cooldown", "accumulation_size", "ema_decay", "nonfinite"),
            row,
            strict=True,
        )
    )
    for row in itertools.product(
        ("min", "max"), (1, 3), (0, 2), (1, 3), (0.0, 0.5), ("ignore", "bad", "reduce")
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_reference(options):
    random = np.random.default_rng(7)
    metrics = list(np.round(random.normal(0, 1, 60).cumsum() / 8 - 0.5, 2))
    for k, special in ((5, NAN), (6, None), (20, INF), (21, -INF), (33, None), (50, NAN)):
        metrics[k] = special
    options = {
        **options,
        "factor": 0.5,
        "rtol": 0.0,
        "atol": 0.0313,
        "min_scale": 0.01,
        "start_after": 4,
    }
    # Of each structure one is compiled with its numbers: the others are arguments.
    constants = options["patience"] == 1 and not (options["cooldown"] or options["ema_decay"])
    found = scales(metrics, numbers_are_constants=constants, **options)
    assert found == pytest.approx(reference(metrics, **options), abs=1e-6)


def test_optax_agrees_where_it_is_right():
    metrics = [1.0, 0.9, 0.95, 0.9, 0.89995, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    for options in (dict(patience=2, factor=0.5), dict(patience=1, cooldown=1), dict(patience=3)):
        theirs = optax.contrib.reduce_on_plateau(**options)
        state, out = theirs.init({}), []
        for metric in metrics:
            with jax.numpy_dtype_promotion("standard"):
                _, state = theirs.update({}, state, value=metric)
            out.append(float(state.scale))
        assert scales(metrics, **options) == pytest.approx(out, abs=1e-6)


def test_torch_waits_for_one_more():
    """torch, patience=1, factor=.5, cooldown=2: from `features.md`, produced by running it."""
    torch = [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert scales(FLAT, patience=2, factor=0.5, cooldown=2) == pytest.approx(torch)


def test_a_restored_count_above_a_lowered_limit_still_fires():
    start = js.scale_by_plateau(patience=10).init({})
    _, state = scales([1.0] * 8, start=start, patience=10)
    after, _ = scales([1.0], start=state, patience=3)
    assert after == [0.1]
    start = js.scale_by_plateau(accumulation_size=8).init({})
    _, state = scales([1.0] * 6, start=start, accumulation_size=8)
    after, _ = scales([1.0, 1.0, 1.0, 1.0, 1.0], start=state, accumulation_size=4, patience=1)
    assert after[-1] == 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(mode="auto"), ["mode='auto'", "'min', 'max'"]),
        (dict(factor=1.0), ["factor=1.0", "(0, 1)"]),
        (dict(factor=0.0), ["factor=0.0", "(0, 1)"]),
        (dict(patience=-1), ["patience=-1", "not be negative"]),
        (dict(patience=2.5), ["patience=2.5", "integer"]),
        (dict(rtol=-1e-4), ["rtol=-0.0001"]),
        (dict(atol=NAN), ["atol=nan", "finite"]),
        (dict(cooldown=-2), ["cooldown=-2"]),
        (dict(min_scale=2.0), ["min_scale=2.0", "[0, 1]"]),
        (dict(start_after=-1), ["start_after=-1"]),
        (dict(accumulation_size=0), ["accumulation_size=0", "at least 1"]),
        (dict(ema_decay=1.0), ["ema_decay=1.0", "[0, 1)"]),
        (dict(nonfinite="raise"), ["nonfinite='raise'", "'ignore', 'bad', 'reduce'"]),
        (dict(metric=3), ["metric=3"]),
        (dict(axis_name=3), ["axis_name=3"]),
    ],
)
def test_messages(options, said):
    with pytest.raises(ValueError, match="reduce_on_plateau") as error:
        js.reduce_on_plateau(**options)
    for words in said:
        assert words in str(error.value)
