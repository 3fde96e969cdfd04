"""The laws of state: one tree, one clock, float32, fresh buffers, through every wrapper."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched import testing
from jaxsched._core._trees import all_of
from jaxsched._rules._mailbox import Mail

RATE = js.warmup_cosine(0.1, total_steps=20, warmup_steps=3)
PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32]


def plateau(**options):
    return js.reduce_on_plateau(**{"patience": 1, "factor": 0.5, **options})


def factories():
    return {
        "schedule": js.scale_by_schedule(RATE),
        "learning rate": js.scale_by_learning_rate(RATE),
        "with plateau": js.scale_by_learning_rate(RATE * plateau()),
        "with everything": js.scale_by_learning_rate(
            (
                js.until(RATE, js.linear(0.1, 0.0, 5)) * plateau() * js.tunable(js.constant(1.0))
            ).clip(1e-3)
        ),
        "plateau": js.scale_by_plateau(patience=1),
        "wrap": js.wrap(optax.sgd(0.1, momentum=0.5), plateau()),
        "inject": js.inject(
            optax.sgd, learning_rate=RATE * plateau(), momentum=js.linear(0.5, 0.9, 9)
        ),
    }


transforms = pytest.mark.parametrize("tx", factories().values(), ids=factories().keys())


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def scalars(state):
    """The leaves that are not the parameters' own."""
    return jax.tree.leaves((state.floats, state.ints))


@functools.cache
def compiled(tx):
    """Its update, which every run of it calls: it is compiled once."""
    return jax.jit(lambda g, s, p, value: tx.update(g, s, p, value=value))


def run(tx, steps, params=PARAMS, state=None, first=0):
    state, step = tx.init(params) if state is None else state, compiled(tx)
    for i in range(first, first + steps):
        value = jnp.float32(1.0 + 0.25 * np.sin(i))
        updates, state = step(jax.tree.map(jnp.ones_like, params), state, params, value)
        params = optax.apply_updates(params, updates)
    return params, state


def test_a_float_and_a_schedule_give_the_same_tree():
    def tree(rate):
        return jax.tree.structure(js.scale_by_learning_rate(rate).init(PARAMS))

    assert (
        tree(0.1)
        == tree(RATE)
        == tree(optax.constant_schedule(0.1))
        == tree(js.noam(model_size=4, warmup_steps=9))
    )
    plain, with_plateau = (
        js.scale_by_learning_rate(r).init(PARAMS) for r in (RATE, RATE * plateau())
    )
    assert plain.factors == {} and list(with_plateau.factors) == ["learning_rate_factors"]
    assert len(jax.tree.leaves(with_plateau)) == len(jax.tree.leaves(plain)) == 2
    nested = js.constant(2.0) * (RATE * plateau()) * (3 * plateau(metric="kl"))
    assert len(js.scale_by_learning_rate(nested).init(PARAMS).factors["learning_rate_factors"]) == 2


@transforms
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_scalars_are_strong_float32_whatever_the_parameters(tx, dtype):
    params = cast(PARAMS, dtype)
    updates, state = tx.update(params, tx.init(params), params, value=jnp.float32(1))
    for leaf in scalars(state):
        assert leaf.dtype in (jnp.float32, jnp.int32)
        assert not leaf.weak_type and leaf.ndim == 1
    assert all(u.dtype == dtype for u in jax.tree.leaves(updates))


@transforms
def test_x64_scalars_are_float64(tx, x64):
    params = cast(PARAMS, jnp.float64)
    updates, state = tx.update(params, tx.init(params), params, value=1.0)
    assert {x.dtype for x in scalars(state)} <= {np.dtype(t) for t in ("float64", "int32")}
    assert jax.tree.leaves(updates)[0].dtype == jnp.float64


