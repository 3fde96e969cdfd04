"""Several runs side by side: one colour for each, and a table with a switch for each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from jaxsched._commands._reporting._numbers import of_kind, verdict
from jaxsched._commands._reporting._panels import (
    ACCURACY,
    LINES,
    LOSS,
    Happened,
    Panel,
    happened,
    panels,
)
from jaxsched._commands._reporting._run import Run


def names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that are all different."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(x[-length:]) for x in parts]
        if len({*found}) == len(found):
            break
    else:
        raise ValueError(f"the run {paths[0]} is named twice")
    return found


def colour(n: int) -> str:
    """Return the colour of the n-th run; after seven runs the colours repeat."""
    return LINES[n % len(LINES)]


def together(runs: Sequence[Run]) -> list[Panel]:
    """Return the panels of several runs, with the curves of one kind in one panel."""
    found: dict[str, Panel] = {}
    for n, run in enumerate(runs):
        for panel in panels(run.log.columns, None):
            own = [
                x._replace(name=f"{run.name}: {x.name}", colour=colour(n), dashed=False, run=n)
                for x in panel.series
            ]
            before = found.get(panel.name, Panel(panel.name, panel.log, []))
            found[panel.name] = before._replace(series=[*before.series, *own])
    return [*found.values()]


def all_happened(runs: Sequence[Run]) -> list[Happened]:
    """Return the events of several runs."""
    return [
        x._replace(name=f"{run.name}: {x.name}", run=n)
        for n, run in enumerate(runs)
        for x in happened(run.log.columns, run.restarts)
    ]


def overview(runs: Sequence[Run]) -> str:
    """Return a table of the runs: a switch, the schedule, the optimizer, and the results."""
    heads = ("run", "schedule", "optimizer", "steps", *RESULTS, "diagnosis")
    head = "".join(f'<th scope="col">{escape(x)}</th>' for x in heads)
    body = "".join(map(_row, range(len(runs)), runs))
    return (
        '<section><h2>Runs</h2><div class="scroll"><table class="runs"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


RESULTS = {
    "loss: lowest / last": (LOSS, "lowest"),
    "accuracy: highest / last": (ACCURACY, "highest"),
}


def _row(n: int, run: Run) -> str:
    rate = "" if run.rate is None else str(run.settings[run.rate])
    steps = f"{len(run.log.steps)}"
    results = (of_kind(run.log.columns, *x) for x in RESULTS.values())
    cells = (str(run.settings.get("optimizer") or ""), steps, *results, verdict(run))
    swatch = (
        f'<svg viewBox="0 0 20 8" aria-hidden="true"><line x2="20" y1="4" y2="4" '
        f'stroke="{colour(n)}" stroke-width="4"/></svg>'
    )
    return (
        f'<tr><th scope="row"><label><input type="checkbox" class="run" checked '
        f'aria-label="show {escape(run.name)}"> {swatch} {escape(run.name)}</label></th>'
        f"<td><code>{escape(rate)}</code></td>"
        f"{''.join(f'<td>{escape(x)}</td>' for x in cells)}</tr>"
    )
