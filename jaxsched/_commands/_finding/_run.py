"""Runs `jaxsched find`, from the options to the table and the picture."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax

from jaxsched._commands._finding._seeds import Seeds, seeded
from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._commands._tasks._task import DIGITS, Task
from jaxsched._commands._training import _calls
from jaxsched._commands._training._optimizer import SOME_PARAMS, optimizers, rehearsed
from jaxsched._commands._training._words import text_of
from jaxsched._core._extra import extra
from jaxsched._look._figure import saved
from jaxsched._search._range_test._lr_range_test import lr_range_test
from jaxsched._search._range_test._result import RangeTest
from jaxsched._search._range_test._suggestions import Suggestions
from jaxsched._transforms._inject import inject

Optimizer = functools.partial[Any]

RATE = "learning_rate"
SUFFIXES = (".png", ".pdf", ".svg")


def run(options: Mapping[str, Any]) -> int:
    """Run the range test, print the result, and draw the picture.

    Returns:
      The exit code: 0, or 1 if there is no suggestion.
    """
    for module in ("rich", "matplotlib"):
        extra(module)
    out, hyperparameter = _file(options["out"]), options["hyperparameter"]
    numbers = {name: options[name] for name in ("low", "high", "steps", "mode")}
    _require_limits(numbers["low"], numbers["high"], numbers["mode"])
    words = options["optimizer"]
    # The words are checked before the task is loaded, which may take long.
    optimizer = _spoken(text_of("--optimizer", words), hyperparameter) if words else None
    found = seeded(options["task"], options["seeds"], numbers["steps"], options["batch_size"])
    optimizer = optimizer or _own(found.task, hyperparameter)
    band = _band(options, found, optimizer, hyperparameter=hyperparameter, **numbers)
    _draw(band, out, hyperparameter)
    _report(band, options, optimizer, found.task)
    print(f"picture: {out}")
    return 0 if band.ok else 1


def _band(options: Mapping[str, Any], found: Seeds, optimizer: Optimizer, **more: Any) -> RangeTest:
    """Run all seeds as one program."""
    said = options["task"]
    try:
        one = functools.partial(_one, found.loss, optimizer, more)
        return jax.jit(jax.vmap(one))(found.params, found.batches)
    except ValueError as error:
        # An error in the task itself keeps its traceback.
        if not str(error).startswith("`lr_range_test("):
            raise
        raise RefusedError(f"--task {said}: {str(error).partition(chr(10))[0]}") from error


def _one(loss: Any, optimizer: Optimizer, more: dict[str, Any], params: Any, batches: Any) -> Any:
    return lr_range_test(loss, params, batches, optimizer, **more)


def _own(task: Task, hyperparameter: str) -> Optimizer:
    """Return the optimizer of a task, or Adam."""
    factory = functools.partial(task.optimizer or optax.adam)
    _require_known(factory.func.__name__, factory, hyperparameter)
    return factory


def _require_known(name: str, factory: Any, hyperparameter: str) -> None:
    known = inspect.signature(factory).parameters
    if hyperparameter not in known:
        raise RefusedError(
            f"--hyperparameter: {name} has no {hyperparameter!r}, but has {', '.join(known)}"
        )


def _spoken(text: str, hyperparameter: str) -> Optimizer:
    """Return the optimizer of a text, without the hyperparameter that is varied."""

    def own(name: str) -> dict[str, str]:
        _require_known(name, optimizers()[name], hyperparameter)
        return {hyperparameter: f"{hyperparameter} is varied, from --low to --high."}

    name, constants = _calls.read("--optimizer", text, "optimizer", optimizers(), own)
    factory = functools.partial(optimizers()[name], **constants)
    with refusing(f"--optimizer {name}", TypeError, NameError):
        rehearsed(inject(factory, **{hyperparameter: 1.0}), SOME_PARAMS)
    return factory


def _require_limits(low: float, high: float, mode: str) -> None:
    if low < 0 or (low == 0 and mode == "geometric"):
        least = "above 0; to start at 0, use --mode linear" if mode == "geometric" else "0 or above"
        raise RefusedError(f"--low: must be {least}, got {low:g}")
    if not low < high:
        raise RefusedError(f"--high: must be above --low, which is {low:g}, got {high:g}")


def _file(path: Path) -> Path:
    """Return the file of the picture, checked before the test is run."""
    if path.is_dir():
        raise RefusedError(f"--out {path} is a directory. Name a file in it")
    if path.suffix not in SUFFIXES:
        raise RefusedError(f"--out: must end in {', '.join(SUFFIXES)}, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _draw(band: RangeTest, file: Path, hyperparameter: str) -> None:
    axes = band.plot()
    axes.set_xlabel(hyperparameter)
    saved(axes.figure, file)


def _report(band: RangeTest, options: Mapping[str, Any], optimizer: Optimizer, task: Task) -> None:
    name = options["hyperparameter"]
    seeds = f"{options['seeds']} seed{'s' * (options['seeds'] > 1)}"
    print(
        f"{options['task']}, {_name(options, task)}, {seeds}: "
        f"{options['steps']} values of {name} from {options['low']:g} to {options['high']:g}, "
        f"{options['mode']}"
    )
    if not band.ok:
        print(f"no suggestion: {band.reason}")
        return
    table = extra("rich.table").Table(box=extra("rich.box").SIMPLE_HEAVY)
    for column in ("rule", name, "lowest", "highest"):
        table.add_column(column, justify="left" if column == "rule" else "right", no_wrap=True)
    lowest, highest = band.spread
    for rule in Suggestions._fields:
        row = (getattr(x, rule) for x in (band.suggestions, lowest, highest))
        table.add_row(rule, *(f"{x:.2g}" for x in row))
    extra("rich.console").Console().print(table)
    low, high = band.range
    print(f"range:   {low:.2g} to {high:.2g}")
    print(f"next:    {_next(options, optimizer, f'{high:.2g}')}")


def _name(options: Mapping[str, Any], task: Task) -> str:
    """Return the optimizer in words."""
    own = "the optimizer of the task" if task.optimizer else "adam"
    return " ".join(options["optimizer"] or [own])


def _next(options: Mapping[str, Any], optimizer: Optimizer, value: str) -> str:
    """Return the next command to run, or the code to write."""
    name, words = options["hyperparameter"], options["optimizer"]
    if name != RATE:
        bound = "".join(f", {key}={x!r}" for key, x in optimizer.keywords.items())
        return f"inject(partial(optax.{optimizer.func.__name__}{bound}), {name}={value})"
    said = [] if options["task"] == DIGITS else ["--task", options["task"]]
    said += ["--optimizer", *words] if words else []
    schedule = f"warmup_cosine({value}, warmup_steps=5%)"  # a text, so without a plateau rule
    return shlex.join(["jaxsched", "train", *said, "--schedule", schedule])
