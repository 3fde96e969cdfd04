"""Twins of the schedulers of `transformers` (compared with transformers 5.23).

The first argument is the base rate, which transformers reads from its optimizer. As in
transformers, most warmups start at zero, so the first update changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.typing import ArrayLike

from jaxsched._core._clock import between, plus
from jaxsched._core._numerics import ratio
from jaxsched._core._require import (
    NOT_NEGATIVE,
    Whole,
    finite,
    length,
    one_of,
    positive,
    refuse,
    require,
    within,
)
from jaxsched._rules._greedy import greedy
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._curves import cosine, linear, one_minus_sqrt, polynomial
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._unbounded import constant, inverse_sqrt
from jaxsched.compat import torch
from jaxsched.compat._common import (
    concrete,
    explain,
    is_zero,
    own,
    rated,
    sawtooth,
    scaled,
    unless_empty,
    wave,
    whole,
)


@rated
def get_constant_schedule(base_lr: ArrayLike) -> Schedule:
    """A constant schedule at the base rate.

        value(t) = base_lr

    Example:
      >>> print(get_constant_schedule(0.1)(7))
      0.1

    References:
      `transformers.get_constant_schedule`.
    """
    return constant(base_lr)


@rated
def get_constant_schedule_with_warmup(base_lr: ArrayLike, num_warmup_steps: ArrayLike) -> Schedule:
    """A warmup from zero, then the base rate.

        value(t) = base_lr * min(t / num_warmup_steps, 1)

    Example:
      >>> print(get_constant_schedule_with_warmup(0.1, 2)(jnp.arange(4)))
      [0.   0.05 0.1  0.1 ]

    References:
      `transformers.get_constant_schedule_with_warmup`.
    """
    return _warmup(base_lr, num_warmup_steps) >> constant(base_lr)


@rated
def get_linear_schedule_with_warmup(
    base_lr: ArrayLike, num_warmup_steps: ArrayLike, num_training_steps: ArrayLike
) -> Schedule:
    """A warmup from zero, then linear decay to zero at `num_training_steps`.

        linear(0, base_lr, num_warmup_steps) >> linear(base_lr, 0, the rest)

    Example:
      >>> print(get_linear_schedule_with_warmup(0.1, 1, 3)(jnp.arange(5)))
      [0.   0.1  0.05 0.   0.  ]

    References:
      `transformers.get_linear_schedule_with_warmup`.
    """
    rest = _rest(num_warmup_steps, num_training_steps, least=0)
    return _warmup(base_lr, num_warmup_steps) >> linear(base_lr, 0.0, rest)


@rated
def get_cosine_schedule_with_warmup(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
) -> Schedule:
    """A warmup from zero, then an unbounded cosine wave.

        value(t) = base_lr * (1 + cos(2 * pi * num_cycles * p)) / 2

    Here p is the fraction of the steps after the warmup that is done. The wave does not stop at
    `num_training_steps`; after that step it rises again. For a schedule that holds its end value,
    use `warmup_cosine`.

    Example:
      >>> print(np.asarray(get_cosine_schedule_with_warmup(0.1, 1, 5)(jnp.arange(7))).round(3))
      [0.    0.1   0.085 0.05  0.015 0.    0.015]

    References:
      `transformers.get_cosine_schedule_with_warmup`.
    """
    rest = _rest(num_warmup_steps, num_training_steps)
    return _warmup(base_lr, num_warmup_steps) >> wave(base_lr, 0.0, rest, num_cycles)


@rated
def get_cosine_with_hard_restarts_schedule_with_warmup(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 1,
) -> Schedule:
    """A warmup from zero, then `num_cycles` half cosines that each start at the base rate.

        value(t) = base_lr * (1 + cos(pi * ((num_cycles * p) mod 1))) / 2,    0 once p >= 1

    Here p is the fraction of the steps after the warmup that is done.

    Example:
      >>> print(get_cosine_with_hard_restarts_schedule_with_warmup(0.1, 0, 4, 2)(jnp.arange(5)))
      [0.1  0.05 0.1  0.05 0.  ]

    References:
      `transformers.get_cosine_with_hard_restarts_schedule_with_warmup`.
    """
    call = "get_cosine_with_hard_restarts_schedule_with_warmup"
    num_cycles = whole(positive(call, "num_cycles", num_cycles))
    rest = _rest(num_warmup_steps, num_training_steps)
    cycles = sawtooth(base_lr, 0.0, rest, num_cycles).take(rest)
    return _warmup(base_lr, num_warmup_steps) >> cycles >> constant(0.0)


@rated
def get_polynomial_decay_schedule_with_warmup(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    lr_end: ArrayLike = 1e-7,
    power: ArrayLike = 1.0,
) -> Schedule:
    """A warmup from zero, then polynomial decay.

        linear(0, base_lr, num_warmup_steps) >> polynomial(base_lr, lr_end, the rest, power=power)

    If `num_training_steps == num_warmup_steps`, transformers divides by zero; the twin continues at
    `lr_end`.

    Raises:
      ValueError: `lr_end` is not below the base rate.

    Example:
      >>> print(get_polynomial_decay_schedule_with_warmup(0.1, 1, 3, lr_end=0.0)(jnp.arange(4)))
      [0.   0.1  0.05 0.  ]

    References:
      `transformers.get_polynomial_decay_schedule_with_warmup`.
    """
    call = "get_polynomial_decay_schedule_with_warmup"
    base, end = finite(call, "base_lr", base_lr), finite(call, "lr_end", lr_end)
    require(end < base, refuse(call, "lr_end", f"be below base_lr={base_lr!r}", lr_end))
    rest = _rest(num_warmup_steps, num_training_steps, least=0)
    return _warmup(base_lr, num_warmup_steps) >> polynomial(base, end, rest, power=power)


@rated
def get_inverse_sqrt_schedule(
    base_lr: ArrayLike, num_warmup_steps: ArrayLike, timescale: ArrayLike | None = None
) -> Schedule:
    """A warmup from zero, then inverse-square-root decay.

        value(t) = base_lr / sqrt((t + timescale - num_warmup_steps) / timescale)

    `timescale=None` means `num_warmup_steps`, or 10_000 without a warmup.

    Example:
      >>> print(get_inverse_sqrt_schedule(0.1, 1)(jnp.array([0, 1, 4])))
      [0.   0.1  0.05]

    References:
      `transformers.get_inverse_sqrt_schedule`.
    """
    warmup = _warmup(base_lr, num_warmup_steps)
    if timescale is None:
        steps = length("get_inverse_sqrt_schedule", "num_warmup_steps", num_warmup_steps)
        timescale = unless_empty(steps, steps, 10_000)
    return warmup >> inverse_sqrt(base_lr, timescale=timescale)


@rated
def get_cosine_with_min_lr_schedule_with_warmup(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
    min_lr: ArrayLike | None = None,
    min_lr_rate: ArrayLike | None = None,
) -> Schedule:
    """A warmup from zero, then a cosine wave between the base rate and a minimum.

        value(t) = low + (base_lr - low) * (1 + cos(2 * pi * num_cycles * p)) / 2

    Here low is `min_lr`, or min_lr_rate * base_lr, and p is the fraction of the steps after the
    warmup that is done. After `num_training_steps` the rate rises again.

    Raises:
      ValueError: both or none of `min_lr` and `min_lr_rate` are given.

    Example:
      >>> cosine_to_min = get_cosine_with_min_lr_schedule_with_warmup(0.1, 0, 2, min_lr=0.02)
      >>> print(cosine_to_min(jnp.arange(4)))
      [0.1  0.06 0.02 0.06]

    References:
      `transformers.get_cosine_with_min_lr_schedule_with_warmup`.
    """
    low = _low("get_cosine_with_min_lr_schedule_with_warmup", base_lr, min_lr, min_lr_rate)
    rest = _rest(num_warmup_steps, num_training_steps)
    return _warmup(base_lr, num_warmup_steps) >> wave(base_lr, low, rest, num_cycles)


@rated
def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
    min_lr: ArrayLike | None = None,
    min_lr_rate: ArrayLike | None = None,
    warmup_lr_rate: ArrayLike | None = None,
) -> Schedule:
    """A warmup that by default starts above zero, then a cosine wave.

        warmup: base_lr * (t + 1) / num_warmup_steps, or with `warmup_lr_rate` a line from
                warmup_lr_rate * base_lr; either reaches base_lr at step num_warmup_steps - 1
        then:   low + (base_lr - low) * (1 + cos(2 * pi * num_cycles * p)) / 2,
                p = (t - num_warmup_steps + 1) / (num_training_steps - num_warmup_steps)

    Everything is one step earlier than in `get_cosine_with_min_lr_schedule_with_warmup`. So the
    minimum is at step num_training_steps - 1. After that the rate rises again.

    Raises:
      ValueError: both or none of `min_lr` and `min_lr_rate` are given.

    Example:
      >>> early = get_cosine_with_min_lr_schedule_with_warmup_lr_rate(0.1, 2, 4, min_lr_rate=0.0)
      >>> print(early(jnp.arange(5)))
      [0.05 0.1  0.05 0.   0.05]

    References:
      `transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate`.
    """
    call = "get_cosine_with_min_lr_schedule_with_warmup_lr_rate"
    low = _low(call, base_lr, min_lr, min_lr_rate)
    steps = length(call, "num_warmup_steps", num_warmup_steps)
    decay = wave(base_lr, low, _rest(steps, num_training_steps), num_cycles).shift(-1)
    if is_zero(steps):
        return decay
    first = ratio(finite(call, "base_lr", base_lr), steps)
    if warmup_lr_rate is not None:
        first = scaled(base_lr, finite(call, "warmup_lr_rate", warmup_lr_rate))
        if isinstance(steps, int) and steps == 1:
            return constant(first, 1) >> decay
    return linear(first, base_lr, between(1, steps)).take(steps) >> decay


@rated
def get_wsd_schedule(
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_decay_steps: ArrayLike,
    num_training_steps: ArrayLike | None = None,
    num_stable_steps: ArrayLike | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: ArrayLike = 0.0,
    num_cycles: ArrayLike = 0.5,
) -> Schedule:
    """Warmup-stable-decay (WSD).

        warmup(low, base_lr, num_warmup_steps)
        >> constant(base_lr, num_stable_steps)
        >> decay(base_lr, low, num_decay_steps),    low = min_lr_ratio * base_lr

    The minimum also applies to the start of the warmup. A warmup of type "1-sqrt" is slow at first,
    and a decay of that type is fast at first. If the warmup and the decay are together longer than
    `num_training_steps`, the decay starts partway down, as in transformers.

    Args:
      base_lr: the rate of the stable phase.
      num_warmup_steps: length of the warmup.
      num_decay_steps: length of the decay.
      num_training_steps: length of everything. Alternatively, give `num_stable_steps`.
      num_stable_steps: length of the stable phase, which has priority if both are given.
      warmup_type: "linear", "cosine" or "1-sqrt".
      decay_type: "linear", "cosine" or "1-sqrt".
      min_lr_ratio: ratio of the minimum to the base rate.
      num_cycles: waves of a cosine decay.

    Raises:
      ValueError: neither length is given, or a type is not one of the three names.

    Example:
      >>> wsd = get_wsd_schedule(0.1, 1, 2, num_training_steps=5, decay_type="linear")
      >>> print(wsd(jnp.arange(6)))
      [0.   0.1  0.1  0.1  0.05 0.  ]

    References:
      `transformers.get_wsd_schedule`.
    """
    call = "get_wsd_schedule"
    one_of(call, "warmup_type", warmup_type, TYPES)
    one_of(call, "decay_type", decay_type, TYPES)
    up = length(call, "num_warmup_steps", num_warmup_steps)
    down = length(call, "num_decay_steps", num_decay_steps)
    stable, early = _stable(call, plus(up, down), num_training_steps, num_stable_steps)
    low = scaled(base_lr, finite(call, "min_lr_ratio", min_lr_ratio))
    decay = _decay(decay_type, num_cycles)(base_lr, low, down)
    warmup = _WARMUPS[warmup_type](low, base_lr, up)
    return warmup >> constant(base_lr, stable) >> (decay if is_zero(early) else decay.shift(-early))


TYPES = ("linear", "cosine", "1-sqrt")


@rated
def get_reduce_on_plateau_schedule(base_lr: ArrayLike, **kwargs: Any) -> Stateful:
    """Reduces the rate when a metric stops improving; see `compat.torch.ReduceLROnPlateau`.

    Example:
      >>> get_reduce_on_plateau_schedule(1.0, patience=1, min_lr=0.25)
      constant(1.0) * reduce_on_plateau(patience=2, min_scale=0.25, nonfinite='bad')

    References:
      `transformers.get_reduce_on_plateau_schedule`.
    """
    return torch.ReduceLROnPlateau(base_lr, **kwargs)


@rated
def GreedyLR(
    base_lr: ArrayLike,
    mode: str = "min",
    factor: ArrayLike = 0.95,
    patience: ArrayLike = 10,
    threshold: ArrayLike = 1e-6,
    threshold_mode: str = "abs",
    cooldown: ArrayLike = 0,
    warmup: ArrayLike = 0,
    min_lr: ArrayLike = 1e-3,
    max_lr: ArrayLike = 1.0,
    eps: ArrayLike = 1e-8,
    verbose: bool = False,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: ArrayLike = 500,
    *,
    metric: str = "value",
) -> Stateful:
    """Raises the rate while a metric improves, and lowers it while it does not (GreedyLR).

        constant(base_lr) * greedy(patience=patience + 1, nonfinite="bad", ...)

    The rate rises after patience + 1 better observations in a row. It falls after patience + 1
    observations in a row that are not better. The bounds are absolute rates: with the default
    `min_lr`, a base rate below 1e-3 never falls. A relative threshold uses `|best|`, so that it has
    the right sign for negative metrics.

    Args:
      base_lr: the initial rate; concrete.
      mode: "min" or "max".
      factor: multiplier of the rate at a cut and divisor at a raise, in (0, 1).
      patience: observations in a row that are tolerated; the next one changes the rate.
      threshold: margin.
      threshold_mode: "rel", relative to the best, or "abs".
      cooldown: observations to skip after a cut.
      warmup: observations to skip after a raise.
      min_lr: lower limit of the rate.
      max_lr: upper limit of the rate.
      eps: smallest change. A change by this amount or less is not made.
      verbose: ignored; nothing is printed. See `hyperparams(opt_state)`.
      smooth: whether to compare the mean of the latest observations.
      window_size: largest number of observations in that mean.
      reset_start: number of cuts at the lowest rate, after which the rule starts anew from the
        base rate.
      metric: name of the metric.

    Example:
      >>> tx = scale_by_learning_rate(GreedyLR(0.1, patience=0, factor=0.5))
      >>> state = tx.init({})
      >>> for loss in (1.0, 0.9, 0.9):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(hyperparams(state)["learning_rate"])
      0.2
      0.4
      0.2

    References:
      `transformers.GreedyLR`; https://arxiv.org/abs/2512.14527.
    """
    call = "GreedyLR"
    one_of(call, "threshold_mode", threshold_mode, ("rel", "abs"))
    base, relative = concrete(call, "base_lr", base_lr), threshold_mode == "rel"
    require(base > 0, refuse(call, "base_lr", "be positive", base_lr))
    return constant(base) * greedy(
        mode=mode,
        factor=factor,
        patience=plus(length(call, "patience", patience), 1),
        rtol=threshold if relative else 0.0,
        atol=0.0 if relative else threshold,
        cooldown=length(call, "cooldown", cooldown),
        warmup=length(call, "warmup", warmup),
        min_scale=finite(call, "min_lr", min_lr) / base,
        max_scale=finite(call, "max_lr", max_lr) / base,
        min_change=finite(call, "eps", eps) / base,
        reset_after=length(call, "reset_start", reset_start),
        window_size=window_size if smooth else None,
        nonfinite="bad",
        metric=metric,
    )


@rated
def get_greedy_schedule(base_lr: ArrayLike, **kwargs: Any) -> Stateful:
    """Returns `GreedyLR(base_lr, **kwargs)`.

    Example:
      >>> print(get_greedy_schedule(0.1, patience=1).rules[0].reset_after)
      500

    References:
      `transformers.get_greedy_schedule`.
    """
    return GreedyLR(base_lr, **kwargs)


SCHEDULES: dict[str, Callable[..., Schedule | Stateful]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "reduce_lr_on_plateau": get_reduce_on_plateau_schedule,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
    "greedy": get_greedy_schedule,
}
_STEPLESS = ("constant", "reduce_lr_on_plateau", "greedy")
_ENDLESS = ("constant_with_warmup", "inverse_sqrt")


def get_scheduler(
    name: str,
    base_lr: ArrayLike,
    num_warmup_steps: ArrayLike | None = None,
    num_training_steps: ArrayLike | None = None,
    scheduler_specific_kwargs: dict[str, Any] | None = None,
) -> Schedule | Stateful:
    """Returns a schedule by its name in `TrainingArguments(lr_scheduler_type=...)`.

    Args:
      name: "linear", "cosine", "cosine_with_restarts", "polynomial", "constant",
        "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr",
        "cosine_warmup_with_min_lr", "warmup_stable_decay" or "greedy".
      base_lr: the base rate.
      num_warmup_steps: length of the warmup, if the schedule has one.
      num_training_steps: length of everything, if the schedule has an end.
      scheduler_specific_kwargs: other arguments of the schedule.

    Returns:
      A schedule; for "reduce_lr_on_plateau" and "greedy" a stateful one.

    Raises:
      ValueError: there is no such name, or a required length is not given.

    Example:
      >>> print(get_scheduler("linear", 0.1, num_warmup_steps=1, num_training_steps=3))
      linear(0.0, 0.1, 1) >> linear(0.1, 0.0, 2)

    References:
      `transformers.get_scheduler`.
    """
    call, name = "get_scheduler", str(getattr(name, "value", name))
    one_of(call, "name", name, tuple(SCHEDULES))
    lengths: dict[str, Any] = {}
    if name not in _STEPLESS:
        lengths["num_warmup_steps"] = num_warmup_steps
        if name not in _ENDLESS:
            lengths["num_training_steps"] = num_training_steps
    for argument, steps in lengths.items():
        optional = name == "warmup_stable_decay" and argument == "num_training_steps"
        require(steps is not None or optional, f"`{call}({name!r})` needs `{argument}`.")
    return SCHEDULES[name](base_lr, **lengths, **(scheduler_specific_kwargs or {}))


_WARMUPS: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "cosine": cosine,
    "1-sqrt": lambda low, high, steps: polynomial(low, high, steps, power=0.5),
}


def _decay(decay_type: str, num_cycles: ArrayLike) -> Callable[..., Schedule]:
    if decay_type != "cosine":
        return {"linear": linear, "1-sqrt": one_minus_sqrt}[decay_type]
    if isinstance(num_cycles, (int, float)) and num_cycles == 0.5:
        return cosine

    def waves(high: ArrayLike, low: ArrayLike, steps: Whole) -> Schedule:
        some = max(steps, 1) if isinstance(steps, int) else steps
        return wave(high, low, some, num_cycles).take(steps) >> constant(low, 0)

    return waves


def _stable(
    call: str, taken: Whole, num_training_steps: Any, num_stable_steps: Any
) -> tuple[Whole, Whole]:
    """Return the steps of the stable phase, and the steps of the decay that do not fit."""
    if num_stable_steps is not None:
        return length(call, "num_stable_steps", num_stable_steps), 0
    remedy = "Or give `num_stable_steps`."
    total = length(call, "num_training_steps", num_training_steps, remedy=remedy)
    if isinstance(total, int) and isinstance(taken, int):
        return max(total - taken, 0), max(taken - total, 0)
    return between(taken, total), between(total, taken)


def _warmup(base_lr: ArrayLike, num_warmup_steps: ArrayLike) -> Schedule:
    return linear(0.0, base_lr, length("get_scheduler", "num_warmup_steps", num_warmup_steps))


def _rest(num_warmup_steps: ArrayLike, num_training_steps: ArrayLike, least: int = 1) -> Whole:
    """Return the number of steps after the warmup."""
    warmup = length("get_scheduler", "num_warmup_steps", num_warmup_steps)
    total = length("get_scheduler", "num_training_steps", num_training_steps)
    if isinstance(warmup, int) and isinstance(total, int):
        return max(total - warmup, least)
    return plus(between(plus(warmup, least), total), least)


def _low(call: str, base_lr: ArrayLike, min_lr: Any, min_lr_rate: Any) -> Any:
    one = (min_lr is None) != (min_lr_rate is None)
    require(one, f"`{call}` needs one of `min_lr` and `min_lr_rate`, got {min_lr}, {min_lr_rate}.")
    if min_lr is not None:
        return within(call, "min_lr", min_lr, NOT_NEGATIVE)
    return scaled(base_lr, finite(call, "min_lr_rate", min_lr_rate))


explain(globals())


def __dir__() -> list[str]:
    return own(globals())
