"""`skip_spikes`: which steps are left out, what stays as it was, and what is counted."""

import functools
import math
import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from packed import changed

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")
PARAMS = {"w": jnp.ones(3)}
MOMENTUM = functools.partial(optax.sgd, momentum=0.9)


def reference(values, sigmas=6.0, window_size=128, min_observations=64):
    """The docstring, in Python floats: is each step left out? None is a step without a metric."""
    window, out = [], []
    for value in values:
        broken = value is not None and not math.isfinite(value)
        last = window[-window_size:]
        spike = False
        if value is not None and not broken and len(last) >= min_observations:
            mean, std = np.mean(last), np.std(last, ddof=1)
            spike = value > mean + sigmas * std
        if value is not None and not broken:
            window.append(value)
        out.append(bool(broken or spike))
    return out


@functools.cache
def plain(**options):
    return js.skip_spikes(optax.sgd(1.0), metric="value", **options)


@functools.cache
def compiled(tx):
    """Its update, and what is asked after each: every run of it calls one program."""

    def update(state, metrics):
        updates, state = tx.update(PARAMS, state, PARAMS, **metrics)
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)]
        return jnp.all(updates["w"] == 0), state, jnp.all(jnp.stack(finite))

    return jax.jit(update)


def skipped(values, tx=None, state=None, **options):
    tx = tx or plain(**options)
    state, out = state or tx.init(PARAMS), []
    for value in values:
        metrics = {} if value is None else {"value": np.float32(value)}
        still, state, finite = compiled(tx)(state, metrics)
        assert bool(state.skipped) == bool(still)
        out.append(bool(state.skipped))
        assert finite, state
    assert int(js.events(state)["skips"]) >= sum(out)
    return out, state


def noisy(seed, n=200, spikes=0.05):
    r = random.Random(seed)

    def one():
        kind = r.random()
        if kind < 0.02:
            return r.choice([NAN, INF, -INF, None])
        return r.gauss(2.0, 0.1) + (5 * r.random() if kind > 1 - spikes else 0)

    return [x if x is None else float(np.float32(x)) for x in (one() for _ in range(n))]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_its_docstring_says(seed):
    options = dict(
        sigmas=[2.0, 3.0, 6.0][seed % 3], window_size=[8, 50][seed % 2], min_observations=2 + seed
    )
    values = noisy(seed)
    found = skipped(values, **options)[0]
    assert found == reference(values, **options) and any(found) and not all(found)


def test_the_gradient_norm_needs_no_observing():
    tx = js.skip_spikes(optax.sgd(1.0), min_observations=4)
    state, out = tx.init(PARAMS), []
    for size in (1.0, 1.1, 0.9, 1.0, 50.0, 1.0, NAN, 1.0):
        updates, state = tx.update({"w": jnp.full(3, size)}, state, PARAMS)
        out.append(float(updates["w"][0]))
    assert out == pytest.approx([-1.0, -1.1, -0.9, -1.0, 0.0, -1.0, 0.0, -1.0])
    assert js.events(state) == {"skips": 2, "mixed": 0}


def test_a_lasting_change_of_level_is_accepted():
    values = [1.0 + 0.01 * (i % 3) for i in range(20)] + [3.0] * 30
    found, _ = skipped(values, window_size=16, min_observations=8, sigmas=3.0)
    assert found[20] and not any(found[30:])


def test_a_gradient_that_is_not_finite_is_never_used_whatever_the_loss():
    tx = js.skip_spikes(MOMENTUM(0.1), metric="value")
    state = tx.init(PARAMS)
    broken = {"w": jnp.asarray([1.0, NAN, 1.0])}
    updates, new = tx.update(broken, state, PARAMS, value=1.0)
    assert jnp.all(updates["w"] == 0) and new.skips == 1
    testing.assert_same(new.inner_state, state.inner_state)
    chex.assert_tree_all_finite(new)


@pytest.mark.parametrize("advances", [True, False])
def test_what_a_skip_leaves_as_it_was(advances):
    rate = js.linear(1.0, 0.0, 10) * js.reduce_on_plateau(patience=1, factor=0.5)
    inner = js.inject(MOMENTUM, learning_rate=rate)
    tx = js.skip_spikes(inner, advance_on_skip=advances)
    state = tx.init(PARAMS)
    _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
    state = js.observe(state, value=2.0)
    before = state.inner_state
    _, state = tx.update({"w": jnp.full(3, NAN)}, state, PARAMS)
    assert js.step(state) == (2 if advances else 1)
    testing.assert_same(changed(state.inner_state, count=before.count), before)
    # The mail that the skipped step did not read is read now, and cuts.
    _, state = tx.update(PARAMS, state, PARAMS)
    expected = (0.8 if advances else 0.9) * 0.5
    assert js.hyperparams(state)["learning_rate"] == pytest.approx(expected)


