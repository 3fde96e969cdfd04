"""The tasks of `jaxsched find`: a loss, and the parameters and batches of each seed, stacked."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._commands._training._data import TRAIN, Images, digits, shuffled
from jaxsched._commands._training._model import PIXELS, Network, loss_of
from jaxsched._commands._training._refused import RefusedError
from jaxsched._search._range_test._batches import stacked

DIGITS = "digits"


class Task(NamedTuple):
    """The arguments of a range test, for several seeds."""

    loss: Callable[[Any, Any], Any]
    params: Any  # stacked by seed
    batches: Any  # stacked by seed, then by batch


def task(said: str, seeds: int, steps: int, batch_size: int | None) -> Task:
    """Return the task of this name: the digits, or `module:function`."""
    keys = jax.random.split(jax.random.key(0), seeds)
    if said == DIGITS:
        return _digits(keys, batch_size or 32)
    if batch_size is not None:
        raise RefusedError(f"--batch-size: --task {said} sets its own batches")
    return _together(said, [_seeded(said, _imported(said), key, steps) for key in keys])


def _digits(keys: jax.Array, batch_size: int) -> Task:
    if batch_size > TRAIN:
        raise RefusedError(f"--batch-size: there are {TRAIN} images, got {batch_size}")
    images = digits().train

    def seeded(key: jax.Array) -> tuple[Any, Images]:
        init, order = jax.random.split(key)
        params = Network().init(init, jnp.zeros((1, PIXELS)))["params"]
        return params, shuffled(images, order, batch_size)

    return Task(loss_of, *jax.jit(jax.vmap(seeded))(keys))


def _imported(said: str) -> Callable[..., Any]:
    """Return a function of a module, which may be in the current directory."""
    module, colon, name = said.partition(":")
    if not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise RefusedError(f"--task: write {DIGITS} or module:function, got {said!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise RefusedError(f"--task {said}: {error}") from error
    if not callable(function):
        raise RefusedError(f"--task {said}: {module} has no function {name!r}")
    return function


def _seeded(said: str, function: Callable[..., Any], key: jax.Array, steps: int) -> Task:
    with contextlib.suppress(ValueError):  # the function cannot be inspected
        try:
            inspect.signature(function).bind(key)
        except TypeError as error:
            raise RefusedError(f"--task {said}: is called with a random key: {error}") from error
    given = function(key)
    if not (isinstance(given, tuple) and len(given) == 3 and callable(given[0])):
        what = f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__
        raise RefusedError(f"--task {said}: must return (loss, params, batches), got {what}")
    loss, params, batches = given
    drawn = stacked(batches, steps)
    if not isinstance(drawn, list):
        return Task(loss, params, drawn)
    # A list would be read as a sequence of batches once more.
    return Task(lambda params, batch: loss(params, list(batch)), params, tuple(drawn))


def _together(said: str, seeded: Sequence[Task]) -> Task:
    """Return all seeds stacked, with the loss of the first."""
    trees = [(task.params, task.batches) for task in seeded]
    shapes = {str(jax.tree.map(jnp.shape, tree)) for tree in trees}
    if len(shapes) > 1:
        raise RefusedError(f"--task {said}: the shapes of its arrays differ from seed to seed")
    params, batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return Task(seeded[0].loss, params, batches)
