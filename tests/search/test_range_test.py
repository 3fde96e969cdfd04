"""`lr_range_test`: its docstring in plain Python, the peers' suggestions, and what it refuses."""

import functools
import gc
import json
import math
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import jaxsched as js
from jaxsched import testing
from jaxsched._search import _programs
from jaxsched._search._range_test import _lr_range_test, _steps
from jaxsched._search._range_test._verdict import (
    BROKEN,
    FINE,
    FLAT,
    RISING,
    SHORT,
    UNLEARNED,
    verdict,
)

VECTORS = json.loads((peers.VECTORS / "lr_finder.json").read_text())
CURVES = [pytest.param(case, id=case["curve"]) for case in VECTORS if "curve" in case]
RAMPS = {case["schedule"]: case for case in VECTORS if "values" in case}
NAN, INF = float("nan"), float("inf")

KEY = jax.random.key(0)
NOISE = jax.random.normal(KEY, (100, 4))


def square(x, batch):
    """Of curvature 4: SGD is stable up to 2 / 4."""
    return 2 * jnp.mean((x - 3 - batch) ** 2)


def sgd(x=0.0, batches=NOISE, **options):
    return js.lr_range_test(square, jnp.float32(x), batches, optax.sgd, **options)


judged = jax.jit(verdict)


def said(state, _, rate):
    """A step of one's own whose loss is one of a list, by how many steps there were."""
    n, losses = state
    return (n + 1, losses), losses[n]


def saying(losses, **options):
    """The test that has these losses, whatever the batches."""
    return js.lr_range_test(said, (jnp.int32(0), jnp.float32(losses)), None, **options)


def given(losses, **options):
    """The same, and the last one again up to 100 of them."""
    losses = [*losses, *[losses[-1]] * (100 - len(losses))]
    return saying(losses, steps=len(losses), **options)


def told(losses, **options):
    """The test of a loss that is its batch: nothing is learned."""
    batches = np.asarray(losses, np.float32)
    return js.lr_range_test(alone, jnp.zeros(3), batches, optax.sgd, steps=len(losses), **options)


def alone(params, batch):
    return batch + 0 * params.sum()


def reference(losses, smoothing=0.98, diverged=4.0):
    """The stop of the docstring, in Python floats: the smoothed losses that count."""
    weights, best, first, out = [], None, None, []
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            break
        weights = [w * smoothing for w in weights] + [1.0]
        mean = sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights)
        first = mean if i == 0 else first
        best = mean if i == 0 else min(best, mean)
        out.append(mean)
        limit = best + (diverged - 1) * max(-best, first - best)
        if i >= 5 and mean > (diverged * best if best > 0 else limit):
            break
    return out


def python_loop(rates, x=0.0, momentum=0.0, batches=NOISE, poison=None):
    """The range test of `square` with SGD, stepped in NumPy: the losses, whatever they are."""
    batches, trace, out = np.asarray(batches, float), 0.0, []
    for i, rate in enumerate(np.asarray(rates, float)):
        batch = batches[i % len(batches)]
        out.append(NAN if i == poison else 2 * np.mean((x - 3 - batch) ** 2))
        trace = momentum * trace + 4 * np.mean(x - 3 - batch)
        x = x - rate * trace
    return out


# The peers.


@pytest.mark.parametrize("case", CURVES)
def test_fastais_suggestions(case):
    found = jax.jit(js.suggestions)(np.asarray(case["lrs"]), np.asarray(case["losses"]))
    for rule in ("steep", "minimum", "valley", "slide"):
        wanted = case["suggestions"][f"fastai.{rule}"]
        np.testing.assert_allclose(getattr(found, rule), wanted, rtol=1e-5, err_msg=rule)


@pytest.mark.parametrize("case", CURVES)
def test_torch_lr_finders_suggestion(case, x64):
    """Like it in float64: the slopes of a straight line differ by rounding alone."""
    found = js.suggestions(np.asarray(case["lrs"]), np.asarray(case["losses"])).steepest
    wanted = case["suggestions"]["torch_lr_finder.steepest(skip_start=10,skip_end=5)"]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    ignite = case["suggestions"]["ignite.lr_suggestion"]
    if case["curve"] in ("smooth_valley", "steep_cliff", "noisy"):
        np.testing.assert_allclose(found, ignite, rtol=1e-9)


