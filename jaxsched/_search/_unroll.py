"""A scan that can be differentiated over thousands of steps, because it stores few states."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._require import length as whole
from jaxsched._core._require import refuse, require


def checkpointed_scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
) -> tuple[Any, Any]:
    """A `jax.lax.scan` whose gradient stores 2 sqrt(n) states instead of n.

        in segments of sqrt(n) steps; only the first state of each is stored, and the others are
        computed again in the backward pass

    Use it for `learn_schedule`, and for any gradient through a complete training run. It costs one
    more forward pass.

    Args:
      step: (carry, x) -> (carry, y), as for `jax.lax.scan`.
      init: initial carry.
      xs: arrays with the steps on their leading axis; None if there are none.
      length: number of steps, if `xs` is None.

    Returns:
      The last carry, and the stacked ys.

    Raises:
      ValueError: both `xs` and `length` are missing, or they do not agree.

    Example:
      >>> def step(x, t):
      ...     return x * 0.9, x
      >>> last = jax.grad(lambda x: checkpointed_scan(step, x, length=100)[0])(1.0)
      >>> print(jnp.allclose(last, 0.9**100))
      True

    References:
      Chen et al., Training deep nets with sublinear memory cost, 2016,
      https://arxiv.org/abs/1604.06174, section 4.
    """
    leaves = jax.tree.leaves(xs)
    given = len(leaves) > 0 or length is not None
    require(given, refuse("checkpointed_scan", "length", "be given if there are no xs", length))
    if length is not None:
        length = int(whole("checkpointed_scan", "length", length))
    sizes = {*(np.shape(x)[:1] for x in leaves), *([] if length is None else [(length,)])}
    require(
        len(sizes) == 1 and () not in sizes,
        "`checkpointed_scan(xs=..., length=...)`: all need the same number of steps, got "
        f"xs of shapes {[*map(np.shape, leaves)]} and length={length}.",
    )
    ((n,),) = sizes
    each = max(math.isqrt(n), 1)
    inner = n // each * each

    def segment(carry: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(step, carry, xs, length=each)

    parts = jax.tree.map(lambda x: x[:inner].reshape(n // each, each, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(jax.checkpoint(segment), init, parts, length=n // each)
    ys = jax.tree.map(lambda y: y.reshape(inner, *y.shape[2:]), ys)
    if inner == n:
        return carry, ys
    rest = jax.tree.map(lambda x: x[inner:], xs)
    carry, last = jax.checkpoint(lambda c, x: jax.lax.scan(step, c, x, length=n - inner))(
        carry, rest
    )
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, last)