@transforms
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_scan_equals_the_loop(tx, dtype):
    params = cast(PARAMS, dtype)
    grads = jax.tree.map(jnp.ones_like, params)
    losses = 1 + 0.25 * jnp.sin(jnp.arange(12.0))

    def step(carry, loss):
        params, state = carry
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), js.hyperparams(state)

    start = (params, tx.init(params))
    scanned, used = jax.lax.scan(step, start, losses)
    looped, one = start, jax.jit(step)
    for i, loss in enumerate(losses):
        looped, now = one(looped, loss)
        for name in now:
            np.testing.assert_allclose(now[name], used[name][i], rtol=1e-6)
    assert jax.tree.structure(scanned) == jax.tree.structure(looped)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a.astype(float), b.astype(float), rtol=1e-6 if dtype == jnp.float32 else 1e-2
        ),
        scanned,
        looped,
    )


@transforms
def test_donation(tx):
    state = tx.init(PARAMS)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len(pointers) == len(set(pointers)), "two leaves share a buffer"
    step = jax.jit(
        lambda s: tx.update(PARAMS, s, PARAMS, value=jnp.float32(1))[1], donate_argnums=0
    )
    for _ in range(3):
        state = step(state)
    for _ in range(3):
        state = step(
            js.observe(state, value=1.0) if "mailbox" in repr(jax.tree.structure(state)) else state
        )
    assert js.step(state) == 6


@transforms
def test_vmap_is_a_loop(tx):
    grads = jax.tree.map(lambda x: jnp.stack([x, 2 * x, 3 * x]), PARAMS)
    losses = jnp.array([1.0, 2.0, 3.0])
    states = jax.vmap(lambda _: tx.init(PARAMS))(losses)

    def two(grads, state, loss):
        for scale in (1.0, 1.5):
            updates, state = tx.update(grads, state, PARAMS, value=loss * scale)
        return updates, state

    updates, states = jax.vmap(two)(grads, states, losses)
    for i in range(3):
        alone, state = two(jax.tree.map(lambda x, i=i: x[i], grads), tx.init(PARAMS), losses[i])
        for a, b in zip(
            jax.tree.leaves((alone, state)), jax.tree.leaves((updates, states)), strict=True
        ):
            np.testing.assert_allclose(a, b[i], rtol=1e-6)


@transforms
def test_compiles_clean(tx):
    testing.assert_compiles_clean(
        lambda s, v: tx.update(PARAMS, s, PARAMS, value=v), tx.init(PARAMS), jnp.float32(1)
    )


@transforms
def test_under_debug_nans(tx):
    with jax.debug_nans(True):
        state = tx.init(PARAMS)
        _, state = tx.update(PARAMS, state, PARAMS)
        _, state = tx.update(PARAMS, state, PARAMS, value=jnp.float32(1))
    assert js.step(state) == 2


@transforms
def test_map_params(tx):
    state = tx.init(PARAMS)
    mapped = optax.tree_utils.tree_map_params(tx, lambda x: x * 0 + 7, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    for a, b in zip(scalars(mapped), scalars(state), strict=True):
        np.testing.assert_array_equal(a, b)


@transforms
def test_resume_at_every_step_is_exact(tx):
    params, state = run(tx, 10)
    for at in range(10):
        saved, then = run(tx, at)
        restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), then)
        again, last = run(tx, 10 - at, saved, restored, first=at)
        testing.assert_same((again, last), (params, state))


@transforms
def test_the_recorded_value_is_the_one_used(tx):
    state = tx.init(PARAMS)
    before = js.hyperparams(state)
    _, first = tx.update(PARAMS, state, PARAMS)
    testing.assert_same(js.hyperparams(first), before)


def test_what_is_used_is_the_schedule_at_the_count():
    tx = js.scale_by_learning_rate(RATE)
    state = tx.init(PARAMS)
    for t in range(25):
        updates, state = tx.update({"w": jnp.ones(2)}, state)
        assert js.hyperparams(state)["learning_rate"] == RATE(t)
        np.testing.assert_array_equal(updates["w"], -RATE(t) * jnp.ones(2))


def test_the_bits_of_optax():
    theirs, ours = optax.scale_by_learning_rate(RATE), js.scale_by_learning_rate(RATE)
    a, b = theirs.init(PARAMS), ours.init(PARAMS)
    for _ in range(9):
        x, a = theirs.update(PARAMS, a)
        y, b = ours.update(PARAMS, b)
        testing.assert_same(x, y)


