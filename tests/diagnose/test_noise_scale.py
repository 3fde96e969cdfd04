"""The gradient noise scale: known answers, and the same one by accumulation and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from packed import changed

import jaxsched as js

AXIS = "i"
MEAN = np.asarray([1.0, -2.0, 0.5], np.float32)
SPREAD = np.asarray([3.0, 1.0, 2.0], np.float32)
SIGNAL, NOISE = float(np.sum(MEAN**2)), float(np.sum(SPREAD**2))  # 5.25 and 14
PARAMS = {"a": jnp.zeros(2), "b": jnp.zeros(1)}


@pytest.fixture
def standard():
    """`MultiSteps` itself adds booleans to integers; `accumulate` lets it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def tree(x, dtype=jnp.float32):
    return {"a": jnp.asarray(x[..., :2], dtype), "b": jnp.asarray(x[..., 2:], dtype)}


def batches(count, size, seed=0):
    """Mean gradients of batches of examples whose gradients are Gaussian."""
    r = np.random.default_rng(seed)
    noise = r.normal(size=(count, size, 3)).mean(axis=1)
    return (MEAN + SPREAD * noise).astype(np.float32)


def run(tx, gradients, params=PARAMS):
    @jax.jit
    def all_of(state, gradients):
        return jax.lax.scan(lambda s, g: (tx.update(g, s, params)[1], None), state, gradients)

    return all_of(tx.init(params), gradients)[0]


def by_hand(gradients, k, size, decay):
    """The bias-corrected means, in float64, straight from the paper."""
    signal = noise = total = 0.0
    for group in np.asarray(gradients, np.float64).reshape(-1, k, 3):
        small, big = np.mean(np.sum(group**2, axis=1)), np.sum(group.mean(axis=0) ** 2)
        b_small, b_big = size, k * size
        g2 = (b_big * big - b_small * small) / (b_big - b_small)
        s = (small - big) / (1 / b_small - 1 / b_big)
        signal, noise = decay * signal + (1 - decay) * g2, decay * noise + (1 - decay) * s
        total = decay * total + (1 - decay)
    return signal / total, noise / total


ACCUMULATING = {
    "accumulate": lambda tx, k: js.accumulate(tx, k),
    "MultiSteps": lambda tx, k: optax.MultiSteps(tx, k),
    "its transformation": lambda tx, k: optax.MultiSteps(tx, k).gradient_transformation(),
    "in a wrapper": lambda tx, k: js.skip_spikes(optax.MultiSteps(tx, k), sigmas=1e9),
}


