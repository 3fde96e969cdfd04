"""Twins of `torch.optim.lr_scheduler` (compared with torch 2.13).

The first argument of most twins is the base rate, which torch reads from its optimizer's group. A
twin without a rule is a function of the step, where t = 0 is the first update. So such a twin can
be read at any step; torch computes each rate from the one before. `ReduceLROnPlateau` and `SWALR`
are rules. For several parameter groups, build several twins.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.typing import ArrayLike

from jaxsched._core._extra import extra
from jaxsched._core._numerics import ratio
from jaxsched._core._require import (
    UNIT,
    Condition,
    finite,
    flag,
    length,
    one_of,
    positive,
    refuse,
    require,
    within,
)
from jaxsched._rules._cooldown import cooldown
from jaxsched._rules._plateau import reduce_on_plateau
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._compose import join
from jaxsched._schedules._curves import cosine, linear, polynomial
from jaxsched._schedules._piecewise import piecewise_constant, piecewise_cosine, piecewise_linear
from jaxsched._schedules._recipes import cyclic
from jaxsched._schedules._restarts import cycle
from jaxsched._schedules._schedule import Schedule, as_schedule
from jaxsched._schedules._unbounded import constant, exponential_decay, step_decay
from jaxsched.compat import _played
from jaxsched.compat._common import (
    TABULATE,
    concrete,
    explain,
    lowest_scale,
    own,
    rated,
    repeated,
    scaled,
    tabulated,
    traced,
    unless_empty,
)


@rated
def LambdaLR(
    base_lr: ArrayLike, lr_lambda: Callable[[Any], Any], *, total_steps: int | None = None
) -> Schedule:
    """A schedule from a function of the step, multiplied by the base rate.

        value(t) = base_lr * lr_lambda(t)

    Args:
      base_lr: the base rate.
      lr_lambda: the factor: a function that JAX can trace, or with `total_steps` any function.
      total_steps: last step of the table of the function's values; the last value is held. None:
        the function is traced.

    Example:
      >>> print(LambdaLR(0.1, lambda t: 0.5**t)(jnp.arange(3)))
      [0.1   0.05  0.025]
      >>> print(LambdaLR(0.1, lambda t: 1.0 if t < 2 else 0.5, total_steps=10)(jnp.arange(3)))
      [0.1  0.1  0.05]

    References:
      `torch.optim.lr_scheduler.LambdaLR`.
    """
    return base_lr * tabulated("LambdaLR", lr_lambda, total_steps, lr_lambda=lr_lambda)


@rated
def MultiplicativeLR(
    base_lr: ArrayLike, lr_lambda: Callable[[Any], Any], *, total_steps: int | None = None
) -> Schedule:
    """A schedule that is multiplied by another factor at each step.

        value(t) = base_lr * lr_lambda(1) * lr_lambda(2) * ... * lr_lambda(t)

    Args:
      base_lr: the base rate.
      lr_lambda: the factor: a function that JAX can trace, or with `total_steps` any function.
      total_steps: last step of the table of the products; the last value is held. None: the
        function is traced, and step t costs t multiplications.

    Example:
      >>> print(MultiplicativeLR(0.8, lambda t: 0.5, total_steps=10)(jnp.arange(4)))
      [0.8 0.4 0.2 0.1]

    References:
      `torch.optim.lr_scheduler.MultiplicativeLR`.
    """
    call = "MultiplicativeLR"
    if total_steps is None:
        product = repeated(lambda k, x: x * lr_lambda(k), 1.0)
        return base_lr * traced(call, product, TABULATE, lr_lambda=lr_lambda)
    factors = [1.0, *(float(lr_lambda(t)) for t in range(1, total_steps + 1))]
    products = list(itertools.accumulate(factors, operator.mul))
    return base_lr * tabulated(call, products.__getitem__, total_steps, lr_lambda=lr_lambda)


@rated
def StepLR(base_lr: ArrayLike, step_size: ArrayLike, gamma: ArrayLike = 0.1) -> Schedule:
    """Step decay: multiplies by `gamma` every `step_size` steps.

        value(t) = base_lr * gamma**floor(t / step_size)

    Example:
      >>> print(StepLR(0.1, 2, gamma=0.5)(jnp.arange(5)))
      [0.1   0.1   0.05  0.05  0.025]

    References:
      `torch.optim.lr_scheduler.StepLR`.
    """
    every = length("StepLR", "step_size", step_size, least=1)
    gamma = positive("StepLR", "gamma", gamma)
    if isinstance(every, int) and every == 1:
        return exponential_decay(base_lr, decay_rate=gamma, decay_steps=1)
    return step_decay(base_lr, factor=gamma, every=every)


@rated
def MultiStepLR(
    base_lr: ArrayLike, milestones: Sequence[ArrayLike], gamma: ArrayLike = 0.1
) -> Schedule:
    """Multiplies by `gamma` at each milestone.

        value(t) = base_lr * gamma**(number of milestones <= t)

    A milestone that occurs twice cuts twice; milestone 0 cuts from the start.

    Example:
      >>> print(MultiStepLR(0.1, [2, 3], gamma=0.5)(jnp.arange(5)))
      [0.1   0.1   0.05  0.025 0.025]

    References:
      `torch.optim.lr_scheduler.MultiStepLR`.
    """
    gamma = finite("MultiStepLR", "gamma", gamma)
    milestones = sorted(milestones)  # pyright: ignore[reportArgumentType]
    for milestone in milestones:
        length("MultiStepLR", "milestones", milestone)
    values = [gamma**n for n in range(len(milestones) + 1)]
    return base_lr * piecewise_constant(values, milestones)


@rated
def ConstantLR(
    base_lr: ArrayLike, factor: ArrayLike = 1 / 3, total_iters: ArrayLike = 5
) -> Schedule:
    """Multiplies the base rate by a factor for the first steps.

        value(t) = base_lr * factor    for t < total_iters, then base_lr

    With `total_iters=0`, the factor stays forever. torch does the same once `step()` is called. For
    `factor=0`, torch divides by zero; the twin continues with the base rate.

    Example:
      >>> print(ConstantLR(0.1, factor=0.5, total_iters=2)(jnp.arange(4)))
      [0.05 0.05 0.1  0.1 ]

    References:
      `torch.optim.lr_scheduler.ConstantLR`.
    """
    low = scaled(base_lr, within("ConstantLR", "factor", factor, UNIT))
    steps = length("ConstantLR", "total_iters", total_iters)
    return constant(low, steps) >> constant(unless_empty(steps, base_lr, low))


@rated
def LinearLR(
    base_lr: ArrayLike,
    start_factor: ArrayLike = 1 / 3,
    end_factor: ArrayLike = 1.0,
    total_iters: ArrayLike = 5,
) -> Schedule:
    """A linear schedule between two factors of the base rate.

        value(t) = base_lr * (start_factor + (end_factor - start_factor) * t / total_iters)

    This is the value up to step `total_iters`; the last value is held. With `total_iters=0`, the
    factor stays at `start_factor`, as in torch.

    Args:
      base_lr: the base rate.
      start_factor: initial factor, in (0, 1], as in torch. For a warmup from 0, use `linear(0.0,
        base_lr, total_iters)`.
      end_factor: final factor, in [0, 1].
      total_iters: number of steps from one factor to the other.

    Example:
      >>> print(LinearLR(0.1, start_factor=0.5, total_iters=2)(jnp.arange(4)))
      [0.05  0.075 0.1   0.1  ]

    References:
      `torch.optim.lr_scheduler.LinearLR`.
    """
    remedy = "For a warmup from 0, use `linear(0.0, base_lr, total_iters)`."
    part = Condition("be in (0, 1]", lambda x: (x > 0) & (x <= 1), remedy)
    above_zero = within("LinearLR", "start_factor", start_factor, part)
    start = scaled(base_lr, above_zero)
    end = scaled(base_lr, within("LinearLR", "end_factor", end_factor, UNIT))
    steps = length("LinearLR", "total_iters", total_iters)
    return linear(start, unless_empty(steps, end, start), steps)


@rated
def ExponentialLR(base_lr: ArrayLike, gamma: ArrayLike) -> Schedule:
    """Exponential decay: multiplies by `gamma` at every step.

        value(t) = base_lr * gamma**t

    Example:
      >>> print(ExponentialLR(0.1, gamma=0.5)(jnp.arange(3)))
      [0.1   0.05  0.025]

    References:
      `torch.optim.lr_scheduler.ExponentialLR`.
    """
    rate = positive("ExponentialLR", "gamma", gamma)
    return exponential_decay(base_lr, decay_rate=rate, decay_steps=1)


@rated
def PolynomialLR(
    base_lr: ArrayLike, total_iters: ArrayLike = 5, power: ArrayLike = 1.0
) -> Schedule:
    """Polynomial decay to zero.

        value(t) = base_lr * (1 - t / total_iters)**power    up to total_iters, then 0

    With `total_iters=0`, nothing decays. torch does the same once `step()` is called.

    Example:
      >>> print(PolynomialLR(0.1, total_iters=2)(jnp.arange(4)))
      [0.1  0.05 0.   0.  ]

    References:
      `torch.optim.lr_scheduler.PolynomialLR`.
    """
    steps = length("PolynomialLR", "total_iters", total_iters)
    power = positive("PolynomialLR", "power", power)
    return polynomial(base_lr, unless_empty(steps, 0.0, base_lr), steps, power=power)


@rated
def CosineAnnealingLR(base_lr: ArrayLike, T_max: ArrayLike, eta_min: ArrayLike = 0.0) -> Schedule:
    """Cosine annealing: an unbounded cosine wave, as in torch.

        value(t) = eta_min + (base_lr - eta_min) * (1 + cos(pi * t / T_max)) / 2

    It does not stop at `T_max`: by step 2 * T_max it has risen to the base rate again. To hold the
    end value, use `cosine(base_lr, eta_min, T_max)`.

    Example:
      >>> print(CosineAnnealingLR(0.1, T_max=2)(jnp.arange(5)))
      [0.1  0.05 0.   0.05 0.1 ]

    References:
      `torch.optim.lr_scheduler.CosineAnnealingLR`.
    """
    steps = length("CosineAnnealingLR", "T_max", T_max, least=1)
    return (cosine(base_lr, eta_min, steps) >> cosine(eta_min, base_lr, steps)).cycle()


@rated
def CosineAnnealingWarmRestarts(
    base_lr: ArrayLike, T_0: ArrayLike, T_mult: ArrayLike = 1, eta_min: ArrayLike = 0.0
) -> Schedule:
    """Cosine decay with warm restarts (SGDR).

        value(t) = eta_min + (base_lr - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2

    Cycle i has T_i = T_0 * T_mult**i steps, and T_cur is the number of steps since its start. Every
    restart is at its exact step. torch's `step(epoch)` rounds a logarithm, and misses some
    restarts.

    Args:
      base_lr: value after each restart.
      T_0: length of the first cycle, at least 1.
      T_mult: factor from the length of one cycle to the next, an int of at least 1.
      eta_min: the value at the end of each cycle, which is never reached exactly.

    Example:
      >>> print(CosineAnnealingWarmRestarts(0.1, T_0=1, T_mult=2)(jnp.arange(4)))
      [0.1  0.1  0.05 0.1 ]

    References:
      `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.
    """
    call = "CosineAnnealingWarmRestarts"
    steps = length(call, "T_0", T_0, least=1)
    mult = length(call, "T_mult", T_mult, least=1)
    return cycle(cosine(base_lr, eta_min, steps), mult, 1.0, None, call)


@rated
def CyclicLR(
    base_lr: ArrayLike,
    max_lr: ArrayLike,
    step_size_up: ArrayLike = 2000,
    step_size_down: ArrayLike | None = None,
    mode: str = "triangular",
    gamma: ArrayLike = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
    cycle_momentum: bool = True,
    base_momentum: ArrayLike = 0.8,
    max_momentum: ArrayLike = 0.9,
) -> Schedule:
    """Cyclical learning rates (CLR): triangles between two rates.

        value(t) = base_lr + (max_lr - base_lr) * triangle(t) * scale

        mode         scale
        triangular   1
        triangular2  1 / 2**(cycle - 1)
        exp_range    gamma**t

    Args:
      base_lr: value at the foot. torch overwrites the optimizer's own rate with it.
      max_lr: value at the top of the first triangle.
      step_size_up: length of the rise, in steps.
      step_size_down: length of the fall; None: `step_size_up`.
      mode: the scale, see above.
      gamma: factor of "exp_range", per step, not per cycle.
      scale_fn: the scale, instead of `mode`: a function of the cycle, counted from 1, or of the
        step. JAX must be able to trace it.
      scale_mode: "cycle" or "iterations", the argument of `scale_fn`.
      cycle_momentum: ignored; for the momentum, use `CyclicMomentum` with the same arguments.
      base_momentum: see `CyclicMomentum`.
      max_momentum: see `CyclicMomentum`.

    Example:
      >>> print(CyclicLR(0.0, 0.1, step_size_up=2, mode="triangular2")(jnp.arange(9)))
      [0.    0.05  0.1   0.05  0.    0.025 0.05  0.025 0.   ]

    References:
      `torch.optim.lr_scheduler.CyclicLR`; Smith, 2017, https://arxiv.org/abs/1506.01186.
    """
    flag("CyclicLR", "cycle_momentum", cycle_momentum)
    sizes = step_size_up, step_size_down
    return _triangles("CyclicLR", base_lr, max_lr, *sizes, mode, gamma, scale_fn, scale_mode)


def CyclicMomentum(
    base_momentum: ArrayLike = 0.8,
    max_momentum: ArrayLike = 0.9,
    step_size_up: ArrayLike = 2000,
    step_size_down: ArrayLike | None = None,
    mode: str = "triangular",
    gamma: ArrayLike = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
) -> Schedule:
    """The momentum (or Adam's b1) that goes with `CyclicLR`: it falls while the rate rises.

        value(t) = max_momentum - (max_momentum - base_momentum) * triangle(t) * scale

    Example:
      >>> print(CyclicMomentum(0.8, 0.9, step_size_up=2)(jnp.arange(5)))
      [0.9  0.85 0.8  0.85 0.9 ]

    References:
      `torch.optim.lr_scheduler.CyclicLR(cycle_momentum=True)`.
    """
    call, sizes = "CyclicMomentum", (step_size_up, step_size_down)
    return _triangles(call, max_momentum, base_momentum, *sizes, mode, gamma, scale_fn, scale_mode)


def OneCycleLR(
    max_lr: ArrayLike,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,
    base_momentum: ArrayLike = 0.85,
    max_momentum: ArrayLike = 0.95,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """The 1cycle schedule: up to the peak, then down to the end.

        step 0                        max_lr / div_factor
        step pct_start * N - 1        max_lr                  (a real number: between two steps)
        step 2 * pct_start * N - 2    max_lr / div_factor     (three_phase)
        step N - 1                    max_lr / div_factor / final_div_factor, and held

    N is the number of steps. The end is at the last step, N - 1, not at N as in `one_cycle`. The
    twin holds the end value. torch goes past the end value at step N: a cosine rises again, and a
    line falls below the end value. At step N + 1 torch raises an error.

    Args:
      max_lr: the peak. torch overwrites the optimizer's own rate.
      total_steps: the number of steps N. Alternatively, give `epochs` and `steps_per_epoch`.
      epochs: number of epochs, with N = epochs * steps_per_epoch.
      steps_per_epoch: optimizer steps per epoch.
      pct_start: fraction of the steps for the rise, in [0, 1].
      anneal_strategy: "cos" or "linear".
      cycle_momentum: ignored; for the momentum, use `OneCycleMomentum`.
      base_momentum: see `OneCycleMomentum`.
      max_momentum: see `OneCycleMomentum`.
      div_factor: ratio of the peak to the first value.
      final_div_factor: ratio of the first value to the last.
      three_phase: whether the rate first falls back to the first value, in as many steps as it
        rose, and then decays to the end.

    Example:
      >>> one_cycle = OneCycleLR(1.0, total_steps=10, anneal_strategy="linear")
      >>> print(np.asarray(one_cycle(jnp.array([0, 2, 9, 10]))).round(3))
      [0.04 1.   0.   0.  ]

    References:
      `torch.optim.lr_scheduler.OneCycleLR`.
    """
    flag("OneCycleLR", "cycle_momentum", cycle_momentum)
    flag("OneCycleLR", "three_phase", three_phase)
    call = "OneCycleLR"
    first = ratio(finite(call, "max_lr", max_lr), positive(call, "div_factor", div_factor))
    last = ratio(first, positive(call, "final_div_factor", final_div_factor))
    steps = _total(call, total_steps, epochs, steps_per_epoch)
    values = [first, max_lr, first, last] if three_phase else [first, max_lr, last]
    return _phases(call, values, steps, pct_start, anneal_strategy)


def OneCycleMomentum(
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    base_momentum: ArrayLike = 0.85,
    max_momentum: ArrayLike = 0.95,
    three_phase: bool = False,
) -> Schedule:
    """The momentum (or Adam's b1) that goes with `OneCycleLR`: it falls while the rate rises.

        max_momentum at step 0, base_momentum at the peak of the rate, max_momentum at the end

    Example:
      >>> print(OneCycleMomentum(total_steps=10)(jnp.array([0, 2, 9])))
      [0.95 0.85 0.95]

    References:
      `torch.optim.lr_scheduler.OneCycleLR(cycle_momentum=True)`.
    """
    call, high, low = "OneCycleMomentum", max_momentum, base_momentum
    flag(call, "three_phase", three_phase)
    values = [high, low, high, high] if three_phase else [high, low, high]
    steps = _total(call, total_steps, epochs, steps_per_epoch)
    return _phases(call, values, steps, pct_start, anneal_strategy)


def SequentialLR(schedulers: Sequence[Any], milestones: Sequence[ArrayLike]) -> Schedule:
    """Joins schedules in sequence; each starts from its own step 0.

        join(schedulers, milestones)

    If a milestone cuts a warmup off, the rate jumps to the first value of the next schedule.

    Args:
      schedulers: schedules, each built with the base rate.
      milestones: the steps at which the next schedule begins, one fewer than schedules.

    Example:
      >>> warmup, decay = LinearLR(0.1, start_factor=0.5, total_iters=2), ExponentialLR(0.1, 0.5)
      >>> print(SequentialLR([warmup, decay], milestones=[2])(jnp.arange(4)))
      [0.05  0.075 0.1   0.05 ]

    References:
      `torch.optim.lr_scheduler.SequentialLR`.
    """
    call = "SequentialLR"
    require(len(schedulers) > 0, refuse(call, "schedulers", "not be empty", schedulers))
    members = [as_schedule(call, scheduler) for scheduler in schedulers]
    must = f"be one fewer than the {len(members)} schedulers"
    require(len(milestones) == len(members) - 1, refuse(call, "milestones", must, list(milestones)))
    return join(members, milestones)


def SWALR(
    schedule: Any,
    swa_lr: ArrayLike,
    anneal_epochs: ArrayLike = 10,
    anneal_strategy: str = "cos",
) -> Stateful:
    """Moves from the current rate to `swa_lr` after `trigger(opt_state)`.

        cooldown(schedule, cosine(1.0, 0.0, anneal_epochs), end_value=swa_lr)

    In PyTorch, the loop calls `swa_scheduler.step()` instead of `scheduler.step()` from some epoch
    on. Here, call `trigger(opt_state)` once at that epoch.

    Args:
      schedule: the rate before the trigger: a schedule, or a number.
      swa_lr: the rate at the end of the annealing.
      anneal_epochs: length of the annealing.
      anneal_strategy: "cos" or "linear".

    Example:
      >>> rate = SWALR(ExponentialLR(0.1, 0.5), swa_lr=0.05, anneal_epochs=2)
      >>> print(simulate(rate, total_steps=5, trigger_at=2).values)
      [0.1   0.05  0.025 0.038 0.05 ]

    References:
      `torch.optim.swa_utils.SWALR`.
    """
    call = "SWALR"
    one_of(call, "anneal_strategy", anneal_strategy, ("cos", "linear"))
    before = schedule if callable(schedule) else constant(finite(call, "schedule", schedule))
    curve = cosine if anneal_strategy == "cos" else linear
    steps = length(call, "anneal_epochs", anneal_epochs)
    return cooldown(before, curve(1.0, 0.0, steps), end_value=finite(call, "swa_lr", swa_lr))


@rated
def ChainedScheduler(base_lr: ArrayLike, schedulers: Sequence[Any]) -> Schedule:
    """Multiplies several schedules that share a base rate.

        value(t) = base_lr * product of (schedulers[i](t) / base_lr)

    The twin is always this product. torch computes a recursion, which is the same product only for
    schedulers that multiply. For other schedulers it differs. After the lowest point of a
    `CosineAnnealingLR`, torch forgets the other factors. With an `eta_min` above 0, the result of
    torch is not a product. `LambdaLR` and warm restarts overwrite all schedulers before them.

    Args:
      base_lr: the base rate of all of them, not zero.
      schedulers: schedules, each built with that base rate.

    Example:
      >>> both = ChainedScheduler(0.1, [ExponentialLR(0.1, 0.5), ConstantLR(0.1, 0.5, 1)])
      >>> print(both(jnp.arange(3)))
      [0.05  0.05  0.025]

    References:
      `torch.optim.lr_scheduler.ChainedScheduler`.
    """
    require(
        len(schedulers) > 0, refuse("ChainedScheduler", "schedulers", "not be empty", schedulers)
    )
    members = [as_schedule("ChainedScheduler", scheduler) for scheduler in schedulers]
    return functools.reduce(lambda a, b: a * (b / base_lr), members)


@rated
def ReduceLROnPlateau(
    base_lr: ArrayLike,
    mode: str = "min",
    factor: ArrayLike = 0.1,
    patience: ArrayLike = 10,
    threshold: ArrayLike = 1e-4,
    threshold_mode: str = "rel",
    cooldown: ArrayLike = 0,
    min_lr: ArrayLike = 0.0,
    eps: ArrayLike = 1e-8,
    *,
    metric: str = "value",
) -> Stateful:
    """Reduces the rate when a metric has not improved for more than `patience` observations.

        constant(base_lr) * reduce_on_plateau(patience=patience + 1, nonfinite="bad", ...)

    The rate is cut after patience + 1 bad observations in a row. A relative threshold uses
    `|best|`. torch's threshold has the wrong sign for negative metrics, so that a worse metric can
    count as better. An infinite metric is bad, and never the best.

    Args:
      base_lr: the rate before the first cut; concrete.
      mode: "min" or "max".
      factor: multiplier of the rate at each cut, in (0, 1); concrete.
      patience: number of bad observations in a row that are tolerated; the next one cuts.
      threshold: margin.
      threshold_mode: "rel", relative to the best, or "abs".
      cooldown: observations after a cut during which bad ones do not count.
      min_lr: lower limit of the rate; concrete.
      eps: smallest change. A cut by this amount or less is not made; concrete.
      metric: name of the metric.

    Example:
      >>> tx = scale_by_learning_rate(ReduceLROnPlateau(0.1, factor=0.5, patience=1))
      >>> state = tx.init({})
      >>> for loss in (1.0, 1.0, 1.0, 1.0):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(hyperparams(state)["learning_rate"])
      0.1
      0.1
      0.05
      0.05

    References:
      `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """
    call = "ReduceLROnPlateau"
    one_of(call, "mode", mode, ("min", "max"))
    one_of(call, "threshold_mode", threshold_mode, ("rel", "abs"))
    relative = threshold_mode == "rel"
    return constant(base_lr) * reduce_on_plateau(
        mode=mode,
        factor=factor,
        patience=length(call, "patience", patience) + 1,
        rtol=threshold if relative else 0.0,
        atol=0.0 if relative else threshold,
        cooldown=length(call, "cooldown", cooldown),
        min_scale=lowest_scale(call, base_lr, factor, min_lr, eps),
        nonfinite="bad",
        metric=metric,
    )


def to_scheduler(optimizer: Any, rate: Any) -> Any:
    """Converts a schedule, with or without rules, to a scheduler of a PyTorch optimizer.

        group["lr"] = rate(t)    after t calls of its step()

    The schedule is the rate itself: like `OneCycleLR`, it overwrites the rate of the optimizer. A
    rule receives its metric from `scheduler.step(loss)`, or by name from
    `scheduler.step(validation=loss)`, and reacts before the next rate is set. A `step()` without a
    metric does not count towards the patience. `scheduler.trigger()` triggers an `until` or a
    `cooldown`. The rules run on the host; each step runs one small program.

    Args:
      optimizer: a `torch.optim.Optimizer`.
      rate: a schedule, stateful or not; or a list, one for each parameter group.

    Returns:
      A `torch.optim.lr_scheduler.LRScheduler`. Its `state_dict` holds the step and the numbers of
      the rules, and no configuration.

    Raises:
      MissingExtraError: torch is not installed.
      ValueError: an entry is not a schedule; the list does not fit the groups; there is one
        schedule for groups with different rates; or `step` gets a metric that no rule listens to.

    Example:
      >>> rate = warmup_cosine(0.1, total_steps=1000, warmup_steps=50) * reduce_on_plateau()
      >>> import torch  # doctest: +SKIP
      >>> parameter = torch.nn.Parameter(torch.ones(3))  # doctest: +SKIP
      >>> optimizer = torch.optim.SGD([parameter], lr=0.1)  # doctest: +SKIP
      >>> scheduler = to_scheduler(optimizer, rate)  # doctest: +SKIP
      >>> for loss in (1.0, 0.5):  # doctest: +SKIP
      ...     optimizer.step()
      ...     scheduler.step(loss)

    References:
      `torch.optim.lr_scheduler.LRScheduler`.
    """
    extra("torch.optim.lr_scheduler", "torch")
    if not hasattr(optimizer, "param_groups"):
        must = "be an optimizer of PyTorch"
        raise ValueError(refuse("to_scheduler", "optimizer", must, optimizer))
    groups = optimizer.param_groups
    given = rate if isinstance(rate, (list, tuple)) else [rate] * len(groups)
    require(
        len(given) == len(groups),
        f"`to_scheduler` needs one schedule for each of the {len(groups)} parameter groups, "
        f"got {len(given)}.",
    )
    rates = sorted({float(group["lr"]) for group in groups})
    require(
        len(rates) == 1 or isinstance(rate, (list, tuple)),
        f"`to_scheduler` would give the rate of one schedule to groups with the rates {rates}. "
        "Pass a list of schedules, one for each group, such as `[rate, 0.1 * rate]`.",
    )
    return _torch_class()(optimizer, [_played.Played("to_scheduler", one) for one in given])


@functools.cache
def _torch_class() -> type:
    class JaxScheduler(extra("torch.optim.lr_scheduler", "torch").LRScheduler):
        """A schedule of jaxsched."""

        def __init__(self, optimizer: Any, played: list[_played.Played]) -> None:
            self._played, self._rates = played, [0.0] * len(played)
            super().__init__(optimizer)

        def step(self, value: Any = None, **metrics: Any) -> None:
            """Set the rates of the next step, after the rules have reacted to metrics."""
            given = metrics if value is None else {"value": value, **metrics}
            known = set[str]().union(*(one.metrics for one in self._played))
            for name in given:
                must = f"be a metric that a rule listens to, one of {sorted(known) or 'none'}"
                require(name in known, refuse("scheduler.step", name, must, given[name]))
            step = self.last_epoch + 1
            self._rates = [one.at(step, given) for one in self._played]
            super().step()

        def get_lr(self) -> list[float]:
            return self._rates

        def state_dict(self) -> dict[str, Any]:
            states = [one.state_dict() for one in self._played]
            return {"last_epoch": self.last_epoch, "rates": self._rates, "states": states}

        def trigger(self) -> None:
            """Trigger every `until` and `cooldown`; they begin with the next step."""
            for one in self._played:
                one.trigger()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            _require_own(state_dict, len(self._played))
            for one, state in zip(self._played, state_dict["states"], strict=True):
                one.load("load_state_dict", state)
            self.last_epoch, self._rates = state_dict["last_epoch"], list(state_dict["rates"])
            self._last_lr = self._rates
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                _set_rate(group, rate)

    return JaxScheduler


def _require_own(state_dict: dict[str, Any], groups: int) -> None:
    """Raise unless this is the state of a scheduler of so many groups."""
    keys = {"last_epoch", "rates", "states"}
    must = f"have the keys {sorted(keys)}"
    known = refuse("load_state_dict", "state_dict", must, sorted(state_dict))
    require(keys <= state_dict.keys(), known)
    count = len(state_dict["states"])
    must = refuse("load_state_dict", "state_dict", f"be of {groups} groups", count)
    require(count == groups, must)


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if hasattr(group["lr"], "fill_"):  # a tensor, which a compiled step reads
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _triangles(
    call: str,
    foot: ArrayLike,
    top: ArrayLike,
    up: ArrayLike,
    down: ArrayLike | None,
    mode: str,
    gamma: ArrayLike,
    scale_fn: Callable[[Any], Any] | None,
    scale_mode: str,
) -> Schedule:
    up = length(call, "step_size_up", up, least=1)
    down = up if down is None else length(call, "step_size_down", down)
    one_of(call, "scale_mode", scale_mode, ("cycle", "iterations"))
    if scale_fn is None:
        one_of(call, "mode", mode, ("triangular", "triangular2", "exp_range"))
        if mode != "exp_range":
            shrink = 0.5 if mode == "triangular2" else None
            return cyclic(foot, top, up_steps=up, down_steps=down, decay=shrink)
    triangle = cyclic(0.0, 1.0, up_steps=up, down_steps=down)
    span = finite(call, "top", top) - finite(call, "foot", foot)
    if scale_fn is None:
        rate = positive(call, "gamma", gamma)
        return foot + span * triangle * exponential_decay(1.0, decay_rate=rate, decay_steps=1)

    def scale(t: jax.Array) -> Any:
        return scale_fn(t // (up + down) + 1 if scale_mode == "cycle" else t)

    return foot + span * triangle * traced(call, scale, "", scale_fn=scale_fn)


def _total(call: str, total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    if total_steps is not None:
        return int(length(call, "total_steps", total_steps, least=1))
    if epochs is None or steps_per_epoch is None:
        raise ValueError(f"`{call}` needs `total_steps`, or `epochs` and `steps_per_epoch`.")
    return int(
        length(call, "epochs", epochs, least=1)
        * length(call, "steps_per_epoch", steps_per_epoch, least=1)
    )


def _phases(
    call: str, values: list[Any], steps: int, pct_start: float, anneal_strategy: str
) -> Schedule:
    one_of(call, "anneal_strategy", anneal_strategy, ("cos", "linear"))
    share = concrete(call, "pct_start", pct_start)
    fits = 0 <= share <= 1 and not isinstance(pct_start, int)
    must, remedy = "be a float in [0, 1]", "As in torch, it is a fraction, not a number of steps."
    require(fits, refuse(call, "pct_start", must, pct_start, remedy))
    through = piecewise_cosine if anneal_strategy == "cos" else piecewise_linear
    top, end = share * steps - 1, steps - 1
    turns = [top, 2 * top] if len(values) == 4 else [top]
    if top < 0:
        # All phases except the last lie before step 0.
        return through(values[-2:], [turns[-1] + 2, end + 2]).shift(-2)
    if turns[-1] >= end:
        # The end comes before the second phase is over.
        return through(values[:-1], [0, *turns]).take(end)
    return through(values, [0, *turns, end])


explain(globals())


def __dir__() -> list[str]:
    return own(globals())
