"""The gradient noise scale: the batch size at which the noise of a gradient equals its signal.

For gradients of B examples, the expected squared norm is |G|**2 + S / B: signal and noise. Two
batch sizes at once, which accumulation and data parallelism have anyway, determine both:

    |G|**2 = (B_big |G_big|**2 - B_small |G_small|**2) / (B_big - B_small)
    S      = (|G_small|**2 - |G_big|**2) / (1 / B_small - 1 / B_big)

Each is averaged over the updates separately, because the mean of a quotient is not the quotient of
the means.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._numerics import dot, real, wide
from jaxsched._core._require import BELOW_ONE, length, refuse, require, within
from jaxsched._core._trees import all_of
from jaxsched._rules._rule import Axis, agreed_over
from jaxsched._transforms._checks import require_state, require_transform
from jaxsched._transforms._scheduled import with_extra_args
from jaxsched._transforms._transform import transform


class NoiseScaleState(NamedTuple):
    """The state of `noise_scale`. Scalars are float32 (float64 under x64) or int32, and finite."""

    signal: jax.Array  # float: the mean estimate of |G|**2, which may be negative
    noise: jax.Array  # float: the mean estimate of S, for one example
    measured: jax.Array  # int32: how often both were estimated
    small: jax.Array  # float: the mean squared norm of the small batches since the last update
    heard: jax.Array  # int32: how many of these batches were finite
    inner_state: optax.OptState


def noise_scale(
    tx: optax.GradientTransformation,
    *,
    batch_size: ArrayLike,
    axis_name: Axis = None,
    decay: ArrayLike = 0.99,
) -> optax.GradientTransformationExtraArgs:
    """Measures the gradient noise scale of an optimizer; read it with `gradient_noise_scale`.

    The estimate compares the gradients of small batches with the gradient of a big batch. With
    `axis_name`, a small batch is the batch of one device, and the big batch is that of all devices.
    Pass the gradients of each device without averaging them. `tx` receives their mean, so the
    transform replaces `jax.lax.pmean`.

    Without `axis_name`, `tx` must accumulate gradients, with `accumulate` or `optax.MultiSteps`. A
    small batch is then a single batch, and the big batch consists of all batches of an update. An
    update of one batch measures nothing.

    The transform computes squared norms only, and makes no copy of the gradients. Values that are
    not finite are not measured.

    Args:
      tx: an optimizer. Without `axis_name` it contains one `MultiSteps` that takes means and
        receives the gradients unchanged.
      batch_size: number of examples per incoming gradient, at least 1.
      axis_name: mapped axis of the devices, under `pmap`, `shard_map` or `vmap`.
      decay: decay of the averages over updates, in [0, 1).

    Returns:
      A transform with a `NoiseScaleState`.

    Raises:
      ValueError: an argument is out of its range. Without `axis_name`: `tx` does not contain
        exactly one `MultiSteps`, or it does not take means, or it is not first in its chain.

    Example:
      >>> tx = noise_scale(accumulate(optax.sgd(0.1), 2), batch_size=8)
      >>> state = tx.init(jnp.zeros(2))
      >>> for gradient in ([1.0, 2.0], [3.0, 2.0]):
      ...     updates, state = tx.update(jnp.asarray(gradient), state)
      >>> print(state.signal, state.noise, gradient_noise_scale(state))
      7.0 16.0 2.2857144

    References:
      McCandlish et al., 2018, https://arxiv.org/abs/1812.06162, appendix A.1.
    """
    call = "noise_scale"
    inner = with_extra_args(require_transform(call, tx))
    size = length(call, "batch_size", batch_size, least=1)
    keeps = within(call, "decay", decay, BELOW_ONE)
    measured = partial(_measured, size=size, decay=keeps)
    over = agreed_over(call, "axis_name", axis_name)
    # The state does not show whether gradients are summed or averaged.
    means = getattr(getattr(tx.update, "__self__", None), "_use_grad_mean", True)
    must = "take means: `use_grad_mean=True`"
    require(over is not None or means, refuse(call, "tx", must, tx))

    def init(params: optax.Params) -> NoiseScaleState:
        state = inner.init(params)
        if over is None:
            _accumulated(state)
            _require_first(tx, state)
        return NoiseScaleState(
            signal=real(0.0),
            noise=real(0.0),
            measured=jnp.zeros((), jnp.int32),
            small=real(0.0),
            heard=jnp.zeros((), jnp.int32),
            inner_state=state,
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, NoiseScaleState]:
        require_state(call, state, NoiseScaleState)
        before, square = state.inner_state, dot(updates, updates)
        if over is not None:
            updates = jax.lax.pmean(updates, over)
            big, small = dot(updates, updates), jax.lax.pmean(square, over)
            state = measured(state, small, big, real(jax.lax.psum(1, over)))
        new, inner_state = inner.update(updates, before, params, **extra_args)
        if over is None:
            was, now = _accumulated(before), _accumulated(inner_state)
            state = _heard(state, updates, square, was, now, measured)
        return new, state._replace(inner_state=inner_state)

    return transform(init, update, over)


def _heard(
    state: NoiseScaleState,
    updates: optax.Updates,
    square: jax.Array,
    was: optax.MultiStepsState,
    now: optax.MultiStepsState,
    measured: Callable[..., NoiseScaleState],
) -> NoiseScaleState:
    """Add one small batch, which may complete the big one."""
    done = jnp.asarray(now.gradient_step) != was.gradient_step
    # If `MultiSteps` has skipped the batch, neither count has moved.
    taken = done | (jnp.asarray(now.mini_step) != was.mini_step)
    taken = taken & jnp.isfinite(square)
    heard = counted(state.heard, taken)
    further = (square - state.small) / jnp.maximum(real(heard), 1)
    small = jnp.where(taken, state.small + further, state.small)
    before = real(was.mini_step)
    big = _square_of_mean(was.acc_grads, updates, square, before)
    complete = measured(state, small, big, before + 1, done & (real(heard) == before + 1))
    return complete._replace(small=jnp.where(done, 0, small), heard=jnp.where(done, 0, heard))


def _square_of_mean(mean: Any, new: optax.Updates, square: jax.Array, n: jax.Array) -> jax.Array:
    """Return the squared norm of the mean of n terms and a new one, computed from products.

    Forming the sum would take as much memory as the gradients.
    """
    mean = jax.tree.map(lambda a, x: jnp.asarray(a).astype(wide(x).dtype), mean, new)
    both = n * n * dot(mean, mean) + 2 * n * dot(mean, new) + square
    return both / ((n + 1) * (n + 1))


def _measured(
    state: NoiseScaleState,
    small: jax.Array,
    big: jax.Array,
    count: jax.Array,
    now: jax.Array | bool = True,
    *,
    size: ArrayLike,
    decay: ArrayLike,
) -> NoiseScaleState:
    """Add one estimate of both, if the big batch has `count` > 1 small ones and all is finite."""
    more = jnp.maximum(count - 1, 1)
    signal = (count * big - small) / more
    noise = jnp.maximum(real(size), 1) * (small - big) * (count / more)
    now = now & (count > 1) & jnp.isfinite(signal) & jnp.isfinite(noise)
    measured = counted(state.measured, now)
    # The weight of the newest value in a bias-corrected average.
    keeps = jnp.clip(real(decay), 0, 1 - 1e-6)
    weight = (1 - keeps) / (1 - keeps ** jnp.maximum(real(measured), 1))
    return state._replace(
        signal=jnp.where(now, state.signal + weight * (signal - state.signal), state.signal),
        noise=jnp.where(now, state.noise + weight * (noise - state.noise), state.noise),
        measured=measured,
    )


def _accumulated(state: optax.OptState) -> optax.MultiStepsState:
    """Return the state of the only `MultiSteps`, or raise."""
    found = all_of(optax.MultiStepsState, state)
    require(
        len(found) == 1,
        "`noise_scale` compares batches of two sizes. Use one `MultiSteps`, as in "
        "`noise_scale(accumulate(tx, 4), ...)`, or the devices, as in `noise_scale(tx, "
        f"axis_name=...)`. `axis_name` is None, and `tx` has {len(found) or 'no'} `MultiSteps`.",
    )
    return found[0]


def _require_first(tx: Any, state: optax.OptState) -> None:
    """Raise if another link of the chain changes the gradients before the `MultiSteps`."""

    def is_one(x: Any) -> bool:
        return isinstance(x, optax.MultiStepsState)

    for path, x in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_one)[0]:
        # The state of a chain is a plain tuple; that of a wrapper is a NamedTuple.
        later = any(isinstance(key, jax.tree_util.SequenceKey) and key.idx > 0 for key in path)
        must = "pass the gradients to `MultiSteps` unchanged, with no link before it"
        remedy = "Chain that outside: `optax.chain(clip, noise_scale(accumulate(tx, 4), ...))`."
        require(not (is_one(x) and later), refuse("noise_scale", "tx", must, tx, remedy))
