"""`average`: the averages are those of the iterates, and the merges are decays where that is so."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxsched as js
from jaxsched import testing
from jaxsched._text._evaluate import Scope, evaluate
from jaxsched._text._syntax import tree

# Adam of optax divides a float by an integer.
pytestmark = pytest.mark.usefixtures("standard_promotion")

T = 1000
DECAYS = {
    "a fall": js.constant(1.0, 700) >> js.linear(1.0, 0.0, 300),
    "a cosine": js.cosine(1.0, 0.0, T),
    "an end above zero": js.constant(1.0, 500) >> js.one_minus_sqrt(1.0, 0.2, 500),
    "steps": js.piecewise_constant([1.0, 0.1, 0.01], [400, 800]).take(T),
    "a warmup": js.linear(0.0, 1.0, 100) >> js.constant(1.0, 600) >> js.linear(1.0, 0.0, 300),
    "restarts": js.cosine(1.0, 0.0, 200).cycle(cycles=5),
    "higher": js.linear(1.0, 2.0, T),
    "nothing": js.constant(1.0, T),
    "a quotient": js.cosine(0.1, 0.01, T) / (js.linear(0.05, 0.1, 50) >> js.constant(0.1, T - 50)),
}
OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": optax.adam,
}
GRADIENTS = jax.random.normal(jax.random.key(0), (T, 40))
START = jax.random.normal(jax.random.key(1), (40,))


@pytest.fixture(name="standard_promotion")
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(tx, gradients=GRADIENTS, start=START):
    """The last state and all iterates, for gradients that do not depend on the parameters."""

    @jax.jit
    def whole(start):
        def one(carry, gradient):
            x, state = carry
            updates, state = tx.update(gradient, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return jax.lax.scan(one, (start, tx.init(start)), gradients)

    (_, state), xs = whole(start)
    return state, np.concatenate([np.asarray(start)[None], np.asarray(xs)]).astype(np.float64)


def weights(decay, steps=T):
    """The weights of x_0 ... x_T, from the definition."""
    w = np.asarray(decay(jnp.arange(steps)), np.float64)
    return np.concatenate([[1 - w[0]], w[:-1] - w[1:], [w[-1]]])


def error(found, wanted, scale):
    return np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(scale).max()


@pytest.mark.parametrize("name", DECAYS)
def test_a_merge_is_the_weighted_sum_of_the_iterates(name):
    decay = DECAYS[name]
    state, xs = run(js.average(optax.sgd(0.01), js.merged_decay(decay)))
    # With negative weights, the partial sums are larger than the result, and so is their rounding.
    limit = 1e-6 if not js.merged_decay(decay).is_sum else 1e-5
    assert error(js.average_at(state, T), weights(decay) @ xs, xs) < limit
    # Weights that are shifted by one step give another result.
    if name not in ("nothing",):
        assert error(js.average_at(state, T), np.roll(weights(decay), 1) @ xs, xs) > 1e-4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", DECAYS)
def test_a_merge_is_the_run_that_decays(name, optimizer, x64):
    decay, make = DECAYS[name], OPTIMIZERS[optimizer]
    given = jnp.asarray(GRADIENTS, float), jnp.asarray(START, float)
    state, xs = run(js.average(make(0.01), js.merged_decay(decay)), *given)
    _, decayed = run(make(lambda t: 0.01 * decay(t)), *given)
    assert js.average_at(state, T).dtype == jnp.float64
    assert error(js.average_at(state, T), decayed[-1], xs) < 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_merge_is_the_run_that_decays_in_float32(optimizer):
    """Over more steps, the two runs differ from each other by their own rounding."""
    decay, make = js.constant(1.0, 200) >> js.linear(1.0, 0.0, 100), OPTIMIZERS[optimizer]
    state, xs = run(js.average(make(0.01), js.merged_decay(decay)), GRADIENTS[:300])
    _, decayed = run(make(lambda t: 0.01 * decay(t)), GRADIENTS[:300])
    assert error(js.average_at(state, 300), decayed[-1], xs) < 1e-6


def test_a_quotient_of_two_schedules_is_a_run_with_the_first():
    target, rate = js.cosine(0.02, 0.0, T), js.linear(0.01, 0.02, 100) >> js.constant(0.02)
    state, xs = run(js.average(optax.sgd(rate), js.merged_decay((target / rate).take(T))))
    _, decayed = run(optax.sgd(target))
    assert error(js.average_at(state, T), decayed[-1], xs) < 1e-5


def test_with_decoupled_weight_decay_a_merge_is_not_the_run_that_decays():
    """The figure of the guide: at a weight decay of 0.1."""
    decay = DECAYS["a fall"]
    state, xs = run(js.average(optax.adamw(0.01, weight_decay=0.1), js.merged_decay(decay)))
    _, decayed = run(optax.adamw(lambda t: 0.01 * decay(t), weight_decay=0.1))
    assert error(js.average_at(state, T), weights(decay) @ xs, xs) < 1e-6
    assert 1e-3 < error(js.average_at(state, T), decayed[-1], xs) < 0.1


def test_many_horizons_from_one_run():
    decays = [
        js.constant(1.0, 4 * n // 5) >> js.linear(1.0, 0.0, n // 5) for n in range(200, 1001, 200)
    ]
    state, xs = run(js.average(optax.sgd(0.01), [js.merged_decay(x) for x in decays]))
    for decay in decays:
        n = decay.steps
        assert error(js.average_at(state, n), weights(decay, n) @ xs[: n + 1], xs) < 1e-6


def test_after_ten_thousand_steps():
    """The rounding grows with the square root of the number of iterates."""
    gradients = jax.random.normal(jax.random.key(2), (10_000, 40))
    decay = js.constant(1.0, 7000) >> js.linear(1.0, 0.0, 3000)
    state, xs = run(js.average(optax.sgd(0.01), js.merged_decay(decay)), gradients)
    assert error(js.average_at(state, 10_000), weights(decay, 10_000) @ xs, xs) < 2e-6


@pytest.mark.parametrize("every", [1, 10])
def test_an_exponential_average_is_that_of_the_iterates(every):
    state, xs = run(js.average(optax.sgd(0.01), js.exponential_average(150), every=every))
    taken = xs[every::every]
    ages = every * np.arange(len(taken))[::-1]
    w = 0.5 ** (ages / 150)
    assert error(js.averaged_params(state), w @ taken / w.sum(), xs) < 2e-6


def test_a_half_life_that_grows():
    half_life = js.linear(1.0, 500.0, T)
    state, xs = run(js.average(optax.sgd(0.01), js.exponential_average(half_life)))
    total, mean = 0.0, 0.0
    for j in range(1, T + 1):
        kept = 0.5 ** (1 / float(half_life(j)))
        total = kept * total + 1
        mean = mean + (xs[j] - mean) / total
    assert error(js.averaged_params(state), mean, xs) < 2e-6


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("start", [0, 300, 301, 5000])
def test_a_uniform_average_is_the_mean_of_a_tail(start, every):
    state, xs = run(js.average(optax.sgd(0.01), js.uniform_average(start), every=every))
    taken = [j for j in range(every, T + 1, every) if j > start]
    wanted = xs[taken].mean(axis=0) if taken else xs[T // every * every]
    assert error(js.averaged_params(state), wanted, xs) < 1e-6


def test_with_every_k_updates_share_the_mean_of_the_decay():
    decay, every = DECAYS["a cosine"], 20
    state, xs = run(js.average(optax.sgd(0.01), js.merged_decay(decay), every=every))
    w = np.asarray(decay(jnp.arange(T)), np.float64).reshape(-1, every).mean(axis=1)
    c = np.concatenate([[1 - w[0]], w[:-1] - w[1:], [w[-1]]])
    assert error(js.average_at(state, T), c @ xs[::every], xs) < 1e-6


def test_a_decay_chosen_after_the_run():
    every, decay = 20, js.constant(1.0, 700) >> js.cosine(1.0, 0.0, 260)
    tx = optax.chain(optax.sgd(0.01), js.snapshot(js.linear(1.0, 0.0, every).cycle(), keep=20))
    state, xs = run(tx)
    w = np.asarray(decay(jnp.arange(960)), np.float64).reshape(-1, every).mean(axis=1)
    c = np.concatenate([[1 - w[0]], w[:-1] - w[1:], [w[-1]]])
    wanted = c @ xs[:961:every]
    assert error(js.merged_snapshots(state, decay), wanted, xs) < 1e-6
    assert error(jax.jit(lambda s: js.merged_snapshots(s, decay))(state), wanted, xs) < 1e-6
    with pytest.raises(ValueError, match=r"`merged_snapshots\(decay=...\)` must end at a snapshot"):
        js.merged_snapshots(state, js.constant(1.0, 700) >> js.cosine(1.0, 0.0, 250))
    with pytest.raises(ValueError, match="be 1 before the oldest snapshot"):
        js.merged_snapshots(state, js.constant(1.0, 500) >> js.cosine(1.0, 0.0, 500))
    with pytest.raises(ValueError, match="have an end"):
        js.merged_snapshots(state, js.constant(1.0))


def test_bfloat16_parameters_have_averages_of_float32():
    start = START.astype(jnp.bfloat16)
    averages = [js.uniform_average(500), js.merged_decay(DECAYS["a fall"])]
    state, xs = run(js.average(optax.sgd(0.1), averages), GRADIENTS.astype(jnp.bfloat16), start)
    mean, merged = js.averaged_params(state), js.average_at(state, T)
    assert mean.dtype == merged.dtype == jnp.float32
    assert error(mean, xs[501:].mean(axis=0), xs) < 1e-6
    assert error(merged, weights(DECAYS["a fall"]) @ xs, xs) < 1e-6
    # In bfloat16 the mean alone would be rounded by more.
    assert error(mean, np.asarray(mean.astype(jnp.bfloat16), np.float64), xs) > 1e-4


def test_the_training_does_not_change():
    bare = optax.adamw(1e-2)
    averages = [js.exponential_average(9), js.merged_decay(DECAYS["a cosine"])]
    for every in (1, 10):
        _, xs = run(js.average(bare, averages, every=every))
        np.testing.assert_array_equal(xs, run(bare)[1])


def test_after_its_horizon_a_merge_is_at_rest_even_if_the_run_breaks():
    tx = js.average(optax.sgd(0.1), js.merged_decay(js.linear(1.0, 0.0, 4)))
    params = jnp.ones(3)
    state = tx.init(params)
    for t in range(8):
        gradient = jnp.full(3, jnp.nan if t >= 4 else 1.0)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        if t == 3:
            kept = js.average_at(state, 4)
    assert not np.isfinite(params).any()
    np.testing.assert_array_equal(js.average_at(state, 4), kept)


def test_one_can_read_it_from_the_start():
    tx = js.average(optax.sgd(0.1), js.exponential_average(5))
    np.testing.assert_array_equal(js.averaged_params(tx.init(START)), START)
    state, xs = run(tx, GRADIENTS[:1])
    assert error(js.averaged_params(state), xs[1], xs) < 1e-7


def test_every_state_resumes_bit_for_bit():
    tx = js.average(
        optax.adam(0.01),
        [js.exponential_average(5), js.merged_decay(js.linear(1.0, 0.0, 12))],
        every=3,
    )

    def steps(x, state, first, last):
        for t in range(first, last):
            updates, state = jax.jit(tx.update)(GRADIENTS[t], state, x)
            x = optax.apply_updates(x, updates)
        return x, state

    whole = steps(START, tx.init(START), 0, 14)
    for k in range(15):
        x, state = steps(START, tx.init(START), 0, k)
        restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
        testing.assert_same(steps(x, restored, k, 14), whole)


class TestGraft:
    """Horizons come and go while a run goes on."""

    LONG = js.merged_decay(js.constant(1.0, 40) >> js.linear(1.0, 0.0, 20))
    SHORT = js.merged_decay(js.constant(1.0, 16) >> js.linear(1.0, 0.0, 4))

    def steps(self, tx, x, state, first, last):
        for t in range(first, last):
            updates, state = tx.update(GRADIENTS[t], state, x)
            x = optax.apply_updates(x, updates)
        return x, state

    def test_a_horizon_that_is_added_in_time(self, caplog):
        one = js.average(optax.sgd(0.1), self.SHORT)
        both = js.average(optax.sgd(0.1), [self.SHORT, self.LONG])
        x, state = self.steps(one, START, one.init(START), 0, 30)
        state = js.graft(both.init(x), state)
        assert "missing in the old state: AverageState" in caplog.text
        _, state = self.steps(both, x, state, 30, 60)
        _, whole = self.steps(both, START, both.init(START), 0, 60)
        for horizon in (20, 60):
            np.testing.assert_allclose(
                js.average_at(state, horizon), js.average_at(whole, horizon), 1e-6
            )

    def test_a_horizon_that_is_added_too_late_says_so(self):
        bare = js.average(optax.sgd(0.1), self.SHORT)
        tx = js.average(optax.sgd(0.1), self.LONG)
        x, state = self.steps(bare, START, bare.init(START), 0, 50)
        _, state = self.steps(tx, x, js.graft(tx.init(x), state), 50, 60)
        with pytest.raises(ValueError, match="joined the run after its decay had begun"):
            js.average_at(state, 60)

    @pytest.mark.parametrize("value", [1.0, 0.5])
    def test_a_merge_that_joins_in_the_middle_says_so(self, value):
        """Its later weights may add up to 1 all the same."""
        first = js.linear(1.0, 0.0, 10) if value == 1 else js.constant(value, 10)
        average = js.exponential_average(3)
        merge = js.merged_decay(first >> js.linear(value, 0.0, 10))
        one, both = (js.average(optax.sgd(0.1), x) for x in (average, [average, merge]))
        x, state = self.steps(one, START, one.init(START), 0, 10)
        _, state = self.steps(both, x, js.graft(both.init(x), state), 10, 20)
        with pytest.raises(ValueError, match="joined the run after its decay had begun"):
            js.average_at(state, 20)

    def test_another_horizon_is_never_taken_for_it(self):
        old, new = (js.average(optax.sgd(0.1), x) for x in (self.SHORT, self.LONG))
        x, state = self.steps(old, START, old.init(START), 0, 19)
        grafted = js.graft(new.init(x), state)
        assert js.step(grafted) == 19
        np.testing.assert_array_equal(grafted.averages["at_60"].mean, x)

    def test_another_half_life_goes_on(self):
        old, new = (js.average(optax.sgd(0.1), js.exponential_average(n)) for n in (5, 50))
        x, state = self.steps(old, START, old.init(START), 0, 19)
        grafted = js.graft(new.init(x), state)
        np.testing.assert_array_equal(js.averaged_params(grafted), js.averaged_params(state))


def test_it_has_no_branch_unless_it_takes_only_some():
    averages = [js.exponential_average(9), js.merged_decay(DECAYS["a cosine"])]
    tx = js.average(optax.adam(0.1), averages)
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(2)}
    state = tx.init(params)
    testing.assert_compiles_clean(lambda s, p: tx.update(p, s, p), state, params)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("every", [1, 4])
def test_a_compiled_step_copies_no_parameters(every):
    averages = [js.exponential_average(9), js.merged_decay(DECAYS["a cosine"])]
    tx = js.average(optax.adamw(0.1), averages, every=every)
    params = {"a": jnp.ones(4096), "b": jnp.ones(4096)}

    def step(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    program = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), params).compile()
    assert "f32[4096]{0} copy(" not in program.as_text()


@pytest.mark.parametrize("every", [1, 4])
def test_under_vmap_it_is_the_loop(every):
    def last(half_life, start):
        tx = js.average(optax.sgd(0.1), js.exponential_average(half_life), every=every)

        def one(carry, gradient):
            x, state = carry
            updates, state = tx.update(gradient, state, x)
            return (optax.apply_updates(x, updates), state), None

        return js.averaged_params(jax.lax.scan(one, (start, tx.init(start)), GRADIENTS[:50])[0][1])

    half_lives, starts = jnp.asarray([3.0, 30.0]), jnp.stack([START, 2 * START])
    many = jax.jit(jax.vmap(last))(half_lives, starts)
    for i in range(2):
        chex.assert_trees_all_close(many[i], last(half_lives[i], starts[i]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("every", [1, 4])
def test_an_average_lies_as_its_parameters(every):
    mesh = Mesh(np.array(jax.devices()[:8]), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    tx = js.average(optax.adam(0.1), js.exponential_average(9), every=every)
    params = {"w": jax.device_put(jnp.ones((16, 4)), sharding)}

    @jax.jit
    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(4):
        assert js.averaged_params(state)["w"].sharding.is_equivalent_to(sharding, 2)
        params, state = step(params, state)


class PolynomialDecay(js.Average):
    """share = (power + 1) / (j + power), after Shamir and Zhang, 2013."""

    power: float

    def taken(self, total, j, every):
        j = j / every
        return (self.power + 1) / (j + self.power), total + 1


def test_an_average_of_your_own():
    average = js.factory(PolynomialDecay)(3.0)
    state, xs = run(js.average(optax.sgd(0.01), [average, js.uniform_average()]), GRADIENTS[:200])
    mean = 0.0
    for j in range(1, 201):
        mean = mean + 4 / (j + 3) * (xs[j] - mean)
    assert error(js.averaged_params(state, "polynomial_decay"), mean, xs) < 1e-6
    assert repr(average) == "polynomial_decay(3.0)"


class TestText:
    @pytest.mark.parametrize(
        "average",
        [
            js.exponential_average(1000),
            js.exponential_average(js.linear(10.0, 1000.0, 5000)),
            js.uniform_average(),
            js.uniform_average(2**31),
            *map(js.merged_decay, DECAYS.values()),
        ],
        ids=str,
    )
    def test_it_is_read_where_an_average_is_meant(self, average):
        read = evaluate(tree(repr(average)), Scope(None, None))
        assert read == average and hash(read) == hash(average)

    def test_an_average_is_no_schedule(self):
        with pytest.raises(ValueError, match="takes schedules, got"):
            js.linear(0.0, 1.0, 4) >> js.uniform_average()
        with pytest.raises(ValueError, match="the text must be a schedule, got `uniform_average"):
            js.parse("uniform_average(3)")


class TestMessages:
    """Each names the function, the argument, the value and the remedy."""

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: js.average(0.1, js.uniform_average()),
                r"`average\(tx=...\)` must be an optax",
            ),
            (lambda: js.average(optax.sgd(0.1), []), "must have at least one average, got"),
            (
                lambda: js.average(optax.sgd(0.1), 0.999),
                r"must contain only averages, got averages=0.999",
            ),
            (lambda: js.average(optax.sgd(0.1), js.linear(1.0, 0.0, 9)), r"Use .*merged_decay"),
            (
                lambda: js.average(optax.sgd(0.1), [js.uniform_average(), js.uniform_average(3)]),
                "must differ, got .*Two of them are called 'uniform_average'",
            ),
            (
                lambda: js.average(
                    optax.sgd(0.1), js.merged_decay(js.linear(1.0, 0.0, 9)), every=2
                ),
                r"`average\(every=...\)` must divide the horizon 9, got every=2",
            ),
            (lambda: js.average(optax.sgd(0.1), js.uniform_average(), every=0), "every=0"),
            (
                lambda: js.exponential_average(0),
                r"e\(half_life=...\)` must be at least 1",
            ),
            (
                lambda: js.exponential_average(js.linear(1.0, -1.0, 4)),
                "be at least 1 at every step",
            ),
            (
                lambda: js.exponential_average("long"),
                "be a number or a schedule, got half_life='long'",
            ),
            (lambda: js.exponential_average(0.999), "decay of 0.999 is a half-life of 693"),
            (
                lambda: js.merged_decay(js.warmup_cosine(0.1, total_steps=9, warmup_steps=2)),
                "divide a learning rate by that rate",
            ),
            (
                lambda: js.uniform_average(-1),
                r"average\(start=...\)` must not be negative",
            ),
            (lambda: js.uniform_average(0.5), r"uniform_average\(start=...\)"),
            (
                lambda: js.merged_decay(js.constant(1.0)),
                r"have an end, got .*`.take\(steps\)`",
            ),
            (lambda: js.merged_decay(0.5), "takes schedules, got 0.5"),
            (lambda: js.merged_decay(js.constant(1.0, 0)), "have a positive length"),
            (
                lambda: js.merged_decay(js.linear(1.0, 0.0, 9) / js.linear(0.0, 1.0, 9)),
                "zero",
            ),
        ],
    )
    def test_a_wrong_argument(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    def test_a_wrong_reading(self):
        tx = js.average(
            optax.sgd(0.1), [js.merged_decay(js.linear(1.0, 0.0, 9)), js.uniform_average()]
        )
        state = tx.init(START)
        with pytest.raises(ValueError, match=r"`average_at\(opt_state, 9\)`: the run is at step 0"):
            js.average_at(state, 9)
        with pytest.raises(
            ValueError, match=r"needs exactly one average with horizon=8.*has none.*: at_9, uniform"
        ):
            js.average_at(state, 8)
        with pytest.raises(ValueError, match="needs exactly one exponential_average"):
            js.averaged_params(state, "exponential_average")
        with pytest.raises(ValueError, match=r"exactly one running average, but a .* has none"):
            js.averaged_params(optax.sgd(0.1).init(START))
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(START, state)
        other = js.average(optax.sgd(0.1), js.uniform_average())
        with pytest.raises(
            ValueError, match="keeps the averages at_9, uniform_average, but the code"
        ):
            other.update(START, state, START)


@pytest.mark.parametrize("every", [1, 2])
def test_around_guards_and_inside_an_accumulation(every):
    """Skipped steps count as iterates, and a part of an update does not."""
    decay = js.constant(1.0, 8) >> js.linear(1.0, 0.0, 8)
    inner = js.skip_spikes(optax.sgd(0.1), window_size=4, min_observations=2, sigmas=2.0)
    averaged = js.average(inner, [js.merged_decay(decay), js.uniform_average()], every=every)
    tx = js.accumulate(averaged, 2)
    x, state, xs = START, tx.init(START), [np.asarray(START, np.float64)]
    for t in range(32):
        gradient = GRADIENTS[t] * (1e3 if t in (14, 20) else 1.0)
        updates, state = jax.jit(tx.update)(gradient, state, x)
        x = optax.apply_updates(x, updates)
        if t % 2:
            xs.append(np.asarray(x, np.float64))
    xs = np.asarray(xs)
    assert js.events(state)["skips"] > 0
    w = np.asarray(decay(jnp.arange(16)), np.float64).reshape(-1, every).mean(axis=1)
    c = np.concatenate([[1 - w[0]], w[:-1] - w[1:], [w[-1]]])
    assert error(js.average_at(state, 16), c @ xs[::every], xs) < 1e-6
    assert error(js.averaged_params(state), xs[every::every].mean(axis=0), xs) < 1e-6


def test_a_donated_state_is_used_up_and_its_average_goes_on():
    tx = js.average(optax.sgd(0.1), [js.exponential_average(5), js.uniform_average(2)], every=2)
    step = jax.jit(lambda g, s, x: tx.update(g, s, x), donate_argnums=1)
    plain = jax.jit(tx.update)
    x, state, other = START, tx.init(START), tx.init(START)
    for t in range(9):
        held = state
        updates, state = step(GRADIENTS[t], state, x)
        _, other = plain(GRADIENTS[t], other, x)
        x = optax.apply_updates(x, updates)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(held))
    testing.assert_same(state, other)


@pytest.mark.parametrize("decay", [js.linear(1.0, 0.0, 4), js.linear(0.5, 1.0, 4)], ids=str)
def test_integers_have_no_mean(decay):
    tx = optax.multi_transform(
        {"t": optax.sgd(0.1), "f": optax.set_to_zero()}, {"i": "f", "x": "t"}
    )
    tx = js.average(tx, [js.merged_decay(decay), js.uniform_average()])
    params = {"i": jnp.asarray([49, 2**24 + 1]), "x": jnp.ones(2)}
    state = tx.init(params)
    for _ in range(4):
        gradients = {"i": jnp.zeros(2, jnp.int32), "x": jnp.ones(2)}
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for found in (js.average_at(state, 4), js.averaged_params(state)):
        np.testing.assert_array_equal(found["i"], params["i"])
        assert found["i"].dtype == jnp.int32


def test_the_step_is_that_of_the_schedule_if_a_guard_inside_holds_it():
    guarded = js.skip_spikes(
        js.inject(optax.sgd, learning_rate=js.linear(1.0, 0.0, 9)), advance_on_skip=False
    )
    tx = js.average(guarded, js.uniform_average())
    params = jnp.ones(2)
    state = tx.init(params)
    for gradient in (1.0, jnp.nan, 1.0):
        updates, state = tx.update(jnp.full(2, gradient), state, params)
        params = optax.apply_updates(params, updates)
    assert js.step(state) == 2 and js.hyperparams(state)["learning_rate"] == 1 - 1 / 9
    assert js.step(js.set_step(state, 5)) == 5
