"""One transform, one clock: what every transform of this package is made of.

At each update, in this order: the stateful factors consume their mail and act; the values of this
step are computed, and overridden where that was asked for; the transform that they parametrize is
applied; the clock ticks. So a cut takes effect in the very update that sees the metric, and what
the state records is what was used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import ticked
from jaxsched._core._numerics import real, wide, with_norm
from jaxsched._core._packed import LikeParams
from jaxsched._rules._rule import GRADIENT_NORM, OWN_NORM
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule
from jaxsched._transforms._transform import transform

Slot = Schedule | Stateful
AnyRate = ArrayLike | Slot | optax.Schedule
Values = dict[str, jax.Array]
Factors = dict[str, tuple[Any, ...]]

REMEDY = "Restore a state across a change with `graft(tx.init(params), old_state)`."


class Override(NamedTuple):
    """A value to use instead of the scheduled one."""

    value: jax.Array  # float
    active: jax.Array  # bool


class ScheduledState(NamedTuple):
    """The record of what follows schedules, and the state of what it makes of their values."""

    # int32: updates so far, which is the next step
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    hyperparams: Values  # by name: the values used last; at first those that will be
    overrides: dict[str, Override]  # by name + "_override"
    factors: Factors  # by name + "_factors", of those that have a state
    warm: jax.Array  # bool: has the warmup ended? It has when the rate first does not rise
    inner_state: optax.OptState


def scheduled(
    slots: Mapping[str, Slot],
    make: Callable[[Values], optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """A transform made anew at each step, from the values of its slots at that step."""
    reacting = {factors_key(name): s for name, s in slots.items() if isinstance(s, Stateful)}
    expected = {key: _structure(jax.eval_shape(s.init)) for key, s in reacting.items()}
    rules = [rule for slot in reacting.values() for rule in slot.rules]
    hears_norm = any(getattr(rule, "metric", None) == GRADIENT_NORM for rule in rules)

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

    axes = {rule._axes for rule in rules} - {None}
    # Rules of which one keeps numbers of each device leave the state different on each.
    return transform(init, update, axes.pop() if len(axes) == 1 else None)


def _is_warm(state: ScheduledState, values: Values) -> jax.Array:
    """Has the warmup ended? It ends at the first update in which no learning rate rises.

    If no value is called a learning rate, it ends when no value rises. A value that an override has
    moved says nothing about the schedule; one that it holds has ceased to rise.
    """

    def rises(name: str) -> jax.Array:
        value, before = values[name], state.hyperparams[name]
        return (value > before) | (state.overrides[override_key(name)].active & (value < before))

    rates = [name for name in values if name.rpartition("/")[2] == "learning_rate"]
    rising = functools.reduce(jnp.logical_or, map(rises, rates or values))
    # Before the first update there is no value to compare with.
    return state.warm | ((state.count > 0) & ~rising)


def _values(slots: Mapping[str, Slot], count: jax.Array, factors: Factors) -> Values:
    return {
        name: slot(factors[factors_key(name)], step=count)
        if isinstance(slot, Stateful)
        else slot(count)
        for name, slot in slots.items()
    }


def _overridden(values: Values, overrides: dict[str, Override]) -> Values:
    def one(name: str, value: jax.Array) -> jax.Array:
        by = overrides[override_key(name)]
        return jnp.where(by.active, by.value, value)

    return {name: one(name, value) for name, value in values.items()}


def _require_own(state: Any, slots: Mapping[str, Slot], expected: Mapping[str, Any]) -> None:
    """Raise if this is not the state of these slots: nothing is ignored, nothing made up."""
    # Words are for what is wrong alone: an update outside `jit` comes here each time.
    keys = {override_key(name) for name in slots}
    if not isinstance(state, ScheduledState) or state.overrides.keys() != keys:
        names = ", ".join(slots)
        raise ValueError(f"the optimizer schedules {names}, and this is another's state. {REMEDY}")
    if jnp.ndim(state.count) != 0:
        raise ValueError(
            f"the state is stacked, of shape {jnp.shape(state.count)}: update under `jax.vmap`."
        )
    found = {key: _structure(factors) for key, factors in state.factors.items()}
    if found != expected:
        raise ValueError(
            f"the optimizer has the stateful factors {_described(expected)}, and its state has "
            f"{_described(found)}. {REMEDY}"
        )


def _structure(factors: Any) -> Any:
    """What a state is made of, whatever the parameters are."""
    return jax.tree.structure(factors, is_leaf=lambda x: isinstance(x, LikeParams))


def _described(factors: Mapping[str, Any]) -> str:
    def named(structure: Any) -> str:
        return " * ".join(map(_called, structure.unflatten([None] * structure.num_leaves)))

    return ", ".join(f"{key}: {named(structure)}" for key, structure in factors.items()) or "none"


def _called(state: Any) -> str:
    """What a person calls the state of a rule: its class, and what it listens to."""
    heard = ", ".join(getattr(state, "mailbox", ()))
    memory = type(getattr(state, "memory", state))
    return f"{memory.__qualname__}{f' of {heard}' if heard else ''}"


def override_key(name: str) -> str:
    """Where the override of a hyperparameter is in the state."""
    return f"{name}_override"


def factors_key(name: str) -> str:
    """Where the factors of a hyperparameter are in the state."""
    return f"{name}_factors"


def with_extra_args(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` as one that may be given metrics: those it does not take are dropped.

    `MultiSteps` hands them on, but is not of the type by which optax knows that.
    """
    if isinstance(getattr(tx.update, "__self__", None), optax.MultiSteps):
        return optax.GradientTransformationExtraArgs(tx.init, tx.update)
    return optax.with_extra_args_support(tx)


def times(factor: jax.Array, update: Any) -> jax.Array:
    """A product in the dtype of the update, formed in float32 at least.

    In float16 a rate of 1e-8 is zero.
    """
    update = jnp.asarray(update)
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        update = update.astype(jnp.float32)
    return (factor.astype(wide(update).dtype) * wide(update)).astype(update.dtype)
