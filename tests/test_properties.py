"""Laws of the algebra over random schedules: each is drawn as a tree, built, and told in Python.

A tree is a nested tuple. `build` makes it a schedule, `ends` and `value` are the definition
of both in plain Python, on exact integers and float64.
"""

import bisect
import math
from fractions import Fraction

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import jaxsched as js
from jaxsched import testing

LAST = 2**31 - 1
few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
fewer = settings(few, max_examples=4)

values = st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.5, 1.0, 2.0])
positives = st.sampled_from([0.1, 0.5, 1.0, 2.0])
lengths = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 12, 31])
longer = st.sampled_from([1, 2, 3, 5, 8])
shifts = st.sampled_from([-40, -7, -1, 0, 1, 3, 20])

curves = st.one_of(
    st.tuples(
        st.sampled_from(["linear", "cosine", "one_minus_sqrt", "rex"]), values, values, lengths
    ),
    st.tuples(st.just("geometric"), positives, positives, lengths),
    st.tuples(st.just("constant"), values, lengths),
)
decays = st.one_of(
    st.tuples(st.just("constant"), values, st.none()),
    st.tuples(st.just("exponential"), values, st.sampled_from([0.5, 0.9, 1.0]), longer),
    st.tuples(st.just("inverse_sqrt"), values, positives),
    st.tuples(st.just("steps"), st.lists(st.tuples(values, lengths), min_size=1, max_size=3)),
    st.tuples(st.just("knots"), st.lists(st.tuples(values, lengths), min_size=1, max_size=3)),
)


def grown(children, others=None):
    two = (children, children if others is None else others)
    return st.one_of(
        st.tuples(st.just("then"), *two, longer),
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), *two),
        st.tuples(st.sampled_from(["scaled", "moved", "divided"]), children, positives),
        st.tuples(
            st.just("clip"), children, st.sampled_from([(-0.5, 0.7), (None, 0.3), (0.1, None)])
        ),
        st.tuples(st.just("take"), children, lengths),
        st.tuples(st.just("shift"), children, shifts),
        st.tuples(st.sampled_from(["hold", "faster"]), children, longer),
        st.tuples(st.just("join"), *two, children if others is None else others, lengths, lengths),
        st.tuples(st.just("select"), st.integers(0, 1), *two),
        st.tuples(
            st.just("cycle"),
            children,
            st.sampled_from([1, 2, 3]),
            st.sampled_from([1.0, 0.5]),
            st.sampled_from([None, 1, 3]),
            longer,
        ),
    )


trees = st.recursive(curves | decays, grown, max_leaves=5)


def nested(depth):
    """Trees of operators exactly so deep."""
    leaf = curves | decays
    return leaf if depth == 0 else grown(nested(depth - 1), leaf)


stretchable = st.deferred(
    lambda: st.one_of(
        curves,
        st.tuples(st.just("then"), curves, curves, longer),
        st.tuples(st.sampled_from(["scaled", "moved", "divided"]), curves, positives),
    )
)


def finite(tree, steps):
    """A tree with an end, whatever it is."""
    return tree if ends(tree) is not None else ("take", tree, steps)


def once(tree, mult, steps):
    """What may be cycled: with an end after step 0 and, for `mult` other than 1, stretchable."""
    stretches = tree[0] in (*CURVES, "geometric") or (tree[0] == "constant" and tree[2] is not None)
    tree = finite(tree, steps) if mult == 1 or stretches else ("linear", 1.0, 0.0, steps)
    return tree if ends(tree) > 0 else ("linear", 0.0, 1.0, steps)


CURVES = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: math.cos(math.pi / 2 * x) ** 2,
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),
    "rex": lambda x: (1 - x) / (0.5 + 0.5 * (1 - x)),
}


