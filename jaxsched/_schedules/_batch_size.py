"""Batch size and rate: how one follows the other, and at which size that ends.

Below the size where noise no longer matters, what a run depends on is rate / batch for SGD, and
rate / sqrt(batch) for Adam: k times the batch and k**p times the rate, p = 1 or 1/2, is the same
run in fewer steps.
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
    NOT_NEGATIVE,
    Number,
    finite,
    finite_of,
    length,
    one_of,
    positive,
    refuse,
    require,
    within,
)
from jaxsched._schedules._curves import linear
from jaxsched._schedules._decays import constant
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule

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
    """The rate for another batch size.

        rate * k, k = batch / base_batch             "linear", for SGD
        rate * sqrt(k)                               "sqrt", for Adam and its kin

    Both hold below the critical batch size, where `gradient_noise_scale` is not yet reached; beyond
    it a larger batch allows no larger rate. For Adam, `scale_adam_with_batch` has the rest.

    Args:
      rate: the rate that was tuned at `base_batch`: a number, or a schedule.
      base_batch: examples in a batch there, positive.
      batch: examples in a batch now, positive.
      rule: "linear" or "sqrt".

    Returns:
      A number, or a schedule if `rate` is one.

    Raises:
      ValueError: an argument is out of its range, named with its value.

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
    return finite("scale_with_batch", rate=rate) * factor


def scale_adam_with_batch(
    rate: ArrayLike | AnySchedule,
    base_batch: ArrayLike,
    batch: ArrayLike,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> dict[str, Number | Schedule]:
    """The hyperparameters of Adam for another batch size: `optax.adam(**...)`.

        rate * sqrt(k),  1 - k (1 - b1),  1 - k (1 - b2),  eps / sqrt(k),   k = batch / base_batch

    So its moments average over as many examples as before. A `b1` of 0 is no average, and stays.

    Args:
      rate: the rate that was tuned at `base_batch`: a number, or a schedule, for `inject`.
      base_batch: examples in a batch there, positive.
      batch: examples in a batch now, positive.
      b1: decay of the first moment there, in [0, 1).
      b2: decay of the second moment there, in [0, 1).
      eps: added to its root there, not negative.

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
    small = within(call, NOT_NEGATIVE, eps=eps)
    slow = as_schedule(call, rate) if callable(rate) else finite(call, rate=rate)
    return {
        "learning_rate": slow * scaled,
        "b1": _averaging(call, "b1", b1, k, base_batch, batch),
        "b2": _averaging(call, "b2", b2, k, base_batch, batch),
        "eps": small / scaled,
    }


def _averaging(
    call: str, name: str, value: ArrayLike, k: Number, base_batch: ArrayLike, batch: ArrayLike
) -> Number:
    """The decay of a moment that averages over as many examples as before."""
    b = finite_of(call, name, value)
    require((b >= 0) & (b < 1), refuse(call, name, "be in [0, 1)", value))
    fits = (b == 0) | (k * (1 - b) < 1)
    if not isinstance(fits, Tracer) and not np.all(fits):
        largest = np.min(np.asarray(base_batch) / (1 - np.asarray(b)))
        must = f"be less than base_batch / (1 - {name}) = {largest:.6g}"
        remedy = f"With {name}={value!r} the moment would average over less than a step."
        raise ValueError(refuse(call, "batch", must, batch, remedy))
    # Not 1 - k (1 - b): the same batch has the same decay, exactly.
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
    """From the rate of the base batch to that of a large one, then held.

        linear(rate, k * rate, warmup_steps) >> constant(k * rate),   k = batch / base_batch

    A decay multiplies it: `gradual_warmup(0.1, 256, 8192, ...) * step_decay(1.0, ...)`.

    Args:
      rate: the rate that was tuned at `base_batch`.
      base_batch: examples in a batch there, positive.
      batch: examples in a batch now, positive.
      warmup_steps: optimizer steps, of the large batch; Goyal et al. take 5 epochs.
      rule: "linear", or "sqrt" for k**0.5 instead of k.

    Returns:
      A schedule without an end: integer step of any shape -> float32 of that shape.

    Raises:
      ValueError: an argument is out of its range, named with its value.

    Example:
      >>> print(gradual_warmup(0.1, 256, 1024, warmup_steps=3)(jnp.arange(5)))
      [0.1 0.2 0.3 0.4 0.4]

    References:
      Goyal et al., 2017, https://arxiv.org/abs/1706.02677, section 2.2.
    """
    call = "gradual_warmup"
    low = finite(call, rate=rate)
    high = low * _factor(call, base_batch, batch, rule)
    return linear(low, high, length(call, warmup_steps=warmup_steps)) >> constant(high)


def _factor(call: str, base_batch: ArrayLike, batch: ArrayLike, rule: str) -> Number:
    one_of(call, tuple(RULES), rule=rule)
    k = ratio(positive(call, batch=batch), positive(call, base_batch=base_batch))
    # A traced size that is none is read as the smallest: a negative number has no root.
    return (above_zero(k) if isinstance(k, jax.Array) else k) ** RULES[rule]
