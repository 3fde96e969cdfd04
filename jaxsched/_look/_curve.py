"""The data of a drawing: a schedule as points, and its marked steps.

All drawing backends draw the same `Curve`. Up to 65,536 steps it contains every step. Beyond that,
it contains as many, and both sides of every boundary.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxsched._core._clock import LAST
from jaxsched._core._node import require_unstacked
from jaxsched._core._padded import values_at
from jaxsched._core._require import length, static_length
from jaxsched._look._boundaries import boundaries, jumps
from jaxsched._look._simulate import (
    Metrics,
    before,
    has_until,
    heard,
    metrics_end,
    require_heard,
    require_until,
    simulate,
)
from jaxsched._rules._events import EVENTS
from jaxsched._rules._rule import Rule
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._rules._until import Triggered
from jaxsched._schedules._marks import Jump, Phase
from jaxsched._schedules._schedule import Schedule, as_schedule

POINTS = 2**16
MARKED = 2**10  # largest number of boundaries to compute
MANY = 40  # largest number of marks of one kind to draw, because more do not fit
# An unbounded schedule is drawn for so many cycles or boundaries, or down to this part of its peak.
CYCLES, EDGES, SETTLED = 3, 4, 0.25
FIRST_LOOK, LAST_LOOK = 100, 2**20
FEW = 40  # steps of a curve so short that each is a dot
CROWDED, COLUMNS = 100, 200  # cycles from which an envelope is drawn, and its largest resolution
LEAP = 0.05  # part of the range of a schedule by which it jumps up when it starts again


Envelope = tuple[np.ndarray, np.ndarray, np.ndarray]  # steps, lowest values, highest values

_LONG = re.compile(r"\d+\.\d{5,}(?:e-?\d+)?")


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The data of one drawn schedule."""

    label: str
    steps: np.ndarray  # int64, increasing
    values: np.ndarray  # float64
    boundaries: np.ndarray  # steps: the starts of pieces and cycles, knots, and stairs
    restarts: np.ndarray  # the boundaries at which it rises again after a fall
    phases: tuple[Phase, ...]  # the pieces of a chain; empty for other schedules
    events: dict[str, np.ndarray]  # the steps of rule events; empty without a simulation
    jumps: tuple[Jump, ...] = ()  # the joins of a chain where two pieces do not meet

    @property
    def happened(self) -> dict[str, str]:
        """The number of restarts and events, in words."""
        counts = {"restarts": self.restarts, **self.events}.items()
        more = len(self.boundaries) == MARKED  # there may be more boundaries
        return {
            name: f"{len(steps)}{'+' * (more and name == 'restarts')} "
            f"{name if len(steps) > 1 else name.removesuffix('s')}"
            for name, steps in counts
            if len(steps)
        }

    def envelope(self) -> Envelope | None:
        """Return the lowest and highest values over time if there are too many cycles to draw."""
        if len(self.restarts) < CROWDED:
            return None
        edges = np.linspace(0, self.steps[-1], min(len(self.restarts) // 2, COLUMNS) + 1)
        parts = np.split(self.values, np.searchsorted(self.steps, edges[1:-1]))
        low, high = ([f(part) for part in parts] for f in (np.min, np.max))
        across = (edges[1:] + edges[:-1]) / 2
        across[0], across[-1] = edges[0], edges[-1]
        return across, np.asarray(low), np.asarray(high)

    def at(self, steps: np.ndarray) -> np.ndarray:
        """Return the values at some of its steps."""
        return self.values[np.searchsorted(self.steps, steps)]


def labelled(call: str, schedules: Any) -> dict[str, Any]:
    """Return schedules by label, from one schedule, a stack, a list, or a dict."""
    if isinstance(schedules, Mapping):
        return {str(label): _one(call, x) for label, x in schedules.items()}
    several = isinstance(schedules, (list, tuple)) and not hasattr(schedules, "update")
    listed = schedules if several else _members(schedules)
    return distinct((brief(str(x)), x) for x in (_one(call, x) for x in listed))


def distinct(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict by label; repeated labels get a trailing space, which is not drawn."""
    found: dict[str, Any] = {}
    for label, x in named:
        while label in found:
            label += " "
        found[label] = x
    return found


def _one(call: str, x: Any) -> Schedule | Stateful:
    if isinstance(x, str):
        raise ValueError(f"`{call}` takes schedules, got the text {x!r}. Use `parse(text)`.")
    x = x if isinstance(x, Stateful) else as_schedule(call, x)
    require_unstacked(x)
    return x


def _members(x: Any) -> list[Any]:
    """Return the schedules of a stack; any other schedule alone."""
    try:
        require_unstacked(x)
    except ValueError:
        leaves, structure = jax.tree.flatten(x)
        rows = zip(*(np.asarray(leaf) for leaf in leaves), strict=True)
        return [structure.unflatten([*map(_plain, row)]) for row in rows]
    return [x]


def _plain(x: Any) -> Any:
    return x.item() if np.ndim(x) == 0 else x


def cut(text: str, most: int) -> str:
    """Return a text shortened to at most `most` characters, with its beginning and its end."""
    last = most // 3
    return text if len(text) <= most else f"{text[: most - last - 5]} ... {text[-last:]}"


def some(steps: np.ndarray) -> np.ndarray:
    """Return at most `MANY` of the marked steps, evenly chosen."""
    if len(steps) <= MANY:
        return steps
    return steps[np.linspace(0, len(steps) - 1, MANY).round().astype(int)]


def brief(text: str) -> str:
    """Return a text with long numbers rounded, for display only."""
    return _LONG.sub(lambda found: f"{float(found[0]):.4g}", text)


def horizon(schedules: Any) -> int:
    """Return the number of steps to draw: the longest end, or a sensible horizon without an end.

    The horizon is a few cycles, or the step at which little is left of the peak.
    """
    quiet = [still(x) for x in schedules]
    ends = [int(x.steps) for x in quiet if x.steps is not None]
    longest = max(ends, default=0) or max([1, *(_interest(x) for x in quiet if x.steps is None)])
    return min(longest, LAST)


def _end(schedules: Sequence[Any], metrics: Metrics, trigger_at: int | None) -> int:
    """Return the number of steps to draw by default."""
    if trigger_at is None:
        return metrics_end(metrics) or horizon(schedules)
    when = trigger_at
    tails = [x._with(lambda rule: rule._later(when)) for x in schedules if has_until(x)]
    return max(metrics_end(metrics), when + horizon(tails))


def _interest(schedule: Schedule) -> int:
    edges = np.asarray([*itertools.islice(boundaries(schedule, LAST), 2**6)], np.int64)
    again = _restarts(schedule, edges)
    if len(again) >= CYCLES:
        return int(again[CYCLES - 1]) - 1  # without the first step of the next cycle
    if len(edges) >= EDGES:
        return int(edges[EDGES - 1])
    start = max([FIRST_LOOK, *(2 * edge for edge in edges)])
    looks = [min(start * 2**n, LAST) for n in range(32) if start * 2**n <= LAST_LOOK] or [start]
    values = np.abs(values_at(schedule, [0, *edges, *looks]))
    settled = values[-len(looks) :] <= SETTLED * values.max()
    return int(looks[np.argmax(settled)] if settled.any() else looks[0])


def drawn(
    panels: Sequence[Mapping[str, Any]],
    *,
    total_steps: int | None = None,
    metrics: Metrics | None = None,
    trigger_at: int | None = None,
) -> list[list[Curve]]:
    """Return the curves of all panels over the same steps; rules respond to the metrics."""
    everything, metrics = [x for panel in panels for x in panel.values()], metrics or {}
    if trigger_at is not None:
        length("plot", "trigger_at", trigger_at)
    require_heard("plot", everything, metrics)
    require_until("plot", everything, trigger_at)
    if total_steps is None:
        total = _end(everything, metrics, trigger_at)
    else:
        total = min(static_length("plot", "total_steps", total_steps), LAST)
    return [
        [_curve(label, x, total, metrics, trigger_at) for label, x in panel.items()]
        for panel in panels
    ]


def _curve(
    label: str, schedule: Schedule | Stateful, total: int, metrics: Metrics, trigger_at: int | None
) -> Curve:
    when = trigger_at if has_until(schedule) else None
    quiet, told = still(schedule), before(heard(schedule, metrics), total)
    pieces = quiet._phases(total)
    if when is not None:
        quiet, pieces = _triggered(schedule, when, total)
    edges = np.asarray([*itertools.islice(boundaries(quiet, total), MARKED)], np.int64)
    steps, values, events = _points(quiet, total, edges)
    if told or when is not None:
        steps, values, events = _simulated(schedule, total, told, when)
        edges = edges[edges < total]
    return Curve(
        label.strip(),
        steps,
        values,
        edges,
        _restarts(quiet, edges),
        tuple(pieces),
        events,
        tuple(x for x in jumps(quiet) if x.step in edges),
    )


def _triggered(schedule: Any, when: int, total: int) -> tuple[Schedule, list[Phase]]:
    """Return an `until` as the chain that its trigger makes of it, and the pieces of this chain."""

    def one(rule: Rule) -> Any:
        first = rule._at_first()
        return first.take(when) >> rule._later(when) if isinstance(rule, Triggered) else first

    quiet, chain = still(schedule), schedule._with(one)
    pieces = chain._phases(total)
    first = quiet._phases(min(when, total)) or [x for x in pieces if x.start < when]
    return chain, [*first, *(x for x in pieces if x.start >= when)]


Drawn = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def _points(schedule: Schedule, total: int, edges: np.ndarray) -> Drawn:
    steps = np.linspace(0, total, min(total + 1, POINTS)).astype(np.int64)
    steps = np.unique(np.concatenate([steps, edges, edges - 1]))
    return steps, values_at(schedule, steps).astype(np.float64), {}


def _simulated(schedule: Any, total: int, metrics: Metrics, trigger_at: int | None) -> Drawn:
    values, counts = simulate(schedule, metrics, total_steps=total, trigger_at=trigger_at)
    when = {
        name: np.flatnonzero(np.diff(np.asarray(counts[name]), prepend=0) > 0)
        for name in EVENTS
        if name in counts
    }
    when["triggers"] = np.array([] if trigger_at is None else [trigger_at], np.int64)
    happened = {name: steps[steps < total] for name, steps in when.items() if (steps < total).any()}
    return np.arange(total), np.asarray(values, np.float64), happened


def _restarts(schedule: Schedule, edges: np.ndarray) -> np.ndarray:
    """Return the boundaries at which the schedule starts again.

    There it jumps up, or turns from a fall to a rise and had risen before the fall. A momentum that
    falls and then rises to its first value has not started again.
    """
    if not len(edges):
        return edges
    steps = np.unique(np.concatenate([[0], edges - 1, edges, np.minimum(edges + 1, LAST)]))
    values = values_at(schedule, steps).astype(np.float64)
    moves = np.sign(np.diff(values, prepend=values[:1]))
    moved = np.maximum.accumulate(np.where(moves != 0, np.arange(len(moves)), 0))
    before = np.searchsorted(steps, edges - 1)
    # The first step of a warmup may be lower than the last step of the previous decay.
    at, after = (np.minimum(before + n, len(steps) - 1) for n in (1, 2))
    fell = moves[moved[before]] < 0
    rose = np.maximum.accumulate(moves > 0)[before]
    leaps = values[at] - values[before] > LEAP * (values.max() - values.min())
    return edges[fell & (leaps | (rose & ((moves[at] > 0) | (moves[after] > 0))))]
