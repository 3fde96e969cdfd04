"""Twins of `timm.scheduler` (compared with timm 1.0.31).

The first argument is the base rate, which timm reads from its optimizer. In timm, the lengths
`..._t` are in the unit of t in `step(t)`, by default epochs. In a twin they are optimizer steps, so
multiply them by the steps per epoch. As in timm, t = 0 is the first step. `create_scheduler_v2` is
an exception: unless you pass `step_on_epochs=False`, its steps are epochs.

If `warmup_prefix` is False, as in most defaults, the warmup replaces the first steps of the curve.
At the end of the warmup, the rate can then jump onto the curve; only with `TanhLRScheduler` it
never jumps. If `warmup_prefix` is True, the curve starts after the warmup. timm's noise comes from
torch's generator, so a twin refuses it; multiply the schedule by noise of your own. For a group
with an `lr_scale`, multiply the schedule by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._clock import plus
from jaxsched._core._numerics import real
from jaxsched._core._require import (
    PROPER,
    Whole,
    finite,
    flag,
    length,
    one_of,
    positive,
    refuse,
    require,
    within,
)
from jaxsched._rules._plateau import reduce_on_plateau
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._compose import maximum
from jaxsched._schedules._curves import cosine, geometric, linear, one_minus_sqrt, polynomial, tanh
from jaxsched._schedules._piecewise import piecewise_constant
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._unbounded import constant, inverse_sqrt, power_law, step_decay
from jaxsched.compat._common import (
    concrete,
    explain,
    is_zero,
    lowest_scale,
    own,
    rated,
    traced,
    whole,
)

Noise = Any


@rated
def CosineLRScheduler(
    base_lr: ArrayLike,
    t_initial: ArrayLike,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Cosine decay with restarts; each cycle can be longer and lower, over a constant floor.

        lr_min + (base_lr * cycle_decay**i - lr_min) * (1 + cos(pi * (t_curr / t_i)**k_decay)) / 2

    This is the value in cycle i, for i < cycle_limit. Cycle i has t_i = t_initial * cycle_mul**i
    steps, and t_curr of them are done. After the last cycle the value is `lr_min`. Every restart is
    at its exact step. timm rounds a logarithm, and misses some restarts.

    Args:
      base_lr: the first peak.
      t_initial: length of the first cycle, at least 1.
      lr_min: the floor.
      cycle_mul: factor from the length of one cycle to the next.
      cycle_decay: factor from one peak to the next.
      cycle_limit: number of cycles.
      warmup_t: length of the warmup.
      warmup_lr_init: initial rate of the warmup.
      warmup_prefix: whether the curve starts after the warmup.
      t_in_epochs: ignored, because it does not change the curve.
      noise_range_t: must be None, because noise is not supported.
      noise_pct: ignored.
      noise_std: ignored.
      noise_seed: ignored.
      k_decay: exponent of the k-decay; above 1 keeps the early rates for longer.

    Example:
      >>> print(np.asarray(CosineLRScheduler(0.1, t_initial=4, warmup_t=1)(jnp.arange(5))).round(3))
      [0.    0.085 0.05  0.015 0.   ]

    References:
      `timm.scheduler.CosineLRScheduler`.
    """
    call = "CosineLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    k = _k(call, k_decay)
    steps = length(call, "t_initial", t_initial, least=1)
    shape = _cycles(
        call,
        lambda high, low: cosine(high, low, steps, k=k),
        (base_lr, lr_min),
        (cycle_mul, cycle_decay, cycle_limit),
    )
    return _warmed(call, base_lr, shape, warmup_t, warmup_lr_init, warmup_prefix)