class TestKnownAnswers:
    @pytest.mark.parametrize(
        ("how", "k", "size", "decay"),
        [
            ("accumulate", 2, 8, 0.9),
            ("accumulate", 4, 4, 0.0),
            *((how, 5, 1, 0.99) for how in ACCUMULATING),
        ],
    )
    def test_is_the_paper(self, how, k, size, decay, request):
        if how != "accumulate":
            request.getfixturevalue("standard")
        gradients = batches(10 * k, size)
        tx = js.noise_scale(ACCUMULATING[how](optax.sgd(0.1), k), batch_size=size, decay=decay)
        state = run(tx, tree(gradients))
        signal, noise = by_hand(gradients, k, size, decay)
        np.testing.assert_allclose(state.signal, signal, rtol=2e-5)
        np.testing.assert_allclose(state.noise, noise, rtol=2e-5)
        assert state.measured == 10 and state.small == 0 and state.heard == 0
        if signal > 0:
            found = js.gradient_noise_scale(state)
            assert found.dtype == jnp.float32 and found.shape == ()
            np.testing.assert_allclose(found, noise / signal, rtol=2e-5)

    @pytest.mark.parametrize("size", [1, 16])
    def test_of_gaussian_gradients(self, size):
        tx = js.noise_scale(js.accumulate(optax.sgd(0.1), 4), batch_size=size, decay=0.9999)
        state = run(tx, tree(batches(8000, size)))
        np.testing.assert_allclose(state.signal, SIGNAL, rtol=0.06)
        np.testing.assert_allclose(state.noise, NOISE, rtol=0.03)
        np.testing.assert_allclose(js.gradient_noise_scale(state), NOISE / SIGNAL, rtol=0.06)

    def test_gets_better_with_more_pairs(self):
        """As in an earlier measurement: 92, 55 and 48.5 after 1, 10 and 100 pairs, exact 48.7."""
        tx = js.noise_scale(js.accumulate(optax.sgd(0.1), 8), batch_size=1, decay=0.9999)

        def errors(pairs):
            of_seeds = jnp.stack([batches(8 * pairs, 1, seed) for seed in range(6)])
            state = jax.vmap(lambda gradients: run(tx, tree(gradients)))(of_seeds)
            return abs(state.noise / NOISE - 1) + abs(state.signal / SIGNAL - 1)

        assert errors(300).mean() < 0.3 * errors(3).mean()

    def test_of_a_quadratic_that_is_trained(self):
        """loss = |x - target|**2 / 2 of Gaussian targets: S is their variance, G what is left."""
        tx = js.noise_scale(js.accumulate(optax.sgd(0.0), 4), batch_size=8, decay=0.999)

        def step(carry, target):
            x, state = carry
            g = jax.grad(lambda x: jnp.mean(jnp.sum((x[None] - target) ** 2, axis=1)) / 2)(x)
            updates, state = tx.update(g, state, x)
            return (optax.apply_updates(x, updates), state), None

        targets = SPREAD[None, None] * jax.random.normal(jax.random.key(0), (4000, 8, 3))
        x = jnp.asarray(MEAN)
        (_, state), _ = jax.lax.scan(step, (x, tx.init(x)), targets)
        np.testing.assert_allclose(js.gradient_noise_scale(state), NOISE / SIGNAL, rtol=0.1)


def over_devices(tx, gradients, how):
    """The state and the last updates, where each member has its own gradients."""
    state = tx.init(PARAMS)

    def one(state, g):
        updates, state = tx.update(
            jax.tree.map(lambda x: x.reshape(x.shape[-1:]), g), state, PARAMS
        )
        return updates, state

    if how == "vmap":
        mapped = jax.vmap(one, (None, 0), axis_name=AXIS, out_axes=None)
    elif how == "pmap":
        mapped = jax.pmap(one, AXIS, in_axes=(None, 0), out_axes=None)
    else:
        mesh = Mesh(np.asarray(jax.devices()[:8]), (AXIS,))
        mapped = jax.shard_map(one, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P())
    mapped = mapped if how == "pmap" else jax.jit(mapped)
    for i in range(gradients.shape[0]):
        updates, state = mapped(state, tree(gradients[i]))
    return jax.tree.map(np.asarray, (updates, state))


class TestDevices:
    @pytest.mark.parametrize("how", ["vmap", "shard_map", "pmap"])
    def test_is_what_one_device_measures_that_accumulates(self, how):
        gradients = batches(6 * 8, 4).reshape(6, 8, 3)
        tx = js.noise_scale(optax.sgd(0.1, momentum=0.9), batch_size=4, axis_name=AXIS, decay=0.9)
        updates, state = over_devices(tx, gradients, how)
        alone = js.accumulate(optax.sgd(0.1, momentum=0.9), 8)
        alone = js.noise_scale(alone, batch_size=4, decay=0.9)
        one = run(alone, tree(gradients.reshape(48, 3)))
        np.testing.assert_allclose(state.signal, one.signal, rtol=1e-5)
        np.testing.assert_allclose(state.noise, one.noise, rtol=1e-5)
        assert state.measured == 6
        trace = one.inner_state.inner_opt_state[0].trace
        for name in trace:
            np.testing.assert_allclose(updates[name], -0.1 * trace[name], rtol=1e-5)

    def test_gradients_that_shard_map_took_itself(self):
        """Of what is the same on all devices it sums gradients; `pcast` keeps them apart."""
        mesh = Mesh(np.asarray(jax.devices()[:8]), (AXIS,))
        tx = js.noise_scale(optax.sgd(0.1), batch_size=1, axis_name=AXIS)
        vary = getattr(jax.lax, "pcast", None)

        def step(params, state, x):
            own = vary(params, AXIS, to="varying") if vary else jax.lax.pvary(params, AXIS)
            g = jax.grad(lambda p: jnp.sum(p * x[0]))(own)
            updates, state = tx.update(g, state, params)
            return optax.apply_updates(params, updates), state

        specs = dict(in_specs=(P(), P(), P(AXIS)), out_specs=P())
        mapped = jax.jit(jax.shard_map(step, mesh=mesh, **specs))
        x, params = jnp.asarray(batches(8, 1)), jnp.ones(3)
        params, state = mapped(params, tx.init(params), x)
        signal, noise = by_hand(x, 8, 1, 0.9)
        np.testing.assert_allclose([state.signal, state.noise], [signal, noise], rtol=1e-5)
        np.testing.assert_allclose(params, 1 - 0.1 * x.mean(axis=0), rtol=1e-5)

    def test_one_device_measures_nothing(self):
        tx = js.noise_scale(optax.sgd(0.1), batch_size=4, axis_name=AXIS)
        g = tree(batches(1, 4))
        one = lambda g: tx.update(g, tx.init(PARAMS), PARAMS)
        _, state = jax.jit(jax.vmap(one, axis_name=AXIS))(g)
        assert not state.measured.any() and np.all(np.isfinite(state.noise))


