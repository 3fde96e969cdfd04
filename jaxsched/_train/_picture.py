"""The run as a picture: rate, losses, accuracy, with what happened to the rate marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._extra import extra
from jaxsched._train._folder import written
from jaxsched._train._history import History

# Okabe and Ito's colours, which differ for every kind of colour vision.
BLUE, SKY, ORANGE, GREEN, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7"
GREY = "#777777"


def draw(file: Path, history: History, scheduled: np.ndarray, restarts: np.ndarray) -> None:
    """Write the picture.

    Args:
      file: where to, a PNG.
      history: what was measured.
      scheduled: the schedule alone, by step, as if nothing had acted.
      restarts: the steps at which it started again.
    """
    extra("matplotlib").use("Agg")
    plt: Any = extra("matplotlib.pyplot")
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(10, 10), sharex=True, height_ratios=(3, 3, 2), layout="constrained"
    )
    _rate(top, history, scheduled)
    _losses(middle, history)
    _accuracy(bottom, history)
    for panel in (top, middle, bottom):
        _marks(panel, history, restarts)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        _legend(panel)
    bottom.set_xlabel("optimizer step")
    bottom.set_xlim(0, 1.01 * history.steps)
    written(file, lambda partial: figure.savefig(partial, dpi=120, format="png"))
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


def _marks(panel: Any, history: History, restarts: np.ndarray) -> None:
    for steps, colour, style, label in (
        (restarts, GREEN, "--", "restart"),
        (history.cuts, ORANGE, ":", "cut"),
        (history.raises, PURPLE, ":", "raise"),
    ):
        for i, step in enumerate(steps):
            panel.axvline(step, color=colour, ls=style, lw=1.6, label=label if i == 0 else None)


def _legend(panel: Any) -> None:
    """In a row above the panel, where no curve can be."""
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, borderaxespad=0.2)
