"""The transform with a step counter on which all transforms of this package are built.

Each update has four parts, in this order. The rules read their metrics and react. The values of
this step are computed, and overridden if requested. The inner transform is applied with these
values. The step counter is incremented. So a cut takes effect in the update that receives the
metric, and the state records the values that were used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import ticked
from jaxsched._core._numerics import real, wide, with_norm
from jaxsched._core._packed import LikeParams
from jaxsched._rules._rule import GRADIENT_NORM, OWN_NORM, hears_gradient_norm
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._transforms._transform import transform

Slot = Schedule | Stateful
AnyRate = ArrayLike | Slot | optax.Schedule
Values = dict[str, jax.Array]
Factors = dict[str, tuple[Any, ...]]

REMEDY = "To restore a state after a change, use `graft(tx.init(params), old_state)`."


class Override(NamedTuple):
    """A value to use instead of the scheduled one."""

    value: jax.Array  # float
    active: jax.Array  # bool


class ScheduledState(NamedTuple):
    """The values of the scheduled hyperparameters, and the state of the inner transform."""

    # int32: the number of updates so far, which is the next step
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    hyperparams: Values  # by name: the values used last; initially those of step 0
    overrides: dict[str, Override]  # by name + "_override"
    factors: Factors  # by name + "_factors", for hyperparameters with rules
    warm: jax.Array  # bool: whether the rate did not rise in some update: the warmup is over
    inner_state: optax.OptState


class StepCounter(NamedTuple):
    """The state of a transform that counts steps, but schedules nothing."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def hyperparams(self) -> Values:
        """No values."""
        return {}


CLOCKS = ScheduledState, StepCounter


def leading(clocks: Iterable[ScheduledState | StepCounter]) -> list[jax.Array]:
    """Return the counts that tell the step: those of schedules, if there are any.

    A guard between a schedule and another transform can let them differ.
    """
    every = [*clocks]
    return [x.count for x in every if x.hyperparams] or [x.count for x in every]


