"""Checks for values that cannot be a learning rate, and for rules that get the wrong gradients.

Each of these mistakes trains badly without an error. So it is refused when the optimizer is built.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxsched._core._clock import known
from jaxsched._core._require import refuse, require
from jaxsched._rules._rule import GRADIENT_NORM, hears_gradient_norm
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._still import still
from jaxsched._schedules._foreseen import is_here
from jaxsched._schedules._schedule import Schedule, functions_in


def require_rate(call: str, argument: str, slot: Any) -> None:
    """Raise if a slot is only a factor, or is negative at its start or end."""
    if not is_here(slot):
        return
    if isinstance(slot, Stateful) and slot._is_factor:
        must = "be a learning rate; a rule alone is a factor that starts at 1"
        remedy = f"Multiply it by a learning rate: `1e-3 * {slot}`."
        raise ValueError(refuse(call, argument, must, slot, remedy))
    for value in _ends(still(slot) if isinstance(slot, Stateful) else slot):
        if value < 0:
            must = f"not be negative, but it reaches {value:g}"
            remedy = "Updates already go downhill. For ascent, negate the gradients."
            raise ValueError(refuse(call, argument, must, slot, remedy))


def behind(
    call: str, tx: optax.GradientTransformationExtraArgs, *slots: Any
) -> optax.GradientTransformationExtraArgs:
    """Return a last link that requires `gradient_norm` if one of its rules listens to it.

    The updates that reach a last link are no longer the gradients.
    """
    if not hears_gradient_norm(slots):
        return tx

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        require(
            extra_args.get(GRADIENT_NORM) is not None,
            f"`{call}` is the last link of a chain, so a rule with metric='{GRADIENT_NORM}' "
            "would receive the norm of the updates of the previous links. Write "
            "`with_gradient_norm(optax.chain(...))` around the chain, or replace the chain with "
            "`inject(optax.adam, learning_rate=...)`.",
        )
        return tx.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _ends(schedule: Schedule) -> list[float]:
    """Return the first and the last value, with the program that `init` calls."""
    # A user's function may be slow for a late step.
    early = schedule.steps is None or functions_in(schedule)
    steps = [0] if early else [0, int(known(schedule.steps))]
    with jax.ensure_compile_time_eval():
        values = [schedule(jnp.asarray(t, jnp.int32)) for t in steps]
    # A function may have closed over a traced number.
    return [float(value) for value in values if not isinstance(value, Tracer)]
