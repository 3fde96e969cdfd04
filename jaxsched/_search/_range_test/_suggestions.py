"""Learning rates suggested by the curve of a range test: five known rules, as pure functions.

Each rule reads the points [begin, end) of the curve, and returns one of its rates. Other points are
masked, so that a rule is one program for any number of points.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._core._numerics import above_zero, real
from jaxsched._core._require import refuse, require

# Points that other libraries ignore: torch-lr-finder the first ten, fastai the first tenth, and
# both the last five.
_FIRST, _TENTH, _LAST = 10, 10, 5
_REACH, _CALM = 15, 0.005  # fastai's `lr_diff` and `thresh`


class Suggestions(NamedTuple):
    """A rate from each of the five rules, see `suggestions`.

    Attributes:
      steepest: the rate where the loss falls most between its two neighbouring points.
      steep: the rate where the loss falls most per logarithm of the rate.
      minimum: a tenth of the rate with the lowest loss (in a `RangeTest`, the smoothed loss).
      valley: the rate in the middle of the longest decrease.
      slide: from high to low rates, the last rate before the slope stops changing.
    """

    steepest: float | jax.Array
    steep: float | jax.Array
    minimum: float | jax.Array
    valley: float | jax.Array
    slide: float | jax.Array


class Curve(NamedTuple):
    """The part of a curve that a rule reads."""

    rates: jax.Array  # float[N]
    losses: jax.Array  # float[N], finite
    at: jax.Array  # int32[N]: 0, 1, 2, ...
    begin: jax.Array  # int32: the first point to read
    end: jax.Array  # int32: the point after the last one to read, at least begin + 1


def suggestions(rates: ArrayLike, losses: ArrayLike, count: ArrayLike | None = None) -> Suggestions:
    """Returns the learning rates that a loss curve suggests, by each of five known rules.

        steepest = rates[argmin of the central difference of losses]        points [10:-5]
        steep    = rates[argmin of diff(losses) / diff(log(rates))]         points [N // 10:-5]
        minimum  = rates[argmin losses] / 10                                points [N // 10:-5]
        valley   = rates[s + (e - s) // 3 + (e - s) // 6]; the longest
                   decreasing subsequence ends at e and has e - s elements  points [N // 10:-5]
        slide    = rates[r - 15], from the right, as long as the slopes at
                   r and r - 15 differ by more than 0.005                   points [N // 10:-5]

    Losses should be smoothed. Points from the first NaN or infinity on are ignored. Each rule
    reads its slice of the points. If that slice has fewer than two points, the rule reads all
    points before the first NaN.

    `steepest` is the suggestion of torch-lr-finder and of ignite, but ignite raises an error if the
    curve does not fall. The others are fastai's. Lightning divides by differences of the rate, not
    of its logarithm, which favours the lowest rates by orders of magnitude. Its rule is left out.

    Args:
      rates: rates tried, rising, of shape (N,).
      losses: losses at these rates, of shape (N,).
      count: number of points that count, if the test stopped early; None: all.

    Returns:
      Five rates, float32 scalars (float64 under x64); all but `minimum` are among `rates`. The
      function can be used under `jit` and `vmap`.

    Raises:
      ValueError: the shapes differ, or are not one-dimensional.

    Example:
      >>> rates = jnp.geomspace(1e-5, 1.0, 101)
      >>> found = suggestions(rates, (jnp.log10(rates) + 2) ** 2)  # lowest at 0.01
      >>> print(f"{found.steepest:.5f} {found.minimum:.5f} {found.valley:.5f}")
      0.00003 0.00100 0.00050

    References:
      `lr_find` of fastai, from Howard and Gugger, 2020, https://arxiv.org/abs/2002.04688;
      `torch_lr_finder.LRFinder`.
    """
    x, y = real(rates), real(losses)
    require(
        x.ndim == 1 and x.shape == y.shape and x.size > 0,
        refuse(
            "suggestions",
            "losses",
            f"be one curve, of the shape {x.shape} of the rates",
            y.shape,
            "For a band, use `jax.vmap(suggestions)(rates, losses)`.",
        ),
    )
    return suggested(x, y, jnp.asarray(x.size if count is None else count, jnp.int32), x.size)


@jax.jit
def suggested(
    rates: jax.Array, losses: jax.Array, count: jax.Array, size: ArrayLike
) -> Suggestions:
    """Return the suggestions for a curve of `size` points, which may be padded."""
    late = _seen(rates, losses, count, _FIRST)
    curve = _seen(rates, losses, count, jnp.asarray(size, jnp.int32) // _TENTH)
    return Suggestions(
        _steepest(late), _steep(curve), _minimum(curve), _valley(curve), _slide(curve)
    )


def _seen(rates: jax.Array, losses: jax.Array, count: jax.Array, skipped: ArrayLike) -> Curve:
    """Return the points after the skipped ones, before the last five and the first NaN."""
    index = jnp.arange(rates.size, dtype=jnp.int32)
    broken = ~jnp.isfinite(losses) | (index >= count)
    known = jnp.where(broken.any(), _earliest(broken), rates.size).astype(jnp.int32)
    begin, end = jnp.asarray(skipped, jnp.int32), jnp.minimum(count - _LAST, known)
    enough = end - begin >= 2
    begin, end = jnp.where(enough, begin, 0), jnp.where(enough, end, jnp.maximum(known, 1))
    return Curve(rates, jnp.where(index < known, losses, 0), index, begin, end)


def _steepest(curve: Curve) -> jax.Array:
    """Use the differences of `np.gradient`: central, and one-sided at both ends."""
    return _lowest(curve, _slopes(curve), curve.end)


def _steep(curve: Curve) -> jax.Array:
    later = jnp.minimum(curve.at + 1, curve.at[-1])
    logs = jnp.log(above_zero(curve.rates))
    slopes = (curve.losses[later] - curve.losses) / above_zero(logs[later] - logs)
    # The last point has no next point.
    return _lowest(curve, slopes, jnp.maximum(curve.end - 1, curve.begin + 1))


def _minimum(curve: Curve) -> jax.Array:
    return _lowest(curve, curve.losses, curve.end) / 10


def _valley(curve: Curve) -> jax.Array:
    lengths = _ways_down(curve)
    last = _earliest(lengths == lengths.max())
    length = lengths[last]
    # Two thirds of the decrease are the valley, and its middle is used.
    at = last - length + length // 3 + length // 6
    return curve.rates[jnp.maximum(at, curve.begin)]


def _ways_down(curve: Curve) -> jax.Array:
    """Return the length of the longest decreasing subsequence that ends at each point."""

    def extended(i: jax.Array, lengths: jax.Array) -> jax.Array:
        above = (curve.at < i) & (curve.losses > curve.losses[i])
        return lengths.at[i].set(1 + jnp.where(above, lengths, 0).max())

    # Points that are not read stay at 0, so that nothing extends them.
    return jax.lax.fori_loop(curve.begin, curve.end, extended, jnp.zeros_like(curve.at))


def _slide(curve: Curve) -> jax.Array:
    slopes, right = _slopes(curve), curve.end - 1 - curve.at  # at 0 the last one seen
    left = right - _REACH
    differ = jnp.abs(_at(slopes, right) - _at(slopes, left)) > _CALM
    walks = differ & (left >= curve.begin)
    steps = jnp.where(walks.all(), walks.size, _earliest(~walks))
    at = curve.end - 1 - _REACH - jnp.maximum(steps - 1, 0)
    return curve.rates[jnp.maximum(at, curve.begin)]


def _slopes(curve: Curve) -> jax.Array:
    before = jnp.clip(curve.at - 1, curve.begin, curve.end - 1)
    after = jnp.clip(curve.at + 1, curve.begin, curve.end - 1)
    return (curve.losses[after] - curve.losses[before]) / real(jnp.maximum(after - before, 1))


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
    return x[jnp.clip(index, 0, x.size - 1)]


def _earliest(condition: jax.Array) -> jax.Array:
    """Return the first index at which the condition holds: int32, also under x64."""
    return jax.lax.argmax(condition, 0, jnp.int32)


def _lowest(curve: Curve, x: jax.Array, end: jax.Array) -> jax.Array:
    """Return the rate at which `x` is lowest, among the points before `end`."""
    inside = (curve.at >= curve.begin) & (curve.at < end)
    return curve.rates[jnp.where(inside, x, jnp.inf).argmin()]
