"""Snapshots: the parameters at the last minima of a schedule, in a ring in the state."""

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
from jaxsched._transforms._scheduled import StepCounter
from jaxsched._transforms._transform import transform

# A schedule is accurate to 1e-6, so a smaller change may be rounding.
_VISIBLE = 4e-6


class SnapshotsState(NamedTuple):
    """The state of `snapshot`."""

    clock: StepCounter
    params: optax.Params  # (keep, ...): a ring; its oldest entry is written next
    steps: jax.Array  # int32[keep]: the step after which each snapshot was taken
    snapshots: jax.Array  # int32: how many were taken
    high: jax.Array  # float: the highest value since the last snapshot
    low: jax.Array  # float: the lowest value since `high`

    BESIDE = ("params",)


def snapshot(schedule: Schedule, *, keep: int) -> optax.GradientTransformationExtraArgs:
    """Stores the parameters at the last `keep` minima of a schedule; put it last in `optax.chain`.

        taken after step t, if the schedule has fallen since the last snapshot, and if either
            schedule(t + 1) > schedule(t)  or  t is the last step of the schedule

    With warm restarts, a snapshot is taken at the end of each cycle. `snapshots(opt_state)` returns
    them stacked, for an ensemble under `vmap`. `snapshot_average(opt_state)` returns their mean.

    The memory is fixed: `keep` copies of the parameters. If buffers are donated, an update reads
    and writes only one of these copies.

    Args:
      schedule: the schedule of the learning rate. For a product with rules, pass the schedule
        alone.
      keep: number of snapshots to keep, at least 1. A new one replaces the oldest.

    Returns:
      A transform that does not change the updates, and needs the parameters. It has its own step
      counter. `events(opt_state)["snapshots"]` counts the snapshots.

    Raises:
      ValueError: `schedule` is not a schedule; `keep` is not an integer of at least 1; or an update
        has no parameters.

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
      Huang et al., 2017, https://arxiv.org/abs/1704.00109, section 3; the mean is from Izmailov et
      al., 2018, https://arxiv.org/abs/1803.05407.
    """
    call = "snapshot"
    cycles = as_schedule(call, schedule)._grouped()
    size = static_length(call, "keep", keep)

    def init(params: optax.Params) -> SnapshotsState:
        count = jnp.zeros((), jnp.int32)
        first = real(cycles.at(count))
        return SnapshotsState(
            clock=StepCounter(count),
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
        return updates, ring._replace(clock=StepCounter(ticked(step)))

    return transform(init, update)


def _empty(size: int, x: Any) -> jax.Array:
    """Return `size` zeros like a parameter, placed on the same devices."""
    return jnp.broadcast_to(jnp.zeros_like(x, jnp.result_type(x)), (size, *jnp.shape(x)))


def _require_ring(ring: SnapshotsState, size: int) -> None:
    """Raise unless the ring of a state has the length that the code sets."""
    found = ring.steps.shape[0]
    require(
        found == size,
        f"the state keeps {found} snapshots, but the code has `snapshot(keep={size})`. Start anew "
        "with `graft(tx.init(params), old_state)`. Read the old snapshots with "
        "`snapshots(old_state)`.",
    )


def _watched(
    ring: SnapshotsState, cycles: Schedule, t: jax.Array
) -> tuple[SnapshotsState, jax.Array]:
    """Return the updated extremes, and whether this step is a minimum."""
    value, after = cycles.at(t), cycles.at(_clock.read(t + 1))
    high = jnp.maximum(ring.high, value)
    low = jnp.where(value >= ring.high, value, jnp.minimum(ring.low, value))
    fell = low < high - _VISIBLE * jnp.abs(high)
    rises = after > low + _VISIBLE * jnp.abs(low)
    ends = jnp.zeros((), bool) if cycles.steps is None else t == _clock.read(cycles.steps) - 1
    now = fell & (rises | ends)
    # After a snapshot, the next cycle is watched.
    high, low = jnp.where(now, value, high), jnp.where(now, value, low)
    return ring._replace(high=high, low=low), now


def _with(
    ring: SnapshotsState, params: optax.Params, t: jax.Array, now: jax.Array
) -> SnapshotsState:
    """Return the ring with these parameters in it, if `now` holds."""
    at = ring.snapshots % ring.steps.shape[0]

    def written(kept: jax.Array, new: Any) -> jax.Array:
        return kept.at[at].set(jnp.where(now, new, kept[at]))

    return ring._replace(
        params=jax.tree.map(written, ring.params, params),
        steps=written(ring.steps, t),
        snapshots=counted(ring.snapshots, now),
    )
