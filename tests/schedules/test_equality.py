"""Schedules and rules are equal, and hash alike, when they are the same to the last bit."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import testing
from jaxsched._core._node import same_leaf
from jaxsched._schedules._combined import mark_rate


@dataclasses.dataclass(frozen=True)
class Config:
    rate: object
    steps: int = 3


def made():
    return {
        "chain": js.linear(0.0, 0.1, 10) >> js.cosine(0.1, 0.0, 90),
        "cycle": js.cosine(0.1, 0.0, 90).cycle(mult=1.5, decay=0.9),
        "knots": js.piecewise_linear([0.0, 1.0], [0, 7.5]) * 0.5,
        "array": js.constant(jnp.float32(0.1)) + 1.0,
        "table": js.table(np.linspace(0, 1, 9)),
        "rule": js.reduce_on_plateau(patience=3),
        "product": (js.constant(0.1) * js.greedy()).clip(0.01),
        "until": js.until(js.constant(1.0), js.linear(1.0, 0.0, 9)),
    }


@pytest.mark.parametrize("name", made())
def test_the_same_is_equal_and_hashes_alike(name):
    a, b = made()[name], made()[name]
    assert a is not b and a == b and hash(a) == hash(b) and len({a, b}) == 1
    testing.assert_same(a, b)
    for again in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert again == a and hash(again) == hash(a)
    assert all((a == other) == (key == name) for key, other in made().items())
    assert a != 3 and a != "text" and a != None  # noqa: E711


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (js.linear(0.0, 1.0, 9), js.linear(-0.0, 1.0, 9)),
        (js.linear(0.0, 1.0, 9), js.linear(0.0, 1.0, 10)),
        (js.linear(0.0, 1.0, 9), js.cosine(0.0, 1.0, 9)),
        (js.linear(0.1, 1.0, 9), js.linear(np.nextafter(0.1, 1), 1.0, 9)),
        (js.constant(0.1), js.constant(jnp.float32(0.1))),
        (js.constant(jnp.float32(0.1)), js.constant(jnp.float32(0.2))),
        (js.table([1.0, 2.0]), js.table([1.0, 3.0])),
        (js.constant(0.1), js.constant(0.1, 9)),
        (js.greedy(), js.greedy(mode="max")),
        (js.reduce_on_plateau(), js.reduce_on_plateau(factor=0.2)),
        (js.linear(0.0, 1.0, 9) >> js.constant(1.0), js.linear(0.0, 1.0, 9) + js.constant(1.0)),
    ],
)
def test_what_differs_in_a_bit_is_not_equal(a, b):
    assert a != b and b != a


def test_a_frozen_config_is_traced_once():
    traces = []

    def step(config, x):
        traces.append(None)
        rate = config.rate
        return x * (rate(3) if isinstance(rate, js.Schedule) else rate(rate.init(), step=3))

    jitted = jax.jit(step, static_argnums=0)
    for _ in range(3):
        for rate in made().values():
            jitted(Config(rate), 1.0)
    assert len(traces) == len(made())
    jitted(Config(js.constant(0.25)), 1.0)
    assert len(traces) == len(made()) + 1


def test_with_a_tracer_inside_a_schedule_is_equal_to_itself_alone():
    @jax.jit
    def compared(x):
        a, b = js.constant(x), js.constant(x)
        assert a == a and a != b and hash(a) == hash(a)
        return a(0)

    compared(1.0)


def test_an_array_that_is_gone_is_compared_by_identity():
    gone = jnp.float32(0.1)
    a, b, other = js.constant(gone), js.constant(gone), js.constant(jnp.float32(0.1))
    assert a == other
    gone.delete()
    assert a == b and a != other and hash(a) == hash(other)


def test_functions_are_compared_by_identity():
    f, g = (lambda t: jnp.sin(t.astype(float)) for _ in range(2))
    assert js.from_function(f) == js.from_function(f) != js.from_function(g)
    react = lambda state, loss: state * 0.5
    assert js.feedback(react, 1.0) == js.feedback(react, 1.0)


def test_a_hash_is_kept_and_never_pickled():
    schedule = made()["chain"]
    hash(schedule)
    schedule(3)
    assert {"_hash", "_resident"} <= set(vars(schedule))
    assert not {"_hash", "_resident"} & set(vars(pickle.loads(pickle.dumps(schedule))))
    assert not {"_hash", "_resident"} & set(schedule.__getstate__())


def test_a_new_number_is_another_hash():
    schedule = made()["chain"]
    hash(schedule)
    other = jax.tree.map(lambda x: x * 2, schedule)
    assert other != schedule and hash(other) != hash(schedule)
    assert jax.tree.map(lambda x: x, schedule) == schedule


def test_numbers_of_numpy_are_compared_to_the_last_bit():
    zero, minus, nan = map(np.float32, (0.0, -0.0, np.nan))
    assert same_leaf(zero, np.float32(0.0)) and not same_leaf(zero, minus)
    assert same_leaf(nan, np.float32(np.nan)) and not same_leaf(zero, 0.0)


def test_weak_types_and_random_keys():
    weak = jnp.asarray(2.0)
    assert weak.weak_type and not same_leaf(weak, jnp.float32(2.0))
    assert same_leaf(weak, jnp.asarray(2.0))

    def drawn(key, t):
        return jax.random.uniform(jax.random.fold_in(key, t))

    def made(seed):
        return js.from_function(jax.tree_util.Partial(drawn, jax.random.key(seed)))

    assert made(0) == made(0) != made(1)


def test_a_module_that_is_a_dataclass_is_a_function():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Net:
        w: jax.Array

        def __call__(self, t):
            return (self.w * t.astype(float)).sum()

    assert js.from_function(Net(jnp.ones(3)))(2) == 6.0


def test_a_marked_rate_is_not_the_rate_without_its_mark():
    plain, marked = js.constant(0.1), js.constant(0.1)
    mark_rate(marked, 0.1, 0.01)
    assert plain != marked and marked == copy.deepcopy(marked)
