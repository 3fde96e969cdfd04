"""The laws of rules: every public one, under every transformation, on the same hard stream."""

import functools
import inspect
import random
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from packed import record
from scripts import ROOT

import jaxsched as js
from jaxsched import testing

INDEX, BENCHMARK = ROOT / "docs" / "rules.md", (ROOT / "benchmarks" / "rules.py").read_text()
NAN, INF = float("nan"), float("inf")
PARAMS = {"w": jnp.ones(3), "b": jnp.ones(())}


def react(scale, metric):
    """It is one function, so that two rules that are made of it are equal."""
    return jnp.clip(scale + 0.1 * jnp.sign(metric - 1.0), 0.1, 3.0)


AWAKE = {  # so impatient that each acts in a short stream
    "reduce_on_plateau": lambda **more: js.reduce_on_plateau(patience=2, factor=0.5, **more),
    "reduce_when_flat": lambda **more: js.reduce_when_flat(
        block_size=1, blocks=8, rtol=0.5, factor=0.5, **more
    ),
    "greedy": lambda **more: js.greedy(patience=1, factor=0.5, window_size=2, **more),
    "kl_adaptive": lambda **more: js.kl_adaptive(1.2, tolerance=1.2, **{"metric": "value", **more}),
    "spike_guard": lambda **more: js.spike_guard(
        sigmas=1.0, window_size=8, min_observations=3, recover_steps=5, **more
    ),
    "auto_warmup": lambda **more: js.auto_warmup(ratio=9.0, ema_decay=0.5, **more),
    "hypergradient": lambda metric=None, **more: js.hypergradient(0.3, **more),
    "feedback": lambda **more: js.feedback(react, 1.0, **more),
    "until": lambda **more: js.until(js.constant(1.0), js.linear(1.0, 0.0, 20)),
    "cooldown": lambda **more: js.cooldown(js.constant(1.0), js.linear(1.0, 0.0, 20)),
    "tunable": lambda **more: js.tunable(js.linear(1.0, 0.5, 30)),
}
LISTENERS = {name: x for name, x in AWAKE.items() if name not in ("until", "cooldown", "tunable")}
MEASURED = {name: x for name, x in LISTENERS.items() if name != "hypergradient"}

each_rule = pytest.mark.parametrize("name", AWAKE)
each_listener = pytest.mark.parametrize("name", LISTENERS)


def stream(seed=0, n=60):
    """Metrics, of which None is none, and gradients: a decay that is noisy, broken now and then."""
    r, normal = random.Random(seed), np.random.default_rng(seed)
    metrics, gradients = [], []
    for i in range(n):
        metric = 1.0 + np.exp(-i / 10) + r.gauss(0, 0.3) + (4 if i % 17 == 16 else 0)
        metrics.append(r.choices([metric, None, NAN, INF, -INF], [20, 2, 1, 1, 1])[0])
        size = r.choices([1.0, NAN, INF], [20, 1, 1])[0]
        signs = 1 if i % 20 < 10 else (-1) ** i
        gradients.append((normal.normal(0.5, 0.4, 4) * size * signs).astype(np.float32))
    return metrics, gradients


def gradient_of(x, dtype=jnp.float32):
    return {"w": x[:3].astype(dtype), "b": x[3].astype(dtype)}


def observed(tx, state, metric, gradient, dtype=jnp.float32):
    extra = {} if metric is None else {"value": jnp.asarray(metric, jnp.float32)}
    return tx.update(gradient_of(jnp.asarray(gradient), dtype), state, **extra)[1]


def factor_of(state):
    return js.hyperparams(state)["scale"]


def is_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


@functools.cache
def updating(rule, jit=True, dtype=jnp.float32):
    """The transform, and an update of its state: equal rules are compiled once, for all tests."""
    tx = js.scale_by_schedule(1.0 * rule)

    def update(state, metric, gradient):
        state = observed(tx, state, metric, gradient, dtype)
        return state, factor_of(state), is_finite(state)

    return tx, jax.jit(update) if jit else update


