"""The names that text knows: those of the public functions that make a schedule."""

from __future__ import annotations

import collections
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxsched._core import _meant
from jaxsched._core._factory import made
from jaxsched._schedules._schedule import Schedule

Factory = Callable[..., Any]

# Names that functions and methods had once, and have for ever: what was read will be read.
OLD_NAMES: dict[str, str] = {}

_MADE = ("Schedule", "Rule", "Stateful")
_OPAQUE = ("from_function", "feedback")  # what it takes has no text
_PLACED = ["init_value", "end_value", "steps"]


def factory(name: str) -> Factory | None:
    """The public function of this name, if it makes a schedule, stateful or not."""
    return _maker(_known().get(name)) if name not in _OPAQUE else None


def method(name: str) -> Factory | None:
    """The method of this name, if it makes a schedule of one."""
    return _maker(vars(Schedule).get(name))


def curve(name: str) -> Factory | None:
    """The function of this name, if (init_value, end_value, steps) is all it needs."""
    made = factory(name)
    return made if made is not None and required(made) == _PLACED else None


def factories() -> dict[str, Factory]:
    """All functions that make a schedule, by name."""
    return _found(factory, _known())


def methods() -> dict[str, Factory]:
    """All methods that make a schedule of one, by name."""
    return _found(method, vars(Schedule))


def curves() -> dict[str, Factory]:
    """All functions that a recipe takes as a curve, by name."""
    return _found(curve, _known())


@functools.cache
def parameters(function: Factory) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function; of a method, those after `self`."""
    found = inspect.signature(function).parameters
    return {name: x for name, x in found.items() if name != "self"}


def required(function: Factory) -> list[str]:
    """The arguments that have no default."""
    return [name for name, x in parameters(function).items() if x.default is x.empty]


def meant(name: str, known: Iterable[str]) -> str:
    """What somebody may have meant by a name that is none: the close ones, or all there are."""
    known = sorted(known)
    near = _meant.near(name, known, cutoff=0.7)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"All of them: {', '.join(known)}." if known else "It has none."


def twins(name: str) -> list[str]:
    """Where the twins of a name are."""
    return _meant.twins(_known()["compat"], name)


def _known() -> Mapping[str, Any]:
    """The public names of the package, and those that a user's `factory` has made."""
    public: Any = importlib.import_module("jaxsched._public")
    return collections.ChainMap(vars(public), made)


def _maker(x: Any) -> Factory | None:
    if not inspect.isfunction(x) or x.__name__.startswith("_"):
        return None
    made = x.__annotations__.get("return")
    return x if getattr(made, "__name__", made) in _MADE else None


def _found(look: Callable[[str], Factory | None], where: Iterable[str]) -> dict[str, Factory]:
    return {name: found for name in sorted(where) if (found := look(name)) is not None}
