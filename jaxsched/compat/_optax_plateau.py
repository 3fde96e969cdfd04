"""The plateau transform of optax: a state with optax's names, and the rule of this library."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsched._core._numerics import real
from jaxsched._core._require import require
from jaxsched._rules import _mailbox, _plateau
from jaxsched._rules._plateau import PlateauState
from jaxsched._rules._rule import Heard, memory_of
from jaxsched._rules._smoothing import SmoothingState


class ReduceLROnPlateauState(NamedTuple):
    """The state of `reduce_on_plateau`, with optax's names."""

    scale: jax.Array  # float: the factor
    best_value: jax.Array  # float: the best value; the largest float before the first one
    plateau_count: jax.Array  # int32: bad observations in a row
    cooldown_count: jax.Array  # int32: observations still to be skipped
    # int32: number of values averaged so far
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    avg_value: jax.Array  # float: their mean


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Reduces the updates when a metric stops improving; it needs `value=...` in each update.

        updates * scale

    Its rule is `jaxsched.reduce_on_plateau(..., nonfinite="bad")`. Prefer that stateful schedule:
    it multiplies any schedule, counts observations instead of updates, and accepts `observe`. The
    margin uses `|best|`; optax's margin has the wrong sign for negative metrics. Patience 0 is read
    as 1. With patience 0, optax never cuts on a bad value.

    Args:
      factor: multiplier of the scale at each cut, in (0, 1).
      patience: number of bad values in a row that trigger a cut.
      rtol: relative margin.
      atol: absolute margin.
      cooldown: values after a cut during which bad ones do not count.
      accumulation_size: number of values that are averaged into one.
      min_scale: lower limit of the scale.

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
        accumulation_size=accumulation_size if accumulation_size > 1 else None,
        nonfinite="bad",
    )

    def init(params: Any) -> ReduceLROnPlateauState:
        return _as_optax(memory_of(*rule.init()))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ReduceLROnPlateauState]:
        require("value" in extra_args, "`reduce_on_plateau` needs `update(..., value=loss)`.")
        value = extra_args["value"]
        old = Heard(_mailbox.empty("value"), _as_core(state, accumulation_size))
        new = memory_of(*rule.update((old,), step=0, value=value))
        scaled = jax.tree.map(lambda u: (new.scale * u).astype(jnp.result_type(u)), updates)
        return scaled, _as_optax(new)

    return optax.GradientTransformationExtraArgs(init, update)


def _as_optax(state: PlateauState) -> ReduceLROnPlateauState:
    window = state.smoothing if isinstance(state.smoothing, SmoothingState) else None
    count = jnp.zeros((), jnp.int32) if window is None else window.window_count
    total = real(0.0) if window is None else window.window_total
    return ReduceLROnPlateauState(
        scale=state.scale,
        best_value=jnp.where(state.judged > 0, state.best, jnp.finfo(state.best.dtype).max),
        plateau_count=state.bad,
        cooldown_count=state.cooldown,
        count=count,
        avg_value=total / jnp.maximum(count, 1).astype(total.dtype),
    )


def _as_core(state: ReduceLROnPlateauState, accumulation_size: int) -> PlateauState:
    count, best = jnp.asarray(state.count), real(state.best_value)
    window = SmoothingState(
        window_total=real(state.avg_value) * real(count),
        window_count=count,
        average=real(0.0),
        weight=real(0.0),
    )
    return PlateauState(
        scale=real(state.scale),
        best=jnp.where(best < jnp.finfo(best.dtype).max, best, 0),
        judged=(best < jnp.finfo(best.dtype).max).astype(jnp.int32),
        bad=jnp.asarray(state.plateau_count),
        cooldown=jnp.asarray(state.cooldown_count),
        cuts=jnp.zeros((), jnp.int32),
        spared=jnp.zeros((), jnp.int32),
        smoothing=window if accumulation_size > 1 else (),
    )
