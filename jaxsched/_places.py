"""The numbers of a schedule by where they are in it: "Then.0.Linear.steps"."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched import _clock
from jaxsched._numerics import real
from jaxsched._schedule import Schedule, as_schedule

Numbers = dict[str, jax.Array]

# Fields that are lengths even where a float holds one that is beyond the clock.
_LENGTHS = (".steps", ".decay_steps", ".by", ".each", ".cycles", ".index")


def places(x: Any, place: str = "") -> Iterator[str]:
    """The places of the leaves, in the order of the leaves: classes and fields from the root."""
    if isinstance(x, Schedule):
        fields = dataclasses.fields(x)  # pyright: ignore[reportArgumentType]
        static = [f"{f.name}={getattr(x, f.name)!r}" for f in fields if f.metadata.get("static")]
        kind = type(x).__name__ + (f"({', '.join(static)})" if static else "")
        for field in fields:
            if not field.metadata.get("static"):
                child = getattr(x, field.name)
                name = "" if isinstance(child, (tuple, Schedule)) else field.name
                yield from places(child, f"{place}{kind}.{name}")
    elif isinstance(x, tuple):
        for i, child in enumerate(x):
            dot = "." if isinstance(child, Schedule) else ""
            yield from places(child, f"{place}{i}{dot}")
    else:
        leaves = jax.tree.leaves(x)
        yield from (place if len(leaves) == 1 else f"{place}.{i}" for i in range(len(leaves)))


def numbers_of(schedule: Schedule) -> Numbers:
    """The numbers of a schedule as fresh, strongly typed arrays, in the order of its leaves."""
    return {
        place: jnp.array(_whole(leaf) if _is_length(place, leaf) else real(leaf), copy=True)
        for place, leaf in zip(places(schedule), jax.tree.leaves(schedule), strict=True)
    }


def trainable(schedule: Any) -> tuple[Numbers, Callable[[Numbers], Schedule]]:
    """The floats of a schedule, to be learnt, and the way back.

        numbers, rebuild = trainable(schedule)
        jax.grad(lambda numbers: loss(rebuild(numbers)))(numbers)

    Args:
      schedule: any schedule of numbers. Its lengths are integers and stay as they are.

    Returns:
      The floats by their place, float32 (float64 under x64), and a function from such numbers to
      the schedule that has them; a number that is left out stays as it was.

    Raises:
      ValueError: it is not a schedule; or, from `rebuild`, it has no such place.

    Example:
      >>> numbers, rebuild = trainable(linear(1.0, 0.0, 4))
      >>> sorted(numbers)
      ['Linear.end_value', 'Linear.init_value']
      >>> print(jax.grad(lambda numbers: rebuild(numbers)(1))(numbers)["Linear.init_value"])
      0.75
    """
    schedule = as_schedule("trainable", schedule)
    leaves, treedef = jax.tree.flatten(schedule)
    held = dict(zip(places(schedule), leaves, strict=True))
    floats = {
        place: number
        for place, number in numbers_of(schedule).items()
        if not _is_length(place, held[place])
    }

    def rebuild(numbers: Numbers) -> Schedule:
        for place in numbers:
            if place not in held:
                near = sorted(held, key=lambda other: -_likeness(place, other))
                raise ValueError(f"`rebuild` has no place {place!r}. It has {', '.join(near)}.")
        return treedef.unflatten([numbers.get(place, leaf) for place, leaf in held.items()])

    return floats, rebuild


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _whole(leaf: Any) -> jax.Array:
    """A length as int32; that of a shift may be negative."""
    if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        return _clock.read(leaf)
    return _clock.signed(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf))


def _is_length(place: str, leaf: Any) -> bool:
    whole = jnp.issubdtype(jnp.result_type(leaf), jnp.integer)
    return bool(whole) or place.endswith(_LENGTHS)
