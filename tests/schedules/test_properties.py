"""Laws of the algebra over random schedules, each drawn as a tree: see `trees.py`."""

import bisect
import math
from fractions import Fraction

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from trees import (
    LAST,
    STEPS,
    build,
    curves,
    ends,
    evaluate,
    few,
    fewer,
    finite,
    lengths,
    longer,
    more_steps,
    stretchable,
    trees,
    value,
)

import jaxsched as js
from jaxsched import testing


@few
@given(trees)
def test_value_and_end_are_the_definition(tree):
    schedule = build(tree)
    expected = np.asarray([value(tree, int(t)) for t in STEPS])
    np.testing.assert_allclose(evaluate(schedule), expected, rtol=2e-5, atol=2e-6)
    assert schedule.steps == ends(tree)


@few
@given(trees)
def test_held_total_and_the_same_as_its_text(tree):
    schedule = build(tree)
    with jax.disable_jit():
        testing.assert_total(schedule, more_steps(schedule))
        testing.assert_held(schedule)
    testing.assert_same(eval(repr(schedule), dict(vars(js))), schedule)


@fewer
@given(trees)
def test_traceable_differentiable_and_clean(tree):
    schedule = build(tree)
    with jax.disable_jit():
        testing.assert_differentiable(schedule, more_steps(schedule))
    testing.assert_compiles_clean(schedule)
    np.testing.assert_allclose(jax.jit(schedule)(STEPS), evaluate(schedule), rtol=1e-5, atol=2e-6)


@few
@given(trees, trees, trees, st.sampled_from(["then", "+", "*"]))
def test_operators_flatten(a, b, c, operator):
    a, b, c = (build(finite(x, 5)) for x in (a, b, c))
    if operator == "then":
        testing.assert_same((a >> b) >> c, a >> (b >> c))
    elif operator == "+":
        testing.assert_same((a + b) + c, a + (b + c))
    else:
        testing.assert_same((a * b) * c, a * (b * c))


@few
@given(trees, trees, longer)
def test_a_chain_is_one_and_then_the_other(a, b, n):
    a, b = build(finite(a, n)), build(b)
    edge = min(a.steps, len(STEPS))
    joined = evaluate(a >> b, np.arange(60))
    np.testing.assert_array_equal(joined[:edge], evaluate(a, np.arange(60))[:edge])
    np.testing.assert_array_equal(joined[edge:], evaluate(b, np.arange(60))[: 60 - edge])


@few
@given(curves, lengths)
def test_a_curve_stays_between_its_ends_and_never_turns(tree, n):
    schedule = build(tree).stretch(n)
    at = evaluate(schedule, np.arange(60))
    low, high = min(at[0], at[-1]), max(at[0], at[-1])
    assert np.all(at >= low - 1e-7)
    assert np.all(at <= high + 1e-7)
    ahead = np.diff(at) * np.sign(at[-1] - at[0])
    assert np.all(ahead >= -1e-7)


@few
@given(trees, st.sampled_from([-LAST, -(2**31), LAST, LAST - 3, 2**31, 2**40, -(2**40)]), lengths)
def test_nothing_wraps(tree, far, n):
    tree = finite(tree, n)
    schedule, first = build(tree), build(tree)(0)
    ended = evaluate(schedule, np.asarray([LAST]))[0]
    moved = schedule.shift(far)
    at = evaluate(moved, np.asarray([0, 5, LAST - 5000, LAST]))
    assert moved.steps == min(max(schedule.steps + far, 0), LAST)
    np.testing.assert_allclose(at[:3], ended if far < 0 else first, rtol=1e-6)
    chain = schedule.take(LAST - 2) >> build(tree).take(max(far, 0)) >> js.linear(1.0, 0.0, LAST)
    assert chain.steps == LAST
    assert np.all(np.isfinite(evaluate(chain)))


@pytest.mark.parametrize("n", [5, 2**30 - 1, 2**30, LAST - 1, LAST])
def test_traced_lengths_are_added_up_to_the_end_of_the_clock(n):
    def end(n):
        return (js.linear(1.0, 0.0, n) >> js.linear(0.0, 1.0, n)).steps

    assert end(n) == jax.jit(end)(n) == min(2 * n, LAST)


@pytest.mark.parametrize("steps", [39, 40, 78, 117, 143, 221])
def test_a_faster_schedule_ends_at_the_first_step_that_is_at_its_end(steps):
    """In float32 the quotient comes out a step too late for some, and too early for others."""
    faster = js.linear(1.0, 0.5, steps).faster(1.3)
    times = np.float32(1.3) * np.arange(400, dtype=np.float32)
    assert faster.steps == np.argmax(times >= steps)


@pytest.mark.parametrize("rate", [2, 1.5, 1e9])
def test_what_begins_beyond_the_clock_never_does_on_a_real_one_either(rate):
    """Of float32 the last step is 2^31, where the third piece would begin."""
    chain = js.constant(1.0, LAST) >> js.constant(2.0, 1) >> js.constant(3.0)
    for step in (2**31 - 2**20, LAST - 1, LAST):
        assert chain.faster(rate)(step) == 2.0


