"""The public functions that build nodes: they check the arguments of a class."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from jaxsched._core import _meant
from jaxsched._core._fields import fields_of, kind_of
from jaxsched._core._require import refuse
from jaxsched._core._writing import Written, snake

P = ParamSpec("P")
N = TypeVar("N", bound=Written)

_PACKAGE = __name__.partition(".")[0]

made: dict[str, Callable[..., Any]] = {}  # the functions made so far, by name


def factory(cls: Callable[P, N]) -> Callable[P, N]:
    """Makes the function that builds schedules or rules of your class; `parse` knows it by name.

    The class is a subclass of one of these classes, and has these methods:

    - `Schedule`: `at(t)` returns the value.
    - `Curve`: `weights(done, left)` returns the weights of the start and the end value.
    - `Rule` or `Listener`: `start`, `react` and `value`.

    Each annotation in the class is a field. A field without a declaration is a real number.
    `length_field()` declares a length in steps, `list_field()` a list of numbers, and
    `choice_field()` a static value. If a schedule has a field or a property `steps`, it ends at
    that step. A field `steps` must be a `length_field()`.

    The function is named after the class: `SomeName` makes `some_name`. It has the docstring of the
    class, and its fields as arguments. Call `factory` below the class, not as its decorator, so
    that schedules can be pickled. If a class is defined again, it replaces the earlier one.

    Args:
      cls: the class.

    Returns:
      A function that checks its arguments and returns a schedule.

    Raises:
      ValueError: `cls` is not a subclass of `Schedule` or `Rule`, or `jaxsched` already has a
        function of this name. The function raises if a number is not finite, a length is too small
        or not an integer, or a static value cannot be hashed.

    Example:
      >>> class Smoothstep(Curve):
      ...     "init_value + (end_value - init_value) * x**2 * (3 - 2 * x), with x = t / steps."
      ...
      ...     def weights(self, done, left):
      ...         return left**2 * (3 - 2 * left), done**2 * (3 - 2 * done)
      >>> smoothstep = factory(Smoothstep)
      >>> smoothstep(0.0, 1.0, 4) >> linear(1.0, 0.0, 8)
      smoothstep(0.0, 1.0, 4) >> linear(1.0, 0.0, 8)
      >>> values = parse("smoothstep(0.0, 1.0, 4).cycle()")(jnp.arange(5))
      >>> print(np.asarray(values).round(3))
      [0.    0.156 0.5   0.844 0.   ]
    """
    if not (isinstance(cls, type) and issubclass(cls, Written)):
        raise ValueError(refuse("factory", "cls", "be a subclass of `Schedule` or `Rule`", cls))
    name, base = snake(cls.__name__), _public_base(cls)
    if name.startswith("_"):
        raise ValueError(refuse("factory", "cls", "have a public name", cls))
    signature = inspect.signature(cls).replace(return_annotation=base)
    fields = {field.name: field for field in fields_of(cls)}
    for field in fields.values():
        if field.default is not dataclasses.MISSING:
            kind_of(field).checked(name, field, field.default)

    def make(*args: P.args, **kwargs: P.kwargs) -> N:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        cls._expect(name, **given.arguments)
        held = {
            key: kind_of(fields[key]).checked(name, fields[key], x)
            for key, x in given.arguments.items()
        }
        node = cast(Any, cls)(**held)
        node._check(name)
        return node

    make.__name__ = make.__qualname__ = name
    make.__doc__, make.__module__ = cls.__doc__, cls.__module__
    make.__annotations__["return"] = base
    vars(make)["__signature__"] = signature
    ours = cls.__module__.partition(".")[0] == _PACKAGE  # its public names are still loading
    if not ours and hasattr(sys.modules[_PACKAGE], name):
        raise ValueError(f"`{_PACKAGE}.{name}` exists. Give your class another name.")
    cls._has_function = True
    function = made[name] = _meant.explained(make, cls.__module__)
    return function


def _public_base(cls: type) -> type:
    """Return `Schedule` or `Rule`: the nearest of the package's classes that has no fields."""
    bases = [x for x in cls.__mro__ if x.__module__.partition(".")[0] == _PACKAGE]
    return next(x for x in bases if not fields_of(x))