def test_a_rule_is_what_fastai_does_in_python():
    """The two that walk, on random curves: fastai's loops from the reference's description."""
    compiled = jax.jit(js.suggestions)
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-7, 10, 100).astype(np.float32)
    for scale in (0.001, 0.01, 0.1, 1.0):
        losses = np.cumsum(scale * rng.standard_normal(100)).astype(np.float32)
        found = compiled(rates, losses)
        x, y = rates[10:-5], losses[10:-5]
        longest = [1] * len(y)
        for i in range(len(y)):
            longest[i] += max([longest[j] for j in range(i) if y[j] > y[i]], default=0)
        end = int(np.argmax(longest))
        third = longest[end] / 3
        assert found.valley == x[end - longest[end] + int(third) + int(third / 2)]
        slopes, right = np.gradient(y), -1
        slide = x[right - 15]
        while right - 15 >= -len(y) and abs(slopes[right] - slopes[right - 15]) > 0.005:
            slide = x[right - 15]
            right -= 1
        assert found.slide == slide


def test_suggestions_see_nothing_from_a_nan_on():
    rates = np.geomspace(1e-4, 1.0, 100)
    losses = (np.log10(rates) + 2) ** 2
    cut = np.where(np.arange(100) < 40, losses, NAN)
    for bad in (cut, np.nan_to_num(cut, nan=INF), np.where(np.arange(100) == 40, NAN, losses)):
        chex.assert_trees_all_equal(js.suggestions(rates, bad), js.suggestions(rates, cut))
    assert js.suggestions(rates, cut).minimum == np.float32(rates[:40][losses[:40].argmin()] / 10)
    stopped = js.suggestions(rates, losses, 40)  # the last five before a stop are left out too
    assert stopped.minimum == np.float32(rates[:35][losses[:35].argmin()] / 10)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 9, 16, 20])
def test_suggestions_of_a_short_curve_are_of_its_points(count):
    rates = np.geomspace(1e-3, 1.0, 20)
    losses = np.where(np.arange(20) < count, -np.arange(20.0), NAN)
    for found in (js.suggestions(rates, losses), js.suggestions(rates, -np.arange(20.0), count)):
        for rule, rate in found._asdict().items():
            rate = rate * 10 if rule == "minimum" else rate
            assert np.isclose(rates[: max(count, 1)], rate).any(), rule


def test_suggestions_of_a_band_are_mapped():
    rates = np.geomspace(1e-4, 1.0, 100, dtype=np.float32)
    losses = np.stack([(np.log10(rates) + shift) ** 2 for shift in (1.0, 2.0, 3.0)])
    band = jax.vmap(js.suggestions, (None, 0))(rates, losses)
    for n, each in enumerate(losses):
        one = jax.tree.map(lambda x, n=n: x[n], band)
        chex.assert_trees_all_close(one, js.suggestions(rates, each), rtol=1e-6)


def test_what_others_try_is_an_expression():
    """Their ramps of n points; ours is torch-lr-finder's, whose last value is `high`."""
    low, high, n = 1e-4, 1.0, 10
    ours = {
        "fastai.SchedExp": js.geometric(low, high, n),
        "ignite._ExponentialLR": js.geometric(low, high, n).shift(-1),
        "lightning._ExponentialLR": js.constant(low, 1) >> js.geometric(low, high, n).shift(-2),
        "torch_lr_finder.ExponentialLR": js.geometric(low, high, n - 1),
        "torch_lr_finder.LinearLR": js.linear(low, high, n - 1),
    }
    assert ours.keys() == RAMPS.keys()
    for name, ramp in ours.items():
        case = RAMPS[name]
        np.testing.assert_allclose(ramp(np.asarray(case["steps"])), case["values"], rtol=1e-6)
    for mode, name in (("geometric", "ExponentialLR"), ("linear", "LinearLR")):
        rates = sgd(low=low, high=high, steps=n, mode=mode).rates
        np.testing.assert_allclose(rates, RAMPS[f"torch_lr_finder.{name}"]["values"], rtol=1e-6)


# The curve.


@pytest.mark.parametrize(("mode", "momentum"), [("geometric", 0.0), ("linear", 0.5)])
def test_the_curve_of_a_python_loop(mode, momentum):
    optimizer = functools.partial(optax.sgd, momentum=momentum) if momentum else optax.sgd
    options = {"low": 1e-3, "high": 5.0, "steps": 60, "mode": mode, "smoothing": 0.8}
    test = js.lr_range_test(square, jnp.float32(0.0), NOISE[:7], optimizer, **options)
    losses = python_loop(test.rates, momentum=momentum, batches=NOISE[:7])
    smoothed = reference(losses, smoothing=0.8)
    count = len(smoothed)
    assert 10 < count < 60
    assert test.count == count
    np.testing.assert_allclose(test.losses[:count], losses[:count], rtol=1e-4)
    np.testing.assert_allclose(test.smoothed[:count], smoothed, rtol=1e-4)
    assert (test.losses[count:] == test.losses[count - 1]).all()
    assert (test.smoothed[count:] == test.smoothed[count - 1]).all()


