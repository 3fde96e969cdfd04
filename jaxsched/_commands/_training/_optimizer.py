"""Optax optimizers from text: `adam`, `adamw(weight_decay=0.01)`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._commands._training import _calls
from jaxsched._commands._training._model import PIXELS, Network
from jaxsched._commands._training._refused import refusing
from jaxsched._commands._training._wrappers import wrapped
from jaxsched._diagnose._monitor import monitor
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._transforms._inject import inject

Factory = Callable[..., Any]

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
    text: str, learning_rate: Schedule | Stateful, wrappers: Sequence[str] = ()
) -> optax.GradientTransformation:
    """Return the optimizer with the scheduled learning rate, its wrappers, and the monitor."""
    name, constants = _read(text)
    tx = inject(functools.partial(optimizers()[name], **constants), learning_rate=learning_rate)
    with refusing(f"--optimizer {name}", TypeError, NameError):
        rehearsed(tx)
    for wrapper in wrappers:
        tx = wrapped(wrapper, tx, learning_rate)
        with refusing(f"--with {wrapper}", TypeError, NameError):
            rehearsed(tx)
    return optax.chain(monitor(metric="loss", validation="value"), tx)


def rehearsed(tx: optax.GradientTransformation) -> Any:
    """Trace one update and return the shapes of the state, so that a bad constant fails here."""

    def update() -> Any:
        params = Network().init(jax.random.key(0), jnp.zeros((1, PIXELS)))["params"]
        return tx.update(params, tx.init(params), params)[1]

    return jax.eval_shape(update)


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of an optimizer, and its arguments without the learning rate."""
    return _calls.read("--optimizer", text, "optimizer", optimizers(), lambda _: OWN)