def test_the_rate_in_the_state_is_read_and_not_written():
    for rate in (0.1, RATE, RATE * plateau()):
        state = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(rate)).init(PARAMS)
        used = js.hyperparams(state)["learning_rate"]
        assert state[1].hyperparams["learning_rate"] == used
        assert dict(jax.jit(lambda state: state[1].hyperparams)(state)) == {"learning_rate": used}
        with pytest.raises(TypeError, match="override"):
            state[1].hyperparams["learning_rate"] = 0.5
        # No field has that name for optax to find, and its error shows which function to call.
        assert optax.tree_utils.tree_get(state, "learning_rate") is None
        with pytest.raises(KeyError, match="override"):
            optax.tree_utils.tree_set(state, learning_rate=0.5)


def test_a_cut_acts_in_the_update_that_sees_the_metric():
    tx = js.scale_by_learning_rate(1.0 * plateau())
    state = tx.init(PARAMS)
    for metric, expected in ((1.0, 1.0), (2.0, 0.5), (2.0, 0.25)):
        updates, state = tx.update({"w": jnp.ones(1)}, state, value=metric)
        assert updates["w"] == -expected == -js.hyperparams(state)["learning_rate"]


def test_the_floor_is_absolute():
    tx = js.scale_by_learning_rate((js.linear(1.0, 0.5, 10) * plateau()).clip(0.2))
    _, state = run(tx, 0)
    for _ in range(9):
        _, state = tx.update({}, state, value=1.0)
    assert js.hyperparams(state)["learning_rate"] == np.float32(0.2)


def test_several_factors_multiply():
    a, b = plateau(metric="loss"), plateau(metric="kl", factor=0.25)
    tx = js.scale_by_learning_rate(js.constant(1.0) * a * b * js.linear(1.0, 0.0, 4))
    state = tx.init({})
    _, state = tx.update({}, state, loss=1.0, kl=1.0)
    _, state = tx.update({}, js.observe(state, loss=2.0), kl=2.0)
    np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], 0.5 * 0.25 * 0.75)


