"""A schedule of your own: a class with a formula, and the function that makes it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import numpy as np

from jaxsched._core import _meant
from jaxsched._core._clock import held
from jaxsched._core._require import finite_of, length_of, refuse
from jaxsched._core._writing import snake
from jaxsched._schedules._piecewise import numbers_of
from jaxsched._schedules._schedule import Schedule
from jaxsched._text import _names

P = ParamSpec("P")


def factory(cls: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Makes the function that builds schedules of your class. `parse` knows it by its name.

    The class is a subclass of `Schedule`, with the value as `at(t)`, or of `Curve`, with the two
    weights as `weights(done, left)`. Each annotation in it is a field. One without a declaration is
    a real number; `length_field()` declares a length in steps, `list_field()` a list of numbers,
    and `choice_field()` structure. A class that has a field or a property `steps` ends there;
    a field `steps` must be a `length_field()`.

    The function is named after the class: `SomeName` makes `some_name`. It has the docstring of the
    class, and its fields as arguments. Call `factory` below the class, not as its decorator, so
    that schedules can be pickled. A class that is defined again replaces the first one of its name.

    Args:
      cls: the class.

    Returns:
      A function that checks its arguments and returns a schedule.

    Raises:
      ValueError: it is no subclass of `Schedule`, or `jaxsched` has a function of this name; or,
        from the function, a number is not finite, a length is too small or not an integer, or
        structure cannot be hashed.

    Example:
      >>> class Logarithmic(Curve):
      ...     "init_value + (end_value - init_value) * log(1 + t) / log(1 + steps)."
      ...
      ...     def weights(self, done, left):
      ...         t = done * self.length
      ...         whole = jnp.log1p(self.length)
      ...         return jnp.log1p(left * self.length / (1 + t)) / whole, jnp.log1p(t) / whole
      >>> logarithmic = factory(Logarithmic)
      >>> logarithmic(0.0, 1.0, 7) >> linear(1.0, 0.0, 8)
      logarithmic(0.0, 1.0, 7) >> linear(1.0, 0.0, 8)
      >>> print(parse("logarithmic(0.0, 1.0, 7).cycle()")(jnp.array([0, 1, 3, 7])))
      [0.    0.333 0.667 0.   ]

    References:
      The example is the warmup of DeepSpeed's `WarmupLR`.
    """
    if not _is_schedule(cls):
        raise ValueError(refuse("factory", "cls", "be a subclass of `Schedule`", cls))
    made, name = cast(Any, cls), snake(cls.__name__)
    if name.startswith("_"):
        raise ValueError(refuse("factory", "cls", "have a public name", cls))
    signature = inspect.signature(cls).replace(return_annotation=Schedule)
    fields = {field.name: field for field in dataclasses.fields(made)}
    for field in fields.values():
        if field.default is not dataclasses.MISSING:
            _checked(name, field, field.default)

    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        return made(**{key: _checked(name, fields[key], x) for key, x in given.arguments.items()})

    make.__name__ = make.__qualname__ = name
    make.__doc__, make.__module__ = cls.__doc__, cls.__module__
    make.__annotations__["return"] = Schedule
    vars(make)["__signature__"] = signature
    function = _meant.explained(make, cls.__module__)
    _names.adopt(name, function)
    made._has_function = True
    return function


def _is_schedule(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Schedule)


def _checked(call: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """An argument as the field holds it."""
    kind, name = field.metadata, field.name
    if kind.get("static"):
        return _structure(call, name, value)
    if value is None and field.default is None:
        return None
    given: Any = value
    if kind.get("length"):
        return held(length_of(call, name, given, least=kind["least"]))
    if "form" in kind:
        return kind["form"].of(call, **{name: given})
    if kind.get("rank"):
        return numbers_of(call, **{name: given})
    return finite_of(call, name, given)


def _structure(call: str, name: str, value: Any) -> Any:
    """Structure as it is hashed: a list of a text is a tuple."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    value = tuple(cast(list[Any], value)) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError:
        raise ValueError(refuse(call, name, "be hashable", value)) from None
    return value
