"""`spike_guard` and its window: golden traces, and the docstring in plain Python."""

import itertools
import math
import random
import statistics

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from streams import follow

import jaxsched as js
from jaxsched import testing
from jaxsched._rules import _ring, _spikes

NAN, INF = float("nan"), float("inf")
LARGEST = float(np.finfo(np.float32).max)


def scales(metrics, state=None, numbers_are_constants=True, **options):
    """The scale after each update that sees a metric; None is an update without one."""
    rule = js.spike_guard(**options)
    found, states = follow(rule, metrics, state, numbers_are_constants=numbers_are_constants)
    return found, states[-1]


def reference(
    metrics,
    factor=0.1,
    recover_steps=100,
    sigmas=6.0,
    window_size=128,
    min_observations=64,
    min_scale=0.01,
    nonfinite="spike",
):
    """The docstring of `spike_guard`, in Python floats."""
    window, low, since, out = [], 1.0, 0, []
    for t, metric in enumerate(metrics):
        scale = low + (1 - low) * min((t - since) / recover_steps, 1)
        finite = metric is not None and math.isfinite(metric)
        spike = metric is not None and not finite and nonfinite == "spike"
        if finite and len(window) >= min_observations:
            mean, std = statistics.fmean(window), statistics.stdev(window)
            spike = metric > mean + max(sigmas * std, 2e-6 * max(abs(min(window)), abs(metric)))
        if finite:
            window = [*window, metric][-window_size:]
        if spike:
            scale = low = max(scale * factor, min_scale)
            since = t
        out.append(scale)
    return out


SMALL = dict(window_size=4, min_observations=2, recover_steps=2, factor=0.5)


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        ([1.0, 1.1, 9.0, 1.0, 1.1, 1.0], SMALL, [1, 1, 0.5, 0.75, 1, 1]),
        # Not before enough are there.
        ([1.0, 9.0, 1.0, 90.0], {**SMALL, "min_observations": 3}, [1, 1, 1, 0.5]),
        # A second one on the way back drops it from where it is, a third to the floor.
        ([0.0, 0.1, 9.0, 1e3, 1e5], {**SMALL, "sigmas": 1.0}, [1, 1, 0.5, 0.375, 0.34375]),
        (
            [0.0, 0.1, 9.0, 1e3, 1e5],
            {**SMALL, "sigmas": 1.0, "min_scale": 0.4},
            [1, 1, 0.5, 0.4, 0.4],
        ),
        # The clock goes on without a metric.
        ([1.0, 1.1, 9.0, None, None, None], SMALL, [1, 1, 0.5, 0.75, 1, 1]),
        ([1.0, 1.1, 9.0, 1.0], {**SMALL, "recover_steps": 1}, [1, 1, 0.5, 1]),
        ([NAN, None, None], SMALL, [0.5, 0.75, 1]),
        ([1.0, NAN, 1.1, INF, -INF], {**SMALL, "nonfinite": "ignore"}, [1] * 5),
        # A leap down is none, and neither is rounding.
        ([1.0, 1.1, -9.0], SMALL, [1, 1, 1]),
        ([0.1, 0.1, 0.1, 0.1000001, 0.1], SMALL, [1] * 5),
        ([0.1, 0.1, 0.1, 0.101], SMALL, [1, 1, 1, 0.5]),
        ([0.0, 0.0, 0.0, 0.0], SMALL, [1] * 4),
        ([-5.0, -5.1, -2.0], SMALL, [1, 1, 0.5]),
    ],
)
def test_golden(metrics, options, expected):
    assert scales(metrics, **options)[0] == pytest.approx(expected)
    assert reference(metrics, **options) == pytest.approx(expected)