@pytest.mark.parametrize(
    "losses",
    [
        np.linspace(2.0, 1.0, 20),
        [1.0] * 10 + [5.0, 50.0, 500.0] + [1.0] * 7,
        [100.0] * 2 + [1.0] * 18,  # a high one at first is none too high
        [0.01] + [1.0] * 19,  # nor a low one, yet; from the sixth on it is
        [-5.0, -6.0, -7.0, -7.0, -7.0, -7.0, 0.0, 20.0, 200.0, 0.0],
        [2.0, 1.0, 0.0, 0.0, -0.1, 0.0, 3.0, 30.0, 300.0, 0.0],
        [0.0] * 12,
        [1e30] * 8 + [1e38] * 8,
        [1e-30] * 8 + [1e-20] * 8,
        [1.0] * 8 + [NAN] + [1.0] * 4,
        [1.0] * 8 + [INF] + [1.0] * 4,
        [NAN] + [1.0] * 12,
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.98])
def test_where_it_stops(losses, smoothing):
    test = given(losses, smoothing=smoothing)
    losses = [*losses, *[losses[-1]] * (100 - len(losses))]
    wanted = reference([float(np.float32(x)) for x in losses], smoothing)
    assert test.count == len(wanted)
    np.testing.assert_allclose(test.smoothed[: len(wanted)], wanted, rtol=2e-6, atol=1e-30)
    chex.assert_tree_all_finite(test)


def test_the_state_stands_still_from_the_stop_on():
    """Parameters would be infinite soon: the loss that is computed of them must not be."""
    seen = []

    def step(x, _, rate):
        jax.debug.callback(lambda i, x: seen.append((int(i), float(x))), x["i"], x["x"])
        return {"x": -x["x"] * rate, "i": x["i"] + 1}, x["x"] ** 2

    start = {"x": jnp.float32(1.0), "i": jnp.int32(0)}
    test = js.lr_range_test(step, start, None, low=0.5, high=1e6, steps=50, smoothing=0.0)
    jax.effects_barrier()
    count = int(test.count)
    assert 6 <= count < 30
    assert seen.count((0, 1.0)) == 51  # each batch is shown to the first state too
    seen = [(0, 1.0), *(x for x in seen if x != (0, 1.0))]
    assert seen[count - 1 :] == [seen[count - 1]] * (51 - count)
    assert seen[count - 1][0] == count - 1


def test_losses_whose_difference_is_infinite():
    x = given([3e38, -3e38] * 10)
    chex.assert_tree_all_finite(x)
    assert x.count == 1
    assert not x.ok


def test_a_stop_of_nan_is_the_last_finite_loss():
    x = given([3.0, 2.0, 1.0, NAN, *[1.0] * 8])
    assert x.count == 3
    assert x.losses.tolist() == [3.0, 2.0] + [1.0] * 98


def test_the_stability_limit_is_found():
    batches = jax.random.normal(KEY, (100, 64))
    test = sgd(3.0, batches, low=0.01, smoothing=0.5)
    assert 0.5 < test.rates[test.count - 1] < 1.0


def test_equal_losses_have_exactly_that_mean():
    for loss in (1e6 + 0.1, 0.1, -3.3):
        x = given([loss])
        assert (x.smoothed == np.float32(loss)).all()
        assert x.count == 100


# Transformed.


def test_a_band_is_a_loop_over_seeds():
    def run(key):
        return sgd(jax.random.normal(key), jax.random.normal(key, (10, 32)), low=1e-4)

    keys = jax.random.split(KEY, 3)
    band = jax.jit(jax.vmap(run))(keys)
    assert band.losses.shape == (3, 100)
    for n, key in enumerate(keys):
        alone = run(key)
        chex.assert_trees_all_close(jax.tree.map(lambda x, n=n: x[n], band), alone, rtol=1e-5)
    found = [jax.tree.map(lambda x, n=n: x[n], band).suggestions for n in range(3)]
    assert band.ok
    for rule in js.Suggestions._fields:
        each = sorted(getattr(x, rule) for x in found)
        ends = [getattr(x, rule) for x in band.spread]
        got = [ends[0], getattr(band.suggestions, rule), ends[1]]
        np.testing.assert_allclose(got, each, rtol=1e-5)


def test_numbers_may_be_traced():
    limits = jnp.asarray([[1e-4, 1.0], [1e-3, 10.0]])
    run = lambda low, high: sgd(low=low, high=high, smoothing=high / 20, diverged=3 + high)
    mapped = jax.jit(jax.vmap(run))(*limits.T)
    for n, (low, high) in enumerate(limits.tolist()):
        one = jax.tree.map(lambda x, n=n: x[n], mapped)
        chex.assert_trees_all_close(one, run(low, high), rtol=2e-5)
        np.testing.assert_allclose([one.rates[0], one.rates[-1]], [low, high], rtol=1e-6)


