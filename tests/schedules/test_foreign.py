"""Schedules and a rule of a user's own: a class is held to what holds of ours."""

import inspect
import pickle
from typing import ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import testing
from jaxsched._core import _factory
from jaxsched._text import _names


class Loglike(js.Curve):
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


class PidState(NamedTuple):
    """What a PID controller remembers."""

    log_scale: float = 0.0
    error: float = 0.0
    integral: float = 0.0


class Pid(js.Listener):
    """log scale += p * e + i * sum(e) + d * (e - e before), where e = log(target / metric)."""

    target: float
    p: float = js.number_field(default=0.1)
    i: float = js.number_field(default=0.0)
    d: float = js.number_field(default=0.0)

    def start(self, params):
        return PidState()

    def react(self, state, seen, t):
        e = jnp.clip(jnp.log(self.target / jnp.maximum(seen.value, 1e-9)), -1, 1)
        total = jnp.clip(state.integral + e, -10, 10)
        by = self.p * e + self.i * total + self.d * (e - state.error)
        return PidState(jnp.clip(state.log_scale + by, -5, 5), e, total)

    def value(self, state, t):
        return jnp.exp(state.log_scale)


made_here = loglike, pchip, breathing, pid = [
    js.factory(cls) for cls in (Loglike, Pchip, Breathing, Pid)
]
OWN = {made.__name__: _factory.made.pop(made.__name__) for made in made_here}


@pytest.fixture(autouse=True)
def known_here_alone(monkeypatch):
    monkeypatch.setattr(_factory, "made", dict(OWN))
    monkeypatch.setattr(_names, "made", _factory.made)


FOREIGN = {
    "loglike": loglike(0.0, 0.1, 100),
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
    np.testing.assert_allclose(FOREIGN["loglike"](t), 0.1 * np.log1p(t) / np.log1p(100), rtol=1e-6)
    assert FOREIGN["loglike"].steps == 100 and FOREIGN["breathing"].steps is None
    assert float(FOREIGN["loglike"](100)) == np.float32(0.1)
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


def test_a_curve_grows_in_its_cycles():
    growing = loglike(0.0, 0.1, 10).cycle(mult=2)
    np.testing.assert_allclose(growing(10 + np.arange(20)), loglike(0.0, 0.1, 20)(np.arange(20)))
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
    assert loglike.__name__ == "loglike" and loglike.__module__ == __name__
    assert loglike.__doc__ == Loglike.__doc__
    assert [*inspect.signature(breathing).parameters] == ["middle", "height", "period"]
    testing.assert_same(breathing(0.3), breathing(0.3, height=0.1, period=100))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: loglike(0.0, float("nan"), 3), r"`loglike\(end_value=\.\.\.\)`.*finite"),
        (lambda: loglike(0.0, 0.1, -3), r"`loglike\(steps=\.\.\.\)`.*negative.*steps=-3"),
        (lambda: breathing(0.3, period=1.5), r"`breathing\(period=\.\.\.\)`.*integer"),
        (lambda: pchip([0.0, float("inf")], [0, 1]), r"`pchip\(values=\.\.\.\)`.*finite"),
        (lambda: js.factory(int), r"`factory\(cls=\.\.\.\)`.*subclass of `Schedule`"),
        (lambda: js.parse("loglik(0.0, 0.1, 3)"), "Did you mean.*loglike"),
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
        called(loglike(0.0, peak, 100))
    assert len(traces) == 1


def defined(**fields):
    """A class with these fields, worth the sum of its numbers, and its function."""
    kinds = dict.fromkeys(fields, float)
    given = {key: x for key, x in fields.items() if x is not ...}

    def at(self, t):
        numbers = [getattr(self, key) for key in fields if isinstance(getattr(self, key), float)]
        return jnp.full_like(t, sum(numbers), dtype=float)

    body = {"__annotations__": kinds, "at": at, "__module__": __name__, **given}
    return js.factory(type("Defined", (js.Schedule,), body))


def test_an_argument_after_one_that_is_left_out_is_written_by_its_name():
    make = defined(a=1.0, b=2.0)
    assert repr(make(1.0, 5.0)) == "defined(b=5.0)" and repr(make(3.0, 5.0)) == "defined(3.0, 5.0)"
    assert js.parse(repr(make(1.0, 5.0))) == make(1.0, 5.0)
    mixed = defined(x=js.number_field(default=0.1), y=...)
    assert repr(mixed(1.0, x=0.5)) == "defined(1.0, x=0.5)"
    assert js.parse(repr(mixed(1.0, x=0.5))) == mixed(1.0, x=0.5)


