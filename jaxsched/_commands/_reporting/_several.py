"""Several runs side by side: one colour for each, and a table with a switch for each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from jaxsched._commands._reporting._numbers import BEST, best_and_last, verdict
from jaxsched._commands._reporting._panels import (
    LINES,
    Happened,
    Panel,
    Series,
    happened,
    panels,
)
from jaxsched._commands._reporting._run import Run
from jaxsched._look._curve import brief


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


def colour_of(n: int) -> str:
    """Return the colour of the n-th run; after seven runs the colours repeat."""
    return LINES[n % len(LINES)]


def together(runs: Sequence[Run]) -> list[Panel]:
    """Return the panels of several runs, with the curves of one kind in one panel."""
    found: dict[str, Panel] = {}
    for n, run in enumerate(runs):
        for panel in panels(run.log.columns, None):
            own = [
                x._replace(name=f"{run.name}: {x.name}", colour=colour_of(n), dashed=False, run=n)
                for x in panel.series
            ]
            before = found.get(panel.name, Panel(panel.name, panel.log, []))
            found[panel.name] = before._replace(series=[*before.series, *own])
    return [
        panel._replace(series=sorted(panel.series, key=_sparseness)) for panel in found.values()
    ]


def _sparseness(x: Series) -> int:
    """Return a number by which curves with few points are last, and so drawn on top."""
    return -len(x.column.steps)


def all_happened(runs: Sequence[Run]) -> list[Happened]:
    """Return the events of several runs."""
    return [
        x._replace(run=n, whose=f"{run.name}: ")
        for n, run in enumerate(runs)
        for x in happened(run.log.columns, run.restarts)
    ]


# The results are those of the validation, if there is one.
RESULTS = [f"{what}: {word} at step / last" for what, (_, word) in BEST.items()]
HEADS = "steps", "optimizer", *RESULTS, "diagnosis", "schedule"


def overview(runs: Sequence[Run]) -> str:
    """Return a table of the runs: a switch, the schedule, the optimizer, and the results."""
    columns = list(zip(HEADS, *map(cells, runs), strict=True))
    told = [column for column in columns if any(column[1:])]
    head = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in ("run", *(x[0] for x in told))
    )
    rows = (
        f"<tr>{_switch(n, run)}{''.join(f'<td>{escape(x[n + 1])}</td>' for x in told)}</tr>"
        for n, run in enumerate(runs)
    )
    return (
        '<section><h2>Runs</h2><div class="scroll"><table class="runs"><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def cells(run: Run) -> tuple[str, ...]:
    """Return the cells of a run under `HEADS`."""
    rate = "" if run.rate is None else brief(str(run.settings[run.rate]))
    results = (best_and_last(run.log.columns, what) for what in BEST)
    optimizer = str(run.settings.get("optimizer") or "")
    return str(len(run.log.steps)), optimizer, *results, verdict(run), rate


def _switch(n: int, run: Run) -> str:
    """Return the cell with the name of a run, its colour and its switch."""
    name = escape(run.name)
    return (
        f'<th scope="row"><label><input type="checkbox" class="run" checked '
        f'aria-label="show {name}"> <svg viewBox="0 0 20 8" aria-hidden="true">'
        f'<line x2="20" y1="4" y2="4" stroke="{colour_of(n)}" stroke-width="4"/></svg> '
        f"{name}</label></th>"
    )
