"""The gradient noise scale: how many examples a batch has when its noise is as large as its signal.

Of gradients of B examples, the expected squared norm is |G|**2 + S / B: signal, and noise. Two
batch sizes at once, which accumulation and data parallelism have anyway, give both:

    |G|**2 = (B_big |G_big|**2 - B_small |G_small|**2) / (B_big - B_small)
    S      = (|G_small|**2 - |G_big|**2) / (1 / B_small - 1 / B_big)

Each is averaged over the updates by itself, for the mean of a quotient is no quotient of means.
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
    noise: jax.Array  # float: the mean estimate of S, of one example
    measured: jax.Array  # int32: how often both were estimated
    small: jax.Array  # float: the mean squared norm of the small batches since the last update
    heard: jax.Array  # int32: how many of them were finite
    inner_state: optax.OptState


def noise_scale(
    tx: optax.GradientTransformation,
    *,
    batch_size: ArrayLike,
    axis_name: Axis = None,
    decay: ArrayLike = 0.99,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that measures the noise of its gradients: `gradient_noise_scale(opt_state)`.

    With `axis_name` it is given the gradients of each device as they are, not yet averaged: their
    mean is what `tx` gets, so this takes the place of `jax.lax.pmean`. Without, `tx` accumulates:
    by `accumulate`, or `optax.MultiSteps`. The small batches are the single ones, the big one is
    their mean when there is an update, of two or more, however many.

    It costs the squared norms, and no copy of the gradients. What is not finite is not measured.

    Args:
      tx: an optimizer. Without `axis_name` it has one `MultiSteps` which takes means, and that is
        given the gradients as they come in: nothing before it changes them.
      batch_size: examples in each of the gradients that come in, at least 1.
      axis_name: mapped axis of the devices, under `pmap`, `shard_map` or `vmap`.
      decay: of the means over the updates, in [0, 1).

    Returns:
      A transform with a `NoiseScaleState`.

    Raises:
      ValueError: an argument is out of its range; or there is neither `axis_name` nor one
        `MultiSteps` in `tx`, or not one which takes means, or in a chain one that is not first.

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
    size = length(call, batch_size=batch_size, least=1)
    keeps = within(call, BELOW_ONE, decay=decay)
    measured = partial(_measured, size=size, decay=keeps)
    over = agreed_over(call, axis_name=axis_name)
    # A sum cannot be told from a mean in the state.
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
    """With one more of the small batches, which may complete the big one."""
    done = jnp.asarray(now.gradient_step) != was.gradient_step
    # `MultiSteps` may have left it out, and then nothing of it has moved.
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
    """The squared norm of the mean of n terms and a new one: from products, not from the sum.

    The sum would be written down for it, which takes as much memory as the gradients.
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
    """With one more estimate of both, if the big batch is of `count` > 1 small ones and finite."""
    more = jnp.maximum(count - 1, 1)
    signal = (count * big - small) / more
    noise = jnp.maximum(real(size), 1) * (small - big) * (count / more)
    now = now & (count > 1) & jnp.isfinite(signal) & jnp.isfinite(noise)
    measured = counted(state.measured, now)
    # The weight of the newest in a mean that is corrected for its start.
    keeps = jnp.clip(real(decay), 0, 1 - 1e-6)
    weight = (1 - keeps) / (1 - keeps ** jnp.maximum(real(measured), 1))
    return state._replace(
        signal=jnp.where(now, state.signal + weight * (signal - state.signal), state.signal),
        noise=jnp.where(now, state.noise + weight * (noise - state.noise), state.noise),
        measured=measured,
    )


def _accumulated(state: optax.OptState) -> optax.MultiStepsState:
    """The state of the one `MultiSteps` in it."""
    found = all_of(optax.MultiStepsState, state)
    require(
        len(found) == 1,
        "`noise_scale` compares batches of two sizes: those of one `MultiSteps`, "
        "`noise_scale(accumulate(tx, 4), ...)`, or those of the devices, `noise_scale(tx, "
        f"axis_name=...)`. There is no `axis_name`, and in `tx` {len(found) or 'no'} `MultiSteps`.",
    )
    return found[0]


def _require_first(tx: Any, state: optax.OptState) -> None:
    """Raise if in a chain something comes before the `MultiSteps`, which changes what is in it."""

    def is_one(x: Any) -> bool:
        return isinstance(x, optax.MultiStepsState)

    for path, x in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_one)[0]:
        # A chain's state is a tuple, and a wrapper's one with names.
        later = any(isinstance(key, jax.tree_util.SequenceKey) and key.idx > 0 for key in path)
        must = "be given the gradients as `MultiSteps` averages them, with nothing before it"
        remedy = "Chain that outside: `optax.chain(clip, noise_scale(accumulate(tx, 4), ...))`."
        require(not (is_one(x) and later), refuse("noise_scale", "tx", must, tx, remedy))