def test_in_a_scan_and_under_vmap_it_is_the_loop():
    values = [x for x in noisy(3) if x is not None]
    options = dict(window_size=20, min_observations=5)
    expected, _ = skipped(values, sigmas=3.0, **options)

    def run(sigmas):
        tx = js.skip_spikes(optax.sgd(1.0), metric="value", sigmas=sigmas, **options)

        def one(state, value):
            _, state = tx.update(PARAMS, state, PARAMS, value=value)
            return state, state.skipped

        return jax.lax.scan(one, tx.init(PARAMS), jnp.asarray(values, jnp.float32))[1]

    assert jax.jit(run)(3.0).tolist() == expected
    many = jax.vmap(run)(jnp.asarray([3.0, 100.0]))
    assert many[0].tolist() == expected
    assert many[1].tolist() == [not math.isfinite(x) for x in values]


def test_a_run_that_is_resumed_goes_on():
    values, options = noisy(1, 40), dict(window_size=8, min_observations=3, sigmas=3.0)
    whole, _ = skipped(values, **options)
    for k in range(0, 40, 3):
        begun, state = skipped(values[:k], **options)
        restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
        assert begun + skipped(values[k:], state=restored, **options)[0] == whole


def test_all_devices_skip_or_none():
    tx = js.skip_spikes(optax.sgd(1.0), metric="value", min_observations=2, axis_name="i")
    mesh = Mesh(np.array(jax.devices()[:8]), ("i",))
    state = tx.init(PARAMS)

    @jax.jit
    def step(state, values, sizes):
        def local(state, value, size):
            gradient = {"w": jnp.broadcast_to(size, (3,))}
            updates, state = tx.update(gradient, state, PARAMS, value=value[0])
            return updates["w"][None], jax.tree.map(lambda x: x[None], state)

        specs = dict(in_specs=(P(), P("i"), P("i")), out_specs=(P("i"), P("i")), check_vma=False)
        return jax.shard_map(local, mesh=mesh, **specs)(state, values, sizes)

    ones = jnp.ones(8)
    for values, sizes, expected in (
        (jnp.arange(8.0), ones, False),
        (jnp.arange(8.0) + 0.1, ones, False),
        (jnp.arange(8.0) * 9, ones, True),
        (ones.at[3].set(NAN), ones, True),
        (ones, ones.at[5].set(INF), True),
        (jnp.arange(8.0), ones, False),
    ):
        _, states = step(state, values, sizes)
        for leaf in jax.tree.leaves(states):
            assert np.all(np.asarray(leaf) == np.asarray(leaf)[0])
        state = jax.tree.map(lambda x: x[0], states)
        assert bool(state.skipped) == expected


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision(dtype):
    params = {"w": jnp.ones(3, dtype)}
    tx = js.skip_spikes(optax.sgd(0.5), min_observations=2)
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(params, state, params)
    assert updates["w"].dtype == dtype and state.window.values.dtype == jnp.float32
    updates, state = tx.update({"w": jnp.full(3, 100, dtype)}, state, params)
    assert jnp.all(updates["w"] == 0)


def test_it_has_no_branch():
    for metric in ("value", "gradient_norm"):
        tx = js.skip_spikes(js.inject(MOMENTUM, learning_rate=js.greedy() * 0.1), metric=metric)
        state = tx.init(PARAMS)
        testing.assert_compiles_clean(
            lambda s, tx=tx: tx.update(PARAMS, s, PARAMS, value=jnp.float32(1.0)), state
        )


