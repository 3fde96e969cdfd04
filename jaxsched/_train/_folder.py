"""The folder of a run, and its files, each replaced whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxsched._train._refused import RefusedError
from jaxsched._train._settings import Settings


class Folder:
    """Where a run writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.csv"
        self.picture = path / "picture.png"
        self.summary = path / "summary.json"
        self.report = path / "report.html"

    def begin(self, settings: Settings, *, force: bool) -> None:
        """Make it this run's, unless there is another run in it."""
        if self.settings.exists() and not force:
            raise RefusedError(
                f"there is a run in {self.path}: go on with it by --resume, replace it by --force, "
                "or give another --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise RefusedError(f"--out {self.path} is not a directory")
        ours = self.settings, self.metrics, self.picture, self.summary, self.report
        # Nothing else here is ours. The settings go first: half a run is none.
        for file in ours:
            file.unlink(missing_ok=True)
        if self.checkpoints.exists():
            shutil.rmtree(self.checkpoints)
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_settings(settings)

    def write_settings(self, settings: Settings) -> None:
        """What a later `--resume` goes by."""
        text = json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
        written(self.settings, lambda file: file.write_text(text))

    def read_settings(self) -> Settings:
        """The settings that the run was started with."""
        if not self.settings.exists():
            raise RefusedError(f"there is no run in {self.path}: nothing to resume")
        try:
            return Settings(**json.loads(self.settings.read_text()))
        except (ValueError, TypeError) as error:
            raise RefusedError(f"{self.settings} is damaged: {error!r}") from error

    def write_metrics(self, rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> None:
        """One row a step."""

        def write(file: Path) -> None:
            with file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        written(self.metrics, write)


def written(file: Path, write: Callable[[Path], object]) -> None:
    """Write beside it, then take its place: no reader ever sees half a file."""
    partial = file.with_name(f".{file.name}")
    try:
        write(partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())  # on the disk before it has the name
        os.replace(partial, file)
    except OSError as error:
        raise RefusedError(f"{file} cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)
