"""The quality of a schedule without training: a bound for the last iterate of SGD.

Consider SGD on a convex function, with steps s_0, ..., s_n at rates gamma * s_t, a distance D to
the minimum, and gradients of norms G_t. The last point at which a gradient is taken is above the
minimum by no more than

    D**2 / (2 gamma A) + gamma B / 2
    A = s_0 + ... + s_n
    B = sum_{k<n} s_k**2 G_k**2 / (s_{k+1} + ... + s_n) + s_n G_n**2

The best gamma is D / sqrt(A B), for which the bound is D sqrt(B / A). The papers print B as a
double sum; summation by parts gives this form, in which nothing cancels. `docs/convex_bound.md`
derives both.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._lists import numbers_of
from jaxsched._core._numerics import real
from jaxsched._core._padded import lengthened, size
from jaxsched._core._require import positive, refuse, static_length
from jaxsched._schedules._schedule import AnySchedule, as_schedule

AnyNorms = ArrayLike | AnySchedule | None


def convex_bound(
    schedule: AnySchedule, *, total_steps: int, grad_norms: AnyNorms = None
) -> jax.Array:
    """Returns a worst-case bound for SGD with a schedule; smaller is better.

        bound = sqrt(B / A),   A = s_0 + ... + s_n
        B = sum_{k<n} s_k**2 G_k**2 / (s_{k+1} + ... + s_n) + s_n G_n**2

    The bound is for SGD on a convex function, from a start at distance 1 from the minimum. The
    bound limits how far the function is above its minimum at the last point where a gradient is
    taken. That gradient is taken at step n, the last step with a rate s_n above zero. The bound is
    for the best constant multiple of the schedule, so the scale of the schedule does not matter.
    The bound is a worst case, meant for comparing schedules; `transfer_rate` converts a tuned rate
    from one schedule to another. `convex_bound` works under `vmap`, and can be differentiated with
    respect to the numbers of a schedule.

    Args:
      schedule: a schedule, or any function of the step, not negative at the steps below
        `total_steps`.
      total_steps: number of optimizer steps of the run, an int of at least 1.
      grad_norms: norms of the gradients: an array with one per step, or a function of the step.
        None: all are 1. Traced negative values, here and in the schedule, are read as 0.

    Returns:
      float32 (float64 under x64). Infinity for a schedule that is zero throughout.

    Raises:
      ValueError: a value of the schedule, or a norm, is negative or not finite; the number of norms
        differs from the number of steps; or `total_steps` is not an int of at least 1.

    Example:
      >>> for schedule in (constant(1.0), cosine(1.0, 0.0, 1000), linear(1.0, 0.0, 1000)):
      ...     print(f"{convex_bound(schedule, total_steps=1000):.3f}")
      0.092
      0.065
      0.063

    References:
      Defazio et al., 2023, https://arxiv.org/abs/2310.07831; Schaipp et al., 2025,
      https://arxiv.org/abs/2501.18965.
    """
    call = "convex_bound"
    steps = static_length(call, "total_steps", total_steps)
    rates = _values(call, "schedule", schedule, steps)
    return _bound(rates, _norms(call, "grad_norms", grad_norms, steps))


def transfer_rate(
    best_rate: ArrayLike,
    from_schedule: AnySchedule,
    to_schedule: AnySchedule,
    *,
    total_steps: int,
    to_steps: int | None = None,
    grad_norms: AnyNorms = None,
    to_grad_norms: AnyNorms = None,
) -> jax.Array:
    """Converts a tuned learning rate to another schedule, or to another length of run.

        rate = best_rate * peak(to_schedule) / peak(from_schedule),  peak = max_k s_k / sqrt(A B)

    Here A and B are those of `convex_bound`. Each bound is lowest at one peak rate. `best_rate` is
    multiplied by the ratio of these two peaks. The scale of either schedule does not matter.

    Args:
      best_rate: best peak rate of the tuned run, positive.
      from_schedule: schedule of the tuned run, or any function of the step.
      to_schedule: schedule of the new run.
      total_steps: optimizer steps of the tuned run, an int of at least 1.
      to_steps: optimizer steps of the new run; None: `total_steps`.
      grad_norms: norms of the gradients in the tuned run, as in `convex_bound`.
      to_grad_norms: norms of the gradients in the new run; None: the same.

    Returns:
      The peak rate for the new run, float32 (float64 under x64).

    Raises:
      ValueError: as in `convex_bound`; or `best_rate` is not positive; or a schedule, or all norms,
        are zero throughout.

    Example:
      >>> cooldown = constant(1.0, 800) >> linear(1.0, 0.0, 200)
      >>> rate = transfer_rate(0.1, linear(1.0, 0.0, 1000), cooldown, total_steps=1000)
      >>> print(f"{rate:.3f}")
      0.051
      >>> longer = constant(1.0, 3800) >> linear(1.0, 0.0, 200)
      >>> rate = transfer_rate(0.1, cooldown, longer, total_steps=1000, to_steps=4000)
      >>> print(f"{rate:.3f}")
      0.041

    References:
      Schaipp et al., 2025, https://arxiv.org/abs/2501.18965, who transfer rates in this way.
    """
    call = "transfer_rate"
    best = positive(call, "best_rate", best_rate)
    steps = static_length(call, "total_steps", total_steps)
    longer = steps if to_steps is None else static_length(call, "to_steps", to_steps)
    norms = _norms(call, "grad_norms", grad_norms, steps)
    theirs = grad_norms if to_grad_norms is None else to_grad_norms
    their_norms = _norms(call, "to_grad_norms", theirs, longer)
    rates = _values(call, "from_schedule", from_schedule, steps)
    their_rates = _values(call, "to_schedule", to_schedule, longer)
    _require_some(call, "from_schedule", from_schedule, rates)
    _require_some(call, "to_schedule", to_schedule, their_rates)
    _require_some(call, "grad_norms", grad_norms, norms)
    _require_some(call, "to_grad_norms", theirs, their_norms)
    here, there = _best_peak(rates, norms), _best_peak(their_rates, their_norms)
    return jnp.where(here > 0, real(best) * (there / jnp.where(here > 0, here, 1)), 0)


@jax.jit
def _bound(rates: jax.Array, norms: jax.Array) -> jax.Array:
    """Return the bound at its best scale, for a distance of 1."""
    norms = _of_steps(rates, norms)
    a, b = _sums(rates, norms)
    moves = a > 0
    return jnp.where(moves, jnp.max(norms) * _root(b / jnp.where(moves, a, 1)), jnp.inf)


@jax.jit
def _best_peak(rates: jax.Array, norms: jax.Array) -> jax.Array:
    """Return the peak rate at the best scale for a distance of 1; 0 if there is none."""
    norms = _of_steps(rates, norms)
    a, b = _sums(rates, norms)
    scale = jnp.max(norms) * _root(a * b)
    return jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)


def _of_steps(rates: jax.Array, norms: jax.Array) -> jax.Array:
    """Return the norms where the rate is positive; others must not decide the scale."""
    return jnp.where(rates > 0, norms, 0)


def _sums(rates: jax.Array, norms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return A and B, with both the largest rate and the largest norm scaled to 1."""
    s, g = _to_one(rates), _to_one(norms)
    later = jnp.append(jax.lax.cumsum(s, reverse=True)[1:], jnp.zeros_like(s, shape=1))
    last = later <= 0
    # Both are first brought near 1, because the gradient of a quotient squares its divisor, which
    # would overflow after a long decay.
    near = 1 / jnp.where(last, 1, jax.lax.stop_gradient(later))
    share = s * near / jnp.where(last, 1, later * near)
    return jnp.sum(s), jnp.sum(s * g**2 * jnp.where(last, 1, share))


