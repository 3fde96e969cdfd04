"""The picture of a run: learning rate, losses, accuracy, and marked events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._commands._training._history import History
from jaxsched._commands._training._report import shown
from jaxsched._core._extra import extra
from jaxsched._look._colours import BLUE, GREY, SKY
from jaxsched._look._colours import EVENTS as COLOURS
from jaxsched._look._figure import figure, framed, saved
from jaxsched._rules._events import EVENTS

MANY = 20
EPOCHS: dict[str, Any] = {"lw": 1.8, "marker": "o", "ms": 4}


def draw(
    file: Path, history: History, scheduled: np.ndarray, restarts: np.ndarray, judged_on: str
) -> None:
    """Write the picture.

    Args:
      file: file to write, a PNG.
      history: measurements of the run.
      scheduled: values of the schedule alone, by step, as if no rule had acted.
      restarts: the steps at which the schedule restarted.
      judged_on: the batches on which an epoch was judged, in one word.
    """
    found = {"restarts": restarts} | {name: history.when(name) for name in EVENTS}
    found = {name: steps for name, steps in found.items() if len(steps)}
    lane = 0.2 + 0.22 * len(found)
    metrics = [name for name in history.by_epoch if name != "loss"]
    heights = (3, lane, 3, *(2 for _ in metrics))
    picture = figure(10, 2 + sum(heights))
    panels = picture.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    top, lanes, middle, *others = panels
    _rate(top, history, scheduled)
    _events(lanes, found)
    _losses(middle, history, judged_on)
    for name, panel in zip(metrics, others, strict=True):
        _metric(panel, history, name, judged_on)
    for panel in (top, middle, *others):
        _lines(panel, found)
        _legend(panel)
    framed(top, middle, *others)
    panels[-1].set_xlabel("optimizer step")
    panels[-1].set_xlim(0, 1.01 * history.steps)
    saved(picture, file)


def _rate(panel: Any, history: History, scheduled: np.ndarray) -> None:
    panel.plot(scheduled, color=GREY, lw=1.2, ls=(0, (4, 2)), label="schedule alone")
    used = history.by_step["learning_rate"]
    panel.plot(used, color=BLUE, lw=2, label="learning rate used")
    panel.set_ylabel("learning rate")
    panel.set_ylim(bottom=0 if scheduled.min() >= 0 else None)


def _losses(panel: Any, history: History, judged_on: str) -> None:
    losses = history.by_step["train_loss"]
    panel.plot(losses, color=SKY, lw=0.8, alpha=0.7, label="training, each step")
    label = f"{judged_on}, each epoch"
    panel.plot(history.last_steps, history.by_epoch["loss"], color=BLUE, label=label, **EPOCHS)
    if losses.min() > 0:
        panel.set_yscale("log")
    panel.set_ylabel("loss")


def _metric(panel: Any, history: History, name: str, judged_on: str) -> None:
    values = history.by_epoch[name]
    label = f"{judged_on}, each epoch: {shown(name, values[-1])} at the end"
    panel.plot(history.last_steps, values, color=BLUE, label=label, **EPOCHS)
    if name == "accuracy":
        panel.yaxis.set_major_formatter(extra("matplotlib.ticker").PercentFormatter(1.0))
    panel.set_ylabel(name)


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
    panel.spines[["top", "right"]].set_visible(False)
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
