"""Fits a law to the logs of runs, and tells the losses of schedules."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

import numpy as np

from jaxsched._commands._forecasting._curve import Curve, curve
from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._commands._schedules import spoken
from jaxsched._forecast._best import best_remaining
from jaxsched._forecast._curves import LATE
from jaxsched._forecast._fit import fit_loss_law
from jaxsched._forecast._forecast import Forecast, forecast
from jaxsched._forecast._laws import LossLaw
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._piecewise import piecewise_linear
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._table import table

KNOTS = 21


def told(options: argparse.Namespace) -> None:
    """Print the law, the forecasts, and where the picture is."""
    with refusing("forecast"):
        curves = [curve(path, options.loss, options.rate, options.x) for path in options.runs]
        curves = [_with_its_start(each, curves[0]) for each in curves]
        law = fit_loss_law([(c.rates, c.steps, c.losses) for c in curves], form=options.law)
    _print_law(law, curves)
    found = _forecasts(options, law, curves)
    found.sort(key=lambda x: x[1].loss)
    print(f"\n{'loss':10} {'90 % band':22} schedule")
    for name, each in found:
        low, high = each.band
        print(f"{each.loss:<10.4g} {f'{low:.4g} to {high:.4g}':22} {name}")
        print(*(textwrap.indent(doubt, " " * 34) for doubt in each.doubts), sep="\n", end="")
        print("\n" if each.doubts else "", end="")
    if options.out is not None:
        names, (first, *others) = [name for name, _ in found], [each for _, each in found]
        log = curves[0].steps, curves[0].losses
        options.out.parent.mkdir(parents=True, exist_ok=True)
        first.plot(options.out, log=log, beside=others, names=names)
        print(options.out)


def _with_its_start(branch: Curve, first: Curve) -> Curve:
    """Return a branch whose log begins late with the rates of the first run before it."""
    begin = branch.begins
    if begin <= LATE * branch.steps[-1] or branch is first:
        return branch
    before = first.rates(np.arange(begin)) if isinstance(first.rates, Schedule) else first.rates
    if len(before) < begin:
        raise ValueError(
            f"the log of {branch.name} begins at step {begin}, and {first.name} ends before it; "
            "the rates between them are not known"
        )
    note = f"Its log begins at step {begin}; the rates before it are those of {first.name}."
    rates = np.append(np.asarray(before)[:begin], branch.rates[begin:])
    return branch._replace(rates=rates, notes=[*branch.notes, note])


def _print_law(law: LossLaw, curves: list[Curve]) -> None:
    for each in curves:
        end = f"{len(each.steps)} values of {each.loss}, to step {each.steps[-1]}"
        print(f"fitted to {each.name}: {end}", *each.notes, sep="\n  ")
    print(law)
    if law.undetermined:
        print(f"The runs say little about {', '.join(law.undetermined)}; the bands allow for that.")


def _forecasts(
    options: argparse.Namespace, law: LossLaw, curves: list[Curve]
) -> list[tuple[str, Forecast]]:
    named: dict[str, Schedule] = {}
    for words in options.schedule:
        schedule: Any = spoken("forecast", [words], options)
        if isinstance(schedule, Stateful):
            raise RefusedError(f"forecast: {words!r} reacts to a run; a law knows schedules only")
        named[words] = schedule
    if (planned := curves[0].schedule) is not None:
        named.setdefault(f"as planned: {planned}", planned)
    with refusing("forecast"):
        if options.best:
            rest = _rest(options, law, curves[0])
            last = int(curves[0].steps[-1])
            named[f"{curves[0].name} until step {last}, then {rest}"] = (
                _followed(curves[0]).take(last) >> rest
            )
        if not named:
            raise RefusedError(
                "forecast: give a --schedule, or --best with --total-steps; the log names none"
            )
        return [
            (name, forecast(law, schedule, total_steps=options.total_steps))
            for name, schedule in named.items()
        ]


def _rest(options: argparse.Namespace, law: LossLaw, run: Curve) -> Schedule:
    """Return the best rest of a run, counted from its last step, with numbers of four digits."""
    planned: Any = None if run.schedule is None else run.schedule.steps
    step = int(run.steps[-1])
    total = planned if options.total_steps is None else options.total_steps
    if total is None:
        raise RefusedError("forecast: --best needs --total-steps, the length of the run")
    knots = min(KNOTS, max(int(total) - step + 1, 4))
    rest: Any = best_remaining(law, _followed(run), step, total_steps=total, knots=knots)
    values = [float(f"{x:.4g}") for x in np.asarray(rest.values)]
    return piecewise_linear(values, (np.asarray(rest.boundaries) - step).tolist())


def _followed(run: Curve) -> Schedule:
    """Return the schedule that a run has followed."""
    return run.rates if isinstance(run.rates, Schedule) else table(run.rates)
