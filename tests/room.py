"""Disks that are full, and folders that cannot be written in: how a run ends, and goes on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

from kills import Run, copied, differences
from zygote import Ended, Zygote

from jaxsched._train._folder import Folder

# The bytes that a file may have: every kind of file is too large under one of them.
FILE_SIZES = {"settings.json": 100, "a checkpoint": 20_000, "picture.png": 110_000}
DISK_SIZES = {"the first checkpoint": "120k", "a later checkpoint": "560k"}


def lost(ended: Ended, run: Run, before: Folder | None) -> list[str]:
    """What is wrong with an end for want of room: nothing, if it is one clear line and no more."""
    found = [] if ended.code == 2 else [f"it ended with {ended.code}"]
    found += [] if len(ended.lines) == 1 else [f"it told {ended.lines}"]
    found += ["it told a traceback"] if "Traceback" in ended.err else []
    found += [f"{path} is left" for path in run.folder.path.rglob(".*")]
    found += [f"{name} is left" for name, _ in run.halves]
    if before is not None:
        found += ["a checkpoint is gone"] if run.newest < Run.newest_of(before) else []
        whole = run.folder.metrics.exists() or not before.metrics.exists()
        found += [] if whole else ["metrics.csv is gone"]
    return found


Found = dict[str, list[str]]  # what is wrong, by the case


def files_too_large(zygote: Zygote, half: Folder, whole: Folder, folder: Path) -> Found:
    """A file of each kind that the disk does not take: `RLIMIT_FSIZE`, which needs no rights."""
    found: Found = {}
    for what, size in FILE_SIZES.items():
        run = Run(zygote, folder / what.replace(" ", "_"))
        if what != "settings.json":
            copied(half, run.folder.path)
        ended = run.start(every=3, file_size=size).wait()
        found[what] = lost(ended, run, None if what == "settings.json" else half)
        run.finish()
        found[what] += differences(run.folder, whole)
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


def disks_full(zygote: Zygote, whole: Folder, folder: Path) -> Found:
    """A run on a disk that is full before the end, and is made larger then."""
    found: Found = {}
    for what, size in DISK_SIZES.items():
        with disk(folder / f"disk{size}", size) as larger:
            run = Run(zygote, folder / f"disk{size}" / "run")
            ended = run.start(every=3).wait()
            found[what] = lost(ended, run, None)
            found[what] += [] if bool(run.newest) == (what != "the first checkpoint") else ["when?"]
            larger("64m")
            run.finish()
            found[what] += differences(run.folder, whole)
    return found


def folders_locked(zygote: Zygote, half: Folder, whole: Folder, folder: Path) -> Found:
    """A run in folders that may not be written in."""
    found: Found = {}
    for what in (".", "checkpoints"):
        run = Run(zygote, folder / f"locked_{what}")
        locked = copied(half, run.folder.path).path / what
        locked.chmod(0o555)
        ended = run.start(every=3, powerless=True).wait()
        locked.chmod(0o755)
        found[what] = lost(ended, run, half)
        run.finish()
        found[what] += differences(run.folder, whole)
    return found