class TestWrappers:
    """Each way to wrap a transform: its metric arrives, its value is read, its clock is one."""

    rate = RATE * plateau()

    def test_chain(self):
        tx = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_rms(),
            js.scale_by_learning_rate(self.rate),
        )
        _, state = run(tx, 3)
        _, state = tx.update(PARAMS, js.observe(state, value=9.0), PARAMS)
        np.testing.assert_allclose(
            js.hyperparams(state)["learning_rate"],
            RATE(3) * js.factors(state)["learning_rate"][0].scale,
        )

    @pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
    def test_multi_steps(self, dtype):
        params = cast(PARAMS, dtype)
        tx = optax.MultiSteps(js.scale_by_learning_rate(self.rate), 4)
        state = tx.init(params)
        for value in (10.0, 1.0, 1.0, 5.0):
            state = js.observe(state, value=value)
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(params, state, params)
        (factor,) = js.factors(state)["learning_rate"]
        assert factor.best == 17 / 4 and js.step(state) == 1

    def test_multi_steps_keeps_only_the_last_value_of_update(self):
        tx = optax.MultiSteps(js.scale_by_plateau(patience=1), 2)
        state = tx.init(PARAMS)
        for value in (10.0, 1.0):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(PARAMS, state, PARAMS, value=jnp.float32(value))
        assert js.factors(state)["scale"][0].best == 1.0

    def test_masked(self):
        tx = optax.masked(js.scale_by_learning_rate(self.rate), {"w": True, "b": False})
        updates, state = tx.update(PARAMS, js.observe(tx.init(PARAMS), value=1.0))
        np.testing.assert_allclose(updates["w"], -RATE(0) * PARAMS["w"])
        np.testing.assert_array_equal(updates["b"], PARAMS["b"])
        assert js.step(state) == 1

    def test_partition(self):
        tx = optax.partition(
            {
                "encoder": js.scale_by_learning_rate(self.rate),
                "head": js.scale_by_learning_rate(1.0),
            },
            {"w": "encoder", "b": "head"},
        )
        _, state = tx.update(PARAMS, tx.init(PARAMS))
        used = js.hyperparams(state)
        assert set(used) == {"encoder/learning_rate", "head/learning_rate"}
        assert used["head/learning_rate"] == 1 and used["encoder/learning_rate"] == RATE(0)
        state = js.override(state, learning_rate=0.5)
        state = js.override(state, **{"encoder/learning_rate": 0.25})
        _, state = tx.update(PARAMS, state)
        assert js.hyperparams(state) == {"encoder/learning_rate": 0.25, "head/learning_rate": 0.5}
        assert js.step(js.set_step(state, 7)) == 7

    def test_apply_if_finite_keeps_the_mail(self):
        tx = optax.apply_if_finite(js.scale_by_learning_rate(1.0 * plateau()), 5)
        state = js.observe(tx.init(PARAMS), value=1.0)
        nan = jax.tree.map(lambda x: x * jnp.nan, PARAMS)
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(nan, state, PARAMS)
            assert js.step(state) == 0
            (mail,) = all_of(Mail, state)
            assert mail.finite == 1
            _, state = tx.update(PARAMS, state, PARAMS)
        assert js.factors(state)["learning_rate"][0].judged == 1

    def test_inside_each_other(self):
        tx = js.wrap(js.inject(optax.sgd, learning_rate=RATE), plateau())
        state = tx.init(PARAMS)
        for value in (1.0, 2.0):
            updates, state = tx.update(PARAMS, state, PARAMS, value=value)
        np.testing.assert_allclose(updates["b"], -0.5 * RATE(1) * PARAMS["b"], rtol=1e-6)
        assert set(js.hyperparams(state)) == {"scale", "learning_rate"} and js.step(state) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["pmap", "shard_map", "jit"])
def test_every_device_decides_the_same(how):
    devices = np.asarray(jax.devices())
    assert len(devices) == 8
    local = how != "jit"
    tx = js.scale_by_learning_rate(1.0 * plateau(axis_name="d" if local else None))
    mean = 1 * js.reduce_on_plateau(patience=1, factor=0.5)
    metrics = np.random.default_rng(0).normal(1, 1, (6, 8)).astype(np.float32)
    metrics[2, 3] = np.nan
    grads = {"w": jnp.ones((8, 2))}
    mesh = Mesh(devices, ("d",))

    def one(grads, state, metric):
        return tx.update(grads, state, value=metric if local else jnp.nanmean(metric))

    if how == "pmap":
        states = jax.tree.map(lambda x: jnp.stack([x] * 8), tx.init({}))
        step = jax.pmap(one, axis_name="d")
    elif how == "shard_map":
        states = tx.init({})
        step = jax.jit(
            jax.shard_map(
                lambda g, s, m: one(g, s, m[0]),
                mesh=mesh,
                in_specs=(P("d"), P(), P("d")),
                out_specs=(P("d"), P()),
            )
        )
    else:
        states, step = tx.init({}), jax.jit(one)
        grads = jax.device_put(grads, NamedSharding(mesh, P("d")))
    expected = js.scale_by_learning_rate(mean)
    alone = expected.init({})
    for row in metrics:
        _, states = step(grads, states, jnp.asarray(row))
        _, alone = expected.update({}, alone, value=np.float32(np.nanmean(row)))
        rates = np.atleast_1d(js.hyperparams(states)["learning_rate"])
        assert np.all(rates == rates[0])
        np.testing.assert_allclose(rates[0], js.hyperparams(alone)["learning_rate"], rtol=1e-6)
    assert rates[0] < 1


