"""The steps at which something changes, as every node tells them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from jaxsched._schedules._marks import Jump
from jaxsched._schedules._schedule import Schedule

MANY = 12  # joins that are looked at: each piece is a program of its own
ROUNDING = 1e-5  # relative: what is no jump


def boundaries(schedule: Schedule, until: int) -> Iterator[int]:
    """The steps in (0, until] at which something changes, each once, in order.

    There a piece or a cycle begins, a knot lies, a stair falls, or the schedule ends. The steps are
    computed one at a time, because an endless cycle has no last one.
    """
    inside = itertools.takewhile(lambda step: step <= until, schedule._changes())
    return (step for step, _ in itertools.groupby(inside) if step > 0)


def jumps(schedule: Schedule) -> list[Jump]:
    """The first few joins of a chain at which the two pieces do not meet.

    Often a jump is meant. Often it is a slip of precedence: `0.5 * a >> b` halves only `a`, and in
    `a >> b + 0.01` only `b` is raised.
    """
    found = itertools.islice(schedule._joins(), MANY)
    return [x for x in found if abs(x.after - x.before) > ROUNDING * max(map(abs, x[1:]))]
