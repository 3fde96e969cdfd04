"""Recipes: names for common compositions, such as warmup followed by cosine.

By default a warmup does not start at zero. `init_value=None` means peak_value / (warmup_steps + 1),
the first of equal steps up to the peak, which is reached exactly at step `warmup_steps`. The end
value is reached exactly at step `total_steps`, which includes the warmup.

The arguments `warmup` and `decay` take any curve: a function (init_value, end_value, steps).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._numerics import above_zero, real
from jaxsched._core._numerics import ratio as divided
from jaxsched._core._require import Number, Whole, finite, flag, length, positive, refuse, require
from jaxsched._schedules._chain import Then
from jaxsched._schedules._curves import cosine, linear, one_minus_sqrt, polynomial
from jaxsched._schedules._restarts import cycle
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._unbounded import constant, exponential_decay, inverse_sqrt

CurveFactory = Callable[..., Schedule]


def warmup_constant(
    peak_value: ArrayLike,
    *,
    warmup_steps: ArrayLike,
    init_value: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by a constant.

        warmup(init_value, peak_value, warmup_steps) >> constant(peak_value)

    Args:
      peak_value: value from step `warmup_steps` on.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      warmup: the curve of the warmup.

    Returns:
      An unbounded schedule.

    Raises:
      ValueError: a number is not finite, or `warmup_steps` is negative or not an integer.

    Example:
      >>> print(warmup_constant(1.0, warmup_steps=3)(jnp.arange(5)))
      [0.25 0.5  0.75 1.   1.  ]

    References:
      `optax.warmup_constant_schedule`.
    """
    up = _warmup("warmup_constant", init_value, peak_value, warmup_steps, warmup)
    return up >> constant(peak_value)


