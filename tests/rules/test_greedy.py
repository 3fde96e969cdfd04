"""`greedy`: golden traces, and its docstring in plain Python over random metrics."""

import itertools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from streams import follow

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")


def scales(metrics, state=None, numbers_are_constants=True, **options):
    """The scale after each update that sees a metric; None is an update without one."""
    rule = js.greedy(**options)
    found, states = follow(rule, metrics, state, numbers_are_constants=numbers_are_constants)
    return found, states[-1]


def reference(
    metrics,
    mode="min",
    factor=0.95,
    patience=10,
    rtol=0.0,
    atol=1e-6,
    cooldown=0,
    warmup=0,
    min_scale=0.0,
    max_scale=10.0,
    min_change=0.0,
    reset_after=None,
    window_size=None,
    nonfinite="ignore",
):
    """The docstring of `greedy`, in Python floats."""
    scale, best, good, bad, quiet, floored, window = 1.0, None, 0, 0, 0, 0, []
    out = []
    for metric in metrics:
        finite = metric is not None and math.isfinite(metric)
        if finite:
            window = [*window, metric][-(window_size or 1) :]
            value = sum(window) / len(window)
        if finite or (metric is not None and nonfinite == "bad"):
            if quiet:
                quiet, good, bad = quiet - 1, 0, 0
            else:
                margin = 0 if best is None else rtol * abs(best) + atol
                better = finite and (
                    best is None
                    or (value < best - margin if mode == "min" else value > best + margin)
                )
                best = value if better else best
                good, bad = (good + 1, 0) if better else (0, bad + 1)
                if good >= max(patience, 1):
                    higher = min(scale / factor, max_scale)
                    scale = higher if higher - scale > min_change else scale
                    good, quiet, floored = 0, warmup, 0
                elif bad >= max(patience, 1):
                    lower = max(scale * factor, min_scale)
                    scale = lower if scale - lower > min_change else scale
                    bad, quiet = 0, cooldown
                    floored += scale <= min_scale
                    if reset_after is not None and scale <= min_scale and floored >= reset_after:
                        scale, best, good, floored, window = 1.0, None, 0, 0, []
        out.append(scale)
    return out


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        ([1.0, 0.9, 0.8, 0.7], dict(patience=1), [2, 4, 8, 10]),
        ([1.0, 0.9, 0.8, 0.7], dict(patience=2), [1, 2, 2, 4]),
        ([1.0, 1.0, 1.0], dict(patience=1, max_scale=1.0), [1, 0.5, 0.25]),
        ([1.0, 2.0, 2.0, 2.0], dict(patience=2, min_scale=0.4), [1, 1, 0.5, 0.5]),
        ([-1.0, -2.0, -1.9, -1.8], dict(patience=1), [2, 4, 2, 1]),
        ([0.1, 0.2, 0.3, 0.2], dict(mode="max", patience=1), [2, 4, 8, 4]),
        ([1.0, None, None, 0.9], dict(patience=2), [1, 1, 1, 2]),
        ([1.0, NAN, INF, 0.9], dict(patience=2), [1, 1, 1, 2]),
        ([1.0, NAN, INF, 0.9], dict(patience=2, nonfinite="bad"), [1, 1, 0.5, 0.5]),
        ([1.0, -INF, 0.9], dict(patience=1, nonfinite="bad"), [2, 1, 2]),
        ([1.0, 0.9, 0.8, 0.7, 0.6], dict(patience=1, warmup=1), [2, 2, 4, 4, 8]),
        ([1.0, 1.0, 1.0, 1.0, 1.0], dict(patience=1, cooldown=2), [2, 1, 1, 1, 0.5]),
        # Below the floor from the start: nothing falls.
        ([1.0, 1.0, 1.0], dict(patience=1, min_scale=3.0, max_scale=1.0), [1, 1, 1]),
        # Two cuts at the floor, and all starts anew: the next metric is the first.
        (
            [1.0, 1.0, 1.0, 1.0, 5.0, 4.0],
            dict(patience=1, max_scale=1.0, min_scale=0.5, reset_after=2),
            [1, 0.5, 1, 1, 0.5, 1],
        ),
    ],
)
def test_golden(metrics, options, expected):
    out, _ = scales(metrics, factor=0.5, **options)
    assert out == pytest.approx(expected)
    assert reference(metrics, factor=0.5, **options) == pytest.approx(expected)


