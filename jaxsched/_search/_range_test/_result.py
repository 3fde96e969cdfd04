"""The result of a range test: the curve, and its interpretation on the host."""

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

# Smith, 2017, section 3.3: the lower bound is a third or a fourth of the upper bound.
_SMALLER = 4
_FALLEN = 0.1  # fraction of the whole fall at which the loss is said to fall

_REASONS = {
    BROKEN: "the loss is NaN or infinite before the first update: check the loss function",
    SHORT: f"the loss diverges within {LEAST} points: start lower, or take more steps",
    RISING: "the loss rises and never fell before: start lower",
    FLAT: "the loss falls by no more than its noise: go higher, or take more steps",
    UNLEARNED: "the loss changes with the batches, not by training: shuffle the batches",
}


class RangeTest(NamedTuple):
    """The curve of a learning-rate range test, or the curves of several seeds, stacked.

    The properties `suggestions`, `spread`, `range`, `rate`, `ok` and `reason` interpret the curve,
    and work only outside `jit`. In compiled code, use the function
    `suggestions(test.rates, test.smoothed, test.count)`.

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

    rates: jax.Array
    """The rates tried, float[..., N]."""
    losses: jax.Array
    """The loss of each batch, float[..., N]. After `count` points the last one is repeated."""
    smoothed: jax.Array
    """The bias-corrected mean of the losses so far, float[..., N]; repeated in the same way."""
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    """The number of points before the stop, with the one that triggered it, int32[...]."""
    untrained: jax.Array
    """The losses of the same batches at the initial parameters, float[..., N]."""

    @property
    def suggestions(self) -> Suggestions:
        """The rate by each rule, within the range tried; for a band, the median over the seeds.

        The rules read `smoothed`, which lags behind `losses`. Seeds without a suggestion are
        ignored, unless they are the majority.
        """
        return Suggestions(*(float(np.median(x)) for x in self._read.found))

    @property
    def spread(self) -> tuple[Suggestions, Suggestions]:
        """The lowest and the highest suggestion over the seeds, rule by rule."""
        found = self._read.found
        return Suggestions(*map(_least, found)), Suggestions(*map(_most, found))

    @property
    def rate(self) -> float:
        """The peak rate for a schedule that decays to zero, which is `suggestions.minimum`.

        `benchmarks/range_test.py` trains on digits, with Adam and SGD, for 300 and 1500 steps. With
        this peak, the final loss is at most 2.1 times the loss with the best of many peaks. With
        the other rules, the worst cases are 3.8 to 34 times that loss. The best rate can fall with
        the length of a run. For a long run, or a constant rate, also try `suggestions.valley`.
        """
        return self.suggestions.minimum  # pyright: ignore[reportReturnType]

    @property
    def range(self) -> tuple[float, float]:
        """The lower and upper rate for `cyclic(low, high, ...)` or `one_cycle(high, ...)`.

        The upper rate is `rate`. The lower rate is the one at which the loss has fallen by a tenth
        of its whole fall, or a quarter of the upper rate if that is lower.
        """
        high, low = self.rate, float(np.median(self._read.begins))
        return max(min(low, high / _SMALLER), float(np.min(self.rates))), high

    @property
    def ok(self) -> bool:
        """Whether the curve gives a suggestion.

        For a band, whether more than half of the seeds give a suggestion.
        """
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
        require(known, f"a range test is interpreted outside `jit`. Under `jit`, use {call}.")
        size = self.rates.shape[-1]
        curves = (self.rates, self.losses, self.smoothed, self.untrained)
        rows = [np.asarray(x).reshape(-1, size) for x in curves]
        # One curve at a time, so that a band of any width uses the program of one curve. The points
        # are padded, so that another number of points uses the same program too.
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
        """Plots the curve, the suggestions, the range, and the stop.

        For a band, the median over the seeds is drawn, with all seeds as a shaded area.

        Args:
          path: file to write, in a format that matplotlib infers from its name; None: no file.
          axes: matplotlib axes to draw into; None: a new figure.

        Returns:
          The matplotlib axes. The extra `train` installs matplotlib.
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
    """The interpretation of one curve, or of many, stacked."""

    found: Suggestions  # within the range tried
    begins: Any  # float: the rate at which the loss starts to fall
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
    """Return the last rate before the lowest loss at which the loss had not fallen yet.

    The fall is measured from the upper quartile: the first means have few losses, so their maximum
    is noise.
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
