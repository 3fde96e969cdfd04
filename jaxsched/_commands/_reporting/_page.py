"""The page: one HTML file that needs no other file, and allows only its own script."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import string
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from jaxsched._commands._reporting._numbers import HEADS, facts, rows
from jaxsched._commands._reporting._packed import packed
from jaxsched._commands._reporting._panels import (
    DARKER,
    RESTARTS,
    Happened,
    Panel,
    Series,
    happened,
    panels,
)
from jaxsched._commands._reporting._record import configuration, diagnosed, environment
from jaxsched._commands._reporting._run import Run, run
from jaxsched._commands._reporting._table import listed, table
from jaxsched._look._colours import EVENTS

SCRIPTS = "axis.js", "draw.js", "hand.js"
GUIDES = {RESTARTS, "cuts", "raises"}  # changes of the rate itself, shown in all panels
HINT = """\
Drag over steps to zoom, double click for the whole run. With the keyboard: the arrows move the
cursor, and with Shift further; + and - zoom around it; Home and End go to the ends of the view; Esc
resets. A number in brackets is the step of a value that is older than the cursor."""


def page(folder: Path) -> tuple[str, list[str]]:
    """Return the page of the run in a folder, and notes on oddities of the run.

    Raises:
      ValueError: the folder has no log.
    """
    found = run(folder)
    events = happened(found.log.columns, found.restarts)
    drawn = panels(found.log.columns, found.alone)
    style, script = _file("page.css"), "\n".join(map(_file, SCRIPTS))
    text = string.Template(_file("page.html")).substitute(
        title=escape(f"Run {found.name}"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        notes=listed("notes", found.notes),
        facts="".join(_fact(*x) for x in facts(found, events).items()),
        diagnosis=diagnosed(found.summary),
        curves=_curves(drawn, events),
        numbers=_numbers(found),
        configuration=configuration(found),
        environment=environment(found.summary),
        now=datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        data=_data(found, drawn, events),
    )
    return text, found.notes


def _file(name: str) -> str:
    return files("jaxsched._commands._reporting").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _curves(panels: list[Panel], events: list[Happened]) -> str:
    """Return the figures that the script draws into."""
    figures = [_figure(n, panel) for n, panel in enumerate(panels)]
    if events:  # after the rate
        figures.insert(bool(panels), _lane(len(panels), events))
    if not figures:
        return ""
    return (
        '<section><h2>Curves</h2><p class="bar"><output id="where" aria-live="off"></output>'
        '<label><input id="smooth" type="checkbox"> Smooth</label>'
        '<button id="whole" type="button" disabled>Whole run</button></p>'
        '<p id="said" class="heard" role="status"></p>'
        '<div id="stage" tabindex="0" role="group" aria-label="Curves over the optimizer steps">'
        f'{"".join(figures)}</div><p class="hint">{HINT}</p>'
        "<noscript><p>The curves are drawn by a script.</p></noscript></section>"
    )


def _figure(n: int, panel: Panel) -> str:
    legend = "".join(map(_legend, panel.series))
    label = escape(f"{panel.name} over the steps: {', '.join(x.name for x in panel.series)}")
    log = " checked" * panel.log
    return (
        f'<figure id="panel-{n}"><figcaption><h3>{escape(panel.name)}</h3>'
        f'<ul class="legend">{legend}</ul><label><input type="checkbox" class="log"{log} '
        f'aria-label="logarithmic axis of {escape(panel.name)}"> log</label>'
        "</figcaption>"
        f'<svg class="plot" height="180" role="img" aria-label="{label}"></svg></figure>'
    )


def _legend(x: Series) -> str:
    dashes = ' stroke-dasharray="5 3"' if x.dashed else ""
    return (
        f'<li><svg viewBox="0 0 20 8" aria-hidden="true"><line x2="20" y1="4" y2="4" '
        f'stroke="{x.colour}" stroke-width="3"{dashes}/></svg>{escape(x.name)} '
        "<output></output></li>"
    )


def _lane(n: int, events: list[Happened]) -> str:
    said = ", ".join(f"{x.counts.sum():.15g} {x.name}" for x in events)
    return (
        f'<figure id="panel-{n}"><figcaption><h3>what happened</h3></figcaption>'
        f'<svg class="plot" height="{30 + 22 * len(events)}" role="img" '
        f'aria-label="{escape(said)}"></svg></figure>'
    )


def _numbers(run: Run) -> str:
    found = rows(run.log.columns)
    caption = "The number after “at” is a step."
    return f"<section><h2>Numbers</h2>{table(found, HEADS, caption)}</section>" if found else ""


def _data(run: Run, panels: list[Panel], events: list[Happened]) -> str:
    """Return the data of the script, in the order of the figures; it cannot end its element."""
    drawn: list[Any] = [[_series(x, run) for x in panel.series] for panel in panels]
    if events:
        drawn.insert(bool(panels), [])
    data = {"steps": packed(run.log.steps), "panels": drawn, "happened": [*_marks(events)]}
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _series(x: Series, run: Run) -> dict[str, Any]:
    shared = len(x.column.steps) == len(run.log.steps) and x.column is not run.alone
    where = {} if shared else {"x": packed(x.column.steps)}
    return {
        "name": x.name,
        "colour": x.colour,
        "dashed": x.dashed,
        "y": packed(x.column.values),
        **where,
    }


def _marks(events: list[Happened]) -> Iterable[dict[str, Any]]:
    for x in events:
        colour = DARKER.get(EVENTS[x.kind], EVENTS[x.kind])
        said = {"name": x.name, "kind": x.kind, "colour": colour, "guide": x.kind in GUIDES}
        yield {**said, "x": packed(x.steps), "y": packed(x.counts)}
