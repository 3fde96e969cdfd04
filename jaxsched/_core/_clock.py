"""Integer time: optimizer steps in int32, from 0 to `LAST`, where the count stops.

Inside a schedule a time is an int32 array in [0, LAST], so comparing or subtracting two times never
wraps. Within a cycle of real length a time is a float, and every formula accepts both. A length is
a Python int or an integer array. A length beyond `LAST` is held as a float, which no step reaches.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

LAST = 2**31 - 1

Length = int | float | jax.Array


def read(step: ArrayLike) -> jax.Array:
    """Return any step or length as a time: int32, saturated at 0 and at `LAST`, never wrapped."""
    step = jnp.asarray(step)
    if jnp.issubdtype(step.dtype, jnp.floating):
        # 2^31 - 128 is the largest float32 that int32 holds.
        inside = jnp.clip(step, 0, LAST - 127).astype(jnp.int32)
        return jnp.where(step > LAST - 127, LAST, inside)
    limits = jnp.iinfo(step.dtype)
    if limits.min < 0:
        step = jnp.maximum(step, jnp.zeros((), step.dtype))
    if limits.max > LAST:
        step = jnp.minimum(step, jnp.asarray(LAST, step.dtype))
    return step.astype(jnp.int32)


def as_length(steps: Length, t: jax.Array) -> jax.Array:
    """Return a length in the type of a time: only a real time exceeds the step counter."""
    if jnp.issubdtype(t.dtype, jnp.floating):
        return jnp.asarray(steps, t.dtype)
    return read(steps)


def plus(a: int | jax.Array, b: int | jax.Array) -> int | jax.Array:
    """Return the sum of two lengths: of Python ints exact, else saturated at `LAST`."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _added(read(held(a)), read(held(b)))


def times(a: Length, b: Length) -> Length:
    """Return the product of two lengths, saturated at `LAST`."""
    if not isinstance(a, jax.Array) and not isinstance(b, jax.Array):
        return min(int(a) * int(b), LAST)
    a, b = read(a), read(b)
    return jnp.where(b > LAST // jnp.maximum(a, 1), LAST, a * b)


def ticked(count: jax.Array) -> jax.Array:
    """Return the next step; it stops at `LAST`."""
    return jnp.minimum(count, LAST - 1) + 1


def counted(count: jax.Array, event: jax.Array) -> jax.Array:
    """Return a count, plus one if there was an event; it stops at `LAST`."""
    return jnp.minimum(count, LAST - 1) + event.astype(jnp.int32)


def between(start: int | jax.Array, end: int | jax.Array) -> int | jax.Array:
    """Return the steps between two times; traced times in the wrong order count as equal."""
    if isinstance(start, int) and isinstance(end, int):
        return end - start
    return since(read(held(end)), read(held(start)))


def since(t: jax.Array, start: ArrayLike) -> jax.Array:
    """Return `t - start`, at least 0; `start` may be negative, and nothing wraps."""
    start = jnp.asarray(start, t.dtype)
    if jnp.issubdtype(t.dtype, jnp.floating):  # a real time may be beyond the step counter
        return jnp.maximum(t - start, 0)
    room = LAST + jnp.minimum(start, 0)
    return jnp.maximum(jnp.minimum(t, room) - start, 0)


def elapsed(t: jax.Array, start: ArrayLike) -> jax.Array:
    """Return the time since a start that may be in uint32, at least 0.

    A piece of a chain sees this time. A branch that `where` does not take still has a gradient, and
    NaN * 0 is NaN, so the time is clamped before the piece sees it.
    """
    return jnp.maximum(t - read(start).astype(t.dtype), 0)


def remaining(t: jax.Array, steps: jax.Array) -> jax.Array:
    """Return `steps - t`, at least 0, where each of them is an integer or a real number."""
    if t.dtype == steps.dtype:
        return jnp.maximum(steps - t, 0)
    # A real time is split into whole steps and the rest, since float32 lacks large integers.
    whole = jnp.floor(t)
    return jnp.maximum((steps - read(whole)).astype(t.dtype) - (t - whole), 0)


class Beyond(NamedTuple):
    """The length of a grown cycle, which may be longer than the step counter."""

    steps: jax.Array  # int32: the part within the step counter
    more: jax.Array  # float: the part beyond it


def is_counted(t: jax.Array, steps: Length | Beyond) -> bool:
    """Return whether a time and a length are both integers."""
    length = steps.steps if isinstance(steps, Beyond) else steps
    return all(jnp.issubdtype(jnp.result_type(x), jnp.integer) for x in (t, length))


def total(steps: Length | Beyond) -> Any:
    """Return a length as one number, which is real if it may exceed the step counter."""
    if not isinstance(steps, Beyond):
        return steps
    return steps.steps.astype(steps.more.dtype) + steps.more


def held(steps: int | jax.Array) -> Length:
    """Return a length as a node holds it: as a float if int32 cannot hold it."""
    # Beyond 2^100 the exact length makes no difference to any step.
    return float(min(steps, 2**100)) if isinstance(steps, int) and steps > LAST else steps


def known(steps: Length | None) -> Length:
    """Return a length that is known not to be None."""
    assert steps is not None
    return steps


def add(*lengths: Length) -> Length:
    """Return the sum of lengths, saturated at `LAST`."""
    if all(isinstance(length, (int, float)) for length in lengths):
        return min(sum(int(length) for length in lengths), LAST)
    return functools.reduce(_added, map(read, lengths))


def _added(a: jax.Array, b: jax.Array) -> jax.Array:
    # Each operand is used once, because nested sums would otherwise double in size per term. The
    # sum of two times fits into uint32.
    total = a.astype(jnp.uint32) + b.astype(jnp.uint32)
    return jnp.minimum(total, np.uint32(LAST)).astype(jnp.int32)


def after(start: jax.Array, length: Length) -> jax.Array:
    """Return a start plus a length in uint32, where 2^31 is never reached by a step.

    If it were saturated at `LAST`, a piece beyond the step counter would begin at the last step.
    """
    return jnp.minimum(start + read(length).astype(jnp.uint32), np.uint32(LAST + 1))


def before(t: jax.Array, start: jax.Array) -> jax.Array:
    """Return t < start, for a start in uint32."""
    if jnp.issubdtype(t.dtype, jnp.floating):
        # float32 rounds the last step up to 2^31 itself.
        return (t < start.astype(t.dtype)) | (start > LAST)
    return t.astype(jnp.uint32) < start


def less(length: Any, start: Length) -> Any:
    """Return a length without its first steps, at least 0."""
    if isinstance(length, Beyond):
        return length._replace(steps=jnp.maximum(length.steps - read(start), 0))
    if isinstance(length, int) and isinstance(start, int):
        return max(length - start, 0)
    return jnp.maximum(length - jnp.asarray(start, jnp.asarray(length).dtype), 0)


def latest(ends: Iterable[Length | None]) -> Length | None:
    """Return the latest of several ends; None if one of them is never reached."""
    every = [*ends]
    known = [end for end in every if end is not None]
    return longest(*known) if len(known) == len(every) else None


def longest(*lengths: Length) -> Length:
    """Return the longest of several lengths."""
    if all(isinstance(length, (int, float)) for length in lengths):
        return max(lengths)
    longest = jnp.zeros((), jnp.int32)
    for length in map(read, lengths):
        longest = jnp.maximum(longest, length)
    return longest
