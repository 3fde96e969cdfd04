"""Schedules of a user's own: a class with a formula is held to what holds of ours."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import testing
from jaxsched._show import _names


class Logarithmic(js.Curve):
    """init_value + (end_value - init_value) * log(1 + t) / log(1 + steps), DeepSpeed's warmup."""

    def weights(self, done, left):
        t, whole = done * self.length, jnp.log1p(self.length)
        return jnp.log1p(left * self.length / (1 + t)) / whole, jnp.log1p(t) / whole


class Pchip(js.Schedule):
    """A monotone cubic through values at knots (Fritsch and Butland, 1984)."""

    values: jax.Array = js.list_field()
    knots: jax.Array = js.list_field()

    def at(self, t):
        x, y = jnp.asarray(self.knots, float), jnp.asarray(self.values, float)
        h, d = jnp.diff(x), jnp.diff(y) / jnp.diff(x)
        rises = d[1:] * d[:-1] > 0
        mean = 3 * (h[1:] + h[:-1]) / jnp.where(
            rises, (2 * h[1:] + h[:-1]) / jnp.where(rises, d[:-1], 1)
            + (h[1:] + 2 * h[:-1]) / jnp.where(rises, d[1:], 1), 1)  # fmt: skip
        m = jnp.concatenate([d[:1] * 0, jnp.where(rises, mean, 0), d[:1] * 0])
        i = jnp.searchsorted(x[1:-1], t.astype(x.dtype), side="right")
        s = jnp.clip((t.astype(x.dtype) - x[i]) / h[i], 0, 1)
        ends = y[i] * (1 - s) ** 2 * (1 + 2 * s) + y[i + 1] * s**2 * (3 - 2 * s)
        return ends + h[i] * s * (1 - s) * (m[i] * (1 - s) - m[i + 1] * s)


class Breathing(js.Schedule):
    """middle + height * sin(2 * pi * t / period), without an end."""

    middle: float
    height: float = js.number_field(default=0.1)
    period: int = js.length_field(default=100)

    def at(self, t):
        period = jnp.maximum(jnp.asarray(self.period), 1).astype(t.dtype)
        turn = (t % period).astype(float) / period.astype(float)
        return jnp.asarray(self.middle, float) + self.height * jnp.sin(2 * jnp.pi * turn)


logarithmic, pchip, breathing = map(js.factory, (Logarithmic, Pchip, Breathing))
OWN = {
    made.__name__: _names._adopted.pop(made.__name__) for made in (logarithmic, pchip, breathing)
}


@pytest.fixture(autouse=True)
def known_here_alone(monkeypatch):
    monkeypatch.setattr(_names, "_adopted", dict(OWN))
    monkeypatch.setattr(_names, "_namespaces", [vars(js), _names._adopted])


FOREIGN = {
    "logarithmic": logarithmic(0.0, 0.1, 100),
    "pchip": pchip([0.0, 0.1, 0.02, 0.0], [0, 10, 50, 100]),
    "breathing": breathing(0.3, period=12),
}
each = pytest.mark.parametrize("schedule", FOREIGN.values(), ids=FOREIGN)


@each
def test_it_is_held_to_the_laws(schedule):
    testing.assert_schedule_laws(schedule, steps=(10, 49, 50, 99))
    testing.assert_schedule_laws((schedule.take(100) >> js.linear(1.0, 0.0, 7)) * 0.5)


def test_it_is_its_formula():
    t = np.arange(101)
    np.testing.assert_allclose(
        FOREIGN["logarithmic"](t), 0.1 * np.log1p(t) / np.log1p(100), rtol=1e-6
    )
    assert FOREIGN["logarithmic"].steps == 100 and FOREIGN["breathing"].steps is None
    assert float(FOREIGN["logarithmic"](100)) == np.float32(0.1)
    values = np.asarray(FOREIGN["pchip"](t))
    assert values[[0, 10, 50, 100]].tolist() == np.float32([0.0, 0.1, 0.02, 0.0]).tolist()
    assert np.all(np.diff(values)[:10] > 0) and np.all(np.diff(values)[10:] < 0)
    np.testing.assert_allclose(
        FOREIGN["breathing"](t), 0.3 + 0.1 * np.sin(2 * np.pi * (t % 12) / 12), rtol=1e-6
    )


