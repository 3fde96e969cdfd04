"""What an optimizer state says about its rules: whether they are warm and get their metrics."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._core._trees import all_of, found, opened
from jaxsched._diagnose._monitor import MonitorState
from jaxsched._rules._mailbox import Mail
from jaxsched._rules._rule import GRADIENT_NORM
from jaxsched._transforms._scheduled import ScheduledState


def is_warm(tree: Any) -> jax.Array:
    """Return whether every warmup is over; True if there is no step counter."""
    clocks = all_of(ScheduledState, tree)
    return functools.reduce(jnp.logical_and, [x.warm for x in clocks], jnp.ones((), bool))


def astray(tree: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return how long rules have waited for each metric, and how often one came twice.

    The gradient norm needs no observation, and the validation loss of a monitor is optional.
    """
    waits: dict[str, jax.Array] = {}
    twice = jnp.zeros((), jnp.int32)
    for name, mail, optional in _mails(opened(tree)):
        twice = twice + mail.mixed
        if not optional and name != GRADIENT_NORM:
            silent = jnp.where(mail.heard == 0, mail.silent, 0)
            waits[name] = jnp.maximum(waits.get(name, silent), silent)
    return waits, twice


def _mails(tree: Any) -> Iterator[tuple[str, Mail, bool]]:
    """Yield every mailbox: its metric, its mail, and whether it belongs to a monitor."""
    monitors = [place for place, _ in found(MonitorState, tree)]
    for path, mail in found(Mail, tree):
        yield path[-1].key, mail, any(path[: len(place)] == place for place in monitors)
