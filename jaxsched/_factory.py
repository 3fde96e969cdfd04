"""A schedule of your own: a class with a formula, and the function that makes it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, cast

from jaxsched import _meant
from jaxsched._clock import held
from jaxsched._piecewise import numbers_of
from jaxsched._require import finite_of, length, refuse
from jaxsched._schedule import Schedule, as_schedule
from jaxsched._show import _names
from jaxsched._text import snake

P = ParamSpec("P")


def factory(cls: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """The function that makes a schedule of your class: checked, documented, known to `parse`.

    The class is a subclass of `Schedule`, with the value as `at(t)`, or of `Curve`, with the two
    weights as `weights(done, left)`. Each annotation in it is a field. One without a declaration is
    a real number; `length_field()` declares a length in steps, `list_field()` a list of numbers,
    and `choice_field()` structure. A class that has a field or a property `steps` ends there;
    such a field is a `length_field()`.

    The function has the class's name in lower case, its docstring, and its fields as arguments.
    A class that is defined again under its name replaces the first one.

    Args:
      cls: the class.

    Returns:
      A function that checks its arguments and returns a schedule.

    Raises:
      ValueError: it is no subclass of `Schedule`, or `jaxsched` has a function of this name; or,
        from the function, a number is not finite, or a length is negative or not an integer.

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
    signature = inspect.signature(cls).replace(return_annotation=Schedule)
    fields = {field.name: field for field in dataclasses.fields(made)}

    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        given = signature.bind(*args, **kwargs).arguments
        return made(**{key: _checked(name, fields[key], x) for key, x in given.items()})

    make.__name__ = make.__qualname__ = name
    make.__doc__, make.__module__ = cls.__doc__, cls.__module__
    make.__annotations__["return"] = Schedule
    vars(make)["__signature__"] = signature
    function = _meant.explained(make, cls.__module__)
    _names.adopt(name, function)
    return function


def _is_schedule(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Schedule)


def _checked(call: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """An argument as the field holds it."""
    kind, name = field.metadata, field.name
    if kind.get("static") or (value is None and field.default is None):
        return value
    argument: dict[str, Any] = {name: value}
    if kind.get("length"):
        return held(length(call, **argument))
    if "form" in kind:
        return kind["form"].of(call, **argument)
    if kind.get("rank"):
        return numbers_of(call, **argument)
    return as_schedule(call, value) if callable(value) else finite_of(call, name, argument[name])