def test_a_bad_traced_number_has_a_meaning():
    run = jax.jit(lambda low, high, smoothing: sgd(low=low, high=high, smoothing=smoothing))
    for low, high, smoothing in ((0.0, 1.0, 0.9), (1.0, 0.1, 0.9), (0.1, 1.0, 1.0), (1, 1, -1.0)):
        chex.assert_tree_all_finite(run(low, high, smoothing))


def test_nothing_is_compiled_for_other_numbers():
    traces = []

    def loss(x, batch):
        traces.append(None)
        return square(x, batch)

    make = lambda: functools.partial(optax.sgd, momentum=0.5, nesterov=True)
    for n in range(3):
        js.lr_range_test(
            loss,
            jnp.float32(n),
            NOISE * (n + 1),
            make(),
            low=10.0 ** -(n + 3),
            high=1.0 + n,
            smoothing=0.5 + n / 10,
            diverged=3.0 + n,
        )
        if n == 0:
            once = len(traces)
    tree = _programs.as_tree(loss)
    programs = _programs.program(_lr_range_test._run, tree)
    assert len(traces) == once
    assert programs._cache_size() == 1
    js.lr_range_test(loss, jnp.float32(0), NOISE, functools.partial(optax.sgd, momentum=0.6))
    assert programs._cache_size() == 2


def test_a_loss_and_its_data_are_let_go():
    def tested():
        data = np.ones(1000)

        def loss(x, batch):
            return jnp.mean((x - batch) ** 2) + data.mean()

        js.lr_range_test(loss, jnp.float32(0), NOISE, optax.sgd)
        return weakref.ref(loss)

    found = [tested() for _ in range(3)]
    gc.collect()
    assert [x() for x in found] == [None] * 3


def test_partials_of_equal_numbers_of_other_types_are_others():
    key = _steps.key_of
    assert key(functools.partial(optax.sgd, momentum=1)) != key(
        functools.partial(optax.sgd, momentum=True)
    )
    bound = functools.partial(optax.adamw, mask={"a": True})
    assert key(bound) == key(bound)
    assert key(bound) != key(functools.partial(optax.adamw, mask={"a": True}))


def test_no_branch_and_no_transfer():
    run = lambda x, batches: sgd(x, batches, steps=20)
    testing.assert_compiles_clean(run, jnp.float32(0.0), NOISE)
    testing.assert_compiles_clean(jax.vmap(run, (0, None)), jnp.zeros(3), NOISE)
    testing.assert_compiles_clean(js.suggestions, NOISE[:, 0] ** 2, NOISE[:, 1])


def test_under_x64_it_is_float64(x64):
    batches = np.asarray(NOISE, np.float64)
    test = js.lr_range_test(square, np.float64(0.0), batches, optax.sgd, low=1e-3)
    assert test.losses.dtype == test.rates.dtype == np.float64
    assert test.count.dtype == np.int32
    losses = python_loop(test.rates)[: int(test.count)]
    np.testing.assert_allclose(test.losses[: len(losses)], losses, rtol=1e-9)
    assert test.ok
    assert js.suggestions(test.rates, test.smoothed, test.count).valley.dtype == np.float64


def test_bfloat16_parameters_keep_their_dtype():
    def loss(x, batch):
        assert x.dtype == jnp.bfloat16
        return jnp.mean((x - batch.astype(jnp.bfloat16)) ** 2)

    test = js.lr_range_test(loss, jnp.bfloat16(9.0), NOISE, optax.sgd, low=1e-4)
    assert test.losses.dtype == jnp.float32
    assert test.ok


# What is trained.


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
        return linen.Dense(3)(linen.relu(x))


