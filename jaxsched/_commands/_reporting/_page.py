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
from typing import Any, NamedTuple

from jaxsched._commands._reporting._log import Column
from jaxsched._commands._reporting._numbers import HEADS, facts, rows
from jaxsched._commands._reporting._packed import packed
from jaxsched._commands._reporting._panels import (
    DARKER,
    LINES,
    RESTARTS,
    Happened,
    Panel,
    Series,
    happened,
    panels,
)
from jaxsched._commands._reporting._record import configuration, diagnosed, environment
from jaxsched._commands._reporting._run import Run, run
from jaxsched._commands._reporting._several import (
    all_happened,
    colour_of,
    names,
    overview,
    together,
)
from jaxsched._commands._reporting._table import listed, table
from jaxsched._look._colours import EVENTS

SCRIPTS = "axis.js", "draw.js", "hand.js"
GUIDES = {RESTARTS, "cuts", "raises"}  # changes of the rate itself, shown in all panels
HINT = """\
Drag over steps to zoom, double click for the whole run. With the keyboard: the arrows move the
cursor, and with Shift further; + and - zoom around it; Home and End go to the ends of the view; Esc
resets. A number in brackets is the step of a value that is older than the cursor."""


def page(*paths: Path, place: str | None = None) -> tuple[str, list[str]]:
    """Return the page of one or several runs, and notes on their oddities.

    Args:
      *paths: the folders of the runs, or files of loggers.
      place: the column with the steps; None: the usual one.

    Raises:
      ValueError: there is no log, or a run is named twice.
    """
    if len(paths) == 1:
        found = run(paths[0], place)
        return _page(_single(found), [found], panels(found.log.columns, found.alone)), found.notes
    runs = [run(x, place)._replace(name=n) for x, n in zip(paths, names(paths), strict=True)]
    parts = _several(runs)
    return _page(parts, runs, together(runs)), parts.notes


class Parts(NamedTuple):
    """What is on a page besides the curves."""

    title: str
    events: list[Happened]
    notes: list[str]
    facts: str = ""
    runs: str = ""
    diagnosis: str = ""
    configuration: str = ""
    environment: str = ""


def _single(found: Run) -> Parts:
    events = happened(found.log.columns, found.restarts)
    return Parts(
        f"Run {found.name}",
        events,
        found.notes,
        facts="".join(_fact(*x) for x in facts(found, events).items()),
        diagnosis=diagnosed(found.summary),
        configuration=configuration(found),
        environment=environment(found.summary),
    )


def _several(runs: list[Run]) -> Parts:
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    if len(runs) > len(LINES):
        notes.append(f"There are {len(LINES)} colours, so that some runs have the same one.")
    if not axes_of(runs):
        notes.append("The runs have no common axis: each is drawn over its own steps.")
    return Parts(f"{len(runs)} runs", all_happened(runs), notes, runs=overview(runs))


def _page(parts: Parts, runs: list[Run], drawn: list[Panel]) -> str:
    style, script = _file("page.css"), "\n".join(map(_file, SCRIPTS))
    return string.Template(_file("page.html")).substitute(
        title=escape(parts.title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        notes=listed("notes", parts.notes),
        facts=f'<dl class="facts">{parts.facts}</dl>' if parts.facts else "",
        runs=parts.runs,
        diagnosis=parts.diagnosis,
        curves=_curves(drawn, parts.events, [*axes_of(runs)]),
        numbers=_numbers(runs),
        configuration=parts.configuration,
        environment=parts.environment,
        now=datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        data=_data(runs, drawn, parts.events),
    )


def _file(name: str) -> str:
    return files("jaxsched._commands._reporting").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _curves(panels: list[Panel], events: list[Happened], axes: list[str]) -> str:
    """Return the figures that the script draws into."""
    figures = [_figure(n, panel) for n, panel in enumerate(panels)]
    if events:  # after the rate
        figures.insert(bool(panels), _lane(len(panels), events))
    if not figures:
        return ""
    return (
        '<section><h2>Curves</h2><p class="bar"><output id="where" aria-live="off"></output>'
        f'{_select(axes)}<label><input id="smooth" type="checkbox"> Smooth</label>'
        '<button id="whole" type="button" disabled>Whole run</button></p>'
        '<p id="said" class="heard" role="status"></p>'
        '<div id="stage" tabindex="0" role="group" aria-label="Curves of the run">'
        f'{"".join(figures)}</div><p class="hint">{HINT}</p>'
        "<noscript><p>The curves are drawn by a script.</p></noscript></section>"
    )


def _select(axes: list[str]) -> str:
    """Return the choice of the horizontal axis, if there is one."""
    if len(axes) < 2:
        return ""
    options = "".join(f"<option>{escape(name)}</option>" for name in axes)
    return f'<label>Over <select id="axis">{options}</select></label>'


def _figure(n: int, panel: Panel) -> str:
    legend = "".join(map(_legend, panel.series))
    label = escape(f"{panel.name}: {', '.join(x.name for x in panel.series)}")
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
    said = ", ".join(f"{x.whose}{x.counts.sum():.15g} {x.name}" for x in events)
    return (
        f'<figure id="panel-{n}"><figcaption><h3>what happened</h3></figcaption>'
        f'<svg class="plot" height="{30 + 22 * len(events)}" role="img" '
        f'aria-label="{escape(said)}"></svg></figure>'
    )


def _numbers(runs: list[Run]) -> str:
    several = len(runs) > 1
    found = [
        (f"{run.name}: {name}" if several else name, *row)
        for run in runs
        for name, *row in rows(run.log.columns)
    ]
    caption = "The number after “at” is a step."
    return f"<section><h2>Numbers</h2>{table(found, HEADS, caption)}</section>" if found else ""


def axes_of(runs: list[Run]) -> dict[str, list[Column | None]]:
    """Return the axes that all runs have, with the values of each run at its steps."""
    common = [name for name in runs[0].axes if all(name in run.axes for run in runs)]
    return {name: [run.axes[name] for run in runs] for name in common}


def _data(runs: list[Run], panels: list[Panel], events: list[Happened]) -> str:
    """Return the data of the script, in the order of the figures; it cannot end its element."""
    drawn: list[Any] = [[_series(x, runs) for x in panel.series] for panel in panels]
    if events:
        drawn.insert(bool(panels), [])
    axes = axes_of(runs) or {"step": [None for _ in runs]}
    data = {
        "steps": [packed(run.log.steps) for run in runs],
        "axes": [{"name": name, "maps": [*map(_map, maps)]} for name, maps in axes.items()],
        "panels": drawn,
        "happened": [*_marks(events)],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _map(x: Column | None) -> dict[str, Any] | None:
    return x and {"x": packed(x.steps), "y": packed(x.values)}


def _series(x: Series, runs: list[Run]) -> dict[str, Any]:
    run = runs[x.run]
    shared = len(x.column.steps) == len(run.log.steps) and x.column is not run.alone
    where = {} if shared else {"x": packed(x.column.steps)}
    return {
        "name": x.name,
        "colour": x.colour,
        "dashed": x.dashed,
        "run": x.run,
        "y": packed(x.column.values),
        **where,
    }


def _marks(events: list[Happened]) -> Iterable[dict[str, Any]]:
    for x in events:
        own = DARKER.get(EVENTS[x.kind], EVENTS[x.kind])
        colour = colour_of(x.run) if x.whose else own
        said = {"name": x.name, "kind": x.kind, "colour": colour, "guide": x.kind in GUIDES}
        yield {**said, "run": x.run, "whose": x.whose, "x": packed(x.steps), "y": packed(x.counts)}
