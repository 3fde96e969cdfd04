"""What a whole optimizer state says of its rules: is their warmup over, and do they hear?"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._stateful._listener import GRADIENT_NORM
from jaxsched._stateful._mailbox import Mail
from jaxsched._transforms._monitor import MonitorState
from jaxsched._transforms._walk import find_clocks, opened


def is_warm(tree: Any) -> jax.Array:
    """Is the warmup of every clock over? It is, where there is none."""
    found = [clock.warm for _, clock in find_clocks(opened(tree))]
    return functools.reduce(jnp.logical_and, found, jnp.ones((), bool))


def astray(tree: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    """By metric, how long a rule has waited for its first one; and how often one came twice.

    The norm of the gradients comes by itself, and a monitor's validation loss need not come.
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
    """Every mailbox: its metric, what is in it, and whether it belongs to a monitor."""
    kinds = (MonitorState, Mail)
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, kinds))[0]
    for path, x in flat:
        if isinstance(x, MonitorState):
            yield from ((name, mail, True) for name, mail in x.mailbox.items())
        elif isinstance(x, Mail):
            yield path[-1].key, x, False
