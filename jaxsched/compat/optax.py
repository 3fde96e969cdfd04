"""Twins of `optax.schedules` and of `optax.contrib.reduce_on_plateau` (compared with optax 0.2.8).

The names, the arguments and the state are optax's. What is better: every number may be traced and
is data, powers and ends are exact, restarts cost nothing, hyperparameters are float32 whatever the
parameters' dtype. What optax answers with a constant (no steps, a decay rate of zero) is one here.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from optax.schedules import Schedule as Schedule
from optax.schedules import StatefulSchedule as StatefulSchedule

from jaxsched import _clock
from jaxsched._compose import join
from jaxsched._curves import cosine, linear, polynomial
from jaxsched._decays import constant
from jaxsched._decays import exponential_decay as decaying
from jaxsched._numerics import ratio, real
from jaxsched._piecewise import piecewise_constant, piecewise_cosine, piecewise_linear
from jaxsched._require import finite, integer, length, one_of, refuse, require
from jaxsched._schedule import Schedule as Curve
from jaxsched._schedule import as_schedule
from jaxsched._stateful import _mailbox, _plateau
from jaxsched._stateful._plateau import PlateauState
from jaxsched._stateful._protocol import Stateful
from jaxsched._stateful._smoothing import SmoothingState
from jaxsched._transforms._inject import weak
from jaxsched.compat._common import decayed, scaled

Scales = Mapping[Any, ArrayLike]


def constant_schedule(value: ArrayLike) -> Curve:
    """One value.

        value(t) = value

    Example:
      >>> print(constant_schedule(0.1)(7))
      0.1

    References:
      `optax.constant_schedule`.
    """
    return constant(value)


def polynomial_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    power: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Curve:
    """A power of the time that is left.

        value(t) = end + (init - end) * (1 - (t - begin) / steps)**power

    held at both ends. Without steps it is constant at `init_value`, not at the end value, as in
    optax. A fractional power has no NaN at the end, which optax's has under `jit`.

    Example:
      >>> print(polynomial_schedule(1.0, 0.0, 2, 4)(jnp.arange(5)))
      [1.    0.562 0.25  0.062 0.   ]

    References:
      `optax.polynomial_schedule`.
    """
    steps = integer("polynomial_schedule", transition_steps=transition_steps)
    if _none(steps):
        return constant(init_value)
    if isinstance(power, (int, float)) and power == 1:
        return _begun(linear(init_value, end_value, steps), transition_begin)
    return _begun(polynomial(init_value, end_value, steps, power=power), transition_begin)


def linear_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Curve:
    """A straight line.

        value(t) = init + (end - init) * (t - begin) / steps

    held at both ends. Without steps it is constant at `init_value`, not at the end value, as in
    optax.

    Example:
      >>> print(linear_schedule(1.0, 0.0, 2, transition_begin=1)(jnp.arange(4)))
      [1.  1.  0.5 0. ]

    References:
      `optax.linear_schedule`.
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def piecewise_constant_schedule(
    init_value: ArrayLike, boundaries_and_scales: Scales | None = None
) -> Curve:
    """A value that is scaled at each boundary, by factors that multiply up.

        value(t) = init_value * product of the scales whose boundary <= t

    Example:
      >>> print(piecewise_constant_schedule(1.0, {1: 0.5, 3: 0.5})(jnp.arange(4)))
      [1.   0.5  0.5  0.25]

    References:
      `optax.piecewise_constant_schedule`.
    """
    boundaries, scales = _scales("piecewise_constant_schedule", boundaries_and_scales)
    passed = sum(bool(boundary <= 0) for boundary in boundaries)
    values = _multiplied(init_value, scales)[passed:]
    return piecewise_constant(values, boundaries[passed:])


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: ArrayLike, boundaries_and_scales: Scales | None = None
) -> Curve:
    """Lines or half cosines between values that are scaled from knot to knot.

        value(0) = init_value,    value(boundary k) = init_value * the first k scales

    Example:
      >>> print(piecewise_interpolate_schedule("linear", 1.0, {2: 0.5})(jnp.arange(4)))
      [1.   0.75 0.5  0.5 ]

    References:
      `optax.piecewise_interpolate_schedule`.
    """
    call = "piecewise_interpolate_schedule"
    one_of(call, ("linear", "cosine"), interpolate_type=interpolate_type)
    boundaries, scales = _scales(call, boundaries_and_scales)
    through = piecewise_linear if interpolate_type == "linear" else piecewise_cosine
    return through(_multiplied(init_value, scales), [0, *boundaries])


