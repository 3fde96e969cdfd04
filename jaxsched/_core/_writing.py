"""Writes a node as the expression that builds it.

A node of the class `SomeName` is written as the call `some_name(...)`. Its arguments are the
fields, without those that have their default. The nodes that operators build are written with these
operators.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._core._fields import fields_of, kind_of, number_in
from jaxsched._core._node import Node, same_leaf

LONGEST = 4_000_000  # characters: a table of two hundred thousand values, read in seconds

# How tightly a node binds its operands, from the loosest to the tightest.
CHAIN, SUM, PRODUCT, POWER, CALL = range(5)


class Written(Node):
    """Base class of nodes that are written as the expression that builds them."""

    _binds: ClassVar[int] = CALL
    _has_function: ClassVar[bool]  # whether there is a function of its name for `parse`
    # Set by `_look/_notebook.py`.
    _repr_html_: ClassVar[Callable[[Any], str | None]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._has_function = cls.__module__.partition(".")[0] == __name__.partition(".")[0]

    def _text(self) -> str:
        """The expression, from which `parse` builds an equal node."""
        call = f"{snake(type(self).__name__)}({_arguments(self)})"
        return call if self._has_function else f"<{call}>"

    def __repr__(self) -> str:
        return self._text()


def text(x: Any) -> str:
    """Return the text of a node, or of a field's content."""
    match x:
        case Tracer():
            return _outline(x)
        case np.ndarray() | jax.Array():
            numbers = repr(np.asarray(x).tolist())
            return numbers if len(numbers) <= LONGEST else _outline(x)
        case np.generic():
            return repr(x.item())
        case tuple():
            return f"[{', '.join(map(text, x))}]"
        case types.FunctionType():
            return f"<{x.__qualname__.strip('<>')}>"
        case _:
            return repr(x)


def length_text(x: Any) -> str:
    """Return the text of a length."""
    return text(whole(x))


def options(**values: Any) -> str:
    """Return the text of named arguments, without those that are None."""
    return ", ".join(f"{key}={text(x)}" for key, x in values.items() if x is not None)


def operand(x: Any, binds: int) -> str:
    """Return `x` as an operand, in parentheses if it binds no tighter than the operator."""
    return f"({text(x)})" if getattr(x, "_binds", CALL) <= binds else text(x)


def owner(x: Any) -> str:
    """Return `x` as the owner of a method call."""
    return operand(x, POWER)


def infix(sign: str, binds: int, operands: tuple[Any, ...], maker: type) -> str:
    """Return `a * b * c`, with `2 * (3 * a)` in parentheses: Python reads `2 * 3 * a` as 6 * a.

    The node begins with the first operand of type `maker`. The operands before it are wrapped
    around it, the nearest first.
    """
    texts = [operand(x, binds) for x in operands]
    first = next((i for i, x in enumerate(operands) if isinstance(x, maker)), 0)
    inner = max(first - 1, 0)
    written = sign.join(texts[inner : first + 1])
    for outer in reversed(texts[:inner]):
        written = f"{outer}{sign}({written})"
    return sign.join([written, *texts[first + 1 :]])


def _arguments(x: Any) -> str:
    """Return the arguments of a call: first those by position, then those by name."""
    fields = sorted(fields_of(x), key=lambda f: f.kw_only is True)
    texts, by_name = list[str](), False
    for f in fields:
        value = number_in(x, f.name)
        by_name = by_name or f.kw_only
        if same_leaf(value, f.default):
            by_name = True  # an argument after one that is left out must be named
            continue
        said = length_text(value) if kind_of(f).is_length else text(value)
        texts.append(f"{f.name}={said}" if by_name else said)
    return ", ".join(texts)


def _outline(x: Any) -> str:
    return f"<{x.dtype}[{','.join(map(str, x.shape))}]>"


def whole(x: Any) -> Any:
    """Return a length as its function takes it, also if it is stored as a float."""
    is_array = isinstance(x, (np.ndarray, jax.Array)) and not isinstance(x, Tracer) and x.ndim == 0
    x = x.item() if is_array else x
    return int(x) if isinstance(x, float) else x


def snake(name: str) -> str:
    """Return `SomeName` as `some_name`, and `WSDecay` as `ws_decay`."""
    return re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
