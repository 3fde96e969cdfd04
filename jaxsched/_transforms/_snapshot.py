"""Snapshots: the parameters at the last minima of a schedule, in a ring inside the state."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsched._core import _clock
from jaxsched._core._clock import counted, ticked
from jaxsched._core._numerics import real
from jaxsched._core._require import require, static_length
from jaxsched._schedules._schedule import Schedule, as_schedule
from jaxsched._transforms._checks import require_params, require_state
from jaxsched._transforms._scheduled import ScheduledState
from jaxsched._transforms._transform import transform

# A schedule is within 1e-6 of its formula: a move by less may be none.
_VISIBLE = 4e-6


class SnapshotsState(NamedTuple):
    """The state of `snapshot`."""

    clock: ScheduledState
    params: optax.Params  # (keep, ...): the ring, its oldest entry next to be written
    steps: jax.Array  # int32[keep]: the step after which each was taken
    snapshots: jax.Array  # int32: how many were taken
    high: jax.Array  # float: the highest value since the last one
    low: jax.Array  # float: the lowest value since that

    BESIDE = ("params",)


def snapshot(schedule: Schedule, *, keep: int) -> optax.GradientTransformationExtraArgs:
    """Keep the parameters at the last `keep` minima of a schedule. The last link of a chain.

        taken after step t, if schedule(t) has fallen since the last one, and
            schedule(t + 1) > schedule(t), or t is the last step of the schedule

    Of warm restarts that is the end of each cycle. `snapshots(opt_state)` gives them stacked, for
    an ensemble under `vmap`, and `snapshot_average(opt_state)` their mean.

    The memory is fixed: `keep` copies of the parameters. Each update reads and writes one of them,
    and with donated buffers nothing else.

    Args:
      schedule: what the rate follows; of a product with stateful factors, the schedule alone.
      keep: how many are kept, at least 1; the oldest goes when there are more.

    Returns:
      A transform that leaves the updates as they are, and needs the parameters. It has a clock, as
      every transform here; `events(opt_state)["snapshots"]` counts.

    Raises:
      ValueError: `schedule` is not one, `keep` is not an integer of at least 1; or an update has no
        parameters.

    Example:
      >>> cycles = cosine(0.5, 0.0, 2).cycle()
      >>> tx = optax.chain(inject(optax.sgd, learning_rate=cycles), snapshot(cycles, keep=2))
      >>> params = jnp.ones(1)
      >>> state = tx.init(params)
      >>> for _ in range(6):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(snapshots(state), snapshot_average(state))
      [[-0.5 ]
       [-1.25]] [-0.875]

    References:
      Huang et al., 2017, https://arxiv.org/abs/1704.00109, section 3; the mean is that of Izmailov
      et al., 2018, https://arxiv.org/abs/1803.05407.
    """
    call = "snapshot"
    cycles = as_schedule(call, schedule)._grouped()
    size = static_length(call, keep=keep)

    def init(params: optax.Params) -> SnapshotsState:
        count = jnp.zeros((), jnp.int32)
        first = real(cycles.at(count))
        return SnapshotsState(
            clock=ScheduledState(count, {}, {}, {}, jnp.ones((), bool), ()),
            params=jax.tree.map(functools.partial(_empty, size), params),
            steps=jnp.zeros(size, jnp.int32),
            snapshots=jnp.zeros((), jnp.int32),
            high=first,
            low=first,
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **_: Any
    ) -> tuple[optax.Updates, SnapshotsState]:
        taken = optax.apply_updates(require_params(call, params), updates)
        require_state(call, state, SnapshotsState)
        _require_ring(state, size)
        step = state.clock.count
        ring, now = _watched(state, cycles, step)
        ring = _with(ring, taken, step, now)
        return updates, ring._replace(clock=state.clock._replace(count=ticked(step)))

    return transform(init, update)


def _empty(size: int, x: Any) -> jax.Array:
    """So many zeros like a parameter, which lie on the devices as it does."""
    return jnp.broadcast_to(jnp.zeros_like(x, jnp.result_type(x)), (size, *jnp.shape(x)))


def _require_ring(ring: SnapshotsState, size: int) -> None:
    """Raise unless the ring of a state is as long as the code says."""
    found = ring.steps.shape[0]
    require(
        found == size,
        f"the state keeps {found} snapshots, and `snapshot(keep={size})` others: begin anew with "
        "`graft(tx.init(params), old_state)`, and have the old ones from `snapshots(old_state)`.",
    )


def _watched(
    ring: SnapshotsState, cycles: Schedule, t: jax.Array
) -> tuple[SnapshotsState, jax.Array]:
    """Is this step a minimum?"""
    value, after = cycles.at(t), cycles.at(_clock.read(t + 1))
    high = jnp.maximum(ring.high, value)
    low = jnp.where(value >= ring.high, value, jnp.minimum(ring.low, value))
    fell = low < high - _VISIBLE * jnp.abs(high)
    rises = after > low + _VISIBLE * jnp.abs(low)
    ends = jnp.zeros((), bool) if cycles.steps is None else t == _clock.read(cycles.steps) - 1
    now = fell & (rises | ends)
    # From here on it is the next cycle that is watched.
    high, low = jnp.where(now, value, high), jnp.where(now, value, low)
    return ring._replace(high=high, low=low), now


def _with(
    ring: SnapshotsState, params: optax.Params, t: jax.Array, now: jax.Array
) -> SnapshotsState:
    """The ring with these parameters in it, if there is a snapshot now."""
    at = ring.snapshots % ring.steps.shape[0]

    def written(kept: jax.Array, new: Any) -> jax.Array:
        return kept.at[at].set(jnp.where(now, new, kept[at]))

    return ring._replace(
        params=jax.tree.map(written, ring.params, params),
        steps=written(ring.steps, t),
        snapshots=counted(ring.snapshots, now),
    )
