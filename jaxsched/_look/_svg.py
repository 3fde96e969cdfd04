"""Drawing as SVG, for notebooks and web pages, in the colours of the surrounding page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxsched._look._axis import Axis, along, number, thinned, upright
from jaxsched._look._colours import EVENTS, GREEN, line
from jaxsched._look._curve import FEW, MANY, Curve, Envelope, cut, some

LEFT, RIGHT, TOP, BOTTOM = 56, 16, 20, 32  # pixels around the panel
LINE, LETTER = 18, 6.2  # pixels: the height of a legend line, the approximate width of a letter
LONGEST = 300  # characters of a label
SOLID = 'stroke-width="1.8"'
DASHED = 'stroke-width="1.3" stroke-dasharray="5 4" opacity=".55"'
FONT = "font-family:system-ui,sans-serif;font-size:11px"


class Box:
    """A panel: converts positions on the axes to pixels."""

    def __init__(self, x: Axis, y: Axis, width: int, height: int) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height

    def across(self, part: Any) -> Any:
        return LEFT + part * (self.width - LEFT - RIGHT)

    def down(self, part: Any) -> Any:
        return TOP + (1 - part) * (self.height - TOP - BOTTOM)

    def at(self, step: float) -> float:
        return float(self.across(self.x(np.asarray(step))))


def svg(
    curves: Sequence[Curve],
    *,
    width: int = 600,
    height: int = 220,
    log: bool = False,
    page: bool = True,
    behind: Sequence[Curve] = (),
    alt: str = "",
    epoch: float | None = None,
) -> str:
    """Return curves over the steps as SVG.

    Args:
      curves: curves to draw.
      width: width in pixels.
      height: height in pixels, without the legend.
      log: whether the axis of values is logarithmic.
      page: whether to use the colours of the surrounding page; otherwise the background is white.
      behind: ingredients of the curves, drawn dashed and without marks.
      alt: text for a screen reader; the labels by default.
      epoch: steps of an epoch, for an axis in epochs.
    """
    everything = [*curves, *behind]
    total = max(int(c.steps[-1]) for c in everything)
    box = Box(along(total, epoch), upright([c.values for c in everything], log), width, height)
    colours = [line(n)[0] for n in range(len(curves))]
    many = len(curves) > 1
    legend = many or not page
    whole = height + LINE * len(curves) * legend
    parts = [
        *_grid(box),
        *(_phases(box, curves[0]) if len(curves) == 1 else ()),
        *(part for c in behind for part in _lines(box, c, "currentColor", DASHED)),
        *(part for n, curve in enumerate(curves) for part in _curve(box, curve, n, many)),
        *(_legend(box, curves, colours) if legend else ()),
    ]
    back = "" if page else ";color:#222;background:#fff"
    label = html.escape(alt or "; ".join(cut(c.label, LONGEST) for c in curves))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" '
        f'height="{whole}" role="img" aria-label="{label}" '
        f'style="max-width:100%;height:auto;{FONT}{back}" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _grid(box: Box) -> Iterator[str]:
    left, right = box.across(0), box.across(1)
    for tick in box.y.ticks(max(int(box.height / 40), 2)):
        y = float(box.down(box.y(np.asarray(tick))))
        yield _line(left, y, right, y, "opacity:.15")
        yield _text(left - 6, y + 4, number(tick), "end")
    bottom = float(box.down(0))
    yield _line(left, bottom, right, bottom, "opacity:.6")
    for tick in box.x.ticks(max(int(box.width / 90), 2)):
        yield _line(box.at(tick), bottom, box.at(tick), bottom + 4, "opacity:.6")
        yield _text(box.at(tick), bottom + 16, box.x.label(tick), "middle")
    yield _text(right, bottom + 28, box.x.name, "end", "opacity:.7")


def _phases(box: Box, curve: Curve) -> Iterator[str]:
    """Shade every other piece, and write their names where there is room."""
    if len(curve.phases) > MANY:
        return
    top, bottom = float(box.down(1)), float(box.down(0))
    for n, (start, end, name) in enumerate(curve.phases):
        left, right = box.at(start), box.at(end)
        if n % 2:
            size = (
                f'x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
            )
            yield f'<rect {size} style="opacity:.06"/>'
        if right - left > LETTER * len(name):
            yield _text((left + right) / 2, top - 6, name, "middle", "opacity:.7")


def _lines(box: Box, curve: Curve, colour: str, style: str) -> Iterator[str]:
    across, up = thinned(curve.steps, curve.values, box.x, box.y, box.width)
    x, y = np.asarray(box.across(across)), np.asarray(box.down(up))
    title = html.escape(cut(curve.label, LONGEST))
    for run in _runs(np.isfinite(y)):
        points = " ".join(f"{x[i]:.1f},{y[i]:.1f}" for i in run)
        yield (
            f'<polyline points="{points}" fill="none" stroke="{colour}" {style} '
            f'stroke-linejoin="round"><title>{title}</title></polyline>'
        )
    if len(curve.steps) <= FEW:
        for i in np.flatnonzero(np.isfinite(y)):
            yield f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="1.8" fill="{colour}"/>'


def _curve(box: Box, curve: Curve, n: int, many: bool) -> Iterator[str]:
    colour, dashes = line(n)
    band = curve.envelope()
    if band is None:
        yield from _lines(box, curve, colour, f"{SOLID}{_dashed(dashes)}")
    else:
        yield _band(box, band, colour, curve.label)
    if len(curve.boundaries) <= MANY:
        for step, value in zip(curve.boundaries, curve.at(curve.boundaries), strict=True):
            yield _mark(box, step, value, GREEN if step in curve.restarts else colour, curve)
    for step, before, after in curve.jumps:
        where = box.at(step) + 6, float(box.down(box.y(np.asarray(after)))) - 6
        yield _text(*where, f"{number(before)} → {number(after)}", "start", f"fill:{colour}")
    for name, when in curve.events.items():
        for step in some(when):
            yield _event(box, int(step), name, curve, colour if many else EVENTS[name])


def _band(box: Box, band: Envelope, colour: str, label: str) -> str:
    """Return the area between the lowest and the highest values of many cycles."""
    steps, low, high = band
    low = np.where(low > 0, low, box.y.low) if box.y.log else low
    x = box.across(box.x(np.concatenate([steps, steps[::-1]])))
    y = box.down(box.y(np.concatenate([low, high[::-1]])))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if np.isfinite(b))
    return (
        f'<polygon points="{points}" fill="{colour}" fill-opacity=".3" stroke="{colour}" '
        f'stroke-linejoin="round"><title>{html.escape(cut(label, LONGEST))}</title></polygon>'
    )


def _dashed(dashes: Sequence[int]) -> str:
    return f' stroke-dasharray="{",".join(map(str, dashes))}"' if dashes else ""


def _runs(there: np.ndarray) -> list[np.ndarray]:
    """Return the stretches without a gap."""
    found = np.flatnonzero(there)
    return np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)


def _mark(box: Box, step: int, value: float, colour: str, curve: Curve) -> str:
    """Return the mark of a boundary: a dot, or for a restart a triangle that points up."""
    x, y = box.at(step), float(box.down(box.y(np.asarray(value))))
    if not np.isfinite(y):
        return ""
    if step in curve.restarts:
        points = f"{x - 5:.1f},{y + 9:.1f} {x + 5:.1f},{y + 9:.1f} {x:.1f},{y + 1:.1f}"
        return (
            f'<polygon points="{points}" fill="{colour}"><title>restart at {step}</title></polygon>'
        )
    title = f"<title>boundary at {step}</title>"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}">{title}</circle>'


def _event(box: Box, step: int, name: str, curve: Curve, colour: str) -> str:
    """Return the mark of a rule event: a triangle that points down to the curve."""
    x, y = box.at(step), float(box.down(box.y(curve.at(np.asarray(step))))) - 1
    if not np.isfinite(y):
        return ""
    points = f"{x - 4:.1f},{y - 8:.1f} {x + 4:.1f},{y - 8:.1f} {x:.1f},{y:.1f}"
    title = f"<title>{name.removesuffix('s')} at {step}</title>"
    return f'<polygon points="{points}" fill="{colour}">{title}</polygon>'


def _legend(box: Box, curves: Sequence[Curve], colours: Sequence[str]) -> Iterator[str]:
    room = int((box.width - LEFT - RIGHT - 28) / LETTER)
    for n, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        y = box.height + LINE * n + 8
        dashes = ",".join(map(str, line(n)[1])) or "none"
        style = f"stroke:{colour};stroke-width:2.4;stroke-dasharray:{dashes}"
        yield _line(LEFT, y - 4, LEFT + 20, y - 4, style)
        title = cut(curve.label, LONGEST)
        yield _text(LEFT + 28, y, cut(curve.label, room), "start", title=title)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    where = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {where} stroke="currentColor" style="{style}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "", title: str = "") -> str:
    inside = (f"<title>{html.escape(title)}</title>" if title else "") + html.escape(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{inside}</text>'
