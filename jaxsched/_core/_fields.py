"""What the fields of a node hold, how each is checked, and how its number is read.

A field that is not declared holds a real number, or a child.
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
    finite_of,
    length_of,
    one_of,
    positive_of,
    refuse,
    within_of,
)

Check = Callable[[str, str, Any], Any]  # of the call, the name and the value: what is to be held


class Kind(NamedTuple):
    """What a field holds."""

    check: Check
    rank: int | None = 0  # the axes of one leaf; None is any
    is_length: bool = False
    is_static: bool = False
    form: Form | None = None

    def checked(self, call: str, field: dataclasses.Field[Any], value: Any) -> Any:
        """An argument as the field holds it. None is allowed where it is the default."""
        if value is None and field.default is None:
            return None
        return self.check(call, field.name, value)


def number_field(
    *, default: Any = dataclasses.MISSING, within: Condition | None = None, kw_only: bool = True
) -> Any:
    """A real number, which may be traced, mapped and learnt. `within` says which are allowed."""

    def check(call: str, name: str, value: Any) -> Any:
        if within is None:
            return finite_of(call, name, value)
        return within_of(call, name, value, within)

    return _field(Kind(check), default, kw_only)


def length_field(
    *,
    default: Any = dataclasses.MISSING,
    least: int = 0,
    remedy: str = "",
    kw_only: bool = True,
) -> Any:
    """A length of at least `least` optimizer steps. It has no gradient.

    A length that is beyond the clock is held as a float.
    """

    def check(call: str, name: str, value: Any) -> Any:
        return held(length_of(call, name, value, remedy, least))

    return _field(Kind(check, is_length=True), default, kw_only)


def list_field(
    *, check: Callable[..., Any] = numbers_of, converter: Callable[[Any], Any] = given
) -> Any:
    """A list of numbers, which has one axis more than a number.

    `check(call, **{name: value})` returns the array that is to be held. `converter` is for type
    checkers alone, which take the type of the argument from it.
    """

    def checked(call: str, name: str, value: Any) -> Any:
        return check(call, **{name: value})

    return _field(Kind(checked, rank=1), dataclasses.MISSING, False)


def form_field(
    form: Form, *, default: Any = dataclasses.MISSING, within: Condition | None = None
) -> Any:
    """A keyword whose number is held in a form that keeps the digits of its powers."""

    def check(call: str, name: str, value: Any) -> Any:
        if within is not None:
            within_of(call, name, value, within)
        return in_form(call, form, **{name: value})

    return _field(Kind(check, rank=form.rank, form=form), default, True)


def in_form(call: str, form: Form, /, **argument: ArrayLike) -> Leaf:
    """A positive number as a form holds it. A NumPy array keeps its float64 until then."""
    ((name, value),) = argument.items()
    number = positive_of(call, name, value)
    return form.encode(value if isinstance(value, np.ndarray) else number)


def choice_field(
    *,
    default: Any = dataclasses.MISSING,
    among: Iterable[str] = (),
    check: Callable[..., Any] | None = None,
    kw_only: bool = True,
) -> Any:
    """Structure: it is hashed, and never traced.

    `among` lists the choices; or `check(call, **{name: value})` returns what is to be held, and
    raises for what is wrong.
    """
    choices = tuple(among)

    def checked(call: str, name: str, value: Any) -> Any:
        if choices:
            one_of(call, choices, **{name: value})
        return _hashable(call, name, value) if check is None else check(call, **{name: value})

    return _field(Kind(checked, is_static=True), default, kw_only)


def tree_field(*, default: Any = dataclasses.MISSING, kw_only: bool = False) -> Any:
    """Any tree of numbers, of any shapes. Whoever takes it checks it."""
    return _field(Kind(lambda call, name, value: value, rank=None), default, kw_only)


REAL = Kind(finite_of)


def kind_of(field: dataclasses.Field[Any]) -> Kind:
    """What a field holds."""
    return field.metadata.get("kind", REAL)


def fields_of(x: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a node, or of its class."""
    return dataclasses.fields(x)


def number_in(x: Any, name: str) -> Any:
    """The number in a field of a node, whatever its form."""
    (field,) = (f for f in fields_of(x) if f.name == name)
    value, form = getattr(x, name), kind_of(field).form
    return value if form is None else form.decode(value)


def _field(kind: Kind, default: Any, kw_only: bool) -> Any:
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"kind": kind})


def _hashable(call: str, name: str, value: Any) -> Any:
    """Structure as it is hashed: a list of a text is a tuple."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    value = tuple(cast(list[Any], value)) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError:
        raise ValueError(refuse(call, name, "be hashable", value)) from None
    return value
