"""The package against an interpreter of the algebra that shares no code with it."""

import random

import interpreter
import numpy as np
import pytest
from interpreter import Told, exactly, meaning
from random_programs import DEPTH, compare, disagreements, programs

import jaxsched as js

PROGRAMS = 300
SEED = 20

# Each changes one rule of the contract, as a faulty package would.
FAULTS = {
    "a boundary belongs to the piece before it": (
        interpreter.Then,
        "at",
        lambda self, t: next(
            (
                x.at(t - n)
                for n, x in reversed(list(zip(self.starts, self.children, strict=True)))
                if n < t
            ),
            self.children[0].at(t),
        ),
    ),
    "a held value changes a step late": (
        interpreter.Hold,
        "at",
        lambda self, t: self.child.at(max(t - 1, 0) // self.each),
    ),
    "the last cycle ends a step early": (
        interpreter.CycleWhole,
        "_start",
        lambda self, i: self.first * (self.mult ** min(i, 40) - 1) // (self.mult - 1) - (i == 3),
    ),
    "a shift goes the other way": (
        interpreter.Shift,
        "at",
        lambda self, t: self.child.at(min(max(t + self.by, 0), interpreter.LAST)),
    ),
    "a curve is off by two parts in a million": (
        interpreter.OneMinusSqrt,
        "weights",
        lambda self, done, left: (1 - done**0.5 * (1 - 4e-6), done**0.5 * (1 - 4e-6)),
    ),
}


def test_random_programs_are_worth_what_the_contract_says(capsys):
    report = compare(SEED, PROGRAMS)
    with capsys.disabled():
        print(f"\n{report.programs} programs, {report.values} values", end=" ")
    assert report.undecided < report.values / 20
    assert report.programs == PROGRAMS and report.values > 30 * PROGRAMS
    assert report.refused == []
    assert report.lost == [], "\n".join(map(str, report.lost[:20]))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault, monkeypatch):
    """What breaks one rule disagrees at a program that has this rule in it."""
    owner, name, wrong = FAULTS[fault]
    text = (
        "(one_minus_sqrt(3.0, 1.0, 5) >> linear(2.0, 0.0, 7).hold(3)).shift(4) "
        "+ one_minus_sqrt(1.0, 0.0, 5).cycle(mult=2, cycles=3)"
    )
    assert disagreements(text, random.Random(1)).lost == []
    monkeypatch.setattr(owner, name, wrong)
    assert disagreements(text, random.Random(1)).lost


def test_one_wrong_value_is_seen():
    """Also a value that is off by one part in 10,000 at a single step."""
    text = "cosine(1.0, 0.0, 1000).cycle(decay=0.5)"
    right = meaning(text)
    told = right.at

    def wrong(t):
        value, low, high = told(t)
        return Told(value, low * 1.0001, high * 1.0001) if t == 1001 else Told(value, low, high)

    right.at = wrong
    ((where,),) = [disagreements(text, random.Random(1), right=right).lost]
    assert where.at == 1001 and where.text == text


def test_intervals_are_narrow():
    """A tolerance that anything passes would prove nothing."""
    for text, step, width in (
        ("linear(0.3, 0.1, 7)", 3, 1.1e-6),
        ("cosine(1.0, 0.0, 100) * linear(1.0, 0.5, 9) + 3.0", 5, 3e-6),
        ("linear(1.0, 0.1, 9).cycle(mult=2, decay=0.5)", 100, 4e-6),
        ("inverse_sqrt(1.0, timescale=3.0).faster(2.5)", 7, 3e-6),
    ):
        value, low, high = meaning(text)(step)
        assert 0 < high - low < 2 * width * abs(value), text
    assert meaning("linear(0.3, 0.1, 7) >> constant(2.0)")(7) == exactly(2.0)
    assert meaning("linear(1.0, 24.0, 23)")(7) == exactly(8.0)
    assert meaning("piecewise_linear([0.0, 1.0], [3, 5])")(5) == exactly(1.0)


def test_what_is_drawn_has_everything_in_it():
    """Every name of the algebra occurs, and every depth; and a seed draws the same again."""
    texts = [text for _, text in programs(SEED, 2000)]
    assert texts[:50] == [text for _, text in programs(SEED, 50)]
    said = "\n".join(texts)
    methods = ["clip", "take", "shift", "faster", "hold", "stretch", "cycle", "integer", "on"]
    for name in [*interpreter.NAMES, *(f").{method}" for method in methods)]:
        assert f"{name}(" in said, name
    for sign in (
        ">>",
        " + ",
        " - ",
        " * ",
        " / ",
        " ** ",
        "(-",
        "mult=1.5",
        "mult=2",
        "mult=0.9",
        "decay=",
    ):
        assert sign in said, sign
    assert DEPTH == 6 and max(map(len, texts)) > 300


@pytest.mark.parametrize(
    ("text", "step", "value"),
    [
        # A clock that is faster by a real rate stands between the steps, where boundaries may be.
        ("piecewise_constant([1.0, 2.0], [0.5]).faster(0.75)", 1, 2.0),
        ("piecewise_linear([1.0, 2.0, 4.0, 5.0], [0.25, 0.5, 0.5, 3.0]).faster(0.5)", 1, 4.0),
        (
            "piecewise_cosine([3.0, 3.0, 7.0, 5.0], [1.25, 1.875, 56.25, 56.25]).faster(2.25)",
            25,
            5.0,
        ),
        # The sum of a chain's lengths is beyond the clock: what begins then never does.
        ("constant(1.0, 2147483647) >> constant(2.0, 5) >> constant(3.0)", 2147483647, 2.0),
        (
            "constant(1.0, 1073741824) >> constant(2.0, 1073741829) >> constant(3.0)",
            2147483647,
            2.0,
        ),
        (
            "join([constant(1.0), linear(7.0, 8.0, 2), table([4.0])], [2147483647, 2147483648])",
            2147483647,
            7.0,
        ),
        # A chain in a cycle of whole lengths has times between the steps too.
        ("(constant(0.5, 2) >> linear(1.0, 0.0, 2)).cycle(mult=3).faster(0.5)", 1, 0.5),
    ],
)
def test_what_random_programs_have_found(text, step, value):
    assert meaning(text)(step) == exactly(value)
    assert float(js.parse(text)(step)) == value
    assert float(js.parse(text)(np.asarray([step, step]))[0]) == value
