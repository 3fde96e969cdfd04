"""The names of metrics: who listens to which, and which name was meant by one that nobody knows.

optax hands every keyword of `update` to every transform, so a name that is misspelt reaches all of
them and is heard by none. No transform sees what the others listen to. So a name is taken for a
mistake only if no rule of this process listens to it and optax does not use it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

# What optax gives to an update or reads from its keywords, and what this package adds.
_OTHERS = {"updates", "state", "params", "step", "value", "grad", "value_fn", "obj_fn", "grad_fn"}
# What a metric is often called. Whoever gives one, where a rule waits for another, meant that one.
_SYNONYMS = {
    "value": ("loss", "train_loss", "metric", "metrics"),
    "validation": ("val_loss", "valid_loss", "validation_loss", "val"),
}
_NEAR = 0.75

_listened: set[str] = set()


def listened(metric: str) -> None:
    """Note that some rule of this process listens to a metric."""
    _listened.add(metric)


def require_known(mailbox: Iterable[str], given: Mapping[str, Any]) -> None:
    """Raise if an update has a keyword that is nearly the name of a metric which it does not have.

    A synonym is only warned of, since a transform of somebody else may want it.
    """
    missing = [name for name in mailbox if given.get(name) is None]
    unknown = [name for name in given if name not in _listened and name not in _OTHERS]
    for name in missing if unknown else ():
        near = difflib.get_close_matches(name, unknown, n=1, cutoff=_NEAR)
        if near:
            raise ValueError(
                f"`update(..., {near[0]}=...)`: nothing listens to `{near[0]}`. Did you mean "
                f"`{name}`? A rule here waits for it."
            )
        for synonym in set(_SYNONYMS.get(name, ())).intersection(unknown):
            warnings.warn(
                f"`update(..., {synonym}=...)`: no rule listens to `{synonym}`, and one waits for "
                f'`{name}`. Write `{name}=`, or `metric="{synonym}"` where the rule is built.',
                stacklevel=2,
            )
