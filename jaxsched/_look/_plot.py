"""`plot`: drawing with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._core._extra import extra
from jaxsched._core._require import refuse
from jaxsched._look._axis import Axis, along, starts_at_zero
from jaxsched._look._colours import EVENTS, GREEN, GREY, SKY, line
from jaxsched._look._curve import FEW, MANY, Curve, cut, drawn, labelled, some
from jaxsched._look._figure import figure, framed, saved
from jaxsched._look._simulate import Metrics, pair
from jaxsched._schedules._units import Units

Schedules = Any  # a schedule, stateful or not, a function of the step, a list or a dict of them


def plot(
    schedules: Schedules,
    path: str | Path | None = None,
    *,
    total_steps: int | None = None,
    log: bool = False,
    metrics: Metrics | None = None,
    trigger_at: int | None = None,
    beside: Mapping[str, Schedules] | None = None,
    name: str = "learning rate",
    units: Units | None = None,
    axes: Any = None,
) -> Any:
    """Plots schedules over the steps, with pieces, boundaries, restarts and rule events.

    A boundary is a dot. A restart is a triangle that points up, and an event of a rule is a
    triangle that points down. A hundred cycles or more are drawn as an area between their lowest
    and highest values. Without metrics, a stateful schedule is drawn as if no rule had acted. With
    metrics, the rules are simulated (see `simulate`).

    Args:
      schedules: a schedule, stateful or not, or a function of the step. A list, or a dict by label,
        is drawn in one panel.
      path: file to write; PNG, SVG or PDF, according to its name.
      total_steps: number of optimizer steps to draw. None: up to the end of the longest schedule,
        or a sensible number of steps if it is unbounded.
      log: whether the axis of values is logarithmic.
      metrics: metrics for the rules, see `simulate`; drawn in a panel below. Observations after
        `total_steps` are left out.
      trigger_at: step of `trigger(opt_state)`, for an `until` or a `cooldown`.
      beside: other hyperparameters by name, each in a panel of its own below.
      name: name of the hyperparameter.
      units: the `Units` of the run, for an axis in epochs.
      axes: matplotlib axes for a single panel; None: a new figure.

    Returns:
      The matplotlib figure. The extra `train` installs matplotlib.

    Raises:
      ValueError: there is nothing to draw; there is more than one panel for `axes`; or an error of
        `simulate`.

    Example:
      >>> rate, momentum = one_cycle(0.1, total_steps=100), one_cycle_momentum(total_steps=100)
      >>> figure = plot(rate, beside={"momentum": momentum})
      >>> [panel.get_ylabel() for panel in figure.axes]
      ['learning rate', 'momentum']
    """
    if name in (beside or {}):
        raise ValueError(refuse("plot", "beside", f"not have {name!r}, the first panel", beside))
    rows = {label: labelled("plot", x) for label, x in {name: schedules, **(beside or {})}.items()}
    if not all(rows.values()):
        raise ValueError(refuse("plot", "schedules", "have a schedule in it", schedules))
    found = drawn([*rows.values()], total_steps=total_steps, metrics=metrics, trigger_at=trigger_at)
    panels = _panels(len(rows), metrics, axes)
    for panel, label, curves in zip(panels, rows, found, strict=False):
        _draw(panel, label, curves, log)
    for panel, (label, trace) in zip(panels[len(rows) :], (metrics or {}).items(), strict=True):
        _trace(panel, label, trace)
    last = max(int(c.steps[-1]) for curves in found for c in curves)
    _below(panels[-1], along(last, None if units is None else units.steps_per_epoch))
    low, high = panels[0].get_xlim() if axes is not None else (0, 0)
    panels[0].set_xlim(min(low, -0.01 * last), max(high, 1.01 * last))
    return saved(panels[0].figure, path)


def _panels(rows: int, metrics: Metrics | None, axes: Any) -> list[Any]:
    count = rows + len(metrics or {})
    if axes is not None:
        if count > 1:
            raise ValueError(refuse("plot", "axes", f"be None to draw {count} panels", axes))
        return [axes]
    heights = [3.2] * rows + [1.6] * (count - rows)
    made = figure(8, 0.8 + sum(heights))
    return list(made.subplots(count, 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])


def _below(panel: Any, x: Axis) -> None:
    """Label the axis of the steps."""
    panel.set_xlabel(x.name)
    if x.unit == 1:
        locator = extra("matplotlib.ticker").MaxNLocator(integer=True, steps=[1, 2, 5, 10])
        panel.xaxis.set_major_locator(locator)
    else:
        ticks = x.ticks(10)
        panel.set_xticks(ticks, [x.label(tick) for tick in ticks])


def _draw(panel: Any, label: str, curves: Sequence[Curve], log: bool) -> None:
    if len(curves) == 1:
        _phases(panel, curves[0])
    drawn_before = len(panel.get_legend_handles_labels()[0])
    for n, c in enumerate(curves, drawn_before):
        values = np.where(c.values > 0, c.values, np.nan) if log else c.values
        colour, dashes = line(n)
        style: dict[str, Any] = {"color": colour, "lw": 1.8, "ls": (0, dashes) if dashes else "-"}
        dots = {"marker": ".", "ms": 5} if len(c.steps) <= FEW else {}
        band = c.envelope()
        if band is None:
            panel.plot(c.steps, values, label=c.label, **style, **dots)
        else:
            panel.fill_between(*band, label=c.label, fc=(colour, 0.3), ec=colour)
        _marks(panel, c, colour, alone=len(curves) == 1)
    hidden = log and any((c.values <= 0).any() for c in curves)
    panel.set_ylabel(f"{label}, where positive" if hidden else label)
    panel.margins(y=0.1)
    if log:
        panel.set_yscale("log")
    elif starts_at_zero(*_range(curves)):
        panel.set_ylim(bottom=0)
    _framed(panel)


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the lowest and the highest value."""
    return min(float(c.values.min()) for c in curves), max(float(c.values.max()) for c in curves)


