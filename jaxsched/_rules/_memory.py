"""What a rule remembers: numbers when it is written, arrays when it is in a state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._core._packed import LikeParams

# How much a number holds: each of these more than the one before.
KINDS = (jnp.bool_, jnp.integer, jnp.floating)
OTHER = len(KINDS)


def initially(number: Any) -> Any:
    """The number that a field of a state begins with. In a state it is an array."""
    return number


def fresh(tree: Any) -> Any:
    """A tree of numbers as arrays of its own: float32 (float64 under x64), int32 or bool."""

    def is_like_params(x: Any) -> bool:
        return isinstance(x, LikeParams)

    def one(x: Any) -> Any:
        return x if is_like_params(x) else jnp.array(x, _dtype(x), copy=True)

    return jax.tree.map(one, tree, is_leaf=is_like_params)


def _dtype(x: Any) -> Any:
    kind = jnp.result_type(x)
    if jnp.issubdtype(kind, jnp.floating):
        return jnp.result_type(float)
    return jnp.int32 if jnp.issubdtype(kind, jnp.integer) else kind


def like(tree: Any, old: Any) -> Any:
    """A tree in the dtypes and shapes of another."""
    return jax.tree.map(lambda x, y: jnp.broadcast_to(jnp.asarray(x, y.dtype), y.shape), tree, old)


def chosen(condition: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the condition holds, else `old`, leaf by leaf: `where`, never `cond`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def all_finite(tree: Any) -> jax.Array:
    """Is every number of a tree finite?"""
    finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.ones((), bool)


def fits(new: Any, old: Any) -> bool:
    """Can a tree be held as another is, with nothing lost?"""
    if jax.tree.structure(new) != jax.tree.structure(old):
        return False
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    return all(jnp.shape(x) in ((), y.shape) and breadth(x) <= breadth(y) for x, y in pairs)


def breadth(x: Any) -> int:
    """How much a number can hold, as a place among `KINDS`."""
    dtype = jnp.result_type(x)
    return next((i for i, kind in enumerate(KINDS) if jnp.issubdtype(dtype, kind)), OTHER)


def shown(tree: Any) -> Any:
    """A tree as the types and shapes of what is in it."""
    return jax.tree.map(lambda x: f"{jnp.result_type(x)}{[*jnp.shape(x)]}", tree)
