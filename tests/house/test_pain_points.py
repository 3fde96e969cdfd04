"""What users of optax, torch, Keras and the rest suffer, one test each, named after it.

The threads are cited where the test is about one. The probes are numbered as in a script that shows
what optax 0.2.8 does in each case; each is asked here of this package.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")
P, G = {"w": jnp.ones(3)}, {"w": jnp.ones(3)}
HALF = {"w": jnp.ones(3, jnp.bfloat16)}
LAST = 2**31 - 1


def scales(metrics, params=P, **options):
    tx = js.scale_by_plateau(**options)
    state, out = tx.init(params), []
    for metric in metrics:
        _, state = tx.update(params, state, params, value=metric)
        out.append(round(float(js.hyperparams(state)["scale"]), 6))
    return out, state


def plateau_of(state):
    return js.factors(state)["scale"][0]


class TestProbes:
    def test_01_a_flat_metric_is_flat_whatever_its_sign(self):
        """https://github.com/google-deepmind/optax/pull/1767, pytorch/pytorch#47513"""
        for sign in (1.0, -1.0, 0.0):
            assert scales([sign] * 8, patience=2)[0] == pytest.approx(
                [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
            )

    def test_02_nan_is_no_bad_epoch(self):
        assert scales([1.0, NAN, NAN], patience=1)[0] == [1, 1, 1]

    def test_03_minus_infinity_is_never_the_best(self):
        out, state = scales([1.0, -INF, 0.5, 0.4, 0.3], patience=1)
        assert out == [1] * 5 and plateau_of(state).best == np.float32(0.3)

    def test_04_one_validation_loss_is_one_observation(self):
        tx = js.scale_by_plateau(patience=10)
        state = js.observe(tx.init(P), value=1.0)
        for _ in range(25):
            _, state = tx.update(G, state)
        assert js.hyperparams(state)["scale"] == 1 and plateau_of(state).judged == 1

    def test_05_an_update_without_a_metric(self):
        tx = js.scale_by_plateau()
        _, state = tx.update(G, tx.init(P))
        assert js.step(state) == 1

    def test_06_train_state_needs_no_value(self):
        """https://github.com/google/flax/pull/4471"""
        ts = TrainState.create(
            apply_fn=None, params=P, tx=optax.chain(optax.sgd(0.1), js.scale_by_plateau(patience=1))
        )
        for value in (1.0, 1.0):
            ts = js.observe(ts, value=value).apply_gradients(grads=G)
        assert js.hyperparams(ts)["scale"] == np.float32(0.1)

    def test_07_bfloat16_parameters(self):
        """https://github.com/google-deepmind/optax/pull/1774"""
        out, state = scales([1.0, 1.0], HALF, patience=1, min_scale=jnp.float32(0.3))
        assert out == [1, pytest.approx(0.3)] and plateau_of(state).best.dtype == jnp.float32

    def test_08_accumulated_steps_see_the_mean(self):
        tx = optax.MultiSteps(optax.chain(optax.sgd(1.0), js.scale_by_plateau()), 4)
        state = tx.init(P)
        for v in (10.0, 1.0, 1.0, 5.0):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(G, js.observe(state, value=v), P)
        assert plateau_of(state.inner_opt_state[1]).best == 4.25

    def test_09_a_lowered_patience_after_a_resume(self):
        _, state = scales([1.0] * 8, patience=10)
        _, state = js.scale_by_plateau(patience=3).update(G, state, value=1.0)
        assert js.hyperparams(state)["scale"] == np.float32(0.1)

    def test_10_a_lowered_accumulation_after_a_resume(self):
        _, state = scales([1.0] * 6, accumulation_size=8)
        _, state = js.scale_by_plateau(accumulation_size=4).update(G, state, value=1.0)
        assert plateau_of(state).judged == 1 and plateau_of(state).best == 1

    def test_11_the_factor_cannot_stand_before_adam(self):
        rate = js.constant(0.1) * js.reduce_on_plateau(patience=1)
        for tx in (
            js.inject(optax.adam, learning_rate=rate),
            optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(rate)),
        ):
            state, sizes = tx.init(P), []
            for _ in range(3):
                with jax.numpy_dtype_promotion("standard"):
                    u, state = tx.update(G, state, P, value=1.0)
                sizes.append(float(jnp.abs(u["w"][0])))
            np.testing.assert_allclose(sizes, [0.1, 0.01, 0.001], rtol=1e-4)

    def test_12_replicas_with_local_metrics_agree(self):
        """https://github.com/lucidrains/DALLE-pytorch/issues/268"""
        tx = js.scale_by_plateau(patience=1, axis_name="i")
        state = jax.vmap(lambda _: tx.init(P))(jnp.arange(2))
        for v in ([1.0, 1.0], [0.5, 1.0], [0.25, 1.0], [0.1, 1.9]):
            _, state = jax.vmap(lambda s, x: tx.update(G, s, value=x), axis_name="i")(
                state, jnp.array(v)
            )
            scale = js.hyperparams(state)["scale"]
            assert scale[0] == scale[1]

    def test_13_betas_are_not_rounded_to_one(self):
        """https://github.com/google-deepmind/optax/issues/1414"""
        tx = js.inject(optax.adamw, learning_rate=1e-3, b2=0.999)
        state = tx.init(HALF)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(HALF, state, HALF)
        assert js.hyperparams(state)["b2"] == np.float32(0.999)
        assert jnp.all(jnp.isfinite(updates["w"])) and updates["w"].dtype == jnp.bfloat16

    def test_14_a_tiny_rate_in_float16(self):
        tx = js.scale_by_schedule(1e-8)
        u, _ = tx.update(jnp.full(1, 1e4, jnp.float16), tx.init(P))
        assert u[0] == np.float16(1e-4)

    def test_15_an_override_is_not_ignored(self):
        tx = js.inject(optax.sgd, learning_rate=optax.constant_schedule(0.1))
        u, _ = tx.update(G, js.override(tx.init(P), learning_rate=5.0), P)
        assert u["w"][0] == -5

    def test_16_the_rate_is_in_the_state(self):
        """https://github.com/google-deepmind/optax/issues/206, 312; google/flax#4320"""
        tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(js.linear(1.0, 0.0, 10)))
        state = tx.init(P)
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(G, state)
            _, state = tx.update(G, state)
        assert state[1].hyperparams["learning_rate"] == np.float32(0.9)
        assert js.hyperparams(state)["learning_rate"] == np.float32(0.9)
        assert js.step(state) == 2

    @pytest.mark.parametrize(
        ("make", "numbers"),
        [
            (lambda n: js.cosine(1.0, 0.0, n), [10, 20]),
            (lambda n: js.linear(0.0, 1.0, n), [10, 20]),
            (lambda n: js.one_cycle(1.0, total_steps=n), [10, 20]),
            (lambda n: js.exponential_decay(1.0, decay_rate=0.5, decay_steps=n), [10, 20]),
            (lambda n: js.warmup_cosine(1.0, total_steps=40, warmup_steps=n), [10, 20]),
            (lambda p: js.warmup_cosine(p, total_steps=40, warmup_steps=10), [0.0, 2.0]),
        ],
    )
    def test_17_vmap_over_hyperparameters(self, make, numbers):
        """https://github.com/google-deepmind/optax/issues/932"""
        mapped = jax.vmap(lambda x: make(x)(5))(jnp.asarray(numbers))
        np.testing.assert_allclose(mapped, [make(x)(5) for x in numbers], rtol=1e-6)

    def test_17_vmap_over_a_plateau_factor(self):
        def cut(factor):
            tx = js.scale_by_plateau(factor=factor, patience=1)
            _, state = tx.update(G, tx.init(P), value=1.0)
            return js.hyperparams(tx.update(G, state, value=1.0)[1])["scale"]

        np.testing.assert_allclose(jax.vmap(cut)(jnp.array([0.5, 0.1])), [0.5, 0.1], rtol=1e-6)

    def test_18_gradients_through_a_join(self):
        def value(peak):
            late = js.from_function(lambda c: peak / jnp.sqrt(c.astype(float)))
            return js.join([js.linear(0.0, peak, 10), late.shift(-1)], [10])(5)

        assert value(1.0) == 0.5 and jax.grad(value)(1.0) == 0.5

    def test_19_the_first_update_is_not_at_rate_zero(self):
        """https://github.com/huggingface/transformers/issues/34754"""
        rate = js.warmup_cosine(1.0, total_steps=10, warmup_steps=4)
        np.testing.assert_allclose(rate(np.arange(5)), [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
        assert rate(10) == 0

    def test_20_no_warmup_is_no_warmup(self):
        assert js.warmup_constant(1.0, warmup_steps=0, init_value=0.0)(0) == 1

    def test_21_one_cycle_of_few_steps(self):
        for n in range(6):
            values = js.one_cycle(1.0, total_steps=n, curve=js.linear)(np.arange(8))
            assert np.all(np.isfinite(values)) and np.all(values <= 1)
        assert js.one_cycle(1.0, total_steps=2, warmup_steps=1)(1) == 1

    def test_22_warmup_for_the_whole_run(self):
        rate = js.warmup_cosine(1.0, total_steps=10, warmup_steps=10)
        np.testing.assert_allclose(rate(9), 10 / 11, rtol=1e-6)
        assert rate(10) == 0

    def test_23_join_counts_its_boundaries(self):
        three = [js.constant(v) for v in (1.0, 0.1, 0.01)]
        with pytest.raises(ValueError, match="one more schedule than boundaries"):
            js.join(three, [10])
        with pytest.raises(ValueError, match=r"not decrease.*\[20, 10\]"):
            js.join(three, [20, 10])

    @pytest.mark.parametrize(
        "make",
        [
            lambda n: js.linear(1.0, 0.0, n),
            lambda n: js.cosine(1.0, 0.0, n),
            lambda n: js.exponential_decay(1.0, decay_rate=0.5, decay_steps=n),
            lambda n: js.join([js.linear(1.0, 0.0, n), js.constant(0.0)], [n]),
            lambda n: js.warmup_cosine(1.0, total_steps=n, warmup_steps=0),
        ],
    )
    def test_24_lengths_beyond_the_clock(self, make):
        schedule = make(3 * 10**9)
        np.testing.assert_allclose(jax.jit(schedule)(5), 1.0, rtol=1e-6)
        short, t = make(3 * 10**8), 10**8
        np.testing.assert_allclose(schedule(10 * t), short(t), rtol=2e-6)

    def test_25_token_counts_do_not_wrap(self):
        """levanter's power law, tokens = step * 1024 * 4096, in steps"""
        peak, a, b = 1e-2, 1024 * 4.6, -0.51
        knee = (peak / a) ** (1 / b) / (1024 * 4096)
        rate = js.power_law(peak, exponent=b, timescale=knee)
        for step in (511, 512, 10**6, LAST):
            expected = min(peak, a * (step * 1024 * 4096.0) ** b)
            np.testing.assert_allclose(rate(step), expected, rtol=2e-6)

    def test_26_restarts_are_in_the_right_cycle(self):
        """https://github.com/pytorch/pytorch/issues/88791"""
        saw = js.linear(1.0, 0.0, 10).cycle(mult=2)
        starts = [10 * (2**n - 1) for n in range(1, 28)]
        assert all(saw(t) == 1 for t in starts)
        assert all(0 < saw(t - 1) < 0.2 for t in starts)
        for mult, at in ((3, 121), (10, 111), (10, 1), (10, 11), (10, 11111)):
            assert js.linear(1.0, 0.0, 1).cycle(mult=mult)(at) == 1

    def test_27_positions_beyond_two_to_the_24(self):
        t = 2**30 + 777
        assert js.linear(0.0, 1000.0, 1000).cycle()(t) == t % 1000

    def test_28_a_vector_of_steps(self):
        assert js.one_cycle(1.0, total_steps=10)(jnp.arange(12).reshape(3, 4)).shape == (3, 4)

    def test_29_a_rejected_step_does_not_tick(self):
        tx = optax.apply_if_finite(js.scale_by_learning_rate(js.linear(1.0, 0.0, 10)), 5)
        state = tx.init(P)
        for g in (1.0, NAN, NAN, 1.0):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update({"w": jnp.full(3, g)}, state, P)
        assert js.step(state) == 2 and state.total_notfinite == 2

    def test_30_a_constant_and_a_schedule_have_one_tree(self):
        """https://github.com/google/orbax/issues/1904"""
        trees = {
            jax.tree.structure(js.inject(optax.adam, learning_rate=rate).init(P))
            for rate in (1e-3, js.constant(1e-3), optax.constant_schedule(1e-3))
        }
        assert len(trees) == 1

    def test_31_one_compilation_for_every_rate(self):
        """https://github.com/google-deepmind/optax/issues/577, 197"""
        traces = []

        @jax.jit
        def step(rate, state):
            traces.append(None)
            return js.scale_by_learning_rate(rate).update(G, state)

        for peak, total in ((1e-3, 10), (2e-3, 10), (0.5, 50), (1.0, 7), (3.0, 10**6)):
            rate = js.warmup_cosine(peak, total_steps=total, warmup_steps=3)
            step(rate, js.scale_by_learning_rate(rate).init(P))
        assert len(traces) == 1


class TestResume:
    def test_random_access_is_sequential(self):
        """https://github.com/pytorch/pytorch/issues/162591, 49630, 184517"""
        rate = js.warmup_cosine_restarts(1.0, cycle_steps=7, warmup_steps=2, mult=2, decay=0.9)
        jumped = [float(rate(t)) for t in (40, 3, 12, 0)]
        scanned = jax.lax.scan(lambda t, _: (t + 1, rate(t)), jnp.int32(0), length=41)[1]
        np.testing.assert_allclose(jumped, np.asarray(scanned)[[40, 3, 12, 0]], rtol=1e-6)

    def test_configuration_is_not_in_the_checkpoint(self):
        """https://github.com/OpenNMT/OpenNMT-py/issues/1911"""
        short, long = (
            js.scale_by_learning_rate(js.linear(1.0, 0.0, n) * js.reduce_on_plateau(patience=p))
            for n, p in ((10, 5), (20, 1))
        )
        state = js.set_step(short.init(P), 5)
        _, state = long.update(G, state)
        assert js.hyperparams(state)["learning_rate"] == 0.75

    def test_a_rewarmup_from_any_step(self):
        """https://github.com/axolotl-ai-cloud/axolotl/pull/1273"""
        base, at = js.cosine(1.0, 0.0, 1000), 500
        again = base * js.linear(0.1, 1.0, 50).shift(at)
        np.testing.assert_allclose(again(at), 0.1 * base(at), rtol=1e-6)
        assert again(at + 50) == base(at + 50)

    def test_a_cooldown_off_any_checkpoint(self):
        """https://github.com/epfml/schedules-and-scaling/issues/3"""
        tx = js.scale_by_learning_rate(js.until(js.constant(1.0), js.linear(1.0, 0.0, 4)))
        state = js.set_step(tx.init(P), 1234)
        used = []
        for t in range(8):
            _, state = tx.update(G, js.trigger(state) if t == 2 else state)
            used.append(float(js.hyperparams(state)["learning_rate"]))
        assert used == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


class TestPlateau:
    def test_counting_starts_after_the_warmup(self):
        """https://github.com/pytorch/pytorch/issues/68978"""
        out, _ = scales([1.0] * 8, patience=2, start_after=5)
        assert out == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.1])

    def test_controllers_do_not_overwrite_each_other(self):
        """https://github.com/keras-team/keras/pull/8829, tensorflow/tensorflow#51399"""
        rate = js.cosine(1.0, 0.0, 10) * js.reduce_on_plateau(patience=1, factor=0.5)
        tx = js.scale_by_learning_rate(
            rate * js.reduce_on_plateau(patience=2, metric="acc", mode="max")
        )
        state = tx.init(P)
        for t in range(5):
            _, state = tx.update(G, state, value=1.0, acc=0.5)
            factors = [float(f.scale) for f in js.factors(state)["learning_rate"]]
            expected = float(js.cosine(1.0, 0.0, 10)(t)) * np.prod(factors)
            np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], expected, rtol=1e-6)
        assert factors == [0.0625, pytest.approx(0.01)]

    def test_the_floor_is_a_rate(self):
        """https://github.com/google-deepmind/optax/pull/975"""
        rate = (js.constant(0.1) * js.reduce_on_plateau(patience=1)).clip(5e-4)
        tx = js.scale_by_learning_rate(rate)
        state = tx.init(P)
        for _ in range(9):
            _, state = tx.update(G, state, value=1.0)
        assert js.hyperparams(state)["learning_rate"] == np.float32(5e-4)

    def test_a_slow_crawl_in_bfloat16(self):
        """optax keeps the best value in the parameters' dtype: 0.05 % a step gets lost."""
        out, _ = scales([1.0 * 0.9995**i for i in range(40)], HALF, patience=5)
        assert out[-1] == 1


