"""The list of all names that a text can use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from jaxsched._schedules._units import Units
from jaxsched._text import _names
from jaxsched._text._evaluate import UNITS

# The groups, and the files or rooms of their functions.
GROUPS = {
    "Curves": ("_curves",),
    "Unbounded schedules": ("_unbounded", "_piecewise", "_table"),
    "Recipes": ("_recipes", "_adam_warmups", "_batch_size"),
    "Combinations of schedules": ("_compose",),
    "Rules that respond to metrics": ("_rules",),
    "Schedules from gradient norms": ("_optimal",),
}
OWN = "Schedules and rules of your own"


def listing(word: str = "") -> str:
    """Return every name by group, with its arguments and first sentence.

    With a word, only entries that contain it are listed.
    """
    groups: dict[str, list[str]] = {group: [] for group in (*GROUPS, OWN)}
    for group, entry in _entries():
        if word.lower() in entry.lower():
            groups.setdefault(group, []).append(entry)
    return "\n\n".join("\n".join([group, *found]) for group, found in groups.items() if found)


def _entries() -> Iterator[tuple[str, str]]:
    for name, function in _names.factories().items():
        yield _group(function), f"  {name}{_arguments(function)}\n      {_sentence(function)}"
    for name, method in _names.methods().items():
        yield "Methods", f"  .{name}{_arguments(method)}\n      {_sentence(method)}"
    for unit, method in UNITS.items():
        yield "Units of lengths", f"  1{unit}\n      {_sentence(getattr(Units, method))}"


def _group(function: Callable[..., Any]) -> str:
    where = set(inspect.unwrap(function).__module__.split("."))
    return next((group for group, files in GROUPS.items() if where & {*files}), OWN)


def _arguments(function: Callable[..., Any]) -> str:
    """Return the signature without types; a function as a default is shown by name."""
    texts: list[str] = []
    for name, x in _names.parameters(function).items():
        if x.kind is x.KEYWORD_ONLY and "*" not in texts:
            texts.append("*")
        default = getattr(x.default, "__name__", repr(x.default))
        texts.append(name if x.default is x.empty else f"{name}={default}")
    return f"({', '.join(texts)})"


def _sentence(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