def test_around_multi_steps():
    tx = js.skip_spikes(optax.MultiSteps(optax.sgd(1.0), 2), min_observations=2)
    with jax.numpy_dtype_promotion("standard"):
        state = tx.init(PARAMS)
        for _ in range(3):
            _, state = tx.update(PARAMS, state, PARAMS)
        _, skipped_state = tx.update({"w": jnp.full(3, NAN)}, state, PARAMS)
    assert skipped_state.inner_state.mini_step == state.inner_state.mini_step


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            dict(tx=3),
            r"skip_spikes\(tx=\.\.\.\)` must be an optax.GradientTransformation, got tx=3",
        ),
        (dict(sigmas=0.0), r"sigmas=\.\.\.\)` must be positive, got sigmas=0.0"),
        (dict(window_size=1), "window_size"),
        (dict(window_size=2.0), "window_size"),
        (dict(min_observations=1), "must be at least 2, got min_observations=1"),
        (dict(min_observations=129), "at most window_size=128, got min_observations=129"),
        (dict(advance_on_skip=1), "must be True or False, got advance_on_skip=1"),
        (dict(metric="params"), "argument of update"),
        (dict(axis_name=3), "axis_name"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(options, says):
    with pytest.raises(ValueError, match=says):
        js.skip_spikes(**{"tx": optax.sgd(0.1), **options})


def test_one_percent_of_poisoned_batches():
    """600 steps, 1 % poisoned: without the guard the loss is more than twice as high."""
    x = jax.random.normal(jax.random.key(0), (600, 32, 8))
    y = x @ jnp.arange(8.0)
    bad = jax.random.bernoulli(jax.random.key(1), 0.01, (600,)).at[:70].set(False)
    y = jnp.where(bad[:, None], 1e3 * jax.random.normal(jax.random.key(2), y.shape), y)

    def trained(tx):
        def one(carry, batch):
            params, state = carry
            x, y = batch
            loss, grads = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(params)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        params = jnp.zeros(8)
        (params, state), _ = jax.lax.scan(one, (params, tx.init(params)), (x, y))
        return jnp.sum((params - jnp.arange(8.0)) ** 2), state

    tx = js.inject(optax.sgd, learning_rate=0.02)
    plain, _ = trained(tx)
    guarded, state = trained(js.skip_spikes(tx, metric="value"))
    assert guarded < plain / 2
    assert int(bad.sum()) <= js.events(state)["skips"] <= int(bad.sum()) + 6


def test_what_was_given_to_a_skipped_update_nobody_hears():
    """And what was observed before it waits, as a validation loss should."""
    guard = js.spike_guard(metric="loss", window_size=8, recover_steps=5)
    rate = 0.1 * guard * js.reduce_on_plateau(patience=1, factor=0.5)
    tx = js.skip_spikes(js.inject(optax.sgd, learning_rate=rate), window_size=8)
    state = js.observe(tx.init(PARAMS), value=1.0)
    for i in range(12):
        bad = i == 8
        if bad:
            state = js.observe(state, value=2.0)
        gradient = {"w": jnp.full(3, 1e6 if bad else 1.0 + 0.01 * (i % 3))}
        _, state = tx.update(gradient, state, PARAMS, loss=1e6 if bad else 1.0 + 0.01 * (i % 3))
        expected = {"cuts": int(i > 8), "spikes": 0, "skips": int(i >= 8), "mixed": 0}
        assert {k: int(x) for k, x in js.events(state).items()} == expected


def test_guards_in_either_order_skip_a_bad_batch_once():
    for outer, inner in (("value", "gradient_norm"), ("gradient_norm", "value")):
        tx = js.skip_spikes(js.skip_spikes(optax.sgd(1.0), metric=inner), metric=outer)
        state, out = tx.init(PARAMS), []
        for x in (1.0, 1.0, NAN, 1.0, 1.0):
            updates, state = tx.update({"w": jnp.full(3, x)}, state, PARAMS, value=x)
            out.append(float(updates["w"][0]))
        assert out == [-1.0, -1.0, 0.0, -1.0, -1.0]


def test_inside_multi_steps_no_clock_ticks_before_its_step():
    inner = js.inject(MOMENTUM, learning_rate=js.linear(1.0, 0.0, 10))
    tx = js.skip_spikes(optax.MultiSteps(inner, 4))
    with jax.numpy_dtype_promotion("standard"):
        state = tx.init(PARAMS)
        for i in range(8):
            gradient = {"w": jnp.full(3, NAN if i % 2 else 1.0)}
            _, state = tx.update(gradient, state, PARAMS)
    assert js.step(state) == 1 == state.inner_state.gradient_step


def test_the_window_of_another_metric_is_not_taken_over():
    old = js.skip_spikes(MOMENTUM(0.1), metric="value", window_size=4)
    _, state = skipped([0.1, 0.11, 0.1, 0.1], tx=old)
    new = js.skip_spikes(MOMENTUM(0.1), window_size=4)
    grafted = js.graft(new.init(PARAMS), state)
    assert grafted.window.filled == 0
    testing.assert_same(grafted.inner_state, state.inner_state)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda: optax.sgd(0.1).init(PARAMS), r"`skip_spikes` got the state of tuple. To restore"),
        (lambda: js.skip_spikes(MOMENTUM(0.1), metric="loss").init(PARAMS), "of loss. To restore"),
        (lambda: jax.vmap(js.skip_spikes(MOMENTUM(0.1)).init)({"w": jnp.ones((2, 3))}), "stacked"),
    ],
)
def test_a_state_that_is_anothers(state, says):
    with pytest.raises(ValueError, match=says):
        js.skip_spikes(MOMENTUM(0.1)).update(PARAMS, state(), PARAMS)


def test_a_rule_is_no_optimizer():
    with pytest.raises(ValueError, match=r"must be an optax.GradientTransformation, got tx=gr"):
        js.skip_spikes(js.greedy())
