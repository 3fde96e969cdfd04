"""Readers of stored parameters: the best ones, snapshots, and the gradient noise scale."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxsched._core._numerics import real, wide
from jaxsched._core._require import require
from jaxsched._core._trees import only
from jaxsched._transforms._keep_best import KeepBestState
from jaxsched._transforms._noise_scale import NoiseScaleState
from jaxsched._transforms._snapshot import SnapshotsState


def best_params(opt_state: Any) -> optax.Params:
    """Returns the parameters with the best metric so far, as recorded by `keep_best`.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      The parameters. Under `jit`, it returns the initial parameters before the first metric.

    Raises:
      ValueError: `opt_state` contains no `keep_best`, or more than one; or, outside `jit`, no
        metric has been judged yet.

    Example:
      >>> tx = keep_best(optax.sgd(0.1))
      >>> params = jnp.ones(2)
      >>> _, state = tx.update(params, tx.init(params), params, value=0.5)
      >>> print(best_params(state))
      [1. 1.]
    """
    state = only("best_params", KeepBestState, "keep_best(tx)", opt_state)
    require(
        state.judged > 0,
        f"`best_params(opt_state)`: no update has received a metric {', '.join(state.mailbox)!r} "
        "yet. Pass it to `tx.update(...)`, or to `observe(opt_state, ...)` before an update.",
    )
    return state.params


def snapshots(opt_state: Any) -> optax.Params:
    """Returns the parameters at the last minima of the schedule, oldest first.

        jax.vmap(lambda params: model.apply(params, x))(snapshots(opt_state))

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      Parameters with a leading axis, one entry per snapshot taken, at most `keep`. Under `jit`,
      shapes must be static, so the axis has length `keep`; entries not yet taken come first and
      are zero.

    Raises:
      ValueError: `opt_state` contains no `snapshot`, or more than one; or, outside `jit`, none was
        taken.

    Example:
      >>> cycles = cosine(0.5, 0.0, 2).cycle()
      >>> tx = snapshot(cycles, keep=2)
      >>> state = tx.init(jnp.ones(1))
      >>> for _ in range(4):
      ...     _, state = tx.update(jnp.ones(1), state, jnp.ones(1))
      >>> print(snapshots(state))
      [[2.]
       [2.]]
    """
    ring = ring_of("snapshots", opt_state)
    order = oldest_first(ring)
    return jax.tree.map(lambda x: x[order], ring.params)


def snapshot_average(opt_state: Any) -> optax.Params:
    """Returns the mean of the parameters at the last minima of the schedule.

    If the model has batch statistics, recompute them with these parameters.

    Args:
      opt_state: an optimizer state, or a tree that contains one.

    Returns:
      Parameters, summed in float32 or wider. Under `jit`, they are zero if no snapshot was taken.

    Raises:
      ValueError: `opt_state` contains no `snapshot`, or more than one; or, outside `jit`, none was
        taken.

    Example:
      >>> cycles = cosine(0.5, 0.0, 2).cycle()
      >>> tx = snapshot(cycles, keep=2)
      >>> state = tx.init(jnp.ones(1))
      >>> for step in range(4):
      ...     _, state = tx.update(jnp.zeros(1), state, jnp.full(1, float(step)))
      >>> print(snapshot_average(state))
      [2.]

    References:
      Izmailov et al., 2018, https://arxiv.org/abs/1803.05407.
    """
    ring = ring_of("snapshot_average", opt_state)
    count = jnp.clip(ring.snapshots, 1, ring.steps.shape[-1])

    def mean(x: jax.Array) -> jax.Array:
        # Entries that were not taken are zero and add nothing.
        return (wide(x).sum(axis=0) / real(count).astype(wide(x).dtype)).astype(x.dtype)

    return jax.tree.map(mean, ring.params)


def ring_of(call: str, opt_state: Any) -> SnapshotsState:
    """Return the only ring of snapshots in a state, which has at least one, or raise."""
    ring = only(call, SnapshotsState, "snapshot(schedule, keep=...)", opt_state)
    require(
        ring.snapshots.ndim == 0,
        f"`{call}(opt_state)`: the state is stacked, {ring.snapshots.shape}. Use `jax.vmap`.",
    )
    require(ring.snapshots > 0, f"`{call}(opt_state)`: the schedule has had no minimum yet.")
    return ring


def oldest_first(ring: SnapshotsState) -> jax.Array:
    """Return the places of the snapshots in a ring; under `jit`, empty places come first."""
    keep = ring.steps.shape[-1]
    order = (ring.snapshots + jnp.arange(keep, dtype=jnp.int32)) % keep
    if isinstance(ring.snapshots, Tracer):
        return order
    return order[keep - min(int(ring.snapshots), keep) :]


def gradient_noise_scale(opt_state: Any) -> jax.Array:
    """Returns the gradient noise scale: the batch size at which noise and signal are equal.

        B_simple = S / |G|**2

    G is the mean gradient. S is the variance of the gradient of one example, summed over all
    parameters.

    Well below this batch size, a batch k times as large saves a factor k in steps. Well above it, a
    larger batch saves nothing.

    Args:
      opt_state: an optimizer state with one `noise_scale`, or a tree that contains one.

    Returns:
      Number of examples, float32 (float64 under x64), not negative. It is infinity if the estimate
      of `|G|**2` is not positive, which means that only noise is visible. Under `jit` it is also
      infinity before the first measurement.

    Raises:
      ValueError: `opt_state` contains no `noise_scale`, or more than one; or, outside `jit`,
        nothing was measured yet.

    Example:
      >>> tx = noise_scale(accumulate(optax.sgd(0.1), 2), batch_size=8)
      >>> state = tx.init(jnp.zeros(2))
      >>> for gradient in ([1.0, 2.0], [3.0, 2.0]):
      ...     _, state = tx.update(jnp.asarray(gradient), state)
      >>> print(gradient_noise_scale(state))
      2.2857144

    References:
      McCandlish et al., 2018, https://arxiv.org/abs/1812.06162, eq. 2.9 and appendix A.1.
    """
    call = "gradient_noise_scale"
    state = only(call, NoiseScaleState, "noise_scale(tx, batch_size=...)", opt_state)
    require(
        state.measured > 0,
        f"`{call}(opt_state)`: nothing was measured yet. The first measurement is made by an "
        "update that averages two or more batches.",
    )
    known = state.signal > 0
    ratio = jnp.maximum(state.noise, 0) / jnp.where(known, state.signal, 1)
    return jnp.where(known, ratio, jnp.inf)