def test_until_goes_over_at_the_next_update():
    tx = js.scale_by_learning_rate(js.until(js.constant(1.0), js.linear(1.0, 0.0, 4)) * 2)
    state, used = tx.init({}), []
    step = jax.jit(lambda s: tx.update({}, s)[1])
    for t in range(9):
        if t in (3, 6):
            state = jax.jit(js.trigger)(state)
        state = step(state)
        used.append(float(js.hyperparams(state)["learning_rate"]))
    assert used == [2, 2, 2, 2, 1.5, 1, 0.5, 0, 0]
    assert step._cache_size() <= 1  # jax forgets the oldest


def test_a_tunable_shift_may_be_negative():
    schedule = js.linear(1.0, 0.0, 10).shift(-3)
    state = js.scale_by_learning_rate(js.tunable(schedule)).init({})
    assert js.hyperparams(state)["learning_rate"] == schedule(0) == np.float32(0.7)


def test_tunable_is_retuned_without_recompiling():
    make = functools.partial(js.warmup_cosine, warmup_steps=2)
    tx = js.scale_by_learning_rate(js.tunable(make(1.0, total_steps=10)))
    state = tx.init({})
    step = jax.jit(lambda s: tx.update({}, s)[1])
    for peak, total in ((1.0, 10), (0.3, 10), (0.3, 50), (2.0, 8)):
        new = make(peak, total_steps=total)
        state = step(js.retune(js.set_step(state, 4), learning_rate=new))
        np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], new(4), rtol=1e-6)
    assert step._cache_size() <= 1  # jax forgets the oldest
    with pytest.raises(ValueError, match="same tree") as error:
        js.retune(state, learning_rate=js.warmup_linear(1.0, total_steps=9, warmup_steps=2))
    assert "Then.0.Linear.init_value" in str(error.value)


def test_stateful_schedules_only_multiply():
    p = plateau()
    assert isinstance(2 * p, js.Stateful) and isinstance(RATE * p * RATE, js.Stateful)
    assert isinstance(np.float32(2) * p, js.Stateful) and isinstance(
        jnp.float32(2) * p, js.Stateful
    )
    for wrong in (
        lambda: RATE >> p,
        lambda: p >> RATE,
        lambda: p + RATE,
        lambda: RATE + p,
        lambda: p - 1,
        lambda: 1 - p,
        lambda: -p,
        lambda: p.take(3),
        lambda: p.cycle(),
        lambda: p.shift(1),
        lambda: p.stretch(3),
        lambda: js.join([RATE, p], [3]),
        lambda: js.minimum(RATE, p),
        lambda: js.select(0, [p]),
        lambda: js.until(p, RATE),
    ):
        with pytest.raises(ValueError, match=r"\(warmup >> decay\) \* reduce_on_plateau\(\)"):
            wrong()


def test_called_with_a_bare_step_it_says_where_it_belongs():
    for call in (
        lambda: (RATE * plateau())(3),
        lambda: plateau()(jnp.int32(3)),
        lambda: optax.sgd(RATE * plateau()).update(PARAMS, optax.sgd(lambda c: 0.1).init(PARAMS)),
        lambda: (RATE * plateau()).update((RATE * plateau()).init()),
    ):
        with pytest.raises(ValueError, match=r"scale_by_learning_rate\(\.\.\.\)") as error:
            call()
        assert "inject" in str(error.value)


def test_text_of_stateful_schedules():
    for s in (
        RATE * plateau(metric="kl", mode="max"),
        2 * plateau(),
        (RATE * plateau()).clip(1e-5, 1.0) * 3,
        js.until(RATE, js.constant(0.0)) * plateau(),
        js.tunable(RATE),
    ):
        testing.assert_same(eval(repr(s), vars(js)), s)


