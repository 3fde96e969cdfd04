"""The parameters that wrappers keep in an optimizer's state: the best ones, and snapshots."""

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
    """The parameters of which the metric of `keep_best` was best.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      Parameters. Under `jit`, before the first metric, those of `init`.

    Raises:
      ValueError: there is no `keep_best` in it, or more than one; or, outside `jit`, it has not
        judged any metric yet.

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
        f"`best_params(opt_state)`: no update has seen a metric {', '.join(state.mailbox)!r} yet. "
        "Give it to `tx.update(...)`, or to `observe(opt_state, ...)` before an update.",
    )
    return state.params


def snapshots(opt_state: Any) -> optax.Params:
    """The parameters at the last minima of the schedule, oldest first.

        jax.vmap(lambda params: model.apply(params, x))(snapshots(opt_state))

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      Parameters with an axis in front, of as many as were taken, at most `keep`. Under `jit`, where
      no shape depends on a number, of all `keep`: those not yet taken come first, and are zero.

    Raises:
      ValueError: there is no `snapshot` in it, or more than one; or, outside `jit`, none was taken.

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
    ring = _ring("snapshots", opt_state)
    keep = ring.steps.shape[-1]
    order = (ring.snapshots + jnp.arange(keep, dtype=jnp.int32)) % keep
    if not isinstance(ring.snapshots, Tracer):
        order = order[keep - min(int(ring.snapshots), keep) :]
    return jax.tree.map(lambda x: x[order], ring.params)


def snapshot_average(opt_state: Any) -> optax.Params:
    """The mean of the parameters at the last minima of the schedule.

    A model with batch statistics needs them measured anew with these parameters.

    Args:
      opt_state: an optimizer state, or any tree with one.

    Returns:
      Parameters, summed in float32 at least; zero if none were taken, which only `jit` allows.

    Raises:
      ValueError: there is no `snapshot` in it, or more than one; or, outside `jit`, none was taken.

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
    ring = _ring("snapshot_average", opt_state)
    count = jnp.clip(ring.snapshots, 1, ring.steps.shape[-1])

    def mean(x: jax.Array) -> jax.Array:
        # What was not taken is zero, and adds nothing.
        return (wide(x).sum(axis=0) / real(count).astype(wide(x).dtype)).astype(x.dtype)

    return jax.tree.map(mean, ring.params)


def _ring(call: str, opt_state: Any) -> SnapshotsState:
    ring = only(call, SnapshotsState, "snapshot(schedule, keep=...)", opt_state)
    require(
        ring.snapshots.ndim == 0,
        f"`{call}`: the state is stacked, {ring.snapshots.shape}: call it under `jax.vmap`.",
    )
    require(ring.snapshots > 0, f"`{call}(opt_state)`: the schedule has had no minimum yet.")
    return ring


def gradient_noise_scale(opt_state: Any) -> jax.Array:
    """The batch size at which the noise of a gradient is as large as its signal.

        B_simple = S / |G|**2

    Well below it, k times the batch is worth k times the steps; well above, it is worth nothing.

    Args:
      opt_state: an optimizer state with one `noise_scale`, or any tree with one.

    Returns:
      Examples, float32 (float64 under x64), not negative. Infinity where the estimate of `|G|**2`
      is not positive: where noise is all that is seen. Under `jit` also before the first
      measurement.

    Raises:
      ValueError: there is no `noise_scale` in it, or more than one; or, outside `jit`, nothing was
        measured yet.

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
        f"`{call}(opt_state)`: nothing was measured yet. It is, in an update that averages two or "
        "more batches.",
    )
    known = state.signal > 0
    ratio = jnp.maximum(state.noise, 0) / jnp.where(known, state.signal, 1)
    return jnp.where(known, ratio, jnp.inf)
