"""Terminal output: a progress bar while the run lasts, and a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from jaxsched._averages._kinds import horizon_of
from jaxsched._averages._reading import complete
from jaxsched._commands._tasks._batches import count, first
from jaxsched._commands._tasks._task import Task
from jaxsched._commands._training._history import History
from jaxsched._commands._training._loop import judged
from jaxsched._core._extra import extra
from jaxsched._rules._events import EVENTS
from jaxsched._state._readers import events
from jaxsched._state._remembered import best_params, snapshot_average

Show = Callable[[History], None]

# What an epoch is judged on, and the word before the names of its metrics.
WORDS = {"validation": "val", "training": "mean"}
BEST = {"loss": np.nanargmin, "accuracy": np.nanargmax}


def judged_on(task: Task) -> str:
    """Return the batches on which an epoch is judged: `validation`, or `training`."""
    return "training" if task.validation is None else "validation"


def word(task: Task) -> str:
    """Return the word before the names of the metrics of an epoch."""
    return WORDS[judged_on(task)]


def described(task: Task, history: History) -> dict[str, str]:
    """Return the rows with the sizes of the parameters and of the batches."""
    rows = {
        "model": f"{sum(x.size for x in jax.tree.leaves(task.params))} parameters",
        "batches": _batches(history.steps // max(history.epochs, 1), task.batch),
    }
    if task.validation is not None:
        rows["validation"] = _batches(count(task.validation), first(task.validation))
    return rows


def _batches(count: int, batch: Any) -> str:
    """Return the number of batches, and the shapes of the arrays in one."""
    shapes = ", ".join(str(np.shape(x)) for x in jax.tree.leaves(batch))
    return f"{count} an epoch, of shapes {shapes}"


@contextmanager
def progress(done: int, epochs: int, word: str) -> Generator[Show]:
    """Show a bar on stderr; call the yielded function with the history after every epoch.

    Args:
      done: number of epochs so far.
      epochs: number of all epochs.
      word: the word before the name of a metric, `val` or `mean`.
    """
    rich: Any = extra("rich.progress")
    console = extra("rich.console").Console(stderr=True)
    columns = (
        rich.TextColumn("epoch"),
        rich.MofNCompleteColumn(),
        rich.BarColumn(bar_width=24),
        rich.TextColumn("{task.description}"),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=console) as bar:
        task = bar.add_task(
            "compiling" if done < epochs else "finished", total=epochs, completed=done
        )
        yield lambda history: bar.update(
            task, completed=history.epochs, description=_now(history, word)
        )


def _now(history: History, word: str) -> str:
    metrics = (f"{word} {name} {shown(name, x[-1])}" for name, x in history.by_epoch.items())
    return "  ".join([f"rate {history.by_step['learning_rate'][-1]:.2e}", *metrics])


def shown(name: str, x: float) -> str:
    """Return a metric for a reader."""
    return f"{x:.2%}" if name == "accuracy" else f"{x:.4g}"


def summary(rows: dict[str, str]) -> None:
    """Print a table of two columns."""
    table = extra("rich.table").Table(show_header=False, box=extra("rich.box").SIMPLE_HEAVY)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    text = extra("rich.text").Text  # verbatim, because square brackets would be markup
    for name, value in rows.items():
        table.add_row(name, text(value))
    extra("rich.console").Console().print(table)


def measured(history: History, restarts: np.ndarray, word: str) -> dict[str, str]:
    """Return the rows of the table with the measurements of the run."""
    rate, scale = history.by_step["learning_rate"], history.by_step["scale"]
    return {
        "steps": f"{history.steps} in {history.epochs} epochs",
        "learning rate": f"{rate[0]:.3g} first, {rate.max():.3g} highest, {rate[-1]:.3g} last",
        "restarts": _steps(restarts),
        "cuts": f"{_steps(history.when('cuts'))}, final factor {scale[-1]:.3g}",
        **{name: _steps(history.when(name)) for name in EVENTS[1:] if len(history.when(name))},
        "train loss": f"{history.by_step['train_loss'][-1]:.4f} in the last step",
        **{f"{word} {name}": _epochs(name, x) for name, x in history.by_epoch.items()},
    }


def _epochs(name: str, values: np.ndarray) -> str:
    """Return the last value of a metric, and the best one if it is known which is better."""
    last = shown(name, values[-1])
    if name not in BEST or np.isnan(values).all():
        return last
    best = int(BEST[name](values))
    return f"{last}, best {shown(name, values[best])} in epoch {best + 1}"


def kept(state: TrainState, task: Task) -> dict[str, str]:
    """Return the rows for parameters that the optimizer has stored."""
    rows: dict[str, str] = {}
    happened = events(state)
    if task.validation is None:
        return rows
    if "restores" in happened:
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        # One more update, which is not applied, judges the last validation.
        settled = state.tx.update(zeros, state.opt_state, state.params)[1]
        rows["best kept"] = _judged(task, best_params(settled))
    if happened.get("snapshots", 0) > 0:
        rows["average of the snapshots"] = _judged(task, snapshot_average(state))
    for name, average in complete(state).items():
        horizon = horizon_of(name)
        title = name.replace("_", " ") if horizon is None else f"merged decay at {horizon}"
        rows[title] = _judged(task, optax.tree.cast_like(average, state.params))
    return rows


def _judged(task: Task, params: Any) -> str:
    """Return the metrics of parameters on the validation batches."""
    return ", ".join(f"val {name} {shown(name, x)}" for name, x in judged(task, params).items())


def _steps(steps: np.ndarray) -> str:
    shown = ", ".join(str(step) for step in steps[:12]) + (", ..." if len(steps) > 12 else "")
    return f"{len(steps)}" + (f" (at steps {shown})" if len(steps) else "")
