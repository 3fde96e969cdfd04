"""What a range test has found: the curve, and on the host what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core._padded import lengthened
from jaxsched._core._require import require
from jaxsched._search._range_test._suggestions import Suggestions, suggested
from jaxsched._search._range_test._verdict import (
    BROKEN,
    FINE,
    FLAT,
    LEAST,
    RISING,
    SHORT,
    UNLEARNED,
    verdict,
)

# Smith, 2017, section 3.3: the lower bound is a third or a fourth of the upper one.
_SMALLER = 4
_FALLEN = 0.1  # of the whole fall: from there on the loss is falling

_REASONS = {
    BROKEN: "the loss is NaN or infinite before the first update: look at it, no rate changes that",
    SHORT: f"the loss diverges within {LEAST} points: start lower, or take more steps",
    RISING: "the loss rises, and never fell before: start lower",
    FLAT: "the loss falls by no more than its noise: go higher, or take more steps",
    UNLEARNED: "the loss changes with the batches, and not by training: shuffle the batches",
}


class RangeTest(NamedTuple):
    """The curve of a range test, or of a band of them with the seeds in front.

    What follows from it, `suggestions`, `range`, `rate`, `ok`, `reason`, is for the host. In
    compiled code use the function `suggestions(test.rates, test.smoothed, test.count)`.

    Example:
      >>> def run(key):
      ...     noisy = jax.random.normal(key, (100, 8))
      ...     return lr_range_test(lambda x, b: jnp.sum((x - 3 - b) ** 2), 0.0, noisy, optax.sgd)
      >>> band = jax.vmap(run)(jax.random.split(jax.random.key(0), 5))
      >>> print(band)
      rate 0.0167, range 0.000911 to 0.0167; 5 of 5 seeds diverged
      >>> lowest, highest = band.spread
      >>> print(f"{lowest.valley:.4f} {band.suggestions.valley:.4f} {highest.valley:.4f}")
      0.0013 0.0028 0.0102
    """

    rates: jax.Array  # float[..., N]: what was tried
    losses: jax.Array  # float[..., N]: of each batch; past `count` the last one is repeated
    smoothed: jax.Array  # float[..., N]: their mean, bias-corrected; repeated likewise
    # int32[...]: how many points there are before the stop, with that at which it was seen
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    untrained: jax.Array  # float[..., N]: the losses of the same batches at the first parameters

    @property
    def suggestions(self) -> Suggestions:
        """The rate by each rule, never outside of what was tried; of a band the median.

        The seeds without a suggestion have no say, unless they are the greater part.
        """
        return Suggestions(*(float(np.median(x)) for x in self._read.found))

    @property
    def spread(self) -> tuple[Suggestions, Suggestions]:
        """The lowest and the highest suggestion of the seeds, rule by rule."""
        found = self._read.found
        return Suggestions(*map(_least, found)), Suggestions(*map(_most, found))

    @property
    def rate(self) -> float:
        """The peak of a schedule that decays to zero: `suggestions.minimum`.

        On digits, with Adam and SGD, 300 and 1500 steps, it ended at worst at twice the loss of the
        best of many peaks, the other rules at 4 to 34 times (`benchmarks/range_test.py`). The best
        rate falls with the length of a run: for a long one, or a constant rate, take
        `suggestions.valley`.
        """
        return self.suggestions.minimum  # pyright: ignore[reportReturnType]

    @property
    def range(self) -> tuple[float, float]:
        """Between which values to cycle: `cyclic(low, high, ...)`, or `one_cycle(high, ...)`.

        High is `rate`. Low is where the loss has fallen by a tenth of its fall, at most high / 4.
        """
        high, low = self.rate, float(np.median(self._read.begins))
        return max(min(low, high / _SMALLER), float(np.min(self.rates))), high

    @property
    def ok(self) -> bool:
        """Does the curve say anything? Of a band: do more than half of the curves?"""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why there is no suggestion, and what to do; "" if there is one."""
        codes = self._read.codes
        failed = codes[codes != FINE]
        if 2 * len(failed) < len(codes):
            return ""
        code = np.bincount(failed).argmax()
        seeds = f" ({(codes == code).sum()} of {len(codes)} seeds)" if len(codes) > 1 else ""
        return _REASONS[int(code)] + seeds

    @property
    def _read(self) -> _Reading:
        known = not any(isinstance(x, Tracer) for x in self)
        call = "`suggestions(test.rates, test.smoothed, test.count)`"
        require(known, f"what a range test means is for outside `jit`; under it, use {call}.")
        size = self.rates.shape[-1]
        curves = (self.rates, self.losses, self.smoothed, self.untrained)
        rows = [np.asarray(x).reshape(-1, size) for x in curves]
        # One after the other: so a band of any width is the same program as one curve.
        # And the points are extended, so that another number of them is the same one too.
        read = [
            _reading(*map(lengthened, row), count, size)
            for *row, count in zip(*rows, np.ravel(self.count), strict=True)
        ]
        whole = jax.tree.map(lambda *x: np.stack(x), *read)
        fine = whole.codes == FINE
        kept = fine if 2 * fine.sum() > len(fine) else np.ones_like(fine)
        found, begins = jax.tree.map(lambda x: x[kept], (whole.found, whole.begins))
        return _Reading(found, begins, whole.codes)

    def plot(self, path: str | Path | None = None, axes: Any = None) -> Any:
        """Draw the curve, the suggestions, the range, and where it stopped.

        Of a band the median of the seeds, and all of them shaded.

        Args:
          path: the file to write, a PNG by its name or what else matplotlib knows.
          axes: where to draw instead of in a figure of its own.

        Returns:
          The axes of matplotlib, which the extra `train` installs.
        """
        from jaxsched._search._range_test._picture import draw

        return draw(self, path, axes)

    def __str__(self) -> str:
        if not self.ok:
            return f"no suggestion: {self.reason}"
        low, high = self.range
        counts = np.asarray(self.count).reshape(-1)
        total, stopped = self.rates.shape[-1], (counts < self.rates.shape[-1]).sum()
        if self.count.ndim == 0:
            at = self.rates[max(int(self.count) - 1, 0)]
            end = f"stopped at {at:.3g} after {counts[0]} of {total} points"
        else:
            end = f"{stopped} of {counts.size} seeds diverged"
        end = end if stopped else "did not diverge"
        return f"rate {self.rate:.3g}, range {low:.3g} to {high:.3g}; {end}"


