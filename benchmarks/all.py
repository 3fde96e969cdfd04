"""Run every benchmark, each in a process of its own, and write the results and their page.

    python benchmarks/all.py              # all of them, on the device that JAX finds
    python benchmarks/all.py core growth  # only these; the others stay as they were
    python benchmarks/all.py --page       # only write the page again

Writes `benchmarks/results.json`, `docs/benchmarks.md` and its picture. The results of a CPU, a GPU
and a TPU stand side by side: a run replaces those of its own device alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import opening
from measure import Table, decoded, missed, side_by_side

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
RESULTS, PAGE = HERE / "results.json", DOCS / "benchmarks.md"
SUITES = (
    "core", "updates", "rules", "growth", "programs", "sweep", "range_test", "ranking", "monitor",
    "diagnosis", "averages",
)  # fmt: skip


def measured(suite: str, turns: int) -> dict[str, Any]:
    """The tables of a suite, the device they were measured on, and the date."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.json"
        words = [sys.executable, f"{suite}.py", "--turns", str(turns), "--json", str(file)]
        path = os.pathsep.join(
            [str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        )
        subprocess.run(words, cwd=HERE, check=True, env={**os.environ, "PYTHONPATH": path})
        return {"date": f"{datetime.date.today()}", **json.loads(file.read_text())}


def together(found: dict[str, Any]) -> list[Table]:
    """The tables of a suite, with a column for each device."""
    by_title: dict[str, dict[str, Table]] = {}
    for backend, result in sorted(found.items()):
        for table in map(decoded, result["tables"]):
            by_title.setdefault(table.title, {})[backend] = table
    return [side_by_side(tables) for tables in by_title.values()]


def sources(suite: str, found: dict[str, Any]) -> str:
    """The command behind a table, and the machines it ran on."""
    ran = (
        f"{backend}, {result['date']} ("
        + ", ".join(f"{name} {x}" for name, x in result["machine"].items())
        + ")"
        for backend, result in sorted(found.items())
    )
    return f"`python benchmarks/{suite}.py`: {'; '.join(ran)}."


def of(backend: str, results: dict[str, Any]) -> dict[str, Table]:
    """The tables of one device, by title."""
    found = (found[backend]["tables"] for found in results.values() if backend in found)
    return {table["title"]: decoded(table) for tables in found for table in tables}


def page(results: dict[str, Any]) -> str:
    """All tables, with the command and the machine behind each."""
    tables = {suite: together(results[suite]) for suite in SUITES if suite in results}
    backends = {backend for found in results.values() for backend in found}
    first = min(backends)  # a CPU, if one has run
    parts = [opening.page(of(first, results), first)]
    for suite, each in tables.items():
        source = sources(suite, results[suite])
        parts += [f"{table.markdown()}\n{source}\n" for table in each]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--turns", type=int, default=15, help="how often each pair is timed")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    options = parser.parse_args()
    if strange := set(options.suites) - {*SUITES}:
        parser.error(f"no benchmark is named {', '.join(strange)}; there are {', '.join(SUITES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for suite in () if options.page else options.suites or SUITES:
        found = measured(suite, options.turns)
        results.setdefault(suite, {})[found.pop("backend")] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if missing := [suite for suite in opening.NEEDED if suite not in results]:
        print(f"The page is not written: it needs the results of {', '.join(missing)} too.")
    else:
        PAGE.write_text(page(results))
        first = min(backend for found in results.values() for backend in found)
        opening.draw(opening.bars(of(first, results)), DOCS / opening.PICTURE)
    tables = (t for found in results.values() for x in found.values() for t in x["tables"])
    return int(any(missed(row) for table in tables for row in decoded(table).rows))


if __name__ == "__main__":
    sys.exit(main())
