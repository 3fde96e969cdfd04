"""Merges of snapshots, for a horizon that is chosen after the training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._averages._kinds import merge_of
from jaxsched._core._numerics import real, wide
from jaxsched._core._require import refuse, require
from jaxsched._schedules._schedule import AnySchedule
from jaxsched._state._remembered import oldest_first, ring_of

_ROUNDING = 1e-6  # of a ratio of two rates


def merged_snapshots(opt_state: Any, decay: AnySchedule) -> optax.Params:
    """Returns the parameters that a decay would have given, from the snapshots of a finished run.

    It is the sum of `merged_decay`, over the snapshots instead of all iterates. So the updates
    between two snapshots share one value of the decay, which is their mean.

    If the decay covers the last fifth of a run, that part needs at least ten snapshots. To take one
    each 100 steps, use `snapshot(linear(1.0, 0.0, 100).cycle(), keep=20)`.

    Args:
      opt_state: an optimizer state, or a tree that contains one.
      decay: a schedule with an end, as for `merged_decay`. It ends at a snapshot, and is 1 before
        the oldest one.

    Returns:
      Parameters, in float32 or wider.

    Raises:
      ValueError: `opt_state` contains no `snapshot`, or more than one; `decay` is no schedule with
        an end; or, outside `jit`, there is no snapshot at its end, or the decay begins before the
        oldest one.

    Example:
      >>> tx = optax.chain(optax.sgd(1.0), snapshot(linear(1.0, 0.0, 2).cycle(), keep=3))
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(6):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(merged_snapshots(state, constant(1.0, 2) >> linear(1.0, 0.0, 4)))  # 2 + 2.5
      [4.5]

    References:
      Tian et al., 2025, https://arxiv.org/abs/2507.17634, section 3.
    """
    call = "merged_snapshots"
    ring, merge = ring_of(call, opt_state), merge_of(call, decay)
    order = oldest_first(ring)
    updates = ring.steps[order] + 1  # how many were made before each snapshot
    taken = jnp.arange(order.size) >= order.size - ring.snapshots
    counts = taken & (updates <= merge.horizon)
    ratios = real(merge.decay(jnp.arange(merge.horizon)))
    remedy = f"The snapshots are at the steps {updates}."
    last = jnp.max(jnp.where(counts, updates, 0))
    ends = refuse(call, "decay", "end at a snapshot", merge.decay, remedy)
    require(last == merge.horizon, ends)
    first = jnp.min(jnp.where(counts, updates, merge.horizon))
    whole = (jnp.abs(ratios - 1) < _ROUNDING) | (jnp.arange(merge.horizon) >= first)
    begins = refuse(call, "decay", "be 1 before the oldest snapshot", merge.decay, remedy)
    require(whole.all(), begins)
    weights = _weights(ratios, updates, counts)

    def merged(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):  # an integer has no mean
            return x[order][jnp.argmax(jnp.where(counts, updates, 0))]
        return jnp.tensordot(weights.astype(wide(x).dtype), wide(x)[order], 1)

    return jax.tree.map(merged, ring.params)


def _weights(ratios: jax.Array, updates: jax.Array, counts: jax.Array) -> jax.Array:
    """Return the weight of each snapshot: the mean ratio before it, minus the one after it."""
    # Summed without the many ones of the stable phase, so that float32 keeps its digits.
    lost = jnp.concatenate([jnp.zeros(1), jnp.cumsum(ratios - 1)])
    at = lost[jnp.where(counts, updates, 0)]
    means = 1 + jnp.diff(at) / real(jnp.maximum(jnp.diff(updates), 1))
    pairs = counts[1:] & counts[:-1]
    before = jnp.concatenate([jnp.ones(1), jnp.where(pairs, means, 1)])
    after = jnp.concatenate([jnp.where(pairs, means, 0), jnp.zeros(1)])
    return jnp.where(counts, before - after, 0)
