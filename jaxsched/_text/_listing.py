"""The list of all names that a text can use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from jaxsched._schedules._units import Units
from jaxsched._text import _names
from jaxsched._text._evaluate import UNITS


def listing(word: str = "") -> str:
    """Return every name with its arguments and first sentence, or those that contain a word."""
    found = [entry for entry in _entries() if word.lower() in entry.lower()]
    return "\n".join(found)


def _entries() -> Iterator[str]:
    for name, function in _names.factories().items():
        yield f"{name}{_arguments(function)}\n    {_sentence(function)}"
    for name, method in _names.methods().items():
        yield f".{name}{_arguments(method)}\n    {_sentence(method)}"
    for unit, method in UNITS.items():
        yield f"1{unit}\n    {_sentence(getattr(Units, method))}"


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
