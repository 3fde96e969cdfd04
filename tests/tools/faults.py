"""Everything that can go wrong with a run, done to it, and counted.

    python tests/tools/faults.py --kills 20 --examples 100

kills a run at random moments and at every stage, damages its checkpoints, takes its room away,
resumes with changed code, and draws schedules and texts at random. It exits 1 if anything is lost:
if a number of the end is another than that of the run that nothing happened to. The tests do the
same in `test_faults.py`, `test_resuming.py` and `test_drawn.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
from damage import (
    DAMAGES,
    FOREIGN,
    SUMS,
    Patient,
    damaged,
    foreign,
    none_good,
    strangers,
    sums_damaged,
)
from drawn import draw_schedules, draw_texts
from kills import KILLS, Run, differences, killed_at_each_stage, killed_at_random, signalled, told
from resuming import CASES
from room import disks_full, refused
from zygote import Zygote


class Count:
    """What was seen, and what of it was wrong."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self._began = time.monotonic()

    def say(self, what: str, text: str, lost: list[str]) -> None:
        """A line, at once."""
        self.lost += [f"{what}: {x}" for x in lost]
        print(f"{what:18} {text}; lost: {len(lost)}", flush=True)

    def end(self) -> int:
        """The last line, and the exit code."""
        seconds = time.monotonic() - self._began
        print(f"{'in all':18} {seconds:.0f} s; lost: {len(self.lost)}")
        for line in self.lost:
            print(f"  {line}", file=sys.stderr)
        return int(bool(self.lost))


def killed(count: Count, zygote: Zygote, whole: Run, folder: Path, kills: int, seed: int) -> None:
    """Kills and other signals."""
    for first in range(0, kills, KILLS):
        run = Run(zygote, folder / f"random{first}")
        fell = killed_at_random(run, min(kills - first, KILLS), seed + first)
        text = f"{len(fell)} of one run survived: {told(fell)}"
        count.say("random kills", text, differences(run.folder, whole.folder))
    run = Run(zygote, folder / "stages")
    fell = killed_at_each_stage(run)
    text = f"{len(fell)} of one run survived: {', '.join(fell)}"
    count.say("kills by stage", text, differences(run.folder, whole.folder))
    run = Run(zygote, folder / "signals")
    found = signalled(run)
    wrong = [x for lines in found.values() for x in lines]
    count.say("asked to end", ", ".join(found), wrong + differences(run.folder, whole.folder))


def corrupted(count: Count, patient: Patient, examples: int) -> None:
    """Damage to files, with their sums and without, and checkpoints of others."""
    for sums in (True, False):
        files, lost, used = patient.files(), [], Counter[str]()
        for seed in range(examples if not sums else 1):
            for file in files:
                for how in DAMAGES if sums else ("one bit",):
                    found = damaged(patient, file, how, seed, sums)
                    used["put aside" if found.epochs == patient.before else "harmless"] += 1
                    fine = (
                        found.right
                        and found.epochs
                        and (found.epochs, len(found.lines))
                        in (
                            (patient.before, 1),
                            (patient.newest, 0),
                        )
                    )
                    lost += [] if fine else [f"{file} {how}: {found}"]
        text = ", ".join(f"{n} {what}" for what, n in used.items())
        name = "damaged files" if sums else "without a sum"
        count.say(name, f"{used.total()} damages to {len(files)} kinds of file: {text}", lost)
    found = [foreign(patient, what, summed) for what in FOREIGN for summed in (True, False)]
    wrong = [str(x) for x in found if (x.epochs, x.right) != (patient.before, True)]
    text = f"{len(found)} checkpoints of other runs and programs put aside"
    count.say("others' files", text, wrong)
    found = [sums_damaged(patient, what) for what in SUMS] + [strangers(patient)]
    wrong = [str(x) for x in found if not (x.right and x.epochs)]
    count.say("checksums", f"{len(found)} damages to checksums.json and its folder", wrong)
    found = none_good(patient)
    text = "1 refused, with a line for each checkpoint"
    count.say("all damaged", text, [] if not found.epochs else [str(found)])


def starved(count: Count, zygote: Zygote, whole: Run, folder: Path) -> None:
    """No room, or no right, to write."""
    run = Run(zygote, folder / "refused")
    found = refused(run)
    try:
        found |= {
            f"full disk, {what}": x for what, x in disks_full(zygote, whole.folder, folder).items()
        }
    except PermissionError as error:
        print(f"{'':18} no full disk, since none may be mounted here: {error}")
    wrong = [f"{what}: {x}" for what, lines in found.items() for x in lines]
    text = f"{len(found)} ended in one line and were resumed: {', '.join(found)}"
    count.say("no room", text, wrong + differences(run.folder, whole.folder))


def changed(count: Count, folder: Path) -> None:
    """Resumed with other code."""
    lost = []
    for what, case in CASES.items():
        try:
            case(folder / "changed")
        except AssertionError as error:
            lost.append(f"{what}: {error}")
    count.say("changed code", f"{len(CASES)} resumed: {', '.join(CASES)}", lost)


def drawn(count: Count, examples: int) -> None:
    """Inputs at random."""
    for what, draw in (("schedules", draw_schedules), ("texts", draw_texts)):
        seen, lost = draw(examples)
        count.say(what, f"{seen} drawn", lost)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options, count = parser.parse_args(), Count()
    with tempfile.TemporaryDirectory() as name, Zygote(Path(name)) as zygote:
        folder = Path(name)
        whole = Run(zygote, folder / "whole")
        whole.finish()
        killed(count, zygote, whole, folder, options.kills, options.seed)
        starved(count, zygote, whole, folder)
        corrupted(count, Patient(whole.folder, folder), max(options.examples // 20, 1))
        changed(count, folder)
    drawn(count, options.examples)
    return count.end()


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(main())
