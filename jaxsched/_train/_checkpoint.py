"""Checkpoints by Orbax, each written whole or not at all: the state, and the metrics so far."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from jaxsched._extra import extra
from jaxsched._train._folder import written
from jaxsched._train._history import History
from jaxsched._train._refused import RefusedError

KEPT = 3


class Checkpoints:
    """The checkpoints of one run, by the number of epochs that it had then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._orbax: Any = extra("orbax.checkpoint")
        options = self._orbax.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
        self._manager: Any = self._orbax.CheckpointManager(self._directory, options=options)
        self._sums = self._directory / "checksums.json"

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, epochs: int, state: Any, history: History) -> None:
        """Write one; the oldest goes when there are more than a few."""
        args = self._orbax.args
        parts = args.Composite(
            state=args.StandardSave(state), history=args.StandardSave(history._asdict())
        )
        self._manager.save(epochs, args=parts)
        self._manager.wait_until_finished()  # what is summed is what is there
        sums = {**self._known_sums(), str(epochs): _sum(self._directory / str(epochs))}
        kept = {step: sums[step] for step in map(str, self._manager.all_steps()) if step in sums}
        written(self._sums, lambda file: file.write_text(json.dumps(kept)))

    def newest(self, like: Any) -> tuple[Any, History]:
        """The newest: a state like the one given, and the metrics until then."""
        epochs = self._manager.latest_step()
        if epochs is None:
            raise RefusedError(
                f"there is no checkpoint in {self._directory}: nothing to resume. "
                "Start the run again with --force"
            )
        return self._restored(int(epochs), like)

    def _restored(self, epochs: int, like: Any) -> tuple[Any, History]:
        where, args = self._directory / str(epochs), self._orbax.args
        parts = args.Composite(
            state=args.StandardRestore(jax.eval_shape(lambda: like)), history=args.StandardRestore()
        )
        try:
            # Before Orbax reads it: it does not notice every damage, and of what it does notice it
            # may print pages. One killed in the instant before its sum was written has none.
            if self._known_sums().get(str(epochs), _sum(where)) != _sum(where):
                raise ValueError("its files have changed since they were written")
            found = self._manager.restore(epochs, args=parts)
            return found["state"], History(**found["history"]).then(*History.empty())
        except Exception as error:  # whatever a damaged file makes of a reader
            raise RefusedError(
                f"the checkpoint {where} cannot be read ({_first_line(error)}). "
                "Delete it to continue from the one before"
            ) from error

    def _known_sums(self) -> dict[str, str]:
        return json.loads(self._sums.read_text()) if self._sums.exists() else {}


def _sum(directory: Path) -> str:
    """What changes when any file in it does."""
    total = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(directory)} {file.stat().st_size}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
