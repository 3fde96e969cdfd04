"""Every case of the libraries without a twin, on its text; and the page that shows them."""

import collections

import numpy as np
import peers
import portability
import pytest
from portability import BY_NUMBERS, CASES, DEFECTS, HERE, MOMENTUM, PEERS, REMARKS, UNITS

import jaxsched as js
from jaxsched import testing

RTOL, ATOL = 2e-6, 1e-8
LAST = 2**31 - 1

COUNTS = {
    "big_vision": 7,
    "composer": 22,
    "fairseq": 15,
    "fastai": 9,
    "levanter": 11,
    "mmengine": 16,
    "praxis": 17,
    "pytorch_warmup": 5,
    "scenic": 10,
    "t5x": 9,
    "thinc": 7,
    "torchtitan": 4,
}
STATEFUL = [case for case in CASES if "metrics" in case]
PURE = [case for case in CASES if "metrics" not in case]


def by_id(cases):
    return [pytest.param(case, id=case["id"]) for case in cases]


def wanted(case, steps):
    """The peer's numbers, and what is right where they are wrong."""
    defect = DEFECTS.get(case["id"])
    if defect is None:
        return peers.expected(case)
    right = defect.right(steps.astype(float))
    if "raises" in case:
        return right
    return np.where(np.isin(steps, defect.steps), right, peers.expected(case))


def close(got, want, scale):
    np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL * scale)


@pytest.mark.parametrize("case", by_id(PURE))
def test_a_text_has_its_peers_numbers(case):
    steps = np.asarray(case["steps"] or range(24))
    want = wanted(case, steps)
    # Long past its end it is a rate still.
    *got, late, last = np.asarray(portability.said(case)(np.asarray([*steps, 10_000, LAST])))
    close(got, want, case["base_lr"] or np.max(want))
    assert 0 <= late < np.inf and 0 <= last < np.inf


@pytest.mark.parametrize("case", by_id(STATEFUL))
def test_a_stateful_text_has_its_peers_numbers(case):
    got = peers.reported(portability.said(case), peers.numbers(case["metrics"]))
    close(got, peers.expected(case), case["base_lr"])


def test_no_case_is_left_out():
    later = {"lr_finder"}
    files = {file.stem for file in peers.VECTORS.glob("*.json")}
    assert set(PEERS) == files - set(peers.TWINS) - later == set(COUNTS)
    assert collections.Counter(case["peer"] for case in CASES) == COUNTS
    assert list(HERE) == [case["id"] for case in CASES if case["id"] in HERE]
    assert set(HERE) == {case["id"] for case in CASES} and len(HERE) == 132
    assert {case["id"] for case in CASES if "momentum" in case} == set(MOMENTUM)
    assert {case["id"] for case in CASES if "raises" in case} <= set(DEFECTS)
    assert set(DEFECTS) | set(REMARKS) | set(BY_NUMBERS) <= set(HERE) and set(UNITS) <= set(PEERS)


@pytest.mark.parametrize("case", by_id(case for case in CASES if case["id"] in DEFECTS))
def test_what_is_not_followed_is_different(case):
    defect, steps = DEFECTS[case["id"]], np.asarray(case["steps"])
    if "raises" in case:
        assert case["raises"]["at_step"] == 0 and not defect.steps and case["values"] == []
        return
    there = np.isin(steps, defect.steps)
    assert np.sum(there) == len(defect.steps) > 0
    theirs, right = peers.expected(case)[there], defect.right(steps.astype(float))[there]
    assert not np.any(np.isclose(theirs, right, rtol=RTOL, atol=ATOL * np.max(np.abs(right))))


@pytest.mark.parametrize("case", by_id(case for case in CASES if "momentum" in case))
def test_a_momentum_has_its_peers_numbers(case):
    momentum = js.parse(MOMENTUM[case["id"]])
    np.testing.assert_allclose(momentum(np.asarray(case["steps"])), case["momentum"], rtol=RTOL)


@pytest.mark.parametrize("case", by_id(CASES))
def test_what_a_text_prints_is_the_same_schedule(case):
    schedule = portability.said(case)
    testing.assert_same(js.parse(repr(schedule)), schedule)


def test_the_page_is_the_one_that_is_generated():
    written = portability.PAGE.read_text()
    assert written == portability.page(), "write it again: `python tests/tools/portability.py`"
