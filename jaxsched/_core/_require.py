"""Validation: arguments that are known to be wrong raise when a schedule is built.

Transformed code cannot raise on a value, so only concrete numbers are checked; the schedules give
every traced number a meaning. A check takes the name of the function, the name of the argument and
its value, `finite("cosine", "end_value", 0.1)`, so that the message can show the call.
"""

import numbers
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

Number = float | jax.Array
Whole = int | jax.Array

# Arguments that are counted in optimizer steps, besides those whose names end in `steps`.
_LENGTHS = ("boundaries", "every", "start_after", "timescale")

_INSIDE = "jaxsched", "jax", "optax", "flax"  # packages between a warning and the user's line
_NO_OPTIMIZER = (
    "A schedule takes no optimizer: pass the rate here, and the schedule to `inject(...)` or "
    "`scale_by_learning_rate(...)`."
)


class Condition(NamedTuple):
    """A condition on numbers, in words and as a test."""

    must: str
    holds: Callable[[Any], Any]
    remedy: str = ""


POSITIVE = Condition("be positive", lambda x: x > 0)
NOT_NEGATIVE = Condition("not be negative", lambda x: x >= 0)
AT_LEAST_ONE = Condition("be at least 1", lambda x: x >= 1)
PROPER = Condition("be in (0, 1)", lambda x: (x > 0) & (x < 1))
BELOW_ONE = Condition("be in [0, 1)", lambda x: (x >= 0) & (x < 1))
UNIT = Condition("be in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def require(condition: Any, message: str) -> None:
    """Raise `ValueError(message)` if `condition` is known to be false; a traced one passes."""
    if isinstance(condition, Tracer):
        return
    if not (condition if isinstance(condition, bool) else bool(np.all(condition))):
        raise ValueError(message)


def warn(message: str) -> None:
    """Warn at the line of the user that called, not at one of the libraries in between."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def refuse(call: str, argument: str, must: str, value: Any, remedy: str = "") -> str:
    """Return an error message: function, argument, condition, value, remedy."""
    named = call.replace(".", "_").isidentifier()
    place = f"`{call}({argument}=...)`" if named else f"`{argument}` in `{call}`"
    return f"{place} must {must}, got {argument}={value!r}. {remedy}".rstrip()


def finite(call: str, name: str, value: ArrayLike, remedy: str = "") -> Number:
    """Return a finite real number: a Python float, or an array of floats."""

    def message() -> str:  # built on demand, because showing an array waits for its device
        hint = remedy or (_NO_OPTIMIZER if hasattr(value, "update") else "")
        return refuse(call, name, "be a finite number", value, hint)

    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        # A number that float32 cannot hold would be infinite where it is used.
        if not abs(value) <= float(jnp.finfo(jnp.result_type(float)).max):
            raise ValueError(message())
        return float(value)
    if _array_of(value, np.floating, np.integer) is None:
        raise ValueError(message())
    with np.errstate(over="ignore"):
        array = jnp.asarray(value)
    finite = jnp.all(jnp.isfinite(array))
    if not isinstance(finite, Tracer) and not finite:
        raise ValueError(message())
    counted = jnp.issubdtype(array.dtype, jnp.integer)
    return array.astype(jnp.result_type(float)) if counted else array


def positive(call: str, name: str, value: ArrayLike, remedy: str = "") -> Number:
    """Return a finite number above zero."""
    number = finite(call, name, value, remedy)
    require(number > 0, refuse(call, name, "be positive", value, remedy))
    return number


def within(call: str, name: str, value: ArrayLike, condition: Condition) -> Number:
    """Return a finite number that meets a condition."""
    number = finite(call, name, value)
    require(condition.holds(number), refuse(call, name, condition.must, value, condition.remedy))
    return number


def one_of(call: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless the argument is one of several names."""
    names = ", ".join(map(repr, choices))
    require(value in choices, refuse(call, name, f"be one of {names}", value))


def nonzero(call: str, name: str, value: ArrayLike) -> Number:
    """Return a finite number that is not zero."""
    number = finite(call, name, value)
    require(number != 0, refuse(call, name, "not be zero", value))
    return number


def flag(call: str, name: str, value: Any) -> bool:
    """Return True or False, and accept nothing else."""
    require(isinstance(value, bool), refuse(call, name, "be True or False", value))
    return value


def word(call: str, name: str, value: Any) -> str:
    """Return a name that is not empty."""
    named = isinstance(value, str) and value != ""
    require(named, refuse(call, name, "be a name", value))
    return value


def length(call: str, name: str, value: ArrayLike, *, remedy: str = "", least: int = 0) -> Whole:
    """Return a length in optimizer steps: a Python int of any size, or an integer array."""
    steps = integer(call, name, value)
    must = "not be negative" if least == 0 else f"be at least {least}"
    require(steps >= least, refuse(call, name, must, value, remedy))
    return steps


def static_length(
    call: str, name: str, value: Any, *, least: int = 1, why: str = "it is the length of an array"
) -> int:
    """Return a static length: a Python int; an array is refused, because it may be traced."""
    number = length(call, name, value, least=least)
    if not isinstance(number, int):
        raise ValueError(refuse(call, name, f"be an int, because {why}", value))
    return number


def integer(call: str, name: str, value: ArrayLike) -> Whole:
    """Return a whole number of steps: a Python int of any size, or an integer array."""
    if isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_)):
        return int(value)
    array = _array_of(value, np.integer)
    if array is None:
        raise ValueError(refuse(call, name, "be an integer", value, _in_steps(name, value)))
    return as_int32(array)


