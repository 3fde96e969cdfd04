"""Lists of numbers, checked and stored as one array.

In an array with several axes, the last axis is the list, and the others are those of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import real
from jaxsched._core._require import Number, finite, refuse, require, sequence

List = np.ndarray | jax.Array
PLAIN = int, float, np.integer, np.floating


def numbers_of(call: str, name: str, values: Any) -> List:
    """Return a list of finite numbers as one array: a NumPy array if all numbers are plain."""
    plain = plain_of(call, name, values)
    if plain is not None:
        return plain
    if isinstance(values, jax.Array) and values.ndim > 0 and _is_number(values.dtype):
        if not isinstance(values, Tracer):
            _require_finite(call, name, values, np.asarray(values))
        return real(values)
    return as_array([finite(call, name, x) for x in sequence(call, name, values)])


def plain_of(call: str, name: str, values: Any) -> np.ndarray | None:
    """Return the numbers of a list or NumPy array; None if they are not all plain numbers."""
    is_array = isinstance(values, np.ndarray)
    if not is_array and not isinstance(values, (list, tuple)):
        return None
    if not (values.ndim == 1 and _is_number(values.dtype) if is_array else _are_numbers(values)):
        return None
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64)  # a copy, so that no other code can change it
    except OverflowError:  # an int that no float can hold
        return None
    _require_finite(call, name, values, array)
    return array


def _are_numbers(values: Sequence[Any]) -> bool:
    kinds = set(map(type, values))
    return bool not in kinds and all(issubclass(kind, PLAIN) for kind in kinds)


def _is_number(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _require_finite(call: str, name: str, values: Any, array: np.ndarray) -> None:
    """Raise for the first value that is not a finite number, and name it."""
    fine = np.abs(array) <= float(jnp.finfo(jnp.result_type(float)).max)
    if not fine.all():
        at = (
            int(np.argmin(fine)) if array.ndim == 1 else np.unravel_index(fine.argmin(), fine.shape)
        )
        finite(call, name, values[at])


def as_array(numbers: Sequence[Number]) -> List:
    """Return numbers, or those of a stack, along the last axis; a NumPy array if all are plain."""
    if any(isinstance(number, jax.Array) for number in numbers):
        return jnp.stack([real(number) for number in numbers], axis=-1)
    return np.asarray(numbers, np.float64)


def some_of(call: str, name: str, values: Any) -> List:
    """Return numbers, of which there must be at least one."""
    numbers = numbers_of(call, name, values)
    require(numbers.shape[-1] > 0, refuse(call, name, "not be empty", values))
    return numbers


def given(values: Sequence[ArrayLike] | List) -> List:
    """Tell type checkers what a field with a list accepts."""
    raise NotImplementedError
