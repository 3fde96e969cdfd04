"""A number never compiles: programs are counted over a hundred lengths."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._commands._compare import compared
from jaxsched._core._padded import size
from jaxsched._look._notebook import page

LENGTHS = [*range(90, 2090, 20)]  # a hundred, of three powers of two
COMPILED = "/jax/core/compile/backend_compile_duration"


class Programs:
    """How many programs have been compiled."""

    def __init__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event, seconds, **_):
        self.count += event == COMPILED


@functools.cache
def programs():
    return Programs()


def train(schedule, key=None):
    step = lambda x, t: (x - schedule(t) * 2 * x, None)
    return jax.lax.scan(step, 1.0, jnp.arange(10))[0] ** 2


def start(schedule, key):
    return 1.0, 0


def advance(schedule, state, steps):
    step = lambda s, _: ((s[0] - schedule(s[1]) * 2 * s[0], s[1] + 1), None)
    state, _ = jax.lax.scan(step, state, length=steps)
    return state, state[0] ** 2


def loss(x, batch):
    return jnp.sum((x - batch) ** 2)


def fallen(n):
    return {"value": np.linspace(1.0, 0.9, n)}


def ranged(n):
    test = js.lr_range_test(loss, jnp.zeros(3), np.zeros((5, 3)), optax.sgd, steps=n)
    return str(test), test.range if test.ok else None


line = lambda n: js.linear(1.0, 0.0, n)
plateau = lambda n: line(n) * js.reduce_on_plateau(patience=n)
batches = np.zeros((5, 3), np.float32)

# What is done with a length, and how many lengths are tried: of the dear ones fewer.
CASES = {
    "describe": (lambda n: js.describe(line(n)), 100),
    "describe a chain": (
        lambda n: js.describe(js.warmup_cosine(0.1, total_steps=n, warmup_steps=n // 7)),
        100,
    ),
    "describe stairs": (
        lambda n: js.describe(js.step_decay(0.1, factor=0.5, every=n), total_steps=9 * n),
        100,
    ),
    "describe faster": (lambda n: js.describe(line(n).faster(2.5).shift(n).take(5 * n)), 100),
    "describe cycles": (lambda n: js.describe(line(n).cycle(decay=0.5), total_steps=5 * n), 100),
    "describe a rule": (lambda n: js.describe(plateau(n)), 100),
    "describe long": (lambda n: js.describe(line(10_007 * n)), 30),
    "a notebook": (lambda n: page(js.warmup_cosine(0.1, total_steps=n, warmup_steps=n // 7)), 100),
    "simulate": (lambda n: js.simulate(plateau(9), fallen(n)), 100),
    "simulate a schedule": (lambda n: js.simulate(line(n)), 100),
    "simulate a trigger": (
        lambda n: js.simulate(
            js.until(js.constant(1.0), line(n)), total_steps=n, trigger_at=n // 2
        ),
        100,
    ),
    "plot": (lambda n: js.plot([line(n), js.cosine(1.0, 0.0, n)]), 20),
    "plot metrics": (lambda n: js.plot(plateau(9), metrics=fallen(n)), 20),
    "compare": (lambda n: compared({"a": line(n), "b": js.cosine(1.0, 0.0, 2 * n)}), 50),
    "convex_bound": (lambda n: js.convex_bound(line(n), total_steps=n), 100),
    "convex_bound of norms": (
        lambda n: js.convex_bound(line(n), total_steps=n, grad_norms=np.ones(n)),
        100,
    ),
    "convex_bound of a list": (
        lambda n: js.convex_bound(line(n), total_steps=n, grad_norms=[1.0] * n),
        100,
    ),
    "transfer_rate": (
        lambda n: js.transfer_rate(0.1, line(n), line(3 * n), total_steps=n, to_steps=3 * n),
        100,
    ),
    "optimal_schedule": (lambda n: js.optimal_schedule(np.linspace(1.0, 2.0, n)), 100),
    "refined_schedule": (lambda n: js.refined_schedule(np.linspace(1.0, 2.0, n)), 100),
    "table": (lambda n: js.table(np.ones(n)), 100),
    "range test, limits": (
        lambda n: js.lr_range_test(
            loss, jnp.zeros(3), batches, optax.sgd, low=1e-6 * n, high=1.0 * n, smoothing=1 / n
        ),
        100,
    ),
    "range test, steps": (ranged, 30),
    "sweep": (lambda n: js.sweep(train, [line(n), line(n + 1)]), 100),
    "a picture of a sweep": (lambda n: js.sweep(train, [line(n), line(2 * n)]).plot(), 10),
    "successive_halving": (
        lambda n: js.successive_halving(start, advance, [line(n), line(n + 1)], rungs=[2, 4]),
        50,
    ),
    "learn_schedule": (lambda n: js.learn_schedule(train, line(n), updates=2), 30),
    "learn_schedule, updates": (lambda n: js.learn_schedule(train, line(9), updates=n), 10),
    "stack": (lambda n: js.stack([line(n), js.cosine(1.0, 0.0, n)]), 100),
    "grid": (lambda n: js.grid(line, n=[n, n + 1, n * 7]), 100),
    "random_search": (
        lambda n: js.random_search(js.linear, 0, n, init_value=1.0, end_value=0.0, steps=[1, 2]),
        30,
    ),
}


# One length for each power of two that a multiple of a length may lie below.
KNOWN = [90, 150, 300, 600, 950, 1150, 1850, 2090]


@pytest.mark.parametrize("what", CASES)
def test_a_number_never_compiles(what):
    do, many = CASES[what]
    for n in KNOWN:
        do(n)
    before = programs().count
    for n in LENGTHS[1 :: len(LENGTHS) // many]:
        do(n)
    assert programs().count - before <= 2, f"{programs().count - before} programs"


def test_programs_are_counted():
    """Else the tests above would say nothing."""
    before = programs().count
    for n in range(3001, 3011):
        jnp.zeros(n) + 1
    assert programs().count - before >= 10


def test_sizes_are_few():
    sizes = [size(n) for n in range(1, 100_000)]
    assert all(n <= m for n, m in zip(itertools.count(1), sizes))
    assert len(set(sizes)) == 8


@pytest.mark.parametrize("n", [1, 2, 3, 1023, 1024, 1025])
def test_what_is_extended_is_worth_the_same(n):
    steps = np.arange(n)
    expected = np.asarray(line(n)(steps))
    found = js.simulate(line(n), total_steps=n)
    assert found.values.shape == (n,)
    np.testing.assert_array_equal(found.values, expected)
    norms = 1.0 + steps
    bound = js.convex_bound(line(n), total_steps=n, grad_norms=norms)
    s = np.asarray(expected, float)
    later = np.append(np.cumsum(s[::-1])[::-1][1:], 0)
    shares = np.where(later > 0, s / np.where(later > 0, later, 1), 1)
    assert bound == pytest.approx(np.sqrt(np.sum(s * norms**2 * shares) / s.sum()), rel=1e-5)
    for schedule in (js.optimal_schedule(norms), js.refined_schedule(norms)):
        assert schedule.steps == n and schedule(n) == 0
        assert float(np.max(schedule(steps))) == 1