INPUTS = jax.random.normal(KEY, (20, 16, 5))
LABELS = INPUTS[..., :3].argmax(axis=-1)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def test_linen_with_batch_statistics_is_a_step_of_ones_own():
    class State(TrainState):
        batch_stats: dict

    def step(state, batch, rate):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, more = state.apply_fn(variables, batch[0], mutable=["batch_stats"])
            return cross_entropy(logits, batch[1]), more["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        state = state.replace(opt_state=js.override(state.opt_state, learning_rate=rate))
        return state.apply_gradients(grads=grads, batch_stats=stats), value

    net = Net()
    variables = jax.jit(net.init)(KEY, INPUTS[0])
    tx = js.inject(optax.sgd, learning_rate=0.0)
    state = State.create(
        apply_fn=net.apply, tx=tx, params=variables["params"], batch_stats=variables["batch_stats"]
    )
    before = jax.tree.map(np.array, state)
    test = js.lr_range_test(step, state, (INPUTS, LABELS), low=1e-3)
    assert test.ok
    chex.assert_trees_all_equal(state, before)
    assert not any(x.is_deleted() for x in jax.tree.leaves(state.params))

    def loss(params, batch):  # the same with the optimizer given, a loss with more behind it
        variables = {"params": params, "batch_stats": before.batch_stats}
        logits, more = net.apply(variables, batch[0], mutable=["batch_stats"])
        return cross_entropy(logits, batch[1]), more

    same = js.lr_range_test(loss, state.params, (INPUTS, LABELS), optax.sgd, low=1e-3)
    chex.assert_trees_all_close(same, test, rtol=1e-4)


def test_nnx_is_split_and_merged():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(5, 3, rngs=rngs)

    model = Model(nnx.Rngs(0))
    before = np.array(model.layer.kernel[...])
    graph, params = nnx.split(model, nnx.Param)

    def loss(params, batch):
        return cross_entropy(nnx.merge(graph, params).layer(batch[0]), batch[1])

    test = js.lr_range_test(loss, params, (INPUTS, LABELS), optax.sgd, low=1e-3)
    assert test.ok
    assert np.array_equal(model.layer.kernel[...], before)


@pytest.mark.parametrize(
    ("optimizer", "hyperparameter"),
    [
        (optax.adamw, "learning_rate"),
        (functools.partial(optax.adamw, 0.1), "b2"),
        (optax.polyak_sgd, "max_learning_rate"),  # which needs the loss too
        (optax.contrib.prodigy, "learning_rate"),
        (optax.lbfgs, "learning_rate"),  # and this one the loss as a function
    ],
)
def test_any_optimizer(optimizer, hyperparameter):
    options = {"low": 0.5, "high": 0.99, "steps": 10, "hyperparameter": hyperparameter}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        test = js.lr_range_test(square, jnp.float32(0.0), NOISE, optimizer, **options)
    assert test.losses[-1] != test.losses[0]


def test_another_hyperparameter():
    """Of weight decay alone: the parameter shrinks by rate * decay, and its loss with it."""

    def decayed(learning_rate, weight_decay):
        return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate))

    make = functools.partial(decayed, 0.5)
    options = {"low": 0.0, "high": 1.0, "steps": 20, "mode": "linear"}
    flat = lambda x, _: jax.lax.stop_gradient(x) ** 2
    test = js.lr_range_test(
        flat, jnp.float32(1.0), None, make, hyperparameter="weight_decay", **options
    )
    x = np.cumprod([1.0, *(1 - 0.5 * np.linspace(0, 1, 20)[:-1])])
    np.testing.assert_allclose(test.losses, x**2, rtol=1e-5)


def test_random_keys_may_be_in_the_state():
    def step(state, _, rate):
        key, now = jax.random.split(state["key"])
        x = state["x"] - rate * 4 * (state["x"] + jax.random.normal(now))
        return {"key": key, "x": x}, state["x"] ** 2

    test = js.lr_range_test(step, {"key": KEY, "x": jnp.float32(5.0)}, None, low=1e-3)
    assert test.ok
    assert test.count < 100


# Batches.


def test_batches_are_taken_in_turn():
    def curve(batches, steps=30):
        return np.asarray(sgd(batches=batches, steps=steps).losses)

    few = np.asarray(NOISE[:7])
    wanted = curve(np.concatenate([few] * 5)[:30])
    assert np.array_equal(curve(few), wanted)
    assert np.array_equal(curve(list(few)), wanted)
    assert np.array_equal(curve(iter(few)), wanted)
    assert np.array_equal(curve(row for row in few), wanted)
    assert np.array_equal(curve([jnp.asarray(row) for row in few]), wanted)


def test_no_more_are_drawn_than_there_are_steps():
    drawn = iter(np.asarray(NOISE))
    sgd(batches=drawn, steps=20)
    assert np.array_equal(next(drawn), NOISE[20])


def test_a_list_is_a_sequence_of_batches_and_a_tuple_one_batch_of_each():
    def loss(x, batch):
        assert batch[0].shape == (4,)
        assert batch[1].shape == ()
        return square(x, batch[0]) + 0 * batch[1]

    pairs = [(row, np.float32(0)) for row in np.asarray(NOISE[:6])]
    run = lambda batches: js.lr_range_test(loss, jnp.float32(0), batches, optax.sgd, steps=10)
    a, b = run(pairs), run((NOISE[:6], np.zeros(6, np.float32)))
    assert np.array_equal(a.losses, b.losses)


# What it means.


def noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def valley(n, spread=0.1):
    fall = 1 / (1 + np.exp(np.linspace(-12, 6, n)))
    return 1 + fall + spread * noise(n)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_noise_alone_is_flat(n):
    found = jax.jit(jax.vmap(lambda losses: verdict(losses, jnp.int32(n))))
    of = np.stack([noise(n, seed) for seed in range(200)])
    for losses in (of, 1e-6 * of + 1, of + 1e4, 1e30 * of, of - 50, np.exp(of), of > 2):
        codes = np.asarray(found(losses.astype(np.float32)))
        assert (codes == FLAT).mean() >= 0.98
        assert set(codes.tolist()) <= {FLAT, FINE, RISING}


