"""Numbers that keep their digits: powers of rates near 1, growth, real cycles, whole values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched._core._powers import LOGARITHM, PARTS
from jaxsched.testing import assert_same

NEAR = 0.99997
WAVE = js.cosine(1.0, 0.0, 8)


def warmed(rate):
    return js.warmup_exponential(1.0, warmup_steps=1, decay_rate=rate, decay_steps=1)


def exact(value, expected, foldings=1.0):
    """The law: 1e-6, times the e-foldings of an exponential."""
    assert value == pytest.approx(expected, rel=1e-6 * max(1.0, foldings))


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: js.exponential_decay(1.0, decay_rate=rate, decay_steps=1),
        lambda rate: js.exponential_decay(1.0, decay_rate=rate, decay_steps=1, staircase=True),
        lambda rate: js.step_decay(1.0, factor=rate, every=1),
        lambda rate: warmed(rate).shift(-1),
        lambda rate: js.constant(1.0, 1).cycle(decay=rate),
        lambda rate: js.constant(1.0, 1).cycle(decay=rate, mult=1.0),
        lambda rate: js.cyclic(0.0, 1.0, up_steps=0, down_steps=1, step_decay=rate),
        lambda rate: js.cyclic(0.0, 1.0, up_steps=0, down_steps=1, decay=rate),
        lambda rate: js.parse(f"exponential_decay(1.0, decay_rate={rate!r}, decay_steps=1)"),
        lambda rate: js.compat.torch.ExponentialLR(1.0, gamma=rate),
        lambda rate: js.compat.torch.StepLR(1.0, step_size=1, gamma=rate),
        lambda rate: js.compat.optax.exponential_decay(1.0, 1, rate),
        lambda rate: js.compat.keras.ExponentialDecay(1.0, 1, rate),
        lambda rate: js.compat.timm.StepLRScheduler(1.0, decay_t=1, decay_rate=rate),
    ],
)
@pytest.mark.parametrize("rate", [NEAR, 0.9999, 0.999999, 0.3])
def test_a_rate_keeps_its_digits(make, rate):
    schedule = make(rate)
    for step in (1, 30_000, 300_000):
        foldings = -step * math.log(rate)
        if foldings < 80:
            exact(schedule(step), rate**step, foldings)
            exact(jax.jit(lambda s, t: s(t))(schedule, step), rate**step, foldings)


def test_the_rate_of_the_report():
    exact(js.exponential_decay(1.0, decay_rate=NEAR, decay_steps=1)(30_000), 0.4065641709777775)


def test_a_rate_above_one_keeps_its_digits():
    growing = js.exponential_decay(1.0, decay_rate=1.00003, decay_steps=1)
    exact(growing(300_000), 1.00003**300_000, 9)


def test_radam_keeps_the_digits_of_b2():
    b2, n = 0.999, 1006
    limit = 2 / (1 - b2) - 1
    rho = limit - 2 * n * b2**n / (1 - b2**n)
    right = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    exact(js.radam_warmup(b2=b2)(n - 5), right, 2)


def test_a_decay_is_written_as_it_was_given():
    rng = np.random.default_rng(0)
    for form in (LOGARITHM, PARTS):
        near = 1 - 10 ** rng.uniform(-9, -1, 2000)
        for x in np.concatenate([near, rng.uniform(0, 3, 2000), 10 ** rng.uniform(-6, 6, 2000)]):
            number = float(f"{x:.{rng.integers(1, 12)}g}")
            if number > 0:
                assert form.decode(form.encode(number)) == number


def test_a_decay_that_was_on_a_device_is_written_as_it_was_given():
    schedule = WAVE.cycle(mult=1.1, decay=0.9999)
    there = jax.jit(lambda s: s)(schedule)
    assert repr(there) == repr(schedule) == "cosine(1.0, 0.0, 8).cycle(mult=1.1, decay=0.9999)"
    assert_same(js.parse(repr(there)), there)
    growth = js.exponential_decay(1.0, decay_rate=jnp.float32(0.1), decay_steps=1)
    assert_same(js.parse(repr(growth)), growth)


@pytest.mark.parametrize(
    "schedule",
    [
        js.exponential_decay(1.0, decay_rate=NEAR, decay_steps=1),
        js.constant(1.0, 1).cycle(decay=NEAR),
        js.linear(1.0, 0.0, 3).cycle(mult=1.001, decay=NEAR),
        js.radam_warmup(b2=0.999),
    ],
    ids=repr,
)
def test_trainable_and_tunable_keep_the_digits(schedule):
    numbers, rebuild = js.trainable(schedule)
    np.testing.assert_array_equal(rebuild(numbers)(30_000), schedule(30_000))
    rates = [x for name, x in numbers.items() if "decay_rate" in name or ".decay" in name]
    assert all(x == np.float32(NEAR) for x in rates)
    slope = jax.grad(lambda numbers: rebuild(numbers)(3))(numbers)
    assert all(np.all(np.isfinite(x)) for x in slope.values())
    tx = js.scale_by_learning_rate(js.tunable(schedule))
    state = js.set_step(tx.init({}), 30_000)
    for now in (state, js.retune(state, learning_rate=schedule)):
        used = js.hyperparams(tx.update({}, now)[1])["learning_rate"]
        assert float(used) == pytest.approx(float(schedule(30_000)), rel=1e-5)


def test_a_rate_is_moved_by_what_it_is_moved():
    numbers, rebuild = js.trainable(js.exponential_decay(1.0, decay_rate=0.5, decay_steps=1))
    (name,) = [x for x in numbers if x.endswith("decay_rate")]
    exact(rebuild({name: 0.25})(3), 0.25**3)
    exact(rebuild({name: jnp.float32(0.25)})(3), 0.25**3)
    assert jax.grad(lambda x: rebuild({name: x})(3))(0.5) == pytest.approx(3 * 0.5**2)


def test_stacks_and_sweeps_keep_the_digits():
    rates = [NEAR, 0.9999, 0.9]
    schedules = js.grid(js.exponential_decay, init_value=1.0, decay_rate=rates, decay_steps=1)
    values = jax.vmap(lambda s: s(30_000))(js.stack(schedules))
    for value, rate in zip(values[:2], rates, strict=False):
        exact(value, rate**30_000, 3)
    cycles = js.stack([WAVE.cycle(mult=1.1), WAVE.cycle(mult=1.5)])
    alone = [s(1000) for s in (WAVE.cycle(mult=1.1), WAVE.cycle(mult=1.5))]
    np.testing.assert_allclose(jax.vmap(lambda s: s(1000))(cycles), alone, rtol=1e-5)


def test_a_growth_reaches_the_largest_float_and_a_decay_the_smallest():
    growing = js.exponential_decay(1e-20, decay_rate=10.0, decay_steps=1)
    for step in (39, 50, 58):
        exact(growing(step), 10.0 ** (step - 20), step * math.log(10))
    assert 1e38 < growing(2**31 - 1) < np.inf
    assert js.exponential_decay(0.0, decay_rate=10.0, decay_steps=1)(2**31 - 1) == 0
    assert js.exponential_decay(-1e-20, decay_rate=10.0, decay_steps=1)(2**31 - 1) < -1e38
    falling = js.exponential_decay(1e30, decay_rate=0.1, decay_steps=1)
    exact(falling(65), 1e-35, 150)
    exact(js.constant(1e-20, 1).cycle(decay=10.0)(18), 1e-2, 42)


def test_the_end_of_a_cycle_that_shrinks_is_where_it_is_held():
    shrinking = js.linear(1.0, 0.0, 100).cycle(mult=0.9, cycles=1000)
    # 44 cycles have a step or more: 100 * 0.9**43 is 1.08, and 1000 * (1 - 0.9**44) is 990.3.
    assert shrinking.steps == 991
    assert shrinking(990) != shrinking(991) == shrinking(10**6)
    assert jax.jit(lambda m: js.linear(1.0, 0.0, 100).cycle(mult=m, cycles=1000).steps)(0.9) == 991
    assert js.linear(1.0, 0.0, 100).cycle(mult=0.1, cycles=9).steps == 111
    chained = shrinking >> js.constant(7.0)
    assert chained(990) < 1 and chained(991) == 7


def test_a_real_start_is_where_it_is():
    falling = js.one_minus_sqrt(0.0, 3.7, 65537).cycle(mult=1.5, decay=0.9, cycles=7)
    # The fourth cycle starts at 65537 * (1.5**3 - 1) / 0.5 = 311300.75.
    right = 3.7 * 0.9**3 * math.sqrt(0.25 / (65537 * 1.5**3))
    exact(falling(311_301), right)
    # And 7 * (2.25**4 - 1) / 1.25 = 137.921875: the first step of the fifth is 138.
    line = js.linear(0.0, 1.0, 7).cycle(mult=2.25)
    exact(line(138), (138 - 137.921875) / (7 * 2.25**4), 4)


@pytest.mark.parametrize("mult", [1.1, 1.3, 2.1, 1.7])
def test_a_start_that_is_whole_is_not_late(mult):
    first = 10_000
    for n in range(1, 5):
        start = round(first * (mult**n - 1) / (mult - 1))
        schedule = js.linear(0.0, 1.0, first).cycle(mult=mult)
        assert schedule(start) < 1e-3 < schedule(start - 1), (mult, n)


@pytest.mark.parametrize("mult", [1.001, 1.0001, 1.01])
def test_a_mult_near_one_keeps_its_digits(mult):
    for n in (100, 1000):
        start = 1000 * math.expm1(n * math.log1p(mult - 1)) / (mult - 1)
        if start < 2**31:
            value = js.linear(0.0, 1.0, 1000).cycle(mult=mult)(round(start) + 100)
            right = (round(start) + 100 - start) / (1000 * mult**n)
            assert value == pytest.approx(right, abs=2e-6 * start / (1000 * mult**n) + 1e-6)


LINES = [
    lambda a, b, n: js.linear(a, b, n),
    lambda a, b, n: js.piecewise_linear([a, b], [0, n]),
    lambda a, b, n: js.linear(b, a, n).shift(0).take(n) * -1.0 + (a + b),
    lambda a, b, n: js.linear(a, b, n).cycle(mult=2),
]


@pytest.mark.parametrize("make", LINES)
def test_a_line_between_whole_numbers_is_whole_where_it_should_be(make):
    missed, t = 0, np.arange(200)
    for n in range(1, 200):
        for a, b in ((1, n + 1), (0, 2 * n), (5, 5 + 3 * n), (7 * n, 0)):
            whole = ((b - a) * t % n == 0) & (t < n)
            values = np.asarray(make(float(a), float(b), n)(t))
            missed += np.sum(values[whole] != (a + (b - a) * t // n)[whole])
    assert missed == 0


def test_a_line_that_is_cut_off_to_an_integer():
    assert int(js.linear(1.0, 24.0, 23)(7)) == 8
    assert int(js.piecewise_linear([1.0, 24.0], [0, 23])(7)) == 8
    assert jax.jit(js.linear(1.0, 24.0, 23))(7) == 8
    slope = jax.grad(lambda a: js.linear(a, 24.0, 23)(7))(1.0)
    assert slope == pytest.approx(16 / 23)


def test_a_line_is_whole_nowhere_else():
    assert js.linear(0.0, 1.0, 10**6)(1) == pytest.approx(1e-6)
    assert js.linear(0.0, 1.0, 10).faster(0.001)(40) == pytest.approx(0.004)
    assert js.linear(0.5, 1.5, 2)(1) == 1.0
    assert js.piecewise_linear([0.0, 1.0], [0.0, 2.5])(1) == pytest.approx(0.4)


PAIRS = [
    js.minimum(js.linear(0.0, 1.0, 10), js.linear(5.0, 0.0, 20)),
    js.maximum(js.linear(0.0, 1.0, 10), js.linear(5.0, 0.0, 20)),
    js.minimum(js.linear(0.0, 1.0, 10), 0.5),
    js.minimum(
        js.maximum(WAVE, js.cosine(0.3, 0.1, 9)), js.maximum(js.cosine(0.4, 0.2, 7), WAVE * 2)
    ),
    js.select(1, [js.minimum(WAVE, WAVE * 0.5), js.minimum(0.1, WAVE)]),
]


@pytest.mark.parametrize("schedule", PAIRS, ids=repr)
def test_two_curves_of_one_class_keep_their_own_numbers(schedule):
    steps = np.arange(12)
    tx = js.scale_by_learning_rate(js.tunable(schedule))
    state, rates = tx.init({}), []
    for _ in steps:
        _, state = tx.update({}, state)
        rates.append(js.hyperparams(state)["learning_rate"])
    np.testing.assert_array_equal(rates, schedule(steps))
    numbers, rebuild = js.trainable(schedule)
    floats = sum(
        jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in jax.tree.leaves(schedule)
    )
    assert len(numbers) == floats
    np.testing.assert_array_equal(rebuild(numbers)(steps), schedule(steps))