def scheduled(
    slots: Mapping[str, Slot],
    make: Callable[[Values], optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """Return a transform that is rebuilt at each step from the values of its slots."""
    reacting = {factors_key(name): s for name, s in slots.items() if isinstance(s, Stateful)}
    expected = {key: _structure(jax.eval_shape(s.init)) for key, s in reacting.items()}
    hears_norm = hears_gradient_norm(reacting.values())

    def init(params: optax.Params) -> ScheduledState:
        count = jnp.zeros((), jnp.int32)
        factors = {key: slot.init(params) for key, slot in reacting.items()}
        values = _values(slots, count, factors)
        return ScheduledState(
            count=count,
            hyperparams=values,
            overrides={
                override_key(name): Override(real(0.0), jnp.zeros((), bool)) for name in slots
            },
            factors=factors,
            warm=jnp.zeros((), bool),
            inner_state=make(values).init(params),
        )

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScheduledState]:
        _require_own(state, slots, expected)
        metrics: dict[str, Any] = {**extra_args, "step": state.count, "updates": updates}
        if hears_norm and extra_args.get(GRADIENT_NORM) is None:
            updates, metrics[OWN_NORM] = with_norm(updates)
        factors = {k: slot.update(state.factors[k], **metrics) for k, slot in reacting.items()}
        values = _overridden(_values(slots, state.count, factors), state.overrides)
        inner = with_extra_args(make(values))
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        count = ticked(state.count)
        warm = _is_warm(state, values)
        return updates, ScheduledState(count, values, state.overrides, factors, warm, inner_state)

    rules = [rule for slot in reacting.values() for rule in slot.rules]
    axes = {rule._axes for rule in rules} - {None}
    # If one rule stores per-device numbers, the state differs between devices.
    return transform(init, update, axes.pop() if len(axes) == 1 else None)


def _is_warm(state: ScheduledState, values: Values) -> jax.Array:
    """Return whether the warmup has ended: at the first update in which no learning rate rises.

    If no value is called a learning rate, it ends when no value rises. A change caused by an
    override does not count; a value that is held by an override has stopped rising.
    """

    def rises(name: str) -> jax.Array:
        value, before = values[name], state.hyperparams[name]
        return (value > before) | (state.overrides[override_key(name)].active & (value < before))

    rates = [name for name in values if name.rpartition("/")[2] == "learning_rate"]
    rising = functools.reduce(jnp.logical_or, map(rises, rates or values))
    # Before the first update, there is no value to compare with.
    return state.warm | ((state.count > 0) & ~rising)


def _values(slots: Mapping[str, Slot], count: jax.Array, factors: Factors) -> Values:
    return {
        name: slot(factors[factors_key(name)], step=count)
        if isinstance(slot, Stateful)
        else real(slot(count))
        for name, slot in slots.items()
    }


def _overridden(values: Values, overrides: dict[str, Override]) -> Values:
    def one(name: str, value: jax.Array) -> jax.Array:
        by = overrides[override_key(name)]
        return jnp.where(by.active, by.value, value)

    return {name: one(name, value) for name, value in values.items()}


def _require_own(state: Any, slots: Mapping[str, Slot], expected: Mapping[str, Any]) -> None:
    """Raise if this is not the state of these slots; nothing is ignored or made up."""
    # The message is built only for an error, since eager updates come here each time.
    keys = {override_key(name) for name in slots}
    if not isinstance(state, ScheduledState) or state.overrides.keys() != keys:
        names = ", ".join(slots)
        raise ValueError(
            f"the optimizer schedules {names}, but the state is of another optimizer. {REMEDY}"
        )
    if jnp.ndim(state.count) != 0:
        raise ValueError(
            f"the state is stacked, of shape {jnp.shape(state.count)}. Update it under `jax.vmap`."
        )
    found = {key: _structure(factors) for key, factors in state.factors.items()}
    if found != expected:
        raise ValueError(
            f"the optimizer has these rules: {_described(expected)}. Its state has these: "
            f"{_described(found)}. {REMEDY}"
        )


def _structure(factors: Any) -> Any:
    """Return the structure of a state, without that of the parameters."""
    return jax.tree.structure(factors, is_leaf=lambda x: isinstance(x, LikeParams))


def _described(factors: Mapping[str, Any]) -> str:
    def named(structure: Any) -> str:
        return " * ".join(map(_called, structure.unflatten([None] * structure.num_leaves)))

    return ", ".join(f"{key}: {named(structure)}" for key, structure in factors.items()) or "none"


def _called(state: Any) -> str:
    """Return the name of a rule's state for messages: its class and its metric."""
    heard = ", ".join(getattr(state, "mailbox", ()))
    memory = type(getattr(state, "memory", state))
    return f"{memory.__qualname__}{f' of {heard}' if heard else ''}"


def override_key(name: str) -> str:
    """Return the key of a hyperparameter's override in the state."""
    return f"{name}_override"


def factors_key(name: str) -> str:
    """Return the key of a hyperparameter's factors in the state."""
    return f"{name}_factors"


def with_extra_args(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return `tx` as a transform that accepts metrics and drops those it does not take.

    `MultiSteps` passes metrics on, but does not have the type by which optax recognises that.
    """
    if isinstance(getattr(tx.update, "__self__", None), optax.MultiSteps):
        return optax.GradientTransformationExtraArgs(tx.init, tx.update)
    return optax.with_extra_args_support(tx)


def times(factor: jax.Array, update: Any) -> jax.Array:
    """Return a product in the dtype of the update, computed in float32 or wider.

    In float16 a learning rate of 1e-8 would be zero.
    """
    update = jnp.asarray(update)
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        update = update.astype(jnp.float32)
    return (factor.astype(wide(update).dtype) * wide(update)).astype(update.dtype)
