"""The opening of the page of benchmarks: what the figures mean for a user, and one picture."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from measure import Ratio, Table

DOCS = Path(__file__).parent.parent / "docs"
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

# Figures that were measured by hand, for devices on which the benchmarks have not run.
BY_HAND = (
    "No GPU has run these benchmarks since the optimizer state became two vectors. The last "
    "figures were taken by hand on one H100, with jax 0.11.2 and Optax 0.2.8. Before the change, "
    "an update of 10^6 parameters with a schedule and a plateau took 1.7 to 2.4 times as long as "
    "at a constant rate; with 124 * 10^6 parameters it took 1.02 to 1.03 times as long. A "
    "prototype of the two vectors took 1.08 and 1.003 times as long."
)
HOW = (
    "`python benchmarks/all.py` measures all of this on the device that JAX finds. It writes this "
    "page and `benchmarks/results.json`. A ratio is the time of the other library divided by the "
    "time of jaxsched, unless its column says otherwise; above 1, jaxsched is faster. Each is the "
    "median of pairs timed in turns, with the quartiles in brackets. A ratio below its goal is "
    "marked as missed."
)


def row(tables: dict[str, Table], title: str, name: str) -> tuple[Any, ...]:
    """The row of a table that begins with a name."""
    return next(row for row in tables[title].rows if row[0] == name)


def ratio(tables: dict[str, Table], title: str, name: str) -> float:
    """The first ratio of a row."""
    cells = row(tables, title, name)[1:]
    return next(x.median if isinstance(x, Ratio) else x for x in cells if not isinstance(x, str))


def page(tables: dict[str, Table], picture: str) -> str:
    """The head of the page; its picture is drawn anew."""
    bars = [(label, ratio(tables, title, name)) for title, name, label in BARS]
    draw(bars, DOCS / picture)
    scans = sorted(next(x for x in r if isinstance(x, Ratio)).median for r in tables[SCAN].rows)
    update = row(tables, UPDATE, "a schedule and `reduce_on_plateau()`")
    optax = row(tables, UPDATE, "an Optax schedule and `optax.contrib.reduce_on_plateau`")
    columns = tables[UPDATE].columns
    million, added = (next(i for i, c in enumerate(columns) if c.endswith(x))
                      for x in ("10^6", "arrays added"))  # fmt: skip
    points = (
        f"**One step.** Inside a compiled scan, a schedule runs at {scans[0]:.2f} to "
        f"{scans[-1]:.2f} times the speed of the Optax schedule with the same values. The median "
        f"of {len(scans)} shapes is {scans[len(scans) // 2]:.2f}.",
        f"**Restarts.** A step of 100 warm restarts is {ratio(tables, *BARS[3][:2]):.0f} times as "
        f"fast as Optax's, and they compile {ratio(tables, *BARS[4][:2]):.0f} times as fast. The "
        "cost does not grow with the number of cycles.",
        "**A whole update.** A schedule and a plateau make an AdamW update of 10^6 parameters "
        f"{update[million].median:.2f} times as long as a constant rate does. Optax's schedule and "
        f"plateau make it {optax[million].median:.2f} times as long. Ours add {update[added]} "
        "arrays to the optimizer state.",
        f"**Many runs.** A sweep of 64 schedules is {ratio(tables, *BARS[8][:2]):.0f} times as "
        "fast as 64 Optax closures when both have to be compiled. Once compiled, "
        f"it runs at {row(tables, SWEEP, 'one sweep of all')[4]:.2f} times their speed on a CPU.",
        "**New numbers.** Another peak value needs no compilation. Ten peaks in turn take "
        f"{ratio(tables, *BARS[7][:2]):.1f} times as long with Optax closures.",
    )
    lines = ["# Benchmarks", "", *(wrapped(f"- {point}", "  ") for point in points), ""]
    lines += [f"![How many times as fast as Optax]({picture})", "", wrapped(HOW), ""]
    if not any("GPU:" in column for column in columns):
        lines += [wrapped(BY_HAND), ""]
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
