"""Draws the picture of the README from a run of `jaxsched train`.

jaxsched train && python docs/pictures/run.py runs/digits
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

from jaxsched._commands._reporting._panels import happened
from jaxsched._commands._reporting._run import run
from jaxsched._look._colours import BLUE, EVENTS, GREY, SKY

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(folder: Path, file: Path) -> None:
    """Draw the learning rate and the losses of a run, with its restarts and cuts."""
    found = run(folder)
    columns, restarts = found.log.columns, found.restarts
    cuts = next((x.steps for x in happened(columns, restarts) if x.kind == "cuts"), ())
    rate, train, valid = (columns[name] for name in ("learning_rate", "train_loss", "val_loss"))
    assert found.alone is not None, "the run has no schedule in its settings"

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 4.6), sharex=True, layout="constrained", height_ratios=(3, 2)
    )
    top.plot(*found.alone, color=GREY, lw=1.2, ls=(0, (4, 2)), label="schedule alone")
    top.plot(*rate, color=BLUE, lw=2, label="learning rate used")
    top.set(ylabel="learning rate", ylim=(0, None))
    bottom.plot(*train, color=SKY, lw=0.7, label="training loss")
    bottom.plot(*valid, color=BLUE, lw=2, label="validation loss")
    bottom.set(ylabel="loss", yscale="log", xlabel="step", xlim=(0, len(rate.steps)))
    for panel in (top, bottom):
        for name, style, found in (("restarts", "--", restarts), ("cuts", ":", cuts)):
            for n, step in enumerate(found):
                label = "" if n or panel is bottom else name.removesuffix("s")
                panel.axvline(step, color=EVENTS[name], ls=style, lw=1.6, label=label)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.1
        )
    figure.savefig(file, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_suffix(".png"))
