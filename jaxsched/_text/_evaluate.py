"""Evaluates the syntax tree of a text.

Only the functions that `_names.py` finds can be called, without Python's own evaluation. So a text
can only make a schedule, or be rejected.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxsched._core._require import is_length
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._chain import Then
from jaxsched._schedules._schedule import Schedule, as_schedule
from jaxsched._schedules._units import Units
from jaxsched._text import _names
from jaxsched._text._names import Factory, meant
from jaxsched._text._syntax import (
    DIGITS,
    NO_TWINS,
    Argument,
    Call,
    Constant,
    Infix,
    Items,
    Name,
    Number,
    Signed,
)
from jaxsched._text._tokens import MisreadError

UNITS = {"ep": "epochs", "ex": "examples", "tok": "tokens", "%": "fraction"}

_TOO_LARGE = "the result is too large for a number."
_BITS = 1024  # of a number: a power of integers with more would take long
_UNARY = {"+": operator.pos, "-": operator.neg}


class Scope(NamedTuple):
    """The context of a value."""

    units: Units | None
    total: Any  # the total_steps that `%` refers to: of the nearest call that has it, or the units'
    argument: str = ""  # the argument that the value belongs to


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(exponent) * base.bit_length() > _BITS:
        raise ValueError(_TOO_LARGE)
    try:
        return base**exponent
    except OverflowError:
        raise ValueError(_TOO_LARGE) from None


_EXTREMES: dict[str, Callable[..., Any]] = {"max": max, "min": min}
_BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": _power,
}


@functools.singledispatch
def evaluate(node: Any, scope: Scope) -> Any:
    """Return the value of a tree, or raise a `MisreadError`."""
    raise NotImplementedError


@evaluate.register
def _(node: Constant, scope: Scope) -> Any:
    return node.value


@evaluate.register
def _(node: Number, scope: Scope) -> Any:
    return _at(node.at, _steps, node, scope) if node.unit else node.value


@evaluate.register
def _(node: Name, scope: Scope) -> Any:
    function, curves = _names.factory(node.name), ", ".join(_names.curves())
    if function is not None:
        call = f"{node.name}({', '.join(_names.parameters(function))})"
        reason = f"`{node.name}` alone is not a schedule; `{call}` is."
    else:
        reason = f"there is no `{node.name}`. Put a word in quotes: '{node.name}'."
    raise MisreadError(node.at, f"{reason} An argument may be one of the curves {curves}.")


@evaluate.register
def _(node: Items, scope: Scope) -> Any:
    items = [evaluate(item, scope) for item in node.items]
    if items and all(isinstance(item, str) for item in items):
        return tuple(items)  # names are static, and must be hashable
    return _array(items)


@evaluate.register
def _(node: Signed, scope: Scope) -> Any:
    result = evaluate(node.operand, scope)
    for sign in reversed(node.signs):
        result = _at(sign.at, _arithmetic, sign.kind, _UNARY[sign.kind], result)
    return result


@evaluate.register
def _(node: Infix, scope: Scope) -> Any:
    result = evaluate(node.first, scope)
    if node.rest[0][0].kind == ">>":
        # All pieces at once, because one by one takes quadratic time.
        pieces = [(node.at, result), *((n.at, evaluate(n, scope)) for _, n in node.rest)]
        return _at(node.at, Then.of, *(_at(at, as_schedule, ">>", piece) for at, piece in pieces))
    for sign, n in node.rest:
        right = evaluate(n, scope)
        result = _at(sign.at, _arithmetic, sign.kind, _BINARY[sign.kind], result, right)
    return result


@evaluate.register
def _(node: Call, scope: Scope) -> Any:
    name = _names.OLD_NAMES.get(node.name, node.name)
    if node.owner is None and name in _EXTREMES:
        return _extreme(node, _EXTREMES[name], scope)
    if node.owner is None:
        function = _names.factory(name) or unknown(node, "schedule", _names.factories())
        return _at(node.at, function, **arguments_of(node, function, scope))
    owner = evaluate(node.owner, scope._replace(argument=""))
    if not isinstance(owner, (Schedule, Stateful)):
        reason = f"`.{name}(...)` needs a schedule before it, got {kind(owner)}."
        raise MisreadError(node.at, reason)
    method = _names.method(name) or unknown(node, "method", _names.methods())
    call = operator.methodcaller(name, **arguments_of(node, method, scope))
    return _at(node.at, call, owner)


def _extreme(node: Call, function: Callable[..., Any], scope: Scope) -> Any:
    """Return the smallest or the largest of several numbers, such as `max(20%, 500)`."""
    values = [evaluate(argument.value, scope) for argument in node.arguments]
    if len(values) < 2 or not all(map(is_plain, values)) or any(x.name for x in node.arguments):
        other = f"{node.name}imum"
        reason = f"`{node.name}` takes two or more numbers. For schedules, write `{other}(a, b)`."
        raise MisreadError(node.at, reason)
    return function(*values)


def unknown(node: Call, kind: str, known: Mapping[str, Factory]) -> NoReturn:
    """Reject a name, and suggest others."""
    for twin in _names.twins(node.name):
        raise MisreadError(node.at, f"`{node.name}` is the twin `{twin}`, and {NO_TWINS}.")
    raise MisreadError(node.at, f"there is no {kind} `{node.name}`. {meant(node.name, known)}")


def arguments_of(node: Call, function: Factory, scope: Scope) -> dict[str, Any]:
    """Return the values of the arguments, first `total_steps`, which `%` may refer to."""
    given = _given(node, _names.parameters(function))
    missing = [name for name in _names.required(function) if name not in given]
    values: dict[str, Any] = {}
    if "total_steps" in given:
        values["total_steps"] = _value(given.pop("total_steps"), "total_steps", scope)
        scope = scope._replace(total=values["total_steps"])
    elif "total_steps" in missing and scope.total is not None:
        missing.remove("total_steps")
        values["total_steps"] = scope.total
    if missing:
        needs = ", ".join(f"{name}=..." for name in missing)
        raise MisreadError(node.at, f"`{node.name}` needs {needs}")
    values |= {name: _value(argument, name, scope) for name, argument in given.items()}
    return values | _fitted(given, values, scope.total)


def _fitted(given: dict[str, Argument], values: dict[str, Any], total: Any) -> dict[str, int]:
    """Return the fractions of one total in a call, each rounded up, but together at most all."""
    numbers = {name: x.value for name, x in given.items() if isinstance(x.value, Number)}
    parts = {name: Fraction(str(x.value)) for name, x in numbers.items() if x.unit == "%"}
    if not isinstance(total, int) or sum(parts.values()) > 100:
        return {}
    fitted: dict[str, int] = {}
    for name in parts:
        fitted[name] = min(values[name], total - sum(fitted.values()))
    return fitted


def _given(node: Call, known: Mapping[str, inspect.Parameter]) -> dict[str, Argument]:
    """Return the arguments by name; unnamed ones come first and take the names in order."""
    unnamed = [name for name, x in known.items() if x.kind is x.POSITIONAL_OR_KEYWORD]
    given: dict[str, Argument] = {}
    for argument in node.arguments:
        name = argument.name
        if name is None:
            if len(given) == len(known):
                reason = f"`{node.name}({', '.join(known)})` takes no more arguments."
                raise MisreadError(argument.at, reason)
            if len(given) == len(unnamed) or any(x.name for x in given.values()):
                reason = f"an argument of `{node.name}` needs its name here: {', '.join(known)}."
                raise MisreadError(argument.at, reason)
            name = unnamed[len(given)]
        if name not in known:
            reason = f"`{node.name}` has no argument {name!r}. {meant(name, known)}"
            raise MisreadError(argument.at, reason)
        if name in given:
            raise MisreadError(argument.at, f"`{node.name}` has {name!r} twice.")
        given[name] = argument
    return given


def _value(argument: Argument, name: str, scope: Scope) -> Any:
    node = argument.value
    curve = _names.curve(node.name) if isinstance(node, Name) else None
    return curve or evaluate(node, scope._replace(argument=name))


def _steps(node: Number, scope: Scope) -> int:
    """Return the steps of a length such as `90ep`."""
    text = f"{node.value}{node.unit}"
    if node.unit not in UNITS:
        raise ValueError(f"there is no unit `{node.unit}`. {meant(node.unit, UNITS)}")
    if not is_length(scope.argument):
        raise ValueError(f"`{text}` is a length in optimizer steps, but no length fits here.")
    if node.unit != "%" and scope.units is None:
        raise ValueError(f"`{text}` needs `parse(..., units=Units(...))`.")
    if node.unit == "%" and scope.total is None:
        raise ValueError(
            f"`{text}` needs a total. Give `total_steps=...` in the same call, or "
            "`parse(..., units=Units(total_steps=...))`."
        )
    if node.unit == "%":
        return Units().fraction(float(Fraction(str(node.value)) / 100), of=scope.total)
    return getattr(scope.units, UNITS[node.unit])(node.value)


def _array(items: list[Any]) -> Any:
    """Return a list of numbers as an array; any other list unchanged."""
    if not items or not all(isinstance(x, np.ndarray) or is_plain(x) for x in items):
        return items
    try:
        array = np.asarray(items)
    except ValueError:  # for lists of different lengths
        return items
    return array if array.dtype.kind in "iuf" else items  # larger integers are objects


def _arithmetic(sign: str, function: Callable[..., Any], *operands: Any) -> Any:
    """Apply an operator to schedules and numbers, or to an array and a schedule."""
    made = any(isinstance(x, (Schedule, Stateful)) for x in operands)
    known = (Schedule, Stateful, np.ndarray) if made else ()
    try:
        fits = all(isinstance(x, known) or is_plain(x) for x in operands)
        result = function(*operands) if fits else None
    except TypeError:
        result = None
    if result is None:
        raise ValueError(f"`{sign}` cannot be applied to {' and '.join(map(kind, operands))}.")
    if isinstance(result, complex):
        raise ValueError("a fractional power of a negative number is not a real number.")
    if is_plain(result) and not abs(result) < 10**DIGITS:
        raise ValueError(_TOO_LARGE)
    return result


def _at(at: int, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Return the result of a call; an error is raised with the place in the text."""
    try:
        return function(*arguments, **named)
    except Exception as error:  # any error of the function is an error of the text
        raise MisreadError(at, str(error) or type(error).__name__) from error


def is_plain(x: Any) -> bool:
    """Return whether `x` is a number."""
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def kind(x: Any) -> str:
    """Return the kind of a value, in words."""
    if is_plain(x):
        return "a number"
    if isinstance(x, (Schedule, Stateful)):
        return "a schedule"
    return "a list" if isinstance(x, (list, tuple, np.ndarray)) else f"`{x!r}`"
