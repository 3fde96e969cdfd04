"""An axis: the position of numbers, and the choice of tick labels."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

ROOM = 0.05  # margin above the highest and below the lowest value, as a fraction of the height


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, linear or, if `log`, logarithmic."""

    low: float
    high: float
    log: bool = False
    least: float = 0.0  # smallest distance between two ticks
    unit: float = 1.0  # what the tick label 1 stands for; only on a linear axis
    name: str = ""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return positions: 0 is the low end, 1 the high end, NaN has no position."""
        x = np.asarray(x, np.float64)
        if not self.log:
            return (x - self.low) / (self.high - self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.log(x / self.low) / math.log(self.high / self.low)
        return np.where(x > 0, parts, np.nan)

    def ticks(self, most: int) -> list[float]:
        """Return round numbers on the axis, about `most` of them at most."""
        if self.log and self.high / self.low >= 4:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = max(1, math.ceil((last - first) / most))
            digits = (1, 2, 5) if 3 * (last - first) <= most + 2 else (1,)
            powers = range(first, last + 1, every)
            return [
                x for n in powers for d in digits if self.low <= (x := d * 10.0**n) <= self.high
            ]
        low, high = self.low / self.unit, self.high / self.unit
        wide = max((high - low) / max(most, 1), self.least)
        size = 10.0 ** math.floor(math.log10(wide))
        each = next(size * n for n in (1, 2, 2.5, 5, 10) if size * n >= wide * (1 - 1e-9))
        first, last = math.ceil(low / each - 1e-9), math.floor(high / each + 1e-9)
        return [n * each * self.unit for n in range(first, last + 1)]

    def label(self, tick: float) -> str:
        """Return the label of a tick."""
        return number(tick / self.unit)


def starts_at_zero(low: float, high: float) -> bool:
    """Whether an axis of these values shows zero: they are positive, and vary by half of it."""
    return 0 <= low <= high / 2 or low == high >= 0


def upright(values: Sequence[np.ndarray], log: bool) -> Axis:
    """Return the axis of values, with a small margin; see `starts_at_zero`."""
    found = np.concatenate([np.ravel(x) for x in values])
    found = found[np.isfinite(found)]
    if log:
        found = found[found > 0]
        if not len(found):
            raise ValueError(
                "a log axis needs positive values, but this schedule is never positive. Use a "
                "linear axis."
            )
        low, high = found.min(), found.max()
        room = max(high / low, 1.5) ** ROOM
        return Axis(float(low / room), float(high * room), log=True)
    low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
    low = 0.0 if starts_at_zero(low, high) else low
    room = ROOM * ((high - low) or 1.0)
    return Axis(low - room * (low != 0), high + room)


def along(total: int, epoch: float | None = None) -> Axis:
    """Return the axis of steps, labelled in epochs if the steps of an epoch are known."""
    high = float(max(total, 1))
    if epoch is None:
        return Axis(0.0, high, least=1.0, name="optimizer step")
    return Axis(0.0, high, unit=epoch, name="epoch")


def number(x: float) -> str:
    """Return a short tick label: 0.05, 1e-4, 20k, 1.5M."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if least <= abs(x) < 1e15:
            return f"{x / unit:g}{letter}"
    text = f"{x:.4g}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if e else text


def thinned(
    steps: np.ndarray, values: np.ndarray, x: Axis, y: Axis, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the visible points: of each column the first, lowest, highest and last.

    Returns:
      Their positions on both axes.
    """
    across, up = x(steps), y(values)
    if len(up) > 4 * columns:
        column = np.minimum((across * columns).astype(int), columns - 1)
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        spans = [slice(a, b) for a, b in itertools.pairwise([*starts, len(up)])]
        low, high = np.nan_to_num(up, nan=np.inf), np.nan_to_num(up, nan=-np.inf)
        lowest = [s.start + low[s].argmin() for s in spans]
        highest = [s.start + high[s].argmax() for s in spans]
        lasts = np.append(starts[1:], len(up)) - 1
        kept = np.unique(np.concatenate([starts, lowest, highest, lasts]))
        across, up = across[kept], up[kept]
    return across, up