def build(tree):
    """The schedule."""
    match tree:
        case ("constant", a, n):
            return js.constant(a, n)
        case ("exponential", a, rate, n):
            return js.exponential_decay(a, decay_rate=rate, decay_steps=n)
        case ("inverse_sqrt", a, scale):
            return js.inverse_sqrt(a, timescale=scale)
        case ("steps", pieces):
            last, *rest = sorted(pieces, key=lambda x: x[1])
            return js.piecewise_constant([last[0], *(v for v, _ in rest)], [n for _, n in rest])
        case ("knots", pieces):
            pieces = sorted(pieces, key=lambda x: x[1])
            return js.piecewise_linear([v for v, _ in pieces], [n for _, n in pieces])
        case ("then", a, b, n):
            return build(finite(a, n)) >> build(b)
        case ("+", a, b):
            return build(a) + build(b)
        case ("-", a, b):
            return build(a) - build(b)
        case ("*", a, b):
            return build(a) * build(b)
        case ("min", a, b):
            return js.minimum(build(a), build(b))
        case ("max", a, b):
            return js.maximum(build(a), build(b))
        case ("scaled", a, x):
            return x * build(a)
        case ("moved", a, x):
            return x - build(a)
        case ("divided", a, x):
            return -build(a) / x
        case ("clip", a, (low, high)):
            return build(a).clip(low, high)
        case ("take", a, n):
            return build(a).take(n)
        case ("shift", a, n):
            return build(a).shift(n)
        case ("hold", a, n):
            return build(a).hold(n)
        case ("faster", a, n):
            return build(a).faster(n)
        case ("join", a, b, c, m, n):
            return js.join([build(a), build(b), build(c)], [min(m, n), max(m, n)])
        case ("select", k, a, b):
            return js.select(k, [build(a), build(b)])
        case ("cycle", a, mult, decay, cycles, n):
            return build(once(a, mult, n)).cycle(mult, decay, cycles)
        case (name, a, b, n):
            return getattr(js, name)(a, b, n)
    raise AssertionError(tree)


def longest(*trees):
    known = [ends(tree) for tree in trees]
    return None if None in known else max(known)