def wandering(rho, shape, seed=0):
    """Noise of which each value is like the one before it: AR(1), of variance 1."""
    fresh = np.random.default_rng(seed).standard_normal(shape) * math.sqrt(1 - rho**2)
    fresh[:, 0] /= math.sqrt(1 - rho**2)
    for n in range(1, shape[1]):
        fresh[:, n] += rho * fresh[:, n - 1]
    return fresh.astype(np.float32)


@pytest.mark.parametrize(
    ("rho", "n", "most"),
    [(0.0, 100, 2), (0.5, 100, 4), (0.9, 100, 12), (0.9, 300, 4), (0.5, 30, 40), (-0.5, 100, 2)],
)
def test_noise_that_wanders_is_flat(rho, n, most):
    """Of 1000 curves; of independent noise alone, 300 and 980 of them were taken for a fall."""
    codes = jax.jit(jax.vmap(lambda losses: verdict(losses, jnp.int32(n))))(
        wandering(rho, (1000, n))
    )
    assert (np.asarray(codes) == FINE).sum() <= most


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_a_fall_is_seen_in_noise_that_wanders(rho):
    falls = 1 / (1 + np.exp(np.linspace(-12, 6, 100))) + 0.05 * wandering(rho, (200, 100))
    codes = jax.jit(jax.vmap(lambda losses: verdict(losses, jnp.int32(100))))(jnp.float32(falls))
    assert (np.asarray(codes) == FINE).mean() >= (0.6 if rho == 0.9 else 1)


EASIER = np.linspace(2.0, 1.0, 100)


@pytest.mark.parametrize(
    ("losses", "code"),
    [
        (EASIER, UNLEARNED),
        (EASIER[::-1], UNLEARNED),
        (np.sort(np.random.default_rng(0).exponential(size=100))[::-1], UNLEARNED),
        (np.r_[np.full(50, 3.0), np.full(50, 1.0)], UNLEARNED),
        (np.geomspace(1.0, 1e9, 100), UNLEARNED),  # and here the test stops
        (np.r_[np.linspace(2, 1, 50), 1e9, np.ones(49)], UNLEARNED),
        (np.ones(100), FLAT),
    ],
)
def test_a_loss_that_is_not_learned_gets_no_suggestion(losses, code):
    test = told(losses)
    assert judged(test.losses, test.count, test.untrained) == code
    assert not test.ok
    assert ("shuffle the batches" in test.reason) == (code == UNLEARNED)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.99])
def test_batches_that_wander_get_no_suggestion(rho):
    """Whatever their noise is, it is that of the same batches at the first parameters."""
    for losses in wandering(rho, (20, 40)):
        assert not told(losses).ok


def test_a_step_of_ones_own_is_asked_too():
    """A loss told behind the update, or with it, that does not depend on what is learned."""
    step = lambda w, batch, rate: (w - rate, batch)
    assert "shuffle" in js.lr_range_test(step, jnp.zeros(2), jnp.float32(EASIER)).reason
    momentum = functools.partial(optax.sgd, 0.1)
    test = js.lr_range_test(
        alone, jnp.zeros(3), jnp.float32(EASIER), momentum, high=0.9, hyperparameter="momentum"
    )
    assert "shuffle" in test.reason


def test_batches_that_get_easier_beside_a_fall_that_is_learned():
    """What is learned has to be half of the fall, so that the rest does not choose the rate."""
    learned = lambda x, batch: jnp.mean((x - 3 - batch[1:]) ** 2) + batch[0]
    noise = np.asarray(NOISE)

    def reason(slope):
        batches = np.column_stack([slope * EASIER, noise]).astype(np.float32)
        return js.lr_range_test(learned, jnp.float32(0), batches, optax.sgd, high=0.1).reason

    assert reason(0.0) == reason(1.0) == ""
    assert "shuffle" in reason(100.0)


def test_ten_points_are_enough_for_a_fall():
    test = saying(np.linspace(2, 1, 10), steps=10)
    assert test.ok
    assert all(1e-7 <= np.float32(rate) <= 10 for rate in test.suggestions)


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 1), (1, 1e4), (1e30, 0), (1, -50)])
def test_a_fall_is_seen_at_every_scale(n, scale, offset):
    losses = (valley(n) * scale + offset).astype(np.float32)
    assert judged(jnp.asarray(losses), jnp.int32(n)) == FINE
    assert judged(jnp.asarray(losses[::-1]), jnp.int32(n)) == RISING


