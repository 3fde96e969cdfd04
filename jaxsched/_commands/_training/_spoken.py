"""Converts command-line options to settings, and settings to an optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optax

from jaxsched._commands._training import _optimizer, _wrappers
from jaxsched._commands._training._data import TRAIN
from jaxsched._commands._training._loop import BY_EPOCH, BY_STEP
from jaxsched._commands._training._refused import RefusedError, refusing
from jaxsched._commands._training._settings import Settings
from jaxsched._commands._training._words import call, is_call, pairs, text_of
from jaxsched._rules._mailbox import listened
from jaxsched._rules._rule import GRADIENT_NORM
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._units import Units
from jaxsched._text._parse import parse
from jaxsched._text._readable import readable

EPOCHS, BATCH_SIZE, OPTIMIZER = 40, 32, "adam"
# Observations are epochs here; an improvement by less than 1% does not count.
PLATEAU = {"factor": "0.5", "patience": "4", "rtol": "0.01", "min_scale": "0.01"}
METRICS = (*BY_EPOCH, *BY_STEP, GRADIENT_NORM)

# The field of the settings for each option with another name.
FIELDS = {"schedule": "learning_rate", "plateau": "learning_rate", "with": "wrappers"}

Words = Sequence[str]


def spoken(options: Mapping[str, Any]) -> Settings:
    """Return the settings for command-line options; None means the default."""
    epochs, batch_size = options["epochs"] or EPOCHS, options["batch_size"] or BATCH_SIZE
    if batch_size > TRAIN:
        raise RefusedError(f"--batch-size: there are {TRAIN} images, got {batch_size}")
    rate = _spoken_rate(options["schedule"], options["plateau"], run_units(epochs, batch_size))
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        seed=options["seed"] or 0,
        optimizer=_optimizer.spoken(text_of("--optimizer", options["optimizer"] or [OPTIMIZER])),
        learning_rate=_written(rate),
        wrappers=_wrappers.spoken(options["with"] or ()),
    )
    require_possible(settings, rate)
    return settings


def transform(
    settings: Settings, learning_rate: Schedule | Stateful
) -> optax.GradientTransformation:
    """Return the optimizer of the settings."""
    return _optimizer.transform(settings.optimizer, learning_rate, settings.wrappers)


def resumed(saved: Settings, options: Mapping[str, Any]) -> Settings:
    """Return the settings of a resumed run: unchanged, except for the number of epochs."""
    names = ("batch_size", "seed", "optimizer", "schedule", "plateau", "with")
    said = [option for option in names if options[option] is not None]
    if said:
        batch_size = options["batch_size"] or saved.batch_size
        now = spoken({**options, "epochs": saved.epochs, "batch_size": batch_size})
        for option in said:
            _require_as_before(option, FIELDS.get(option, option), now, saved)
    return dataclasses.replace(saved, last_epoch=options["epochs"] or saved.last_epoch)


def _require_as_before(option: str, field: str, now: Settings, saved: Settings) -> None:
    before = getattr(saved, field)
    if getattr(now, field) != before:
        raise RefusedError(
            f"--{option.replace('_', '-')} differs from the value at the start of the run, "
            f"{before!r}. Resume without it, or start another run with another --out"
        )


def run_units(epochs: int, batch_size: int) -> Units:
    """Return what an optimizer step of a run consumes."""
    return Units(
        batch_size=batch_size,
        dataset_size=TRAIN,
        drop_remainder=True,
        total_steps=epochs * (TRAIN // batch_size),
    )


def learning_rate(settings: Settings) -> Schedule | Stateful:
    """Return the schedule of the settings."""
    return _parsed("the learning rate", settings.learning_rate)


def _spoken_rate(
    words: Words | None, plateau: Words | Literal[False] | None, units: Units
) -> Schedule | Stateful:
    """Return a named schedule times the plateau rule; a text is the whole learning rate."""
    text = text_of("--schedule", words) if words else _restarts(units)
    rate = _parsed("--schedule", text, units)
    if plateau is None:
        plateau = False if words and not is_call(words) else []
    if plateau is not False:
        arguments = {**PLATEAU, **pairs("--plateau", plateau)}
        rate = rate * _parsed("--plateau", call("reduce_on_plateau", arguments))
    return rate


def _written(rate: Schedule | Stateful) -> str:
    with refusing("--schedule"):
        return readable("train", rate)


def _parsed(said: str, text: str, units: Units | None = None) -> Schedule | Stateful:
    with refusing(said):
        return parse(text, units=units)


def _restarts(units: Units) -> str:
    """Return three cycles, each twice as long as the previous one, that end with the run."""
    cycle_steps = max(-(-(units.total_steps or 0) // 7), 1)
    return (
        f"warmup_cosine_restarts(0.01, cycle_steps={cycle_steps}, "
        f"warmup_steps={cycle_steps // 5}, mult=2)"
    )


def require_possible(settings: Settings, rate: Schedule | Stateful) -> None:
    """Raise if the optimizer does not exist, or if a rule listens to an unavailable metric."""
    tx = transform(settings, rate)
    strange = sorted(listened(_optimizer.rehearsed(tx)) - {*METRICS})
    if strange:
        names = ", ".join(METRICS)
        raise RefusedError(
            f"the learning rate: a metric must be one of {names}, got {strange[0]!r}"
        )
