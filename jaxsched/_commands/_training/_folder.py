"""The folder of a run. Each of its files is replaced whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._training._saved import saved
from jaxsched._commands._training._settings import Settings
from jaxsched._core._files import read_json, remove_partial, write_text, written


class Folder:
    """The files that a run writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.csv"
        self.picture = path / "picture.png"
        self.summary = path / "summary.json"
        self.report = path / "report.html"

    def begin(self, settings: Settings, *, force: bool) -> None:
        """Take over the folder, unless it contains another run."""
        if self.settings.exists() and not force:
            raise RefusedError(
                f"there is a run in {self.path}: continue it with --resume, replace it with "
                "--force, or choose another --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise RefusedError(f"--out {self.path} is not a directory")
        if self.checkpoints.is_symlink():
            raise RefusedError(
                f"{self.checkpoints} is a link, whose target is not replaced: remove the link, or "
                "choose another --out"
            )
        ours = self.settings, self.metrics, self.picture, self.summary, self.report
        # Other files here are kept. The settings go first, so that half a run is not a run.
        for file in ours:
            file.unlink(missing_ok=True)
        if self.checkpoints.exists():
            shutil.rmtree(self.checkpoints)
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_settings(settings)

    def write_settings(self, settings: Settings) -> None:
        """Write the settings for a later `--resume`."""
        write_text(self.settings, json.dumps(dataclasses.asdict(settings), indent=2) + "\n")

    def remove_partial(self) -> None:
        """Remove files that a killed process has left unfinished."""
        for folder in (self.path, self.checkpoints):
            remove_partial(folder)

    def read_settings(self) -> Settings:
        """Return the settings that the run was started with."""
        if not self.settings.exists():
            raise RefusedError(f"there is no run in {self.path}: nothing to resume")
        try:
            return saved(read_json(self.settings))
        except ValueError as error:
            raise RefusedError(
                f"{self.settings} is damaged: {error}. Fix it, or start the run again with --force"
            ) from error

    def write_metrics(self, rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> None:
        """Write the metrics, one row per step."""

        def write(binary: BinaryIO) -> None:
            stream = io.TextIOWrapper(binary, "utf-8", newline="", write_through=True)
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            stream.detach()

        written(self.metrics, write)
