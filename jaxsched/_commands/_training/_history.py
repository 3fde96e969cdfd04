"""The measurements of a run so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxsched._rules._events import EVENTS

BY_STEP = ("learning_rate", "scale", "train_loss")


class History(NamedTuple):
    """Measurements by name."""

    by_step: dict[str, np.ndarray]  # float32: those of `BY_STEP`, and the running counts of events
    by_epoch: dict[str, np.ndarray]  # float32: the loss, and the metrics of the task

    @classmethod
    def empty(cls, metrics: tuple[str, ...] = ()) -> History:
        """Return an empty history of a task with these metrics."""
        nothing = np.zeros(0, np.float32)
        return cls(
            dict.fromkeys((*BY_STEP, *EVENTS), nothing), dict.fromkeys(("loss", *metrics), nothing)
        )

    def then(self, by_step: Mapping[str, Any], by_epoch: Mapping[str, Any]) -> History:
        """Return the history with the measurements of another epoch appended."""
        return History(_appended(self.by_step, by_step), _appended(self.by_epoch, by_epoch))

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return len(self.by_epoch["loss"])

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.by_step["train_loss"])

    @property
    def last_steps(self) -> np.ndarray:
        """The last step of each epoch."""
        return (np.arange(self.epochs) + 1) * (self.steps // max(self.epochs, 1)) - 1

    def when(self, event: str) -> np.ndarray:
        """Return the steps at which an event happened."""
        return np.flatnonzero(np.diff(self.by_step[event], prepend=0) > 0)

    def columns(self, word: str) -> tuple[str, ...]:
        """Return the names of the columns of a table; a word is before the metrics of an epoch."""
        return ("step", "epoch", *BY_STEP, *(f"{word}_{x}" for x in self.by_epoch), *EVENTS)

    def rows(self, word: str) -> Iterator[dict[str, Any]]:
        """Yield one row per step; numbers of an epoch are in the row of its last step."""
        epoch_of = {int(step): epoch for epoch, step in enumerate(self.last_steps)}
        length = self.steps // max(self.epochs, 1)
        for step in range(self.steps):
            row = {"step": step, "epoch": step // length + 1}
            row |= {name: self.by_step[name][step] for name in BY_STEP}
            row |= {name: int(self.by_step[name][step]) for name in EVENTS}
            if step in epoch_of:
                row |= {f"{word}_{k}": x[epoch_of[step]] for k, x in self.by_epoch.items()}
            yield row


def _appended(before: Mapping[str, np.ndarray], more: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.append(x, np.asarray(more[name], np.float32)) for name, x in before.items()}