def ends(tree):
    """`steps`, as the design says."""
    match tree:
        case ("exponential", *_) | ("inverse_sqrt", *_) | ("steps", _) | ("knots", _):
            return None
        case ("constant", _, n) | ("take", _, n):
            return n
        case ("then", a, b, n):
            return None if ends(b) is None else ends(finite(a, n)) + ends(b)
        case ("+" | "-" | "*" | "min" | "max", a, b) | ("select", _, a, b):
            return longest(a, b)
        case ("scaled" | "moved" | "divided" | "clip", a, _):
            return ends(a)
        case ("shift", a, n):
            return None if ends(a) is None else max(ends(a) + n, 0)
        case ("hold", a, n):
            return None if ends(a) is None else ends(a) * n
        case ("faster", a, n):
            return None if ends(a) is None else -(-ends(a) // n)
        case ("join", _, _, c, m, n):
            return None if ends(c) is None else max(m, n) + ends(c)
        case ("cycle", a, mult, _, cycles, n):
            first = ends(once(a, mult, n))
            return None if cycles is None else sum(first * mult**i for i in range(cycles))
        case (_, _, _, n):
            return n
    raise AssertionError(tree)


def value(tree, t):
    """The value at step t >= 0, as the design says."""
    match tree:
        case ("constant", a, _):
            return a
        case ("exponential", a, rate, n):
            return a * rate ** (t / n)
        case ("inverse_sqrt", a, scale):
            return a / math.sqrt(1 + t / scale)
        case ("steps", pieces):
            pieces = sorted(pieces, key=lambda x: x[1])
            return [v for i, (v, n) in enumerate(pieces) if i == 0 or n <= t][-1]
        case ("knots", pieces):
            pieces = sorted(pieces, key=lambda x: x[1])
            k = sum(n <= t for _, n in pieces)
            if k in (0, len(pieces)):
                return pieces[min(k, len(pieces) - 1)][0]
            (a, m), (b, n) = pieces[k - 1], pieces[k]
            return a + (b - a) * (t - m) / (n - m)
        case ("then", a, b, n):
            a = finite(a, n)
            return value(a, t) if t < ends(a) else value(b, t - ends(a))
        case ("+", a, b):
            return value(a, t) + value(b, t)
        case ("-", a, b):
            return value(a, t) - value(b, t)
        case ("*", a, b):
            return value(a, t) * value(b, t)
        case ("min", a, b):
            return min(value(a, t), value(b, t))
        case ("max", a, b):
            return max(value(a, t), value(b, t))
        case ("scaled", a, x):
            return x * value(a, t)
        case ("moved", a, x):
            return x - value(a, t)
        case ("divided", a, x):
            return -value(a, t) / x
        case ("clip", a, (low, high)):
            x = value(a, t)
            x = x if low is None else max(x, low)
            return x if high is None else min(x, high)
        case ("take", a, n):
            return value(a, min(t, n))
        case ("shift", a, n):
            return value(a, min(max(t - n, 0), LAST))
        case ("hold", a, n):
            return value(a, t // n)
        case ("faster", a, n):
            return value(a, min(t * n, LAST))
        case ("join", a, b, c, m, n):
            m, n = sorted((m, n))
            return value(a, t) if t < m else value(b, t - m) if t < n else value(c, t - n)
        case ("select", k, a, b):
            return value((a, b)[k], t)
        case ("cycle", a, mult, decay, cycles, n):
            a = once(a, mult, n)
            first, i = ends(a), 0
            if mult == 1:
                i = t // first if cycles is None else min(t // first, cycles - 1)
                return value(a, min(t - i * first, first)) * decay**i
            while t >= first * mult**i and (cycles is None or i + 1 < cycles):
                t, i = t - first * mult**i, i + 1
            size = first * mult**i
            return value((*a[:-1], size), min(t, size)) * decay**i
        case ("geometric", a, b, n):
            return b if t >= n else a * (b / a) ** (t / n)
        case (name, a, b, n):
            return b if t >= n else b + (a - b) * CURVES[name](t / n)
    raise AssertionError(tree)


STEPS = np.asarray([*range(48), 60, 93, 100, 1000, 2**24, 2**30, LAST - 40, LAST - 1, LAST])


def evaluate(schedule, steps=STEPS):
    with jax.disable_jit():  # a tree is a new program: compiling it takes longer than running it
        return np.asarray(schedule(steps))


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
        testing.assert_total(schedule)
        testing.assert_held(schedule)
    testing.assert_same(eval(repr(schedule), dict(vars(js))), schedule)


@fewer
@given(trees)
def test_traceable_differentiable_and_clean(tree):
    schedule = build(tree)
    with jax.disable_jit():
        testing.assert_differentiable(schedule)
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

    @jax.jit
    def at(mult, t):  # its value tells the cycle and the place in it
        return js.linear(1.0, 0.5, first).cycle(mult, decay=0.5)(t)

    actual = (
        at(mult, np.asarray(steps))
        if traced
        else js.linear(1.0, 0.5, first).cycle(mult, decay=0.5)(np.asarray(steps))
    )
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
    down = js.linear(1.0, 0.0, first).cycle(mult=mult)(steps)
    edges = [math.ceil(s - s / 10**6) for s in inner]
    place = [bisect.bisect_right(edges, int(t)) - 1 for t in steps]
    for t, i, actual in zip(steps, place, down, strict=True):
        length = first * exact**i
        left = float(1 - min((int(t) - inner[i]) / length, 1))
        blur = 1e-6 * (float(t / length) + i + 10)
        assert abs(float(actual) - min(left, 1.0)) <= blur, (t, i, float(actual), left)


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
        testing.assert_total(schedule)
        testing.assert_held(schedule)
        testing.assert_differentiable(schedule)
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
