"""Batch size and rate: the rules, the ramp that follows a decay, and steps of so many batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

N = 500
CURVES = {
    "linear": js.linear(0.3, 0.0, N),
    "cosine": js.cosine(0.3, 0.0, N),
    "cosine to a tenth": js.cosine(0.3, 0.03, N),
    "warmup": js.warmup_cosine(0.3, total_steps=N, warmup_steps=53),
    "wsd": js.warmup_stable_decay(0.3, total_steps=N, warmup_steps=20, decay_steps=100),
    "halved": js.step_decay(0.3, factor=0.5, every=77).take(N),
    "a tenth": js.step_decay(0.3, factor=0.1, every=111).take(N),
    "exponential": js.exponential_decay(0.3, decay_rate=0.98, decay_steps=1).take(N),
    "constant": js.constant(0.3, N),
    "a zero end": js.linear(0.3, 0.0, 200) >> js.constant(0.0, 300),
    "from zero": js.linear(0.0, 0.3, 20) >> js.linear(0.3, 0.0, N - 20),
    "theirs": js.from_function(optax.linear_schedule(0.3, 0.0, N)).take(N),
    "one step": js.constant(0.3, 1),
    "three steps": js.linear(0.3, 0.0, 3),
}


@functools.cache
def values_of(name):
    with jax.disable_jit():  # every schedule another program, of operations that are the same
        return np.asarray(CURVES[name](np.arange(N)), np.float64)[: CURVES[name].steps]


class TestRules:
    def test_numbers(self):
        assert js.scale_with_batch(0.1, 256, 8192) == 0.1 * 32
        assert js.scale_with_batch(0.1, 256, 1024, rule="sqrt") == 0.2
        assert js.scale_with_batch(0.1, 256, 64) == 0.025
        assert js.scale_with_batch(0.1, 256, 256) == 0.1
        assert isinstance(js.scale_with_batch(0.1, 256, 100), float)

    def test_schedules(self):
        scaled = js.scale_with_batch(CURVES["cosine"], 32, 96, "sqrt")
        t = np.arange(N)
        np.testing.assert_allclose(scaled(t), np.sqrt(3) * CURVES["cosine"](t), rtol=1e-6)
        theirs = js.scale_with_batch(optax.linear_schedule(1.0, 0.0, 4), 1, 2)
        assert isinstance(theirs, js.Schedule) and theirs(1) == 1.5

    def test_adam(self):
        scaled = js.scale_adam_with_batch(1e-3, 100, 400, b1=0.95, b2=0.99, eps=1e-6)
        expected = dict(learning_rate=2e-3, b1=0.8, b2=0.96, eps=5e-7)
        assert scaled.keys() == expected.keys()
        for name, value in expected.items():
            assert isinstance(scaled[name], float)
            np.testing.assert_allclose(scaled[name], value, rtol=1e-14)
        assert np.isclose(js.scale_adam_with_batch(1.0, 4, 1)["b1"], 0.975)
        optax.adam(**scaled)

    def test_the_same_batch_changes_nothing(self):
        for b1, b2 in ((0.9, 0.999), (0.0, 0.95), (0.3, 0.123456789)):
            same = js.scale_adam_with_batch(0.1, 7, 7, b1=b1, b2=b2)
            assert same == dict(learning_rate=0.1, b1=b1, b2=b2, eps=1e-8)
        assert js.scale_adam_with_batch(0.1, 1, 50, b1=0.0)["b1"] == 0

    def test_adam_in_inject(self):
        scaled = js.scale_adam_with_batch(CURVES["cosine"], 100, 400)
        tx = js.inject(optax.adam, **scaled)
        used = js.hyperparams(tx.init(jnp.ones(2)))
        np.testing.assert_allclose(used["learning_rate"], 0.6, rtol=1e-6)
        np.testing.assert_allclose(used["b1"], 0.6, rtol=1e-6)

    def test_moments_average_over_as_many_examples(self):
        """Adam's second moment of constant squared gradients, after as many examples."""
        scaled = js.scale_adam_with_batch(1e-3, 1, 4, b2=0.999)
        np.testing.assert_allclose(scaled["b2"] ** 250, 0.999**1000, rtol=3e-3)

    def test_traced(self):
        assert jax.jit(lambda b: js.scale_with_batch(0.1, 256, b, "sqrt"))(1024.0) == 0.2
        scaled = jax.jit(lambda b: js.scale_adam_with_batch(0.1, 256, b))(
            np.float32([1024, 1e9])[1]
        )
        assert scaled["b1"] == 0 and np.isfinite(scaled["eps"])
        slope = jax.grad(lambda b: js.scale_with_batch(0.1, 4.0, b))(2.0)
        np.testing.assert_allclose(slope, 0.025, rtol=1e-6)

    def test_gradual_warmup_and_a_decay(self):
        rate = js.gradual_warmup(0.1, 256, 8192, warmup_steps=5)
        rate = rate * js.piecewise_constant([1.0, 0.1], [10])
        values = rate(np.arange(12))
        np.testing.assert_allclose(
            values[np.array([0, 5, 9, 10])], [0.1, 3.2, 3.2, 0.32], rtol=1e-6
        )