def exponential_decay(
    init_value: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Curve:
    """The same factor every `transition_steps` steps.

        value(t) = init_value * decay_rate**((t - begin) / steps)

    never past `end_value`. Without steps, or with a rate of zero, it is constant, as in optax.

    Example:
      >>> print(jaxsched.compat.optax.exponential_decay(1.0, 1, 0.5)(jnp.arange(3)))
      [1.   0.5  0.25]

    References:
      `optax.exponential_decay`.
    """
    call = "exponential_decay"
    steps = integer(call, transition_steps=transition_steps)
    rate = finite(call, decay_rate=decay_rate)
    if _none(steps) or (isinstance(rate, float) and rate == 0.0):
        return constant(init_value)
    if not staircase and isinstance(rate, float):
        decay = decayed(init_value, rate, steps)
        if end_value is not None:
            decay = decay.clip(low=end_value) if rate < 1 else decay.clip(high=end_value)
        return _begun(decay, transition_begin)
    decay = decaying(
        init_value, decay_rate=rate, decay_steps=steps, staircase=staircase, end_value=end_value
    )
    return _begun(decay, transition_begin)


def cosine_decay_schedule(
    init_value: ArrayLike, decay_steps: ArrayLike, alpha: ArrayLike = 0.0, exponent: ArrayLike = 1.0
) -> Curve:
    """Half a cosine.

        value(t) = init_value * (alpha + (1 - alpha) * half**exponent),
        half = (1 + cos(pi * t / decay_steps)) / 2

    Example:
      >>> print(cosine_decay_schedule(1.0, 4)(jnp.arange(5)))
      [1.    0.854 0.5   0.146 0.   ]

    References:
      `optax.cosine_decay_schedule`.
    """
    steps = length("cosine_decay_schedule", decay_steps=decay_steps, least=1)
    return cosine(init_value, scaled(init_value, alpha), steps, exponent=_power(exponent))


def linear_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Curve:
    """One cycle in three lines.

        step 0: peak / div_factor,    pct_start: peak,    pct_final: peak / div_factor,
        end: peak / (div_factor * final_div_factor)

    The fractions are rounded down to steps. With few steps two knots can be the same step: the
    later one then replaces the earlier, as it does in optax.

    Example:
      >>> print(linear_onecycle_schedule(10, 1.0, 0.3, 0.7, 10.0, 100.0)(jnp.array([0, 3, 7, 10])))
      [0.1   1.    0.1   0.001]

    References:
      `optax.linear_onecycle_schedule`.
    """
    call = "linear_onecycle_schedule"
    steps = int(length(call, transition_steps=transition_steps, least=1))
    first = ratio(finite(call, peak_value=peak_value), finite(call, div_factor=div_factor))
    knots = {
        int(pct_start * steps): div_factor,
        int(pct_final * steps): ratio(1.0, finite(call, div_factor=div_factor)),
        steps: ratio(1.0, finite(call, final_div_factor=final_div_factor)),
    }
    return piecewise_interpolate_schedule("linear", first, knots)


def cosine_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: float = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Curve:
    """One cycle in two half cosines.

        step 0: peak / div_factor,    pct_start: peak,
        end: peak / (div_factor * final_div_factor)

    The fraction is rounded down to a step.

    Example:
      >>> print(cosine_onecycle_schedule(10, 1.0, div_factor=10.0)(jnp.array([0, 3, 10])))
      [0.1 1.  0. ]

    References:
      `optax.cosine_onecycle_schedule`.
    """
    call = "cosine_onecycle_schedule"
    steps = int(length(call, transition_steps=transition_steps, least=1))
    div = finite(call, div_factor=div_factor)
    last = ratio(1.0, scaled(div, finite(call, final_div_factor=final_div_factor)))
    knots = {int(pct_start * steps): div_factor, steps: last}
    return piecewise_interpolate_schedule(
        "cosine", ratio(finite(call, peak_value=peak_value), div), knots
    )


def warmup_constant_schedule(
    init_value: ArrayLike, peak_value: ArrayLike, warmup_steps: ArrayLike
) -> Curve:
    """A line, then constant.

        linear_schedule(init_value, peak_value, warmup_steps)

    Without a warmup it stays at `init_value` for ever, as in optax.

    Example:
      >>> print(warmup_constant_schedule(0.0, 1.0, 2)(jnp.arange(4)))
      [0.  0.5 1.  1. ]

    References:
      `optax.warmup_constant_schedule`.
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    exponent: ArrayLike = 1.0,
) -> Curve:
    """A line, then half a cosine. `decay_steps` counts both.

        linear(init, peak, warmup_steps) >> cosine(peak, end, decay_steps - warmup_steps)

    With a peak of zero the end is zero too, as in optax.

    Raises:
      ValueError: `decay_steps` is not more than `warmup_steps`.

    Example:
      >>> print(warmup_cosine_decay_schedule(0.0, 1.0, 1, 3)(jnp.arange(5)))
      [0.  1.  0.5 0.  0. ]

    References:
      `optax.warmup_cosine_decay_schedule`.
    """
    call = "warmup_cosine_decay_schedule"
    warmup = length(call, warmup_steps=warmup_steps)
    total = length(call, decay_steps=decay_steps)
    more = refuse(call, "decay_steps", f"be above warmup_steps={warmup_steps!r}", decay_steps)
    require(total > warmup, more)
    end = 0.0 if isinstance(peak_value, (int, float)) and peak_value == 0 else end_value
    up = linear(init_value, peak_value, warmup)
    down = cosine(peak_value, end, _clock.between(warmup, total), exponent=_power(exponent))
    return up >> down


def warmup_exponential_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Curve:
    """A line, then `exponential_decay`.

        linear(init, peak, warmup_steps) >> exponential_decay(peak, ...)

    Example:
      >>> print(warmup_exponential_decay_schedule(0.0, 1.0, 1, 1, 0.5)(jnp.arange(4)))
      [0.   1.   0.5  0.25]

    References:
      `optax.warmup_exponential_decay_schedule`.
    """
    warmup = length("warmup_exponential_decay_schedule", warmup_steps=warmup_steps)
    down = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return linear(init_value, peak_value, warmup) >> down


def sgdr_schedule(cosine_kwargs: Iterable[dict[str, Any]]) -> Curve:
    """Warmups and cosines, one after the other, each with arguments of its own.

        warmup_cosine_decay_schedule(**kwargs) >> warmup_cosine_decay_schedule(**kwargs) >> ...

    Cycles that follow a rule are `warmup_cosine_restarts`, whose cost does not grow with them.

    Example:
      >>> cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
      >>> print(sgdr_schedule([cycle, cycle])(jnp.arange(7)))
      [0.  1.  0.5 0.  1.  0.5 0. ]

    References:
      `optax.sgdr_schedule`.
    """
    cycles = [warmup_cosine_decay_schedule(**kwargs) for kwargs in cosine_kwargs]
    require(bool(cycles), refuse("sgdr_schedule", "cosine_kwargs", "not be empty", cycles))
    return functools.reduce(operator.rshift, cycles)


def join_schedules(schedules: Sequence[Any], boundaries: Sequence[ArrayLike]) -> Curve:
    """One schedule after the other, each from its own step 0.

        join(schedules, boundaries)

    The lengths of the two lists must fit, and the boundaries be in order, which optax does not ask.

    Example:
      >>> print(join_schedules([optax.constant_schedule(1.0), lambda t: 0.5], [2])(jnp.arange(4)))
      [1.  1.  0.5 0.5]

    References:
      `optax.join_schedules`.
    """
    return join(schedules, boundaries)


class ReduceLROnPlateauState(NamedTuple):
    """The state of `reduce_on_plateau`, by optax's names."""

    scale: jax.Array  # float: the factor
    best_value: jax.Array  # float: means nothing before the first observation
    plateau_count: jax.Array  # int32: bad observations in a row
    cooldown_count: jax.Array  # int32: observations still to pass
    # int32: values averaged so far
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    avg_value: jax.Array  # float: their mean
    judged: jax.Array | int = 1  # int32: observations compared; a state made by hand has a best


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """optax's transform, which scales the updates and needs `value=...` in each.

        updates * scale

    Its rule is `jaxsched.reduce_on_plateau(..., nonfinite="bad")`, the stateful schedule to prefer:
    that multiplies any schedule, counts observations and not updates, and hears `observe`. The
    margin is taken from |best|, where optax's is on the wrong side of a negative metric; patience 0
    is as 1, where optax never cuts on a bad value.

    Args:
      factor: of a cut, in (0, 1).
      patience: bad values in a row that cut.
      rtol: relative margin.
      atol: absolute margin.
      cooldown: values after a cut in which no bad one counts.
      accumulation_size: values averaged into one.
      min_scale: the scale never falls below.

    Example:
      >>> tx = jaxsched.compat.optax.reduce_on_plateau(patience=1, factor=0.5)
      >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)
      >>> updates, state = tx.update(jnp.ones(2), state, value=1.0)
      >>> print(updates, state.scale)
      [0.5 0.5] 0.5

    References:
      `optax.contrib.reduce_on_plateau`.
    """
    rule = _plateau.reduce_on_plateau(
        factor=factor,
        patience=patience,
        rtol=rtol,
        atol=atol,
        cooldown=cooldown,
        min_scale=min_scale,
        accumulation_size=accumulation_size,
        nonfinite="bad",
    )

    def init(params: Any) -> ReduceLROnPlateauState:
        return _as_optax(rule.init()[0])

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ReduceLROnPlateauState]:
        require("value" in extra_args, "`reduce_on_plateau` needs `update(..., value=loss)`.")
        value = extra_args["value"]
        (new,) = rule.update((_as_core(state, accumulation_size),), step=0, value=value)
        scaled = jax.tree.map(lambda u: (new.scale * u).astype(jnp.result_type(u)), updates)
        return scaled, _as_optax(new)

    return optax.GradientTransformationExtraArgs(init, update)


