"""`describe` and `boundaries`: what a schedule is worth, and where that changes."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import ALL
from hypothesis import given
from trees import build, ends, few, grown, lengths, values

import jaxsched as js
from jaxsched._core._clock import LAST
from jaxsched._look._boundaries import boundaries

LINE = js.linear(1.0, 0.0, 4)
WAVE = js.cosine(0.5, 0.1, 10)
STAIRS = js.step_decay(0.5, factor=0.5, every=3)


def first(schedule, count=8, until=LAST):
    return list(itertools.islice(boundaries(schedule, until), count))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (LINE, [4]),
        (js.linear(1.0, 0.0, 0), []),
        (js.constant(1.0), []),
        (js.constant(1.0, 3), [3]),
        (js.inverse_sqrt(1.0, timescale=3), []),
        (js.power_law(1.0, exponent=-0.5, timescale=9.5), [10]),
        (js.table([1.0, 0.5, 0.1]), [2]),
        (STAIRS, [3, 6, 9, 12, 15, 18, 21, 24]),
        (
            js.inverse_time_decay(1.0, decay_rate=1.0, decay_steps=5, staircase=True).take(11),
            [5, 10, 11],
        ),
        (js.inverse_time_decay(1.0, decay_rate=1.0, decay_steps=5).take(11), [11]),
        (js.sawtooth_polynomial(1.0, 0.0, power=1.0, decay_steps=5).take(13), [6, 11, 13]),
        (js.piecewise_constant([1, 2, 3, 4], [0, 3, 7.5]), [3, 8]),
        (js.piecewise_linear([1, 2, 3], [0, 3, 3]), [3]),
        (LINE >> WAVE, [4, 14]),
        (js.linear(1.0, 0.0, 0) >> LINE >> js.constant(0.5), [4]),
        (LINE >> STAIRS, [4, 7, 10, 13, 16, 19, 22, 25]),
        (STAIRS.take(7) >> LINE, [3, 6, 7, 11]),
        (LINE * WAVE + 1, [4, 10]),
        (js.minimum(LINE, 0.5) + js.select(0, [WAVE, STAIRS.take(4)]), [3, 4, 10]),
        (LINE.clip(0.1), [4]),
        (LINE.take(9), [4, 9]),
        (LINE.take(2), [2]),
        (LINE.shift(3), [3, 7]),
        ((LINE >> WAVE).shift(-5), [9]),
        ((LINE >> WAVE).shift(-50), []),
        ((LINE >> WAVE).faster(3), [2, 5]),
        ((LINE >> WAVE).faster(0.5), [8, 28]),
        (STAIRS.faster(1e-9), []),
        (LINE.cycle(), [4, 8, 12, 16, 20, 24, 28, 32]),
        ((LINE >> WAVE).cycle(mult=2, cycles=2), [4, 14, 18, 42]),
        (LINE.cycle(mult=1.5), [4, 10, 19, 33, 53, 84, 129, 198]),
        (js.linear(1.0, 0.0, 16).cycle(mult=0.5), [16, 24, 28, 30, 31]),
        (LINE.cycle(mult=2**20), [4, 4 + 2**22, LAST]),
        ((LINE * WAVE).cycle(cycles=2), [4, 10, 14, 20]),
        (jax.tree.map(jnp.asarray, (LINE >> WAVE).cycle(mult=2, cycles=2)), [4, 14, 18, 42]),
        (js.from_function(lambda t: t).take(3), [3]),
    ],
    ids=repr,
)
def test_boundaries(schedule, expected):
    assert first(schedule) == expected


def test_boundaries_end_where_they_are_told_to():
    assert first(LINE.cycle(), until=12) == [4, 8, 12]
    assert first(LINE.cycle(), until=0) == []
    assert first(LINE, until=3) == []


straight = st.one_of(
    st.tuples(st.just("linear"), values, values, lengths),
    st.tuples(st.just("constant"), values, lengths),
    st.tuples(st.just("steps"), st.lists(st.tuples(values, lengths), min_size=1, max_size=3)),
    st.tuples(st.just("knots"), st.lists(st.tuples(values, lengths), min_size=1, max_size=3)),
)
BENT = ("*", "min", "max", "clip", "hold")  # a line that is held is a stair


def is_straight(tree):
    return tree[0] not in BENT and all(is_straight(x) for x in tree if isinstance(x, tuple))


@few
@given(
    st.lists(
        st.recursive(straight, grown, max_leaves=5).filter(is_straight), min_size=2, max_size=4
    )
)
def test_between_two_boundaries_a_schedule_of_straight_lines_is_straight(trees):
    for tree in trees:
        schedule = build(tree)
        with jax.enable_x64(True), jax.disable_jit():
            at = np.asarray(schedule(np.arange(80)))
        bends = np.flatnonzero(np.abs(np.diff(at, 2)) > 1e-6) + 1
        known = set(boundaries(schedule, 100))
        assert all({step, step + 1} & known for step in bends), (schedule, bends, known)
        assert schedule.steps is None or schedule.steps == 0 or ends(tree) in known


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_boundaries_of_every_factory_come_in_order(case):
    found = first(case.schedule)
    assert found == sorted(set(found))
    assert all(0 < step <= LAST for step in found)
    end = case.schedule.steps
    assert not end or len(found) == 8 or end in found


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_factory_is_described(case):
    shown = js.describe(case.schedule, total_steps=50)
    steps, at = zip(*shown.rows, strict=True)
    assert steps[0] == 0 and steps[-1] == 50 and list(steps) == sorted(set(steps))
    np.testing.assert_array_equal(at, case.schedule(np.asarray(steps)))
    every = np.asarray(case.schedule(np.arange(51)))
    assert shown.peak == (int(np.argmax(every)), every.max())
    assert shown.floor == (int(np.argmin(every)), every.min())
    assert len(str(shown).splitlines()) <= 30


def test_a_table():
    shown = js.describe((LINE >> WAVE >> js.constant(0.1)) * 0.1, total_steps=1000)
    assert (
        str(shown)
        == repr(shown)
        == f"{shown}"
        == """\
