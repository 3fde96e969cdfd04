"""A run as plain values: what somebody asked for, and what a later `--resume` reads back.

The learning rate is one text, the schedule and all rules, with every length in steps: so that a
longer run continues the schedule of the shorter one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax

from jaxsched._schedule import Schedule
from jaxsched._show._parse import parse
from jaxsched._stateful._protocol import Stateful
from jaxsched._train import _optimizer
from jaxsched._train._data import TRAIN
from jaxsched._train._refused import RefusedError, refusing
from jaxsched._train._words import call, is_call, pairs, text_of
from jaxsched._transforms._scale import scale_by_learning_rate
from jaxsched._units import Units

EPOCHS, BATCH_SIZE, OPTIMIZER = 40, 32, "adam"
# Observations are epochs here; less than a hundredth better is no better.
PLATEAU = {"factor": "0.5", "patience": "4", "rtol": "0.01", "min_scale": "0.01"}
METRICS = ("value", "accuracy")

Words = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides what a run computes."""

    epochs: int
    batch_size: int
    seed: int
    optimizer: str  # `adamw(weight_decay=0.01)`
    learning_rate: str  # `repr` of the schedule


def spoken(options: Mapping[str, Any]) -> Settings:
    """The settings that the options of the command line mean; what is None was left to the run."""
    epochs, batch_size = options["epochs"] or EPOCHS, options["batch_size"] or BATCH_SIZE
    if batch_size > TRAIN:
        raise RefusedError(f"--batch-size: there are {TRAIN} images, got {batch_size}")
    rate = _spoken_rate(options["schedule"], options["plateau"], run_units(epochs, batch_size))
    return Settings(
        epochs=epochs,
        batch_size=batch_size,
        seed=options["seed"] or 0,
        optimizer=_optimizer.spoken(text_of("--optimizer", options["optimizer"] or [OPTIMIZER])),
        learning_rate=repr(rate),
    )


def resumed(saved: Settings, options: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on: as it was started, but for the number of epochs."""
    batch_size = options["batch_size"] or saved.batch_size
    now = spoken({**options, "epochs": saved.epochs, "batch_size": batch_size})
    for option in ("batch_size", "seed", "optimizer", "schedule", "plateau"):
        field = "learning_rate" if option in ("schedule", "plateau") else option
        before = getattr(saved, field)
        if options[option] is not None and getattr(now, field) != before:
            raise RefusedError(
                f"--{option.replace('_', '-')} differs from what the run was started with, "
                f"{before!r}. Resume without it, or start another run in another --out"
            )
    return dataclasses.replace(saved, epochs=options["epochs"] or saved.epochs)


def run_units(epochs: int, batch_size: int) -> Units:
    """What an optimizer step of a run consumes."""
    return Units(
        batch_size=batch_size,
        dataset_size=TRAIN,
        drop_remainder=True,
        total_steps=epochs * (TRAIN // batch_size),
    )


def learning_rate(settings: Settings) -> Schedule | Stateful:
    """The schedule that the settings say."""
    return _parsed("the learning rate", settings.learning_rate)


def metrics(learning_rate: Schedule | Stateful) -> tuple[str, ...]:
    """What the rules in a schedule listen to."""
    rules = learning_rate.rules if isinstance(learning_rate, Stateful) else ()
    return tuple(sorted({name for rule in rules if (name := getattr(rule, "metric", None))}))


def _spoken_rate(
    words: Words | None, plateau: Words | Literal[False] | None, units: Units
) -> Schedule | Stateful:
    """A schedule by its name times the plateau; a text is all that it says."""
    text = text_of("--schedule", words) if words else _restarts(units)
    rate = _parsed("--schedule", text, units)
    if plateau is None:
        plateau = False if words and not is_call(words) else []
    if plateau is not False:
        arguments = {**PLATEAU, **pairs("--plateau", plateau)}
        rate = rate * _parsed("--plateau", call("reduce_on_plateau", arguments))
    _require_possible(rate)
    return rate


def _parsed(said: str, text: str, units: Units | None = None) -> Schedule | Stateful:
    with refusing(said):
        return parse(text, units=units)


def _restarts(units: Units) -> str:
    """Three cycles, each twice as long as the one before, that end with the run."""
    cycle_steps = max(-(-(units.total_steps or 0) // 7), 1)
    return (
        f"warmup_cosine_restarts(0.01, cycle_steps={cycle_steps}, "
        f"warmup_steps={cycle_steps // 5}, mult=2)"
    )


def _require_possible(rate: Schedule | Stateful) -> None:
    """Raise if a run cannot feed a rule, or has not the axis that one asks for."""
    strange = [name for name in metrics(rate) if name not in METRICS]
    if strange:
        names = ", ".join(METRICS)
        raise RefusedError(f"the learning rate: a metric is one of {names}, got {strange[0]!r}")
    with refusing("the learning rate", TypeError, NameError):
        jax.eval_shape(functools.partial(_optimizer.rehearsal, scale_by_learning_rate(rate)))