def run(rule, metrics, gradients, state=None, jit=True, dtype=jnp.float32):
    """The factor after each update, and the state at the end."""
    tx, update = updating(rule, jit, dtype)
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    state, out = tx.init(params) if state is None else state, []
    for metric, gradient in zip(metrics, gradients, strict=True):
        metric = None if metric is None else np.float32(metric)
        state, factor, finite = update(state, metric, gradient)
        out.append(float(factor))
        assert finite, state
    np.testing.assert_allclose(out[-1], factor_of(state), rtol=1e-6)  # as it is read outside
    return np.asarray(out), state


def signature(tree):
    return jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), tree)


def test_every_public_rule_is_here():
    public = {
        name
        for name, x in vars(js).items()
        if inspect.isfunction(x)
        and getattr(x.__annotations__.get("return"), "__name__", x.__annotations__.get("return"))
        == "Rule"
    }
    assert public == set(AWAKE)


@each_listener
def test_it_acts(name):
    values, state = run(AWAKE[name](), *stream())
    assert len(np.unique(values)) >= 3, values
    events = {k: int(x) for k, x in js.events(state).items() if k != "mixed"}
    assert all(events.values()), events
    falls, rises = np.sum(np.diff(values) < 0), np.sum(np.diff(values) > 0)
    assert "cuts" not in events or events["cuts"] >= falls > 0
    assert "raises" not in events or events["raises"] >= rises > 0


@each_rule
def test_jit_is_eager(name):
    metrics, gradients = stream(n=25)
    values, state = run(AWAKE[name](), metrics, gradients)
    again, eager = run(AWAKE[name](), metrics, gradients, jit=False)
    np.testing.assert_allclose(values, again, rtol=1e-6)
    chex.assert_trees_all_close(state, eager, rtol=1e-5, atol=1e-6)


@each_rule
def test_a_scan_is_the_loop(name):
    metrics, gradients = stream()
    metrics = [NAN if m is None else m for m in metrics]
    values, state = run(AWAKE[name](), metrics, gradients)
    tx = js.scale_by_schedule(1.0 * AWAKE[name]())

    def one(state, seen):
        state = observed(tx, state, *seen)
        return state, factor_of(state)

    @jax.jit
    def scanned(metrics, gradients):
        return jax.lax.scan(one, tx.init(PARAMS), (metrics, gradients))

    last, found = scanned(jnp.asarray(metrics, jnp.float32), jnp.asarray(np.stack(gradients)))
    np.testing.assert_allclose(found, values, rtol=1e-5)
    assert signature(last) == signature(state)


@each_rule
def test_many_runs_in_one_program_are_each_alone(name):
    streams = [stream(seed, 40) for seed in range(3)]
    tx = js.scale_by_schedule(1.0 * AWAKE[name]())

    def trained(metrics, gradients):
        def one(state, seen):
            state = observed(tx, state, *seen)
            return state, factor_of(state)

        return jax.lax.scan(one, tx.init(PARAMS), (metrics, gradients))[1]

    metrics = jnp.asarray([[NAN if m is None else m for m in ms] for ms, _ in streams], jnp.float32)
    gradients = jnp.asarray(np.stack([np.stack(gs) for _, gs in streams]))
    many = jax.jit(jax.vmap(trained))(metrics, gradients)
    for row, ms, gs in zip(many, metrics, gradients, strict=True):
        np.testing.assert_allclose(row, run(AWAKE[name](), ms, list(gs))[0], rtol=1e-5)