def _as_optax(state: PlateauState) -> ReduceLROnPlateauState:
    window = state.smoothing if isinstance(state.smoothing, SmoothingState) else None
    count = jnp.zeros((), jnp.int32) if window is None else window.window_count
    total = real(0.0) if window is None else window.window_total
    return ReduceLROnPlateauState(
        scale=state.scale,
        best_value=state.best,
        plateau_count=state.bad,
        cooldown_count=state.cooldown,
        count=count,
        avg_value=total / jnp.maximum(count, 1).astype(total.dtype),
        judged=state.judged,
    )


def _as_core(state: ReduceLROnPlateauState, accumulation_size: int) -> PlateauState:
    count, one = jnp.asarray(state.count), real(1.0)
    window = SmoothingState(
        window_total=real(state.avg_value) * real(count),
        window_count=count,
        average=real(0.0),
        weight=one * 0,
    )
    return PlateauState(
        mailbox=_mailbox.empty("value"),
        scale=real(state.scale),
        best=real(state.best_value),
        judged=jnp.asarray(state.judged, jnp.int32),
        bad=jnp.asarray(state.plateau_count),
        cooldown=jnp.asarray(state.cooldown_count),
        smoothing=window if accumulation_size > 1 else (),
    )


class WrappedScheduleState(NamedTuple):
    """The state of `WrappedSchedule`."""

    # int32: updates so far
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


