"""Stacks many schedules into one, with a leading axis on every number, for `jax.vmap`.

Schedules of equal structure are stacked number by number. Schedules of different structure become a
`select` among one of each structure. Members of another structure get placeholder numbers there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core._require import finite, refuse, require, sequence
from jaxsched._rules._stateful import Stateful, StatefulClip, StatefulProduct
from jaxsched._schedules._combined import product
from jaxsched._schedules._compose import Select
from jaxsched._schedules._schedule import Schedule, as_schedule, is_function
from jaxsched._schedules._unbounded import constant

ARRAYS = (jax.Array, np.ndarray, np.generic)


def stack(members: Sequence[Any]) -> Any:
    """Stacks many schedules into one batched schedule, even if their structures differ.

        jax.vmap(f)(stack([a, b, c])) = [f(a), f(b), f(c)],  in one program

    Args:
      members: schedules, stateful schedules, numbers, or trees of these such as `{"learning_rate":
        a, "weight_decay": b}`, all with the same keys. In stateful schedules, the curves may differ
        in structure; the rules may differ only in their numbers.

    Returns:
      A schedule or tree like one member, with a leading axis of `len(members)` on each number, in
      float32 or int32 (float64 under x64). Call it under `jax.vmap`. Member i is
      `jax.tree.map(lambda x: x[i], stacked)`. If structures differ, all of them are evaluated, and
      `steps` is the longest.

    Raises:
      ValueError: there is no member, or the members do not fit together.

    Example:
      >>> several = stack([linear(1.0, 0.0, 4), cosine(1.0, 0.0, 4), constant(0.5)])
      >>> print(np.asarray(jax.vmap(lambda schedule: schedule(1))(several)).round(3))
      [0.75  0.854 0.5  ]
    """
    members = sequence("stack", "members", members)
    if not jax.tree.leaves(members):
        raise ValueError(refuse("stack", "members", "not be empty", members))
    columns, trees = zip(*(jax.tree.flatten(x, is_leaf=_is_one) for x in members), strict=True)
    for i, tree in enumerate(trees):
        if tree != trees[0]:
            raise ValueError(
                "`stack(members=...)`: all members need the same keys, got "
                f"members[{i}]={members[i]!r} beside members[0]={members[0]!r}."
            )
    return trees[0].unflatten([_stacked(column) for column in zip(*columns, strict=True)])


def _is_one(x: Any) -> bool:
    return isinstance(x, (Schedule, Stateful))


def _stacked(column: tuple[Any, ...]) -> Any:
    if any(isinstance(x, Stateful) for x in column):
        return _stateful(column)
    if any(isinstance(x, Schedule) or is_function(x) for x in column):
        return _schedules([as_schedule("stack", x) for x in column])
    numbers = [finite("stack", "members", x) for x in column]
    shapes = {np.shape(x) for x in numbers}
    require(len(shapes) == 1, f"`stack(members=...)`: arrays need one shape, got {shapes}.")
    return _alike(numbers)


def _schedules(schedules: Sequence[Schedule]) -> Schedule:
    shapes = [_shape(x) for x in schedules]
    examples = dict(zip(reversed(shapes), reversed(schedules), strict=True))
    # The same families in any order give the same tree, and so the same program.
    families = sorted(examples, key=lambda shape: re.sub("0x[0-9a-f]+", "", str(shape)))
    pairs = [*zip(schedules, shapes, strict=True)]
    stacks = [_alike([x if own == it else examples[it] for x, own in pairs]) for it in families]
    if len(stacks) == 1:
        return stacks[0]
    return Select(jnp.array([families.index(shape) for shape in shapes], jnp.int32), tuple(stacks))


def _stateful(column: Sequence[Any]) -> Stateful:
    for x in column:
        if not isinstance(x, Stateful):
            raise ValueError(
                f"`stack(members=...)`: all members need the same rules, and `{x}` has none."
            )
    if len({*map(_shape, column)}) == 1:
        return _alike(column)
    if len({_bounds(x) for x in column}) == 1 and isinstance(column[0], StatefulClip):
        low, high = (_alike([getattr(x, side) for x in column]) for side in ("low", "high"))
        return StatefulClip(_stateful([x.schedule for x in column]), low, high)
    curves, rules = zip(*map(_apart, column), strict=True)
    for i, own in enumerate(rules):
        if [*map(_shape, own)] != [*map(_shape, rules[0])]:
            raise ValueError(
                "`stack(members=...)`: all members need the same rules, which may differ only in "
                f"their numbers, got {own} in members[{i}] and {rules[0]} in members[0]."
            )
    return StatefulProduct((_schedules(curves), *map(_alike, zip(*rules, strict=True))))


def _bounds(x: Stateful) -> Any:
    """Return the bounds that a clip around a product has; None without a clip."""
    return _shape((x.low, x.high)) if isinstance(x, StatefulClip) else None


def _apart(x: Stateful) -> tuple[Schedule, tuple[Stateful, ...]]:
    """Return the curve in a product, and its stateful factors."""
    factors = x.factors if isinstance(x, StatefulProduct) else (x,)
    curves = [factor for factor in factors if not isinstance(factor, Stateful)]
    rules = tuple(factor for factor in factors if isinstance(factor, Stateful))
    if len(curves) == 1 and isinstance(curves[0], Schedule):
        return curves[0], rules
    return product(constant(1.0), *curves), rules


def _shape(x: Any) -> Any:
    """Return the structure that schedules share if they differ only in their numbers."""
    leaves, tree = jax.tree.flatten(x)
    return tree, tuple((np.shape(leaf), _dtype(leaf)) for leaf in leaves)


def _alike(members: Sequence[Any]) -> Any:
    return jax.tree.map(_column, *members)


def _column(*numbers: Any) -> jax.Array:
    """Return numbers in one array, with the type that they have in a schedule."""
    dtype = _dtype(numbers[0])
    is_key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if is_key or any(isinstance(number, Tracer) for number in numbers):
        return jnp.stack([*map(jnp.asarray, numbers)])
    # On the host: moving thousands of numbers to the device one by one would take seconds.
    return jnp.asarray(np.stack([*map(np.asarray, numbers)]).astype(dtype))


def _dtype(number: Any) -> Any:
    if isinstance(number, ARRAYS):
        return number.dtype
    return np.dtype(np.int32) if isinstance(number, int) else jnp.result_type(float)
