"""Nodes as text: a schedule is written as the expression that builds it.

A node whose class is `SomeName` is the call `some_name(...)`: its fields as the function takes
them, those at their default left out. The nodes that operators build write themselves otherwise.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._node import Node
from jaxsched._powers import number_in

LONGEST = 4_000_000  # characters: a table of two hundred thousand values, read in seconds

# How tightly a node binds its operands, from the loosest.
CHAIN, SUM, PRODUCT, CALL = range(4)


class Written(Node):
    """What is written as the expression that builds it."""

    _binds: ClassVar[int] = CALL
    # Given by `_plot/_notebook.py`.
    _repr_html_: ClassVar[Callable[[Any], str | None]]

    def _text(self) -> str:
        """The expression, from which `parse` makes the same again."""
        return f"{snake(type(self).__name__)}({_arguments(self)})"

    def __repr__(self) -> str:
        return self._text() if dataclasses.is_dataclass(self) else object.__repr__(self)


def text(x: Any) -> str:
    """A node, or what a field of one holds, as text."""
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
    """A length as text."""
    return text(whole(x))


def options(**values: Any) -> str:
    """Arguments by name, without those that are None."""
    return ", ".join(f"{key}={text(x)}" for key, x in values.items() if x is not None)


def operand(x: Any, binds: int) -> str:
    """`x` as an operand: in parentheses if it binds no tighter than the operator around it."""
    return f"({text(x)})" if getattr(x, "_binds", CALL) <= binds else text(x)


def owner(x: Any) -> str:
    """`x` as what a method is called on."""
    return operand(x, PRODUCT)


def infix(sign: str, binds: int, operands: tuple[Any, ...], maker: type) -> str:
    """`a * b * c`, with `2 * (3 * a)` in parentheses: Python would make `2 * 3 * a` out as 6 * a.

    The node begins with the first operand of type `maker`; those before it are taken in from right
    to left.
    """
    texts = [operand(x, binds) for x in operands]
    first = next((i for i, x in enumerate(operands) if isinstance(x, maker)), 0)
    inner = max(first - 1, 0)
    written = sign.join(texts[inner : first + 1])
    for outer in reversed(texts[:inner]):
        written = f"{outer}{sign}({written})"
    return sign.join([written, *texts[first + 1 :]])


def is_default(value: Any, default: Any) -> bool:
    """Is a value the default, so that it need not be written?"""
    return type(value) is type(default) and bool(value == default)


def _arguments(x: Any) -> str:
    texts: list[str] = []
    for f in dataclasses.fields(x):
        value = number_in(x, f.name)
        if not is_default(value, f.default):
            said = length_text(value) if f.metadata.get("length") else text(value)
            texts.append(f"{f.name}={said}" if f.kw_only else said)
    return ", ".join(texts)


def _outline(x: Any) -> str:
    return f"<{x.dtype}[{','.join(map(str, x.shape))}]>"


def whole(x: Any) -> Any:
    """A length as its function takes it, one beyond the clock too, which is held as a float."""
    is_array = isinstance(x, (np.ndarray, jax.Array)) and not isinstance(x, Tracer) and x.ndim == 0
    x = x.item() if is_array else x
    return int(x) if isinstance(x, float) else x


def snake(name: str) -> str:
    """`SomeName` as `some_name`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
