"""Nothing is lost: of a run that is killed, damaged, starved of room, stopped."""

import gc
import sys

import jax
import pytest
from damage import DAMAGES, FOREIGN, SUMS, Patient, damaged, foreign, none_good, strangers
from damage import sums_damaged as sums
from kills import (
    EPOCHS,
    KILLS,
    STAGES,
    Run,
    copied,
    differences,
    killed_at_each_stage,
    killed_at_random,
    signalled,
)
from room import disks_full, refused
from zygote import Zygote

SAMPLE = 6
# Orbax leaves tasks behind when it cannot read, and they complain when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def _standard_promotion():
    """As the command has it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _collected():
    """The tasks of Orbax are collected here, and not during the test of another file."""
    yield
    heard, sys.unraisablehook = sys.unraisablehook, lambda _: None
    gc.collect()
    sys.unraisablehook = heard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def zygote(folder):
    with Zygote(folder) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def whole(zygote, folder):
    """The run that nothing happened to."""
    run = Run(zygote, folder / "whole")
    run.finish()
    return run.folder


@pytest.fixture(scope="module")
def patient(whole, folder):
    return Patient(whole, folder)


@pytest.mark.parametrize(
    "kills", [SAMPLE, pytest.param(KILLS, marks=pytest.mark.slow)], ids="{} kills".format
)
def test_killed_at_random_moments_a_run_ends_the_same(zygote, whole, folder, kills):
    run = Run(zygote, folder / f"random{kills}")
    fell = killed_at_random(run, kills, seed=0)
    assert len(fell) == kills
    assert {"starting up", "writing a checkpoint"} <= {*fell}
    assert differences(run.folder, whole) == []


def test_killed_at_every_stage_a_run_ends_the_same(zygote, whole, folder):
    run = Run(zygote, folder / "stages")
    assert killed_at_each_stage(run) == [*STAGES]
    assert differences(run.folder, whole) == []


def test_asked_to_end_a_run_saves_the_epoch(zygote, whole, folder):
    run = Run(zygote, folder / "signals")
    assert signalled(run) == {"SIGTERM": [], "SIGINT": []}
    assert differences(run.folder, whole) == []


def test_a_file_or_a_folder_that_is_refused_is_one_line(zygote, whole, folder):
    run = Run(zygote, folder / "refused")
    found = refused(run)
    assert len(found) == 6 and not any(found.values()), found
    assert differences(run.folder, whole) == []


def test_a_disk_that_is_full_is_one_line(zygote, whole, folder):
    try:
        found = disks_full(zygote, whole, folder, ["a later checkpoint"])
    except PermissionError as error:
        pytest.skip(f"no disk of our own here: {error}")
    assert found and not any(found.values()), found


def test_damage_to_every_kind_of_file_costs_one_checkpoint(patient):
    files = patient.files()
    assert len(files) > 15
    for seed, file in enumerate(files):
        for how in ("one bit", [*DAMAGES][1 + seed % (len(DAMAGES) - 1)]):  # all of them below
            found = damaged(patient, file, how, seed)
            assert (found.epochs, found.right, len(found.lines)) == (patient.before, True, 1), how
            assert f"/{patient.newest} cannot be used (its files have changed" in found.lines[0]


@pytest.mark.slow
def test_every_damage_to_every_kind_of_file_costs_one_checkpoint(patient):
    for seed, file in enumerate(patient.files()):
        for how in DAMAGES:
            found = damaged(patient, file, how, seed)
            assert (found.epochs, found.right, len(found.lines)) == (patient.before, True, 1), how


def test_damage_without_a_sum_never_changes_a_number(patient):
    for seed, file in enumerate(patient.files()):
        found = damaged(patient, file, "one bit", seed, sums=False)
        assert found.right and found.epochs >= patient.before, (file, found)
        assert len(found.lines) == (found.epochs == patient.before)


REASONS = {
    "of a run with another seed": "seed is 9, here 0",
    "of another optimizer": ".opt_state",
    "of other shapes": "is 'float32[64, 2]', here 'float32[64]'",
    "of other dtypes": "is 'bfloat16[64]', here 'float32[64]'",
    "of another epoch": "it is of epoch 3",
    "of another program": "it was not written by `jaxsched train`",
    "of no program": "it was not written by `jaxsched train`",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_checkpoint_is_put_aside(patient, what):
    for summed in (True, False):
        found = foreign(patient, what, summed)
        assert (found.epochs, found.right, len(found.lines)) == (patient.before, True, 1)
        assert REASONS[what] in found.lines[0]
        assert (patient.path / f"{patient.newest}.damaged").exists()


@pytest.mark.parametrize("what", SUMS)
def test_sums_that_are_damaged_cost_no_more_than_one_checkpoint(patient, what):
    found = sums(patient, what)
    expected = patient.newest if SUMS[what][1] else patient.before
    assert (found.epochs, found.right) == (expected, True)


def test_what_else_lies_about_is_left_alone(patient):
    found = strangers(patient)
    assert (found.epochs, found.right, found.lines) == (patient.newest, True, [])


def test_if_none_is_good_all_are_named(patient):
    found = none_good(patient)
    assert found.epochs == 0
    assert found.lines[0].count("its files have changed since they were written") == 2
    assert "--force" in found.lines[0]


def test_a_run_goes_on_from_the_one_before_to_the_same_end(zygote, whole, folder, tmp_path):
    run = Run(zygote, tmp_path / "run")
    copied(whole, run.folder.path)
    for kept in ("d", "ocdbt.process_0"):
        for file in (run.folder.checkpoints / str(EPOCHS) / "state" / kept).rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    ended = run.start().wait()
    assert ended.code == 0
    assert len(ended.lines) == 1 and f"continues from epoch {EPOCHS - 6}" in ended.lines[0]
    assert differences(run.folder, whole) == []
