"""The picture of forecasts: the losses with their bands, and the schedules below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._core._padded import values_at
from jaxsched._look._colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from jaxsched._look._figure import figure, framed, saved

COLOURS = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY
POINTS = 1000


def draw(named: Mapping[str, Any], log: Any, path: str | Path | None) -> Any:
    """Return the figure of forecasts by name, and write it to `path` if given."""
    made = figure(9, 6)
    losses, rates = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    if log is not None:
        _log(losses, *map(np.asarray, log))
    # The first is drawn last, on top of the others.
    for i, (name, found) in reversed([*enumerate(named.items())]):
        _one(losses, rates, name, found, COLOURS[i % len(COLOURS)], first=i == 0)
    _limited(losses, [*named.values()], log)
    losses.set_ylabel("loss")
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    rates.set_xlabel("optimizer step")
    handles, labels = losses.get_legend_handles_labels()
    losses.legend(handles[::-1], labels[::-1], frameon=False, fontsize="small", loc="upper right")
    framed(losses, rates)
    return saved(made, path)


def _log(panel: Any, steps: np.ndarray, losses: np.ndarray) -> None:
    panel.plot(steps, losses, ".", ms=3, color=GREY, label="log", zorder=1)


def _one(losses: Any, rates: Any, name: str, found: Any, colour: str, *, first: bool) -> None:
    low, high = found.band
    short = textwrap.shorten(name, 72, placeholder=" ...")
    label = f"{short}: {found.loss:.4g} ({low:.4g} to {high:.4g})"
    losses.fill_between(
        found.steps, found.low, found.high, color=colour, alpha=0.2 if first else 0.08, lw=0
    )
    losses.plot(found.steps, found.losses, color=colour, lw=2 if first else 1.4, label=label)
    steps = np.unique(np.linspace(0, found.steps[-1] - 1, POINTS).astype(int))
    rates.plot(steps, values_at(found.schedule, steps), color=colour, lw=2 if first else 1.4)


def _limited(panel: Any, forecasts: Sequence[Any], log: Any) -> None:
    """Limit the axis to what can be told apart: the losses at the start are far above."""
    low = min(float(np.min(x.low)) for x in forecasts)
    last = [float(np.interp(x.steps[-1] / 5, x.steps, x.losses)) for x in forecasts]
    if log is not None:
        low = min(low, float(np.nanmin(np.asarray(log[1]))))
    high = max(last)
    panel.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