@rated
def PolyLRScheduler(
    base_lr: ArrayLike,
    t_initial: ArrayLike,
    power: ArrayLike = 0.5,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Polynomial decay with restarts; each cycle can be longer and lower, over a constant floor.

        lr_min + (base_lr * cycle_decay**i - lr_min) * (1 - (t_curr / t_i)**k_decay)**power

    The other arguments are as in `CosineLRScheduler`.

    Args:
      base_lr: the first peak.
      t_initial: length of the first cycle, at least 1.
      power: exponent, > 0. The default is 1/2; `create_scheduler_v2` passes its `decay_rate`, 0.1.

    Example:
      >>> print(PolyLRScheduler(0.1, t_initial=4, power=1.0)(jnp.arange(5)))
      [0.1   0.075 0.05  0.025 0.   ]

    References:
      `timm.scheduler.PolyLRScheduler`.
    """
    call = "PolyLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    power, k = positive(call, "power", power), _k(call, k_decay)
    steps = length(call, "t_initial", t_initial, least=1)
    shape = _cycles(
        call,
        lambda high, low: polynomial(high, low, steps, power=power, k=k),
        (base_lr, lr_min),
        (cycle_mul, cycle_decay, cycle_limit),
    )
    return _warmed(call, base_lr, shape, warmup_t, warmup_lr_init, warmup_prefix)


@rated
def TanhLRScheduler(
    base_lr: ArrayLike,
    t_initial: ArrayLike,
    lb: ArrayLike = -7.0,
    ub: ArrayLike = 3.0,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
) -> Schedule:
    """Hyperbolic-tangent decay with restarts, over a constant floor.

        lr_min + (base_lr * cycle_decay**i - lr_min) * (1 - tanh(lb * (1 - p) + ub * p)) / 2

    Here p = t_curr / t_i is the fraction of the cycle that is done. Without `warmup_prefix`, the
    warmup ends at the value of the curve at `warmup_t`, so the rate does not jump. (For the cosine
    and the polynomial, the warmup ends at `base_lr`.)

    The other arguments are as in `CosineLRScheduler`.

    Args:
      base_lr: the first peak.
      t_initial: length of the first cycle, at least 1.
      lb: argument of tanh at the start of a cycle.
      ub: argument of tanh at the end of a cycle.

    Example:
      >>> print(np.asarray(TanhLRScheduler(0.1, t_initial=4)(jnp.arange(5))).round(3))
      [0.1   0.1   0.098 0.027 0.   ]

    References:
      `timm.scheduler.TanhLRScheduler`.
    """
    call = "TanhLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    steps = length(call, "t_initial", t_initial, least=1)
    shape = _cycles(
        call,
        lambda high, low: tanh(high, low, steps, low=lb, high=ub),
        (base_lr, lr_min),
        (cycle_mul, cycle_decay, cycle_limit),
    )
    warmup = length(call, "warmup_t", warmup_t)
    aim = base_lr if flag(call, "warmup_prefix", warmup_prefix) else _number(shape(warmup))
    return _warmed(call, aim, shape, warmup, warmup_lr_init, warmup_prefix)


@rated
def StepLRScheduler(
    base_lr: ArrayLike,
    decay_t: float,
    decay_rate: ArrayLike = 1.0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = True,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
) -> Schedule:
    """Step decay: a cut every `decay_t` steps, which need not be an integer.

        base_lr * decay_rate**floor(t / decay_t)

    The other arguments are as in `CosineLRScheduler`.

    Args:
      base_lr: the base rate.
      decay_t: steps between two cuts, real, > 0; concrete.
      decay_rate: factor per cut, > 0.

    Example:
      >>> print(StepLRScheduler(0.1, decay_t=1.5, decay_rate=0.5)(jnp.arange(5)))
      [0.1   0.1   0.05  0.025 0.025]

    References:
      `timm.scheduler.StepLRScheduler`.
    """
    call = "StepLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    period = concrete(call, "decay_t", decay_t)
    require(period > 0, refuse(call, "decay_t", "be positive", decay_t))
    # floor(t / (n / d)) = floor(t * d / n): integers, exact at every step.
    exact = Fraction(str(period)).limit_denominator(100)
    rate = positive(call, "decay_rate", decay_rate)
    if abs(float(exact) - period) <= 1e-9 * period:
        shape = step_decay(base_lr, factor=rate, every=exact.numerator)
        shape = shape if exact.denominator == 1 else shape.faster(exact.denominator)
    else:
        shape = step_decay(base_lr, factor=rate, every=1).faster(1 / period)
    return _warmed(call, base_lr, shape, warmup_t, warmup_lr_init, warmup_prefix)


@rated
def MultiStepLRScheduler(
    base_lr: ArrayLike,
    decay_t: Sequence[float],
    decay_rate: ArrayLike = 1.0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = True,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
) -> Schedule:
    """A cut one step before each milestone.

        base_lr * decay_rate**(number of milestones <= t + 1)

    timm cuts one step before the milestone, while torch's `MultiStepLR` cuts at the milestone.

    The other arguments are as in `CosineLRScheduler`.

    Args:
      base_lr: the base rate.
      decay_t: the milestones, in order.
      decay_rate: factor per cut.

    Example:
      >>> print(MultiStepLRScheduler(0.1, decay_t=[2, 3], decay_rate=0.5)(jnp.arange(4)))
      [0.1   0.05  0.025 0.025]

    References:
      `timm.scheduler.MultiStepLRScheduler`.
    """
    call = "MultiStepLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    rate = finite(call, "decay_rate", decay_rate)
    values = [rate**n for n in range(len(decay_t) + 1)]
    shape = base_lr * piecewise_constant(values, [max(m - 1, 0) for m in decay_t])
    return _warmed(call, base_lr, shape, warmup_t, warmup_lr_init, warmup_prefix)


@rated
def WSDLRScheduler(
    base_lr: ArrayLike,
    t_initial: ArrayLike,
    decay_t: ArrayLike,
    lr_min: ArrayLike = 0.0,
    stable_fn: str = "constant",
    stable_timescale: float | None = None,
    stable_power: ArrayLike = 0.5,
    decay_fn: str | Callable[[Any], Any] = "1-sqrt",
    decay_power: ArrayLike = 0.5,
    decay_ratio: ArrayLike = 0.1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    t_in_epochs: bool = True,
    noise_range_t: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
) -> Schedule:
    """Warmup-stable-decay (WSD), where the stable phase may itself fall.

        lr_min + (max(base_lr * stable(s), lr_min) - lr_min) * decay(f)

    Here s is the number of steps since the warmup. The decay is the last `decay_t` steps, and f is
    the fraction of these steps that is done.

        stable_fn  stable(s)                          decay_fn  decay(f)
        constant   1                                  linear    1 - f
        rsqrt      (1 + s / stable_timescale)**-0.5   1-sqrt    1 - sqrt(f)
        power      the same, to -stable_power         cosine    (1 + cos(pi * f)) / 2
                                                      power     1 - f**decay_power
                                                      exp       (r**f - r) / (1 - r)

    Args:
      base_lr: the rate of the stable phase.
      t_initial: length of the stable phase and the decay together, without the warmup.
      decay_t: length of the decay.
      lr_min: the floor of both phases.
      stable_fn: see above.
      stable_timescale: see above; None: `warmup_t`. For "power" it must be an int.
      stable_power: see above.
      decay_fn: see above; or a function of f that JAX can trace.
      decay_power: see above.
      decay_ratio: r above, in (0, 1).
      warmup_t: length of the warmup.
      warmup_lr_init: initial rate of the warmup.
      t_in_epochs: ignored, because it does not change the curve.
      noise_range_t: must be None, because noise is not supported.
      noise_pct: ignored.
      noise_std: ignored.
      noise_seed: ignored.

    Example:
      >>> print(WSDLRScheduler(0.1, t_initial=4, decay_t=2, decay_fn="linear")(jnp.arange(5)))
      [0.1  0.1  0.1  0.05 0.  ]

    References:
      `timm.scheduler.WSDLRScheduler`.
    """
    call = "WSDLRScheduler"
    _checked(call, noise_range_t, t_in_epochs)
    one_of(call, "stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    total, down = (
        length(call, "t_initial", t_initial, least=1),
        length(call, "decay_t", decay_t, least=1),
    )
    require(down <= total, refuse(call, "decay_t", f"be at most t_initial={t_initial!r}", decay_t))
    warmup = length(call, "warmup_t", warmup_t)
    until_decay = total - down
    fall = _decay(call, decay_fn, down, decay_power, decay_ratio)
    up = linear(warmup_lr_init, base_lr, warmup)
    if stable_fn == "constant":
        low = finite(call, "lr_min", lr_min)
        span = _at_least_zero(finite(call, "base_lr", base_lr) - low)
        return up >> constant(span + low, until_decay) >> span * fall + low
    timescale = warmup if stable_timescale is None else stable_timescale
    remedy = "Its default is `warmup_t`."
    timescale = positive(call, "stable_timescale", timescale, remedy=remedy)
    stable = _stable(call, base_lr, stable_fn, timescale, stable_power)
    height = (maximum(stable, lr_min) - lr_min) * (constant(1.0, until_decay) >> fall)
    return up >> height + lr_min


@rated
def PlateauLRScheduler(
    base_lr: ArrayLike,
    decay_rate: ArrayLike = 0.1,
    patience_t: ArrayLike = 10,
    threshold: ArrayLike = 1e-4,
    cooldown_t: ArrayLike = 0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    lr_min: ArrayLike = 0.0,
    mode: str = "max",
    noise_range_t: Noise = None,
    noise_type: str = "normal",
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int | None = None,
    *,
    metric: str = "value",
) -> Stateful:
    """A warmup, then torch's `ReduceLROnPlateau`. The default mode is "max".

        (linear(warmup_lr_init, base_lr, warmup_t) >> constant(base_lr))
        * reduce_on_plateau(patience=patience_t + 1, start_after=warmup_t + 1, ...)

    timm passes the metric of epoch e as `step(e + 1, metric)`. Here, call `observe` after the last
    update of the epoch; the next update reads the metric. Metrics during the warmup are ignored.

    Args:
      base_lr: the rate before the first cut; concrete.
      decay_rate: factor per cut, in (0, 1); concrete.
      patience_t: number of bad observations in a row that are tolerated; the next one cuts.
      threshold: relative margin.
      cooldown_t: observations after a cut during which bad ones do not count.
      warmup_t: length of the warmup, in steps.
      warmup_lr_init: initial rate of the warmup.
      lr_min: lower limit of the rate; concrete.
      mode: "max" or "min".
      noise_range_t: must be None, because noise is not supported.
      noise_type: ignored.
      noise_pct: ignored.
      noise_std: ignored.
      noise_seed: ignored.
      metric: name of the metric.

    Example:
      >>> print(PlateauLRScheduler(1.0, patience_t=1, warmup_t=5, lr_min=0.25))
      (linear(0.0, 1.0, 5) >> constant(1.0)) * reduce_on_plateau(mode='max', patience=2,
        min_scale=0.25, start_after=6, nonfinite='bad')

    References:
      `timm.scheduler.PlateauLRScheduler`.
    """
    call = "PlateauLRScheduler"
    _checked(call, noise_range_t, True)
    warmup = length(call, "warmup_t", warmup_t)
    rate = linear(warmup_lr_init, base_lr, warmup) >> constant(base_lr)
    return rate * reduce_on_plateau(
        mode=mode,
        factor=decay_rate,
        patience=plus(length(call, "patience_t", patience_t), 1),
        rtol=threshold,
        cooldown=length(call, "cooldown_t", cooldown_t),
        min_scale=lowest_scale(call, base_lr, decay_rate, lr_min, 1e-8),
        start_after=0 if is_zero(warmup) else plus(warmup, 1),
        nonfinite="bad",
        metric=metric,
    )


@rated
def create_scheduler_v2(
    base_lr: ArrayLike,
    sched: str = "cosine",
    num_epochs: int = 300,
    decay_epochs: float | None = None,
    decay_milestones: Sequence[int] = (90, 180, 270),
    cooldown_epochs: int = 0,
    patience_epochs: int = 10,
    decay_rate: float = 0.1,
    min_lr: float = 0.0,
    warmup_lr: float = 1e-5,
    warmup_epochs: int = 0,
    warmup_prefix: bool = False,
    noise: Noise = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    cycle_mul: float = 1.0,
    cycle_decay: float = 0.1,
    cycle_limit: int = 1,
    k_decay: float = 1.0,
    decay_fn: str | None = None,
    stable_timescale: float | None = None,
    plateau_mode: str = "max",
    step_on_epochs: bool = True,
    updates_per_epoch: int = 0,
) -> tuple[Schedule | Stateful, int]:
    """Returns the schedule of timm's command-line options, and the number of epochs to train.

    By default a step of the schedule is an epoch, as in timm. For an optimizer, which counts its
    updates, append `.hold(steps_per_epoch)` to such a schedule. With `step_on_epochs=False` and
    `updates_per_epoch`, lengths are converted to optimizer steps, and the rate changes at every
    step. The schedule of "plateau" has no `hold`: use `step_on_epochs=False`, and observe its
    metric once per epoch.

    The schedule ends before the cooldown, in which it holds its end value. So `plot` needs
    `total_steps` to show the cooldown.

    Args:
      base_lr: the base rate.
      sched: "cosine", "tanh", "step", "constant", "multistep", "plateau", "poly", "wsd", "rsqrt",
        or "none" for a constant base rate.
      num_epochs: epochs of the first cycle.
      decay_epochs: epochs between two cuts of "step", by default 90. For "wsd" and "rsqrt", epochs
        of the decay, or a fraction, by default 1/5.
      decay_milestones: milestones of "multistep".
      cooldown_epochs: epochs at the end, at `min_lr`.
      patience_epochs: patience of "plateau".
      decay_rate: factor per cut; for "poly", the power.
      min_lr: the floor.
      warmup_lr: initial rate of the warmup.
      warmup_epochs: length of the warmup.
      warmup_prefix: whether the curve starts after the warmup.
      noise: must be None, because noise is not supported.
      noise_pct: ignored.
      noise_std: ignored.
      noise_seed: ignored.
      cycle_mul: factor from the length of one cycle to the next.
      cycle_decay: factor from the height of one cycle to the next.
      cycle_limit: number of cycles.
      k_decay: k-decay of "cosine" and "poly".
      decay_fn: decay function of "wsd" and "rsqrt".
      stable_timescale: timescale of "rsqrt".
      plateau_mode: "max" or "min".
      step_on_epochs: whether a step of the schedule is an epoch. If True, append
        `.hold(steps_per_epoch)` to use the schedule in an optimizer.
      updates_per_epoch: optimizer steps per epoch.

    Returns:
      The schedule, stateful for "plateau", and the epochs, including all cycles and the cooldown.

    Raises:
      ValueError: there is no such `sched`, or its lengths do not fit together.

    Example:
      >>> schedule, epochs = create_scheduler_v2(0.1, num_epochs=10, cooldown_epochs=2)
      >>> print(schedule, epochs)
      cosine(0.1, 0.0, 10) 12
      >>> schedule.hold(1251)  # 1251 optimizer steps per epoch
      cosine(0.1, 0.0, 10).hold(1251)

    References:
      `timm.scheduler.create_scheduler_v2`.
    """
    call = "create_scheduler_v2"
    require(noise is None, _no_noise(call, "noise", noise))
    per = (
        1 if step_on_epochs else int(length(call, "updates_per_epoch", updates_per_epoch, least=1))
    )
    total, warmup_t, before = num_epochs * per, warmup_epochs * per, int(warmup_prefix)
    decay_t = (90 if decay_epochs is None else decay_epochs) * per
    warmup: dict[str, Any] = {"warmup_t": warmup_t, "warmup_lr_init": warmup_lr}
    prefix: dict[str, Any] = {**warmup, "warmup_prefix": warmup_prefix}
    cycles: dict[str, Any] = {
        **prefix,
        "t_initial": total,
        "lr_min": min_lr,
        "cycle_mul": cycle_mul,
        "cycle_decay": cycle_decay,
        "cycle_limit": cycle_limit,
    }

    def wsd(stable_fn: str, decay: str) -> Schedule:
        rest = total - warmup_t * (not warmup_prefix)
        share = 0.2 if decay_epochs is None else decay_epochs
        return WSDLRScheduler(
            base_lr,
            t_initial=rest,
            decay_t=round(share * (rest if 0 < share < 1 else per)),
            lr_min=min_lr,
            stable_fn=stable_fn,
            stable_timescale=None if stable_timescale is None else stable_timescale * per,
            decay_fn=decay_fn or decay,
            **warmup,
        )

    makers: dict[str, Callable[[], Schedule | Stateful]] = {
        "cosine": lambda: CosineLRScheduler(base_lr, **cycles, k_decay=k_decay),
        "tanh": lambda: TanhLRScheduler(base_lr, **cycles),
        "poly": lambda: PolyLRScheduler(base_lr, **cycles, k_decay=k_decay, power=decay_rate),
        "step": lambda: StepLRScheduler(base_lr, decay_t, decay_rate, **prefix),
        "constant": lambda: StepLRScheduler(base_lr, 1, **prefix),
        "multistep": lambda: MultiStepLRScheduler(
            base_lr, [m * per for m in decay_milestones], decay_rate, **prefix
        ),
        "plateau": lambda: PlateauLRScheduler(
            base_lr, decay_rate, patience_epochs, lr_min=min_lr, mode=plateau_mode, **warmup
        ),
        "wsd": lambda: wsd("constant", "1-sqrt"),
        "rsqrt": lambda: wsd("rsqrt", "linear"),
        "none": lambda: constant(base_lr),
    }
    one_of(call, "sched", sched, tuple(makers))
    if sched not in ("cosine", "tanh", "poly", "wsd", "rsqrt"):
        return makers[sched](), num_epochs + warmup_epochs * before
    cyclic = sched in ("cosine", "tanh", "poly")
    steps = _cycle_length(total, cycle_mul, cycle_limit) if cyclic else total
    return makers[sched](), (steps + warmup_t * before) // per + cooldown_epochs


def _cycle_length(t_initial: int, cycle_mul: float, cycle_limit: int) -> int:
    cycles = max(1, cycle_limit)
    if cycle_mul == 1.0:
        return t_initial * cycles
    return int(-t_initial * (cycle_mul**cycles - 1) // (1 - cycle_mul))


def _cycles(
    call: str,
    curve: Callable[[ArrayLike, ArrayLike], Schedule],
    ends: tuple[ArrayLike, ArrayLike],
    cycles: tuple[ArrayLike, ArrayLike, ArrayLike],
) -> Schedule:
    """Return a curve cycled over its floor: the peaks decay, but the floor does not."""
    (base_lr, lr_min), (mult, decay, limit) = ends, cycles
    low = finite(call, "lr_min", lr_min)
    decay, limit = positive(call, "cycle_decay", decay), length(call, "cycle_limit", limit)
    if is_zero(limit):
        return constant(low)
    if isinstance(limit, int) and limit == 1:
        return curve(base_lr, low)
    if not isinstance(decay, jax.Array) and decay == 1:
        return curve(base_lr, low).cycle(mult=whole(mult), cycles=limit)
    floor = curve(0.0, low).cycle(mult=whole(mult), cycles=limit)
    return curve(base_lr, 0.0).cycle(mult=whole(mult), decay=decay, cycles=limit) + floor


def _warmed(
    call: str,
    peak: ArrayLike,
    shape: Schedule,
    warmup_t: ArrayLike,
    warmup_lr_init: ArrayLike,
    warmup_prefix: bool,
) -> Schedule:
    """Return the curve with a warmup before it, or in place of its first steps."""
    steps = length(call, "warmup_t", warmup_t)
    if is_zero(steps):
        return shape
    up = linear(warmup_lr_init, peak, steps)
    return up >> (shape if flag(call, "warmup_prefix", warmup_prefix) else shape.shift(-steps))


def _decay(
    call: str, decay_fn: Any, steps: Whole, decay_power: ArrayLike, decay_ratio: ArrayLike
) -> Schedule:
    """Return the decay from 1 to 0."""
    if callable(decay_fn):

        def part(t: jax.Array) -> Any:
            return decay_fn(jnp.minimum(real(t) / real(steps), 1))

        return traced(call, part, "Or pass one of the names.", decay_fn=decay_fn)
    one_of(call, "decay_fn", decay_fn, ("linear", "1-sqrt", "cosine", "power", "exp"))
    if decay_fn == "power":
        return polynomial(1.0, 0.0, steps, power=1.0, k=positive(call, "decay_power", decay_power))
    if decay_fn == "exp":
        inside = within(call, "decay_ratio", decay_ratio, PROPER)
        return (geometric(1.0, inside, steps) - inside) / (1 - inside)
    return {"linear": linear, "1-sqrt": one_minus_sqrt, "cosine": cosine}[decay_fn](1.0, 0.0, steps)


def _at_least_zero(x: Any) -> Any:
    return jnp.maximum(x, 0) if isinstance(x, jax.Array) else max(x, 0.0)


def _stable(
    call: str, base_lr: ArrayLike, stable_fn: str, timescale: Any, power: ArrayLike
) -> Schedule:
    if stable_fn == "rsqrt":
        return inverse_sqrt(base_lr, timescale=timescale)
    exponent = -positive(call, "stable_power", power)
    steps = whole(timescale)
    return power_law(base_lr, exponent=exponent, timescale=timescale).shift(
        -length(call, "stable_timescale", steps)
    )


def _number(x: jax.Array) -> Any:
    return x if isinstance(x, Tracer) else float(x)


def _k(call: str, k_decay: ArrayLike) -> Any:
    k = positive(call, "k_decay", k_decay)
    return k if isinstance(k, jax.Array) or k != 1 else None


def _checked(call: str, noise_range_t: Any, t_in_epochs: Any) -> None:
    flag(call, "t_in_epochs", t_in_epochs)
    require(noise_range_t is None, _no_noise(call, "noise_range_t", noise_range_t))


def _no_noise(call: str, argument: str, value: Any) -> str:
    remedy = "timm's noise comes from torch. Multiply by your own: `* from_function(noise)`."
    return refuse(call, argument, "be None", value, remedy)


explain(globals())


def __dir__() -> list[str]:
    return own(globals())