class TestIsRobust:
    def test_a_ramp(self):
        """Steps of 1, 2 and 4 batches: those of one are not measured."""
        multiplier = js.piecewise_constant([1, 2, 4], [3, 6])
        tx = js.noise_scale(js.accumulate(optax.sgd(0.1), multiplier), batch_size=2, decay=0.0)
        gradients, measured = batches(3 + 6 + 8, 2), []
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        for g in gradients:
            _, state = update(tree(g), state, PARAMS)
            measured.append(int(state.measured))
        assert measured == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5]
        np.testing.assert_allclose(
            [state.signal, state.noise], by_hand(gradients[-4:], 4, 2, 0.0), rtol=1e-5
        )
        assert update._cache_size() <= 1  # jax forgets the oldest

    def test_what_is_not_finite_is_not_measured(self):
        tx = js.noise_scale(js.skip_spikes(js.accumulate(optax.sgd(0.1), 2)), batch_size=2)
        update = jax.jit(tx.update)

        def after(gradients):
            state = tx.init(PARAMS)
            for g in gradients:
                _, state = update(tree(g), state, PARAMS)
            return state

        gradients = batches(8, 2)
        clean = after(np.delete(gradients, 4, axis=0))
        assert after(gradients[:4]).measured == 2 and clean.measured == 3
        for bad in (np.nan, np.inf, 1e30):
            gradients[4] = bad
            state = after(gradients)
            assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
            assert state.measured == 3
            np.testing.assert_allclose(state.noise, clean.noise, rtol=1e-5)

    def test_batches_that_multi_steps_leaves_out(self, standard):
        gradients = batches(8, 2)
        with_nan = np.insert(gradients, [0, 3, 4], np.nan, axis=0)
        tx = optax.MultiSteps(optax.sgd(0.1), 4, should_skip_update_fn=optax.skip_not_finite)
        tx = js.noise_scale(tx, batch_size=2)
        state, clean = run(tx, tree(with_nan)), run(tx, tree(gradients))
        assert state.measured == 2
        np.testing.assert_array_equal([state.signal, state.noise], [clean.signal, clean.noise])

    def test_a_poisoned_mean_is_never_measured(self, standard):
        gradients = batches(12, 2)
        gradients[1] = np.nan  # which stays in the mean of `MultiSteps` for ever
        state = run(
            js.noise_scale(optax.MultiSteps(optax.sgd(0.1), 4), batch_size=2), tree(gradients)
        )
        scalars = (state.signal, state.noise, state.small)
        assert state.measured == 0 and np.all(np.isfinite(scalars))

    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    def test_half_precision(self, dtype):
        gradients = 200 * batches(16, 4)  # whose squares are beyond float16
        params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
        tx = js.noise_scale(js.accumulate(optax.sgd(0.1), 4), batch_size=4, decay=0.5)
        state = run(tx, tree(gradients, dtype), params)
        dtypes = [x.dtype for x in jax.tree.leaves((state.floats, state.ints))]
        assert dtypes == [jnp.dtype("float32"), jnp.dtype("int32")]
        expected = by_hand(gradients, 4, 4, 0.5)
        np.testing.assert_allclose([state.signal, state.noise], expected, rtol=0.03)

    def test_complex_gradients(self):
        gradients = batches(8 * 3, 2).reshape(3, 8, 3)
        tx = js.noise_scale(optax.sgd(0.1), batch_size=2, axis_name=AXIS, decay=0.5)
        params = jnp.zeros(3, jnp.complex64)

        def one(state, g):
            return tx.update((0.6 + 0.8j) * g, state, params)[1]

        state = tx.init(params)
        mapped = jax.jit(jax.vmap(one, (None, 0), axis_name=AXIS, out_axes=None))
        for g in gradients:
            state = mapped(state, jnp.asarray(g, jnp.complex64))
        expected = by_hand(gradients.reshape(24, 3), 8, 2, 0.5)
        np.testing.assert_allclose([state.signal, state.noise], expected, rtol=1e-5)

    def test_x64(self, x64):
        gradients = batches(8, 2).astype(np.float64)
        params = jax.tree.map(lambda x: x.astype(jnp.float64), PARAMS)
        tx = js.noise_scale(js.accumulate(optax.sgd(0.1), 4), batch_size=2)
        state = run(tx, tree(gradients, jnp.float64), params)
        assert state.signal.dtype == jnp.float64 and state.measured.dtype == jnp.int32
        assert js.gradient_noise_scale(state).dtype == jnp.float64

    def test_a_state_that_is_mended_in_the_middle(self):
        """What was heard before is not known, so this mean is not measured."""
        plain = js.accumulate(optax.sgd(0.1), 4)
        gradients = batches(8, 2)
        old = run(plain, tree(gradients[:2]))
        tx = js.noise_scale(plain, batch_size=2, decay=0.0)
        state = tx.init(PARAMS)._replace(inner_state=old)
        update = jax.jit(tx.update)
        for g in gradients[2:]:
            _, state = update(tree(g), state, PARAMS)
        assert state.measured == 1 and state.inner_state.mini_step == 0
        np.testing.assert_allclose(state.noise, by_hand(gradients[4:], 4, 2, 0.0)[1], rtol=1e-5)

    def test_a_traced_decay_and_size(self):
        def noise(size, decay):
            tx = js.noise_scale(js.accumulate(optax.sgd(0.1), 2), batch_size=size, decay=decay)
            return run(tx, tree(batches(8, 2))).noise

        np.testing.assert_allclose(
            jax.jit(noise)(2, 0.5), by_hand(batches(8, 2), 2, 2, 0.5)[1], rtol=1e-5
        )
        assert np.all(
            np.isfinite(jax.vmap(noise)(jnp.asarray([0, -3, 2]), jnp.asarray([1.0, 2.0, -1.0])))
        )


