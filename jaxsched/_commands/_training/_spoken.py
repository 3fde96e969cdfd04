"""Converts command-line options to settings, and settings to an optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import optax

from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._commands._tasks._batches import count
from jaxsched._commands._tasks._task import Task, checking
from jaxsched._commands._tasks._task import task as task_of
from jaxsched._commands._training import _optimizer, _wrappers
from jaxsched._commands._training._settings import Settings
from jaxsched._commands._training._words import call, is_call, pairs, text_of
from jaxsched._rules._mailbox import listened
from jaxsched._rules._rule import GRADIENT_NORM
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._units import Units
from jaxsched._text._parse import parse
from jaxsched._text._readable import readable

EPOCHS, DIGITS, OPTIMIZER = 40, "digits", "adam"
# Observations are epochs here; an improvement by less than 1% does not count.
PLATEAU = {"factor": "0.5", "patience": "4", "rtol": "0.01", "min_scale": "0.01"}

# The field of the settings for each option with another name.
FIELDS = {"schedule": "learning_rate", "plateau": "learning_rate", "with": "wrappers"}

Words = Sequence[str]


def task(options: Mapping[str, Any]) -> Task:
    """Return the task for command-line options."""
    return _seeded(options["task"] or DIGITS, options["seed"] or 0, options["batch_size"])


def saved_task(settings: Settings) -> Task:
    """Return the task of the settings."""
    return _seeded(settings.task, settings.seed, settings.batch_size)


def _seeded(said: str, seed: int, batch_size: int | None) -> Task:
    return task_of(said, keys(seed)[0], batch_size)


def keys(seed: int) -> jax.Array:
    """Return the random keys of a run: of the task, of the batches' order, and of the losses."""
    return jax.random.split(jax.random.key(seed), 3)


def spoken(options: Mapping[str, Any], task: Task) -> Settings:
    """Return the settings for command-line options; None means the default."""
    epochs, words = options["epochs"] or EPOCHS, options["optimizer"]
    if words is None and task.optimizer is None:
        words = [OPTIMIZER]
    rate = _spoken_rate(options["schedule"], options["plateau"], run_units(epochs, task))
    settings = Settings(
        epochs=epochs,
        batch_size=task.batch_size if task.name == DIGITS else None,
        seed=options["seed"] or 0,
        optimizer=_optimizer.spoken(text_of("--optimizer", words)) if words else None,
        learning_rate=_written(rate),
        wrappers=_wrappers.spoken(options["with"] or ()),
        task=task.name,
    )
    require_possible(settings, rate, task)
    return settings


def transform(
    settings: Settings, learning_rate: Schedule | Stateful, task: Task
) -> optax.GradientTransformation:
    """Return the optimizer of the settings."""
    text = settings.optimizer
    factory = (task.optimizer or optax.adam) if text is None else _optimizer.made(text)
    return _optimizer.transform(factory, learning_rate, settings.wrappers, task.params)


def resumed(saved: Settings, options: Mapping[str, Any], task: Task) -> Settings:
    """Return the settings of a resumed run: unchanged, except for the number of epochs."""
    names = ("batch_size", "seed", "optimizer", "schedule", "plateau", "with", "task")
    said = [option for option in names if options[option] is not None]
    if said:
        now = spoken({**options, "epochs": saved.epochs}, task)
        given = {name: options[name] or getattr(saved, name) for name in ("batch_size", "task")}
        now = dataclasses.replace(now, **given)
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


def run_units(epochs: int, task: Task) -> Units:
    """Return what an optimizer step of a run consumes."""
    with checking(task.name):
        steps = count(task.batches)
    return Units(
        batch_size=task.batch_size,
        dataset_size=task.batch_size * steps,
        total_steps=epochs * steps,
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


def metrics(task: Task) -> tuple[str, ...]:
    """Return the metrics to which a rule can listen: of an epoch, then of a step."""
    kl = ("kl",) if task.has_logits else ()
    return ("value", *task.metrics, "loss", *kl, GRADIENT_NORM)


def require_possible(settings: Settings, rate: Schedule | Stateful, task: Task) -> None:
    """Raise if the optimizer does not exist, or if a rule listens to an unavailable metric."""
    tx = transform(settings, rate, task)
    strange = sorted(listened(_optimizer.rehearsed(tx, task.params)) - {*metrics(task)})
    if strange:
        names = ", ".join(metrics(task))
        raise RefusedError(
            f"the learning rate: a metric must be one of {names}, got {strange[0]!r}"
        )