def test_messages():
    for call, said in (
        (
            lambda: js.scale_by_learning_rate("0.1"),
            ["scale_by_learning_rate", "learning_rate='0.1'"],
        ),
        (lambda: js.scale_by_learning_rate(None), ["learning_rate=None"]),
        (lambda: js.scale_by_learning_rate("0.1"), ["learning_rate=parse(...)"]),
        (lambda: js.scale_by_learning_rate(None), ["or a function of the step"]),
        (
            lambda: js.scale_by_learning_rate(np.nan),
            ["learning_rate=nan", "`constant(value=...)` must be a finite number"],
        ),
        (
            lambda: js.scale_by_learning_rate(lambda t: 0.1 if t < 100 else 0.01),
            ["under `jit`", "Attempted boolean conversion of traced array"],
        ),
        (lambda: js.scale_by_learning_rate(0.1, flip_sign=1), ["flip_sign=1"]),
        (
            lambda: js.scale_by_schedule(lambda t: (t, t)),
            ["scale_by_schedule(schedule=...)", "return one number"],
        ),
        (lambda: js.scale_by_schedule(0.1, name=""), ["name=''"]),
        (lambda: js.wrap(0.1, plateau()), ["wrap", "tx=0.1", "GradientTransformation"]),
        (lambda: js.wrap(optax.sgd(1.0), "x"), ["wrap(factor=...)", "factor='x'"]),
        (lambda: js.scale_by_plateau(patience=-1), ["patience=-1"]),
        (lambda: js.scale_by_plateau(patients=1), ["patients"]),
        (lambda: js.tunable(0.1), ["tunable", "constant(0.1)"]),
        (lambda: js.until(0.1, RATE), ["until", "constant(0.1)"]),
    ):
        with pytest.raises((ValueError, TypeError)) as error:
            call()
        for words in said:
            assert words in str(error.value)


def test_a_state_of_another_optimizer_is_refused():
    old = js.scale_by_learning_rate(RATE).init(PARAMS)
    with pytest.raises(ValueError, match="graft") as error:
        js.scale_by_learning_rate(RATE * plateau()).update(PARAMS, old)
    assert "learning_rate_factors" in str(error.value)