OPTIONS = [
    dict(zip(("window_size", "sigmas", "recover_steps", "nonfinite"), row, strict=True))
    for row in itertools.product((2, 7), (1.5, 4.0), (1, 9), ("ignore", "spike"))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_random_metrics(options):
    r = random.Random(str(options))
    kinds = (lambda: None, lambda: NAN, lambda: INF, lambda: -INF, lambda: r.expovariate(0.1))
    metrics = [
        r.choices((*kinds, lambda: r.gauss(1, 0.1)), (2, 1, 1, 1, 3, 30))[0]() for _ in range(120)
    ]
    options |= dict(
        min_observations=r.randint(2, options["window_size"]), factor=r.choice([0.3, 0.7])
    )
    options |= dict(min_scale=r.choice([0.0, 0.15]))
    metrics = [m if m is None else float(np.float32(m)) for m in metrics]
    # Of each structure one is compiled with its numbers: the others are arguments.
    constants = options["sigmas"] == 1.5 and options["recover_steps"] == 1
    found, _ = scales(metrics, numbers_are_constants=constants, **options)
    np.testing.assert_allclose(found, reference(metrics, **options), 1e-5)


def test_of_a_level_that_has_changed_a_few_are_spikes():
    r = np.random.default_rng(0)
    metrics = r.normal(1, 0.05, 150).tolist() + r.normal(3, 0.05, 150).tolist()
    scale, state = scales(metrics)
    assert 1 <= int(js.events(state)["spikes"]) <= 128 / 37 + 1
    assert scale[149] == 1 and scale[150] == pytest.approx(0.1)
    assert min(scale) == pytest.approx(0.01) and scale[-1] == 1


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace"])
def test_noise_is_no_spike(kind):
    draw = getattr(np.random.default_rng(1), kind)
    steps = np.arange(1500)
    losses = np.exp(-steps / 500) + draw(0.0, 0.02 if kind == "laplace" else 0.1, 1500)
    assert int(run(js.spike_guard(), jnp.float32(losses))) <= (kind == "laplace")


@jax.jit
def run(rule, losses):
    """How many spikes there are in a stream."""
    tx = js.scale_by_schedule(1 * rule)
    one = lambda state, loss: (tx.update({}, state, value=loss)[1], None)
    return js.events(jax.lax.scan(one, tx.init({}), losses)[0])["spikes"]


def test_it_hears_the_gradient_norm_by_itself():
    guard = js.spike_guard(
        metric="gradient_norm", window_size=8, min_observations=4, recover_steps=5
    )
    tx = js.with_gradient_norm(js.scale_by_learning_rate(1.0 * guard))
    state, rates = tx.init({"w": jnp.zeros(3)}), []
    for size in (1.0, 1.1, 1.0, 1.1, 50.0, 1.0):
        _, state = tx.update({"w": jnp.full(3, size)}, state)
        rates.append(float(js.hyperparams(state)["learning_rate"]))
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.28])


def test_it_is_one_program_for_any_numbers_and_has_no_branch():
    tx = js.scale_by_schedule(1 * js.spike_guard())
    state = tx.init({})
    testing.assert_compiles_clean(lambda s: tx.update({}, s, value=jnp.float32(1.0))[1], state)

    @jax.jit
    def last(factor, steps, sigmas, start):
        guard = js.spike_guard(
            factor=factor, recover_steps=steps, sigmas=sigmas, min_observations=start, window_size=4
        )
        tx = js.scale_by_schedule(1 * guard)
        losses = jnp.asarray([1.0, 1.1, 1.0, 1.4, 9.0, 1.0, 1.0])
        one = lambda state, loss: (tx.update({}, state, value=loss)[1], None)
        return js.hyperparams(jax.lax.scan(one, tx.init({}), losses)[0])["scale"]

    rows = jnp.asarray([0.5, 0.1, 0.5]), jnp.asarray([5, 3, 9]), jnp.asarray([3.0, 3.0, 100.0])
    rows = (*rows, jnp.asarray([2, 4, 3]))
    many = jax.vmap(last)(*rows)
    for got, *row in zip(many, *rows, strict=True):
        np.testing.assert_allclose(got, last(*(x.item() for x in row)), rtol=1e-6)
    assert len(set(map(float, many))) == 3
    for bad in (0, -3, 2**31 - 1):
        assert np.isfinite(last(float(bad), bad, float(bad), bad))


