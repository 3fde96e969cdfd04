"""Drawing in a terminal, with Braille characters of two by four dots each."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence

import numpy as np

from jaxsched._look._axis import Axis, along, number, thinned, upright
from jaxsched._look._curve import Curve

BLANK = 0x2800
SHARED = "*"  # a cell that two curves drawn as letters pass
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # by row and column
# The colours of `_colours.py` among the 256 terminal colours.
ANSI = (32, 166, 35, 175, 214, 74, 244)
_ASCII = str.maketrans("┤│└─┬", "||+-+")


def draw(
    curves: Sequence[Curve],
    *,
    width: int,
    height: int,
    log: bool = False,
    colour: bool = False,
    plain: bool = False,
    epoch: float | None = None,
) -> str:
    """Return curves over the steps as lines of text.

    Args:
      curves: curves to draw.
      width: total width in characters.
      height: height of the panel in lines.
      log: whether the axis of values is logarithmic.
      colour: whether to write colour codes. Without them, several curves are drawn as letters.
      plain: whether to write ASCII alone, for a terminal without Unicode.
      epoch: steps of an epoch, for an axis in epochs.

    Returns:
      The panel, the tick labels beside and below it, and the legend.
    """
    total = max(int(c.steps[-1]) for c in curves)
    x, y = along(total, epoch), upright([c.values for c in curves], log)
    labels = _beside(y, height)
    margin = max(4 if epoch is None else 5, *map(len, labels))
    columns = max(width - margin - 2, 10)
    cells = [[(" ", -1)] * columns for _ in range(height)]
    for n, c in enumerate(curves):
        for row, column, mark in _marks(c, x, y, columns, height):
            one = chr(mark) if not plain and (colour or len(curves) == 1) else _letter(n)
            shared = one in string.ascii_uppercase and cells[row][column][0] not in (" ", one)
            cells[row][column] = SHARED if shared else one, n if colour else -1
    rows = zip(labels, map(_line, cells), strict=True)
    panel = [f"{label:>{margin}} {'┤' if label else '│'}{line}" for label, line in rows]
    lines = [*panel, *_below(x, margin, columns), *_legend(curves, colour, plain)]
    if any(SHARED in line for line in panel):
        lines.append(f"{SHARED} several curves")
    if log and any((c.values <= 0).any() for c in curves):
        lines.append("Values at or below zero are not drawn: the axis is logarithmic.")
    text = "\n".join(lines)
    return text.translate(_ASCII) if plain else text


def _marks(curve: Curve, x: Axis, y: Axis, columns: int, height: int) -> list[tuple[int, int, int]]:
    """Return the cells that a curve passes, each with its Braille character."""
    wide, high = 2 * columns, 4 * height
    across, up = thinned(curve.steps, curve.values, x, y, wide)
    across, up = across * (wide - 1), (1 - up) * (high - 1)
    dots = np.zeros((high, wide), bool)
    for (a, b), (c, d) in itertools.pairwise([*zip(across, up, strict=True)] * (1 + (len(up) < 2))):
        if math.isfinite(b + d):
            many = int(max(abs(c - a), abs(d - b))) + 2
            right, down = np.linspace((a, b), (c, d), many).round().astype(int).T
            dots[np.clip(down, 0, high - 1), right] = True
    cells = dots.reshape(height, 4, columns, 2).transpose(0, 2, 1, 3)
    letters = BLANK + (cells * DOTS).sum(axis=(2, 3))
    return [(int(r), int(c), int(letters[r, c])) for r, c in np.argwhere(letters > BLANK)]


def _beside(y: Axis, height: int) -> list[str]:
    """Return the tick labels of the rows."""
    labels = [""] * height
    for tick in y.ticks(max(height // 3, 2)):
        labels[round(float(1 - y(np.asarray(tick))) * (height - 1))] = number(tick)
    return labels


def _below(x: Axis, margin: int, columns: int) -> list[str]:
    """Return the axis of the steps and its tick labels."""
    line, words = ["─"] * columns, [" "] * (columns + margin + 2)
    for tick in x.ticks(max(columns // 14, 2)):
        at = round(float(x(np.asarray(tick))) * (columns - 1))
        line[at] = "┬"
        text = x.label(tick)
        start = min(max(margin + 2 + at - len(text) // 2, 0), len(words) - len(text))
        if not "".join(words[max(start - 1, 0) : start + len(text)]).strip():
            words[start : start + len(text)] = text
    return [
        f"{x.name.removeprefix('optimizer '):>{margin}} └{''.join(line)}",
        "".join(words).rstrip(),
    ]


def _legend(curves: Sequence[Curve], colour: bool, plain: bool) -> list[str]:
    if len(curves) == 1:
        return [_what(curves[0])]
    letters = plain or not colour
    keys = (_letter(n) if letters else _coloured("━━", n) for n in range(len(curves)))
    return [f"{key} {_what(c)}" for key, c in zip(keys, curves, strict=True)]


def _what(curve: Curve) -> str:
    """Return the text of a curve, and the number of events in it."""
    jumps = [f"{number(a)} to {number(b)} at step {step}" for step, a, b in curve.jumps]
    said = [*curve.happened.values(), *(f"jumps from {jump}" for jump in jumps)]
    return curve.label + (f"   ({', '.join(said)})" if said else "")


def _letter(n: int) -> str:
    return string.ascii_uppercase[n % 26]


def _line(cells: Sequence[tuple[str, int]]) -> str:
    runs = itertools.groupby(cells, key=lambda cell: cell[1])
    return "".join(_coloured("".join(one for one, _ in run), n) for n, run in runs)


def _coloured(text: str, n: int) -> str:
    return f"\x1b[38;5;{ANSI[n % len(ANSI)]}m{text}\x1b[0m" if n >= 0 else text