@each_rule
def test_a_state_is_strong_fresh_and_always_one_tree(name):
    tx = js.scale_by_schedule(1.0 * AWAKE[name]())
    state = tx.init(PARAMS)
    new = observed(tx, state, 1.0, np.ones(4))
    assert signature(new) == signature(state)
    kinds = {x.dtype for x in jax.tree.leaves(state)}
    assert kinds <= {jnp.dtype(x) for x in (jnp.float32, jnp.int32, jnp.bool_)}
    assert not any(x.weak_type for x in jax.tree.leaves(state))
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((PARAMS, state))]
    assert len(set(pointers)) == len(pointers), "a donated buffer stands in one place only"


@each_rule
@pytest.mark.usefixtures("x64")
def test_under_x64_a_state_is_float64_and_no_nan_is_made(name):
    tx = js.scale_by_schedule(1.0 * AWAKE[name]())
    params = {"w": jnp.ones(3)}  # float64 here
    update = jax.jit(lambda s, m: tx.update(params, s, value=m)[1])
    state = tx.init(params)
    with jax.debug_nans(True):
        for metric in (0.0, 1.0, 1e30, *[0.0] * 8):
            state = update(state, metric)
    floats = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)}
    whole = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.integer)}
    assert floats == {np.dtype("float64")} and whole == {np.dtype("int32")}


@each_rule
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_parameters_change_no_decision(name, dtype):
    metrics, gradients = stream()
    gradients = [np.asarray(jnp.asarray(g, dtype), np.float32) for g in gradients]
    exact, _ = run(AWAKE[name](), metrics, gradients)
    low, state = run(AWAKE[name](), metrics, gradients, dtype=dtype)
    np.testing.assert_allclose(low, exact, rtol=1e-5)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(js.hyperparams(state)))


@each_listener
@pytest.mark.parametrize("broken", [NAN, -INF, 3e38, 0.0])
def test_nothing_breaks_it(name, broken):
    metrics, gradients = [1.0, 0.9, *[broken] * 20, 0.8, 0.7], [np.ones(4, np.float32)] * 24
    gradients[3:20] = [np.full(4, broken, np.float32)] * 17
    values, state = run(AWAKE[name](), metrics, gradients)
    assert np.all(np.isfinite(values)) and np.all(values >= 0)
    after, _ = run(AWAKE[name](), *stream(3), state=state)
    assert np.all(np.isfinite(after)) and np.all(after > 0)


@each_rule
def test_a_run_resumed_at_any_step_goes_on_bit_for_bit(name):
    metrics, gradients = stream(n=30)
    _, last = run(AWAKE[name](), metrics, gradients)
    tx, step = updating(AWAKE[name]())
    metrics = [None if m is None else np.float32(m) for m in metrics]
    state, states = tx.init(PARAMS), []
    for metric, gradient in zip(metrics, gradients, strict=True):
        states.append(jax.tree.map(np.asarray, state))
        state = step(state, metric, gradient)[0]
    for k, saved in enumerate(states):
        restored = jax.tree.map(jnp.asarray, saved)
        for metric, gradient in zip(metrics[k : k + 3], gradients[k : k + 3], strict=True):
            restored = step(restored, metric, gradient)[0]
        then = states[k + 3] if k + 3 < len(states) else last
        testing.assert_same(restored, jax.tree.map(jnp.asarray, then))


@each_rule
def test_it_compiles_without_a_branch(name):
    for rule in (AWAKE[name](), AWAKE[name](metric="gradient_norm")):
        tx = js.scale_by_schedule(js.cosine(1.0, 0.0, 10) * rule)
        state = tx.init(PARAMS)
        testing.assert_compiles_clean(
            lambda s, tx=tx: observed(tx, s, jnp.float32(1.0), jnp.ones(4)), state
        )


@each_rule
def test_a_product_is_the_product(name):
    metrics, gradients = stream(n=30)
    alone, _ = run(AWAKE[name](), metrics, gradients)
    curve = js.cosine(1.0, 0.1, 30)
    other = js.reduce_on_plateau(patience=4, factor=0.7)
    beside, _ = run(other, metrics, gradients)
    together, state = run(curve * AWAKE[name]() * other, metrics, gradients)
    np.testing.assert_allclose(together, curve(np.arange(30)) * alone * beside, rtol=1e-5)
    floored, _ = run((curve * AWAKE[name]()).clip(0.4, 0.8), metrics, gradients)
    expected = np.clip(np.asarray(curve(np.arange(30))) * alone, 0.4, 0.8)
    np.testing.assert_allclose(floored, expected, rtol=1e-5)
    assert len(js.factors(state)["scale"]) == 2