def _phases(panel: Any, curve: Curve) -> None:
    """Shade every other piece, and write their names where there is room."""
    total = max(int(curve.steps[-1]), 1)
    for n, (start, end, name) in enumerate(curve.phases if len(curve.phases) <= MANY else ()):
        panel.axvspan(start, end, color=GREY, alpha=0.12 * (n % 2), lw=0)
        if (end - start) / total > 0.014 * len(name):
            where = {"transform": panel.get_xaxis_transform(), "ha": "center", "va": "top"}
            panel.text((start + end) / 2, 0.985, name, color=GREY, fontsize="small", **where)


def _marks(panel: Any, curve: Curve, colour: str, *, alone: bool) -> None:
    plain = np.setdiff1d(curve.boundaries, curve.restarts)
    dot = {"marker": "o", "ms": 4, "color": colour}
    # A caret that points up. It may hang below an axis that begins at its value.
    caret = {"marker": 6, "ms": 8, "color": GREEN, "clip_on": False, "zorder": 3}
    for steps, style in ((plain, dot), (curve.restarts, caret)):
        if 0 < len(steps) <= MANY:
            panel.plot(steps, curve.at(steps), ls="", **style)
    for step, before, after in curve.jumps:
        text = {"textcoords": "offset points", "color": colour, "fontsize": "small"}
        panel.annotate(f"{before:.3g} → {after:.3g}", (step, after), (6, 4), **text)
    if len(curve.restarts) > MANY:
        panel.plot([], [], " ", label=curve.happened["restarts"])
    for name, steps in curve.events.items():
        style = {"color": EVENTS[name] if alone else colour, "ls": "", "marker": 7, "ms": 7}
        shown = some(steps)
        panel.plot(shown, curve.at(shown), label=curve.happened[name], **style)


def _trace(panel: Any, label: str, trace: Any) -> None:
    steps, values = pair(label, trace)
    style = {"lw": 0.9} if len(values) > 200 else {"lw": 1.2, "marker": ".", "ms": 5}
    panel.plot(steps, values, color=SKY, **style)
    panel.set_ylabel(label)
    _framed(panel)


def _framed(panel: Any) -> None:
    framed(panel)
    handles, labels = panel.get_legend_handles_labels()
    if handles:  # above the panel, where there are no curves
        columns = 1 if max(map(len, labels)) > 40 else 3
        panel.legend(
            handles, [cut(x, 96) for x in labels], loc="lower left", bbox_to_anchor=(0, 1.02),
            frameon=False, fontsize="small", ncols=columns, borderaxespad=0.2,
        )  # fmt: skip
