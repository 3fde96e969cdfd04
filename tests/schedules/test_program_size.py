"""How large the compiled programs are: bounded for every schedule, for scalars and for arrays.

From jax 0.11 on, XLA computes a value anew wherever it is used inside a loop over an array. So the
time it takes to compile grows with the size that a program has when nothing is shared. An unrolled
search that uses its state twice in each of 31 rounds has 2**31 times its size, and never compiles.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import ALL

import jaxsched as js

STEPS = jnp.arange(16, dtype=jnp.int32)
INLINED = ("jit", "pjit", "closed_call", "custom_jvp_call")


def size_without_sharing(function, *arguments):
    """The operations of a program in which every value is computed anew at each of its uses."""

    def run(jaxpr, sizes):
        known = dict(zip(jaxpr.invars, sizes, strict=True)) | dict.fromkeys(jaxpr.constvars, 1)

        def size(x):
            return 1 if hasattr(x, "val") else known[x]

        for equation in jaxpr.eqns:
            inputs = [size(x) for x in equation.invars]
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if equation.primitive.name in INLINED:
                outputs = run(getattr(inner, "jaxpr", inner), inputs)
            else:
                outputs = [1 + sum(inputs)] * len(equation.outvars)
            known |= zip(equation.outvars, outputs, strict=True)
        return [size(x) for x in jaxpr.outvars]

    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return max(run(jaxpr, [1] * len(jaxpr.invars)))


def instructions(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text().count(" = ")


def at(schedule, steps):
    return schedule(steps)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_the_program_of_every_schedule_is_small(case):
    schedule = case.schedule
    assert size_without_sharing(at, schedule, STEPS) < 1e13
    assert instructions(at, schedule, STEPS) < 800


def test_the_measure_tells_an_unrolled_search():
    def search(t):
        length = jnp.full_like(t, 3)
        for _ in range(31):
            over = t >= length
            t, length = jnp.where(over, t - length, t), jnp.where(over, 2 * length, length)
        return t

    assert size_without_sharing(search, STEPS) > 1e13


def test_the_program_of_a_mapped_schedule_is_small():
    def mapped(first, mult):
        return jax.vmap(lambda n, m: js.cosine(1.0, 0.0, n).cycle(mult=m)(STEPS))(first, mult)

    twos = jnp.array([2, 3])
    assert size_without_sharing(mapped, twos, twos) < 1e13
    assert instructions(mapped, twos, twos) < 800


def nested(schedule, depth, mult):
    for _ in range(depth):
        schedule = (schedule >> js.cosine(1.0, 0.0, 10)).cycle(mult=mult, cycles=3)
    return schedule


def chained(schedule, depth, length):
    for _ in range(depth):
        schedule = schedule >> js.cosine(1.0, 0.0, length)
    return schedule


@pytest.mark.parametrize(
    ("made", "most"),
    [
        (lambda n: (js.linear(1.0, 0.0, 7), n, 2), 3000),
        (lambda n: (js.linear(1.0, 0.0, 7), n, 1.5), 8000),
    ],
    ids=["whole", "real"],
)
def test_cycles_in_cycles_grow_by_addition(made, most):
    sizes = [instructions(at, nested(*made(depth)), STEPS) for depth in (1, 2, 3)]
    assert sizes[-1] < most, sizes


def test_a_chain_of_traced_lengths_grows_by_addition():
    def values(lengths, pieces):
        return jax.vmap(lambda n: chained(js.linear(1.0, 0.0, n), pieces, n)(STEPS))(lengths)

    lengths = jnp.array([5, 6])
    few, many = (size_without_sharing(lambda n, k=k: values(n, k), lengths) for k in (10, 40))
    assert many < 64 * few  # its time of start is a sum, and each piece has its own


def test_cycles_are_right_at_every_boundary():
    last = 2**31 - 1
    traced = jax.jit(lambda n, m, t: js.linear(0.0, 1.0, n).cycle(mult=m)(t))
    for first in (1, 2, 3, 7, 100, 65537, 2**20, 2**30, last - 1, last, 2**40):
        for mult in (1, 2, 3, 5, 10, 46341, 65536, 2**30, last):
            schedule = js.linear(0.0, 1.0, first).cycle(mult=mult)
            starts, length = [0], first
            while starts[-1] <= last and len(starts) < 40:
                starts, length = [*starts, starts[-1] + length], length * mult
            near = {s + d for s in starts for d in (-1, 0, 1)} | {last}
            steps = np.asarray(sorted(s for s in near if 0 <= s <= last))
            steps = np.resize(steps, 100)  # one size is one program
            expected = [place(first, mult, int(t)) for t in steps]
            np.testing.assert_allclose(schedule(steps), expected, rtol=1e-6, err_msg=f"{schedule}")
            if first <= last:
                got = traced(jnp.int32(first), jnp.int32(mult), steps.astype(np.int32))
                np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=f"traced {schedule}")


def place(first, mult, t):
    """The part of its cycle that is done at step t, in whole numbers until the last quotient."""
    start, length = 0, first
    if mult == 1:
        return t % first / first
    while t >= start + length:
        start, length = start + length, length * mult
    return (t - start) / length


def test_a_cycle_beyond_the_clock_is_not_over_at_its_last_step():
    assert js.linear(0.0, 1.0, 2**40).cycle()(2**31 - 1) < 0.01
    assert js.linear(0.0, 1.0, 2**40).cycle(mult=2)(2**31 - 1) < 0.01
    assert math.isclose(js.linear(0.0, 1.0, 1).cycle(mult=2**33)(2**31 - 1), 0.25, rel_tol=1e-6)


def test_the_end_of_traced_cycles_is_that_of_known_ones():
    for cycles in (1, 2, 5, 31, 32, 33, 100, 2**31 - 1):
        known = js.linear(0.0, 1.0, 3).cycle(mult=2, cycles=cycles).steps
        traced = jax.jit(lambda n: js.linear(0.0, 1.0, 3).cycle(mult=2, cycles=n).steps)(cycles)
        assert known == traced == min(3 * (2 ** min(cycles, 40) - 1), 2**31 - 1)
