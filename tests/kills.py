"""SIGKILL at any moment of a run, and whether the run came to the same end."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from zygote import Process, Zygote

from jaxsched._train._checkpoint import HALF
from jaxsched._train._folder import Folder

EPOCHS = 24
RUN = [
    "train", "--epochs", str(EPOCHS), "--batch-size", "128", "--checkpoint-every", "1",
    "--optimizer", "sgd", "momentum=0.9",
    "--schedule", "linear(0.3, 0.0, 264) * reduce_on_plateau(patience=1, rtol=0.1)",
    "--with", "skip_spikes(sigmas=2.0, window_size=8)", "keep_best(backtrack=True)",
]  # fmt: skip
MOMENTS = ("start-up", "training", "writing")  # of the random kills, in turns
DURATIONS = {"start-up": 1.5, "training": 0.1, "writing": 0.2}  # seconds; at random within them
SECONDS = 60


class Run:
    """A run in a folder, started again as often as it takes."""

    def __init__(self, zygote: Zygote, path: Path) -> None:
        self._zygote, self.folder = zygote, Folder(path)

    def start(self, **how: Any) -> Process:
        """Begin it, or go on with it."""
        words = ["train", "--resume", "--checkpoint-every", "1"]
        words = words if self.folder.settings.exists() else RUN
        return self._zygote.start([*words, "--out", str(self.folder.path)], **how)

    def finish(self) -> None:
        """Go on with it to its end."""
        ended = self.start().wait()
        assert ended.code == 0, ended.err

    @property
    def steps(self) -> list[int]:
        """The checkpoints that have their name."""
        names = (path.name for path in self.folder.checkpoints.glob("*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def writing(self) -> bool:
        """Is there a checkpoint that has not got its name yet?"""
        return any(self.folder.checkpoints.glob(HALF))


class Killed(NamedTuple):
    """Where a kill fell, as the folder has it."""

    stage: str
    newest: int  # the checkpoint to go on from


def stage_of(run: Run, before: int) -> Killed:
    """What a process was at when it died."""
    newest = max(run.steps, default=0)
    if not run.folder.settings.exists():
        stage = "before settings.json"
    elif run.writing:
        stage = "in the writing of a checkpoint"
    elif run.folder.metrics.exists():
        stage = "in the report"
    else:
        stage = "in training" if newest > before else "in start-up"
    return Killed(stage, newest)


def killed_at_random(run: Run, kills: int, seed: int) -> list[Killed]:
    """One run, killed so often, and then ended.

    A third of the kills is at any moment of the start-up, a third within an epoch or the next
    checkpoint after one that is whole, a third within the writing of one.
    """
    rng, fell = random.Random(seed), []
    for kill in range(kills):
        before, moment = max(run.steps, default=0), MOMENTS[kill % len(MOMENTS)]
        process = run.start()
        if moment == "training":
            _wait(lambda was=before: max(run.steps, default=0) > was, process)
        if moment == "writing":
            _wait(lambda: run.writing, process)
        ended = process.after(rng.uniform(0, DURATIONS[moment]))
        if ended.code == -9:  # one that was faster has ended the run; going on ends it again
            fell.append(stage_of(run, before))
        else:
            assert ended.code == 0, ended.err
    run.finish()
    return fell


def _wait(happened: Callable[[], bool], process: Process) -> None:
    """Until something has, or the process has ended."""
    end = time.monotonic() + SECONDS
    while not happened() and not process.has_ended():
        assert time.monotonic() < end, "nothing happens"


# Where a run is killed, and at which call: in this order all of them are on the way of one run.
SAVE, COMMIT = "jaxsched._train._checkpoint:Checkpoints", "orbax.checkpoint"
STAGES: dict[str, tuple[str, int]] = {
    "before settings.json": ("jaxsched._train._folder:Folder.write_settings", 1),
    "settings.json not yet in its place": ("os:replace", 1),
    "after settings.json, before an epoch": ("jaxsched._train._run:epoch", 1),
    "before the first checkpoint is written": (f"{SAVE}.save", 1),
    "in the writing of the first checkpoint": (f"{COMMIT}:StandardCheckpointHandler.finalize", 1),
    "before a checkpoint is written": (f"{SAVE}.save", 3),
    "all of a checkpoint written but its name": (f"{COMMIT}:StandardCheckpointHandler.finalize", 2),
    "a checkpoint without its sum": (f"{SAVE}._write_sums", 2),
    "checksums.json not yet in its place": ("os:replace", 2),
    "the oldest half deleted": ("os:rmdir", 2),
    "half of metrics.csv": ("csv:DictWriter.writerows", 1),
    "metrics.csv whole, no picture": ("matplotlib.figure:Figure.savefig", 1),
    "picture.png not yet in its place": ("os:replace", 3),
    "all written, nothing told": ("jaxsched._train._report:summary", 1),
}


def killed_at_each_stage(run: Run) -> Counter[str]:
    """One run, killed at every place where something is half done, and then ended."""
    fell: Counter[str] = Counter()
    newest = 0
    for stage, at in STAGES.items():
        ended = run.start(at=at).wait()
        assert ended.code == -9, f"{stage}: not killed, but {ended.code}\n{ended.err}"
        assert max(run.steps, default=0) >= newest, f"{stage}: a checkpoint is gone"
        newest = max(run.steps, default=0)
        fell[stage] += 1
    run.finish()
    return fell


def differences(run: Folder, whole: Folder) -> list[str]:
    """What of a run's end is not, to the last bit, what it is in another's: the arrays, the table."""
    found = [] if run.metrics.read_bytes() == whole.metrics.read_bytes() else ["metrics.csv"]
    ours, theirs = (_arrays(folder) for folder in (run, whole))
    found += sorted(ours.keys() ^ theirs.keys())
    found += [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    left = [str(path) for path in run.path.rglob(".*")] + [*run.checkpoints.glob(HALF)]
    return found + [f"{path} is left" for path in left]


def _arrays(folder: Folder) -> dict[str, tuple[Any, ...]]:
    """The arrays of the last checkpoint, by their names."""
    newest = max(folder.checkpoints.glob("[0-9]*"), key=lambda path: int(path.name))
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
