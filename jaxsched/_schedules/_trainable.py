"""The numbers of a schedule by their place in it, such as "Then.0.Linear.steps"."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core import _clock
from jaxsched._core._fields import fields_of, kind_of
from jaxsched._core._numerics import real
from jaxsched._core._powers import Form
from jaxsched._core._require import as_int32
from jaxsched._schedules._schedule import Schedule, as_schedule

Numbers = dict[str, jax.Array]


class Place(NamedTuple):
    """The place of a leaf in a schedule."""

    name: str  # classes and fields from the root, such as "Then.0.Linear.steps"
    form: Form | None  # how the leaf encodes its number; None: not encoded
    is_length: bool  # a length beyond the step counter is held as a float


def places(
    x: Any, name: str = "", form: Form | None = None, is_length: bool = False
) -> Iterator[Place]:
    """Yield the places of the leaves, in the order of the leaves."""
    if isinstance(x, Schedule):
        yield from _places_in(x, name)
    elif isinstance(x, tuple):
        for i, child in enumerate(x):
            yield from places(child, f"{name}{i}{'.' if isinstance(child, Schedule) else ''}")
    else:
        leaves = jax.tree.leaves(x)
        names = [name] if len(leaves) == 1 else [f"{name}.{i}" for i in range(len(leaves))]
        whole = [jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in leaves]
        yield from map(Place, names, itertools.repeat(form), (is_length or x for x in whole))


def _places_in(node: Schedule, name: str) -> Iterator[Place]:
    fields = fields_of(node)
    static = [f"{f.name}={getattr(node, f.name)!r}" for f in fields if kind_of(f).is_static]
    name += type(node).__name__ + (f"({', '.join(static)})" if static else "")
    data = [f for f in fields if not kind_of(f).is_static]
    parents = [f for f in data if isinstance(getattr(node, f.name), (tuple, Schedule))]
    for f in data:
        # An only child needs no name. Two children of one class need one to be distinct.
        plain = f in parents and len(parents) == 1
        place = f"{name}.{'' if plain else f.name}{'.' if f in parents and not plain else ''}"
        yield from places(getattr(node, f.name), place, kind_of(f).form, kind_of(f).is_length)


def numbers_of(schedule: Schedule) -> Numbers:
    """Return the leaves of a schedule as new, strongly typed arrays, in order, by name."""
    return {
        place.name: jnp.array(_whole(leaf) if place.is_length else real(leaf), copy=True)
        for place, leaf in zip(places(schedule), jax.tree.leaves(schedule), strict=True)
    }


def trainable(schedule: Any) -> tuple[Numbers, Callable[[Numbers], Schedule]]:
    """Returns the trainable numbers of a schedule, and a function that rebuilds it from them.

        numbers, rebuild = trainable(schedule)
        jax.grad(lambda numbers: loss(rebuild(numbers)))(numbers)

    Args:
      schedule: any schedule of numbers. Its lengths are integers and are not included.

    Returns:
      The floats by their place, float32 (float64 under x64), and a function from such numbers to a
      schedule with these numbers. A number that is left out keeps its old value.

    Raises:
      ValueError: `schedule` is not a schedule; or `rebuild` gets a place that does not exist.

    Example:
      >>> numbers, rebuild = trainable(linear(1.0, 0.0, 4))
      >>> sorted(numbers)
      ['Linear.end_value', 'Linear.init_value']
      >>> print(jax.grad(lambda numbers: rebuild(numbers)(1))(numbers)["Linear.init_value"])
      0.75
    """
    schedule = as_schedule("trainable", schedule)
    leaves, treedef = jax.tree.flatten(schedule)
    found = list(places(schedule))
    held = {place.name: leaf for place, leaf in zip(found, leaves, strict=True)}
    forms = {place.name: place.form for place in found}
    floats = {
        place.name: jnp.array(_number(held[place.name], place.form), copy=True)
        for place in found
        if not place.is_length
    }

    def rebuild(numbers: Numbers) -> Schedule:
        for name in numbers:
            if name not in held:
                near = sorted(held, key=lambda other: -_likeness(name, other))
                raise ValueError(f"`rebuild` has no place {name!r}. Places: {', '.join(near)}.")
        moved = {name: _moved(held[name], forms[name], x) for name, x in numbers.items()}
        return treedef.unflatten([moved.get(name, leaf) for name, leaf in held.items()])

    return floats, rebuild


def _number(leaf: Any, form: Form | None) -> jax.Array:
    return real(leaf if form is None else form.decode(leaf))


def _moved(leaf: Any, form: Form | None, number: Any) -> Any:
    """Return the leaf for another number. An unchanged number gives the same leaf exactly."""
    if form is None or isinstance(number, float):
        return number if form is None else form.encode(number)
    return real(leaf) + (form.encode(real(number)) - form.encode(_number(leaf, form)))


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _whole(leaf: Any) -> jax.Array:
    """Return a length as int32; the length of a shift may be negative."""
    if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        return _clock.read(leaf)
    return as_int32(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf))