@pytest.mark.parametrize(
    ("losses", "code", "said"),
    [
        ([NAN] * 100, BROKEN, "before the first update"),
        ([INF] + [1.0] * 99, BROKEN, "before the first update"),
        ([1.0] * 8 + [NAN] * 92, SHORT, "within 10 points"),
        ([1.0] * 5 + [1e9] * 95, SHORT, "within 10 points"),
        ([1.0] * 100, FLAT, "its noise"),
        ([0.0] * 100, FLAT, "its noise"),
        ([-7.5], FLAT, "its noise"),
        (1e4 + 1e-3 * noise(100), FLAT, "its noise"),  # the rounding of float32
        (np.linspace(1, 2, 100), RISING, "start lower"),
        ([1.0] * 20 + [1e9] * 80, RISING, "start lower"),
        ([1.0] * 20 + [NAN] * 80, RISING, "start lower"),
        (-valley(100), RISING, "start lower"),
        (valley(100), FINE, ""),
        (np.linspace(2, 1, 100), FINE, ""),
        (np.r_[np.full(50, 3.0), np.full(50, 1.0)] + 0.1 * noise(100), FINE, ""),
        (np.r_[valley(100)[:90], 1e9, [1.0] * 9], FINE, ""),
    ],
)
def test_why_there_is_no_suggestion(losses, code, said):
    test = given(np.asarray(losses, np.float32))
    assert judged(test.losses, test.count) == code
    assert test.ok == (code == FINE)
    assert said in test.reason
    assert (test.reason == "") == test.ok
    assert str(test).startswith("rate " if test.ok else f"no suggestion: {test.reason}")
    for found in (test.suggestions, *test.spread):
        assert all(1e-7 <= np.float32(rate) <= 10 for rate in found)
    low, high = test.range
    assert np.float32(1e-7) <= low <= high <= 10
    assert test.rate == high


def test_of_a_band_the_greater_part_decides():
    curves = [valley(100), valley(100), [1.0] * 100, [NAN] * 100, [NAN] * 100]
    batches = jnp.asarray(np.stack(curves), jnp.float32)
    band = jax.vmap(lambda losses: saying(losses))(batches)
    part = lambda *rows: jax.tree.map(lambda x: x[np.asarray(rows)], band)
    assert part(0, 1, 2).ok
    assert part(0, 1, 2).suggestions == part(0).suggestions  # the flat one has no say
    assert part(0, 1, 2).spread == (part(0).suggestions,) * 2
    assert not part(0, 2).ok
    assert part(0, 1, 2, 3, 4).reason.endswith("(2 of 5 seeds)")
    assert "before the first update" in part(0, 1, 2, 3, 4).reason
    assert all(math.isfinite(x) for x in band.suggestions)


def test_the_range_begins_where_the_loss_falls():
    rates = np.geomspace(1e-7, 10, 100)
    falling = np.where(rates < 1e-4, 2.0, 2 - 0.2 * np.log(rates / 1e-4))
    test = given(np.where(rates > 1, 0.5, falling), smoothing=0.0)
    low, high = test.range
    assert high == pytest.approx(0.1, rel=0.25) == test.suggestions.minimum
    assert 1e-4 < low < 5e-4  # a tenth of a fall over four decades
    schedule = js.cyclic(low, high, up_steps=10)
    assert schedule(10) == np.float32(high)


def test_rates_that_hardly_differ():
    test = sgd(low=0.1, high=0.1 * 1.0001)
    assert (np.diff(test.rates) >= 0).all()
    low, high = test.range
    assert test.rates[0] <= low <= high <= test.rates[-1]


def test_words_are_for_outside_jit():
    with pytest.raises(ValueError, match=r"outside `jit`. Under `jit`, use `suggestions\("):
        jax.jit(lambda x: sgd(x).rate)(jnp.float32(0.0))


