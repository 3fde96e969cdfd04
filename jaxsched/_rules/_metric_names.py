"""The names of metrics: which names rules listen to, and suggestions for an unknown name.

optax passes every keyword of `update` to every transform. A misspelt name therefore reaches all
transforms, and none reads it. No transform knows the metrics of the others. So a name counts as a
mistake only if no rule of this process listens to it and optax does not use it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

# The keywords that optax passes or reads, and those that this package adds.
_OTHERS = {"updates", "state", "params", "step", "value", "grad", "value_fn", "obj_fn", "grad_fn"}
# Common names of metrics. If a rule waits for another name, this one was probably meant for it.
_SYNONYMS = {
    "value": ("loss", "train_loss", "val_loss", "validation_loss", "metric", "metrics"),
    "validation": ("val_loss", "valid_loss", "validation_loss", "val"),
}
_NEAR = 0.75

_listened: set[str] = set()


def listened(metric: str) -> None:
    """Record that a rule of this process listens to a metric."""
    _listened.add(metric)


def require_known(mailbox: Iterable[str], given: Mapping[str, Any]) -> None:
    """Raise if a keyword of an update is nearly the name of a metric that is missing.

    A synonym only warns, because another library's transform may use it.
    """
    missing = [name for name in mailbox if given.get(name) is None]
    unknown = [name for name in given if name not in _listened and name not in _OTHERS]
    for name in missing if unknown else ():
        near = difflib.get_close_matches(name, unknown, n=1, cutoff=_NEAR)
        if near:
            raise ValueError(
                f"`update(..., {near[0]}=...)`: no rule listens to `{near[0]}`. Did you mean "
                f"`{name}`? A rule of this optimizer waits for `{name}`."
            )
        for synonym in set(_SYNONYMS.get(name, ())).intersection(unknown):
            warnings.warn(
                f"`update(..., {synonym}=...)`: no rule listens to `{synonym}`, but one waits for "
                f'`{name}`. Write `{name}=`, or build the rule with `metric="{synonym}"`.',
                stacklevel=2,
            )
