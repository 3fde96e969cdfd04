"""A schedule learnt by gradient, and the scan that makes the gradient fit into memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._search import _learn
from jaxsched._search._programs import as_tree, program


def step(x, t):
    return jnp.sin(x) + 0.1 * t, (x, {"t": t})


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9, 10, 17, 100])
def test_checkpointed_scan_is_scan(n):
    xs = jnp.linspace(0.0, 1.0, n)
    for ours, theirs in zip(
        jax.tree.leaves(js.checkpointed_scan(step, jnp.float32(0.3), xs)),
        jax.tree.leaves(jax.lax.scan(step, jnp.float32(0.3), xs)),
        strict=True,
    ):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    slopes = [
        jax.grad(lambda x, scan=scan: scan(step, x, xs)[0])(jnp.float32(0.3))
        for scan in (js.checkpointed_scan, jax.lax.scan)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-5)


def test_checkpointed_scan_without_xs():
    last, ys = js.checkpointed_scan(lambda x, _: (x * 2, None), jnp.float32(1.0), length=7)
    assert last == 128 and ys is None
    with pytest.raises(ValueError, match=r"checkpointed_scan\(length=...\)"):
        js.checkpointed_scan(step, 0.0)


def test_checkpointed_scan_of_unequal_and_of_odd_arrays():
    for xs, length in (((np.ones(9), np.ones(12)), None), (np.ones(9), 4), (1.0, None)):
        with pytest.raises(ValueError, match="the same number of steps"):
            js.checkpointed_scan(step, 0.0, xs, length)
    keys, nothing = jax.random.split(jax.random.key(0), 7), jnp.ones((7, 0))
    last, (drawn, empty) = js.checkpointed_scan(lambda c, x: (c + 1, x), 0, (keys, nothing))
    assert last == 7 and (drawn == keys).all() and empty.shape == (7, 0)


def test_its_gradient_keeps_few_states():
    def needed(scan):
        def last(x):
            return scan(lambda x, _: (jnp.sin(x), None), x, length=2500)[0].sum()

        compiled = jax.jit(jax.grad(last)).lower(jnp.ones(1000)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # 2 * 50 states in place of 2500.
    assert needed(js.checkpointed_scan) * 15 < needed(jax.lax.scan)


def parabola(schedule, key):
    def step(x, t):
        return x - schedule(t) * 2 * x, None

    x, _ = js.checkpointed_scan(step, 1 + jax.random.uniform(key), jnp.arange(5))
    return x**2


def test_one_update_is_the_clipped_gradient():
    schedule = js.piecewise_linear([0.01, 0.2], [0, 4])
    numbers, rebuild = js.trainable(schedule)
    place = "PiecewiseLinear.values"
    slope_of = jax.jit(jax.grad(lambda x, key: parabola(rebuild({place: jnp.exp(x)}), key)))
    slopes = []
    for key in jax.random.split(jax.random.split(jax.random.key(7), 1)[0], 3):
        slope = slope_of(jnp.log(numbers[place]), key)
        slopes.append(slope / max(1, np.linalg.norm(slope)))
    wanted = numbers[place] * np.exp(-0.5 * np.mean(slopes, axis=0))
    learned = js.learn_schedule(
        parabola, schedule, updates=1, key=7, seeds=3, optimizer=optax.sgd(0.5)
    )
    np.testing.assert_allclose(js.trainable(learned.schedule)[0][place], wanted, rtol=1e-5)
    assert learned.scores.shape == (1,)


def test_only_positive_floats_move_and_the_text_is_read_back():
    begin = js.linear(0.01, 0.0, 5) + js.constant(-0.001)
    learned = js.learn_schedule(parabola, begin, updates=20).schedule
    assert learned.operands[0].init_value > 0.05
    assert learned.operands[0].end_value == 0.0 and learned.operands[0].steps == 5
    assert learned.operands[1].value == -0.001
    steps = np.arange(6)
    assert (js.parse(str(learned))(steps) == learned(steps)).all()


def test_what_does_not_move_is_the_same():
    begin = js.piecewise_linear([1e-12, 0.1, 1e3], [1, 2, 3])
    learned = js.learn_schedule(lambda s, key: 1.0, begin, updates=2).schedule
    assert (learned.values == np.float32([1e-12, 0.1, 1e3])).all()


def test_what_grows_without_end_stays_finite():
    learned = js.learn_schedule(lambda s, key: -jnp.log(s(0)), js.constant(0.01), updates=120)
    assert 3e38 < learned.schedule.value < np.inf


def test_a_run_that_diverges_is_left_out():
    def train(schedule, key):
        score = parabola(schedule, key)
        return jnp.where(jax.random.bernoulli(key), jnp.nan, score)

    learned = js.learn_schedule(train, js.constant(0.01), updates=30, seeds=4)
    assert 0.05 < learned.schedule.value < 1.0


def test_new_numbers_compile_nothing():
    run = partial(js.learn_schedule, parabola, updates=2)
    run(js.constant(0.01))
    programs = program(_learn._learn, as_tree(parabola), "seeds", "optimizer")
    before = programs._cache_size()
    run(js.constant(0.3), key=5)
    assert before > 0 and programs._cache_size() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": js.constant(0.0)}, r"positive float.*constant\(0.0\)"),
        ({"schedule": 0.1}, r"constant\(0.1\)"),
        ({"schedule": js.constant(0.1) * js.greedy()}, "learn_schedule.*stateful"),
        ({"optimizer": 0.1}, "optimizer=0.1"),
        ({"key": "a"}, r"learn_schedule\(key="),
        ({"updates": 0}, "updates=0"),
        ({"seeds": 0}, "seeds=0"),
        ({"train": lambda s: 0.0}, r"\(schedule, key\)"),
        ({"train": lambda s, key: (0.0, 1)}, "return a score"),
        ({"train": 3}, "function"),
    ],
)
def test_wrong_calls(change, said):
    given = {"train": parabola, "schedule": js.constant(0.1), "updates": 2}
    with pytest.raises(ValueError, match=said):
        js.learn_schedule(**given | change)
