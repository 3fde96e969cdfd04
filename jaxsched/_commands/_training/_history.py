"""The measurements of a run so far."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxsched._rules._events import EVENTS

BY_STEP = ("learning_rate", "scale", "train_loss")
COLUMNS = ("step", "epoch", *BY_STEP, "val_loss", "val_accuracy", *EVENTS)


class History(NamedTuple):
    """Measurements, the last two by epoch, the others by step."""

    learning_rate: np.ndarray
    scale: np.ndarray
    train_loss: np.ndarray
    cuts: np.ndarray  # running counts, as for all events
    raises: np.ndarray
    spikes: np.ndarray
    skips: np.ndarray
    restores: np.ndarray
    snapshots: np.ndarray
    mixed: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray

    @classmethod
    def empty(cls) -> History:
        """Return an empty history."""
        return cls(*(np.zeros(0, np.float32) for _ in cls._fields))

    def then(self, *measured: Any) -> History:
        """Return the history with the measurements of another epoch appended."""
        pairs = zip(self, measured, strict=True)
        return History(*(np.append(a, np.asarray(b, np.float32)) for a, b in pairs))

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return len(self.val_loss)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.learning_rate)

    @property
    def last_steps(self) -> np.ndarray:
        """The last step of each epoch."""
        return (np.arange(self.epochs) + 1) * (self.steps // max(self.epochs, 1)) - 1

    def when(self, event: str) -> np.ndarray:
        """Return the steps at which an event happened."""
        return np.flatnonzero(np.diff(getattr(self, event), prepend=0) > 0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per step; validations are in the row of the last step of an epoch."""
        epoch_of = {int(step): epoch for epoch, step in enumerate(self.last_steps)}
        length = self.steps // max(self.epochs, 1)
        for step in range(self.steps):
            row = {"step": step, "epoch": step // length + 1}
            row |= {name: getattr(self, name)[step] for name in BY_STEP}
            row |= {name: int(getattr(self, name)[step]) for name in EVENTS}
            if step in epoch_of:
                row["val_loss"] = self.val_loss[epoch_of[step]]
                row["val_accuracy"] = self.val_accuracy[epoch_of[step]]
            yield row
