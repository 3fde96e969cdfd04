"""A scan that can be differentiated over thousands of steps: it remembers few of its states."""

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
    """`jax.lax.scan`, whose gradient keeps 2 sqrt(n) states in memory in place of n.

        in segments of sqrt(n) steps, of which the first state alone is kept, and the others are
        computed once more when the gradient comes by

    For `learn_schedule`, and for any gradient through a whole training run. It costs one forward
    pass more.

    Args:
      step: (carry, x) -> (carry, y), as of `jax.lax.scan`.
      init: the first carry.
      xs: arrays with the steps in front; None if there are none.
      length: the number of steps, where `xs` does not say it.

    Returns:
      The last carry, and the ys stacked.

    Raises:
      ValueError: there is neither `xs` nor `length`, or they do not agree.

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
    require(given, refuse("checkpointed_scan", "length", "be given where there are no xs", length))
    if length is not None:
        length = int(whole("checkpointed_scan", length=length))
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
