"""How well a law that was fitted to two runs tells the losses of others, from a folder of curves.

    python benchmarks/forecast.py FOLDER             # tables
    python benchmarks/forecast.py FOLDER --calibrate # the numbers behind the bands

FOLDER holds a folder of CSV files for each model, with the columns step, lr and loss. A file is
named after its schedule. The curves that this was written for are those of Luo et al., ICLR 2025,
https://arxiv.org/abs/2503.12811, which are published with the paper.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize
from measure import Table

import jaxsched as js

FITTED = "constant_24000", "wsdcon_9"  # a stable run, and a short branch of it
HALF = "cosine_72000"  # the run that is told from its first half


class Curve(NamedTuple):
    """The log of a run."""

    steps: np.ndarray
    rates: np.ndarray
    losses: np.ndarray

    def part(self, share: float) -> Curve:
        return Curve(*(x[: int(share * len(x))] for x in self))

    @property
    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.rates, self.steps, self.losses


class Errors(NamedTuple):
    """Errors of a law on a curve, relative to the loss."""

    end: float
    mean: float  # of the absolute values
    inside: bool  # whether the end is in the band of 90 %
    half: float  # half the width of the band at the end


def read(folder: Path) -> dict[str, dict[str, Curve]]:
    """The curves of each model."""
    return {
        model.name: {
            file.stem: Curve(*np.loadtxt(file, delimiter=",", skiprows=1, unpack=True))
            for file in sorted(model.glob("*.csv"))
        }
        for model in sorted(x for x in folder.iterdir() if x.is_dir() and [*x.glob("*.csv")])
    }


def errors(law: js.LossLaw, curve: Curve) -> Errors:
    told = np.asarray(law(curve.rates, curve.steps))
    off = told / curve.losses - 1
    inside, half = False, np.nan
    if law.evidence is not None:
        low, high = (float(x[-1]) for x in law.band(curve.rates, curve.steps))
        inside, half = low <= curve.losses[-1] <= high, high / told[-1] - 1
    return Errors(off[-1], np.abs(off).mean(), inside, half)


def percent(x: float) -> str:
    return f"{100 * x:.2f} %"


def of_two_runs(curves: dict[str, Curve], model: str) -> Table:
    """The curves that were not fitted, with and without the term of the falls."""
    law = js.fit_loss_law([curves[name].run for name in FITTED])
    without = dataclasses.replace(law, drop=0.0, evidence=None)
    rows: list[tuple[str, ...]] = []
    for name, curve in curves.items():
        if name in FITTED:
            continue
        found, plain = errors(law, curve), errors(without, curve)
        band = f"{percent(found.half)}, {'inside' if found.inside else '**outside**'}"
        rows.append((name, percent(found.end), percent(found.mean), band, percent(plain.end)))
    others = [errors(law, curve) for name, curve in curves.items() if name not in FITTED]
    worst = max(others, key=lambda x: abs(x.end))
    rows.append(
        ("worst", percent(abs(worst.end)), percent(max(x.mean for x in others)),
         f"{sum(x.inside for x in others)} of {len(others)} inside", "")
    )  # fmt: skip
    note = (
        f"The law was fitted to `{FITTED[0]}` and `{FITTED[1]}`. It is {law}. The fitted runs do "
        f"not determine {', '.join(law.undetermined) or 'nothing'}. The band is the half-width at "
        "the end, for 90 %. The last column is the same law without its term for falls."
    )
    columns = "curve", "error at the end", "mean error", "band", "without the falls"
    return Table(f"{model}: from two runs", note, columns, tuple(rows))


def of_a_half(curves: dict[str, Curve], model: str) -> Table:
    """The end of a cosine from its first half, beside a power law in steps."""
    whole = curves[HALF]
    half = whole.part(0.5)
    rows: list[tuple[str, ...]] = []
    for form in ("multi_power", "annealing"):
        found = errors(js.fit_loss_law([half.run], form=form), whole)
        band = f"{percent(found.half)}, {'inside' if found.inside else '**outside**'}"
        rows.append((f"the law `{form}`", percent(found.end), band))
    level = Curve(whole.steps, np.ones_like(whole.rates), whole.losses)
    power = js.fit_loss_law([level.part(0.5).run])
    rows.append(("a power of the steps, with our prior", percent(errors(power, level).end), ""))
    rows.append(("a power of the steps, by least squares", percent(plain_power(half, whole)), ""))
    columns = "told by", "error at the end", "band"
    return Table(f"{model}: from the first half of `{HALF}`", "", columns, tuple(rows))


def plain_power(half: Curve, whole: Curve) -> float:
    """The error at the end of floor + gain * steps**-alpha, fitted in logarithms."""

    def told(logs: np.ndarray, steps: np.ndarray) -> np.ndarray:
        floor, gain, alpha = np.exp(logs)
        return floor + gain * (steps / half.steps[-1]) ** -alpha

    last = half.losses[-1]
    found = scipy.optimize.least_squares(
        lambda x: np.log(told(x, half.steps) / half.losses), np.log([0.8 * last, 0.2 * last, 0.5])
    )
    return float(told(found.x, whole.steps[-1:])[0] / whole.losses[-1] - 1)


def times(curves: dict[str, Curve], model: str) -> Table:
    """Seconds of a fit from 16 starts, the first time and again."""
    rows = []
    cases = {
        "two runs": [curves[name].run for name in FITTED],
        "half a cosine": [curves[HALF].part(0.5).run],
    }
    for name, runs in cases.items():
        jax.clear_caches()
        took = []
        for _ in range(4):
            start = time.perf_counter()
            jax.block_until_ready(js.fit_loss_law(runs))
            took.append(time.perf_counter() - start)
        rows.append((name, f"{took[0]:.2f} s", f"{np.median(took[1:]):.3f} s"))
    columns = "fitted to", "first", "again"
    return Table(f"{model}: seconds of a fit", "From 16 starts.", columns, tuple(rows))


# The sets of runs for the calibration: what a user may have. Fractions are parts of a run.
WAYS: tuple[dict[str, float], ...] = (
    {"constant_24000": 1.0, "wsdcon_9": 1.0}, {"constant_24000": 1.0, "wsdcon_3": 1.0},
    {"constant_24000": 1.0, "wsdcon_18": 1.0}, {"constant_24000": 1.0}, {"constant_72000": 0.2},
    {"constant_24000": 1.0, "cosine_24000": 1.0}, {"cosine_24000": 0.5, "wsdcon_3": 1.0},
    {"constant_72000": 0.5, "wsdcon_9": 1.0}, {"cosine_72000": 0.4}, {"cosine_72000": 0.5},
    {"cosine_72000": 0.6}, {"cosine_24000": 0.6}, {"cosine_24000": 1.0}, {"wsd_20000_24000": 1.0},
    {"wsdcon_9": 1.0},
)  # fmt: skip


def calibration(curves: dict[str, Curve], model: str) -> Table:
    """How often the ends of the curves that were not fitted are in the band."""
    rows: list[tuple[str, ...]] = []
    total = []
    for way in WAYS:
        law = js.fit_loss_law([curves[name].part(share).run for name, share in way.items()])
        # A curve of which only a part was fitted still has an end that was not.
        others = [errors(law, x) for name, x in curves.items() if way.get(name, 0.0) < 1.0]
        total += [x.inside for x in others]
        named = " and ".join(f"{name} x {share:g}" for name, share in way.items())
        half = percent(float(np.median([x.half for x in others])))
        ends = percent(float(np.sqrt(np.mean([x.end**2 for x in others]))))
        rows.append((named, f"{sum(x.inside for x in others)} of {len(others)}", half, ends))
    rows.append(("all", f"{sum(total)} of {len(total)}, {percent(np.mean(total))}", "", ""))
    columns = "fitted to", "ends in the band", "median half-width", "root mean square error"
    return Table(f"{model}: the bands of 90 %", "", columns, tuple(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of curves per model")
    parser.add_argument("--calibrate", action="store_true", help="how often the bands hold")
    options = parser.parse_args()
    for model, curves in read(options.folder).items():
        made = (calibration,) if options.calibrate else (of_two_runs, of_a_half, times)
        for table in made:
            print(table(curves, model).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
