"""Schedules from gradient norms: the one with the lowest bound, and the refined one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import above_zero
from jaxsched._core._padded import lengthened, shortened, size
from jaxsched._core._require import UNIT, one_of, refuse, require, within
from jaxsched._schedules._schedule import Schedule
from jaxsched._schedules._table import Table
from jaxsched._search._convex_bound import norms_of

NORMS = {"l2": 2, "l1": 1}


def optimal_schedule(grad_norms: Sequence[ArrayLike]) -> Schedule:
    """Returns the schedule with the lowest worst-case bound at the last point, from gradient norms.

        w_k = G_k**-2 of the steps k < n, and w_n = w_{n-1}
        c_n = w_n,   c_k = c_{k+1} + w_k / (2 (1 + sqrt(1 + w_k / c_{k+1})))       bound = c_0**-1/2
        step k leaves the fraction (1 + w_k / c_{k+1})**-1/2 of the sum of the remaining values

    Here n is the point after the last step. No gradient was taken there, so the last norm is used
    for it. The schedule minimizes the bound at point n. In this bound, w_n is the weight of point
    n, not a step. So the returned schedule is zero at n. For the same steps, `convex_bound` gives
    the bound at the point before n. So the returned schedule does not exactly minimize
    `convex_bound`; a slightly different schedule does.

    For equal norms the schedule is close to linear decay, and its bound is only slightly lower than
    that of linear decay. If the norms are large at first, the schedule warms up.

    Args:
      grad_norms: norms of the gradients, one per step, positive. They are known after a run, so the
        schedule is for the next run. Norms of single batches are noisy; smooth them first.

    Returns:
      A `table` with peak 1, which is zero from step `len(grad_norms)` on.

    Raises:
      ValueError: `grad_norms` is empty, or contains a number that is not positive.

    Example:
      >>> print(np.asarray(optimal_schedule(np.ones(10))(jnp.arange(11))).round(3))
      [1.    0.923 0.847 0.771 0.697 0.622 0.549 0.477 0.407 0.338 0.   ]
      >>> loud_at_first = 1 + 9 * np.exp(-np.arange(1000) / 50)
      >>> values = optimal_schedule(loud_at_first)(jnp.array([0, 250, 500, 750, 1000]))
      >>> print(np.asarray(values).round(3))
      [0.013 0.986 0.744 0.372 0.   ]

    References:
      Defazio et al., 2023, https://arxiv.org/abs/2310.07831, compute it numerically. The guide
      "Comparing schedules without training" derives the recursion.
    """
    norms = _positive("optimal_schedule", grad_norms)
    count = norms.shape[0]
    values = _optimal(lengthened(norms, front=True), size(count) - count)
    return Table(shortened(_ended(values), count + 1, front=True))


def refined_schedule(
    grad_norms: Sequence[ArrayLike], *, width: float = 0.1, norm: str = "l2"
) -> Schedule:
    """Returns a schedule refined from the gradient norms of one run, for the next run.

        w_t = median(G)_t**-2,  or **-1 for "l1"
        s_t = w_t (w_{t+1} + ... + w_n),   divided by its largest value

    Here n is the number of norms, which is also the index of the point after the last step. No
    gradient was taken at that point, so w_n is set to the weight of the last step. Equal norms give
    exactly linear decay, `linear(1.0, 0.0, n)`. In the algorithm of Defazio et al., the sum ends
    one term earlier, and the last step of a run is zero.

    Args:
      grad_norms: norms of the gradients, one per step, positive.
      width: width of the median filter as a fraction of the run, in [0, 1]. The filter is rounded
        to an odd number of steps. Before the first step the first norm is repeated; after the last,
        norms are mirrored.
      norm: kind of the norms: "l2", for SGD, or "l1", for Adam.

    Returns:
      A `table` with peak 1, which is zero from step `len(grad_norms)` on.

    Raises:
      ValueError: `grad_norms` is empty, or contains a number that is not positive; or an argument
        is out of its range.

    Example:
      >>> print(refined_schedule([1.0] * 4)(jnp.arange(5)))
      [1.   0.75 0.5  0.25 0.  ]
      >>> print(np.asarray(refined_schedule([3.0, 2.0, 1.0, 1.0])(jnp.arange(5))).round(3))
      [0.181 0.375 1.    0.5   0.   ]

    References:
      Defazio et al., 2023, https://arxiv.org/abs/2310.07831, algorithm 1, with the filter of its
      code.
    """
    call = "refined_schedule"
    norms = _positive(call, grad_norms)
    part = within(call, "width", width, UNIT)
    if not isinstance(part, float):
        raise ValueError(refuse(call, "width", "be a float, because it sets a shape", width))
    one_of(call, "norm", norm, tuple(NORMS))
    medians = _median(norms, int(part * norms.size) // 2)
    values = _refined(medians, norms.shape[0], NORMS[norm])
    return Table(shortened(_ended(values), norms.shape[0] + 1))


@jax.jit
def _optimal(norms: jax.Array, begin: jax.Array) -> jax.Array:
    """Return the values from step `begin` on, and zeros before it."""
    weights = _weights(norms, 2)

    def earlier(later: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Brought near 1 first: the gradient of a quotient squares its divisor, which may be tiny.
        near = 1 / jax.lax.stop_gradient(above_zero(later))
        share = w * near / (above_zero(later) * near)
        return later + w / (2 * (1 + jnp.sqrt(1 + share))), share

    _, share = jax.lax.scan(earlier, weights[-1], weights, reverse=True)
    share = jnp.where(jnp.arange(share.size, dtype=jnp.int32) >= begin, share, 0)
    # log1p and expm1, because early in a long run a step takes a tiny part of the rest.
    left = -jnp.log1p(share) / 2
    return jnp.exp(jnp.cumsum(left) - left) * -jnp.expm1(left)


@partial(jax.jit, static_argnums=2)
def _refined(norms: jax.Array, end: jax.Array, power: int) -> jax.Array:
    """Return the values up to step `end`, and zeros from there on."""
    place = jnp.arange(norms.size, dtype=jnp.int32)
    weights = jnp.where(place < end, _weights(norms, power), 0)
    after = jnp.where(place + 1 < end, jnp.roll(weights, -1), weights)
    return weights * jax.lax.cumsum(after, reverse=True)


def _median(norms: jax.Array, half: int) -> jax.Array:
    """Return the median of each norm with `half` norms on each side, padded."""
    count, width = norms.shape[0], 2 * half + 1
    order = np.pad(np.pad(np.arange(count), (0, half), mode="reflect"), (half, 0), mode="edge")
    gone, new = (np.append(x, 0) for x in (order[: count - 1], order[width:]))
    first = lengthened(order[:width])
    inside = np.arange(len(first)) < width
    places = lengthened(gone), lengthened(new)
    return _slid(lengthened(norms), first, inside, places, half)


@jax.jit
def _slid(
    norms: jax.Array,
    first: jax.Array,
    inside: jax.Array,
    places: tuple[jax.Array, jax.Array],
    half: jax.Array,
) -> jax.Array:
    """Return the medians of a window that loses one norm and gains another at each step.

    The window stays sorted, because sorting each anew is 100 times as slow in a long run. Places
    beyond its norms are infinite, so that its width is not a shape.
    """
    place = jnp.arange(first.size, dtype=jnp.int32)

    def slide(window: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        gone, new = (norms[x] for x in ends)
        rest = jnp.where(place < jnp.searchsorted(window, gone), window, jnp.roll(window, -1))
        rest = jnp.where(place < place.size - 1, rest, jnp.inf)
        at = jnp.searchsorted(rest, new)
        following = jnp.where(place < at, rest, jnp.where(place > at, jnp.roll(rest, 1), new))
        return following, window[half]

    window = jnp.sort(jnp.where(inside, norms[first], jnp.inf))
    return jax.lax.scan(slide, window, places)[1]


def _weights(norms: jax.Array, power: int) -> jax.Array:
    """Return norms**-power, scaled so that the largest is 1; the gradient ignores the scale."""
    return (norms / jax.lax.stop_gradient(jnp.min(norms))) ** -power


def _ended(values: jax.Array) -> jax.Array:
    """Return the values over their largest, with a zero appended."""
    # XLA divides by a scalar with its rounded inverse, but by an array exactly.
    return jnp.append(values / jnp.full_like(values, jnp.max(values)), 0)


def _positive(call: str, grad_norms: Any) -> Any:
    """Return norms as an array, checked to be positive."""
    norms = norms_of(call, "grad_norms", grad_norms)
    if norms.ndim != 1 or norms.size == 0:
        must = "be a list of norms, one for each step"
        raise ValueError(refuse(call, "grad_norms", must, grad_norms))
    if isinstance(norms, Tracer):
        return above_zero(norms)
    known = np.asarray(norms)  # compared on the host, to avoid a program for each length
    require(known > 0, refuse(call, "grad_norms", "be positive", grad_norms))
    return np.maximum(known, np.finfo(known.dtype).tiny)
