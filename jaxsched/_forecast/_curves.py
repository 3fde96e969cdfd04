"""The loss curves of runs: checked, without the warmup, and averaged in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
from jax.core import Tracer

from jaxsched._core._require import refuse, require
from jaxsched._forecast._annealing import Annealing, annealing
from jaxsched._forecast._rates import rates_of, read_at

GROUPS = 32  # of changes of the rate: an error of 2e-4 of the loss, a tenth of that of the laws
LATE = 0.25  # a log that begins later, as a fraction of its end, misses more than a warmup
BLOCKS = 128  # points of a run; each is the mean of neighbouring losses


class Curve(NamedTuple):
    """The loss curve of a run, as it is fitted."""

    losses: np.ndarray
    """The mean loss of each block, float[blocks]."""
    noise: float
    """The standard deviation of the logarithm of these means."""
    seen: Annealing
    """What a law reads of the rates before each block."""
    lowest: float
    """The lowest rate after the warmup."""
    highest: float
    """The highest rate."""
    steps: int
    """The last step with a loss."""


def curves_of(call: str, runs: Any) -> list[Curve]:
    """Return the curves of some runs, each of them (rates, steps, losses)."""
    shape = "be a list of runs, each of them a tuple (schedule or rates, steps, losses)"
    given = cast(list[Any], list(runs)) if isinstance(runs, Iterable) else []
    is_list = bool(given) and all(isinstance(x, (tuple, list)) and len(x) == 3 for x in given)
    require(is_list, refuse(call, "runs", shape, type(runs)))
    return [_curve(call, f"runs[{i}]", *run) for i, run in enumerate(given)]


def _curve(call: str, name: str, rates: Any, steps: Any, losses: Any) -> Curve:
    at = read_at(call, steps, least=0)
    values = _losses(call, name, losses, at)
    few = f"have at least 3 losses in {name}"
    require(len(at) >= 3, refuse(call, "runs", few, f"{len(at)} losses"))
    rising = bool(np.all(np.diff(at) > 0))
    hint = "Sort the log, and keep one loss for each step."
    require(rising, refuse(call, "runs", f"have rising steps in {name}", _around(at), hint))
    if not callable(rates) and np.shape(rates) == at.shape and at[0] > LATE * at[-1]:
        known = f"have rates from the start of {name}, whose log begins at step {at[0]}"
        remedy = "Give one rate for each step of the run, or its schedule."
        raise ValueError(refuse(call, "runs", known, f"{len(at)} rates", remedy))
    run = rates_of(call, rates, at)
    begin = max(run.warmup, 1)
    after = at >= begin
    few = f"have at least 3 losses after the warmup, which ends at step {begin}, in {name}"
    require(int(after.sum()) >= 3, refuse(call, "runs", few, f"{int(after.sum())} losses"))
    at, values = at[after], values[after]
    each = -(-len(at) // BLOCKS)
    blocks = [slice(i, i + each) for i in range(0, len(at), each)]
    middle = np.array([int(at[block].mean()) for block in blocks])
    means = np.array([values[block].mean() for block in blocks])
    seen = annealing(run, middle, GROUPS)
    used = run.used(run.warmup, int(at[-1]))
    return Curve(means, _noise(means), seen, float(used.min()), float(used.max()), int(at[-1]))


def _losses(call: str, name: str, losses: Any, steps: np.ndarray) -> np.ndarray:
    if isinstance(losses, Tracer):
        raise ValueError(refuse(call, "runs", f"have known losses in {name}, not traced", losses))
    values = np.asarray(losses, np.float64)
    fits = f"have one loss for each of the {len(steps)} steps in {name}"
    require(values.shape == steps.shape, refuse(call, "runs", fits, f"shape {values.shape}"))

    def refuse_at(i: int, must: str, remedy: str) -> None:
        where = f"{values[i]} at step {steps[i]}"
        raise ValueError(refuse(call, "runs", f"have {must} losses in {name}", where, remedy))

    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        refuse_at(first, "finite", "Leave these rows out. No law describes a run that diverged.")
    if values.min() <= 0:
        # Laws are fitted in logarithms, so the lowest loss becomes as large as the whole fall.
        offset = float(np.ptp(values) - values.min())
        add = f"Add an offset to all losses, for example {offset:.3g}; subtract it afterwards."
        refuse_at(int(np.argmin(values)), "positive", add)
    return values


def _noise(losses: np.ndarray) -> float:
    """Return the standard deviation of the noise in log losses, from their second differences."""
    bends = np.diff(np.log(losses), n=2)
    return float(1.4826 * np.median(np.abs(bends)) / np.sqrt(6))


def _around(steps: np.ndarray) -> str:
    first = int(np.argmax(np.diff(steps) <= 0))
    return f"{steps[first]}, then {steps[first + 1]}"
