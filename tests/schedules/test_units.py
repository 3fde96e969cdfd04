"""`Units`: exact, amounts rounded down, fractions rounded up, and what it refuses."""

import dataclasses
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import jaxsched as js

RUN = js.Units(
    batch_size=32, dataset_size=1437, accumulation=2, sequence_length=128, total_steps=1000
)
few = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
counts = st.integers(1, 10**7)
decimals = st.decimals("0", "1e6", places=5)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (RUN.epochs(1), 22),  # 1437 / 64 = 22.45
        (RUN.epochs(90), 2020),  # not 90 * 22
        (RUN.epochs(0.5), 11),
        (RUN.examples(64), 1),
        (RUN.examples(6400), 100),
        (RUN.tokens(8192), 1),
        (RUN.tokens(2e10), 2441406),
        (RUN.fraction(0.3), 300),  # 0.3 * 1000 is 299.99999999999994 in some orders
        (RUN.fraction(0.29, of=100), 29),  # 0.29 * 100 is 28.999999999999996
        (RUN.fraction(1), 1000),
        (RUN.fraction(1.0, of=7), 7),
        (RUN.fraction(0), 0),
        (RUN.epochs(0), 0),
        (js.Units(batch_size=1, dataset_size=10).epochs(0.7), 7),  # 7.000000000000001 or 6.99...
        (js.Units(batch_size=32, dataset_size=1437, drop_remainder=True).epochs(40), 1760),
        (js.Units(batch_size=32, dataset_size=1437).epochs(40), 1796),
        (
            js.Units(batch_size=10, dataset_size=25, accumulation=4, drop_remainder=True).epochs(2),
            1,
        ),
    ],
)
def test_steps(steps, expected):
    assert steps == expected
    assert type(steps) is int


@few
@given(decimals, counts, counts, st.integers(1, 64), st.integers(1, 8192))
def test_a_budget_is_used_up_and_not_exceeded(amount, batch, data, accumulation, length):
    units = js.Units(
        batch_size=batch, dataset_size=data, accumulation=accumulation, sequence_length=length
    )
    n = float(amount)
    each = batch * accumulation
    for method, cost in (
        (units.examples, each),
        (units.tokens, each * length),
        (units.epochs, Fraction(each, data)),
    ):
        expected = math.floor(Fraction(repr(n)) / cost)
        if n and not expected:
            with pytest.raises(ValueError, match="make an optimizer step or more"):
                method(n)
        else:
            assert method(n) == expected
            assert expected * cost <= Fraction(repr(n)) < (expected + 1) * cost


