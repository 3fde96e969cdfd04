"""The kind of a column, by its name, and the columns that share a panel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxsched._commands._reporting._axes import UNSEEN
from jaxsched._commands._reporting._log import Column
from jaxsched._look._colours import BLUE, EVENTS, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

RESTARTS = "restarts"
RATE, LOSS, ACCURACY = "learning rate", "loss", "accuracy"
# Two of the colours are too light for a white page. All of these have a contrast of at least 3 to 1
# with a white and with a dark page.
DARKER = {ORANGE: "#B57B00", SKY: "#2585BD"}
LINES = BLUE, VERMILION, GREEN, PURPLE, DARKER[ORANGE], DARKER[SKY], GREY
PER = re.compile(r"/(s|sec|second|min|h|hour|step|epoch)$")  # the unit of a speed, not a name
OTHER_RATES = {"error", "dropout", "success", "decay"}
PLACES = re.compile(r"^(train|training|val|valid|validation|eval|test)(?=[_.\- ])[_.\- ]")


class Series(NamedTuple):
    """A curve."""

    name: str
    column: Column
    colour: str
    dashed: bool = False
    run: int = 0


class Panel(NamedTuple):
    """Curves over one vertical axis."""

    name: str
    log: bool  # whether its axis is initially logarithmic
    series: list[Series]


class Happened(NamedTuple):
    """An event, and its count at each step."""

    name: str
    kind: str
    steps: np.ndarray
    counts: np.ndarray
    run: int = 0
    whose: str = ""  # the run, if there are several


def kind(name: str) -> str:
    """Return the kind of a column: one of `EVENTS`, a known panel, or its own group."""
    unit = PER.search(name)
    last = name[: unit.start() if unit else None].rpartition("/")[2] + (unit[0] if unit else "")
    words = re.split(r"[^a-z0-9]+", name.lower())
    if last in EVENTS:
        return last
    if "loss" in name.lower():
        return LOSS
    if {"accuracy", "acc"} & {*words}:
        return ACCURACY
    if {"rate", "rates", "lr"} & {*words} and not OTHER_RATES & {*words}:
        return RATE
    return PLACES.sub("", last) or name


def panels(columns: Mapping[str, Column], schedule: Column | None) -> list[Panel]:
    """Return the panels, the known ones first, with the schedule alone beside the rate."""
    groups: dict[str, list[str]] = {RATE: [], LOSS: [], ACCURACY: []}
    for name in columns:
        if name not in UNSEEN and kind(name) not in EVENTS:
            groups.setdefault(kind(name), []).append(name)
    alone = [Series("schedule alone", schedule, GREY, dashed=True)] if schedule else []
    found = [
        Panel(group, group == LOSS, alone * (group == RATE) + _coloured(names, columns))
        for group, names in groups.items()
    ]
    return [panel for panel in found if panel.series]


def _coloured(names: Iterable[str], columns: Mapping[str, Column]) -> list[Series]:
    """Return curves with colours; those with few points are last (on top), in the first colours."""
    order = sorted(names, key=lambda name: len(columns[name].steps))
    coloured = [
        Series(name, columns[name], LINES[n % len(LINES)], dashed=n >= len(LINES))
        for n, name in enumerate(order)
    ]
    return coloured[::-1]


def happened(columns: Mapping[str, Column], restarts: np.ndarray) -> list[Happened]:
    """Return the events that happened, in the order of `EVENTS`."""
    found = [_rises(name, kind(name), x) for name, x in columns.items() if kind(name) in EVENTS]
    found.append(Happened(RESTARTS, RESTARTS, restarts, np.ones(len(restarts))))
    order = [*EVENTS]
    return sorted((x for x in found if len(x.steps)), key=lambda x: order.index(x.kind))


def _rises(name: str, kind: str, column: Column) -> Happened:
    """Return where a count rises, and by how much; a count that falls was restarted."""
    steps, counts = (x[np.isfinite(column.values)] for x in column)
    with np.errstate(over="ignore"):  # the difference of the extreme floats is infinite
        more = np.diff(counts, prepend=0)
    return Happened(name.removeprefix("events/"), kind, steps[more > 0], more[more > 0])
