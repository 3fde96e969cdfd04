"""The picture of a sweep: the score of each member, and the curves of the best."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsched._core._padded import values_at
from jaxsched._look._colours import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from jaxsched._look._figure import figure, framed, saved
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule
from jaxsched._schedules._unbounded import constant

COLOURS = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK
POINTS = 1000  # points per drawn curve
UNENDING = 1000  # steps to draw if all curves are unbounded


def draw(sweep: Any, path: str | Path | None, top: int) -> Any:
    """Return the figure, and write it to `path` if given."""
    made = figure(11, 4.6)
    left, right = made.subplots(1, 2, width_ratios=(2, 3))
    named = [*zip(sweep.order[: min(top, len(COLOURS))], COLOURS, strict=False)]
    _scores(left, sweep, named)
    _curves(right, sweep, named)
    framed(left, right)
    return saved(made, path)


def _scores(panel: Any, sweep: Any, named: Sequence[tuple[int, str]]) -> None:
    scores = np.where(np.isfinite(sweep.scores), sweep.scores, np.nan)[sweep.order]
    ranks = np.arange(1, len(scores) + 1)
    colours = [colour for _, colour in named] + [GREY] * (len(scores) - len(named))
    if scores.shape[1] > 1:
        panel.plot(scores, ranks, ".", ms=4, color=GREY, alpha=0.5, zorder=1)
    panel.scatter(scores.mean(axis=1), ranks, c=colours, s=28, zorder=2)
    found = scores[np.isfinite(scores)]
    if len(found) and found.min() > 0 and found.max() > 10 * found.min():
        panel.set_xscale("log")
    panel.set_ylim(len(scores) + 0.7, 0.3)
    panel.yaxis.get_major_locator().set_params(integer=True)
    lost = int(np.isnan(scores.mean(axis=1)).sum())
    panel.set_xlabel("score" + (f" ({lost} diverged)" if lost else ""))
    panel.set_ylabel("rank")


def _curves(panel: Any, sweep: Any, named: Sequence[tuple[int, str]]) -> None:
    curves = [_first(member) for member in sweep.members]
    ends = [int(curve.steps) for curve in curves if curve.steps is not None]
    steps = np.unique(np.linspace(0, max(ends, default=0) or UNENDING, POINTS).astype(int))
    best = {i for i, _ in named}
    values = [values_at(curves[i], steps) for i in best or range(len(curves))]
    low, high = np.min(values), np.max(values)
    for i in sweep.order[::-1]:  # the best are drawn last, on top
        if i not in best:
            panel.plot(steps, values_at(curves[i], steps), color=GREY, lw=0.7, alpha=0.4)
    for rank, (i, colour) in reversed([*enumerate(named, start=1)]):
        label = textwrap.shorten(f"{rank}: {sweep.members[i]}", 68, placeholder=" ...")
        panel.plot(steps, values_at(curves[i], steps), color=colour, lw=2, label=label)
    panel.set_xlabel("optimizer step")
    if high > low or high > 0:  # the other curves may be far outside
        margin = 0.1 * ((high - low) or high)
        panel.set_ylim(low - margin, high + 2 * margin)
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(
        handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0, 1), frameon=False,
        fontsize="small",
    )  # fmt: skip


def _first(member: Any) -> Schedule:
    """Return the first curve or number of a member, without its rules."""
    leaves: list[Any] = jax.tree.leaves(member, is_leaf=_is_one)
    found: list[AnySchedule] = [x for x in leaves if callable(x)] or [constant(leaves[0])]
    return still(found[0]) if isinstance(found[0], Stateful) else as_schedule("plot", found[0])


def _is_one(x: Any) -> bool:
    return isinstance(x, (Schedule, Stateful))
