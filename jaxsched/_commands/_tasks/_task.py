"""A task: a model and its data.

A user describes a task as a function of a random key, which returns

    (loss, params, batches)

or a dict with these names and, if wanted, `validation` and `optimizer`. `loss(params, batch)`
returns the loss, or (loss, metrics) with a dict of numbers. A third parameter named `key` receives
a random key, for dropout; it is None in a validation.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._tasks._batches import CALL, first, is_iterator
from jaxsched._commands._tasks._digits import digits_task
from jaxsched._core._files import shown
from jaxsched._search._contract import is_score
from jaxsched._search._range_test._steps import require_floats
from jaxsched._text._names import meant

DIGITS = "digits"
NEEDED, POSSIBLE = ("loss", "params", "batches"), ("validation", "optimizer")
LOGITS = "logits"  # a metric that is not a number, and from which the KL divergence is computed
TAKEN = ("value", "loss", "kl", "gradient_norm")  # metrics that every task has

Loss = Callable[[Any, Any, jax.Array | None], tuple[jax.Array, dict[str, jax.Array]]]


class Task(NamedTuple):
    """What a task's function has returned, checked."""

    name: str
    loss: Loss  # of the parameters, a batch and a key: the loss and the metrics
    params: Any
    batches: Any  # arrays, a list, an iterable, or a function of a key that returns one of them
    batch: Any  # the shapes and dtypes of a batch
    validation: Any = None  # like `batches`; None: there is none
    optimizer: Callable[..., Any] | None = None  # a function of `learning_rate`
    metrics: tuple[str, ...] = ()  # names of the numbers that the loss returns beside itself
    has_logits: bool = False

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch: the length of its first array."""
        shapes = [x.shape for x in jax.tree.leaves(self.batch) if x.shape]
        return shapes[0][0] if shapes else 1


def task(
    said: str, key: jax.Array, batch_size: int | None = None, steps: int | None = None
) -> Task:
    """Return the task of this name, with parameters from a random key.

    Args:
      said: `digits`, or `module:function`.
      key: the random key that the function receives.
      batch_size: images per batch of the digits.
      steps: number of batches that are needed. None: all, again in every epoch.

    Raises:
      RefusedError: there is no such function, or it does not return a task.
    """
    if said == DIGITS:
        return _read(said, digits_task(key, batch_size), steps)
    if batch_size is not None:
        raise RefusedError(f"--batch-size: --task {said} sets its own batches")
    return _read(said, _called(said, _imported(said), key), steps)


def _imported(said: str) -> Callable[..., Any]:
    """Return a function of a module, which may be in the current directory."""
    module, colon, name = said.partition(":")
    parts = [name, *module.split(".")]
    if not (colon and all(map(str.isidentifier, parts))) or module.endswith(".py"):
        hint = f". Did you mean {file_as_module(module)}:{name}?" if ".py" in module else ""
        raise RefusedError(f"--task: write {DIGITS} or module:function, got {said!r}{hint}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise RefusedError(f"--task {said}: {error}") from error
    if not callable(function):
        raise RefusedError(f"--task {said}: {module} has no function {name!r}")
    return function


def file_as_module(path: str) -> str:
    """Return the name of the module in a file of the current directory."""
    return path.removeprefix("./").removesuffix(".py").replace("/", ".")


def _called(said: str, function: Callable[..., Any], key: jax.Array) -> Any:
    with contextlib.suppress(ValueError):  # the function cannot be inspected
        try:
            inspect.signature(function).bind(key)
        except TypeError as error:
            raise RefusedError(
                f"--task {said}: must take one argument, a random key: {error}"
            ) from error
    return function(key)


def _read(said: str, given: Any, steps: int | None) -> Task:
    """Return what a function has returned as a task, or raise."""
    parts = _parts(said, given)
    with checking(said):
        require_floats(parts["params"], CALL, "Keep other state, such as random keys, in the loss.")
        parts = {**parts, "batches": _batches(parts["batches"], steps)}
        batch = jax.tree.map(_shape, first(parts["batches"]))
        loss, names = _loss(parts["loss"], parts["params"], batch)
        validation = parts.get("validation")
        if validation is not None:
            _require_alike(batch, validation)
        optimizer = parts.get("optimizer")
        if optimizer is not None:
            _require_optimizer(optimizer)
        scalars = tuple(name for name in names if name != LOGITS)
        return Task(
            said, loss, parts["params"], parts["batches"], batch, validation,
            optimizer, scalars, LOGITS in names,
        )  # fmt: skip


@contextlib.contextmanager
def checking(said: str) -> Generator[None]:
    """Turn errors of the checks into one line; an error in the user's code keeps its traceback."""
    try:
        yield
    except (RefusedError, ValueError) as error:
        line = str(error).partition("\n")[0]
        if isinstance(error, ValueError) and not line.startswith(f"`{CALL}("):
            raise
        raise RefusedError(f"--task {said}: {line}") from error


