"""The injector of optax: states with optax's names, with dtypes and schedules of this library."""

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
    """A schedule with its own step counter, in optax's protocol for stateful schedules.

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
        """Return the state before the first update."""
        return WrappedScheduleState(jnp.zeros((), jnp.int32))

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """Return the state after an update."""
        return WrappedScheduleState(_clock.ticked(state.count))

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> jax.Array:
        """Return the value at the step of the state."""
        return self.schedule_fn(state.count)


class InjectStatefulHyperparamsState(NamedTuple):
    """The state of `inject_hyperparams`, with optax's names."""

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
    """Turns every number that is not static into a hyperparameter in the state, as optax does.

    Prefer `jaxsched.inject`: it changes only the arguments that you name, and `observe`, `override`
    and others can use its state. Use this twin for code that is written for optax's injector.
    Numbers that are not scheduled can be changed in `state.hyperparams`; scheduled ones cannot. If
    a schedule of another library has a state, each update uses the value of the old state, and then
    updates the state.

    Hyperparameters are float32 (float64 under x64) unless `hyperparam_dtype` is given. optax uses
    the parameters' dtype instead. So in optax, with bfloat16 parameters, Adam's b2 = 0.999 becomes
    1.0, and the first update is NaN.

    Args:
      inner_factory: an optimizer.
      static_args: names of arguments to leave unchanged.
      hyperparam_dtype: dtype of floating-point hyperparameters; None: float32 (float64 under x64).

    Returns:
      A function with the arguments of `inner_factory`, which may now be schedules.

    Raises:
      ValueError: `static_args` contains a name that is not an argument of `inner_factory`.

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
    """The deprecated name of `inject_hyperparams`.

    References:
      `optax.inject_stateful_hyperparams`.
    """
    warnings.warn("use `inject_hyperparams` instead", DeprecationWarning, stacklevel=2)
    return inject_hyperparams(inner_factory, static_args, hyperparam_dtype)


class _Slots(NamedTuple):
    """The arguments of a factory: scheduled ones, numbers, and others."""

    scheduled: dict[str, Any]
    numbers: dict[str, ArrayLike]
    others: dict[str, Any]
    dtype: Any

    @classmethod
    def of(cls, arguments: Mapping[str, Any], static: set[str], dtype: Any) -> _Slots:
        slots = cls({}, {}, {}, dtype)
        for name, value in arguments.items():
            if name in static or isinstance(value, (bool, type)):  # a dtype is callable, too
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
        """Return a hyperparameter as the state stores it; an array with a dtype keeps it."""
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
        # Copies, because a donated buffer must not be used twice or belong to the caller.
        values = {name: jnp.array(value, copy=True) for name, value in values.items()}
        return InjectStatefulHyperparamsState(count, values, states, make(values).init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, InjectStatefulHyperparamsState]:
        new = slots.updated(state.hyperparams_states, state.count, **extra_args)
        # Our rules read metrics, then act; optax's protocol acts, then reads them.
        seen = {**state.hyperparams_states, **{name: new[name] for name in reacting}}
        held = {name: slots.cast(state.hyperparams[name]) for name in slots.numbers}
        values = {**held, **slots.values(seen, state.count, **extra_args)}
        updates, inner = make(values).update(updates, state.inner_state, params, **extra_args)
        count = _clock.ticked(state.count)
        return updates, InjectStatefulHyperparamsState(count, values, new, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _handed(value: jax.Array) -> jax.Array:
    """Return a weakly typed value, as a Python number would be, so that it widens nothing."""
    return weak(value) if jnp.issubdtype(value.dtype, jnp.floating) else value


def _step(slot: Any, count: Any) -> dict[str, Any]:
    return {"step": count} if isinstance(slot, Stateful) else {}


def _is_number(x: Any) -> bool:
    if isinstance(x, (int, float, np.ndarray)):
        return True
    return isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
