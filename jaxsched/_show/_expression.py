"""A schedule as the expression that builds it.

A node whose class is `SomeName` is the call `some_name(...)`: fields as the factory takes them,
those at their default left out. Only the nodes that operators build are written otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._algebra import Clip, Faster, Hold, Product, Shift, Sum, Take, Then
from jaxsched._compose import Function
from jaxsched._cycle import Cycle
from jaxsched._powers import number_in
from jaxsched._schedule import Schedule
from jaxsched._show._syntax import LENGTH
from jaxsched._stateful._protocol import Stateful, StatefulClip, StatefulProduct

_PRODUCTS = (Product, StatefulProduct)


@functools.singledispatch
def expression(x: Any) -> str:
    """`x` as text."""
    if not dataclasses.is_dataclass(x):
        return repr(x)
    return f"{_snake(type(x).__name__)}({_arguments(x)})"


@expression.register
def _(x: float) -> str:
    return repr(x)


@expression.register
def _(x: np.generic) -> str:
    return repr(x.item())


@expression.register
def _(x: np.ndarray) -> str:
    text = repr(x.tolist())
    return text if len(text) <= LENGTH else f"<{x.dtype}[{','.join(map(str, x.shape))}]>"


@expression.register
def _(x: jax.Array) -> str:
    return expression(np.asarray(x))


@expression.register(Tracer)
def _(x: Any) -> str:
    return f"<{x.dtype}[{','.join(map(str, x.shape))}]>"


@expression.register(tuple)
def _(x: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(expression, x))}]"


@expression.register
def _(x: types.FunctionType) -> str:
    return f"<{x.__qualname__.strip('<>')}>"


@expression.register
def _(x: Function) -> str:
    function = x.function
    while isinstance(function, jax.tree_util.Partial):
        function = function.func
    return f"<{getattr(function, '__qualname__', repr(function))}>"


@expression.register
def _(x: Then) -> str:
    if len(x.pieces) == 1:
        return f"join([{expression(x.pieces[0])}], [])"
    return " >> ".join(_child(piece, Then) for piece in x.pieces)


@expression.register
def _(x: Sum) -> str:
    return _infix(" + ", x.terms, Schedule, Then, Sum)


@expression.register
def _(x: Product) -> str:
    return _infix(" * ", x.factors, Schedule, Then, Sum, *_PRODUCTS)


@expression.register
def _(x: StatefulProduct) -> str:
    return _infix(" * ", x.factors, Stateful, Then, Sum, *_PRODUCTS)


@expression.register
def _(x: Take) -> str:
    return f"{_owner(x.schedule)}.take({expression(_whole(x.steps))})"


@expression.register
def _(x: Shift) -> str:
    return f"{_owner(x.schedule)}.shift({expression(_whole(x.by))})"


@expression.register
def _(x: Hold) -> str:
    return f"{_owner(x.schedule)}.hold({expression(_whole(x.each))})"


@expression.register
def _(x: Faster) -> str:
    return f"{_owner(x.schedule)}.faster({expression(x.rate)})"


@expression.register
def _(x: Clip | StatefulClip) -> str:
    return f"{_owner(x.schedule)}.clip({_options(low=x.low, high=x.high)})"


@expression.register
def _(x: Cycle) -> str:
    mult, decay = number_in(x, "mult") if hasattr(x, "mult") else None, number_in(x, "decay")
    decay = None if _is_default(decay, 1.0) else decay
    options = _options(mult=mult, decay=decay, cycles=_whole(x.cycles))
    return f"{_owner(x.schedule)}.cycle({options})"


def _arguments(x: Any) -> str:
    texts: list[str] = []
    for f in dataclasses.fields(x):
        value = number_in(x, f.name)
        if not _is_default(value, f.default):
            text = expression(_whole(value) if str(f.type).startswith("Length") else value)
            texts.append(f"{f.name}={text}" if f.kw_only else text)
    return ", ".join(texts)


def _options(**values: Any) -> str:
    return ", ".join(f"{key}={expression(x)}" for key, x in values.items() if x is not None)


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _whole(x: Any) -> Any:
    """A length as its factory takes it, one beyond the clock too, which is held as a float."""
    is_array = isinstance(x, (np.ndarray, jax.Array)) and not isinstance(x, Tracer) and x.ndim == 0
    x = x.item() if is_array else x
    return int(x) if isinstance(x, float) else x


def _infix(sign: str, operands: tuple[Any, ...], maker: type, *looser: type) -> str:
    """`a * b * c`, with `2 * (3 * a)` in parentheses: Python would make `2 * 3 * a` out as 6 * a.

    The node begins with the first operand of type `maker`; those before it are taken in from right
    to left.
    """
    texts = [_child(x, *looser) for x in operands]
    first = next((i for i, x in enumerate(operands) if isinstance(x, maker)), 0)
    inner = max(first - 1, 0)
    text = sign.join(texts[inner : first + 1])
    for outer in reversed(texts[:inner]):
        text = f"{outer}{sign}({text})"
    return sign.join([text, *texts[first + 1 :]])


def _child(x: Any, *looser: type) -> str:
    """`x` as an operand: in parentheses if it binds no tighter than the operator around it."""
    text = expression(x)
    return f"({text})" if isinstance(x, looser) else text


def _owner(x: Any) -> str:
    """`x` as what a method is called on."""
    return _child(x, Then, Sum, *_PRODUCTS)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
