"""Every rule and guard decides alike on all devices, of two processes too: see `processes.py`."""

import launch
import numpy as np
import processes
import pytest
from processes import FAULTS, OUTLIERS, RTOL, STYLES

from jaxsched._rules._events import EVENTS


@pytest.fixture(scope="module")
def two():
    return processes.started()


@pytest.fixture(scope="module")
def one():
    return processes.all_runs(processes.mesh_of(8))


def floats(texts):
    return [float.fromhex(x) for x in texts]


def assert_same_decisions(run, other):
    """The same events at the same steps, and the same rates but for rounding."""
    assert run["events"] == other["events"]
    np.testing.assert_allclose(floats(run["rates"]), floats(other["rates"]), rtol=RTOL)
    np.testing.assert_allclose(*(float.fromhex(x["norm"]) for x in (run, other)), rtol=RTOL)


def test_two_processes_did_the_same_to_the_last_bit(two):
    first, second = two
    for style in STYLES:
        for fault in FAULTS:
            assert first[style][fault] == second[style][fault]
    assert first.keys() == {*STYLES}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", FAULTS)
def test_two_processes_do_what_one_does(two, one, style, fault):
    assert_same_decisions(two[0][style][fault], one[style][fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_eight_devices_do_what_one_does(one, fault):
    assert_same_decisions(one["jit"][fault], processes.on_one_device()[fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_devices_with_losses_of_their_own_do_what_they_do_with_one(one, fault):
    assert_same_decisions(one["jit"][fault], one["shard_map"][fault])


@pytest.mark.parametrize("style", STYLES)
def test_every_rule_and_every_guard_acted(two, style):
    run = two[0][style]["none"]
    assert run["events"][-1].keys() == {*EVENTS}
    assert all(count for name, count in run["events"][-1].items() if name != "mixed")
    rules = run["factors"]
    counts = {"cuts", "raises", "spikes"}
    assert all(x for rule in rules.values() for name, x in rule.items() if name in counts)
    assert counts <= {name for rule in rules.values() for name in rule}
    assert abs(rules["hypergradient"]["scale"] - 1) > 0.1
    assert abs(rules["feedback"]["memory"] - 1) > 0.1
    assert len(set(run["rates"])) > processes.STEPS // 2


@pytest.mark.parametrize("style", STYLES)
def test_all_devices_skip_or_none(two, style):
    """One process sees NaN, or one device a spike: the step is left out everywhere."""
    calm, process, device = (two[0][style][fault] for fault in FAULTS)
    at = FAULTS["process"][0]
    for run in (process, device):
        assert skipped(run) == sorted([*skipped(calm), at]) and at not in skipped(calm)
        assert run["rates"][:at] == calm["rates"][:at]
    assert OUTLIERS in skipped(calm)
    # Of a step that was left out nothing remains but that it was, and a spike among the latest.
    assert process["rates"] == device["rates"] and process["params"] == device["params"]
    assert process["state"] != device["state"]


def skipped(run):
    counts = [0, *(events["skips"] for events in run["events"])]
    return list(np.flatnonzero(np.diff(counts)))


def test_processes_that_hang_are_ended_and_heard(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text("import time\n\nwhile True:\n    time.sleep(60)\n")
    with pytest.raises(RuntimeError, match=r"hung for 0.3 s:\n-- process 0\n"):
        launch.started(str(script), timeout=0.3)
