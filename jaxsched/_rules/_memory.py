"""The memory of a rule: plain numbers where it is defined, arrays in an optimizer state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._core._packed import LikeParams

# Kinds of numbers; each can hold the values of those before it.
KINDS = (jnp.bool_, jnp.integer, jnp.floating)
OTHER = len(KINDS)


def initially(number: Any) -> Any:
    """Declares the initial value of a field of a rule's state. In the state, the value is an array.

    The function returns `number` as it is. Use it for a field that is annotated as an array, so
    that a type checker accepts a plain number there. A field annotated as `float` or `int` needs
    only `= number`.

    Example:
      >>> from typing import NamedTuple
      >>> class State(NamedTuple):
      ...     scale: jax.Array = initially(1.0)
    """
    return number


def fresh(tree: Any) -> Any:
    """Return a tree of numbers as new arrays: float32 (float64 under x64), int32 or bool."""

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
    """Return a tree in the dtypes and shapes of another."""
    return jax.tree.map(lambda x, y: jnp.broadcast_to(jnp.asarray(x, y.dtype), y.shape), tree, old)


def chosen(condition: jax.Array, new: Any, old: Any) -> Any:
    """Return `new` where the condition holds, else `old`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def all_finite(tree: Any) -> jax.Array:
    """Return whether every number of a tree is finite."""
    finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.ones((), bool)


def fits(new: Any, old: Any) -> bool:
    """Return whether a tree can be stored in the shapes and kinds of another without loss."""
    if jax.tree.structure(new) != jax.tree.structure(old):
        return False
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    return all(jnp.shape(x) in ((), y.shape) and breadth(x) <= breadth(y) for x, y in pairs)


def breadth(x: Any) -> int:
    """Return the index of a number's kind among `KINDS`."""
    dtype = jnp.result_type(x)
    return next((i for i, kind in enumerate(KINDS) if jnp.issubdtype(dtype, kind)), OTHER)


def shown(tree: Any) -> Any:
    """Return a tree of the types and shapes of its leaves, for messages."""
    return jax.tree.map(lambda x: f"{jnp.result_type(x)}{[*jnp.shape(x)]}", tree)