def _to_one(x: jax.Array) -> jax.Array:
    # The results do not depend on the scale, and neither does their gradient.
    largest = jax.lax.stop_gradient(jnp.max(x))
    return x / jnp.where(largest > 0, largest, 1)


def _root(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _values(call: str, name: str, schedule: Any, steps: int) -> jax.Array:
    """Return the values of a function of the step, checked, padded with zeros."""
    place = np.arange(size(steps), dtype=np.int32)
    values = as_schedule(call, schedule)(np.minimum(place, steps - 1))
    values = _not_negative(call, name, schedule, values, f" at the steps below {steps}")
    return jnp.where(place < steps, values, 0)  # at a rate of zero nothing is added to A and B


def _norms(call: str, name: str, norms: Any, steps: int) -> jax.Array:
    """Return one norm per step, checked; the padding is never used."""
    if norms is None:
        return real(np.ones(size(steps)))
    if callable(norms):
        return _values(call, name, norms, steps)
    listed = norms_of(call, name, norms)
    if listed.shape != (steps,):
        must = f"have one norm for each of {steps} steps, shape {(steps,)}"
        raise ValueError(refuse(call, name, must, norms))
    return _not_negative(call, name, norms, jnp.asarray(lengthened(listed)))


def norms_of(call: str, name: str, norms: Any) -> np.ndarray | jax.Array:
    """Return a list of finite numbers, or an array of them, as an array."""
    numbers = numbers_of(call, name, norms)
    is_known = isinstance(numbers, np.ndarray)  # can be padded before it is moved to a device
    return np.asarray(numbers, jnp.result_type(float)) if is_known else real(numbers)


def _not_negative(
    call: str, name: str, given: Any, values: jax.Array, where: str = ""
) -> jax.Array:
    fine = jnp.all(jnp.isfinite(values) & (values >= 0))
    # The message is built only for an error, because the text of a long table is slow.
    if not isinstance(fine, Tracer) and not fine:
        raise ValueError(refuse(call, name, f"be finite and not negative{where}", given))
    return jnp.maximum(values, 0)


def _require_some(call: str, name: str, given: Any, values: jax.Array) -> None:
    some = jnp.any(values > 0)
    # The message is built only for an error, because the text of a long table is slow.
    if not isinstance(some, Tracer) and not some:
        raise ValueError(refuse(call, name, "be positive at some step", given))