def warmup_linear(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    init_value: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by a linear decay.

        warmup(init_value, peak_value, warmup_steps)
        >> linear(peak_value, end_value, total_steps - warmup_steps)

    Args:
      peak_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps, at least `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      end_value: value from step `total_steps` on.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      warmup: the curve of the warmup.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, or the lengths are not integers in this order.

    Example:
      >>> print(warmup_linear(1.0, total_steps=5, warmup_steps=1)(jnp.arange(6)))
      [0.5  1.   0.75 0.5  0.25 0.  ]

    References:
      `transformers.get_linear_schedule_with_warmup`.
    """
    call = "warmup_linear"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    end = finite(call, "end_value", end_value)
    rest = _rest(call, "total_steps", total_steps, length(call, "warmup_steps", warmup_steps))
    return up >> linear(peak_value, end, rest)


def warmup_cosine(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    init_value: ArrayLike | None = None,
    exponent: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by a cosine decay.

        warmup(init_value, peak_value, warmup_steps)
        >> cosine(peak_value, end_value, total_steps - warmup_steps, exponent=exponent)

    Args:
      peak_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps, at least `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      end_value: value from step `total_steps` on.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      exponent: power of the cosine factor, > 0; None means 1.
      warmup: the curve of the warmup.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, or the lengths are not integers in this order.

    Example:
      >>> values = warmup_cosine(1.0, total_steps=5, warmup_steps=1)(jnp.arange(6))
      >>> print(np.asarray(values).round(3))
      [0.5   1.    0.854 0.5   0.146 0.   ]

    References:
      `optax.warmup_cosine_decay_schedule`, whose `decay_steps` is `total_steps` here.
    """
    call = "warmup_cosine"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    rest = _rest(call, "total_steps", total_steps, length(call, "warmup_steps", warmup_steps))
    end = finite(call, "end_value", end_value)
    exponent = None if exponent is None else positive(call, "exponent", exponent)
    return up >> cosine(peak_value, end, rest, exponent=exponent)


def warmup_polynomial(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike,
    power: ArrayLike,
    end_value: ArrayLike = 0.0,
    init_value: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by a polynomial decay.

        warmup(init_value, peak_value, warmup_steps)
        >> polynomial(peak_value, end_value, total_steps - warmup_steps, power=power)

    Args:
      peak_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps, at least `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      power: exponent of the time left, > 0.
      end_value: value from step `total_steps` on.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      warmup: the curve of the warmup.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, `power` is not positive, or the lengths are not integers
        in this order.

    Example:
      >>> squared = warmup_polynomial(1.0, total_steps=5, warmup_steps=1, power=2.0)
      >>> print(np.asarray(squared(jnp.arange(6))).round(3))
      [0.5   1.    0.562 0.25  0.062 0.   ]

    References:
      `transformers.get_polynomial_decay_schedule_with_warmup`.
    """
    call = "warmup_polynomial"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    rest = _rest(call, "total_steps", total_steps, length(call, "warmup_steps", warmup_steps))
    end = finite(call, "end_value", end_value)
    return up >> polynomial(peak_value, end, rest, power=positive(call, "power", power))


def warmup_exponential(
    peak_value: ArrayLike,
    *,
    warmup_steps: ArrayLike,
    decay_rate: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike | None = None,
    staircase: bool = False,
    init_value: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by an exponential decay.

        warmup(init_value, peak_value, warmup_steps)
        >> exponential_decay(peak_value, decay_rate=decay_rate, decay_steps=decay_steps, ...)

    Args:
      peak_value: value at step `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      decay_rate: factor per `decay_steps` steps, > 0.
      decay_steps: optimizer steps per factor, at least 1.
      end_value: lower limit of a decay, or upper limit of a growth; None: no limit.
      staircase: whether to count only whole multiples of `decay_steps`.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      warmup: the curve of the warmup.

    Returns:
      An unbounded schedule.

    Raises:
      ValueError: a number is not finite, or is not positive although it must be.

    Example:
      >>> halved = warmup_exponential(1.0, warmup_steps=1, decay_rate=0.5, decay_steps=1)
      >>> print(np.asarray(halved(jnp.arange(4))).round(3))
      [0.5  1.   0.5  0.25]

    References:
      `optax.warmup_exponential_decay_schedule`.
    """
    call = "warmup_exponential"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    positive(call, "decay_rate", decay_rate)
    return up >> exponential_decay(
        peak_value,
        decay_rate=decay_rate,
        decay_steps=length(call, "decay_steps", decay_steps, least=1),
        end_value=None if end_value is None else finite(call, "end_value", end_value),
        staircase=flag(call, "staircase", staircase),
    )


def warmup_inverse_sqrt(
    peak_value: ArrayLike,
    *,
    warmup_steps: ArrayLike,
    timescale: ArrayLike | None = None,
    init_value: ArrayLike | None = None,
    warmup: CurveFactory = linear,
) -> Schedule:
    """A warmup followed by an inverse-square-root decay.

        warmup(init_value, peak_value, warmup_steps)
        >> inverse_sqrt(peak_value, timescale=timescale)

    Args:
      peak_value: value at step `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      timescale: steps after which the value has fallen to 1/sqrt(2) of the peak, real, > 0. None
        means `warmup_steps`, which makes the decay peak_value * sqrt(warmup_steps / t).
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      warmup: the curve of the warmup.

    Returns:
      An unbounded schedule.

    Raises:
      ValueError: a number is not finite, or `timescale` (or `warmup_steps` in its place) is not
        positive.

    Example:
      >>> values = warmup_inverse_sqrt(1.0, warmup_steps=1)(jnp.array([0, 1, 4, 9]))
      >>> print(np.asarray(values).round(3))
      [0.5   1.    0.5   0.333]

    References:
      `transformers.get_inverse_sqrt_schedule`.
    """
    call = "warmup_inverse_sqrt"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    if timescale is None:
        remedy = "It is also the timescale of the decay: give `timescale=...` for no warmup."
        timescale = positive(call, "warmup_steps", warmup_steps, remedy=remedy)
    return up >> inverse_sqrt(peak_value, timescale=positive(call, "timescale", timescale))


def warmup_stable_decay(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    init_value: ArrayLike | None = None,
    decay: CurveFactory = one_minus_sqrt,
    warmup: CurveFactory = linear,
) -> Schedule:
    """Warmup-stable-decay (WSD): a warmup, a constant, then a cooldown (`decay=linear`: trapezoid).

        warmup(init_value, peak_value, warmup_steps)
        >> constant(peak_value, total_steps - warmup_steps - decay_steps)
        >> decay(peak_value, end_value, decay_steps)

    Args:
      peak_value: value of the stable phase.
      total_steps: length of the whole schedule in optimizer steps, at least the sum of the other
        two.
      warmup_steps: length of the warmup in optimizer steps, not negative.
      decay_steps: length of the cooldown in optimizer steps, not negative.
      end_value: value from step `total_steps` on.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      decay: the curve of the cooldown: `linear`, `cosine` or `one_minus_sqrt`. For an exponential
        cooldown, use `geometric` with an `end_value` above 0.
      warmup: the curve of the warmup.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, or the lengths are not integers that fit together.

    Example:
      >>> wsd = warmup_stable_decay(1.0, total_steps=6, warmup_steps=1, decay_steps=2, decay=linear)
      >>> print(wsd(jnp.arange(7)))
      [0.5 1.  1.  1.  1.  0.5 0. ]

    References:
      Hu et al., MiniCPM, 2024, https://arxiv.org/abs/2404.06395, section 4.2; Hägele et al., 2024,
      https://arxiv.org/abs/2405.18392, for the cooldown.
    """
    call = "warmup_stable_decay"
    up = _warmup(call, init_value, peak_value, warmup_steps, warmup)
    decay_steps = length(call, "decay_steps", decay_steps)
    warmup_steps = length(call, "warmup_steps", warmup_steps)
    stable = _rest(call, "total_steps", total_steps, warmup_steps, decay_steps)
    end_value = finite(call, "end_value", end_value)
    down = _curve(call, "decay", decay)(peak_value, end_value, decay_steps)
    return up >> constant(peak_value, stable) >> down


def warmup_cosine_restarts(
    peak_value: ArrayLike,
    *,
    cycle_steps: ArrayLike,
    warmup_steps: ArrayLike = 0,
    mult: ArrayLike = 1,
    decay: ArrayLike = 1.0,
    cycles: ArrayLike | None = None,
    end_value: ArrayLike = 0.0,
    init_value: ArrayLike | None = None,
    rewarm: bool = True,
) -> Schedule:
    """Cosine decay with warm restarts (SGDR), with a warmup in each cycle or only in the first.

        rewarm:  (warmup >> cosine).cycle(mult, decay, cycles), where a warmup and its cosine are
                 `cycle_steps` long together; the warmup keeps its length in longer cycles
        else:    warmup >> cosine.cycle(mult, decay, cycles), where the cosine is `cycle_steps` long

    With a decay, the peaks fall towards `end_value`, which stays the same in every cycle: the
    distance of the schedule from `end_value` is multiplied by decay**i in cycle i.

    Args:
      peak_value: the first peak.
      cycle_steps: length of the first cycle in optimizer steps, at least 1.
      warmup_steps: length of a warmup in optimizer steps, not negative.
      mult: factor by which each cycle is longer than the previous one.
      decay: factor on the height above `end_value`, from one cycle to the next.
      cycles: number of cycles, after which the end is held; three restarts are `cycles=4`. None:
        unbounded.
      end_value: value at the end of each cycle.
      init_value: value at step 0; None is peak_value / (warmup_steps + 1).
      rewarm: whether every cycle has a warmup, or only the first.

    Returns:
      A schedule that ends with its last cycle; unbounded if `cycles` is None.

    Raises:
      ValueError: a number is not finite, or is not positive although it must be, or the lengths are
        not integers that fit together.

    Example:
      >>> restarts = warmup_cosine_restarts(1.0, cycle_steps=4, warmup_steps=2, decay=0.5)
      >>> print(np.asarray(restarts(jnp.arange(8))).round(3))
      [0.333 0.667 1.    0.5   0.167 0.333 0.5   0.25 ]

    References:
      Loshchilov and Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983, section 3.
    """
    call = "warmup_cosine_restarts"
    peak, end = finite(call, "peak_value", peak_value), finite(call, "end_value", end_value)
    warm = length(call, "warmup_steps", warmup_steps)
    whole = length(call, "cycle_steps", cycle_steps, least=1)
    rest = _rest(call, "cycle_steps", whole, warm) if flag(call, "rewarm", rewarm) else whole
    # What decays is the height above the end value, which is added afterwards.
    same_height = isinstance(decay, (int, float)) and decay == 1
    floor = 0.0 if same_height else end
    up = linear(_first(call, init_value, peak, warm) - floor, peak - floor, warm)
    down = cosine(peak - floor, end - floor, rest)
    if rewarm:
        height = cycle(up >> down, mult, decay, cycles, call)
    else:
        height = up >> cycle(down, mult, decay, cycles, call)
    return height if isinstance(floor, float) and not floor else height + floor


def one_cycle(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    init_value: ArrayLike | None = None,
    end_value: ArrayLike | None = None,
    phases: int = 2,
    curve: CurveFactory = cosine,
) -> Schedule:
    """The 1cycle schedule (super-convergence): up to the peak, then down to the end.

        2 phases:  curve(init, peak, warmup) >> curve(peak, end, rest)
        3 phases:  curve(init, peak, warmup) >> curve(peak, init, warmup) >> curve(init, end, rest)

    Args:
      peak_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps.
      warmup_steps: length of the rise in optimizer steps; None is 3/10 of `total_steps`.
      init_value: value at step 0; None is peak_value / 25.
      end_value: value from step `total_steps` on; None is init_value / 10_000.
      phases: 2 as in fastai, torch and `optax.cosine_onecycle_schedule`; 3 as in the paper: the
        value falls to the initial value in `warmup_steps` steps, and then to the end value.
      curve: the curve of every phase.

    Returns:
      A schedule that ends at `total_steps`. For the momentum, use `one_cycle_momentum` with the
      same lengths.

    Raises:
      ValueError: a number is not finite, the lengths do not fit, or `phases` is neither 2 nor 3.

    Example:
      >>> values = one_cycle(1.0, total_steps=4, warmup_steps=2, curve=linear)(jnp.arange(5))
      >>> print(np.asarray(values).round(3))
      [0.04 0.52 1.   0.5  0.  ]

    References:
      Smith and Topin, Super-Convergence, 2019, https://arxiv.org/abs/1708.07120;
      `torch.optim.lr_scheduler.OneCycleLR`.
    """
    call = "one_cycle"
    peak = finite(call, "peak_value", peak_value)
    init = divided(peak, 25) if init_value is None else finite(call, "init_value", init_value)
    end = divided(init, 10_000) if end_value is None else finite(call, "end_value", end_value)
    values = (init, peak, end) if phases == 2 else (init, peak, init, end)
    return _phases(call, values, total_steps, warmup_steps, phases, curve)


def one_cycle_momentum(
    init_value: ArrayLike = 0.95,
    trough_value: ArrayLike = 0.85,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    phases: int = 2,
    curve: CurveFactory = cosine,
) -> Schedule:
    """The momentum (or Adam's b1) of the 1cycle schedule: falls while the rate rises, then returns.

        2 phases:  curve(init, trough, warmup) >> curve(trough, init, rest)
        3 phases:  down and up again in `warmup` steps each, >> curve(init, init, rest)

    Args:
      init_value: value at step 0 and at the end.
      trough_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps.
      warmup_steps: length of the fall (the rate's rise); None is 3/10 of `total_steps`.
      phases: 2 or 3, as in `one_cycle`.
      curve: the curve of every phase.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, the lengths do not fit, or `phases` is neither 2 nor 3.

    Example:
      >>> print(one_cycle_momentum(total_steps=4, warmup_steps=2, curve=linear)(jnp.arange(5)))
      [0.95 0.9  0.85 0.9  0.95]

    References:
      Smith, A disciplined approach to neural network hyper-parameters, 2018,
      https://arxiv.org/abs/1803.09820, section 4.3.
    """
    call = "one_cycle_momentum"
    init = finite(call, "init_value", init_value)
    trough = finite(call, "trough_value", trough_value)
    values = (init, trough, init) if phases == 2 else (init, trough, init, init)
    return _phases(call, values, total_steps, warmup_steps, phases, curve)


def noam(factor: ArrayLike = 1.0, *, model_size: ArrayLike, warmup_steps: ArrayLike) -> Schedule:
    """The Noam schedule of the Transformer: a linear warmup, then inverse-square-root decay.

        value(t) = factor / sqrt(model_size) * min(n**-0.5, n * warmup_steps**-1.5),    n = t + 1

    The peak is factor / sqrt(model_size * warmup_steps). It is at step `warmup_steps - 1`, because
    the paper counts from 1.

    Args:
      factor: scale of the schedule.
      model_size: width of the model, > 0.
      warmup_steps: length of the warmup in optimizer steps, at least 1.

    Returns:
      An unbounded schedule.

    Raises:
      ValueError: a number is not finite or not positive.

    Example:
      >>> print(np.asarray(noam(model_size=4, warmup_steps=4)(jnp.array([0, 1, 3, 15]))).round(3))
      [0.062 0.125 0.25  0.125]

    References:
      Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, eq. 3.
    """
    call = "noam"
    size = positive(call, "model_size", model_size)
    steps = length(call, "warmup_steps", warmup_steps, least=1)
    steps = steps if isinstance(steps, int) else jnp.maximum(steps, 1)
    peak = divided(finite(call, "factor", factor), _root(size, steps))
    return linear(divided(peak, steps), peak, steps - 1) >> inverse_sqrt(peak, timescale=steps)


def bert(
    peak_value: ArrayLike,
    *,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    decay: CurveFactory = linear,
) -> Schedule:
    """The schedule for fine-tuning BERT: a warmup over the first tenth, then a decay to zero.

        linear(init, peak_value, warmup_steps) >> decay(peak_value, 0, total_steps - warmup_steps)

    Here init is peak_value / (warmup_steps + 1).

    Args:
      peak_value: value at step `warmup_steps`.
      total_steps: length of the whole schedule in optimizer steps, at least `warmup_steps`.
      warmup_steps: length of the warmup in optimizer steps; None is a tenth of `total_steps`,
        rounded up.
      decay: the curve of the decay: `linear` or `cosine`.

    Returns:
      A schedule that ends at `total_steps`.

    Raises:
      ValueError: a number is not finite, or the lengths do not fit together.

    Example:
      >>> print(np.asarray(bert(1.0, total_steps=10)(jnp.array([0, 1, 4, 10]))).round(3))
      [0.5   1.    0.667 0.   ]

    References:
      Devlin et al., BERT, 2019, https://arxiv.org/abs/1810.04805, section A.2.
    """
    call = "bert"
    warmup_steps = _share(call, total_steps, warmup_steps, tenths=1)
    up = _warmup(call, None, peak_value, warmup_steps, linear)
    rest = _rest(call, "total_steps", total_steps, length(call, "warmup_steps", warmup_steps))
    return up >> _curve(call, "decay", decay)(peak_value, 0.0, rest)


def cyclic(
    low: ArrayLike,
    high: ArrayLike,
    *,
    up_steps: ArrayLike,
    down_steps: ArrayLike | None = None,
    mult: ArrayLike = 1,
    decay: ArrayLike | None = None,
    step_decay: ArrayLike | None = None,
) -> Schedule:
    """Cyclical learning rates (CLR): triangles between two values.

        (linear(low, high, up_steps) >> linear(high, low, down_steps)).cycle()

    With `mult`, each triangle is longer than the one before; its rise and its fall are stretched
    equally. With `decay`, the triangles shrink towards `low`: the value in cycle i is
    low + (high - low) * triangle * decay**i. With `step_decay`, the value at step t is
    low + (high - low) * triangle * step_decay**t.

    Args:
      low: value at the foot of each triangle.
      high: value at the top of the first triangle.
      up_steps: length of the rise in optimizer steps, not negative.
      down_steps: length of the fall; None is `up_steps`.
      mult: factor from the length of one triangle to the next.
      decay: factor on the height per cycle, > 0; 1/2 is torch's "triangular2". None: no decay.
      step_decay: factor on the height per step, > 0, as torch's "exp_range". None: no decay.

    Returns:
      An unbounded schedule.

    Raises:
      ValueError: a number is not finite, or is not positive although it must be, or a cycle has no
        steps.

    Example:
      >>> print(cyclic(0.0, 1.0, up_steps=2, decay=0.5)(jnp.arange(9)))
      [0.   0.5  1.   0.5  0.   0.25 0.5  0.25 0.  ]

    References:
      Smith, Cyclical Learning Rates, 2017, https://arxiv.org/abs/1506.01186, section 3;
      `torch.optim.lr_scheduler.CyclicLR`.
    """
    call = "cyclic"
    low, high = finite(call, "low", low), finite(call, "high", high)
    up_steps = length(call, "up_steps", up_steps)
    down_steps = up_steps if down_steps is None else length(call, "down_steps", down_steps)
    plain = decay is None and step_decay is None
    foot, top = (low, high) if plain else (0.0, high - low)
    triangle = linear(foot, top, up_steps) >> linear(top, foot, down_steps)
    if not (isinstance(mult, int) and mult == 1):
        triangle = triangle.proportional()
    height = cycle(triangle, mult, 1.0 if decay is None else decay, None, call)
    if plain:
        return height
    if step_decay is None:
        return low + height
    positive(call, "step_decay", step_decay)
    return low + height * exponential_decay(1.0, decay_rate=step_decay, decay_steps=1)


def _warmup(
    call: str,
    init_value: ArrayLike | None,
    peak_value: ArrayLike,
    steps: ArrayLike,
    warmup: CurveFactory,
) -> Schedule:
    peak, steps = finite(call, "peak_value", peak_value), length(call, "warmup_steps", steps)
    return _curve(call, "warmup", warmup)(_first(call, init_value, peak, steps), peak, steps)


def _first(call: str, init_value: ArrayLike | None, peak: Number, steps: Whole) -> Number:
    """Return the value at step 0: by default one step above zero, on the line to the peak."""
    if init_value is not None:
        return finite(call, "init_value", init_value)
    return divided(peak, _clock.plus(steps, 1))


def _curve(call: str, name: str, curve: Any) -> CurveFactory:
    remedy = "Give a curve such as `linear`, `cosine` or `partial(polynomial, power=2.0)`."
    made = callable(curve) and not isinstance(curve, Schedule)
    require(made, refuse(call, name, "be a function (init_value, end_value, steps)", curve, remedy))
    return cast(CurveFactory, curve)


def _rest(call: str, name: str, given: Any, *parts: Whole) -> Whole:
    """Return the number of steps that are left of the whole after its parts."""
    taken = functools.reduce(_clock.plus, parts)
    steps = length(call, name, given)
    require(
        steps >= taken, refuse(call, name, f"be at least {taken}, the steps of its parts", given)
    )
    return _clock.between(taken, steps)


def _root(size: Number, steps: Whole) -> Number:
    if isinstance(size, jax.Array) or isinstance(steps, jax.Array):
        return jnp.sqrt(above_zero(size) * real(steps))
    return math.sqrt(size * steps)


def _share(
    call: str,
    total_steps: ArrayLike,
    warmup_steps: ArrayLike | None,
    tenths: int,
    turns: int = 1,
) -> Whole:
    """Return the length of a warmup: if None, `tenths` of the total, at most total // turns."""
    if warmup_steps is not None:
        return length(call, "warmup_steps", warmup_steps)
    total = length(call, "total_steps", total_steps)
    share = total // 10 * tenths - (-(total % 10) * tenths // 10)  # rounded up
    most = total // turns
    return min(share, most) if isinstance(share, int) else jnp.minimum(share, most)


def _phases(
    call: str,
    values: tuple[Any, ...],
    total_steps: ArrayLike,
    warmup_steps: ArrayLike | None,
    phases: int,
    curve: CurveFactory,
) -> Schedule:
    require(phases in (2, 3), refuse(call, "phases", "be 2 or 3", phases))
    up = _share(call, total_steps, warmup_steps, tenths=3, turns=phases - 1)
    turns = (up,) * (phases - 1)
    lengths = (*turns, _rest(call, "total_steps", total_steps, *turns))
    curve = _curve(call, "curve", curve)
    pieces = [curve(a, b, n) for a, b, n in zip(values[:-1], values[1:], lengths, strict=True)]
    return Then.of(*pieces)
