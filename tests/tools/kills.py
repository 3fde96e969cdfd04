"""SIGKILL at any moment of a run, and whether the run came to the same end."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from zygote import PATIENCE, Ended, Process, Zygote

from jaxsched._commands._training._checkpoint import HALF
from jaxsched._commands._training._folder import Folder

EPOCHS = 36
RUN = [
    "train", "--epochs", str(EPOCHS), "--batch-size", "64",
    "--optimizer", "sgd", "momentum=0.9",
    "--schedule", "linear(0.2, 0.0, 792) * reduce_on_plateau(patience=1, rtol=0.1)",
    "--with", "skip_spikes(sigmas=2.0, window_size=8)", "keep_best(backtrack=True)",
]  # fmt: skip
KILLS = 20  # of one run, each of which may take it two epochs on
MOMENTS = ("start-up", "training", "writing")  # of the random kills, in turns
DURATIONS = {"training": 0.04, "writing": 0.15}  # seconds; at random within them


class Run:
    """A run in a folder, started again as often as it takes."""

    def __init__(self, zygote: Zygote, path: Path) -> None:
        self._zygote, self.folder = zygote, Folder(path)

    def start(self, *more: str, every: int = 1, **how: Any) -> Process:
        """Begin it, or go on with it."""
        words = ["train", "--resume"] if self.folder.settings.exists() else RUN
        words = [*words, "--checkpoint-every", str(every), "--out", str(self.folder.path), *more]
        return self._zygote.start(words, **how)

    def finish(self, *more: str) -> Ended:
        """Go on with it to its end."""
        ended = self.start(*more, every=6).wait()
        assert ended.code == 0, ended.err
        return ended

    @property
    def newest(self) -> int:
        """The last checkpoint that has its name; 0 if there is none."""
        return self.newest_of(self.folder)

    @staticmethod
    def newest_of(folder: Folder) -> int:
        """The same of any folder."""
        names = [path.name for path in folder.checkpoints.glob("*") if path.is_dir()]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    @property
    def halves(self) -> set[tuple[str, int]]:
        """The checkpoints that have not got their name yet."""
        found: set[tuple[str, int]] = set()
        for path in self.folder.checkpoints.glob(HALF):
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_ino))
        return found


def killed_at_random(run: Run, kills: int, seed: int) -> list[str]:
    """One run, killed so often, and then ended: at what.

    A third of the kills is at any moment of the start-up, a third from a whole checkpoint on,
    within the epochs to the next, a third within the writing of one. However late a kill comes, it
    finds the process: that waits for it where its third ends.
    """
    assert kills <= KILLS, f"a run of {EPOCHS} epochs can be killed {KILLS} times"
    rng, start_up = random.Random(seed), 1.0
    fell: list[str] = []
    while len(fell) < kills:
        newest, halves, moment = run.newest, run.halves, MOMENTS[len(fell) % len(MOMENTS)]
        ends = WRITTEN if moment == "writing" and len(fell) % 2 else ENDS[moment]
        process = run.start(every=2, at=ends, sends=signal.SIGSTOP)
        if moment == "training":
            _wait(lambda was=newest: run.newest > was, process)
        if moment == "writing":
            start_up = _wait(lambda was=halves: run.halves - was, process)
        ended = process.after(rng.uniform(0, {**DURATIONS, "start-up": start_up}[moment]))
        assert run.newest >= newest, "a checkpoint is gone"
        assert ended.code == -9, ended.err
        fell.append(_stage(run, newest, halves))
    run.finish()
    return fell


def _stage(run: Run, newest: int, halves: set[tuple[str, int]]) -> str:
    """What a process was at when it died."""
    if run.halves - halves:
        return "writing a checkpoint"
    return "training" if run.newest > newest else "starting up"


def _wait(happened: Callable[[], Any], process: Process) -> float:
    """Until something has, or the process has ended: how long."""
    began = time.monotonic()
    while not happened() and not process.has_ended():
        assert time.monotonic() - began < PATIENCE, "nothing happens"
    return time.monotonic() - began


# Where a run is killed, and at which call: in this order all of them are on the way of one run.
EPOCH = "jaxsched._commands._training._run:epoch"
SAVE = "jaxsched._commands._training._checkpoint:Checkpoints"
COMMIT = "orbax.checkpoint:StandardCheckpointHandler.finalize"
STAGES: dict[str, tuple[str, int]] = {
    "before settings.json": ("jaxsched._commands._training._folder:Folder.write_settings", 1),
    "settings.json not yet in its place": ("os:replace", 1),
    "after settings.json, before an epoch": (EPOCH, 1),
    "before the first checkpoint is written": (f"{SAVE}.save", 1),
    "in the writing of the first checkpoint": (COMMIT, 1),
    "before a checkpoint is written": (f"{SAVE}.save", 3),
    "all of a checkpoint written but its name": (COMMIT, 2),
    "a checkpoint without its sum": (f"{SAVE}._write_sums", 2),
    "checksums.json not yet in its place": ("os:replace", 2),
    "the oldest half deleted": ("os:rmdir", 2),
    "half of metrics.csv": ("csv:DictWriter.writerows", 1),
    "metrics.csv whole, no picture": ("matplotlib.figure:Figure.savefig", 1),
    "picture.png not yet in its place": ("os:replace", 3),
    "all written, nothing told": ("jaxsched._commands._training._report:summary", 1),
}

# Where a process waits for a random kill: before its first checkpoint, beyond it, or at its end.
ENDS = {"start-up": (EPOCH, 2), "training": (EPOCH, 4), "writing": (EPOCH, 4)}
WRITTEN = (COMMIT, 2)


def killed_at_each_stage(run: Run) -> list[str]:
    """One run, killed at every place where something is half done, and then ended."""
    for stage, at in STAGES.items():
        newest = run.newest
        ended = run.start(every=1 if newest < 6 else 6, at=at).wait()
        assert ended.code == -9, f"{stage}: not killed, but {ended.code}\n{ended.err}"
        assert run.newest >= newest, f"{stage}: a checkpoint is gone"
    run.finish()
    return [*STAGES]


def signalled(run: Run) -> dict[str, list[str]]:
    """What is wrong after SIGTERM and SIGINT in the second epoch of a process."""
    found = {}
    for sent, code, saved in ((signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 0)):
        newest = run.newest
        ended = run.start(every=5, at=(EPOCH, 2), sends=sent).wait()
        found[sent.name] = [] if ended.code == code else [f"it ended with {ended.code}"]
        found[sent.name] += [] if len(ended.lines) == 1 else [f"it told {ended.lines}"]
        found[sent.name] += [] if run.newest == newest + saved else ["what was done is not saved"]
    run.finish()
    return found


def differences(run: Folder, whole: Folder) -> list[str]:
    """What of a run's end is not to the last bit what it is in another's: arrays, table."""
    found = [] if run.metrics.read_bytes() == whole.metrics.read_bytes() else ["metrics.csv"]
    ours, theirs = (_arrays(folder) for folder in (run, whole))
    found += sorted(ours.keys() ^ theirs.keys())
    found += [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    left = [str(path) for path in run.path.rglob(".*")] + [*run.checkpoints.glob(HALF)]
    return found + [f"{path} is left" for path in left]


def _arrays(folder: Folder) -> dict[str, tuple[Any, ...]]:
    """The arrays of the last checkpoint, by their names."""
    newest = folder.checkpoints / str(Run.newest_of(folder))
    found = {"epochs": (newest.name,)}
    for part in ("state", "history"):
        with ocp.StandardCheckpointer() as reader:
            tree = reader.restore(newest / part)
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            x = np.asarray(x)
            found[f"{part}{jax.tree_util.keystr(path)}"] = (x.dtype, x.shape, x.tobytes())
    return found


def copied(folder: Folder, path: Path) -> Folder:
    """The same, to do with as one likes."""
    return Folder(Path(shutil.copytree(folder.path, path)))


def told(stages: Iterable[str]) -> str:
    """How many fell where."""
    return ", ".join(f"{count} {stage}" for stage, count in Counter(stages).most_common())
