"""Where a chain jumps: the pieces of `a >> b` do not meet at the step where they are joined.

Often it is meant. Often it is a slip of precedence: `0.5 * a >> b` halves only `a`, and in
`a >> b + 0.01` only `b` is raised.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxsched._algebra import Clip, Product, Sum, Take, Then
from jaxsched._clock import known
from jaxsched._decays import constant
from jaxsched._schedule import Schedule

MANY = 12  # joins that are looked at: each piece is a program of its own
ROUNDING = 1e-5  # relative: what is no jump


class Jump(NamedTuple):
    """A step where one piece ends and another begins with another value."""

    step: int
    before: float  # what the piece before would have held
    after: float  # what the piece after begins with


def jumps(schedule: Schedule) -> list[Jump]:
    """The jumps at the joins of a chain, the first few; also of one that is scaled or clipped."""
    found = itertools.islice(_joins(schedule), MANY)
    return [x for x in found if abs(x.after - x.before) > ROUNDING * max(map(abs, x[1:]))]


def _joins(x: Any) -> Iterator[Jump]:
    if isinstance(x, Then):
        yield from _joins_of_chain(x)
    elif isinstance(x, (Clip, Take)):
        for join in _joins(x.schedule):
            if isinstance(x, Clip) or join.step <= int(x.steps):
                yield join._replace(**_through(x, "schedule", x.schedule, join))
    elif isinstance(x, (Product, Sum)):
        field = "factors" if isinstance(x, Product) else "terms"
        chains = [y for y in getattr(x, field) if isinstance(y, Schedule)]
        if len(chains) == 1:
            for join in _joins(chains[0]):
                yield join._replace(**_through(x, field, chains[0], join))


def _joins_of_chain(x: Then) -> Iterator[Jump]:
    lasting = [y for y in x.pieces[:-1] if int(known(y.steps)) > 0] + [x.pieces[-1]]
    step = 0
    for a, b in itertools.pairwise(lasting):
        steps = int(known(a.steps))
        step += steps
        yield Jump(step, float(a(np.asarray([0, steps]))[-1]), float(b(np.asarray([0, 0]))[-1]))


def _through(x: Any, field: str, chain: Schedule, join: Jump) -> dict[str, float]:
    """Both sides of a join, as the node around the chain makes them."""

    def of(value: float) -> float:
        flat, held = constant(value), getattr(x, field)
        inside = tuple(flat if y is chain else y for y in held) if isinstance(held, tuple) else flat
        return float(dataclasses.replace(x, **{field: inside})(0))

    return {"before": of(join.before), "after": of(join.after)}
