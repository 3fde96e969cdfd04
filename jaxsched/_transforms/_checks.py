"""Checks of the arguments of transforms: slots, optimizers, parameters, states."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxsched._core._require import refuse, require
from jaxsched._core._trees import all_of
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule, from_function, is_function
from jaxsched._schedules._unbounded import constant
from jaxsched._transforms._scheduled import REMEDY, Slot


def as_slot(call: str, argument: str, value: Any, remedy: str = "") -> Slot:
    """Return the schedule of a slot: a float becomes a constant, a function a schedule."""
    if isinstance(value, (Schedule, Stateful)):
        return value
    if isinstance(value, str):
        remedy = f"If it is the text of a schedule, write `{argument}=parse(...)`. {remedy}"
        raise ValueError(refuse(call, argument, "be a schedule", value, remedy))
    try:
        return from_function(value) if is_function(value) else constant(value)
    except ValueError as error:
        must = "be a float, a schedule, a stateful schedule or a function of the step"
        reason = f"{remedy} {error}".lstrip()
        raise ValueError(refuse(call, argument, must, value, reason)) from None


def require_transform(call: str, tx: Any) -> optax.GradientTransformation:
    """Return `tx` if it has the methods of an optimizer, else raise."""
    if isinstance(tx, Stateful) or not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise ValueError(refuse(call, "tx", "be an optax.GradientTransformation", tx))
    return tx


def require_params(call: str, params: Any) -> Any:
    """Return the parameters passed to an update, or raise if there are none."""
    given = params is not None
    require(given, f"`{call}` needs the parameters: `tx.update(updates, state, params)`.")
    return params


def require_state(call: str, state: Any, kind: type, *metrics: str) -> None:
    """Raise unless `state` is an unstacked state of that kind with these metrics."""
    own = isinstance(state, kind)
    mailbox = getattr(state, "mailbox", {}) if own else {}
    if not own or mailbox.keys() != {*metrics}:
        what = f" which listens to {', '.join(metrics)}" if own else ""
        found = ", ".join(mailbox) if own else type(state).__name__
        raise ValueError(f"`{call}`{what} got the state of {found}. {REMEDY}")
    shape = jnp.shape(mailbox[metrics[0]].finite if metrics else jax.tree.leaves(state)[0])
    if shape != ():
        raise ValueError(f"the state is stacked, of shape {shape}. Update it under `jax.vmap`.")


def require_own_steps(call: str, opt_state: Any) -> None:
    """Raise for schedule-free, whose average assumes that its own updates are applied."""
    require(
        not all_of(optax.contrib.ScheduleFreeState, opt_state),
        f"`{call}` changes the updates of `optax.contrib.schedule_free`, whose average would be "
        "wrong. Put the factor in its learning rate instead: "
        "`inject(optax.contrib.schedule_free_adamw, learning_rate=rate * factor)`.",
    )
