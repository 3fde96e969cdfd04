"""The heat map of a sweep: the mean score over two arguments of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._core._extra import extra
from jaxsched._core._require import refuse, require
from jaxsched._look._colours import BLACK, VERMILION
from jaxsched._look._figure import figure, saved
from jaxsched._search._arguments import written

MOST = 16  # values of an argument; more columns have no room for their numbers
CALL = "plot_grid"


def draw(sweep: Any, x: str, y: str, path: str | Path | None) -> Any:
    """Return the figure, and write it to `path` if given."""
    require(x != y, refuse(CALL, "y", "be another argument than x", y))
    columns, across = _axis(sweep, "x", x)
    rows, up = _axis(sweep, "y", y)
    scores, tried = _cells(sweep, across, up)
    made = figure(7, max(2.2, 0.42 * len(rows) + 1.3))
    panel = made.subplots()
    _colour(made, panel, scores, tried)
    _write(panel, scores, tried, sweep)
    for axis, name, values in ((panel.xaxis, x, columns), (panel.yaxis, y, rows)):
        axis.set_ticks(range(len(values)), values)
        axis.set_label_text(name)
    panel.set_title(_title(sweep, x, y), fontsize="medium")
    panel.tick_params(length=0)
    panel.tick_params("x", labelsize=min(10, 76 / len(columns)))
    panel.spines[:].set_visible(False)
    return saved(made, path)


def _axis(sweep: Any, argument: str, name: str) -> tuple[list[str], np.ndarray]:
    """Return the values of an argument as text, in order, and the place of each member."""
    known = dict.fromkeys(key for row in sweep.arguments for key in row)
    remedy = f"It has {', '.join(known)}." if known else "Make the population with `grid`."
    must = "be an argument of every member of the population"
    there = len(sweep.arguments) > 0 and all(name in row for row in sweep.arguments)
    require(there, refuse(CALL, argument, must, name, remedy))
    given = [row[name] for row in sweep.arguments]
    values = _ordered({repr(value): value for value in given})
    remedy = f"`{name}` has {len(values)} values. Use `plot` for the result of a random search."
    require(
        len(values) <= MOST, refuse(CALL, argument, f"have at most {MOST} values", name, remedy)
    )
    places = {repr(value): place for place, value in enumerate(values)}
    return written(values), np.array([places[repr(value)] for value in given])


def _ordered(values: dict[str, Any]) -> list[Any]:
    """Return numbers in rising order; other values in the order in which they were given."""
    numbers = all(isinstance(x, (int, float)) for x in values.values())
    return sorted(values.values()) if numbers else [*values.values()]


def _cells(sweep: Any, across: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best mean score of each cell, NaN without one, and whether a cell has members."""
    scores = np.full((up.max() + 1, across.max() + 1), np.nan)
    tried = np.zeros(scores.shape, bool)
    for i in sweep.order[::-1]:  # the best comes last, and so it is kept
        tried[up[i], across[i]] = True
        scores[up[i], across[i]] = sweep.mean[i]
    return scores, tried


def _colour(figure: Any, panel: Any, scores: np.ndarray, tried: np.ndarray) -> None:
    """Draw the cells in colours, with hatching where all members diverged."""
    colours = extra("matplotlib.colors")
    found = scores[np.isfinite(scores)]
    log = len(found) > 0 and found.min() > 0 and found.max() > 10 * found.min()
    scale = (colours.LogNorm if log else colours.Normalize)()
    image = panel.imshow(scores, cmap="cividis", norm=scale, origin="lower", aspect="auto")
    for row, column in zip(*np.nonzero(tried & np.isnan(scores)), strict=True):
        _frame(panel, row, column, facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="///", lw=0)
    if len(found):
        figure.colorbar(image, ax=panel, label="score", pad=0.02).outline.set_visible(False)


def _write(panel: Any, scores: np.ndarray, tried: np.ndarray, sweep: Any) -> None:
    """Write the scores in their cells, and frame the best."""
    image = panel.images[0]
    size = min(10, 70 / scores.shape[1])
    for (row, column), score in np.ndenumerate(scores):
        empty = "diverged" if tried[row, column] else ""
        text = f"{score:#.4g}".rstrip(".") if np.isfinite(score) else empty
        red, green, blue, _ = image.cmap(image.norm(score if np.isfinite(score) else 0))
        dark = np.isfinite(score) and 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        colour = "white" if dark else BLACK
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    if np.isfinite(scores).any():
        find = np.nanargmin if sweep.mode == "min" else np.nanargmax
        row, column = np.unravel_index(find(scores), scores.shape)
        _frame(panel, row, column, facecolor="none", edgecolor=VERMILION, lw=3)


def _frame(panel: Any, row: Any, column: Any, **style: Any) -> None:
    corner = column - 0.5, row - 0.5
    panel.add_patch(extra("matplotlib.patches").Rectangle(corner, 1, 1, **style))


def _title(sweep: Any, x: str, y: str) -> str:
    others = _others(sweep.arguments, (x, y))
    return "Mean score" + (f", at the best {' and '.join(others)}" if others else "")


def _others(rows: Sequence[dict[str, Any]], shown: tuple[str, str]) -> list[str]:
    """Return the names of the other arguments that vary."""
    names = dict.fromkeys(name for row in rows for name in row if name not in shown)
    return [name for name in names if len({repr(row.get(name)) for row in rows}) > 1]