OPTIONS = [
    dict(
        zip(
            ("mode", "patience", "cooldown", "warmup", "window_size", "nonfinite"), row, strict=True
        )
    )
    for row in itertools.product(
        ("min", "max"), (0, 3), (0, 2), (0, 1), (None, 4), ("ignore", "bad")
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_random_metrics(options):
    r = random.Random(str(options))
    kinds = (lambda: None, lambda: NAN, lambda: INF, lambda: -INF, lambda: r.gauss(0, 1))
    metrics = [r.choices(kinds, (1, 1, 1, 1, 16))[0]() for _ in range(60)]
    options |= dict(factor=r.choice([0.5, 0.9]), rtol=r.choice([0, 0.1]), atol=r.choice([0, 0.1]))
    options |= dict(min_scale=0.2, max_scale=3.0, min_change=r.choice([0.0, 0.12]))
    options |= dict(reset_after=r.choice([None, 2]))
    metrics = [m if m is None else float(np.float32(m)) for m in metrics]
    found, _ = scales(metrics, numbers_are_constants=constants(options), **options)
    np.testing.assert_allclose(found, reference(metrics, **options), 1e-5)


def constants(options):
    """Of each structure one is compiled with its numbers: the others are arguments."""
    return not (options["patience"] or options["cooldown"] or options["warmup"])


def test_it_is_one_program_for_any_numbers_and_has_no_branch():
    tx = js.scale_by_schedule(1 * js.greedy(window_size=3, reset_after=4))
    state = tx.init({})
    testing.assert_compiles_clean(lambda s: tx.update({}, s, value=jnp.float32(1.0))[1], state)

    def last(factor, patience):
        tx = js.scale_by_schedule(1 * js.greedy(factor=factor, patience=patience))
        losses = jnp.asarray([1.0, 0.9, 0.8, 0.8, 0.8, 0.8])
        one = lambda state, loss: (tx.update({}, state, value=loss)[1], None)
        return js.hyperparams(jax.lax.scan(one, tx.init({}), losses)[0])["scale"]

    factors, patiences = jnp.asarray([0.5, 0.9, 0.5]), jnp.asarray([1, 1, 3])
    many = jax.vmap(last)(factors, patiences)
    for got, factor, patience in zip(many, factors, patiences, strict=True):
        np.testing.assert_allclose(got, last(float(factor), int(patience)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(mode="up"), "'min', 'max'"),
        (dict(factor=1.0), r"greedy\(factor=\.\.\.\)` must be in \(0, 1\)"),
        (dict(patience=2.0), "patience=2"),
        (dict(rtol=-1.0), "rtol"),
        (dict(max_scale=0.0), "max_scale"),
        (dict(min_change=-0.1), "min_change"),
        (dict(reset_after=-1), "reset_after"),
        (dict(window_size=0), "window_size"),
        (dict(nonfinite="reduce"), "'ignore', 'bad'"),
        (dict(metric="step"), "argument of update"),
        (dict(metric=""), "name"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(options, says):
    with pytest.raises(ValueError, match=says):
        js.greedy(**options)


def test_the_length_of_its_window_is_no_tracer():
    with pytest.raises(ValueError, match="length of an array"):
        jax.jit(lambda n: js.greedy(window_size=n).init())(3)


def test_the_window_of_another_length_is_refused():
    _, state = scales([1.0, 0.9], window_size=3)
    with pytest.raises(ValueError, match="made with window_size=3"):
        scales([0.8], state, window_size=5)
