"""Reads the settings of a run from `settings.json`, which may have been edited."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxsched._commands._tasks._data import TRAIN
from jaxsched._commands._training._limits import EPOCHS, SEEDS
from jaxsched._commands._training._settings import Settings
from jaxsched._core._files import shown
from jaxsched._text._names import meant


class Must(NamedTuple):
    """The condition on a field, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def saved(found: Any) -> Settings:
    """Return the settings in the object of a file.

    Raises:
      ValueError: it is not an object, a field is missing or unknown, or a value is not allowed.
    """
    if not isinstance(found, dict):
        raise ValueError(f"it must be an object, got {shown(found)}")
    for name in found:
        if name not in MUST:
            raise ValueError(f"there is no setting {shown(name)}. {meant(name, MUST)}")
    for name in REQUIRED:
        if name not in found:
            raise ValueError(f"{name!r} is missing")
    for name, x in found.items():
        if not MUST[name].holds(x):
            raise ValueError(f"{name!r} must be {MUST[name].words}, got {shown(x)}")
    return Settings(**found)


def _whole(limits: tuple[int, int]) -> Must:
    least, most = limits

    def holds(x: Any) -> bool:
        return isinstance(x, int) and not isinstance(x, bool) and least <= x <= most

    return Must(f"an integer from {least} to {most}", holds)


def _texts(x: Any) -> bool:
    return isinstance(x, list) and all(isinstance(text, str) for text in x)


def _or_none(must: Must) -> Must:
    return Must(f"{must.words}, or null", lambda x: x is None or must.holds(x))


TEXT = Must("a text", lambda x: isinstance(x, str))
MUST = {
    "epochs": _whole(EPOCHS),
    "batch_size": _or_none(_whole((1, TRAIN))),
    "seed": _whole(SEEDS),
    "optimizer": _or_none(TEXT),
    "learning_rate": TEXT,
    "wrappers": Must("a list of texts", _texts),
    "last_epoch": _or_none(_whole(EPOCHS)),
    "task": TEXT,
}
REQUIRED = [
    x.name
    for x in dataclasses.fields(Settings)
    if x.default is dataclasses.MISSING and x.default_factory is dataclasses.MISSING
]
