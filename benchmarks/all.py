"""Every figure there is, one benchmark after the other, each in a process of its own.

    python benchmarks/all.py              # some twenty minutes on two idle cores
    python benchmarks/all.py core growth  # only these; the others stay as they were

Writes `benchmarks/results.json` and `docs/benchmarks.md`.
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

from measure import decoded, missed

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE.parent / "docs" / "benchmarks.md"
SUITES = "core", "rules", "growth", "programs", "sweep", "range_test", "ranking"

HEAD = """\
# Benchmarks

Measured by `python benchmarks/all.py`, which writes this page and `benchmarks/results.json`. Every
ratio is of one run on one machine, the median of pairs that were timed in turns, with its quartiles
in brackets; nothing here is tested by a timer. How right the rules are, not how fast, is printed by
`benchmarks/plateau.py` and `benchmarks/diagnosis.py`.
"""


def measured(suite: str, turns: int) -> dict[str, Any]:
    """The tables of a suite, and what they were measured with."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.json"
        words = [sys.executable, f"{suite}.py", "--turns", str(turns), "--json", str(file)]
        path = os.pathsep.join(
            [str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        )
        subprocess.run(words, cwd=HERE, check=True, env={**os.environ, "PYTHONPATH": path})
        return {"date": f"{datetime.date.today()}", **json.loads(file.read_text())}


def page(results: dict[str, Any]) -> str:
    """All tables, with where each comes from."""
    parts = [HEAD]
    for suite in SUITES:
        if found := results.get(suite):
            machine = ", ".join(f"{name} {x}" for name, x in found["machine"].items())
            source = f"`python benchmarks/{suite}.py`, {found['date']}: {machine}."
            parts += [f"{decoded(table).markdown()}\n{source}\n" for table in found["tables"]]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--turns", type=int, default=15, help="how often each pair is timed")
    options = parser.parse_args()
    if strange := set(options.suites) - {*SUITES}:
        parser.error(f"there is no {', '.join(strange)}, but {', '.join(SUITES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for suite in options.suites or SUITES:
        results[suite] = measured(suite, options.turns)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    rows = (row for x in results.values() for t in x["tables"] for row in decoded(t).rows)
    return int(any(map(missed, rows)))


if __name__ == "__main__":
    sys.exit(main())
