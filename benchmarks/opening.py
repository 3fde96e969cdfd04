"""The opening of the page of benchmarks: what the figures mean for a user, and one picture."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from measure import Ratio, Table

Tables = dict[str, Table]
PICTURE = "pictures/benchmarks.png"
OURS = "a schedule and `reduce_on_plateau()`"
OPTAX = "an Optax schedule and `optax.contrib.reduce_on_plateau`"
NEEDED = "core", "updates", "growth", "sweep"  # the suites whose figures are in the opening
SCAN, REST, UPDATE = "Every shape that Optax has", "Restarts, calls, whole steps", "One update"
GROWTH, SWEEP = "To compile, with the number of pieces", "64 schedules at once"

# Each bar of the picture: a table, a row, the place of the ratio, and the label.
BARS = (
    (SCAN, "in a scan: warmup, cosine", "a step of warmup-cosine in a scan"),
    (SCAN, "in a scan: one cycle, cosine", "a step of one-cycle in a scan"),
    (SCAN, "in a scan: exponential", "a step of an exponential decay in a scan"),
    (REST, "100 warm restarts, in a scan", "a step of 100 warm restarts in a scan"),
    (REST, "100 warm restarts, to compile", "compiling 100 warm restarts"),
    (GROWTH, "a join of 300 cosines", "compiling a chain of 300 pieces"),
    (REST, "schedule(17) from Python: warmup, cosine", "calling warmup-cosine from Python"),
    (REST, "10 peaks, one after the other, against closures, compilation included",
     "training with 10 peaks in turn, compilation included"),
    (SWEEP, "one sweep of all", "training with 64 schedules, compilation included"),
)  # fmt: skip

HOW = (
    "`python benchmarks/all.py` measures all of this on the device that JAX finds. It writes this "
    "page and `benchmarks/results.json`. A ratio is the time of the other library divided by the "
    "time of jaxsched, unless the heading of the column says otherwise; above 1, jaxsched is "
    "faster. Each ratio is the median of pairs timed in turns, with the quartiles in brackets. A "
    "ratio below its goal is marked as missed."
)


def cell(tables: Tables, title: str, name: str, column: str) -> Any:
    """The cell of the row that begins with a name."""
    table = tables[title]
    row = next(row for row in table.rows if row[0] == name)
    return row[table.columns.index(column)]


def times(tables: Tables, title: str, name: str) -> float:
    """How many times as fast as Optax: the first ratio of a row."""
    row = next(row for row in tables[title].rows if row[0] == name)
    return next(x.median if isinstance(x, Ratio) else x for x in row if not isinstance(x, str))


def bars(tables: Tables) -> list[tuple[str, float]]:
    """The bars of the picture: a label, and how many times as fast as Optax."""
    return [(label, times(tables, title, name)) for title, name, label in BARS]


def page(tables: Tables, backend: str) -> str:
    """The head of the page, from the tables of one device.

    Args:
      tables: its tables by title.
      backend: its name: CPU, GPU or TPU.
    """
    scans = sorted(times(tables, SCAN, row[0]) for row in tables[SCAN].rows)
    restarts, compiled = (times(tables, *bar[:2]) for bar in BARS[3:5])
    ours, optax = (cell(tables, UPDATE, name, "10^6").median for name in (OURS, OPTAX))
    added = cell(tables, UPDATE, OURS, "arrays added")
    warm = cell(tables, SWEEP, BARS[8][1], "ratio, compiled already")
    points = (
        f"**One step.** Inside a compiled scan, a schedule runs at {scans[0]:.2f} to "
        f"{scans[-1]:.2f} times the speed of the Optax schedule with the same values. The median "
        f"of {len(scans)} shapes is {scans[len(scans) // 2]:.2f}.",
        f"**Restarts.** A step of a schedule with 100 warm restarts is {restarts:.0f} times as "
        f"fast as Optax's, and the schedule compiles {compiled:.0f} times as fast. The cost does "
        "not grow with the number of cycles.",
        "**A whole update.** With a schedule and a plateau, an AdamW update of 10^6 parameters "
        f"takes {ours:.2f} times as long as at a constant rate. With Optax's schedule and plateau "
        f"it takes {optax:.2f} times as long. The schedule and the plateau of jaxsched add "
        f"{added} arrays to the optimizer state.",
        f"**Many runs.** A sweep of 64 schedules is {times(tables, *BARS[8][:2]):.0f} times as "
        "fast as 64 Optax closures when both have to be compiled. Once compiled, "
        f"it runs at {warm:.2f} times their speed on a {backend}. With more members it can be "
        "slower; see the table by the number of members.",
        "**New numbers.** Another peak value needs no compilation. Ten peaks in turn take "
        f"{times(tables, *BARS[7][:2]):.1f} times as long with Optax closures.",
    )
    lines = ["# Benchmarks", "", *(wrapped(f"- {point}", "  ") for point in points), ""]
    lines += [f"![How many times as fast as Optax]({PICTURE})", "", wrapped(HOW), ""]
    return "\n".join(lines)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 128 characters."""
    return textwrap.fill(text, 128, subsequent_indent=indent, break_on_hyphens=False)


def draw(bars: list[tuple[str, float]], file: Path) -> None:
    """Bars on a logarithmic axis, from the level of Optax."""
    labels, ratios = zip(*reversed(bars), strict=True)
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.barh(labels, [x - 1 for x in ratios], left=1, color="#2563eb", height=0.6)
    for place, x in enumerate(ratios):
        axes.annotate(
            f"{x:.2f}" if x < 2 else f"{x:.0f}", (max(x, 1), place), (4, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip
    axes.axvline(1, color="#444", lw=1)
    axes.set(xscale="log", xlim=(0.5, 2 * max(ratios)), xlabel="times as fast as Optax")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(file, dpi=150)
    plt.close(figure)
