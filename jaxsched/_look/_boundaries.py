"""The steps at which a schedule changes, as reported by its nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from jaxsched._schedules._marks import Jump
from jaxsched._schedules._schedule import Schedule

MANY = 12  # joins to check, because each piece is a program of its own
ROUNDING = 1e-5  # relative difference below which there is no jump


def boundaries(schedule: Schedule, until: int) -> Iterator[int]:
    """Yield the steps in (0, until] at which something changes, each once, in order.

    These are the starts of pieces and cycles, knots, stairs, and the end of the schedule. They are
    computed one at a time, because an unbounded cycle has no last one.
    """
    inside = itertools.takewhile(lambda step: step <= until, schedule._changes())
    return (step for step, _ in itertools.groupby(inside) if step > 0)


def jumps(schedule: Schedule) -> list[Jump]:
    """Return the first few joins of a chain at which the two pieces do not meet.

    A jump may be intended, or it may be a mistake of precedence: `0.5 * a >> b` halves only `a`,
    and `a >> b + 0.01` raises only `b`.
    """
    found = itertools.islice(schedule._joins(), MANY)
    return [x for x in found if abs(x.after - x.before) > ROUNDING * max(map(abs, x[1:]))]
