"""The picture of a run: learning rate, losses, accuracy, and marked events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._commands._training._history import History
from jaxsched._core._extra import extra
from jaxsched._core._files import written
from jaxsched._look._colours import BLUE, GREY, SKY
from jaxsched._look._colours import EVENTS as COLOURS
from jaxsched._rules._events import EVENTS

MANY = 20


def draw(file: Path, history: History, scheduled: np.ndarray, restarts: np.ndarray) -> None:
    """Write the picture.

    Args:
      file: file to write, a PNG.
      history: measurements of the run.
      scheduled: values of the schedule alone, by step, as if no rule had acted.
      restarts: the steps at which the schedule restarted.
    """
    extra("matplotlib").use("Agg")
    plt: Any = extra("matplotlib.pyplot")
    found = {"restarts": restarts} | {name: history.when(name) for name in EVENTS}
    found = {name: steps for name, steps in found.items() if len(steps)}
    lane = 0.2 + 0.22 * len(found)
    figure, (top, lanes, middle, bottom) = plt.subplots(
        4, 1, figsize=(10, 10 + lane), sharex=True, height_ratios=(3, lane, 3, 2),
        layout="constrained",
    )  # fmt: skip
    _rate(top, history, scheduled)
    _events(lanes, found)
    _losses(middle, history)
    _accuracy(bottom, history)
    for panel in (top, middle, bottom):
        _lines(panel, found)
        panel.grid(alpha=0.25)
        _legend(panel)
    for panel in (top, lanes, middle, bottom):
        panel.spines[["top", "right"]].set_visible(False)
    bottom.set_xlabel("optimizer step")
    bottom.set_xlim(0, 1.01 * history.steps)
    written(file, lambda stream: figure.savefig(stream, dpi=120, format="png"))
    plt.close(figure)


def _rate(panel: Any, history: History, scheduled: np.ndarray) -> None:
    panel.plot(scheduled, color=GREY, lw=1.2, ls=(0, (4, 2)), label="schedule alone")
    panel.plot(history.learning_rate, color=BLUE, lw=2, label="learning rate used")
    panel.set_ylabel("learning rate")
    panel.set_ylim(bottom=0 if scheduled.min() >= 0 else None)


def _losses(panel: Any, history: History) -> None:
    panel.plot(history.train_loss, color=SKY, lw=0.8, alpha=0.7, label="training, each step")
    panel.plot(
        history.last_steps, history.val_loss, color=BLUE, lw=1.8, marker="o", ms=4,
        label="validation, each epoch",
    )  # fmt: skip
    panel.set_yscale("log")
    panel.set_ylabel("loss")


def _accuracy(panel: Any, history: History) -> None:
    label = f"validation, each epoch: {history.val_accuracy[-1]:.1%} at the end"
    panel.plot(
        history.last_steps, history.val_accuracy, color=BLUE, lw=1.8, marker="o", ms=4, label=label
    )
    panel.yaxis.set_major_formatter(extra("matplotlib.ticker").PercentFormatter(1.0))
    panel.set_ylabel("accuracy")


def _events(panel: Any, found: dict[str, np.ndarray]) -> None:
    """Draw the events, one row for each kind."""
    panel.tick_params(axis="y", length=0)
    panel.set_yticks([])
    if not found:
        panel.text(0.01, 0.5, "nothing happened", transform=panel.transAxes, va="center")
        return
    rows = range(len(found))
    colours = [COLOURS[name] for name in found]
    panel.eventplot(list(found.values()), lineoffsets=rows, linelengths=0.7, colors=colours)
    labels = [
        f"{len(steps)} {name if len(steps) > 1 else name.removesuffix('s')}"
        for name, steps in found.items()
    ]
    panel.set_yticks(rows, labels)
    panel.set_ylim(len(found) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.25)


def _lines(panel: Any, found: dict[str, np.ndarray]) -> None:
    """Mark restarts, cuts and raises of the rate, unless there are too many."""
    for event, style in (("restarts", "--"), ("cuts", ":"), ("raises", ":")):
        steps = found.get(event, ())
        for n, step in enumerate(steps if len(steps) <= MANY else ()):
            label = None if n else event.removesuffix("s")
            panel.axvline(step, color=COLOURS[event], ls=style, lw=1.6, label=label)


def _legend(panel: Any) -> None:
    """Put the legend in a row above the panel, where there are no curves."""
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, borderaxespad=0.2)