(linear(1.0, 0.0, 4) >> cosine(0.5, 0.1, 10) >> constant(0.1)) * 0.1
  step    value
     0      0.1
     3    0.025
     4     0.05
    13  0.01098
    14     0.01
  1000     0.01
peak 0.1 at step 0, floor 0.01 at step 14
jumps from 0 to 0.05 at step 4"""
    )
    assert shown.peak.step == 0 and shown.floor == (14, np.float32(0.1) * np.float32(0.1))


def test_the_boundaries_of_what_never_ends_are_left_out():
    assert [row.step for row in js.describe(LINE.cycle()).rows] == [0, 3, 4, 7, 8, 11, 12, 15, 16]
    assert str(js.describe(LINE.cycle())).splitlines()[-2].strip() == "..."
    assert (
        str(js.describe(js.constant(0.5)))
        == """\
constant(0.5)
  step  value
     0    0.5
   ...
peak 0.5 at step 0, floor 0.5 at step 0"""
    )
    shown = str(js.describe(STAIRS, total_steps=500)).splitlines()
    assert shown[-3].strip() == "..." and shown[-2].strip().startswith("500 ")
    assert len(shown) < 32
    assert "..." not in str(js.describe(STAIRS, total_steps=30))


@pytest.mark.parametrize(
    ("schedule", "peak", "floor"),
    [
        (js.linear(1.0, 0.0, LAST), 0, LAST),
        (js.linear(0.0, 1.0, 10**9 + 7) >> js.linear(1.0, 0.5, 1), 10**9 + 7, 0),
        (js.linear(0.0, 1.0, 10**6).cycle(decay=0.5), 999_999, 0),
        (js.rex(1.0, 0.0, 100_000) * js.linear(0.0, 1.0, 200_000), None, 0),
    ],
)
def test_a_peak_among_many_steps(schedule, peak, floor):
    shown = js.describe(schedule)
    if peak is None:
        peak = int(np.argmax(schedule(np.arange(200_001))))
    assert shown.peak.value == schedule(peak)
    assert shown.floor.value == schedule(floor)


def test_a_stateful_schedule_is_described_as_it_is_before_anything_happens():
    plateau = js.reduce_on_plateau(patience=3)
    shown = js.describe(0.5 * (LINE >> js.constant(0.5)) * plateau * js.greedy().clip(0.9))
    assert shown.rows == js.describe((LINE >> js.constant(0.5)) * 0.5).rows
    assert str(shown).splitlines()[-2:] == [
        "times reduce_on_plateau(patience=3), 1 until it acts",
        "times greedy(), 1 until it acts",
    ]
    shown = js.describe((js.until(LINE, WAVE) * js.tunable(WAVE)).clip(0.1))
    assert shown.rows == js.describe((LINE * WAVE).clip(0.1)).rows
    assert str(shown).splitlines()[-2:] == [
        "times until(linear(1.0, 0.0, 4), cosine(0.5, 0.1, 10)), "
        "the first part until `trigger(opt_state)`",
        "times tunable(cosine(0.5, 0.1, 10)), unchanged until `retune(opt_state, ...)`",
    ]
    assert [row.value for row in js.describe(plateau).rows] == [1.0]


def test_a_function_of_the_step_is_described():
    assert js.describe(lambda t: 2 * t, total_steps=3).rows == ((0, 0.0), (3, 6.0))


@pytest.mark.parametrize("bad", [-1, 2.5, "3", True, np.asarray([3, 4])])
def test_a_bad_length_is_named(bad):
    with pytest.raises(ValueError, match=r"`describe\(total_steps=...\)` must"):
        js.describe(LINE, total_steps=bad)


@pytest.mark.parametrize("bad", [0.1, "linear", None, jax.vmap(lambda x: js.linear(x, 0.0, 3))])
def test_what_is_no_schedule_is_refused(bad):
    with pytest.raises(ValueError, match=r"`describe` takes schedules|from_function"):
        js.describe(bad)


def test_a_stacked_schedule_is_refused():
    rule = js.reduce_on_plateau(factor=jnp.asarray([0.1, 0.2]))
    stack = jax.vmap(lambda x: js.linear(x, 0.0, 3))(jnp.ones(2))
    with pytest.raises(ValueError, match=r"a stacked schedule"):
        js.describe(LINE * rule)
    with pytest.raises(ValueError, match=r"a stacked schedule must be called under `jax.vmap`"):
        js.describe(stack)


CHAIN = js.constant(1.0).take(5) >> js.constant(0.1)


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        (CHAIN.shift(3), 8),
        (CHAIN.shift(-2), 3),
        (CHAIN.hold(4), 20),
        (CHAIN.faster(2), 3),
        (CHAIN.faster(0.3), 17),
        (CHAIN.take(8), 5),
        (CHAIN + 0.5, 5),
        (2 * CHAIN.shift(3).clip(0.0), 8),
    ],
    ids=repr,
)
def test_a_chain_read_at_other_times_jumps_there(schedule, at):
    values = np.asarray(schedule(np.arange(30)))
    assert (np.flatnonzero(np.diff(values)) + 1).tolist() == [at]
    (jump,) = schedule._joins()
    assert (jump.step, jump.before, jump.after) == (at, values[at - 1], values[at])
    assert [(x.start, x.end) for x in schedule._phases(30)] == [(0, at), (at, 30)]
    assert f"at step {at}" in str(js.describe(schedule))


def test_a_piece_that_is_never_reached_is_no_phase():
    assert [x[:2] for x in CHAIN.take(3)._phases(30)] == [(0, 30)]
    cycles = js.cosine(1.0, 0.0, 10).cycle().shift(4)._phases(30)
    assert [x[:2] for x in cycles] == [(0, 14), (14, 24), (24, 30)]
