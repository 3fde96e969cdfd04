"""Scaling rules between batch size and learning rate.

Below the critical batch size, a run depends on rate / batch for SGD, and on rate / sqrt(batch) for
Adam. So k times the batch with k**p times the rate, where p = 1 or 1/2, gives the same run in fewer
steps.
"""

from __future__ import annotations

from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import above_zero, ratio, real
from jaxsched._core._require import (
    BELOW_ONE,
    NOT_NEGATIVE,
    Number,
    finite,
    length,
    one_of,
    positive,
    refuse,
    within,
)
from jaxsched._schedules._curves import linear
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule
from jaxsched._schedules._unbounded import constant

RULES = {"linear": 1.0, "sqrt": 0.5}


@overload
def scale_with_batch(
    rate: AnySchedule, base_batch: ArrayLike, batch: ArrayLike, rule: str = ...
) -> Schedule: ...
@overload
def scale_with_batch(
    rate: ArrayLike, base_batch: ArrayLike, batch: ArrayLike, rule: str = ...
) -> Number: ...
def scale_with_batch(
    rate: ArrayLike | AnySchedule,
    base_batch: ArrayLike,
    batch: ArrayLike,
    rule: str = "linear",
) -> Number | Schedule:
    """Returns the learning rate for another batch size.

        rate * k, k = batch / base_batch             "linear", for SGD
        rate * sqrt(k)                               "sqrt", for Adam and similar optimizers

    Both rules hold below the critical batch size, which `gradient_noise_scale` measures. Above it,
    a larger batch does not allow a larger rate. For Adam's other hyperparameters, use
    `scale_adam_with_batch`.

    Args:
      rate: learning rate tuned at `base_batch`: a number, or a schedule.
      base_batch: number of examples in the original batch, positive.
      batch: number of examples in the new batch, positive.
      rule: "linear" or "sqrt".

    Returns:
      A number, or a schedule if `rate` is a schedule.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> print(scale_with_batch(0.1, 256, 1024), scale_with_batch(0.1, 256, 1024, "sqrt"))
      0.4 0.2
      >>> print(scale_with_batch(linear(0.1, 0.0, 4), 256, 512)(jnp.arange(3)))
      [0.2  0.15 0.1 ]

    References:
      Goyal et al., 2017, https://arxiv.org/abs/1706.02677, section 2.1; Malladi et al., 2022,
      https://arxiv.org/abs/2205.10287, for the square root.
    """
    factor = _factor("scale_with_batch", base_batch, batch, rule)
    if callable(rate):
        return as_schedule("scale_with_batch", rate) * factor
    return finite("scale_with_batch", "rate", rate) * factor


def scale_adam_with_batch(
    rate: ArrayLike | AnySchedule,
    base_batch: ArrayLike,
    batch: ArrayLike,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> dict[str, Number | Schedule]:
    """Returns the hyperparameters of Adam for another batch size, for `optax.adam(**...)`.

        rate * sqrt(k),  1 - k (1 - b1),  1 - k (1 - b2),  eps / sqrt(k),   k = batch / base_batch

    With these values, Adam's moments average over as many examples as before. If `b1` is 0, there
    is no average, and it stays 0.

    Args:
      rate: learning rate tuned at `base_batch`: a number, or a schedule, for `inject`.
      base_batch: number of examples in the original batch, positive.
      batch: number of examples in the new batch, positive.
      b1: decay of the first moment at `base_batch`, in [0, 1).
      b2: decay of the second moment at `base_batch`, in [0, 1).
      eps: constant added to the root of the second moment at `base_batch`, not negative.

    Returns:
      `{"learning_rate": ..., "b1": ..., "b2": ..., "eps": ...}`.

    Raises:
      ValueError: an argument is out of its range; or the batch is so large that a moment would
        average over less than one step: k (1 - b) must be below 1.

    Example:
      >>> scaled = scale_adam_with_batch(1e-3, 256, 1024)
      >>> print({name: round(x, 9) for name, x in scaled.items()})
      {'learning_rate': 0.002, 'b1': 0.6, 'b2': 0.996, 'eps': 5e-09}

    References:
      Malladi et al., 2022, https://arxiv.org/abs/2205.10287, the square root scaling rule.
    """
    call = "scale_adam_with_batch"
    k = _factor(call, base_batch, batch, "linear")
    scaled = _factor(call, base_batch, batch, "sqrt")
    small = within(call, "eps", eps, NOT_NEGATIVE)
    slow = as_schedule(call, rate) if callable(rate) else finite(call, "rate", rate)
    return {
        "learning_rate": slow * scaled,
        "b1": _averaging(call, "b1", b1, k, base_batch, batch),
        "b2": _averaging(call, "b2", b2, k, base_batch, batch),
        "eps": small / scaled,
    }


def _averaging(
    call: str, name: str, value: ArrayLike, k: Number, base_batch: ArrayLike, batch: ArrayLike
) -> Number:
    """Return the decay of a moment that averages over as many examples as before."""
    b = within(call, name, value, BELOW_ONE)
    fits = (b == 0) | (k * (1 - b) < 1)
    if not isinstance(fits, Tracer) and not np.all(fits):
        largest = np.min(np.asarray(base_batch) / (1 - np.asarray(b)))
        must = f"be less than base_batch / (1 - {name}) = {largest:.6g}"
        remedy = f"With {name}={value!r} the moment would average over less than one step."
        raise ValueError(refuse(call, "batch", must, batch, remedy))
    # Not 1 - k (1 - b), so that an unchanged batch keeps its decay exactly.
    scaled = b - (k - 1) * (1 - b)
    if isinstance(scaled, float):
        return scaled if b > 0 else b
    return jnp.where(real(b) > 0, jnp.maximum(scaled, 0), 0)


def gradual_warmup(
    rate: ArrayLike,
    base_batch: ArrayLike,
    batch: ArrayLike,
    *,
    warmup_steps: ArrayLike,
    rule: str = "linear",
) -> Schedule:
    """Warms up linearly from the base learning rate to the scaled one, then holds it.

        linear(rate, k * rate, warmup_steps) >> constant(k * rate),   k = batch / base_batch

    To add a decay, multiply by it: `gradual_warmup(0.1, 256, 8192, ...) * step_decay(1.0, ...)`.

    Args:
      rate: learning rate tuned at `base_batch`.
      base_batch: number of examples in the original batch, positive.
      batch: number of examples in the new batch, positive.
      warmup_steps: length of the warmup in optimizer steps of the new batch; Goyal et al. use 5
        epochs.
      rule: "linear", or "sqrt" for k**0.5 instead of k.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> print(gradual_warmup(0.1, 256, 1024, warmup_steps=3)(jnp.arange(5)))
      [0.1 0.2 0.3 0.4 0.4]

    References:
      Goyal et al., 2017, https://arxiv.org/abs/1706.02677, section 2.2.
    """
    call = "gradual_warmup"
    low = finite(call, "rate", rate)
    high = low * _factor(call, base_batch, batch, rule)
    return linear(low, high, length(call, "warmup_steps", warmup_steps)) >> constant(high)


def _factor(call: str, base_batch: ArrayLike, batch: ArrayLike, rule: str) -> Number:
    one_of(call, "rule", rule, tuple(RULES))
    k = ratio(positive(call, "batch", batch), positive(call, "base_batch", base_batch))
    # A traced size of zero or less is read as the smallest positive one, which has a root.
    return (above_zero(k) if isinstance(k, jax.Array) else k) ** RULES[rule]
