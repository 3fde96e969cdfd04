"""The names of metrics: suggestions for a keyword of an update that no rule reads.

optax passes every keyword of `update` to every transform. A misspelt name therefore reaches all
transforms, and none reads it. No transform knows the metrics of the others. So a name counts as a
mistake only if no rule of this process listens to it and optax does not use it. Even then another
library's transform may read it, so this is a warning and not an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from jaxsched._core._require import warn

# The keywords that optax passes or reads, and those that this package adds.
_OTHERS = {"updates", "state", "params", "step", "value", "grad", "value_fn", "obj_fn", "grad_fn"}
# Common names of metrics. If a rule waits for another name, this one was probably meant for it.
_SYNONYMS = {
    "value": ("loss", "train_loss", "val_loss", "validation_loss", "metric", "metrics"),
    "validation": ("val_loss", "valid_loss", "validation_loss", "val"),
}
_NEAR = 0.75

_known: set[str] = set()


def add(metric: str) -> None:
    """Record that a rule of this process listens to a metric."""
    _known.add(metric)


def warn_of_unread(mailbox: Iterable[str], given: Mapping[str, Any]) -> None:
    """Warn if a keyword of an update was probably meant for a metric that is missing."""
    missing = [name for name in mailbox if given.get(name) is None]
    unread = [name for name in given if name not in _known and name not in _OTHERS]
    for name in missing if unread else ():
        near = difflib.get_close_matches(name, unread, n=1, cutoff=_NEAR)
        for other in {*near, *set(_SYNONYMS.get(name, ())).intersection(unread)}:
            warn(
                f"`update(..., {other}=...)`: no rule listens to `{other}`, but one waits for "
                f'`{name}`. Write `{name}=`, or build the rule with `metric="{other}"`.'
            )
