"""A run as plain values: what the command line says, and what a later `--resume` reads back.

The words of the command line become numbers here, and the numbers go to the factories, whose own
messages are shown if they refuse them. Lengths that were left to the run are written down as
numbers, so that a longer run continues the schedule of the shorter one.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxsched
from jaxsched import _curves, _decays, _piecewise, _recipes
from jaxsched._schedule import Schedule
from jaxsched._stateful._plateau import ReduceOnPlateau
from jaxsched._train._data import TRAIN
from jaxsched._train._refused import RefusedError
from jaxsched._transforms._inject import inject

Words = Sequence[str]
Call = tuple[str, dict[str, Any]]  # a factory's name, and its arguments
Factory = Callable[..., Any]

EPOCHS, BATCH_SIZE, OPTIMIZER = 40, 32, "adam"
DEFAULT_SCHEDULE = "warmup_cosine_restarts"
DEFAULT_PEAK = 1e-2
# Observations are epochs here; less than a hundredth better is no better.
PLATEAU: dict[str, Any] = {"factor": 0.5, "patience": 4, "rtol": 0.01, "min_scale": 0.01}
METRICS = ("value", "accuracy")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides what a run computes."""

    epochs: int
    batch_size: int
    seed: int
    optimizer: Call
    schedule: Call
    plateau: dict[str, Any] | None