@few
@given(trees, st.integers(-(2**63), 2**64 - 1))
def test_a_step_of_any_dtype_is_clamped(tree, step):
    schedule = build(tree)
    clamped = evaluate(schedule, np.asarray(min(max(step, 0), LAST)))
    for dtype in (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
        limits = np.iinfo(dtype)
        if limits.min <= step <= limits.max:
            assert evaluate(schedule, dtype(step)) == clamped
            assert evaluate(schedule, np.asarray([step], dtype)) == clamped
            if np.dtype(dtype).itemsize < 8:
                assert evaluate(schedule, jnp.asarray([step], dtype)) == clamped
    with jax.disable_jit():
        assert schedule(step) == clamped


@pytest.mark.parametrize("mult", [2, 3, 7])
@pytest.mark.parametrize("first", [1, 2, 5])
@pytest.mark.parametrize("traced", [False, True])
def test_whole_cycles_are_exact_up_to_the_last_step(first, mult, traced):
    starts = [0]
    while starts[-1] <= LAST:
        starts.append(starts[-1] + first * mult ** (len(starts) - 1))
    near = {s + d for s in starts for d in (-1, 0, 1)} | {LAST - 1, LAST, (starts[-2] + LAST) // 2}
    steps = sorted(t for t in near if 0 <= t <= LAST)
    index = [max(i for i, s in enumerate(starts) if s <= t) for t in steps]

    def at(mult, t):  # its value tells the cycle and the place in it
        return js.linear(1.0, 0.5, first).cycle(mult, decay=0.5)(t)

    padded = np.resize(steps, 128)  # one size is one program
    actual = (jax.jit(at) if traced else at)(mult, padded)[: len(steps)]
    part = [(t - starts[i]) / (first * mult**i) for t, i in zip(steps, index, strict=True)]
    expected = [(1 - x / 2) * 0.5**i for x, i in zip(part, index, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=2e-5)  # 1e-6 for each of its e-foldings


@pytest.mark.parametrize("first", [1, 10])
@pytest.mark.parametrize("mult", [1.0, 1.1, 1.5, 2.0, 3.0, 0.5, 0.9])
def test_real_cycles_start_at_the_ceiling_and_every_step_is_in_one(first, mult):
    exact, starts = Fraction(float(np.float32(mult))), [Fraction(0)]
    while starts[-1] < 200_000 and len(starts) < (20 if exact >= 1 else 120):
        length = first * exact ** (len(starts) - 1)
        if length < 1:
            break
        starts.append(starts[-1] + length)
    inner = starts if exact >= 1 else starts[:-1]  # the last is held, so nothing starts at its end
    near = {math.ceil(s) + d for s in inner for d in (-2, -1, 0, 1, 2)} | set(range(100))
    beyond = math.floor(starts[-1]) if exact >= 1 else 200_000
    steps = np.asarray(sorted(t for t in near if 0 <= t < beyond))
    padded = np.resize(steps, 1024)  # one size is one program
    down = np.asarray(js.linear(1.0, 0.0, first).cycle(mult=mult)(padded))[: len(steps)]
    edges = [math.ceil(s - s / 10**6) for s in inner]
    place = [bisect.bisect_right(edges, int(t)) - 1 for t in steps]
    for t, i, actual in zip(steps, place, down, strict=True):
        length = first * exact**i
        left = float(1 - min((int(t) - inner[i]) / length, 1))
        blur = 1e-6 * (float(t / length) + i + 10)
        assert abs(float(actual) - min(left, 1.0)) <= blur, (t, i, float(actual), left)


@pytest.mark.parametrize("base", [3, 5, 7, 10])
def test_a_last_cycle_of_one_step_is_a_cycle(base):
    """As float32 has it, its length is a hair below one step now and then."""
    for k in range(1, 7):
        cycled = js.linear(1.0, 0.0, base**k).cycle(mult=1 / base)
        end = sum(base**i for i in range(k + 1))
        assert cycled(np.asarray([end - 1, end])).tolist() == [1.0, 0.0]


def test_the_slope_in_a_mult_of_one_is_that_of_its_neighbours():
    with jax.enable_x64(True):

        def at(mult):
            return js.linear(1.0, 0.0, 10).cycle(mult=mult)(jnp.asarray([11, 15, 25, 95]))

        _, slope = jax.jvp(at, (1.0,), (1.0,))
        np.testing.assert_allclose(slope, (at(1 + 1e-6) - at(1 - 1e-6)) / 2e-6, rtol=1e-4)


def test_a_float_mult_that_is_whole_is_the_int():
    for mult in (2, 3):
        for first in (1, 3, 10):
            whole = js.linear(1.0, 0.0, first).cycle(mult=mult)(np.arange(5000))
            real = js.linear(1.0, 0.0, first).cycle(mult=float(mult))(np.arange(5000))
            np.testing.assert_allclose(real, whole, atol=1e-5)


@fewer
@given(stretchable, st.sampled_from([1.5, 2.0, 0.7]), longer)
def test_a_real_cycle_is_lawful(tree, mult, n):
    tree = tree if ends(tree) else ("linear", 1.0, 0.1, n)
    schedule = build(tree).cycle(mult=mult, decay=0.9, cycles=4) * 0.5 >> build(tree)
    with jax.disable_jit():
        testing.assert_total(schedule, more_steps(schedule))
        testing.assert_held(schedule)
        testing.assert_differentiable(schedule, more_steps(schedule))
    testing.assert_same(eval(repr(schedule), dict(vars(js))), schedule)


@pytest.mark.parametrize("zeros", [(0, 0, 0), (0, 3, 0), (3, 0, 0), (0, 0, 3), (2, 0, 3)])
def test_a_piece_without_steps_vanishes(zeros):
    pieces = [js.linear(k + 1.0, -k - 1.0, n) for k, n in enumerate(zeros)]
    chain = pieces[0] >> pieces[1] >> pieces[2]
    assert chain.steps == sum(zeros)
    assert evaluate(chain)[-1] == -3.0
    expected = [
        value(("linear", k + 1.0, -k - 1.0, n), t) for k, n in enumerate(zeros) for t in range(n)
    ]
    np.testing.assert_allclose(chain(np.arange(sum(zeros) + 1)), [*expected, -3.0], rtol=1e-6)