class WrappedSchedule:
    """A schedule by optax's protocol for stateful ones, with a clock of its own.

    Example:
      >>> wrapped = WrappedSchedule(linear(1.0, 0.0, 4))
      >>> print(wrapped(wrapped.update(wrapped.init())))
      0.75

    References:
      `optax.schedules.WrappedSchedule`.
    """

    def __init__(self, schedule_fn: Callable[[Any], Any]) -> None:
        self.schedule_fn = as_schedule("WrappedSchedule", schedule_fn)

    def init(self) -> WrappedScheduleState:
        """The state before the first update."""
        return WrappedScheduleState(jnp.zeros((), jnp.int32))

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """The state after an update."""
        return WrappedScheduleState(jnp.minimum(state.count, _clock.LAST - 1) + 1)

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> jax.Array:
        """The value at the state's step."""
        return self.schedule_fn(state.count)


class InjectStatefulHyperparamsState(NamedTuple):
    """The state of `inject_hyperparams`, by optax's names."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    hyperparams: dict[str, jax.Array]
    hyperparams_states: dict[str, Any]
    inner_state: optax.OptState


InjectHyperparamsState = InjectStatefulHyperparamsState


def inject_hyperparams(
    inner_factory: Callable[..., optax.GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """optax's injector: every number that is not static becomes a hyperparameter of the state.

    `jaxsched.inject` is the one to prefer: it touches what you name and nothing else, and its state
    is understood by `observe`, `override` and their like. This one is for code that is written for
    optax's: numbers that are not scheduled may be changed in `state.hyperparams`, scheduled ones
    not, and foreign stateful schedules are asked for their value before they are updated.

    Hyperparameters are float32 (float64 under x64) unless `hyperparam_dtype` says otherwise. optax
    takes the parameters' dtype, in which Adam's b2 = 0.999 is 1.0 for bfloat16, and the first
    update NaN.

    Args:
      inner_factory: an optimizer.
      static_args: arguments to leave alone.
      hyperparam_dtype: dtype of the floating-point hyperparameters; None is float32.

    Returns:
      A function with the arguments of `inner_factory`, which may now be schedules.

    Raises:
      ValueError: `inner_factory` has no argument of a name in `static_args`.

    Example:
      >>> tx = inject_hyperparams(optax.adam)(learning_rate=linear(0.1, 0.0, 10))
      >>> state = tx.init(jnp.ones(2))
      >>> print(state.hyperparams["learning_rate"], state.hyperparams["b2"])
      0.1 0.999

    References:
      `optax.inject_hyperparams`.
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    known = set(signature.parameters)
    must = f"be arguments of the factory, {sorted(known)}"
    require(static <= known, refuse("inject_hyperparams", "static_args", must, sorted(static)))

    @functools.wraps(inner_factory)
    def wrapped(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        slots = _Slots.of(bound.arguments, static, hyperparam_dtype)
        return _injected(inner_factory, slots)

    return wrapped


def inject_stateful_hyperparams(
    inner_factory: Callable[..., optax.GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """`inject_hyperparams`, by its deprecated name.

    References:
      `optax.inject_stateful_hyperparams`.
    """
    warnings.warn("use `inject_hyperparams` instead", DeprecationWarning, stacklevel=2)
    return inject_hyperparams(inner_factory, static_args, hyperparam_dtype)


class _Slots(NamedTuple):
    """The arguments of a factory: what is scheduled, what is a number, what is neither."""

    scheduled: dict[str, Any]
    numbers: dict[str, ArrayLike]
    others: dict[str, Any]
    dtype: Any

    @classmethod
    def of(cls, arguments: Mapping[str, Any], static: set[str], dtype: Any) -> _Slots:
        slots = cls({}, {}, {}, dtype)
        for name, value in arguments.items():
            if name in static or isinstance(value, bool):
                slots.others[name] = value
            elif isinstance(value, (Stateful, StatefulSchedule)):
                slots.scheduled[name] = value
            elif callable(value):
                slots.scheduled[name] = WrappedSchedule(value)
            elif isinstance(value, (int, float, np.ndarray)) or _is_number(value):
                slots.numbers[name] = value
            else:
                slots.others[name] = value
        return slots

    def cast(self, value: ArrayLike) -> jax.Array:
        """A hyperparameter as the state holds it; an array that has a dtype keeps it."""
        if isinstance(value, jax.Array) and not value.weak_type:
            return value
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            return jnp.asarray(value)
        return jnp.asarray(value, real(0).dtype if self.dtype is None else self.dtype)

    def fixed(self) -> dict[str, jax.Array]:
        return {name: self.cast(value) for name, value in self.numbers.items()}

    def values(self, states: dict[str, Any], count: Any, **extra: Any) -> dict[str, jax.Array]:
        return {
            name: self.cast(slot(states[name], **{**extra, **_step(slot, count)}))
            for name, slot in self.scheduled.items()
        }

    def updated(self, states: dict[str, Any], count: Any, **extra: Any) -> dict[str, Any]:
        return {
            name: slot.update(states[name], **{**extra, **_step(slot, count)})
            for name, slot in self.scheduled.items()
        }


def _injected(
    factory: Callable[..., optax.GradientTransformation], slots: _Slots
) -> optax.GradientTransformationExtraArgs:
    reacting = [name for name, slot in slots.scheduled.items() if isinstance(slot, Stateful)]

    def make(values: dict[str, jax.Array]) -> optax.GradientTransformationExtraArgs:
        handed = {name: _handed(value) for name, value in values.items()}
        return optax.with_extra_args_support(factory(**slots.others, **handed))

    def init(params: Any) -> InjectStatefulHyperparamsState:
        count = jnp.zeros((), jnp.int32)
        states = {name: slot.init() for name, slot in slots.scheduled.items()}
        values = {**slots.fixed(), **slots.values(states, count)}
        return InjectStatefulHyperparamsState(count, values, states, make(values).init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, InjectStatefulHyperparamsState]:
        new = slots.updated(state.hyperparams_states, state.count, **extra_args)
        # Our own rules consume, then act; optax's protocol acts, then consumes.
        seen = {**state.hyperparams_states, **{name: new[name] for name in reacting}}
        held = {name: slots.cast(state.hyperparams[name]) for name in slots.numbers}
        values = {**held, **slots.values(seen, state.count, **extra_args)}
        updates, inner = make(values).update(updates, state.inner_state, params, **extra_args)
        count = jnp.minimum(state.count, _clock.LAST - 1) + 1
        return updates, InjectStatefulHyperparamsState(count, values, new, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _handed(value: jax.Array) -> jax.Array:
    """Weakly typed, as the Python number it stands for: it widens nothing."""
    return weak(value) if jnp.issubdtype(value.dtype, jnp.floating) else value


def _step(slot: Any, count: Any) -> dict[str, Any]:
    return {"step": count} if isinstance(slot, Stateful) else {}


def _is_number(x: Any) -> bool:
    return isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _begun(schedule: Curve, begin: ArrayLike) -> Curve:
    """Later by `begin` steps; a negative number of them is none."""
    steps = integer("transition_begin", transition_begin=begin)
    if isinstance(steps, int):
        return schedule.shift(steps) if steps > 0 else schedule
    return schedule.shift(jnp.maximum(steps, 0))


def _none(steps: Any) -> bool:
    return isinstance(steps, int) and steps <= 0


def _power(exponent: ArrayLike) -> ArrayLike | None:
    return None if isinstance(exponent, (int, float)) and exponent == 1 else exponent


def _scales(call: str, boundaries_and_scales: Scales | None) -> tuple[list[Any], list[Any]]:
    pairs = sorted((boundaries_and_scales or {}).items(), key=operator.itemgetter(0))
    scales = [finite(call, boundaries_and_scales=scale) for _, scale in pairs]
    for scale in scales:
        message = refuse(call, "boundaries_and_scales", "not be negative", scale)
        require(scale >= 0, message)
    return [boundary for boundary, _ in pairs], scales


def _multiplied(init_value: ArrayLike, scales: Sequence[Any]) -> list[Any]:
    return list(itertools.accumulate([init_value, *scales], scaled))