# What it refuses.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 1.0, "high": 0.1}, r"\(high=...\)` must be above low=1.0, got high=0.1"),
        ({"low": 1.0, "high": 1.0}, "must be above low=1.0"),
        ({"low": 0.0}, r"\(low=...\)` must be positive, got low=0.0. To start at 0, use"),
        ({"low": -1.0, "mode": "linear"}, "must not be negative, got low=-1.0"),
        ({"low": NAN}, "must be a finite number, got low=nan"),
        ({"high": "10"}, "must be a finite number, got high='10'"),
        ({"steps": 9}, r"\(steps=...\)` must be at least 10, got steps=9"),
        ({"steps": 100.0}, "Write steps=100"),
        ({"steps": jnp.asarray(20)}, "must be an int"),
        ({"mode": "exp"}, "must be one of 'geometric', 'linear', got mode='exp'"),
        ({"smoothing": 1.0}, r"must be in \[0, 1\), got smoothing=1.0"),
        ({"diverged": 1.0}, "must be above 1, got diverged=1.0"),
        ({"hyperparameter": "lr"}, "one of learning_rate, momentum.*got hyperparameter='lr'"),
        ({"hyperparameter": ""}, "must be a name"),
        ({"hyperparameter": "momentum"}, r"missing.*'learning_rate'.*`partial\(sgd, learning_rate"),
        ({"optimizer": optax.sgd(0.1)}, "`optax.adam`, not"),
        ({"optimizer": 3}, r"\(optimizer=...\)` must be a function, got optimizer=3"),
        ({"function": 3}, r"\(function=...\)` must be a function, got function=3"),
        ({"function": lambda x, b: b + x}, "must return one real loss"),
        ({"function": lambda x, b: None}, "must return one real loss, got function=None"),
        ({"function": lambda x, b: "low"}, "must return one real loss, got function='low'"),
        ({"optimizer": None}, r"as `function\(state, batch, value\)`, got .* A loss needs an opt"),
        ({"function": lambda s, b, v: (s, v)}, r"as `function\(params, batch\)`, .* no optimizer"),
        (
            {"function": lambda s, b, v: (jnp.stack([s, s]), v), "optimizer": None},
            "return the state with its structure",
        ),
        ({"function": lambda s, b, v: s, "optimizer": None}, r"must return `\(state, loss\)`"),
        ({"function": lambda s, b, v: ((s, 0), 0.0), "optimizer": None}, "with its structure"),
        ({"params": {"w": jnp.ones(2, int)}}, r"must be floats, but \['w'\] is int32"),
        ({"batches": []}, "must not be empty, got batches=none"),
        ({"batches": iter([])}, "must not be empty"),
        ({"batches": ()}, "one leading axis for the batches, got batches=leading axes of"),
        ({"batches": (NOISE, NOISE[:3])}, "leading axes of 3, 100"),
        ({"batches": jnp.zeros((0, 4))}, "leading axes of 0"),
        ({"batches": jnp.zeros(())}, "leading axes of no"),
        ({"batches": 3}, "must be arrays or iterable, got batches=3"),
        ({"batches": "digits"}, "must be arrays or iterable"),
        ({"batches": [NOISE[0], NOISE[1, :2]]}, r"Batch 1 differs from the first"),
        ({"batches": [object()]}, "must be trees of numbers, got batches=object"),
        ({"batches": [(NOISE[0], "a")]}, "must be trees of numbers, got batches=str"),
        ({"batches": (NOISE, np.full(100, "a"))}, "must be trees of numbers"),
        ({"params": 3}, "must be floats, but this is int32, got params=3"),
    ],
)
def test_wrong_calls_name_themselves(options, said):
    call = {"function": square, "params": jnp.float32(0), "batches": NOISE, "optimizer": optax.sgd}
    call |= options
    positional = [call.pop(name) for name in ("function", "params", "batches", "optimizer")]
    with pytest.raises(ValueError, match=said) as raised:
        js.lr_range_test(*positional, **call)
    assert str(raised.value).startswith("`lr_range_test(")


def test_suggestions_refuses_what_is_no_curve():
    with pytest.raises(ValueError, match=r"`suggestions\(losses=...\)` must be one curve"):
        js.suggestions(jnp.ones(3), jnp.ones((2, 3)))


# The picture.


@pytest.fixture
def figure():
    return pytest.importorskip("matplotlib.figure").Figure().add_subplot


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_picture_says_what_was_found(figure, tmp_path):
    test = sgd(low=1e-4)
    file = tmp_path / "range.png"
    axes = test.plot(file, figure())
    assert file.read_bytes().startswith(b"\x89PNG")
    shown = labels(axes)
    for rule, rate in test.suggestions._asdict().items():
        assert f"{rule} {rate:.2g}" in shown
    assert f"stopped at {test.rates[test.count - 1]:.3g}" in shown
    assert axes.get_xscale() == "log"
    assert f"rate {test.rate:.2g}" in axes.get_title(loc="left")


def test_the_line_of_the_picture_runs_through_the_points(figure):
    test = sgd(low=1e-4)
    (line,) = [line for line in test.plot(axes=figure()).lines if line.get_label()[:4] == "mean"]
    falling = slice(int(np.argmin(test.losses)))
    away = [
        np.abs(np.asarray(x) - test.losses)[falling].mean()
        for x in (line.get_ydata(), test.smoothed)
    ]
    assert away[0] < away[1] / 2


def test_the_picture_of_a_band_and_of_nothing(figure):
    keys = jax.random.split(KEY, 4)
    run = lambda key, **options: sgd(batches=jax.random.normal(key, (9, 4)), **options)
    band = jax.vmap(lambda key: run(key, mode="linear", low=0.0, high=1.0))(keys)
    axes = band.plot(axes=figure())
    assert "all seeds" in labels(axes)
    assert axes.get_xscale() == "linear"
    for nothing in (given([1.0] * 20), given([NAN] * 20), given([1.0] * 6 + [1e9] * 8)):
        axes = nothing.plot()
        assert nothing.reason in axes.get_title(loc="left")
        assert not [label for label in labels(axes) if "valley" in label]