@pytest.mark.parametrize("name", MEASURED)
def test_any_of_them_hears_the_gradient_norm(name):
    _, gradients = stream()
    norms = [float(np.linalg.norm(g)) for g in gradients]
    by_itself, _ = run(AWAKE[name](metric="gradient_norm"), [None] * 60, gradients)
    told, _ = run(AWAKE[name](), norms, gradients)
    np.testing.assert_allclose(by_itself, told, rtol=1e-5)
    assert len(set(told)) > 2


@pytest.mark.parametrize("name", MEASURED)
def test_a_name_nobody_listens_to_is_an_error_that_lists_the_names(name):
    tx = optax.chain(
        js.scale_by_schedule(1.0 * AWAKE[name](metric="mine")),
        js.scale_by_learning_rate(0.1 * js.kl_adaptive(0.01)),
    )
    state = tx.init(PARAMS)
    with pytest.raises(
        ValueError, match=r"loss=\.\.\.\)`: no rule listens to `loss`. Names in use: kl, mine"
    ):
        js.observe(state, loss=1.0)
    js.observe(state, mine=1.0, kl=0.1)


@each_listener
@pytest.mark.parametrize("mapped", ["shard_map", "pmap"])
def test_devices_that_see_different_metrics_decide_as_one(name, mapped):
    """Each of eight devices sees its own metric; the rule hears their mean, on all of them."""
    metrics, gradients = stream(n=20)
    metrics = [1.0 if m is None or not np.isfinite(m) else m for m in metrics]
    expected, _ = run(AWAKE[name](), metrics, gradients)
    tx = js.scale_by_schedule(1.0 * AWAKE[name](axis_name="i"))
    mesh = Mesh(np.array(jax.devices()[:8]), ("i",))

    def local(state, metric, gradient):
        return observed(tx, state, metric, gradient)

    def sharded(state, metrics, gradient):
        def one(state, metric, gradient):
            return jax.tree.map(lambda x: x[None], local(state, metric[0], gradient))

        specs = dict(in_specs=(P(), P("i"), P()), out_specs=P("i"), check_vma=False)
        return jax.shard_map(one, mesh=mesh, **specs)(state, metrics, gradient)

    if mapped == "shard_map":
        step = jax.jit(sharded)
    else:
        step = jax.pmap(local, axis_name="i", in_axes=(None, 0, None))
    state, found = tx.init(PARAMS), []
    for metric, gradient in zip(metrics, gradients, strict=True):
        each = jnp.float32(metric) + 0.1 * (jnp.arange(8.0) - 3.5)
        states = step(state, each, jnp.asarray(gradient))
        for leaf in map(np.asarray, jax.tree.leaves(states)):
            assert np.all(leaf == leaf[0]), "all devices alike, to the last bit"
        state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), states)
        found.append(float(factor_of(state)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@each_listener
def test_under_jit_a_sharded_batch_is_a_batch(name):
    """No axis is named: the loss of a sharded batch is one number, and so is every decision."""
    mesh = Mesh(np.array(jax.devices()[:8]), ("i",))
    batches = np.random.default_rng(0).normal(size=(15, 16, 4)).astype(np.float32)
    tx = js.scale_by_schedule(1.0 * AWAKE[name]())

    @jax.jit
    def step(state, batch):
        def loss(w):
            return jnp.mean((batch @ w - 1.0) ** 2)

        value, gradient = jax.value_and_grad(loss)(jnp.ones(4))
        state = observed(tx, state, value, gradient)
        return state, factor_of(state)

    one = tx.init(PARAMS)
    many = jax.device_put(one, NamedSharding(mesh, P()))  # as it comes back: one program less
    for batch in batches:
        one, alone = step(one, batch)
        many, together = step(many, jax.device_put(batch, NamedSharding(mesh, P("i"))))
        np.testing.assert_allclose(alone, together, rtol=1e-4)
        for leaf in jax.tree.leaves(many):
            shards = [np.asarray(s.data) for s in leaf.addressable_shards]
            assert all(np.array_equal(s, shards[0]) for s in shards)


@each_rule
def test_its_text_is_read_back(name):
    if name == "feedback":
        assert "feedback(<" in repr(AWAKE[name]())
        return
    rule = 0.1 * AWAKE[name]()
    testing.assert_same(js.parse(repr(rule)), rule)


def test_a_default_that_depends_on_another_is_read_back():
    for options in ({}, dict(window_size=100), dict(window_size=100, min_observations=64)):
        rule = js.spike_guard(**options)
        testing.assert_same(js.parse(repr(rule)), rule)


def test_trigger_begins_the_second_schedule():
    metrics, gradients = stream(n=10)
    values, state = run(AWAKE["until"](), metrics, gradients)
    assert np.all(values == 1)
    after, _ = run(AWAKE["until"](), metrics, gradients, state=js.trigger(state))
    np.testing.assert_allclose(after, 1 - np.arange(10) / 20, rtol=1e-6)


GUARDS = ("skip_spikes", "keep_best", "snapshot", "average", "per_group", "layerwise", "monitor")


@pytest.mark.parametrize("name", [*AWAKE, *GUARDS])
def test_each_has_a_page_with_its_picture_and_a_row_in_the_benchmark(name):
    pages = ROOT / "docs" / "rules"
    text = (pages / f"{name}.md").read_text()
    assert f"]({name}.png)" in text and ">>> " in text and f"rules/{name}.md" in INDEX.read_text()
    assert (pages / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f'"{name}(' in BENCHMARK or f'"{name},' in BENCHMARK or f'"{name}"' in BENCHMARK
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (pages / link).exists(), link


class TestWhatAReaderFound:
    def test_a_state_of_arrays(self):
        rule = js.feedback(lambda s, m: s + m, jnp.zeros(3), factor=jnp.sum)
        tx = js.scale_by_schedule(1.0 * rule)
        _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=2.0)
        assert js.hyperparams(state)["scale"] == 6.0

    def test_an_observed_gradient_norm_is_not_said_to_be_mixed(self):
        tx = js.wrap(optax.sgd(0.1), js.feedback(lambda s, m: m, metric="gradient_norm"))
        _, state = tx.update(jnp.ones(4), js.observe(tx.init(jnp.ones(4)), gradient_norm=3.0))
        assert js.hyperparams(state)["scale"] == 3.0 and js.events(state)["mixed"] == 0
        _, state = tx.update(jnp.ones(4), state)
        assert js.hyperparams(state)["scale"] == 2.0

    def test_greedy_at_its_floor_cuts_no_more(self):
        rule = js.greedy(patience=1, factor=0.1, min_scale=0.01)
        tx = js.scale_by_schedule(1.0 * rule)
        state = tx.init({})
        for loss in range(1, 8):
            _, state = tx.update({}, state, value=float(loss))
        assert js.events(state)["cuts"] == 3  # from 10 to 0.01
        assert js.hyperparams(state)["scale"] == np.float32(0.01)

    @pytest.mark.parametrize("rule", [js.reduce_on_plateau, js.greedy])
    def test_what_is_partly_nan_is_not_better(self, rule):
        tx = js.scale_by_schedule(1.0 * rule(patience=5, nonfinite="bad"))
        _, state = tx.update({}, tx.init({}), value=1.0)
        state = js.observe(js.observe(state, value=0.5), value=NAN)
        _, state = tx.update({}, state)
        (memory,) = js.factors(state)["scale"]
        assert memory.best == 1.0 and memory.bad == 1

    def test_a_number_that_is_missing_is_named_by_graft(self, caplog):
        tx = js.scale_by_learning_rate(0.1)
        old = record(tx.init(PARAMS))._asdict()
        del old["warm"]
        js.graft(tx.init(PARAMS), old)
        assert caplog.messages == ["graft: missing in the old state: warm"]

    def test_a_constant_beside_a_warmup_does_not_end_it(self):
        rate = js.warmup_cosine(0.1, total_steps=100, warmup_steps=50)
        tx = js.inject(optax.sgd, learning_rate=rate, momentum=0.9)
        state = tx.init(PARAMS)
        for step in range(60):
            assert bool(state.warm) == (step > 51), step
            _, state = tx.update(PARAMS, state)

    def test_an_override_ends_a_warmup_where_it_holds_the_rate(self):
        rate = js.warmup_cosine(0.1, total_steps=100, warmup_steps=50)
        tx = js.scale_by_learning_rate(rate)
        state = tx.init(PARAMS)
        for _ in range(10):
            _, state = tx.update(PARAMS, state)
        _, state = tx.update(PARAMS, js.override(state, learning_rate=1e-4))
        assert not state.warm, "the rate fell, and not by its schedule"
        _, state = tx.update(PARAMS, state)
        assert state.warm

    def test_a_rule_that_keeps_gradients(self):
        class Mean(js.Rule):
            def start(self, params):
                return js.states.LikeParams(jax.tree.map(jnp.zeros_like, params))

            def react(self, state, seen, t):
                mean = jax.tree.map(
                    lambda m, g: (m.astype(float) + g) / 2, state.tree, seen["updates"]
                )
                return js.states.LikeParams(mean)

            def value(self, state, t):
                leaves = jax.tree.leaves(state.tree)
                return sum((jnp.sum(x) for x in leaves), start=jnp.zeros(()))

        tx = js.wrap(optax.sgd(0.1), Mean())
        params = {"w": jnp.ones(3, jnp.bfloat16)}
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(params, tx.init(params))
        assert js.hyperparams(state)["scale"] == 1.5
        assert js.factors(state)["scale"][0].tree["w"].dtype == jnp.bfloat16

    def test_a_state_loses_nothing_and_stays_finite(self):
        class Odd(js.Listener):
            def start(self, params):
                return (0,)

            def react(self, state, seen, t):
                return (state[0].astype(float) + seen.value,)

            def value(self, state, t):
                return 1.0 + state[0].astype(float)

        tx = js.scale_by_schedule(1.0 * Odd())
        with pytest.raises(ValueError, match=r"int32\[\].*float32\[\]"):
            tx.update({}, tx.init({}), value=1.0)

        class Log(Odd):
            def start(self, params):
                return (0.0,)

            def react(self, state, seen, t):
                return (jnp.log(seen.value),)

        tx = js.scale_by_schedule(1.0 * Log())
        _, state = tx.update({}, tx.init({}), value=0.0)
        assert js.hyperparams(state)["scale"] == 1.0
        _, state = tx.update({}, state, value=float(np.e))
        np.testing.assert_allclose(js.hyperparams(state)["scale"], 2.0)


@pytest.mark.parametrize("build", [js.reduce_on_plateau, js.greedy, js.auto_warmup])
def test_an_optimizer_with_a_rule_can_be_built_inside_jit(build):
    @jax.jit
    def run(params):
        rate = js.cosine(0.1, 0.0, 10) * build()
        tx = optax.chain(optax.scale(2.0), js.scale_by_learning_rate(rate))
        updates, state = tx.update(params, tx.init(params), params, value=jnp.ones(()))
        return updates, js.hyperparams(state)["learning_rate"]

    updates, rate = run(jnp.ones(2))
    assert (updates == -2 * rate).all()
