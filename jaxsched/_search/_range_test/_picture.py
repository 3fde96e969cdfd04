"""The picture of a range test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._core._extra import extra
from jaxsched._look._colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from jaxsched._look._figure import figure, framed, saved

_RULES = {
    "steepest": (ORANGE, "v"),
    "steep": (PURPLE, "^"),
    "minimum": (GREEN, "o"),
    "valley": (BLACK, "s"),
    "slide": (VERMILION, "D"),
}
_ROOM = 0.12  # margin above and below the curve, as a fraction of its height


def draw(test: Any, path: str | Path | None, axes: Any) -> Any:
    """Draw a range test, see `RangeTest.plot`."""
    if axes is None:
        axes = figure(8, 5).add_subplot()
    rates, losses, counts = _rows(test)
    lines = _centred(losses)
    _curves(axes, rates, losses, lines, counts)
    _suggested(axes, test, rates, lines)
    _framed(axes, rates)
    if test.ok:
        _heightened(axes, losses, lines)
    saved(axes.figure, path)
    return axes


def _rows(test: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rates, the losses by seed, and the counts; points that do not count are NaN."""
    size = test.rates.shape[-1]
    counts = np.asarray(test.count).reshape(-1)
    counted = np.arange(size) < counts[:, None]
    losses = np.where(counted, np.asarray(test.losses).reshape(-1, size), np.nan)
    return np.asarray(test.rates).reshape(-1, size)[0], losses, counts


def _centred(losses: np.ndarray) -> np.ndarray:
    """Return the mean of the neighbours of each point.

    The smoothed losses of the test see only the past. Drawn, they would lie far above the points
    of a falling loss.
    """
    reach = max(losses.shape[-1] // 30, 1)
    padded = np.pad(losses, ((0, 0), (reach, reach)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=-1)
    there = np.isfinite(windows)
    means = np.where(there, windows, 0).sum(-1) / np.maximum(there.sum(-1), 1)
    return np.where(np.isfinite(losses), means, np.nan)


def _curves(
    axes: Any, rates: np.ndarray, losses: np.ndarray, lines: np.ndarray, counts: np.ndarray
) -> None:
    many = len(losses) > 1
    alpha = max(0.7 / len(losses) ** 0.25, 0.2)
    dots = {"color": SKY, "ls": "", "marker": ".", "ms": 4, "alpha": alpha}
    axes.plot(rates, losses.T, label=["each batch", *[None] * (len(losses) - 1)], **dots)
    middle, low, high = _band(lines)
    if many:
        axes.fill_between(rates, low, high, color=BLUE, alpha=0.2, lw=0, label="all seeds")
    axes.plot(rates, middle, color=BLUE, lw=2, label="mean of neighbours" + ", median" * many)
    stops = rates[np.maximum(counts[counts < len(rates)], 1) - 1]
    if len(stops):
        of = f" ({len(stops)} of {len(losses)})" if many else ""
        style: dict[str, Any] = {"color": VERMILION, "ls": "--", "lw": 1.2}
        axes.axvline(np.median(stops), label=f"stopped at {np.median(stops):.3g}{of}", **style)


def _suggested(axes: Any, test: Any, rates: np.ndarray, lines: np.ndarray) -> None:
    """Draw the suggested rate and its range, and small marks for the five rules behind it."""
    if not test.ok:
        axes.set_title(f"no suggestion: {test.reason}", fontsize=9, loc="left")
        return
    axes.set_title(f"suggested rate {test.rate:.2g}", loc="left")
    axes.axvline(test.rate, color=GREEN, lw=2, label=f"suggested rate {test.rate:.2g}")
    low, high = test.range
    axes.axvspan(low, high, color=GREEN, alpha=0.1, lw=0, label=f"range {low:.2g} to {high:.2g}")
    middle, lowest, highest = _band(lines)[0], *test.spread
    for rule, (colour, marker) in _RULES.items():
        at = getattr(test.suggestions, rule)
        height = np.interp(at, rates, middle)
        ends = getattr(lowest, rule), getattr(highest, rule)
        axes.plot(ends, (height, height), color=colour, lw=1, alpha=0.5)
        style: dict[str, Any] = {"ms": 5, "mec": "white", "mew": 0.8, "zorder": 3, "ls": ""}
        axes.plot(at, height, marker, color=colour, label=f"{rule} {at:.2g}", **style)


def _framed(axes: Any, rates: np.ndarray) -> None:
    if not np.allclose(rates, np.linspace(rates[0], rates[-1], len(rates)), rtol=1e-3):
        axes.set_xscale("log")
    if rates[0] * 10 <= rates[-1]:  # otherwise there is no power of ten to label
        axes.xaxis.set_minor_formatter(extra("matplotlib.ticker").NullFormatter())
    axes.set_xlim(rates[0], rates[-1])
    axes.set_xlabel("rate")
    axes.set_ylabel("loss")
    framed(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _heightened(axes: Any, losses: np.ndarray, lines: np.ndarray) -> None:
    """Set the height so that the fall is visible, however high the loss is after divergence."""
    middle = _band(lines)[0]
    before = int(np.nanargmin(middle)) + 1
    # Not the maximum, which in a band may belong to a seed that has already diverged.
    most = np.nanpercentile(losses[:, :before], 95)
    bottom, top = np.nanmin(losses), max(np.nanmax(middle[:before]), most)
    room = _ROOM * (top - bottom)
    axes.set_ylim(bottom - room, top + room)


def _band(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the median, lowest and highest over the seeds at each point; NaN without seeds."""
    there = np.isfinite(lines).any(axis=0)
    some = np.where(there, lines, 0)
    ends = np.nanmedian(some, axis=0), np.nanmin(some, axis=0), np.nanmax(some, axis=0)
    middle, low, high = (np.where(there, x, np.nan) for x in ends)
    return middle, low, high
