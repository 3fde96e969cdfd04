"""The names that a text can use: the public functions and methods that make a schedule."""

from __future__ import annotations

import collections
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxsched._core import _meant
from jaxsched._core._factory import made
from jaxsched._schedules._schedule import Schedule

Factory = Callable[..., Any]

# Former names of functions and methods. They are kept forever, so that old texts can be read.
OLD_NAMES: dict[str, str] = {}

_PACKAGE = __name__.partition(".")[0]
_MADE = ("Schedule", "Rule", "Stateful")
# Their arguments have no text.
_OPAQUE = ("from_function", "feedback", "best_schedule", "best_remaining")
_PLACED = ["init_value", "end_value", "steps"]


def factory(name: str) -> Factory | None:
    """Return the public function of this name, if it makes a schedule, a rule or an average."""
    found = _known().get(name) if name not in _OPAQUE else None
    return _maker(found, (*_MADE, "Average"))


def method(name: str) -> Factory | None:
    """Return the method of this name, if it returns a schedule."""
    return _maker(vars(Schedule).get(name))


def curve(name: str) -> Factory | None:
    """Return the function of this name, if it requires only (init_value, end_value, steps)."""
    made = factory(name)
    return made if made is not None and required(made) == _PLACED else None


def factories() -> dict[str, Factory]:
    """Return all functions that make a schedule, stateful or not, by name."""
    made = _found(factory, _known())
    return {name: function for name, function in made.items() if _maker(function)}


def methods() -> dict[str, Factory]:
    """Return all methods that return a schedule, by name."""
    return _found(method, vars(Schedule))


def curves() -> dict[str, Factory]:
    """Return all functions that a recipe accepts as a curve, by name."""
    return _found(curve, _known())


@functools.cache
def parameters(function: Factory) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a function, without `self`."""
    found = inspect.signature(function).parameters
    return {name: x for name, x in found.items() if name != "self"}


def required(function: Factory) -> list[str]:
    """Return the arguments that have no default."""
    return [name for name, x in parameters(function).items() if x.default is x.empty]


def meant(name: str, known: Iterable[str]) -> str:
    """Return suggestions for an unknown name: similar names, or all names."""
    known = sorted(known)
    near = _meant.near(name, known, cutoff=0.7)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"All of them: {', '.join(known)}." if known else "It has none."


def twins(name: str) -> list[str]:
    """Return the places of the twins of a name."""
    return _meant.twins(_known()["compat"], name)


def _known() -> Mapping[str, Any]:
    """Return the public names of the package, and those that a user's `factory` has made."""
    return collections.ChainMap(_public(), made)


@functools.cache
def _public() -> dict[str, Any]:
    package = sys.modules[_PACKAGE]
    return {name: getattr(package, name) for name in package.__all__}


def _maker(x: Any, kinds: tuple[str, ...] = _MADE) -> Factory | None:
    """Return `x` if it is a public function that makes something of these kinds."""
    if not inspect.isfunction(x) or x.__name__.startswith("_"):
        return None
    made = x.__annotations__.get("return")
    return x if getattr(made, "__name__", made) in kinds else None


def _found(look: Callable[[str], Factory | None], where: Iterable[str]) -> dict[str, Factory]:
    return {name: found for name in sorted(where) if (found := look(name)) is not None}