def spoken(options: Mapping[str, Any]) -> Settings:
    """The settings that the options of the command line mean; what is None was left to the run."""
    epochs, batch_size = options["epochs"] or EPOCHS, options["batch_size"] or BATCH_SIZE
    if batch_size > TRAIN:
        raise RefusedError(f"--batch-size: there are {TRAIN} images, got {batch_size}")
    words = options["plateau"]
    return Settings(
        epochs=epochs,
        batch_size=batch_size,
        seed=options["seed"] or 0,
        optimizer=_spoken_optimizer(options["optimizer"] or [OPTIMIZER]),
        schedule=_spoken_schedule(options["schedule"], epochs * (TRAIN // batch_size)),
        plateau=None if words is False else _spoken_plateau(words or []),
    )


def resumed(saved: Settings, options: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on: as it was started, but for the number of epochs."""
    now = spoken({**options, "epochs": options["epochs"] or saved.epochs})
    for field in dataclasses.fields(saved):
        before, given = getattr(saved, field.name), options[field.name] is not None
        if field.name != "epochs" and given and getattr(now, field.name) != before:
            raise RefusedError(
                f"--{field.name.replace('_', '-')} differs from what the run was started with, "
                f"{before!r}. Resume without it, or start another run in another --out"
            )
    return dataclasses.replace(saved, epochs=now.epochs)


def factories(*modules: Any) -> dict[str, Factory]:
    """The public schedules that are made in these modules, by name."""
    homes = {module.__name__ for module in modules}
    public = {name: getattr(jaxsched, name) for name in dir(jaxsched)}
    return {
        name: x for name, x in public.items() if inspect.isfunction(x) and x.__module__ in homes
    }


SCHEDULES = factories(_recipes, _curves, _decays, _piecewise)
CURVES = factories(_curves)


def optimizers() -> dict[str, Factory]:
    """Optax's optimizers that have a learning rate."""
    found = {
        name: getattr(optax, name) for name in dir(optax) if not name.startswith(("_", "scale_"))
    }
    # The line search of the one asks for the loss as a function; the other is deprecated.
    found = {name: x for name, x in found.items() if name not in ("lbfgs", "optimistic_adam")}
    return {
        name: x
        for name, x in found.items()
        if inspect.isfunction(x) and "learning_rate" in inspect.signature(x).parameters
    }


def _spoken_schedule(words: Words | None, total_steps: int) -> Call:
    """`warmup_cosine peak_value=3e-3 warmup_steps=50`, with the run's length if there is none."""
    name, *pairs = words or (DEFAULT_SCHEDULE,)
    factory = _named("--schedule", "schedule", name, SCHEDULES)
    arguments = _restarts(total_steps) if not words else _arguments("--schedule", pairs)
    if "total_steps" in inspect.signature(factory).parameters:
        arguments = {"total_steps": total_steps, **arguments}
    _called(name, factory, arguments)
    return name, arguments


def _spoken_optimizer(words: Words) -> Call:
    """`adamw weight_decay=0.01`."""
    name, *pairs = words
    factory = _named("--optimizer", "optimizer", name, optimizers())
    arguments = _arguments("--optimizer", pairs)
    if "learning_rate" in arguments:
        raise RefusedError(
            "--optimizer: the learning rate is the schedule's: --schedule constant value=..."
        )
    _require_known(name, factory, arguments)
    return name, arguments


def _spoken_plateau(words: Words) -> dict[str, Any]:
    """`patience=3 factor=0.2`, over the defaults of a run."""
    arguments = {**PLATEAU, **_arguments("--plateau", words)}
    metric = arguments.get("metric", "value")
    if metric not in METRICS:
        raise RefusedError(f"--plateau: metric is one of {', '.join(METRICS)}, got {metric!r}")
    _called("reduce_on_plateau", jaxsched.reduce_on_plateau, arguments)
    return arguments


def schedule(settings: Settings) -> Schedule:
    """The schedule, without the plateau."""
    name, arguments = settings.schedule
    return _called(name, SCHEDULES[name], arguments)


def plateau(settings: Settings) -> ReduceOnPlateau | None:
    """The plateau, if there is one."""
    if settings.plateau is None:
        return None
    return _called("reduce_on_plateau", jaxsched.reduce_on_plateau, settings.plateau)


def metric(settings: Settings) -> str | None:
    """What the plateau listens to."""
    listening = plateau(settings)
    return None if listening is None else listening.metric


def transform(settings: Settings) -> optax.GradientTransformation:
    """The optimizer, its learning rate the schedule times the plateau."""
    name, constants = settings.optimizer
    rate, factor = schedule(settings), plateau(settings)
    factory = functools.partial(optimizers()[name], **constants)
    tx = inject(factory, learning_rate=rate if factor is None else rate * factor)
    try:
        jax.eval_shape(functools.partial(_rehearsal, tx))
    except (TypeError, ValueError, NameError) as error:
        raise RefusedError(f"--optimizer {name}: {error}") from error
    return tx


def _rehearsal(tx: optax.GradientTransformation) -> Any:
    """One update, of which only the shapes are asked: a bad constant fails here or never."""
    params = jnp.zeros((2, 2))
    return tx.update(params, tx.init(params), params)


def _restarts(total_steps: int) -> dict[str, Any]:
    """Three cycles, each twice as long as the one before, that end with the run."""
    cycle_steps = max(-(-total_steps // 7), 1)
    return {
        "peak_value": DEFAULT_PEAK,
        "cycle_steps": cycle_steps,
        "warmup_steps": cycle_steps // 5,
        "mult": 2,
    }


def _named(option: str, kind: str, name: str, known: Mapping[str, Factory]) -> Factory:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise RefusedError(
        f"{option}: there is no {kind} {name!r}.{meant} All of them: {', '.join(sorted(known))}"
    )


def _called(name: str, factory: Factory, arguments: Mapping[str, Any]) -> Any:
    """The factory's result, its refusal as one line."""
    known = _require_known(name, factory, arguments)
    missing = [p.name for p in known.values() if p.default is p.empty and p.name not in arguments]
    if missing:
        raise RefusedError(f"`{name}` needs {', '.join(f'{key}=...' for key in missing)}")
    try:
        return factory(
            **{key: CURVES.get(x, x) if isinstance(x, str) else x for key, x in arguments.items()}
        )
    except (TypeError, ValueError) as error:
        raise RefusedError(str(error)) from error


def _require_known(
    name: str, factory: Factory, arguments: Mapping[str, Any]
) -> Mapping[str, inspect.Parameter]:
    known = inspect.signature(factory).parameters
    strange = [key for key in arguments if key not in known]
    if strange:
        raise RefusedError(f"`{name}` has no argument {strange[0]!r}. It has {', '.join(known)}")
    return known


def _arguments(option: str, pairs: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (equals and key.isidentifier()):
            raise RefusedError(f"{option}: arguments are written key=value, got {pair!r}")
        arguments[key] = value(text)
    return arguments


def value(text: str) -> Any:
    """A word as a value: an int, a float, true, false, none, a list with commas, or the word."""
    if "," in text:
        return [value(part) for part in text.split(",") if part]
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
