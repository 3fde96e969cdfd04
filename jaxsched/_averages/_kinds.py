"""The averages: the weights of the iterates.

Let x_j be the parameters after j updates. An average is a weighted mean of some of these iterates.
It is kept while the model trains. Each iterate moves it by the share of its weight c_j in the sum
of all weights so far:

    mean <- mean + c_j / total * (x_j - mean)

The weights are these:

    exponential     c_j = 1, and each older weight times 2**(-1 / half_life)
    uniform         c_j = 1 after `start`
    merged decay    c_j = w_{j-1} - w_j, with 1 before the first w and 0 after the last

The division by the total is also known as bias correction. The last line follows from summation by
parts. Let u_t be the update at step t, so that x_{t+1} = x_t + u_t. A run with the
same gradients whose rate is w_t times as high ends, at step T, at

    x_0 + w_0 u_0 + ... + w_{T-1} u_{T-1}
        = (1 - w_0) x_0 + (w_0 - w_1) x_1 + ... + (w_{T-2} - w_{T-1}) x_{T-1} + w_{T-1} x_T,

because each update is the difference of two iterates. The weights up to x_j add up to 1 - w_j, and
all of them to 1. If w rises at a step, the weight there is negative, and the sum of the weights so
far may be zero. There is no mean then, so the weighted sum itself is kept, which loses more digits
to rounding.

If only every k-th iterate is taken, then k updates share one w: the mean of theirs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length, held, known
from jaxsched._core._fields import choice_field, length_field
from jaxsched._core._numerics import above_zero, real
from jaxsched._core._require import finite, length, refuse, require
from jaxsched._core._writing import Written, snake, text
from jaxsched._schedules._foreseen import foreseen
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule, is_number
from jaxsched._schedules._unbounded import Constant, constant

_ROUNDING = 1e-6  # of a schedule
_LOW = 0.2  # no decay stays below this; a learning rate does


class Share(NamedTuple):
    """What an iterate does to an average."""

    share: jax.Array  # its share in all weights so far; of a sum, its weight
    total: jax.Array  # the sum of all weights so far


class Average(Written):
    """Base class of the averages that `average(tx, ...)` keeps."""

    @property
    def horizon(self) -> int | None:
        """The step at which the average is complete; None if it is a running average."""
        return None

    @property
    def is_sum(self) -> bool:
        """Whether the weighted sum is kept, instead of the weighted mean so far."""
        return False

    @property
    def name(self) -> str:
        """Its name in the optimizer state."""
        return snake(type(self).__name__) if self.horizon is None else at(self.horizon)

    def first(self, every: int) -> jax.Array:
        """Return the weight of the initial parameters."""
        return real(0.0)

    def taken(self, total: jax.Array, j: jax.Array, every: int) -> Share:
        """Return the share of the iterate after `j` updates, which is a multiple of `every`.

        `total` is the sum of all weights before it.
        """
        raise NotImplementedError

    def is_late(self, t: jax.Array) -> jax.Array:
        """Return whether the sums lack iterates if they begin with the update at step `t`."""
        return jnp.zeros((), bool)


class ExponentialAverage(Average):
    """total <- 2**(-every / half_life) * total + 1."""

    half_life: Schedule

    def taken(self, total: jax.Array, j: jax.Array, every: int) -> Share:
        kept = jnp.exp2(-every / above_zero(self.half_life._grouped().at(j)))
        return _of_one(kept * total + 1)

    def _text(self) -> str:
        constant = self.half_life if isinstance(self.half_life, Constant) else None
        return f"exponential_average({text(constant.value if constant else self.half_life)})"


class UniformAverage(Average):
    """total <- total + 1. Up to `start`, only the latest iterate counts."""

    start: Length = length_field(kw_only=False)

    def taken(self, total: jax.Array, j: jax.Array, every: int) -> Share:
        return _of_one(jnp.where(j - every > _clock.read(self.start), total, 0) + 1)


class MergedDecay(Average):
    """c = w before the iterate - w after it, where w is the mean over `every` updates."""

    decay: Schedule
    rises: bool = choice_field(default=False)  # whether w rises at some step, or is above 1
    begins: int = choice_field(default=_clock.LAST)  # the first step at which w is not 1

    @property
    def horizon(self) -> int:
        return int(known(self.decay.steps))

    @property
    def is_sum(self) -> bool:
        return self.rises

    def first(self, every: int) -> jax.Array:
        return 1 - self._after(jnp.zeros((), jnp.int32), every)

    def taken(self, total: jax.Array, j: jax.Array, every: int) -> Share:
        after = self._after(j, every)
        weight = self._after(j - every, every) - after
        # The sum of the weights is 1 - w, which loses no digits, however many they are.
        share = weight if self.rises else weight / jnp.where(after < 1, 1 - after, 1)
        return Share(share, total + weight)

    def is_late(self, t: jax.Array) -> jax.Array:
        return t > self.begins

    def _after(self, t: jax.Array, every: int) -> jax.Array:
        """Return the mean w of the `every` updates from step `t` on; 0 from the horizon on."""
        steps = _clock.read(t + jnp.arange(every, dtype=t.dtype))
        ratios = real(self.decay._grouped().at(steps))
        return jnp.where(t < self.horizon, ratios.mean(), 0)

    def _text(self) -> str:
        return f"merged_decay({text(self.decay)})"


def _of_one(total: jax.Array) -> Share:
    """Return the share of an iterate with the weight 1."""
    return Share(1 / total, total)


def at(horizon: int) -> str:
    """Return the name of the average that is complete at a step."""
    return f"at_{horizon}"


def horizon_of(name: str) -> int | None:
    """Return the step at which the average of this name is complete; None if it is running."""
    prefix, _, horizon = name.partition("_")
    return int(horizon) if prefix == "at" else None


def exponential_average(half_life: ArrayLike | AnySchedule) -> Average:
    """An exponential moving average of the parameters.

        (x_t + b x_{t-1} + ... + b**(t-1) x_1) / (1 + b + ... + b**(t-1)),   b = 2**(-1 / half_life)

    x_t are the parameters after t updates. The initial parameters do not count, so there is no bias
    towards them. An iterate that is `half_life` steps old counts half as much as the latest one.
    Other libraries take the decay b, which has a half-life of `log(0.5) / log(b)` steps: 693 for
    0.999, and 6931 for 0.9999.

    Args:
      half_life: half-life in steps, at least 1: a number or a schedule. With a schedule that grows
        with the step, the average spans a constant share of the run.

    Returns:
      An average for `average(tx, ...)`.

    Raises:
      ValueError: `half_life` is below 1 at some step.

    Example:
      >>> tx = average(optax.sgd(1.0), exponential_average(1))
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params, averaged_params(state))  # (3 + 2 / 2 + 1 / 4) / (1 + 1 / 2 + 1 / 4)
      [3.] [2.429]

    References:
      Polyak and Juditsky, 1992, average iterates. Karras et al., 2024,
      https://arxiv.org/abs/2312.02696, let the half-life grow with the step.
      `optax.ema` averages updates, and not parameters.
    """
    call = "exponential_average"
    remedy = "It is a number of steps: a decay of 0.999 is a half-life of 693."
    number = is_number(half_life)
    known = number or callable(half_life)
    require(known, refuse(call, "half_life", "be a number or a schedule", half_life, remedy))
    given: Any = constant(finite(call, "half_life", cast(Any, half_life))) if number else half_life
    schedule = as_schedule(call, given)
    seen = foreseen(schedule)
    long = seen is None or bool((seen.values >= 1).all())
    require(long, refuse(call, "half_life", "be at least 1 at every step", half_life, remedy))
    return ExponentialAverage(schedule)


def uniform_average(start: ArrayLike = 0) -> Average:
    """The mean of all parameters after some step.

        (x_{start+1} + ... + x_t) / (t - start)

    x_t are the parameters after t updates. Up to step `start`, it is the latest parameters.

    Args:
      start: number of steps before the first iterate that counts, not negative.

    Returns:
      An average for `average(tx, ...)`.

    Raises:
      ValueError: `start` is negative or not an integer.

    Example:
      >>> tx = average(optax.sgd(1.0), uniform_average(start=1))
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params, averaged_params(state))  # (3 + 2) / 2
      [3.] [2.5]

    References:
      Izmailov et al., 2018, https://arxiv.org/abs/1803.05407 (stochastic weight averaging). See
      also `snapshot`, which takes one iterate of each cycle.
    """
    return UniformAverage(held(length("uniform_average", "start", start)))


def merged_decay(decay: AnySchedule) -> Average:
    """An average of the iterates that approximates the end of a run with a decaying rate.

        (1 - w_0) x_0 + (w_0 - w_1) x_1 + ... + (w_{T-2} - w_{T-1}) x_{T-1} + w_{T-1} x_T

    x_t are the parameters after t updates, w_t is `decay` at step t, and T is `decay.steps`, the
    horizon. If the gradients did not depend on the parameters, this sum would be the parameters at
    step T of a run with w_t times the learning rate. Real gradients depend on them, so the two
    differ; the guide to averages shows by how much.

    The decay is relative: 1 means the rate that the run uses. For a run with the schedule `rate`
    and the wanted schedule `target`, pass `(target / rate).take(target.steps)`.

    The sum is exact in this sense for every optimizer whose updates are the learning rate times a
    function of the gradients, such as SGD with momentum or Adam. With decoupled weight decay it is
    not, because that decay depends on the parameters. Changes of the parameters outside the
    optimizer are not part of the sum.

    If w rises at a step, the iterate there has a negative weight. The sum may then be outside the
    range of the iterates, and the noise in it grows.

    Args:
      decay: a schedule with an end: the target rate divided by the rate that the run uses.

    Returns:
      An average for `average(tx, ...)`, which `average_at(opt_state, horizon)` reads.

    Raises:
      ValueError: `decay` is not a schedule, or has no end; or it is never above 0.2, which suggests
        a learning rate and not a factor. A division by a schedule that is zero at some step is an
        error too.

    Example:
      >>> decay = constant(1.0, 2) >> linear(1.0, 0.0, 2)  # at step 4: 1 + 1 + 1 + 0.5 updates
      >>> tx = average(optax.sgd(1.0), merged_decay(decay))
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(5):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params, average_at(state, 4))
      [5.] [3.5]

    References:
      Tian et al., 2025, https://arxiv.org/abs/2507.17634, section 3 (WSM: decay by merging
      checkpoints).
    """
    return merge_of("merged_decay", decay)


def merge_of(call: str, decay: Any) -> MergedDecay:
    """Return the average of a decay, checked."""
    schedule = as_schedule(call, decay)
    steps, remedy = schedule.steps, "Say how long: `.take(steps)`."
    require(steps is not None, refuse(call, "decay", "have an end", schedule, remedy))
    static = isinstance(steps, int) and steps > 0
    require(static, refuse(call, "decay", "have a positive length that is not traced", schedule))
    seen = foreseen(schedule)
    if seen is None:  # a sum is right for all decays
        return MergedDecay(schedule, rises=True)
    remedy = "It is relative to the rate of the run: divide a learning rate by that rate."
    relative = seen.values.max() > _LOW
    require(relative, refuse(call, "decay", "be above 0.2 somewhere", schedule, remedy))
    rises = np.diff(seen.values, prepend=1.0).max() > _ROUNDING
    changed = seen.steps[abs(seen.values - 1) > _ROUNDING]
    begins = int(changed[0]) if changed.size else _clock.LAST
    return MergedDecay(schedule, rises=bool(rises), begins=begins)
