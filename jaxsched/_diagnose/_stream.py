"""Statistics of a stream of numbers, in a few scalars and 32 means.

    mean      m += a d,  d = x - m,  a = 1 / min(n, window): exactly the mean at first
    jumps     the same mean of (x - previous x)**2: twice the variance, without the trend

The history has the means of equal blocks over the whole stream. When it is full, neighbours are
merged and blocks become twice as long. So it always covers the whole run in constant memory.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._clock import LAST, counted, ticked
from jaxsched._core._numerics import real
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import chosen

BLOCKS = 32
EIGHTH = 8  # of a window, because a loss that falls fast is much lower after a whole one
LARGEST = 1e18  # larger numbers are read as this, so that their squares are finite


class History(NamedTuple):
    """The means of equal blocks of all numbers seen, or of all vectors, the earliest first."""

    means: jax.Array  # float[32, ...]: the means of the complete blocks
    blocks: jax.Array  # int32: how many complete blocks there are
    size: jax.Array  # int32: numbers per block
    part: jax.Array  # float[...]: the mean of the incomplete block
    held: jax.Array  # int32: numbers in the incomplete block


class Stream(NamedTuple):
    """Statistics of a stream of numbers. Every number is finite, for any input."""

    seen: jax.Array  # int32: finite numbers seen
    broken: jax.Array  # int32: updates with a NaN or an infinity
    lost: jax.Array  # int32: such updates since the last finite number
    latest: jax.Array  # float: the last number
    first: jax.Array  # float: the first number
    start: jax.Array  # float: the mean of the first few, an eighth of `window`
    mean: jax.Array  # float: the mean of about the last `window`
    jumps: jax.Array  # float: the same mean, of squared distances to the previous number
    best: jax.Array  # float: the lowest mean so far
    worst: jax.Array  # float: the highest mean so far
    history: History  # the whole stream, coarsely


def silent() -> Stream:
    """Return an empty stream."""

    return Stream(
        seen=jnp.zeros((), jnp.int32),
        broken=jnp.zeros((), jnp.int32),
        lost=jnp.zeros((), jnp.int32),
        latest=real(0.0),
        first=real(0.0),
        start=real(0.0),
        mean=real(0.0),
        jumps=real(0.0),
        best=real(0.0),
        worst=real(0.0),
        history=unwritten(),
    )


def unwritten(*shape: int) -> History:
    """Return an empty history, of numbers or of arrays of this shape."""
    none = jnp.zeros((), jnp.int32)
    means, part = real(jnp.zeros((BLOCKS, *shape))), real(jnp.zeros(shape))
    return History(means, none, jnp.ones((), jnp.int32), part, jnp.zeros((), jnp.int32))


def heard(stream: Stream, seen: Observation, window: int) -> Stream:
    """Return the stream after an update with or without a number."""
    x = jnp.clip(seen.value, -LARGEST, LARGEST)
    new = chosen(seen.heard, _added(stream, x, window), stream)
    lost = jnp.where(seen.heard, jnp.zeros_like(stream.lost), stream.lost)
    return new._replace(
        broken=counted(stream.broken, seen.broken),
        lost=counted(lost, seen.broken & ~seen.heard),
    )


def weight(count: jax.Array, window: int) -> jax.Array:
    """Return the weight of the newest of `count` numbers: 1 / count, at least 1 / window."""
    return 1 / real(jnp.clip(count, 1, window))


def _added(old: Stream, x: jax.Array, window: int) -> Stream:
    seen = ticked(old.seen)
    first = old.seen == 0
    mean = jnp.where(first, x, old.mean + weight(seen, window) * (x - old.mean))
    jump = jnp.where(first, 0, x - old.latest)
    # The first jump belongs to the second number.
    b = weight(old.seen, window)
    return Stream(
        seen=seen,
        broken=old.broken,
        lost=old.lost,
        latest=x,
        first=jnp.where(first, x, old.first),
        start=jnp.where(seen <= max(window // EIGHTH, 1), mean, old.start),
        mean=mean,
        jumps=old.jumps + b * (jump**2 - old.jumps),
        best=jnp.where(first, x, jnp.minimum(old.best, mean)),
        worst=jnp.where(first, x, jnp.maximum(old.worst, mean)),
        history=remembered(old.history, x),
    )


def remembered(old: History, x: jax.Array) -> History:
    """Return a history with one more number."""
    held = old.held + 1
    part = old.part + (x - old.part) / real(held)
    done = held >= old.size
    at = jnp.arange(BLOCKS, dtype=jnp.int32).reshape(-1, *[1] * part.ndim)
    closed = old._replace(
        means=jnp.where(at == old.blocks, part, old.means),
        blocks=old.blocks + 1,
        part=jnp.zeros_like(part),
        held=jnp.zeros_like(held),
    )
    new = chosen(done, closed, old._replace(part=part, held=held))
    return chosen(new.blocks >= BLOCKS, _halved(new), new)


def _halved(full: History) -> History:
    pairs = full.means.reshape(BLOCKS // 2, 2, *full.part.shape).mean(axis=1)
    return full._replace(
        means=jnp.concatenate([pairs, jnp.zeros_like(pairs)]),
        blocks=full.blocks // 2,
        size=jnp.minimum(full.size, LAST // 2) * 2,
    )
