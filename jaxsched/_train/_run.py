"""A run, from its settings to its files."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from jaxsched._extra import extra
from jaxsched._train import _report, _settings
from jaxsched._train._checkpoint import Checkpoints
from jaxsched._train._data import digits
from jaxsched._train._folder import Folder
from jaxsched._train._history import COLUMNS, History, restarts
from jaxsched._train._loop import epoch, start
from jaxsched._train._picture import draw
from jaxsched._train._settings import Settings

EXTRAS = ("sklearn", "matplotlib", "orbax.checkpoint", "rich")


def require_extras() -> None:
    """Fail before the training, not after it."""
    for module in EXTRAS:
        extra(module)


def run(
    settings: Settings, folder: Folder, *, resume: bool, until: int, checkpoint_every: int
) -> None:
    """Train, and write down what happened.

    Args:
      settings: what to compute.
      folder: where to write.
      resume: continue from the newest checkpoint.
      until: stop after this many epochs, of the settings' own at most.
      checkpoint_every: epochs from one checkpoint to the next; there is always one at the end.
    """
    data, metric = digits(), _settings.metric(settings)
    first_key, key = jax.random.split(jax.random.key(settings.seed))
    state, history = start(_settings.transform(settings), data, first_key), History.empty()
    until, began = min(until, settings.epochs), time.perf_counter()
    with Checkpoints(folder.checkpoints) as checkpoints:
        if resume:
            state, history = checkpoints.newest(state)
        with _report.progress(history.epochs, settings.epochs) as show:
            for done in range(history.epochs + 1, until + 1):
                state, steps, judged = epoch(
                    state, data, key, batch_size=settings.batch_size, metric=metric
                )
                history = history.then(*steps, *judged)
                show(history)
                if done % checkpoint_every == 0 or done == until:
                    checkpoints.save(done, state, history)
    _finish(settings, folder, history, state.params, time.perf_counter() - began)


def _finish(
    settings: Settings, folder: Folder, history: History, params: Any, seconds: float
) -> None:
    schedule, plateau = _settings.schedule(settings), _settings.plateau(settings)
    scheduled = np.asarray(schedule(np.arange(history.steps)))
    again = restarts(scheduled)
    folder.write_metrics(history.rows(), COLUMNS)
    draw(folder.picture, history, scheduled, again)
    name, arguments = settings.optimizer
    _report.summary(
        {
            "schedule": str(schedule),
            "plateau": str(plateau) if plateau is not None else "none",
            "optimizer": f"{name} {arguments or ''}".rstrip(),
            "model": f"{sum(x.size for x in jax.tree.leaves(params))} parameters",
            **_report.measured(history, again),
            "time": f"{seconds:.1f} s, compilation and checkpoints included",
            "files": "\n".join(map(str, (folder.metrics, folder.picture, folder.checkpoints))),
        }
    )