def test_its_text_is_read_back():
    for rule in (
        0.1 * js.spike_guard(),
        1
        * js.spike_guard(
            recover_steps=10**10, window_size=9, min_observations=3, nonfinite="ignore"
        ),
    ):
        testing.assert_same(js.parse(repr(rule)), rule)
    assert repr(js.parse("0.1 * spike_guard(sigmas=4)")) == "0.1 * spike_guard(sigmas=4.0)"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(factor=1.0), r"spike_guard\(factor=\.\.\.\)` must be in \(0, 1\), got factor=1"),
        (dict(recover_steps=0), "must be at least 1, got recover_steps=0"),
        (dict(recover_steps=2.0), "Write recover_steps=2"),
        (dict(sigmas=0.0), "must be positive, got sigmas=0"),
        (dict(window_size=1), "must be at least 2, got window_size=1"),
        (dict(min_observations=1), "must be at least 2, got min_observations=1"),
        (dict(min_observations=200), "must be at most window_size=128, got min_observations=200"),
        (dict(min_scale=2.0), r"must be in \[0, 1\], got min_scale=2"),
        (dict(nonfinite="bad"), "'spike', 'ignore'"),
        (dict(metric="step"), "argument of update"),
        (dict(axis_name=3), "axis_name=3"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(options, says):
    with pytest.raises(ValueError, match=says):
        js.spike_guard(**options)


def test_the_length_of_its_window_is_no_tracer_and_no_other():
    with pytest.raises(ValueError, match="length of an array"):
        jax.jit(lambda n: js.spike_guard(window_size=n).init())(3)
    _, state = scales([1.0], window_size=70)
    with pytest.raises(ValueError, match=r"window_size=71.*window_size=70.*graft"):
        scales([1.0], state, window_size=71)


append = jax.jit(_ring.append)


def filled(values, size=None):
    window = _ring.empty(size or len(values))
    for value in values:
        window = append(window, np.float32(value), True)
    return window


@pytest.mark.parametrize(
    ("offset", "scale"),
    [(0, 1), (0, 1e30), (0, LARGEST), (0, 1e-30), (1e4, 1.0), (-1e6, 10.0), (3e38, 1e37)],
)
def test_the_moments_of_a_window(offset, scale):
    r = np.random.default_rng(0)
    values = np.float32(np.clip(offset + scale * r.uniform(-1, 1, 40), -LARGEST, LARGEST))
    window = filled(values, 32)
    low, high, mean, std = (float(x) for x in _spikes.spread(window))
    mean, std = low * (1 - mean) + high * mean, (high - low) * std
    last = values[-32:].astype(np.float64)
    np.testing.assert_allclose(mean, last.mean(), rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(std, last.std(ddof=1), rtol=1e-5)
    for sigmas, expected in ((3.0, True), (3.3, False)):
        value = last.mean() + 3.15 * last.std(ddof=1)
        if value < LARGEST:
            assert _spikes.is_spike(window, jnp.float32(value), sigmas, 32) == expected


def test_the_scale_of_a_metric_changes_nothing():
    r = np.random.default_rng(3)
    values = r.normal(1, 0.1, 40)
    for value in (1.2, 1.29, 1.31, 2.0):
        found = {
            bool(_spikes.is_spike(filled(values * c), jnp.float32(value * c), 3.0, 20))
            for c in (1.0, 2.0**-60, 2.0**90, 3.7e5)
        }
        assert len(found) == 1


def test_nothing_is_known_of_an_empty_window():
    window = _ring.empty(4)
    assert window.filled == 0
    assert not _spikes.is_spike(window, jnp.float32(9.0), 6.0, 0)
    window = _ring.append(window, jnp.float32(NAN), jnp.asarray(False))
    chex.assert_tree_all_finite(window)
    assert window.filled == 0


def test_a_window_counts_round():
    window = filled([1.0, 2.0, 3.0])._replace(filled=jnp.asarray(2**31 - 2, jnp.int32))
    for value in (5.0, 6.0, 7.0):
        window = _ring.append(window, jnp.float32(value), jnp.asarray(True))
        assert window.filled == 3
    assert sorted(window.values.tolist()) == [5.0, 6.0, 7.0]


def test_a_clock_that_is_set_back_is_before_the_spike():
    guard = js.spike_guard(window_size=4, min_observations=2, recover_steps=10)
    tx = js.scale_by_schedule(1 * guard)
    state = js.set_step(tx.init({}), 500)
    for value in (1.0, 1.0, 1.0, 9.0):
        _, state = tx.update({}, state, value=value)
    assert js.hyperparams(state)["scale"] < 0.2
    _, state = tx.update({}, js.set_step(state, 0))
    assert js.hyperparams(state)["scale"] == 1.0