@each
def test_it_is_written_read_pickled_and_drawn(schedule):
    testing.assert_same(js.parse(repr(schedule)), schedule)
    chain = (schedule.take(20) >> js.linear(1.0, 0.0, 7)).cycle(decay=0.5) * js.reduce_on_plateau()
    testing.assert_same(js.parse(repr(chain)), chain)
    testing.assert_same(pickle.loads(pickle.dumps(schedule)), schedule)
    assert repr(js.describe(schedule)).startswith(repr(schedule))
    assert js.plot(schedule.take(40)) is not None
    assert "<svg" in schedule._repr_html_()


@each
def test_it_cycles_and_stretches(schedule):
    part = schedule.take(50)
    cycled, steps = part.cycle(decay=0.5), np.arange(50)
    np.testing.assert_allclose(cycled(steps + 50), 0.5 * part(steps), rtol=1e-6)
    testing.assert_schedule_laws(cycled)
    growing = logarithmic(0.0, 0.1, 10).cycle(mult=2)
    np.testing.assert_allclose(
        growing(10 + np.arange(20)), logarithmic(0.0, 0.1, 20)(np.arange(20))
    )
    testing.assert_schedule_laws(growing)


@each
def test_it_is_swept_learnt_and_tuned(schedule):
    other = jax.tree.map(lambda x: x * 2 if isinstance(x, float) else x, schedule)
    stacked = js.stack([schedule, other])
    values = jax.vmap(lambda s: s(jnp.arange(60)))(stacked)
    for one, row in zip((schedule, other), values, strict=True):
        np.testing.assert_allclose(row, one(jnp.arange(60)), rtol=1e-6, atol=1e-9)
    floats, rebuild = js.trainable(schedule)
    assert floats and not any("period" in name or "steps" in name for name in floats)
    testing.assert_same(
        jax.tree.map(jnp.asarray, rebuild(floats)), jax.tree.map(jnp.asarray, schedule)
    )
    tx = js.scale_by_learning_rate(js.tunable(schedule))
    state = js.retune(tx.init({}), learning_rate=other)
    _, state = tx.update({}, js.set_step(state, 7))
    np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], other(7), rtol=1e-6)


def test_its_function_is_a_function():
    assert logarithmic.__name__ == "logarithmic" and logarithmic.__module__ == __name__
    assert logarithmic.__doc__ == Logarithmic.__doc__
    assert [*inspect.signature(breathing).parameters] == ["middle", "height", "period"]
    testing.assert_same(breathing(0.3), breathing(0.3, height=0.1, period=100))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: logarithmic(0.0, float("nan"), 3), r"`logarithmic\(end_value=\.\.\.\)`.*finite"),
        (lambda: logarithmic(0.0, 0.1, -3), r"`logarithmic\(steps=\.\.\.\)`.*negative.*steps=-3"),
        (lambda: breathing(0.3, period=1.5), r"`breathing\(period=\.\.\.\)`.*integer"),
        (lambda: pchip([0.0, float("inf")], [0, 1]), r"`pchip\(values=\.\.\.\)`.*finite"),
        (lambda: js.factory(int), r"`factory\(cls=\.\.\.\)`.*subclass of `Schedule`"),
        (lambda: js.parse("logarithmi(0.0, 0.1, 3)"), "Did you mean.*logarithmic"),
    ],
)
def test_wrong_calls(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_wrong_keyword_is_explained():
    with pytest.raises(TypeError, match=r"It is `breathing\(middle, \*, height=0.1, period=100\)`"):
        breathing(0.3, hight=0.2)


def test_a_class_defined_again_replaces_the_first():
    def define(value):
        class Fixed(js.Schedule):
            """One value."""

            shift_by: float

            def at(self, t):
                return jnp.full_like(t, value, dtype=float) + self.shift_by

        return js.factory(Fixed)

    define(1.0)
    define(2.0)
    assert float(js.parse("fixed(0.0)")(3)) == 2.0


def test_a_name_of_ours_is_refused():
    class Cosine(js.Schedule):
        value: float

    with pytest.raises(ValueError, match=r"`jaxsched.cosine` exists"):
        js.factory(Cosine)


def test_it_is_traced_once_for_any_numbers():
    traces = []

    @jax.jit
    def called(schedule):
        traces.append(None)
        return schedule(3)

    for peak in (0.1, 0.2, 0.3):
        called(logarithmic(0.0, peak, 100))
    assert len(traces) == 1