class TestStepsAndEnds:
    @pytest.mark.parametrize("warmup", range(4))
    @pytest.mark.parametrize("total", range(6))
    def test_short_phases_are_finite(self, warmup, total):
        """https://github.com/google-deepmind/optax/issues/1403, huggingface/transformers#47285"""
        if warmup > total:
            with pytest.raises(ValueError, match="total_steps"):
                js.warmup_cosine(1.0, total_steps=total, warmup_steps=warmup)
            return
        for make in (
            js.warmup_cosine,
            js.warmup_linear,
            functools.partial(js.warmup_stable_decay, decay_steps=total - warmup),
        ):
            values = make(1.0, total_steps=total, warmup_steps=warmup)(np.arange(-2, 9))
            assert np.all((values >= 0) & (values <= 1))
            assert values[-1] == 0 or total == 0

    def test_held_past_the_end(self):
        """https://github.com/vLAR-group/GrowSP/issues/11"""
        rate = js.one_cycle(1.0, total_steps=10)
        assert rate(10) == rate(11) == rate(LAST) == np.float32(1 / 25e4)

    def test_never_below_the_end_value(self):
        """optax's linear schedule ends at -3e-8, its polynomial in NaN, under jit."""
        for n in (1, 3, 49, 97, 535):
            for make in (js.linear, functools.partial(js.polynomial, power=0.9), js.cosine):
                assert jax.jit(make(1.0, 0.0, n))(n) == 0
        values = jax.vmap(lambda n: js.polynomial(1.0, 0.0, n, power=0.9)(n))(jnp.arange(1, 1000))
        assert np.all(values == 0)

    def test_the_decay_waits_for_the_warmup(self):
        """https://github.com/facebookresearch/fairchem/pull/1967"""
        rate = js.warmup_cosine(1.0, total_steps=100, warmup_steps=50)
        assert rate(50) == 1

    def test_lengths_count_updates_under_accumulation(self):
        """https://github.com/vllm-project/speculators/pull/859"""
        tx = optax.MultiSteps(js.scale_by_learning_rate(js.linear(1.0, 0.0, 4)), 3)
        state, used = tx.init(P), []
        for _ in range(12):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(G, state, P)
            used.append(float(js.hyperparams(state)["learning_rate"]))
        assert used == [1, 1, 1, 1, 1, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25]

    def test_a_float_length_says_what_to_write(self):
        with pytest.raises(ValueError, match=r"steps=100000.0. Write steps=100_000."):
            js.cosine(1.0, 0.0, 1e5)


