"""Disks that are full, and folders that cannot be written in: how a run ends, and goes on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from kills import EPOCHS, Run, differences
from zygote import Ended, Zygote

from jaxsched._commands._training._folder import Folder

DISK_SIZES = {"the first checkpoint": "120k", "a later checkpoint": "560k"}


def lost(ended: Ended, run: Run, epochs: int = 0) -> list[str]:
    """What is wrong with an end for want of room: nothing, if it is one clear line and no more.

    Args:
      ended: how it ended.
      run: the run.
      epochs: how many it had saved; it has reported them, if there are any.
    """
    found = [] if ended.code == 2 else [f"it ended with {ended.code}"]
    found += [] if len(ended.lines) == 1 else [f"it told {ended.lines}"]
    found += [f"it told a traceback: {ended.err}"] if "Traceback" in ended.err else []
    found += [f"{path} is left" for path in run.folder.path.rglob(".*")]
    found += [f"{name} is left" for name, _ in run.halves]
    found += ["a checkpoint is gone"] if run.newest < epochs else []
    found += ["metrics.csv is gone"] if epochs and not run.folder.metrics.exists() else []
    return found


Found = dict[str, list[str]]  # what is wrong, by the case


def refused(run: Run) -> Found:
    """One run, to which its files are refused one after the other, and which then ends.

    A file that is too large, by `RLIMIT_FSIZE`, needs no rights; nor does a locked folder.
    """
    found = {"settings.json too large": lost(run.start(file_size=250).wait(), run)}
    found["first checkpoint too large"] = lost(run.start(file_size=20_000).wait(), run)
    run.finish("--stop-after", "6")
    found["later checkpoint too large"] = lost(run.start(file_size=20_000).wait(), run, 6)
    for name, folder in (("run", run.folder.path), ("checkpoints", run.folder.checkpoints)):
        folder.chmod(0o555)
        found[f"{name} locked"] = lost(run.start(powerless=True).wait(), run, 6)
        folder.chmod(0o755)
    ended = run.start(every=6, file_size=110_000).wait()
    found["picture.png too large"] = lost(ended, run, EPOCHS)
    run.finish()
    return found


@contextlib.contextmanager
def disk(path: Path, size: str) -> Generator[Callable[[str], None]]:
    """A disk of that size, and how to make it larger; PermissionError if we may not."""
    path.mkdir()

    def mount(options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(done.stderr.strip())

    mount(f"size={size}")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", str(path)], check=True)


def disks_full(
    zygote: Zygote, whole: Folder, folder: Path, when: Iterable[str] = DISK_SIZES
) -> Found:
    """A run on a disk that is full before the end, and is made larger then."""
    found: Found = {}
    for what in when:
        size = DISK_SIZES[what]
        with disk(folder / f"disk{size}", size) as larger:
            run = Run(zygote, folder / f"disk{size}" / "run")
            ended = run.start(every=3).wait()
            found[what] = lost(ended, run)
            found[what] += [] if bool(run.newest) == (what != "the first checkpoint") else ["when?"]
            larger("64m")
            run.finish()
            found[what] += differences(run.folder, whole)
    return found