def test_minus_zero_is_not_the_default():
    make = defined(x=js.number_field(default=0.0))
    assert js.parse(repr(make(x=-0.0))) == make(x=-0.0) != make(x=0.0)


def test_defaults_are_arguments_too():
    make = defined(rate=js.number_field(default=1))
    assert make() == make(rate=1) and [*js.trainable(make())[0]] == ["Defined.rate"]
    with pytest.raises(ValueError, match=r"`defined\(length=\.\.\.\)` must not be negative"):
        defined(length=js.length_field(default=-4))


def test_fields_may_have_the_names_of_our_own_arguments():
    make = defined(least=js.length_field(), remedy=js.length_field(least=2))
    assert repr(make(least=4, remedy=3)) == "defined(least=4, remedy=3)"
    with pytest.raises(ValueError, match=r"`defined\(remedy=\.\.\.\)` must be at least 2"):
        make(least=4, remedy=1)


def test_structure_goes_through_text():
    make = defined(mode=js.choice_field(default=()))
    for mode in ((1, 2), ("a", "b"), "a", True, 1):
        assert js.parse(repr(make(mode=mode))) == make(mode=mode)
    assert make(mode=1) != make(mode=True)
    with pytest.raises(ValueError, match=r"`defined\(mode=\.\.\.\)` must be hashable"):
        make(mode={})


def test_a_schedule_is_no_number():
    with pytest.raises(ValueError, match=r"`defined\(a=\.\.\.\)` must be a finite number"):
        defined(a=...)(js.constant(1.0))


def test_a_class_without_a_function_is_not_taken_for_another():
    class Linear(js.Curve):
        def weights(self, done, left):
            return left**2, 1 - left**2

    assert repr(Linear(1.0, 0.0, 4)) == "<linear(1.0, 0.0, 4)>"
    with pytest.raises(ValueError, match="linear"):
        js.parse(repr(Linear(1.0, 0.0, 4)))


def test_what_would_hide_a_method_is_refused():
    for name in ("clip", "cycle", "at"):
        with pytest.raises(TypeError, match=f"`{name}` of `Hides` hides"):
            type("Hides", (js.Schedule,), {"__annotations__": {name: float}})
    with pytest.raises(TypeError, match="`length` of `Hides` hides"):
        type("Hides", (js.Curve,), {"__annotations__": {"length": float}})
    with pytest.raises(TypeError, match="`steps` of `Hides` hides"):
        type("Hides", (js.Curve,), {"steps": property(lambda self: 3)})


def test_a_value_has_the_shape_of_its_time():
    class Scalar(js.Schedule):
        value: float

        def at(self, t):
            return jnp.asarray(self.value)

    with pytest.raises(ValueError, match=r"`Scalar.at\(t\)` must return a value for each time"):
        Scalar(0.5)(jnp.arange(3))
    assert not Scalar(0.5)(3).weak_type


def test_a_generic_class_and_a_constant_of_the_class_are_no_fields():
    T = TypeVar("T")

    class Base(js.Schedule, Generic[T]):
        steps: ClassVar[int] = 100
        value: float

        def at(self, t):
            return jnp.full_like(t, self.value, dtype=float)

    assert Base[int] and (Base(0.5) >> js.constant(1.0))(100) == 1.0


