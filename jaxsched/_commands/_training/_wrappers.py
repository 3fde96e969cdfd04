"""Wrappers of an optimizer from text: `skip_spikes(sigmas=4)`, `snapshot(keep=5)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import optax

from jaxsched._averages._average import average
from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._commands._training import _calls
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._schedules._schedule import Schedule
from jaxsched._transforms._keep_best import keep_best
from jaxsched._transforms._per_group import layerwise
from jaxsched._transforms._skip_spikes import skip_spikes
from jaxsched._transforms._snapshot import snapshot

Transform = optax.GradientTransformation

AROUND = {"skip_spikes": skip_spikes, "keep_best": keep_best, "average": average}
BEHIND = {"layerwise": layerwise, "snapshot": snapshot}
ONCE = ("keep_best", "snapshot", "average")
WRAPPERS: dict[str, Callable[..., Any]] = AROUND | BEHIND
# Averages need no names: `average(uniform_average(100))`.
_UNNAMED = {"average": functools.partial(average, optax.identity())}


def spoken(texts: Sequence[str]) -> list[str]:
    """Return the texts of wrappers as they are stored: checked, always in the same form."""
    read = [_read(text) for text in texts]
    for name in ONCE:
        if [name for name, _ in read].count(name) > 1:
            raise RefusedError(f"--with: use {name} only once, because its result has one name")
    kept = [_calls.shown(name, arguments) for name, arguments in read]
    for text in kept:
        _read(text)  # a resumed run reads it
    return kept


def wrapped(text: str, tx: Transform, learning_rate: Schedule | Stateful) -> Transform:
    """Return an optimizer with one more wrapper around it, or link after it."""
    name, arguments = _read(text)
    with refusing(f"--with {name}", TypeError):
        if name in AROUND:
            return AROUND[name](tx, **arguments)
        given = {"schedule": still(learning_rate)} if name == "snapshot" else {}
        return optax.chain(tx, BEHIND[name](**given, **arguments))


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a wrapper, and its arguments without the optimizer and the schedule."""
    return _calls.read("--with", text, "wrapper", WRAPPERS | _UNNAMED, _own)


def _own(name: str) -> dict[str, str]:
    """Return the arguments that the run provides to a wrapper."""
    around = name in AROUND and name not in _UNNAMED
    given = ("tx",) if around else ("schedule",) if name == "snapshot" else ()
    return {argument: f"the run provides the {argument}." for argument in given}
