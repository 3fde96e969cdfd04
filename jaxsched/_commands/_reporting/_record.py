"""The record of a run as sections of a page: its diagnosis, settings and environment."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from jaxsched._commands._reporting._numbers import number
from jaxsched._commands._reporting._run import Run, diagnosis, sessions
from jaxsched._commands._reporting._table import listed, table
from jaxsched._look._describe import describe


def diagnosed(summary: dict[str, Any]) -> str:
    """Return the diagnosis: sentences, and scores; nothing if none was recorded."""
    found = diagnosis(summary)
    if not found:
        return ""
    advice, scores = found.get("advice"), found.get("scores")
    said = listed("advice", map(str, advice)) if isinstance(advice, list) else ""
    bars = _bars(scores) if isinstance(scores, dict) else ""
    return _section("Diagnosis", said + bars)


def _bars(scores: dict[str, Any]) -> str:
    known = {str(name): x for name, x in scores.items() if isinstance(x, int | float)}
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in known)
    cells = "".join(
        f'<td><meter min="0" max="1" high="0.5" optimum="0" value="{x}"></meter> {x:.2f}</td>'
        for x in known.values()
    )
    caption = "<caption>Scores from 0 to 1; one half and more is a problem.</caption>"
    head = f"<thead><tr>{heads}</tr></thead>"
    return (
        f'<div class="scroll"><table>{caption}{head}<tbody><tr>{cells}</tr></tbody></table></div>'
    )


def configuration(run: Run) -> str:
    """Return the settings: the schedule, also as a table, and all others."""
    others = {name: x for name, x in run.settings.items() if name != run.rate}
    parts = [table((name, _text(x)) for name, x in others.items())] if others else []
    if run.rate is not None and run.schedule is not None:
        parts.insert(0, _schedule(run, str(run.settings[run.rate])))
    return _section("Configuration", "".join(parts)) if parts else ""


def _schedule(run: Run, text: str) -> str:
    total = None if run.alone is None else int(run.log.steps[-1]) + 1
    found: Any = describe(run.schedule, total_steps=total)  # pyright: ignore[reportArgumentType]
    rows = [(str(step), f"{value:.4g}") for step, value in found.rows]
    if found.left_out is not None:
        rows.insert(found.left_out, ("…", "…"))
    ends = [f"{name} {x.value:.4g} at step {number(x.step)}" for name, x in
            (("peak", found.peak), ("floor", found.floor))]  # fmt: skip
    return (
        f'<h3>{escape(run.rate or "")} <button id="copy" type="button">Copy</button></h3>'
        f'<pre><code id="learning-rate">{escape(text)}</code></pre>'
        f"<details open><summary>Values of the schedule, and where they change</summary>"
        f"{table(rows, ('step', 'value'))}{listed('advice', [', '.join(ends), *found.rules])}"
        "</details>"
    )


def environment(summary: dict[str, Any]) -> str:
    """Return when and where the run was computed, and its results."""
    found, rows = sessions(summary), dict[str, list[str]]()
    for session in found:
        place = session.get("environment")
        for name, x in (place if isinstance(place, dict) else {}).items():
            rows.setdefault(str(name), []).append(_text(x))
    changed = {name: ", then ".join(dict.fromkeys(texts)) for name, texts in rows.items()}
    times = [_session(session) for session in found]
    heads = "steps", "started", "ended", "wall time"
    results = summary.get("results")
    kept = results.items() if isinstance(results, dict) else ()
    came = _section("Results", table((str(name), _text(x)) for name, x in kept)) if kept else ""
    if not found:
        return came
    return came + _section("Environment", table(changed.items()) + table(times, heads))


def _session(session: dict[str, Any]) -> tuple[str, ...]:
    steps = " to ".join(_text(session.get(name)) for name in ("first_step", "steps"))
    seconds = session.get("seconds")
    took = f"{seconds:.1f} s" if isinstance(seconds, int | float) else "–"
    return steps, _text(session.get("started")), _text(session.get("ended") or "not ended"), took


def _text(x: Any) -> str:
    return x if isinstance(x, str) else json.dumps(x, ensure_ascii=False)


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{title}</h2>{inside}</section>"
