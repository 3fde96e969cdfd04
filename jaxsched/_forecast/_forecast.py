"""A forecast: the losses that a law predicts for a schedule, their band, and the doubts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsched._core._require import length, refuse, require
from jaxsched._forecast._laws import LossLaw, require_law
from jaxsched._forecast._rates import rates_of
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule

POINTS = 200
BAD = 3.0  # times the usual errors on the fitted runs
FAR = 4.0  # times the largest sum of rates that was fitted


class Forecast(NamedTuple):
    """The losses that a law predicts for a schedule: the result of `forecast`."""

    schedule: Schedule
    """The schedule."""
    steps: np.ndarray
    """The steps, int[points], from the end of the warmup to the end of the run."""
    losses: jax.Array
    """The predicted losses, float[points]."""
    low: jax.Array
    """The lower end of the band, float[points]."""
    high: jax.Array
    """The upper end of the band, float[points]."""
    level: float
    """The probability with which a loss is in the band, if the law's error is as usual."""
    doubts: tuple[str, ...]
    """What the fitted runs cannot tell about this schedule, each a sentence."""

    @property
    def loss(self) -> float:
        """The loss at the end."""
        return float(self.losses[-1])

    @property
    def band(self) -> tuple[float, float]:
        """The band at the end."""
        return float(self.low[-1]), float(self.high[-1])

    def __repr__(self) -> str:
        low, high = self.band
        end = f"loss {self.loss:.4g} ({100 * self.level:g} % band {low:.4g} to {high:.4g})"
        return "\n  ".join([f"{end} at step {self.steps[-1]}", *self.doubts])

    def plot(
        self,
        path: str | Path | None = None,
        *,
        log: tuple[Any, Any] | None = None,
        beside: Sequence[Forecast] = (),
        names: Sequence[str] | None = None,
    ) -> Any:
        """Draw the forecast with its band, and the schedule below.

        Args:
          path: the file to write, such as "forecast.png"; None: no file.
          log: the losses so far, as (steps, losses).
          beside: forecasts of other schedules.
          names: names of the schedules, this one first; None: their texts.

        Returns:
          The matplotlib figure.

        Raises:
          MissingExtraError: matplotlib is not installed; it comes with the extra `train`.
          ValueError: there are not as many names as forecasts.
        """
        from jaxsched._forecast._picture import draw

        drawn = [self, *beside]
        texts = [str(each.schedule) for each in drawn] if names is None else [*names]
        fits = len(texts) == len(drawn)
        require(fits, refuse("plot", "names", f"have {len(drawn)} names", names))
        return draw(dict(zip(texts, drawn, strict=True)), log, path)


def forecast(
    law: LossLaw, schedule: AnySchedule, *, total_steps: int | None = None, level: float = 0.9
) -> Forecast:
    """Predicts the losses of a run with a schedule, by a law that was fitted to other runs.

    Args:
      law: a law of `fit_loss_law`.
      schedule: the schedule of the whole run, including the steps that were already run.
      total_steps: number of optimizer steps of the run; None: the end of the schedule.
      level: probability that the loss at a step is in the band, in (0, 1).

    Returns:
      A `Forecast`, with the losses at 200 steps from the end of the warmup on, and the band at each
      step. Its `doubts` say where the schedule leaves what the fitted runs have shown: rates below
      their lowest or above their highest rate, or a much longer run.

    Raises:
      ValueError: the schedule never ends and there is no `total_steps`; it only rises; it has a
        rate that is negative or not finite; or the law was not fitted.

    Example:
      >>> steps = np.arange(100, 2000, 20)
      >>> truth = MultiPowerLaw(
      ...     floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
      ...     unit_rate=0.01, unit_steps=2000)
      >>> branch = constant(0.01, 1000) >> constant(0.003)
      >>> law = fit_loss_law([(s, steps, truth(s, steps)) for s in (constant(0.01), branch)])
      >>> forecast(law, constant(0.01, 3000) >> linear(0.01, 0.0, 1000))
      loss 2.693 (90 % band 2.661 to 2.726) at step 4000
        The rate falls to 1e-05; the lowest of the fitted runs was 0.003.

    References:
      Luo et al., ICLR 2025, https://arxiv.org/abs/2503.12811.
    """
    call = "forecast"
    require_law(call, law)
    schedule = as_schedule(call, schedule)
    total = ended(call, schedule, total_steps, least=2)
    run = rates_of(call, schedule, np.array([total]))
    begin = run.warmup
    rises = f"fall or stay below its peak within {total} steps, after its warmup"
    require(begin < total - 1, refuse(call, "schedule", rises, schedule))
    steps = np.unique(np.linspace(begin + 1, total, POINTS).astype(np.int64))
    losses = law(schedule, steps)
    low, high = law.band(schedule, steps, level=level)
    summed = float(np.sum(run.used(0, total))) * run.width
    doubts = tuple(_doubts(law, run.used(begin, total), summed))
    return Forecast(schedule, steps, losses, low, high, float(level), doubts)


def ended(call: str, schedule: Schedule, total_steps: Any, least: int = 1) -> int:
    """Return the number of steps of a run: as given, or those of its schedule."""
    if total_steps is not None:
        return int(length(call, "total_steps", total_steps, least=least))
    must = "end, or be given with `total_steps`"
    remedy = "Say how long the run is: `total_steps=100_000`."
    require(schedule.steps is not None, refuse(call, "schedule", must, schedule, remedy))
    steps: Any = schedule.steps
    return int(length(call, "total_steps", steps, least=least))


def _doubts(law: LossLaw, rates: np.ndarray, summed: float) -> Iterable[str]:
    """Yield what the fitted runs do not tell about a run with these rates."""
    evidence = law.evidence
    assert evidence is not None  # the band needs it
    lowest, highest = float(evidence.lowest), float(evidence.highest)
    if rates.min() < lowest * (1 - 1e-4):
        to = f"to {rates.min():.3g}" if rates.min() > 0 else "to zero"
        yield f"The rate falls {to}; the lowest of the fitted runs was {lowest:.3g}."
    if rates.max() > highest * (1 + 1e-4):
        top = rates.max()
        yield f"The rate is up to {top:.3g}; the highest of the fitted runs was {highest:.3g}."
    if summed > FAR * float(evidence.summed):
        times = summed / float(evidence.summed)
        yield f"The rates add up to {times:.2g} times those of the fitted runs."
    if "drop" in law.undetermined and rates.min() < 0.9 * rates.max():
        did = "hardly tell" if lowest < 0.9 * highest else "have no fall of the rate to tell"
        yield f"The fitted runs {did} the effect of a fall, which is a guess."
    if np.any(np.diff(rates) > 0.01 * rates.max()) or rates[-1] > 1.01 * rates.min():
        yield "The rate rises after its warmup; no law was tried on such schedules."
    if (worse := float(evidence.worse)) > BAD:
        yield f"The law fits its own runs {worse:.2g} times worse than usual."
