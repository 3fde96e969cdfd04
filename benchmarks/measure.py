"""What all benchmarks share: pairs timed in turns, and tables that are Markdown and JSON.

Each pair is timed in turns, ours and theirs, and the ratio is taken turn by turn: its median is
reported with its quartiles, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

HLO = re.compile(r"^ +(?:ROOT )?%?[\w.-]+ = ", re.MULTILINE)  # one instruction


class Ratio(NamedTuple):
    """How many times as much, over the turns."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


class Aim(NamedTuple):
    """What a ratio has to be at least."""

    least: float

    def __str__(self) -> str:
        return f">= {self.least:g}"


@dataclasses.dataclass(frozen=True)
class Table:
    """The result of a benchmark. The last cell of a row may be the goal of its ratios."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def markdown(self) -> str:
        """The table as text. A ratio that misses its goal is marked."""
        lines = [self.columns, ("---",) * len(self.columns), *map(_shown, self.rows)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"


def _shown(row: Sequence[Any]) -> tuple[str, ...]:
    aim = row[-1] if isinstance(row[-1], Aim) else None
    return tuple(_cell(x) + (" **missed**" if short(x, aim) else "") for x in row)


def _cell(x: Any) -> str:
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def short(x: Any, aim: Aim | None) -> bool:
    """Whether a ratio is below its goal."""
    return aim is not None and isinstance(x, Ratio) and x.median < aim.least


def missed(row: Sequence[Any]) -> bool:
    """Whether a ratio in a row is below the goal of that row."""
    return isinstance(row[-1], Aim) and any(short(x, row[-1]) for x in row)


def side_by_side(tables: dict[str, Table]) -> Table:
    """One table from the tables of several devices.

    Rows are paired by their first cell. A column that is the same on every device, as far as its
    rows were measured there, appears once.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    first, *others = tables.values()
    if any(table.columns != first.columns for table in others):
        raise ValueError(
            f"the tables {first.title!r} have different columns; run all devices again"
        )
    by_name = [{row[0]: row[1:] for row in table.rows} for table in tables.values()]
    names = list(dict.fromkeys(name for rows in by_name for name in rows))
    empty = ("",) * (len(first.columns) - 1)
    columns, cells = [first.columns[0]], [names]
    for i, column in enumerate(first.columns[1:]):
        each = [[rows.get(name, empty)[i] for name in names] for rows in by_name]
        found = [[rows[name][i] for rows in by_name if name in rows] for name in names]
        if all(cell == row[0] for row in found for cell in row):
            columns, cells = [*columns, column], [*cells, [row[0] for row in found]]
        else:
            columns += [f"{device}: {column}" for device in tables]
            cells += each
    return Table(first.title, first.note, tuple(columns), tuple(zip(*cells, strict=True)))


def seconds(f: Callable[[], Any]) -> float:
    """How long a call takes, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(f())
    return time.perf_counter() - start


def paired(
    ours: Callable[[], Any], theirs: Callable[[], Any], turns: int
) -> tuple[float, float, list[float]]:
    """Medians of both, and theirs / ours turn by turn."""
    seconds(ours), seconds(theirs)
    rows = [(seconds(ours), seconds(theirs)) for _ in range(turns)]
    return (*map(statistics.median, zip(*rows, strict=True)), sorted(b / a for a, b in rows))


def ratio(found: Sequence[float]) -> Ratio:
    """The median of ratios, and their quartiles."""
    low, _, high = statistics.quantiles(found, n=4)
    return Ratio(statistics.median(found), low, high)


def against(
    ours: Any, theirs: Any, turns: int, per: int = 1, theirs_per: int = 0
) -> tuple[str, str, Ratio]:
    """Both times and the ratio; `per` is how often what is timed happens in one call of ours."""
    a, b, ratios = paired(ours, theirs, turns)
    times = theirs_per or per
    return unit(a / per), unit(b / times), ratio([x * per / times for x in ratios])


def unit(x: float) -> str:
    """Seconds in the unit in which they are read."""
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if x >= scale:
            return f"{x / scale:.3g} {name}"
    return f"{x / 1e-9:.3g} ns"


def size(x: float) -> str:
    """Bytes in the unit in which they are read."""
    for scale, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "kiB")):
        if x >= scale:
            return f"{x / scale:.3g} {name}"
    return f"{x:.0f} B"


def instructions(compiled: Any) -> int:
    """How many instructions there are in a compiled program, those of its fusions included."""
    return len(HLO.findall(compiled.as_text()))


def backend() -> str:
    """The name of this machine's column: CPU, GPU or TPU."""
    return jax.default_backend().upper()


def machine() -> dict[str, str]:
    """What was measured on, and with what."""
    return {
        "device": jax.devices()[0].device_kind,
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
    }


def run(tables: Callable[[int], Sequence[Table]], turns: int = 15) -> None:
    """The command of one benchmark: print its tables, or write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=turns, help="how often each pair is timed")
    parser.add_argument("--json", type=Path, help="write the tables there")
    options = parser.parse_args()
    found = tables(options.turns)
    print(", ".join(f"{name} {x}" for name, x in machine().items()), end="\n\n")
    print("\n".join(table.markdown() for table in found))
    if options.json:
        tables_ = [encoded(table) for table in found]
        options.json.write_text(
            json.dumps({"backend": backend(), "machine": machine(), "tables": tables_})
        )


def encoded(table: Table) -> dict[str, Any]:
    """A table as plain values: what a program reads, and `decoded`."""
    return {**dataclasses.asdict(table), "rows": [[*map(_plain, row)] for row in table.rows]}


def decoded(found: dict[str, Any]) -> Table:
    """The table that was encoded."""
    rows = tuple(tuple(map(_special, row)) for row in found["rows"])
    return Table(found["title"], found["note"], tuple(found["columns"]), rows)


def _plain(x: Any) -> Any:
    return x._asdict() if isinstance(x, (Ratio, Aim)) else x


def _special(x: Any) -> Any:
    return (Aim if "least" in x else Ratio)(**x) if isinstance(x, dict) else x