def as_int32(steps: np.ndarray | jax.Array) -> jax.Array:
    """Return an integer array of any dtype as int32, saturated at 2^31 - 1 on both sides."""
    xp = np if isinstance(steps, np.ndarray) else jnp
    limits, last = jnp.iinfo(steps.dtype), jnp.iinfo(jnp.int32).max
    if limits.min < -last:
        steps = xp.maximum(steps, xp.asarray(-last, steps.dtype))
    if limits.max > last:
        steps = xp.minimum(steps, xp.asarray(last, steps.dtype))
    return jnp.asarray(steps.astype(jnp.int32))


def is_whole(x: Any) -> bool:
    """Return whether a number is an integer by its type, so that it is exact."""
    if isinstance(x, (jax.Array, np.ndarray)):
        return jnp.issubdtype(x.dtype, jnp.integer)
    return isinstance(x, numbers.Integral) and x is not True


def is_length(name: str) -> bool:
    """Return whether the argument of this name is counted in optimizer steps."""
    return name.endswith("steps") or name in _LENGTHS


def _in_steps(name: str, value: Any) -> str:
    """Return a remedy for a real number in place of an integer."""
    if isinstance(value, str):
        return "Units are read by `parse(...)`; in Python, use `Units(...).epochs(...)`."
    if not isinstance(value, (float, np.floating)):
        return ""
    whole = f"Write {name}={int(value):_}." if value % 1 == 0 else ""
    units = "Lengths are optimizer steps; convert other units with `Units(...).epochs(...)`."
    part = f"`Units(total_steps=...).fraction({value!r})`, and `{value * 100:g}%` in a text"
    share = f" For a fraction of a run, write {part}." if 0 < value < 1 else ""
    return f"{whole} {units + share if is_length(name) else ''}".strip()


def sequence(call: str, name: str, value: Any) -> list[Any]:
    """Return a list, a tuple, or the last axis of an array; other axes are those of a stack."""
    if isinstance(value, (jax.Array, np.ndarray)) and value.ndim > 1:
        axes = (value.ndim - 1, *range(value.ndim - 1))
        value = value.transpose(axes)
    try:
        return list(value)
    except TypeError:
        raise ValueError(refuse(call, name, "be a list", value)) from None


def _array_of(value: Any, *kinds: Any) -> np.ndarray | jax.Array | None:
    if not isinstance(value, (jax.Array, np.ndarray)):
        return None
    return value if any(jnp.issubdtype(value.dtype, kind) for kind in kinds) else None