class TestPid:
    """The laws of rules, which `test_rules.py` has for ours, of one that nobody here knows."""

    rate = 0.1 * pid(1.0, i=0.02, d=0.01)
    metrics = (2.0, None, 3.0, float("nan"), 0.5, 0.2, float("inf"), 1.0)

    def run(self, rate, metrics=metrics, jit=True, state=None, **options):
        tx = js.scale_by_learning_rate(rate)
        state, values = tx.init({"w": jnp.ones(2)}) if state is None else state, []
        update = jax.jit(tx.update) if jit else tx.update
        for metric in metrics:
            extra = {} if metric is None else {options.get("name", "value"): metric}
            _, state = update({"w": jnp.ones(2)}, state, **extra)
            values.append(float(js.hyperparams(state)["learning_rate"]))
        return values, state

    def test_it_is_its_formula(self):
        log_scale = before = total = 0.0
        expected = []
        for metric in self.metrics:
            if metric is not None and np.isfinite(metric):
                e = np.clip(np.log(1.0 / metric), -1, 1)
                total += e
                log_scale += 0.1 * e + 0.02 * total + 0.01 * (e - before)
                before = e
            expected.append(0.1 * np.exp(log_scale))
        values, state = self.run(self.rate)
        np.testing.assert_allclose(values, expected, rtol=1e-6)
        np.testing.assert_allclose(self.run(self.rate, jit=False)[0], values, rtol=1e-6)
        (memory,) = js.factors(state)["learning_rate"]
        assert type(memory) is PidState and memory.error.dtype == jnp.float32
        assert not memory.error.weak_type

    def test_an_update_without_a_metric_changes_nothing(self):
        values, _ = self.run(self.rate, (None, float("nan"), float("-inf")))
        assert set(values) == {float(np.float32(0.1))}

    def test_it_goes_on_after_a_restore(self):
        tx = js.scale_by_learning_rate(self.rate)
        values, state = self.run(self.rate, (2.0, 3.0))
        state = pickle.loads(pickle.dumps(jax.device_get(state)))
        whole, _ = self.run(self.rate, (2.0, 3.0, 0.4, 0.5))
        assert self.run(self.rate, (0.4, 0.5), state=state)[0] == whole[2:]
        testing.assert_same(js.graft(tx.init({"w": jnp.ones(2)}), state), state)
        assert values == whole[:2]

    def test_it_listens_to_any_name(self):
        rate = 0.1 * pid(1.0, i=0.02, d=0.01, metric="entropy")
        assert self.run(rate, name="entropy")[0] == self.run(self.rate)[0]
        state = js.scale_by_learning_rate(rate).init({})
        with pytest.raises(ValueError, match="entropy"):
            js.observe(state, value=1.0)

    def test_it_is_written_read_pickled_and_multiplied(self):
        testing.assert_same(js.parse(repr(self.rate)), self.rate)
        assert repr(pid(2.0)) == "pid(2.0)" and "times pid(2.0), 1 until" in repr(
            js.describe(0.1 * pid(2.0))
        )
        testing.assert_same(pickle.loads(pickle.dumps(self.rate)), self.rate)
        assert hash(pid(2.0)) == hash(pid(2.0)) and pid(2.0) == pid(2.0) != pid(3.0)
        both = (js.linear(0.0, 0.1, 4) >> js.constant(0.1)) * pid(1.0) * js.reduce_on_plateau()
        assert len(js.factors(js.scale_by_learning_rate(both).init({}))["learning_rate"]) == 2
        assert js.plot(both, metrics={"value": np.linspace(2, 1, 40)}) is not None

    def test_it_compiles_without_a_branch_and_is_mapped(self):
        tx = js.scale_by_learning_rate(self.rate)
        state = tx.init({"w": jnp.ones(2)})
        text = jax.jit(tx.update).lower({"w": jnp.ones(2)}, state, value=1.0).compile().as_text()
        assert "conditional" not in text and "custom-call" not in text
        stacked = js.stack([0.1 * pid(1.0), 0.1 * pid(2.0)])

        def trained(rate):
            return self.last(rate)

        np.testing.assert_allclose(
            jax.vmap(trained)(stacked), [self.last(0.1 * pid(1.0)), self.last(0.1 * pid(2.0))]
        )

    @staticmethod
    def last(rate):
        tx = js.scale_by_learning_rate(rate)
        state = tx.init({})
        for metric in (1.5, 3.0):
            _, state = tx.update({}, state, value=metric)
        return js.hyperparams(state)["learning_rate"]

    def test_what_is_wrong_is_told(self):
        with pytest.raises(ValueError, match=r"`pid\(p=\.\.\.\)` must be a finite number"):
            pid(1.0, p="much")
        with pytest.raises(ValueError, match="not be an argument of update"):
            pid(1.0, metric="params")
        with pytest.raises(ValueError, match="can be multiplied and divided"):
            pid(1.0) >> js.constant(1.0)
        with pytest.raises(TypeError, match="Did you mean `target`"):
            pid(targett=1.0)

        class Wrong(Pid):
            """A state that changes its kind."""

            def react(self, state, seen, t):
                return state.error

        tx = js.scale_by_learning_rate(0.1 * Wrong(1.0))
        with pytest.raises(ValueError, match=r"`react` of `<wrong\(1\.0\)>` must return a state"):
            tx.update({}, tx.init({}), value=1.0)