def _parts(said: str, given: Any) -> dict[str, Any]:
    """Return the parts of a task by their names."""
    if isinstance(given, tuple) and len(given) == len(NEEDED):
        return dict(zip(NEEDED, given, strict=True))
    if not isinstance(given, dict):
        what = f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__
        raise RefusedError(
            f"--task {said}: must return (loss, params, batches), or a dict with these names and "
            f"{' or '.join(POSSIBLE)}, got {what}"
        )
    for name in given:
        if name not in (*NEEDED, *POSSIBLE):
            hint = meant(name, (*NEEDED, *POSSIBLE))
            raise RefusedError(f"--task {said}: there is no part {shown(name)} of a task. {hint}")
    for name in NEEDED:
        if name not in given:
            raise RefusedError(f"--task {said}: the dict that it returns needs {name!r}")
    return given


def _batches(batches: Any, steps: int | None) -> Any:
    """Return batches that can be read more than once, or raise."""
    if batches is None and steps is None:
        raise RefusedError("a run needs `batches`, got None")
    if not is_iterator(batches):
        return batches
    if steps is None:
        raise RefusedError(
            "`batches` is an iterator, which can be read only once, and a run reads the batches in "
            "every epoch. Return a function of a random key that makes the iterator"
        )
    return [*itertools.islice(batches, steps)]


def _require_alike(batch: Any, validation: Any) -> None:
    """Raise if a batch of the validation does not have as many axes as a batch of the training."""
    if is_iterator(validation):
        raise RefusedError(
            "`validation` is an iterator, which can be read only once. Return a list, or a "
            "function of a random key that makes the iterator"
        )
    found = jax.tree.map(_shape, first(validation))
    axes, wanted = ([x.ndim for x in jax.tree.leaves(tree)] for tree in (found, batch))
    if axes != wanted:
        raise RefusedError(
            f"a batch of `validation` must have arrays with {wanted} axes, as a batch of the "
            f"training has, got {axes}. If it is one batch, put it into a list"
        )


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x))


def _loss(function: Any, params: Any, batch: Any) -> tuple[Loss, tuple[str, ...]]:
    """Return a loss of (params, batch, key) that also returns metrics, and their names."""
    takes_key = _takes_key(function)

    def raw(params: Any, batch: Any, key: jax.Array | None) -> Any:
        return function(params, batch, key) if takes_key else function(params, batch)

    found = jax.eval_shape(lambda p, b, k: raw(p, b, k), params, batch, jax.random.key(0))
    has_metrics = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)
    value, metrics = found if has_metrics else (found, {})
    if not is_score(value):
        raise RefusedError(
            "`loss(params, batch)` must return one real loss, or (loss, metrics) with a dict of "
            f"numbers, got {_described(found)}"
        )
    for name, x in metrics.items():
        if name in TAKEN or not isinstance(name, str):
            raise RefusedError(f"a metric must not be named {name!r}, which every task has")
        if name != LOGITS and not is_score(x):
            raise RefusedError(f"the metric {name!r} must be a number, got {_described(x)}")

    def loss(params: Any, batch: Any, key: jax.Array | None) -> Any:
        found = raw(params, batch, key)
        value, metrics = found if has_metrics else (found, {})
        return value, metrics

    return loss, tuple(metrics)


def _takes_key(function: Any) -> bool:
    """Return whether a loss takes a key, or raise if it does not take (params, batch)."""
    if not callable(function):
        raise RefusedError(f"`loss` must be a function, got {shown(function)}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # it cannot be inspected
        return False
    named = [*signature.parameters][2:3] == ["key"]
    try:
        signature.bind(*(None,) * (3 if named else 2))
    except TypeError as error:
        calls = "`loss(params, batch)` or `loss(params, batch, key)`, with these names"
        raise RefusedError(f"the loss must be called as {calls}: {error}") from None
    return named


def _require_optimizer(optimizer: Any) -> None:
    known = inspect.signature(optimizer).parameters if callable(optimizer) else {}
    if "learning_rate" not in known:
        raise RefusedError(
            "`optimizer` must be a function with an argument `learning_rate`, such as "
            f"`functools.partial(optax.adamw, weight_decay=0.01)`, got {shown(optimizer)}"
        )


def _described(x: Any) -> str:
    """Return shapes and dtypes in one line."""
    texts = jax.tree.map(lambda leaf: f"{leaf.dtype}{[*leaf.shape]}", x)
    return str(texts).replace("'", "")
