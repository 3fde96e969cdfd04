"""Powers and quotients: every value is finite, and what cannot be said is refused where it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

LARGEST = np.finfo(np.float32).max
LINE = js.linear(1.0, 2.0, 4)
RATE = js.linear(0.1, 0.01, 10) * js.reduce_on_plateau(patience=1, factor=0.5)


def at(schedule, step=0):
    return float(schedule(step))


def test_values_that_have_no_formula_have_a_stated_one():
    zero, below = js.constant(0.0), js.constant(-2.0)
    assert at(zero**0.0) == 1.0
    assert at(zero**0.5) == 0.0 and at(zero**-1.0) == LARGEST
    assert at(below**0.5) == 0.0 and at(below**-0.5) == LARGEST
    assert at(below**3) == -8.0 and at(below**-2) == 0.25
    assert at(js.constant(1e30) ** 2) == LARGEST and at(js.constant(-1e30) ** 3) == -LARGEST
    assert at(10.0 ** js.constant(99.0)) > 0.99 * LARGEST and at(0.1 ** js.constant(99.0)) == 0.0
    assert at(1e30 / js.constant(1e-30)) == LARGEST
    divided = jax.jit(lambda a, b: (js.constant(a) / js.constant(b))(0))
    assert divided(1.0, 0.0) == LARGEST and divided(-1.0, 0.0) == -LARGEST
    assert divided(0.0, 0.0) == 0.0


@pytest.mark.parametrize("p", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("a", [-2.0, 0.0, 1e-38, 1e30])
def test_slopes_are_finite(a, p):
    slopes = jax.grad(lambda a, p: (js.constant(a) ** js.constant(p))(0), (0, 1))(a, p)
    assert np.all(np.isfinite(slopes))
    slopes = jax.grad(lambda a, b: (js.constant(a) / js.constant(b))(0), (0, 1))(1.0, a)
    assert np.all(np.isfinite(slopes))
    second = jax.grad(jax.grad(lambda a: (js.constant(a) ** p)(0)))(a)
    assert np.isfinite(second)


def test_the_slope_of_a_power_is_right_where_there_is_one():
    slope = jax.grad(lambda a, p: (js.constant(a) ** p)(0), (0, 1))
    np.testing.assert_allclose(slope(3.0, 2.5), (2.5 * 3**1.5, 3**2.5 * np.log(3)), rtol=1e-6)
    assert slope(0.0, 1.0)[0] == 1.0 and slope(-2.0, 2.0)[0] == -4.0


REFUSED = {
    "ends at zero, at step 4": lambda: 1 / js.linear(1.0, 0.0, 4),
    "is zero at step 0": lambda: LINE / js.linear(0.0, 1.0, 4),
    "is zero at step 2": lambda: 1 / js.linear(1.0, -1.0, 4),
    "is zero at step 100000": lambda: 1 / (js.constant(1.0, 100_000) >> js.constant(0.0)),
    r"Keep it away from zero: `\(...\).clip\(low\)`": lambda: 1 / js.cosine(1.0, 0.0, 9),
    "ends at zero, at step 10": lambda: 1e-3 / (js.linear(0.1, 0.0, 10) * js.reduce_on_plateau()),
    "`base` in `number \\*\\* schedule` must be positive, got base=-2": lambda: (-2.0) ** LINE,
    "`base` in `number \\*\\* stateful` must be positive": lambda: 0.0**RATE,
    "`exponent` in `stateful \\*\\* number` must be a finite number": lambda: RATE**LINE,
    "`exponent` in `schedule \\*\\* number` must be a finite number": lambda: LINE**np.inf,
    "`divisor` in `schedule / divisor` must not be zero": lambda: LINE / 0,
    "`divisor` in `stateful / divisor` must not be zero": lambda: RATE / 0,
    "`number` in `number / stateful` must be a finite": lambda: np.nan / RATE,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_computed_is_refused_where_it_is_written(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
    for wrong in ("1", None, float):
        with pytest.raises((TypeError, ValueError)):
            LINE**wrong
        with pytest.raises((TypeError, ValueError)):
            wrong / LINE


def test_a_floor_makes_a_divisor():
    assert at(1 / js.linear(1.0, 0.0, 4).clip(0.5), 4) == 2.0
    assert jax.jit(lambda end: (1 / js.linear(1.0, end, 4))(4))(0.0) == LARGEST  # not known here


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10 ** -0.5 * constant(1.0)", 10**-0.5),
        ("-constant(3.0) ** 2", -9.0),
        ("2 ** 3 ** 2 * constant(1.0)", 512.0),
        ("constant(2.0) ** 3 ** 2", 512.0),
        ("2 ** -constant(1.0) ** 2", 0.5),
        ("-2 ** 2 * constant(1.0)", -4.0),
        ("(-2) ** 2 * constant(1.0)", 4.0),
        ("8 / constant(2.0) / constant(2.0)", 2.0),
        ("8 / (constant(2.0) / constant(2.0))", 8.0),
        ("8 / constant(2.0) ** 2", 2.0),
        ("3 * constant(2.0) / constant(4.0) * constant(2.0)", 3.0),
        ("constant(2.0).clip(high=1.5) ** 2", 2.25),
    ],
)
def test_operators_bind_as_in_python(text, value):
    assert at(js.parse(text)) == pytest.approx(value) == eval(text, vars(js).copy())(0)
    testing.assert_same(js.parse(repr(js.parse(text))), js.parse(text))


@pytest.mark.parametrize(
    "made",
    [
        LINE**2,
        (LINE**2) ** 3,
        2 ** (LINE**2),
        (2**LINE) ** 2,
        (-LINE) ** 2,
        -(LINE**2),
        (LINE >> LINE) ** -0.5,
        1 / LINE,
        1 / (LINE * LINE),
        LINE * (LINE / LINE),
        (LINE / LINE) * LINE,
        (LINE / LINE) / LINE,
        LINE / (LINE / LINE),
        (LINE + 1) / (LINE - 3),
        0.5 ** (512 / js.linear(1.0, 9.0, 8)),
        (1 / LINE).cycle(),
        (LINE**2).stretch(8),
        RATE**2,
        2**RATE,
        (1e-3 / RATE) ** 2,
        1e-3 / RATE * LINE,
        LINE / RATE,
        RATE / RATE,
        RATE / LINE,
        (RATE**2).clip(0.1) * 0.5**RATE,
    ],
    ids=repr,
)
def test_each_comes_back_from_its_text(made):
    testing.assert_same(js.parse(repr(made)), made)
    testing.assert_same(eval(repr(made), vars(js).copy()), made)
    assert made == js.parse(repr(made)) and hash(made) == hash(js.parse(repr(made)))


def test_how_long_and_how_they_are_stretched():
    power, quotient = LINE**2, js.constant(1.0) / LINE
    assert power.steps == 4 and quotient.steps is None and (2**LINE).steps == 4
    testing.assert_same(power.stretch(8), js.linear(1.0, 2.0, 8) ** 2)
    testing.assert_same((2**LINE).stretch(8), 2 ** js.linear(1.0, 2.0, 8))
    with pytest.raises(ValueError, match="cannot be stretched"):
        (LINE / LINE).stretch(8)
    ramp = (js.constant(2.0, 3) >> LINE) ** 2
    assert [(x.step, x.before, x.after) for x in js.describe(ramp).jumps] == [(3, 4.0, 1.0)]


def test_a_weight_decay_follows_a_rate_after_its_plateau():
    tx = js.inject(optax.adamw, learning_rate=RATE, weight_decay=1e-3 / RATE)
    state = tx.init(jnp.ones(2))
    for step in range(6):
        with jax.numpy_dtype_promotion("standard"):  # Adam itself mixes its types
            _, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=1.0)
        now = js.hyperparams(state)
        factor = 0.5**step
        assert now["learning_rate"] == pytest.approx((0.1 - 0.009 * step) * factor, rel=1e-6)
        assert now["learning_rate"] * now["weight_decay"] == pytest.approx(1e-3, rel=1e-6)


def test_a_stateful_power_is_a_factor_and_an_exponential_is_none():
    with pytest.raises(ValueError, match="learning rate"):
        js.scale_by_learning_rate(js.reduce_on_plateau() ** 2)
    tx = js.wrap(optax.sgd(1.0), js.reduce_on_plateau(patience=1, factor=0.5) ** 2)
    state = tx.init(jnp.ones(1))
    for _ in range(2):
        updates, state = tx.update(jnp.ones(1), state, value=1.0)
    assert updates == -0.25


def test_new_numbers_do_not_compile_again():
    traces = []

    @jax.jit
    def call(schedule, step):
        traces.append(None)
        return schedule(step)

    for x in (0.1, 0.2, 0.3):
        line = js.linear(x, 1.0, 9)
        call((line**x) / line + x**line, 3)
        call((js.linear(x, 1.0, 5) ** 0.5) / line + 0.5**line, 3)
    assert len(traces) == 1


def test_a_population_of_powers():
    exponents = jnp.asarray([-1.0, 0.5, 2.0])
    values = jax.vmap(lambda p: (LINE**p / LINE)(2))(exponents)
    np.testing.assert_allclose(values, 1.5 ** np.asarray([-2.0, -0.5, 1.0]), rtol=1e-6)
    stacked = js.stack([1 / js.constant(2.0), 1 / js.constant(4.0)])
    np.testing.assert_allclose(jax.vmap(lambda s: s(0))(stacked), [0.5, 0.25])
    rates = js.stack([js.constant(1.0) / RATE, js.constant(2.0) / RATE])
    tx = jax.vmap(lambda rate: js.scale_by_learning_rate(rate).init(jnp.ones(1)))(rates)
    np.testing.assert_allclose(js.hyperparams(tx)["learning_rate"], [10.0, 20.0], rtol=1e-6)