def played(rate, multiplier):
    """Each new step: the examples gone before, the batches, and the rate."""
    n = rate.steps
    with jax.disable_jit():
        many, rates = (np.asarray(x(np.arange(N)), np.float64)[:n] for x in (multiplier, rate))
    many = many.astype(int)
    return np.cumsum(many) - many, many, rates


class TestSeesaw:
    @pytest.mark.parametrize(
        ("rule", "power", "factor", "most"),
        [
            ("sqrt", 0.5, 2, None),
            ("linear", 1.0, 2, 4),
            ("linear", 1.0, 3, None),
            ("sqrt", 0.5, 10, 10),
        ],
    )
    @pytest.mark.parametrize("name", CURVES)
    def test_is_the_schedule_at_every_example(self, name, rule, power, factor, most):
        schedule, values = CURVES[name], values_of(name)
        ramp = js.seesaw(schedule, rule=rule, factor=factor, max_multiplier=most)
        before, many, rates = played(*ramp)
        assert many.sum() == schedule.steps and ramp[1].steps == ramp[0].steps
        assert np.all(many >= 1) and (most is None or many.max() <= most)
        np.testing.assert_allclose(rates / many**power, values[before], rtol=1e-6, atol=1e-12)
        # All but what is left at the end are what the rate at their first example asks for.
        with np.errstate(divide="ignore"):
            level = np.floor(np.log(values.max() / values * (1 + 1e-6)) / np.log(factor))
        level = np.where(np.arange(len(values)) < values.argmax(), 0, level)
        asked = np.minimum(float(factor) ** np.minimum(level, 60), 2**60)
        if most is not None:
            asked = np.minimum(asked, factor ** int(np.log(most) / np.log(factor) + 1e-9))
        finite = np.isfinite(level[before[:-1]])
        np.testing.assert_array_equal(many[:-1][finite], asked[before[:-1]][finite])
        assert np.all(np.diff(many[:-1]) >= 0) and many[-1] <= asked[before[-1]]

    def test_saves_a_third_of_the_steps(self):
        saved = {
            name: 1 - js.seesaw(schedule(10_000))[0].steps / 10_000
            for name, schedule in {
                "linear": lambda n: js.linear(1.0, 0.0, n),
                "cosine": lambda n: js.cosine(1.0, 0.0, n),
                "warmup": lambda n: js.warmup_cosine(1.0, total_steps=n, warmup_steps=n // 10),
            }.items()
        }
        assert abs(saved["linear"] - 1 / 3) < 1e-3
        assert 0.37 < saved["cosine"] < 0.38 and 0.33 < saved["warmup"] < 0.35

    def test_replaces_a_step_decay_by_the_batch_alone(self):
        """Smith et al.: the rate stays, and the batch is doubled."""
        rate, multiplier = js.seesaw(CURVES["halved"], rule="linear")
        values = rate(np.arange(rate.steps))[:-1]
        np.testing.assert_allclose(values, np.full_like(values, 0.3), rtol=1e-6)
        assert set(np.asarray(multiplier(np.arange(rate.steps - 1)))) == {1, 2, 4, 8, 16, 32}

    def test_cuts_by_the_root_for_adam(self):
        """Meterez et al.: where the rate would be halved, by sqrt(1/2) with twice the batch."""
        rate, multiplier = js.seesaw(js.step_decay(1.0, factor=0.5, every=8).take(24))
        np.testing.assert_allclose(
            rate(np.array([0, 7, 8, 11, 12, 13])), [1, 1, *[0.5**0.5] * 2, 0.5, 0.5], rtol=1e-6
        )
        np.testing.assert_array_equal(
            multiplier(np.array([0, 7, 8, 11, 12, 13])), [1, 1, 2, 2, 4, 4]
        )
        assert rate.steps == 14

    def test_is_text(self):
        for made in js.seesaw(CURVES["warmup"]):
            testing.assert_same(js.parse(repr(made)), made)
            testing.assert_total(made)

    def test_of_so_many_steps(self):
        endless = js.exponential_decay(1.0, decay_rate=0.5, decay_steps=10)
        rate, _ = js.seesaw(endless, total_steps=40)
        testing.assert_same(rate(np.arange(30)), js.seesaw(endless.take(40))[0](np.arange(30)))
        assert js.seesaw(js.linear(1.0, 0.0, 40), total_steps=20)[0].steps == 20
        assert js.seesaw(optax.linear_schedule(1.0, 0.0, 40), total_steps=40)[0].steps == 28

    def test_within_jit(self):
        made = jax.jit(lambda t: js.seesaw(js.linear(1.0, 0.0, 40))[0](t))(np.int32(30))
        assert made == js.seesaw(js.linear(1.0, 0.0, 40))[0](30)


PARAMS = {"w": jnp.asarray([1.0, -2.0])}


class TestAccumulate:
    def test_is_a_big_batch_and_is_traced_once(self):
        rate, multiplier = js.seesaw(js.linear(0.2, 0.0, 40), rule="linear")
        tx = js.accumulate(js.inject(optax.sgd, learning_rate=rate, momentum=0.5), multiplier)
        gradients = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
        traces = []

        @jax.jit
        def train_step(params, state, g):
            traces.append(None)
            updates, state = tx.update({"w": g}, state, params)
            return optax.apply_updates(params, updates), state

        params, state = PARAMS, tx.init(PARAMS)
        for g in gradients:
            params, state = train_step(params, state, g)
        assert len(traces) == 1 and train_step._cache_size() <= 1  # jax forgets the oldest
        assert js.step(state) == rate.steps
        np.testing.assert_allclose(
            js.hyperparams(state)["learning_rate"], rate(rate.steps - 1), rtol=1e-6
        )
        before, many, rates = played(rate, multiplier)
        w, m = np.asarray(PARAMS["w"], np.float64), 0.0
        for b, k, r in zip(before, many, rates, strict=True):
            m = 0.5 * m + gradients[b : b + k].mean(axis=0)
            w = w - r * m
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)

    @pytest.mark.parametrize("many", [3, 3.0, np.int32(3), js.constant(3.2), lambda t: 3])
    def test_takes_numbers_and_functions(self, many):
        tx = js.accumulate(optax.sgd(1.0), many)
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        moved = []
        for _ in range(7):
            updates, state = update(PARAMS, state, PARAMS)
            moved.append(bool(np.any(updates["w"])))
        assert moved == [False, False, True] * 2 + [False]

    def test_is_never_less_than_one(self):
        tx = js.accumulate(optax.sgd(1.0), js.linear(0.0, -3.0, 2))
        updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
        np.testing.assert_array_equal(updates["w"], -PARAMS["w"])

    def test_follows_the_clock_that_set_step_moves(self):
        multiplier = js.piecewise_constant([3, 1, 2], [5, 8])
        tx = js.accumulate(js.inject(optax.sgd, learning_rate=js.linear(1.0, 0.0, 10)), multiplier)
        update = jax.jit(tx.update)

        def steps(state, batches):
            taken = []
            for _ in range(batches):
                _, state = update(PARAMS, state, PARAMS)
                taken.append(int(js.step(state)))
            return taken, state

        taken, state = steps(js.set_step(tx.init(PARAMS), 4), 6)
        assert taken == [4, 4, 5, 6, 7, 8]
        np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], 0.3, rtol=1e-6)
        # Back to where steps are of three, and in the midst of one forth to where they are of one.
        taken, state = steps(js.set_step(state, 0), 2)
        assert taken == [0, 0] and state.gradient_step == 4
        assert steps(js.set_step(state, 6), 2)[0] == [7, 8]

    def test_a_metric_is_the_mean_over_the_batches_of_a_step(self):
        tx = js.accumulate(js.wrap(optax.sgd(1.0), js.reduce_on_plateau(patience=1)), 4)
        update, state = jax.jit(tx.update), tx.init(PARAMS)
        for value in (1.0, 2.0, 3.0, 10.0):
            _, state = update(PARAMS, state, PARAMS, value=jnp.float32(value))
        (plateau,) = js.factors(state)["scale"]
        assert plateau.best == 4.0 and plateau.judged == 1
        assert js.events(state) == {
            "cuts": 0,
            "mixed": 0,
        }  # it was not observed, and so is not mixed

    def test_a_broken_batch_is_left_out_before(self):
        tx = js.skip_spikes(js.accumulate(optax.sgd(1.0), 2))
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        nan = {"w": jnp.full(2, jnp.nan)}
        for g in (PARAMS, nan, PARAMS):
            updates, state = update(g, state, PARAMS)
        np.testing.assert_array_equal(updates["w"], -PARAMS["w"])


