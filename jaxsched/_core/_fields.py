"""Fields of nodes: the kind of value, its check, and its encoding.

A field without a declaration holds a real number, or a child node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import numpy as np
from jax.typing import ArrayLike

from jaxsched._core._clock import held
from jaxsched._core._lists import given, numbers_of
from jaxsched._core._powers import Form, Leaf
from jaxsched._core._require import (
    Condition,
    finite,
    length,
    one_of,
    positive,
    refuse,
)
from jaxsched._core._require import within as met

Check = Callable[[str, str, Any], Any]  # (call, name, value) -> the value to be stored


class Kind(NamedTuple):
    """The kind of value of a field."""

    check: Check
    rank: int | None = 0  # number of axes of a leaf; None allows any
    is_length: bool = False
    is_static: bool = False
    form: Form | None = None

    def checked(self, call: str, field: dataclasses.Field[Any], value: Any) -> Any:
        """Return an argument as the field stores it. None is allowed if it is the default."""
        if value is None and field.default is None:
            return None
        return self.check(call, field.name, value)


def number_field(
    *, default: Any = dataclasses.MISSING, within: Condition | None = None, kw_only: bool = True
) -> Any:
    """Declares a field with a real number, which may be traced, mapped and learned.

    `within` is a condition that every value must meet: an object with three attributes. `holds` is
    a function that returns whether a number is allowed. `must` is the condition in words, such as
    "be positive", and `remedy` is a sentence; both are part of the error. A traced number is not
    checked. Without `within`, every finite number is allowed.
    """

    def check(call: str, name: str, value: Any) -> Any:
        return finite(call, name, value) if within is None else met(call, name, value, within)

    return _field(Kind(check), default, kw_only)


def length_field(
    *,
    default: Any = dataclasses.MISSING,
    least: int = 0,
    remedy: str = "",
    kw_only: bool = True,
) -> Any:
    """Declares a field with a length of at least `least` optimizer steps. It has no gradient.

    A length above 2^31 - 1, the last step of the step counter, is stored as a float. `remedy` is a
    sentence that the error adds if a value is not a length.
    """

    def check(call: str, name: str, value: Any) -> Any:
        return held(length(call, name, value, remedy=remedy, least=least))

    return _field(Kind(check, is_length=True), default, kw_only)


def list_field(
    *, check: Callable[..., Any] = numbers_of, converter: Callable[[Any], Any] = given
) -> Any:
    """Declares a field with a list of numbers: an array with one extra axis.

    `check(call, name, value)` returns the array to be stored, and raises an error for a wrong
    value. `call` is the name of the function that was called, and `name` is the name of the field.
    `converter` has no effect: only type checkers read it.
    """

    return _field(Kind(check, rank=1), dataclasses.MISSING, False)


def form_field(
    form: Form, *, default: Any = dataclasses.MISSING, within: Condition | None = None
) -> Any:
    """Declares a keyword whose number is stored in a form that keeps the digits of its powers."""

    def check(call: str, name: str, value: Any) -> Any:
        if within is not None:
            met(call, name, value, within)
        return in_form(call, name, value, form)

    return _field(Kind(check, rank=form.rank, form=form), default, True)


def in_form(call: str, name: str, value: ArrayLike, form: Form) -> Leaf:
    """Return a positive number as a form stores it. A NumPy array keeps its float64 until then."""
    number = positive(call, name, value)
    return form.encode(value if isinstance(value, np.ndarray) else number)


def choice_field(
    *,
    default: Any = dataclasses.MISSING,
    among: Iterable[str] = (),
    check: Callable[..., Any] | None = None,
    kw_only: bool = True,
) -> Any:
    """Declares a field with a static value: it is hashed, and never traced.

    `among` lists the allowed choices. Alternatively, give `check`: `check(call, name, value)`
    returns the value to be stored, and raises an error for a wrong value. `call` is the name of the
    function that was called, and `name` is the name of the field.
    """
    choices = tuple(among)

    def checked(call: str, name: str, value: Any) -> Any:
        if choices:
            one_of(call, name, value, choices)
        return _hashable(call, name, value) if check is None else check(call, name, value)

    return _field(Kind(checked, is_static=True), default, kw_only)


def tree_field(*, default: Any = dataclasses.MISSING, kw_only: bool = False) -> Any:
    """Declares a field with any tree of numbers, of any shapes, which is not checked here."""
    return _field(Kind(lambda call, name, value: value, rank=None), default, kw_only)


REAL = Kind(finite)


def kind_of(field: dataclasses.Field[Any]) -> Kind:
    """Return the kind of a field."""
    return field.metadata.get("kind", REAL)


def fields_of(x: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields of a node, or of its class."""
    return dataclasses.fields(x)


def number_in(x: Any, name: str) -> Any:
    """Return the number in a field of a node, decoded."""
    (field,) = (f for f in fields_of(x) if f.name == name)
    value, form = getattr(x, name), kind_of(field).form
    return value if form is None else form.decode(value)


def _field(kind: Kind, default: Any, kw_only: bool) -> Any:
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"kind": kind})


def _hashable(call: str, name: str, value: Any) -> Any:
    """Return a static value in hashable form: a list becomes a tuple."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    value = tuple(cast(list[Any], value)) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError:
        raise ValueError(refuse(call, name, "be hashable", value)) from None
    return value
