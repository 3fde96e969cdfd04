"""At the limits: clocks beyond 2^31, clocks that go back, traced closures, overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js

TOKENS = js.counter(1e6)  # a million a step
LINE = js.linear(0.0, 1.0, 10**12)
LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("schedule", "step", "value"),
    [
        (LINE.shift(1000), 500_000, 0.5),
        (LINE.faster(2), 250_000, 0.5),
        (LINE.faster(0.5), 1_000_000, 0.5),
        (LINE.take(5 * 10**11), 900_000, 0.5),
        (js.linear(0.0, 1.0, 100).hold(10**10), 505_000, 0.5),
        (js.piecewise_constant([1.0, 2.0, 3.0], [10**11, 5 * 10**11]), 50_000, 1.0),
        (js.piecewise_constant([1.0, 2.0, 3.0], [10**11, 5 * 10**11]), 200_000, 2.0),
        (js.piecewise_linear([1.0, 2.0, 3.0], [0, 10**11, 5 * 10**11]), 50_000, 1.5),
        (js.piecewise_cubic([1.0, 2.0, 3.0], [0, 10**11, 2 * 10**11]), 200_000, 3.0),
        (LINE.proportional().stretch(2 * 10**12), 1_000_000, 0.5),
    ],
    ids=str,
)
def test_real_times_beyond_the_step_counter(schedule, step, value):
    assert float(schedule.on(TOKENS)(step)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        js.warmup_cosine_restarts(1.0, cycle_steps=10**10, warmup_steps=10**9),
        LINE.cycle(cycles=3),
        js.join([js.linear(0.0, 1.0, 10**9)] * 4, [10**9, 2 * 10**9, 3 * 10**9]),
    ],
    ids=["restarts", "cycles", "chain"],
)
def test_what_counts_only_steps_is_refused(schedule):
    with pytest.raises(ValueError, match=r"counts only up to 2\^31 - 1. Count in a larger unit"):
        schedule.on(TOKENS)


def test_what_follows_a_clock_begins():
    rate = js.cosine(1.0, 0.0, 10**12).on(TOKENS)
    assert (rate >> js.constant(5.0))(1_100_000) == 5.0 and rate.steps == 1_000_000
    assert float(rate.cycle()(1_500_000)) == pytest.approx(0.5, rel=1e-5)
    rates = js.stack([js.linear(0.0, 1.0, 10).on(js.counter(n)) for n in (1.0, 2.0)])
    chain = jax.vmap(lambda rate: (rate >> js.constant(5.0))(7))(rates)
    assert chain.tolist() == [np.float32(0.7), 5.0]


def test_a_clock_that_goes_back_ends_when_it_ends():
    clock = js.linear(0.0, 20.0, 20) >> js.linear(20.0, 0.0, 20) >> js.linear(0.0, 15.0, 20)
    made = js.linear(0.0, 1.0, 10).on(clock)
    assert made.steps == 60
    after = (made >> js.constant(7.0))(np.asarray([35, 45, 55, 60]))
    assert after.tolist() == [0.5, 0.375, 1.0, 7.0]
    assert float(made.cycle(decay=0.5)(95)) == pytest.approx(0.25, rel=1e-6)


def test_functions_that_hold_a_traced_number():
    line = js.linear(0.0, 1.0, 10)
    for made in (
        lambda x: 1.0 / js.from_function(lambda t: x + t.astype(float)),
        lambda x: line.on(lambda t: x * t.astype(float)) >> js.constant(3.0),
        lambda x: js.from_function(lambda t: x * t.astype(float)).take(5).integer("floor"),
    ):
        assert jax.jit(lambda x, made=made: made(x)(3))(2.0) == made(2.0)(3)


def test_units_of_a_ramp_under_jit():
    ramp = js.piecewise_constant([32, 64], [10]).take(10).integer("floor")
    units = js.Units(batch_size=ramp)
    rate = jax.jit(lambda x: js.linear(0.0, x, 1000).on(units.clock("examples"))(20))
    assert float(rate(2.0)) == pytest.approx(2 * 960 / 1000)
    with pytest.raises(ValueError, match="end within"):
        js.Units(batch_size=js.linear(1.0, 5.0, 10**8).integer("floor"))


def test_a_clock_within_clocks_is_limited():
    text = "counter(1.0)"
    for _ in range(9):
        text = f"linear(0.0, 10.0, 10).on({text}).cycle(cycles=5)"
    with pytest.raises(ValueError, match="have at most 4 clocks within it"):
        js.parse(text)


def test_strict_types():
    with jax.numpy_dtype_promotion("strict"):
        rate = js.linear(0.0, 1.0, 32).on(js.counter(4)) >> js.linear(1.0, 0.0, 5)
        js.inject(optax.sgd, learning_rate=js.tunable(rate)).init({})


def test_overflow_and_senseless_traced_numbers():
    assert jax.grad(lambda x: (2.0 ** js.linear(0.0, x, 10))(10))(200.0) == 0.0
    sigmoid = jax.jit(lambda m, k: js.sigmoid(0.0, 1.0, 4, midpoint=m, steepness=k)(np.arange(5)))
    for middle, steepness in ((5.0, 1e4), (-3.0, 1e4), (100.0, 10.0), (0.0, 1e-6), (1.0, 1e4)):
        assert np.all(np.isfinite(sigmoid(middle, steepness)))
    cubic = jax.jit(lambda b: js.piecewise_cubic([0.0, 1.0, 2.0], b)(np.arange(-2, 10)))
    assert np.all(np.isfinite(cubic(jnp.asarray([5, 3, 3]))))
    assert np.isfinite((js.linear(-1.0, 2.0, 10) ** 1e-40)(0))
    for made in (lambda x: js.constant(x) ** -1.0, lambda x: 2.0 / js.constant(x)):
        assert np.isfinite(jax.grad(lambda x, made=made: made(3 * x)(10))(1e-30))
    cooled = js.cooldown(js.constant(3e38), js.linear(1.0, 0.0, 4), end_value=-3e38)
    assert np.all(np.isfinite(js.simulate(cooled, total_steps=8, trigger_at=2).values))
    assert js.constant(3e9).integer("floor", 2**40)(0) == 0
    with pytest.raises(ValueError, match=r"the divisor `0.0 \* reduce_on_plateau"):
        1 / (0 * js.reduce_on_plateau())


def test_lengths_beyond_every_integer():
    long = js.linear(1.0, 2.0, 2**63)
    assert (1 / long)(0) == 1.0 and long.integer("floor")(0) == 1
    assert js.describe(long).rows[-1].step == 2**31 - 1
    assert js.linear(0.0, 1.0, 5).on(js.linear(0.0, 1.0, 2**64)).steps == 2**31 - 1


def test_a_trigger_before_the_start_is_refused():
    rate = js.until(js.constant(1.0), js.linear(1.0, 0.0, 5))
    for wrong in (-1, 2.5):
        with pytest.raises(ValueError, match=r"`plot\(trigger_at=...\)` must"):
            js.plot(rate, trigger_at=wrong)


def test_a_divisor_is_checked_after_a_trigger_too():
    for rule in (
        js.until(js.constant(0.1), js.linear(0.1, 0.0, 3)),
        js.cooldown(js.constant(0.1), js.linear(1.0, 0.0, 3)),
    ):
        with pytest.raises(ValueError, match="ends at zero, at step 3"):
            1e-3 / (2.0 * rule)
        kept = 1e-3 / (2.0 * rule).clip(1e-3)
        assert float(js.simulate(kept, total_steps=9, trigger_at=2).values[-1]) == 1.0
