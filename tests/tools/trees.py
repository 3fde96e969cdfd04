"""Random schedules: each is drawn as a tree, built, and told in Python.

A tree is a nested tuple. `build` makes it a schedule, `ends` and `value` are the definition
of both in plain Python, on exact integers and float64.
"""

import math

import hypothesis.strategies as st
import jax
import numpy as np
from hypothesis import HealthCheck, settings

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


SIZE = 80  # of one size each operation is compiled once


def evaluate(schedule, steps=STEPS):
    """The values, one operation after the other: to compile a new tree takes longer than that."""
    steps = np.asarray(steps)
    with jax.disable_jit():
        if steps.ndim != 1:
            return np.asarray(schedule(steps))
        return np.asarray(schedule(np.resize(steps, max(SIZE, steps.size))))[: steps.size]


def more_steps(schedule, size=32):
    """What the laws of a schedule are to be asked of beside the surroundings of its lengths."""
    some = {*testing._steps(schedule).tolist()}
    return [t for t in range(size + len(some)) if t not in some][: max(size - len(some), 0)]