def test_the_ramp_ends_where_the_decay_does():
    """Noisy quadratics by SGD: decay, ramp, and for comparison no decay, of as many examples."""
    n, seeds, curves = N, 200, np.linspace(0.05, 1.0, 20)[None]
    base = CURVES["cosine"]
    rate, multiplier = js.seesaw(base, rule="linear", max_multiplier=16)
    before, many, rates = played(rate, multiplier)
    noise = np.random.default_rng(0).normal(size=(n, seeds, 20))

    def run(rates, noise):
        x = np.ones((seeds, 20))
        for rate, e in zip(rates, noise, strict=True):
            x = x - rate * (curves * x + e)
        return np.mean(np.sum(curves * x**2, axis=1)) / 2

    decayed = run(values_of("cosine"), noise)
    ramped = run(rates, np.add.reduceat(noise, before) / many[:, None, None])
    constant = run(np.full(n, 0.3), noise)
    assert abs(ramped - decayed) < 0.03 * decayed < 0.005 * constant
    assert len(many) < 0.67 * n


LINE = js.linear(1.0, 0.0, 8)
SAYS = {
    "no rule": (lambda: js.scale_with_batch(0.1, 1, 2, "cubic"), "be one of 'linear', 'sqrt'"),
    "no batch": (
        lambda: js.scale_with_batch(0.1, 256, 0),
        "`scale_with_batch(batch=...)` must be p",
    ),
    "no base": (lambda: js.scale_with_batch(0.1, -1, 2), "got base_batch=-1"),
    "no rate": (lambda: js.scale_with_batch("0.1", 1, 2), "got rate='0.1'"),
    "a plateau": (
        lambda: js.scale_with_batch(LINE * js.reduce_on_plateau(), 1, 2),
        "`scale_with_batch` takes schedules",
    ),
    "too large a batch": (
        lambda: js.scale_adam_with_batch(0.1, 256, 4096),
        "`scale_adam_with_batch(batch=...)` must be less than base_batch / (1 - b1) = 2560, got "
        "batch=4096.",
    ),
    "a beta": (lambda: js.scale_adam_with_batch(0.1, 1, 2, b2=1.0), "be in [0, 1), got b2=1.0"),
    "an eps": (lambda: js.scale_adam_with_batch(0.1, 1, 2, eps=-1.0), "got eps=-1.0"),
    "endless": (
        lambda: js.seesaw(js.constant(1.0)),
        "`seesaw(total_steps=...)` must be an int, got total_steps=None. The schedule is unbounded",
    ),
    "restarts": (
        lambda: js.seesaw(LINE.cycle(cycles=2)),
        "must not rise again after it has fallen by 2",
    ),
    "below zero": (lambda: js.seesaw(LINE - 0.5), "`seesaw(schedule=...)` must be finite, not neg"),
    "nothing": (lambda: js.seesaw(0.0 * LINE), "not zero throughout"),
    "no steps": (lambda: js.seesaw(LINE.take(0)), "be at least 1, got total_steps=0"),
    "factor": (lambda: js.seesaw(LINE, factor=1), "be at least 2, got factor=1"),
    "a real factor": (lambda: js.seesaw(LINE, factor=1.5), "must be an integer, got factor=1.5"),
    "max": (lambda: js.seesaw(LINE, max_multiplier=0), "got max_multiplier=0"),
    "traced": (
        lambda: jax.jit(lambda x: js.seesaw(js.linear(x, 0.0, 8))[0](0))(1.0),
        "`seesaw(schedule=...)` must be concrete",
    ),
    "traced steps": (
        lambda: jax.jit(lambda n: js.seesaw(js.linear(1.0, 0.0, n))[0](0))(8),
        "the steps where the batch grows are static",
    ),
    "no optimizer": (lambda: js.accumulate(0.1, 2), "`accumulate(tx=...)`"),
    "no batches": (lambda: js.accumulate(optax.sgd(0.1), 0), "be at least 1, got multiplier=0"),
}


@pytest.mark.parametrize(("call", "text"), SAYS.values(), ids=SAYS)
def test_says(call, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        call()
    assert text in str(caught.value), str(caught.value)