class TestFaults:
    """What a reviewer broke."""

    def test_until_begins_at_its_own_step_zero_after_a_jump(self):
        tx = js.scale_by_learning_rate(js.until(js.constant(0.5), js.linear(1.0, 0.0, 4)))
        _, once = tx.update({}, tx.init({}))
        for state in (tx.init({}), once):
            _, state = tx.update({}, js.trigger(js.set_step(state, 5000)))
            assert js.hyperparams(state)["learning_rate"] == 1.0

    @pytest.mark.parametrize("options", [{"accumulation_size": 2}, {"rtol": 10.0}, {}])
    def test_huge_metrics_stay_finite(self, options):
        tx = js.scale_by_plateau(patience=100, **options)
        state = tx.init({})
        for value in (3e38, 3e38, 1.0, 1.0, 0.5):
            with pytest.warns(UserWarning, match="the mean of both"):
                _, state = tx.update({}, js.observe(state, value=value), value=value)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(state))

    def test_retune_refuses_what_it_cannot_carry_out(self):
        tx = js.scale_by_learning_rate(js.tunable(js.cosine(1.0, 0.0, 10).cycle(mult=2)))
        with pytest.raises(ValueError, match="same tree"):
            js.retune(tx.init({}), learning_rate=js.cosine(1.0, 0.0, 10).cycle(mult=1.5))
        tx = js.scale_by_learning_rate(js.tunable(js.piecewise_constant([1, 2], [3])))
        with pytest.raises(ValueError, match="same tree"):
            js.retune(tx.init({}), learning_rate=js.piecewise_constant([1, 2, 3], [3, 4]))
        with pytest.raises(ValueError, match="tunable"):
            js.tunable(js.from_function(lambda t: jnp.float32(0.1)))
        with pytest.raises(ValueError, match="constant"):
            js.retune(tx.init({}), learning_rate=0.3)
        two = js.scale_by_learning_rate(js.tunable(RATE) * js.tunable(RATE))
        with pytest.raises(ValueError, match="2 tunable"):
            js.retune(two.init({}), learning_rate=RATE)

    def test_retune_of_one_of_two_and_of_a_stacked_state(self):
        tx = js.scale_by_learning_rate(js.tunable(RATE) * js.tunable(js.constant(1.0)))
        _, state = tx.update({}, js.retune(tx.init({}), learning_rate=js.constant(0.5)))
        np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], RATE(0) / 2, rtol=1e-6)
        states = jax.vmap(lambda _: tx.init({}))(jnp.arange(3))
        states = js.retune(states, learning_rate=js.constant(0.25))
        _, states = jax.vmap(lambda s: tx.update({}, s))(states)
        np.testing.assert_allclose(
            js.hyperparams(states)["learning_rate"], [RATE(0) / 4] * 3, rtol=1e-6
        )

    def test_a_traced_nan_overrides_nothing(self):
        tx = js.scale_by_learning_rate(0.5)
        state = jax.jit(lambda s, x: js.override(s, learning_rate=x))(tx.init({}), jnp.nan)
        assert js.hyperparams(tx.update({}, state)[1])["learning_rate"] == 0.5

    def test_a_dtype_is_no_schedule(self):
        with pytest.raises(ValueError, match="partial"):
            js.inject(optax.adam, learning_rate=0.1, mu_dtype=jnp.bfloat16)

    def test_a_raised_floor_holds_from_the_first_update(self):
        low = js.scale_by_plateau(patience=1)
        _, state = low.update({}, low.init({}), value=1.0)
        _, state = low.update({}, state, value=1.0)
        _, state = js.scale_by_plateau(min_scale=0.25).update({}, state)
        assert js.hyperparams(state)["scale"] == 0.25

    def test_products_saturate(self):
        tx = js.scale_by_learning_rate(js.constant(3e38) * plateau() * js.constant(1e5))
        assert jnp.isfinite(js.hyperparams(tx.init({}))["learning_rate"])

    def test_what_is_stacked_is_refused(self):
        stacked = jax.vmap(js.constant)(jnp.ones(2))
        with pytest.raises(ValueError, match="stacked"):
            js.scale_by_learning_rate(stacked * plateau()).init({})
        tx = js.scale_by_plateau()
        states = jax.vmap(lambda _: tx.init({}))(jnp.arange(3))
        with pytest.raises(ValueError, match="stacked"):
            tx.update({}, states)
        with pytest.raises(ValueError, match="stacked"):
            js.observe(states, value=1.0)

    def test_a_metric_cannot_be_called_as_the_clock(self):
        with pytest.raises(ValueError, match="metric='step'"):
            js.reduce_on_plateau(metric="step")

    def test_multi_steps_in_wrap_hands_the_metric_on(self):
        tx = js.wrap(optax.MultiSteps(js.scale_by_plateau(patience=1), 1), 1.0, name="outer")
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=jnp.float32(3))
        assert js.factors(state)["scale"][0].best == 3

    def test_integer_and_python_leaves(self):
        tx = js.scale_by_learning_rate(0.5)
        updates, _ = tx.update({"a": jnp.ones(2, jnp.int32), "b": 2.0}, tx.init({}))
        np.testing.assert_array_equal(updates["a"], [-0.5, -0.5])
        assert updates["b"] == -1.0

    def test_the_state_of_other_slots_is_refused(self):
        state = js.inject(optax.sgd, learning_rate=0.1).init(PARAMS)
        with pytest.raises(ValueError, match="graft"):
            js.inject(optax.sgd, learning_rate=0.1, momentum=0.5).update(PARAMS, state)
        with pytest.raises(ValueError, match="graft"):
            js.scale_by_learning_rate(0.1).update(PARAMS, optax.EmptyState())

    def test_multi_steps_in_inject_hands_the_metric_on(self):
        def factory(learning_rate):
            inner = js.wrap(optax.sgd(learning_rate), plateau(), name="inner")
            return optax.MultiSteps(inner, 2)

        def transform(learning_rate):
            return factory(learning_rate).gradient_transformation()

        for made in (factory, transform):
            with jax.numpy_dtype_promotion("standard"):
                _, state = run(js.inject(made, learning_rate=0.1), 4)
            assert js.factors(state)["inner"][0].judged == 2


def test_the_options_of_a_plateau_are_shown():
    parameters = inspect.signature(js.scale_by_plateau).parameters
    assert parameters == inspect.signature(js.reduce_on_plateau).parameters