class TestIsAWrapper:
    def test_changes_nothing(self):
        inner = js.accumulate(optax.sgd(0.1, momentum=0.9), 4)
        tx = js.noise_scale(inner, batch_size=2)
        states, updates = [tx.init(PARAMS), inner.init(PARAMS)], [None, None]
        each = [jax.jit(tx.update), jax.jit(inner.update)]
        for g in batches(9, 2):
            for i in range(2):
                updates[i], states[i] = each[i](tree(g), states[i], PARAMS)
            for a, b in zip(*map(jax.tree.leaves, updates), strict=True):
                np.testing.assert_array_equal(a, b)
        scalars = len(jax.tree.leaves(states[0])) - len(jax.tree.leaves(states[1]))
        assert scalars == 2

    def test_everything_is_reached_through_it(self):
        rate = js.linear(0.1, 0.0, 10) * js.reduce_on_plateau(patience=1, factor=0.5)
        tx = js.noise_scale(
            js.accumulate(js.inject(optax.sgd, learning_rate=rate), 2), batch_size=2
        )
        tx = optax.chain(js.monitor(), tx)
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        for g, value in zip(batches(8, 2), (3, 3, 2, 2, 4, 4, 4, 4), strict=True):
            _, state = update(tree(g), js.observe(state, value=float(value)), PARAMS)
        assert js.step(state) == 4 and js.events(state)["cuts"] == 2
        np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], 0.07 / 4, rtol=1e-5)
        assert js.gradient_noise_scale(state) > 0
        fresh = js.graft(tx.init(PARAMS), state)
        assert js.step(fresh) == 4

    @pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="older XLA writes down what it sums")
    def test_no_copy_of_the_gradients(self):
        """Compiled, it needs no more memory than without, but for a few numbers."""
        params = jnp.zeros(100_000)
        inner = js.accumulate(optax.sgd(0.1), 4)

        def memory(tx):
            compiled = jax.jit(tx.update).lower(params, tx.init(params), params).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        assert memory(js.noise_scale(inner, batch_size=2)) < memory(inner) + 50_000