@few
@given(st.integers(0, 10**4), st.integers(1, 10**6))
def test_a_percentage_is_what_is_written(hundredths, of):
    x = hundredths / 10**4
    assert RUN.fraction(x, of=of) == -(-hundredths * of // 10**4)  # rounded up


def test_any_real_number():
    for n in (3, 3.0, np.int64(3), np.float64(3), np.float32(3), Fraction(3)):
        assert RUN.epochs(n) == 67
    assert RUN.fraction(np.float32(0.3)) == 300
    assert RUN.examples(10**400) == 10**400 // 64


BAD = [-1, -0.5, math.nan, math.inf, "3", None, True, 1j, np.ones(2)]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("method", ["epochs", "examples", "tokens", "fraction"])
def test_a_bad_amount_is_named(method, bad):
    with pytest.raises(ValueError, match=rf"`Units.{method}\([nx]=...\)` must be a finite number"):
        getattr(RUN, method)(bad)


@pytest.mark.parametrize(("x", "of"), [(1.5, None), (2, 10), (0.5, 2.5), (0.5, -1), (0.5, True)])
def test_a_bad_fraction_is_named(x, of):
    with pytest.raises(ValueError, match=r"must be (in \[0, 1\]|an integer of at least 0), got"):
        RUN.fraction(x, of=of)


@pytest.mark.parametrize("bad", [0, -1, 2.5, 32.0, "32", True, np.ones(2, int), math.nan])
@pytest.mark.parametrize(
    "field", ["batch_size", "dataset_size", "accumulation", "sequence_length", "total_steps"]
)
def test_a_bad_field_is_named(field, bad):
    with pytest.raises(ValueError, match=rf"`Units\({field}=...\)` must be an integer"):
        js.Units(**{field: bad})


def test_other_bad_fields():
    with pytest.raises(ValueError, match="True or False, got drop_remainder=1"):
        js.Units(drop_remainder=1)
    with pytest.raises(ValueError, match="at least 1, got accumulation=None"):
        js.Units(accumulation=None)


@pytest.mark.parametrize(
    ("method", "units", "missing"),
    [
        ("epochs", js.Units(batch_size=1), "`epochs` needs `Units(dataset_size=...)`."),
        ("epochs", js.Units(), "`epochs` needs `Units(dataset_size=..., batch_size=...)`."),
        ("examples", js.Units(), "`examples` needs `Units(batch_size=...)`."),
        ("tokens", js.Units(batch_size=1), "`tokens` needs `Units(sequence_length=...)`."),
        ("fraction", js.Units(), "`fraction` needs `Units(total_steps=...)`."),
    ],
)
def test_a_missing_field_is_named(method, units, missing):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        getattr(units, method)(1)
    assert str(caught.value) == missing


def test_less_than_a_step_is_refused():
    with pytest.raises(ValueError, match=r"got n=0.01. It is 0.225 of one."):
        RUN.epochs(0.01)
    with pytest.raises(ValueError, match=r"got n=90. It is 0 of one."):
        js.Units(batch_size=64, dataset_size=32, drop_remainder=True).epochs(90)


def test_it_is_frozen_data():
    assert js.Units(**vars(RUN)) == RUN and hash(RUN) == hash(js.Units(**vars(RUN)))
    assert type(js.Units(batch_size=np.int64(3)).batch_size) is int
    with pytest.raises(AttributeError):
        RUN.batch_size = 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: js.linear(1.0, 0.0, 90.5), "got steps=90.5. Lengths are optimizer steps; convert"),
        (lambda: js.linear(1.0, 0.0, 1e5), "Write steps=100_000. Lengths are optimizer steps;"),
        (lambda: js.join([js.constant(1.0)] * 2, [0.5]), "; convert other units with"),
        (lambda: js.constant(1.0).take(np.float32(0.5)), "Lengths are optimizer steps"),
    ],
)
def test_a_bare_float_as_a_length_leads_here(call, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        call()
    assert said in str(caught.value)


def test_what_is_not_counted_in_steps_has_no_units():
    with pytest.raises(ValueError, match=r"got patience=2.5.$"):
        js.reduce_on_plateau(patience=2.5)


def test_the_short_batch_of_an_epoch():
    def steps(drop, **more):
        return js.Units(batch_size=32, dataset_size=1000, drop_remainder=drop, **more).epochs(90)

    assert (steps(True), steps(None), steps(False)) == (90 * 31, 90 * 1000 // 32, 90 * 32)
    assert steps(False, accumulation=4) == 90 * 32 // 4
    with pytest.raises(ValueError, match="drop_remainder"):
        js.Units(drop_remainder=0)


def test_an_epoch_may_end_with_a_step_of_what_is_left():
    loop = dict(batch_size=8, dataset_size=100, accumulation=4)
    for drop, whole, flushed in ((False, 9, 12), (True, 9, 9)):  # 13 and 12 batches in an epoch
        units = js.Units(**loop, drop_remainder=drop)
        assert units.epochs(3) == whole
        assert dataclasses.replace(units, flush_epoch=True).epochs(3) == flushed
    units = js.Units(**loop, drop_remainder=False, flush_epoch=True)
    assert units.epochs(2.5) == 10
    assert js.parse("linear(1.0, 0.0, 3ep)", units=units).steps == 12
    for bad in (dict(flush_epoch=1), dict(flush_epoch=None), dict(flush_epoch=True)):
        with pytest.raises(
            ValueError, match=r"`Units\(flush_epoch=.*(True or False|drop_remainder)"
        ):
            js.Units(**loop, **bad)


@pytest.mark.parametrize(
    ("text", "total", "steps"),
    [
        ("linear(1.0, 0.0, 10%)", 1005, [101]),
        ("linear(1.0, 0.0, 0.1%)", 10, [1]),
        ("linear(1.0, 0.0, 0%)", 10, [0]),
        ("warmup_linear(0.1, warmup_steps=10%)", 1005, [101, 904]),
        ("warmup_stable_decay(0.1, warmup_steps=10%, decay_steps=20%)", 1005, [101, 703, 201]),
        ("warmup_stable_decay(0.1, warmup_steps=12.5%, decay_steps=87.5%)", 1001, [126, 0, 875]),
        ("warmup_stable_decay(0.1, warmup_steps=1%, decay_steps=10%)", 10, [1, 8, 1]),
        ("bert(0.1)", 1005, [101, 904]),
        ("one_cycle(0.1)", 1005, [302, 703]),
        ("one_cycle(0.1, phases=3)", 1, [0, 0, 1]),
    ],
)
def test_a_part_of_a_run_is_rounded_up_to_a_step(text, total, steps):
    schedule = js.parse(text, units=js.Units(total_steps=total))
    assert [int(piece.steps) for piece in getattr(schedule, "pieces", [schedule])] == steps
    assert text.startswith("linear") or schedule.steps == total


def test_parts_of_more_than_everything_do_not_fit():
    with pytest.raises(ValueError, match="total_steps"):
        js.parse("warmup_stable_decay(0.1, total_steps=1000, warmup_steps=60%, decay_steps=60%)")
