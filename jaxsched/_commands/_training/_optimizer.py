"""Optax optimizers from text: `adam`, `adamw(weight_decay=0.01)`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._commands._refused import refusing
from jaxsched._commands._training import _calls
from jaxsched._commands._training._wrappers import wrapped
from jaxsched._diagnose._monitor import monitor
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._transforms._inject import inject

Factory = Callable[..., Any]

# Parameters of a shape that every optimizer takes, to check an optimizer before there is a model.
SOME_PARAMS = {"Dense": {"kernel": jax.ShapeDtypeStruct((4, 4), jnp.float32)}}

OWN = {"learning_rate": "the learning rate is the schedule: use --schedule constant value=..."}


def optimizers() -> dict[str, Factory]:
    """Return the optax optimizers that have a learning rate."""
    found = {
        name: getattr(optax, name) for name in dir(optax) if not name.startswith(("_", "scale_"))
    }
    # The line search of lbfgs needs the loss as a function; optimistic_adam is deprecated.
    found = {name: x for name, x in found.items() if name not in ("lbfgs", "optimistic_adam")}
    return {
        name: x
        for name, x in found.items()
        if inspect.isfunction(x) and "learning_rate" in inspect.signature(x).parameters
    }


def spoken(text: str) -> str:
    """Return the text of an optimizer as it is stored: checked, always in the same form."""
    name, constants = _read(text)
    kept = _calls.shown(name, constants) if constants else name
    _read(kept)  # a resumed run reads it
    return kept


def transform(
    factory: Factory,
    learning_rate: Schedule | Stateful,
    wrappers: Sequence[str] = (),
    params: Any = SOME_PARAMS,
) -> optax.GradientTransformation:
    """Return the optimizer with the scheduled learning rate, its wrappers, and the monitor.

    Args:
      factory: a function of `learning_rate` that returns the optimizer.
      learning_rate: the schedule, stateful or not.
      wrappers: texts of wrappers, innermost first.
      params: the parameters, or their shapes.
    """
    tx = inject(factory, learning_rate=learning_rate)
    name = getattr(factory, "func", factory).__name__
    with refusing(f"--optimizer {name}", TypeError, NameError):
        rehearsed(tx, params)
    for wrapper in wrappers:
        tx = wrapped(wrapper, tx, learning_rate)
        with refusing(f"--with {wrapper}", TypeError, NameError):
            rehearsed(tx, params)
    return optax.chain(monitor(metric="loss", validation="value"), tx)


def rehearsed(tx: optax.GradientTransformation, params: Any) -> Any:
    """Trace one update and return the shapes of the state, so that a bad constant fails here."""
    return jax.eval_shape(lambda params: tx.update(params, tx.init(params), params)[1], params)


def made(text: str) -> Factory:
    """Return the function of `learning_rate` of a text."""
    name, constants = _read(text)
    return functools.partial(optimizers()[name], **constants)


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of an optimizer, and its arguments without the learning rate."""
    return _calls.read("--optimizer", text, "optimizer", optimizers(), lambda _: OWN)
