"""A transform that is written on a record of named numbers, and whose state is packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from jaxsched._core._packed import PackedState, opened, packed


def transform(
    init: Callable[[optax.Params], Any], update: Callable[..., tuple[optax.Updates, Any]]
) -> optax.GradientTransformationExtraArgs:
    """The transform whose `init` and `update` have a record for a state."""

    def packed_init(params: optax.Params) -> PackedState:
        return packed(init(params))

    def packed_update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, PackedState]:
        before = state if isinstance(state, PackedState) else None
        record = state if before is None else opened(before)
        updates, record = update(updates, record, params, **extra_args)
        return updates, packed(record, before)

    return optax.GradientTransformationExtraArgs(packed_init, packed_update)
