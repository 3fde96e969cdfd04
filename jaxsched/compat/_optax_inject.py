"""optax's injector: a state of optax's names, with this library's dtypes and schedules."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from optax.schedules import StatefulSchedule

from jaxsched._core import _clock
from jaxsched._core._numerics import real
from jaxsched._core._require import refuse, require
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import as_schedule
from jaxsched._transforms._inject import weak


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
        return WrappedScheduleState(_clock.ticked(state.count))

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
            if name in static or isinstance(value, (bool, type)):  # a dtype maps numbers too
                slots.others[name] = value
            elif isinstance(value, (Stateful, StatefulSchedule)):
                slots.scheduled[name] = value
            elif callable(value):
                slots.scheduled[name] = WrappedSchedule(value)
            elif _is_number(value):
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
        # Copies: a donated buffer may stand in one place only, and not be the caller's.
        values = {name: jnp.array(value, copy=True) for name, value in values.items()}
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
        count = _clock.ticked(state.count)
        return updates, InjectStatefulHyperparamsState(count, values, new, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _handed(value: jax.Array) -> jax.Array:
    """Weakly typed, as the Python number it stands for: it widens nothing."""
    return weak(value) if jnp.issubdtype(value.dtype, jnp.floating) else value


def _step(slot: Any, count: Any) -> dict[str, Any]:
    return {"step": count} if isinstance(slot, Stateful) else {}


def _is_number(x: Any) -> bool:
    if isinstance(x, (int, float, np.ndarray)):
        return True
    return isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
