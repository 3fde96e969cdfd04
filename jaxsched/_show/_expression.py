"""A schedule as the expression that builds it.

A node whose class is `SomeName` is the call `some_name(...)`: fields as the factory takes them,
those at their default left out. Only the nodes that operators build are written otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxsched._algebra import Clip, Faster, Product, Shift, Sum, Take, Then
from jaxsched._compose import Function
from jaxsched._cycle import Cycle
from jaxsched._stateful._protocol import StatefulClip, StatefulProduct

_PRODUCTS = (Product, StatefulProduct)


@functools.singledispatch
def expression(x: Any) -> str:
    """`x` as text."""
    if not dataclasses.is_dataclass(x):
        return repr(x)
    return f"{_snake(type(x).__name__)}({_arguments(x, dataclasses.fields(x))})"


@expression.register
def _(x: float) -> str:
    return repr(x)


@expression.register
def _(x: np.ndarray) -> str:
    return repr(x.tolist())


@expression.register
def _(x: jax.Array) -> str:
    if isinstance(x, Tracer):
        return f"<{x.dtype}[{','.join(map(str, x.shape))}]>"
    return expression(np.asarray(x))


@expression.register(tuple)
def _(x: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(expression, x))}]"


@expression.register
def _(x: Function) -> str:
    function = x.function
    while isinstance(function, jax.tree_util.Partial):
        function = function.func
    return f"<{getattr(function, '__qualname__', repr(function))}>"


@expression.register
def _(x: Then) -> str:
    return " >> ".join(_child(piece, Then) for piece in x.pieces)


@expression.register
def _(x: Sum) -> str:
    return " + ".join(_child(term, Then, Sum) for term in x.terms)


@expression.register
def _(x: Product | StatefulProduct) -> str:
    return " * ".join(_child(factor, Then, Sum, *_PRODUCTS) for factor in x.factors)


@expression.register
def _(x: Take) -> str:
    return f"{_owner(x.schedule)}.take({_length(x.steps)})"


@expression.register
def _(x: Shift) -> str:
    return f"{_owner(x.schedule)}.shift({_length(x.by)})"


@expression.register
def _(x: Faster) -> str:
    return f"{_owner(x.schedule)}.faster({expression(x.rate)})"


@expression.register
def _(x: Clip | StatefulClip) -> str:
    return f"{_owner(x.schedule)}.clip({_keywords({'low': x.low, 'high': x.high})})"


@expression.register
def _(x: Cycle) -> str:
    shown = {"mult": x.mult, "decay": None if x.decay == 1.0 else x.decay, "cycles": x.cycles}
    return f"{_owner(x.schedule)}.cycle({_keywords(shown)})"


def _arguments(x: Any, fields: tuple[Any, ...]) -> str:
    shown = [f for f in fields if not _is_default(getattr(x, f.name), f.default)]
    positional = [_value(f.name, getattr(x, f.name)) for f in shown if not f.kw_only]
    keywords = _keywords({f.name: getattr(x, f.name) for f in shown if f.kw_only})
    return ", ".join(filter(None, [*positional, keywords]))


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _keywords(values: dict[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if value is not None}
    return ", ".join(f"{name}={_value(name, value)}" for name, value in shown.items())


def _value(name: str, x: Any) -> str:
    return _length(x) if name in ("steps", "decay_steps", "cycles") else expression(x)


def _length(x: Any) -> str:
    return repr(int(x)) if isinstance(x, float) else expression(x)


def _child(x: Any, *looser: type) -> str:
    """`x` as an operand: in parentheses if it binds no tighter than the operator around it."""
    text = expression(x)
    return f"({text})" if isinstance(x, looser) else text


def _owner(x: Any) -> str:
    """`x` as what a method is called on."""
    return _child(x, Then, Sum, *_PRODUCTS)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
