"""Transforms that are written on a record of named numbers, while their state is packed.

Under `shard_map`, a vector varies over a mapped axis if one of its numbers does. Waiting metrics
vary, because each device observes its own. If a transform averages over the axis, its state is
equal on every device after an update, and its type must say so again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxsched._core._packed import Layout, PackedState, layout_of, packed, record_of
from jaxsched._rules._mailbox import Axis, Mail


def transform(
    init: Callable[[optax.Params], Any],
    update: Callable[..., tuple[optax.Updates, Any]],
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """Return the transform whose `init` and `update` use a record as their state."""

    own: list[Layout] = []  # the layout of the last state made

    def packed_init(params: optax.Params) -> PackedState:
        state = packed(init(params))
        own[:] = [layout_of(state)]
        return state

    def packed_update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, PackedState]:
        before = state if isinstance(state, PackedState) else None
        record = state if before is None else _opened(before, axis_name, own[0] if own else None)
        updates, record = update(updates, record, params, **extra_args)
        return updates, packed(record, before)

    return optax.GradientTransformationExtraArgs(packed_init, packed_update)


def _opened(state: PackedState, axis_name: Axis, own: Layout | None) -> Any:
    """Return the record of a state, in which only waiting metrics may differ between devices."""
    record, same = record_of(state, own), _same(state, axis_name)
    if same is state:
        return record

    def merged(here: Any, everywhere: Any) -> Any:
        """The metrics waiting on this device, with the counts shared by all devices."""
        if not isinstance(here, Mail):
            return everywhere
        heard, silent, mixed = everywhere.heard, everywhere.silent, everywhere.mixed
        return here._replace(heard=heard, silent=silent, mixed=mixed)

    return jax.tree.map(merged, record, record_of(same, own), is_leaf=lambda x: isinstance(x, Mail))


def everywhere(tree: Any, axis_name: Axis) -> Any:
    """Return a tree whose packed numbers are equal on every device, and typed as such."""

    def one(x: Any) -> Any:
        if not isinstance(x, PackedState):
            return x
        return _same(x._replace(inner_state=everywhere(x.inner_state, axis_name)), axis_name)

    return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, PackedState))


def _same(state: PackedState, axis_name: Axis) -> PackedState:
    """Return the state with numbers typed as equal on every device; unchanged if they are."""
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    vectors = state.floats, state.ints
    vary = set[str]().union(*map(_varying, jax.tree.leaves(vectors)))
    if not vary & {*axes}:
        return state
    floats, ints = jax.tree.map(lambda x: jax.lax.pmax(x, axis_name), vectors)
    return state._replace(floats=floats, ints=ints)


def _varying(x: jax.Array) -> frozenset[str]:
    """Return the mapped axes over which the type of an array varies."""
    kind: Any = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)  # from jax 0.10 on
    return getattr(kind, "vma", frozenset()) if manual is None else manual.varying
