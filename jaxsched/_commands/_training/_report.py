"""Terminal output: a progress bar while the run lasts, and a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.training.train_state import TrainState

from jaxsched._commands._training._data import Digits
from jaxsched._commands._training._history import History
from jaxsched._commands._training._loop import judge, judge_together
from jaxsched._core._extra import extra
from jaxsched._rules._events import EVENTS
from jaxsched._state._readers import events
from jaxsched._state._remembered import best_params, snapshot_average, snapshots

Show = Callable[[History], None]


@contextmanager
def progress(done: int, epochs: int) -> Generator[Show]:
    """Show a bar on stderr; call the yielded function with the history after every epoch."""
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
        yield lambda history: bar.update(task, completed=history.epochs, description=_now(history))


def _now(history: History) -> str:
    return (
        f"rate {history.learning_rate[-1]:.2e}  val loss {history.val_loss[-1]:.4f}  "
        f"accuracy {history.val_accuracy[-1]:.1%}"
    )


def summary(rows: dict[str, str]) -> None:
    """Print a table of two columns."""
    table = extra("rich.table").Table(show_header=False, box=extra("rich.box").SIMPLE_HEAVY)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    text = extra("rich.text").Text  # verbatim, because square brackets would be markup
    for name, value in rows.items():
        table.add_row(name, text(value))
    extra("rich.console").Console().print(table)


def measured(history: History, restarts: np.ndarray) -> dict[str, str]:
    """Return the rows of the table with the measurements of the run."""
    best = int(np.nanargmin(history.val_loss)) if not np.isnan(history.val_loss).all() else 0
    rate = history.learning_rate
    return {
        "steps": f"{history.steps} in {history.epochs} epochs",
        "learning rate": f"{rate[0]:.3g} first, {rate.max():.3g} highest, {rate[-1]:.3g} last",
        "restarts": _steps(restarts),
        "cuts": f"{_steps(history.when('cuts'))}, final factor {history.scale[-1]:.3g}",
        **{name: _steps(history.when(name)) for name in EVENTS[1:] if len(history.when(name))},
        "train loss": f"{history.train_loss[-1]:.4f} in the last step",
        "val loss": f"{history.val_loss[-1]:.4f}, "
        f"best {history.val_loss[best]:.4f} in epoch {best + 1}",
        "val accuracy": f"{history.val_accuracy[-1]:.2%}, best {history.val_accuracy.max():.2%}",
    }


def kept(state: TrainState, data: Digits) -> dict[str, str]:
    """Return the rows for parameters that the optimizer has stored."""
    rows: dict[str, str] = {}
    happened = events(state)
    if "restores" in happened:
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        # One more update, which is not applied, judges the last validation.
        settled = state.tx.update(zeros, state.opt_state, state.params)[1]
        best = judge(best_params(settled), data)
        rows["best kept"] = f"val loss {best.loss:.4f}, accuracy {best.accuracy:.2%}"
    if happened.get("snapshots", 0) > 0:
        stacked = snapshots(state)
        mean = judge(snapshot_average(state), data)
        count = len(jax.tree.leaves(stacked)[0])
        rows["ensemble"] = f"{judge_together(stacked, data):.2%} of {count} snapshots"
        rows["their average"] = f"val loss {mean.loss:.4f}, accuracy {mean.accuracy:.2%}"
    return rows


def _steps(steps: np.ndarray) -> str:
    shown = ", ".join(str(step) for step in steps[:12]) + (", ..." if len(steps) > 12 else "")
    return f"{len(steps)}" + (f" (at steps {shown})" if len(steps) else "")