class TestReading:
    def state(self, signal, noise, measured=1):
        state = js.noise_scale(js.accumulate(optax.sgd(0.1), 2), batch_size=2).init(PARAMS)
        signal, noise = jnp.float32(signal), jnp.float32(noise)
        return changed(state, signal=signal, noise=noise, measured=jnp.int32(measured))

    def test_what_no_quotient_has(self):
        assert js.gradient_noise_scale(self.state(2.0, 6.0)) == 3
        assert js.gradient_noise_scale(self.state(2.0, -6.0)) == 0
        for signal in (0.0, -1.0):
            assert js.gradient_noise_scale(self.state(signal, 6.0)) == jnp.inf
        assert jax.jit(js.gradient_noise_scale)(self.state(0.0, 0.0, 0)) == jnp.inf

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            (
                lambda: js.noise_scale(optax.sgd(0.1), batch_size=2).init(PARAMS),
                "`axis_name` is None, and `tx` has no `MultiSteps`.",
            ),
            (lambda: js.noise_scale(0.1, batch_size=2), "`noise_scale(tx=...)`"),
            (
                lambda: js.noise_scale(optax.sgd(0.1), batch_size=0),
                "be at least 1, got batch_size=0",
            ),
            (lambda: js.noise_scale(optax.sgd(0.1), batch_size=2.5), "must be an integer"),
            (lambda: js.noise_scale(optax.sgd(0.1), batch_size=2, decay=1.0), "be in [0, 1)"),
            (lambda: js.noise_scale(optax.sgd(0.1), batch_size=2, axis_name=3), "axis_name"),
            (
                lambda: js.noise_scale(optax.MultiSteps(optax.sgd(0.1), 2, False), batch_size=2),
                "use_grad_mean=True",
            ),
            (
                lambda: js.noise_scale(
                    js.accumulate(js.accumulate(optax.sgd(0.1), 2), 2), batch_size=2
                ).init(PARAMS),
                "2 `MultiSteps`",
            ),
            (
                lambda: js.noise_scale(
                    optax.chain(optax.clip(1.0), js.accumulate(optax.sgd(0.1), 2)), batch_size=2
                ).init(PARAMS),
                "`optax.chain(clip, noise_scale(accumulate(tx, 4), ...))`",
            ),
            (lambda: js.gradient_noise_scale(optax.sgd(0.1).init(PARAMS)), "no `noise_scale("),
            (
                lambda: js.gradient_noise_scale(
                    js.noise_scale(js.accumulate(optax.sgd(0.1), 2), batch_size=2).init(PARAMS)
                ),
                "nothing was measured yet",
            ),
            (
                lambda: js.noise_scale(js.accumulate(optax.sgd(0.1), 2), batch_size=2).update(
                    PARAMS, optax.EmptyState()
                ),
                "graft",
            ),
        ],
    )
    def test_says(self, call, text):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
            call()
        assert text in str(caught.value), str(caught.value)
