"""Nonlinear least squares from many starts at once, in one compiled program.

The method is Levenberg and Marquardt's. The unknowns are in units of their prior, so that the
prior is one more residual for each, and the system is never singular. The starts advance together,
until half of them have arrived: on the curves tried, all starts arrive at one optimum, and the last
of them take twice as long as the first half.

Optimistix has the same method. On the same problems it took two to four times as long, because it
waits for the last start, and factorizes all slopes in each iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import real

ITERATIONS = 50
HIGHEST = 1e5  # damping at which no step is left that lowers the sum, to rounding
ENOUGH = 1e-3  # a smaller decrease of the sum of squares, in units of one variance, says nothing


class _Search(NamedTuple):
    x: jax.Array
    value: jax.Array
    damping: jax.Array
    hoped: jax.Array  # the decrease that the last step was expected to bring


def least_squares(
    residuals: Callable[[jax.Array], jax.Array], starts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return where the searches from all starts ended, and the sums of squares there.

    The sum is that of the squares of the residuals and of the unknowns.

    Args:
      residuals: a function from float[unknowns] to float[residuals].
      starts: float[starts, unknowns].
    """

    def total(x: jax.Array) -> jax.Array:
        value = jnp.sum(residuals(x) ** 2) + jnp.sum(x**2)
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def begun(x: jax.Array) -> _Search:
        return _Search(x, total(x), real(1e-2), real(jnp.inf))

    def advanced(now: _Search) -> _Search:
        r, slopes = residuals(now.x), jax.jacfwd(residuals)(now.x)
        matrix, gradient = curvature(slopes), slopes.T @ r + now.x
        damped = matrix + now.damping * jnp.diag(jnp.diagonal(matrix))
        way = jnp.linalg.solve(damped, gradient)
        value = total(now.x - way)
        better = value < now.value
        return _Search(
            x=jnp.where(better, now.x - way, now.x),
            value=jnp.where(better, value, now.value),
            damping=now.damping * jnp.where(better, 0.2, 5.0),
            hoped=jnp.sum(way * gradient),
        )

    def goes_on(carry: tuple[jax.Array, _Search]) -> jax.Array:
        tries, now = carry
        searching = (now.hoped > ENOUGH) & (now.damping < HIGHEST)
        return (tries < ITERATIONS) & (2 * jnp.sum(searching) > starts.shape[0])

    def step(carry: tuple[jax.Array, _Search]) -> tuple[jax.Array, _Search]:
        tries, now = carry
        return tries + 1, jax.vmap(advanced)(now)

    _, last = jax.lax.while_loop(goes_on, step, (jnp.int32(0), jax.vmap(begun)(starts)))
    return last.x, last.value


def curvature(slopes: jax.Array) -> jax.Array:
    """Return half the second derivative of the sum of squares, as Gauss and Newton have it."""
    return slopes.T @ slopes + jnp.eye(slopes.shape[1], dtype=slopes.dtype)
