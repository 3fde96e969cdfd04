"""A run, from its settings to its files."""

from __future__ import annotations

import shlex
import time
from typing import Any

import numpy as np
from flax.training.train_state import TrainState

from jaxsched._commands._refused import RefusedError, StoppedError, warn
from jaxsched._commands._tasks._task import Task, checking
from jaxsched._commands._training import _report, _spoken
from jaxsched._commands._training._checkpoint import Checkpoints
from jaxsched._commands._training._folder import Folder
from jaxsched._commands._training._history import History
from jaxsched._commands._training._loop import epoch, start
from jaxsched._commands._training._picture import draw
from jaxsched._commands._training._settings import Settings
from jaxsched._commands._training._stop import heard
from jaxsched._commands._training._summary import Summary
from jaxsched._core._extra import extra
from jaxsched._core._padded import values_at
from jaxsched._diagnose._diagnose import diagnose
from jaxsched._look._curve import drawn
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._schedules._schedule import Schedule

EXTRAS = ("sklearn", "matplotlib", "orbax.checkpoint", "rich")


def require_extras() -> None:
    """Raise before the training if an extra is missing."""
    for module in EXTRAS:
        extra(module)


def run(
    settings: Settings,
    learning_rate: Schedule | Stateful,
    folder: Folder,
    task: Task,
    *,
    resume: bool = False,
    until: int | None = None,
    checkpoint_every: int = 5,
) -> None:
    """Train, and write the results.

    Args:
      settings: settings of the run; the text of the learning rate in it is not used.
      learning_rate: the schedule, stateful or not.
      folder: folder to write to.
      task: the model and its data.
      resume: whether to continue from the newest valid checkpoint; without one, the run starts.
      until: number of epochs after which to stop; None: all epochs of the settings.
      checkpoint_every: epochs between checkpoints; there is always one at the end.

    Raises:
      StoppedError: SIGTERM was received; the current epoch is saved.
    """
    folder.remove_partial()
    began = time.perf_counter()
    with Checkpoints(folder.checkpoints, settings) as checkpoints:
        state, history = _begun(settings, learning_rate, folder, task, checkpoints, resume=resume)
        last = settings.last_epoch or settings.epochs
        until = min(until or last, last)
        _warn_of_the_end(learning_rate, history, until)
        summary, word = Summary(folder, history.steps), _report.word(task)
        _, order, noise = _spoken.keys(settings.seed)
        with _report.progress(history.epochs, last, word) as show, heard() as asked_to_end:
            for done in range(history.epochs + 1, until + 1):
                with checking(task.name):
                    state, *measured = epoch(state, task, order, noise, learning_rate)
                history = _longer(history, *measured)
                show(history)
                ending = asked_to_end() and done < until
                if done % checkpoint_every == 0 or done == until or ending:
                    checkpoints.save(done, state, history)
                    folder.write_metrics(history.rows(word), history.columns(word))
                    summary.note(state, history.steps)
                if ending:
                    raise StoppedError(f"ended by SIGTERM at epoch {done}: continue with --resume")
    folder.write_metrics(history.rows(word), history.columns(word))
    kept = _report.kept(state, task)
    summary.end(kept)
    restarts = _pictured(folder, learning_rate, history, task)
    _report.summary(
        {
            "schedule": str(learning_rate),
            "optimizer": settings.optimizer or "that of the task",
            **_report.described(task, history),
            **_report.measured(history, restarts, word),
            **kept,
            "diagnosis": str(diagnose(state)),
            "time": f"{time.perf_counter() - began:.1f} s, compilation and checkpoints included",
            "files": "\n".join(map(str, (folder.metrics, folder.picture, folder.checkpoints))),
            "a page": f"jaxsched report {shlex.quote(str(folder.path))}",
        }
    )


def _begun(
    settings: Settings,
    learning_rate: Schedule | Stateful,
    folder: Folder,
    task: Task,
    checkpoints: Checkpoints,
    *,
    resume: bool,
) -> tuple[TrainState, History]:
    """Return the state and the history that a run continues from."""
    tx = _spoken.transform(settings, learning_rate, task)
    state, history = start(tx, task), History.empty(task.metrics)
    if not resume:
        return state, history
    state, history = checkpoints.newest(state) or _from_the_start(folder, state, history)
    if history.epochs > (last := settings.last_epoch or settings.epochs):
        raise RefusedError(
            f"--epochs {last}: the run in {folder.path} has {history.epochs} already"
        )
    folder.write_settings(settings)  # if killed again, it is resumed to the same end
    return state, history


def _longer(history: History, by_step: Any, by_epoch: Any) -> History:
    """Return the history with another epoch, or raise if it is not as long as those before."""
    longer, epochs = history.then(by_step, by_epoch), history.epochs
    if epochs and longer.steps * epochs != history.steps * longer.epochs:
        raise RefusedError(
            f"epoch {longer.epochs} has {longer.steps - history.steps} batches, but the epochs "
            f"before have {history.steps // epochs}. Give every epoch the same number of batches"
        )
    return longer


def _warn_of_the_end(learning_rate: Schedule | Stateful, history: History, until: int) -> None:
    """Warn if a schedule has ended before the steps that follow."""
    schedule = still(learning_rate)
    if schedule.steps is None or not 0 < history.epochs < until:
        return
    if history.steps < int(schedule.steps):
        return
    warn(
        f"the schedule ended at step {int(schedule.steps)}, and stays at "
        f"{float(schedule(schedule.steps)):.3g} from there on. To train longer with a schedule, "
        "start another run with more --epochs"
    )


def _pictured(
    folder: Folder, learning_rate: Schedule | Stateful, history: History, task: Task
) -> np.ndarray:
    """Draw the run, and return the steps at which its schedule restarted."""
    [[curve]] = drawn([{"": learning_rate}], total_steps=history.steps)
    restarts = curve.restarts[curve.restarts < history.steps]
    scheduled = values_at(still(learning_rate), np.arange(history.steps))
    draw(folder.picture, history, scheduled, restarts, _report.judged_on(task))
    return restarts


def _from_the_start(
    folder: Folder, state: TrainState, history: History
) -> tuple[TrainState, History]:
    """Return the initial state for a run that ended before its first checkpoint."""
    if folder.metrics.exists():
        raise RefusedError(
            f"there is no checkpoint in {folder.checkpoints}, so there is nothing to resume. "
            "Start the run again with --force"
        )
    warn(f"there is no checkpoint in {folder.checkpoints} yet: the run starts from the beginning")
    return state, history
