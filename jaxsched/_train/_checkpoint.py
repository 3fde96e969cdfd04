"""Checkpoints by Orbax, each written whole or not at all: the state, and the metrics so far."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsched._extra import extra
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

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, epochs: int, state: Any, history: History) -> None:
        """Write one; the oldest goes when there are more than a few."""
        measured, args = history._asdict(), self._orbax.args
        parts = args.Composite(
            state=args.StandardSave(state),
            history=args.StandardSave(measured),
            digest=args.JsonSave(digest(state, measured)),
        )
        self._manager.save(epochs, args=parts)

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
        args = self._orbax.args
        parts = args.Composite(
            state=args.StandardRestore(jax.eval_shape(lambda: like)),
            history=args.StandardRestore(),
            digest=args.JsonRestore(),
        )
        try:
            found = self._manager.restore(epochs, args=parts)
            if found["digest"] != digest(found["state"], found["history"]):
                raise ValueError("its numbers are not those that were written")
            return found["state"], History(**found["history"]).then(*History.empty())
        except Exception as error:  # whatever a damaged file makes of a reader
            where = self._directory / str(epochs)
            raise RefusedError(
                f"the checkpoint {where} cannot be read ({_first_line(error)}). "
                "Delete it to continue from the one before"
            ) from error


def digest(*trees: Any) -> str:
    """What two trees share if they are the same, bit for bit: the files have no checksum."""
    leaves = map(np.asarray, jax.tree.leaves(trees))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