class TestRestarts:
    def test_the_peak_decays_per_cycle(self):
        """https://github.com/pytorch/pytorch/issues/195009"""
        rate = js.warmup_cosine_restarts(1.0, cycle_steps=10, decay=0.5)
        np.testing.assert_allclose(rate(np.arange(0, 50, 10)), 0.5 ** np.arange(5), rtol=1e-6)

    def test_cycles_may_shrink(self):
        """https://github.com/pytorch/pytorch/issues/95122"""
        rate = js.cosine(1.0, 0.0, 64).cycle(mult=0.5)
        assert all(rate(t) == 1 for t in (0, 64, 96, 112, 120, 124, 126))
        assert rate(127) == rate(LAST) == 0


class TestHyperparameters:
    def test_two_on_one_clock(self):
        """https://github.com/google-deepmind/optax/issues/20, 1426"""
        options = dict(total_steps=10, warmup_steps=3)
        tx = js.inject(
            optax.sgd,
            learning_rate=js.one_cycle(1.0, **options),
            momentum=js.one_cycle_momentum(**options),
        )
        state = tx.init(P)
        for t in range(10):
            _, state = tx.update(G, state, P)
            used = js.hyperparams(state)
            assert used["learning_rate"] == js.one_cycle(1.0, **options)(t)
            assert used["momentum"] == js.one_cycle_momentum(**options)(t)

    def test_a_hyperparameter_of_the_loss_on_the_same_clock(self):
        """https://github.com/talmolab/track-mjx/pull/62"""
        beta, tx = js.linear(0.0, 1.0, 4), js.scale_by_learning_rate(0.1)
        state = tx.init(P)
        for expected in (0.0, 0.25, 0.5):
            assert jax.jit(lambda s: beta(js.step(s)))(state) == expected
            _, state = tx.update(G, state)

    def test_a_mask_is_never_called_as_a_schedule(self):
        """https://github.com/google-deepmind/optax/issues/1373"""
        tx = js.inject(
            functools.partial(optax.adamw, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
            learning_rate=0.1,
            weight_decay=0.5,
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = tx.update(jax.tree.map(jnp.zeros_like, P), tx.init(P), P)
        np.testing.assert_array_equal(updates["w"], 0)

    def test_adafactor_is_jitted(self):
        """https://github.com/google-deepmind/optax/issues/412"""
        tx = js.inject(optax.adafactor, learning_rate=js.constant(0.1))
        with jax.numpy_dtype_promotion("standard"):
            jax.jit(tx.update)(G, tx.init(P), P)

    def test_no_tracer_leaks(self):
        """https://github.com/google-deepmind/optax/issues/503"""
        with jax.checking_leaks():
            rate = js.warmup_cosine(1.0, total_steps=10, warmup_steps=2)
            jax.jit(lambda t: rate(t) + rate(3))(jnp.int32(1))
            jax.vmap(lambda p: js.linear(p, 0.0, 9)(3))(jnp.ones(2))
            rate(5)


def test_a_schedule_is_printed_pickled_and_compared():
    import pickle

    rate = js.warmup_cosine(0.3, total_steps=100, warmup_steps=10)
    assert repr(rate) == "linear(0.02727272727272727, 0.3, 10) >> cosine(0.3, 0.0, 90)"
    testing.assert_same(pickle.loads(pickle.dumps(rate)), rate)
