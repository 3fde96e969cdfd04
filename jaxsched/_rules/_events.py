"""Event counts: the cuts, raises, spikes and other events recorded in a state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

# The fields of states that count events.
EVENTS = ("cuts", "raises", "spikes", "skips", "restores", "snapshots", "mixed")


def counts(tree: Any) -> dict[str, jax.Array]:
    """Return each event count, summed over all parts of a state that have it."""
    found: dict[str, jax.Array] = {}
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = getattr(path[-1], "name", None) if path else None
        if name in EVENTS and jnp.issubdtype(jnp.result_type(x), jnp.integer):
            found[name] = found[name] + x if name in found else x
    return {name: found[name] for name in EVENTS if name in found}