class _Reading(NamedTuple):
    """What a curve means; or many, stacked."""

    found: Suggestions  # never outside of what was tried
    begins: Any  # float: the rate from which on the loss falls
    codes: Any  # int32: the verdict


@jax.jit
def _reading(
    rates: jax.Array,
    losses: jax.Array,
    smoothed: jax.Array,
    untrained: jax.Array,
    count: jax.Array,
    size: jax.Array,
) -> _Reading:
    found = suggested(rates, smoothed, count, size)
    inside = Suggestions(*(jnp.clip(x, rates[0], rates[-1]) for x in found))
    return _Reading(
        inside, _begins(rates, smoothed, count), verdict(losses, count, untrained, size)
    )


def _begins(rates: jax.Array, smoothed: jax.Array, count: jax.Array) -> jax.Array:
    """The last rate before the lowest loss at which it had not fallen yet.

    From the upper quartile, since the first means are of few losses: their highest is noise.
    """
    index = jnp.arange(rates.size, dtype=jnp.int32)
    lowest = jax.lax.argmin(jnp.where(index < count, smoothed, jnp.inf), 0, jnp.int32)
    before = index <= lowest
    falling = jnp.sort(jnp.where(before, smoothed, -jnp.inf), descending=True)
    top, bottom = falling[lowest // 4], smoothed[lowest]
    high = before & (smoothed >= top * (1 - _FALLEN) + bottom * _FALLEN)
    return rates[jnp.where(high, index, 0).max()]


def _least(x: Any) -> float:
    return float(x.min())


def _most(x: Any) -> float:
    return float(x.max())
