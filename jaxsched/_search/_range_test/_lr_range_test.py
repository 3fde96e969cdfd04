"""The LR range test as one compiled loop: rising rates, a loss for each, until divergence.

    rate(i), i = 0 ... steps - 1     from low to high, both included
    loss(i)                          of batch i, before the update with rate(i)
    untrained(i)                     of batch i at the initial parameters: the effect of the batch
    smoothed(i)                      the mean of loss(0) ... loss(i) with weights smoothing**(i - j)
    stop                             smoothed > diverged * lowest smoothed so far, or not finite

After the stop, updates are computed but discarded, so nothing waits for the host. Under `vmap` each
seed stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._numerics import above_zero, real
from jaxsched._core._padded import shortened, size
from jaxsched._core._require import (
    BELOW_ONE,
    NOT_NEGATIVE,
    Condition,
    finite,
    one_of,
    positive,
    refuse,
    require,
    static_length,
    within,
    word,
)
from jaxsched._rules._memory import chosen
from jaxsched._schedules._curves import geometric, linear
from jaxsched._schedules._schedule import Schedule
from jaxsched._search._programs import as_tree, program
from jaxsched._search._range_test._batches import picked, stacked
from jaxsched._search._range_test._result import RangeTest
from jaxsched._search._range_test._steps import (
    Key,
    key_of,
    own,
    require_arguments,
    require_floats,
    require_optimizer,
    scalar_of,
    trained,
)
from jaxsched._search._range_test._verdict import LEAST
from jaxsched._transforms._inject import inject

_CALL = "lr_range_test"
_SETTLED = 5  # losses before which a high loss may be due to its batch alone


def lr_range_test(
    function: Callable[..., Any],
    params: Any,
    batches: Any,
    optimizer: Callable[..., optax.GradientTransformation] | None = None,
    *,
    low: ArrayLike = 1e-7,
    high: ArrayLike = 10.0,
    steps: int = 100,
    mode: str = "geometric",
    hyperparameter: str = "learning_rate",
    smoothing: ArrayLike = 0.98,
    diverged: ArrayLike = 4.0,
) -> RangeTest:
    """Trains briefly at rising learning rates, to find where the loss falls and where it diverges.

    It is one compiled loop, and changes none of the caller's state; the trained parameters are
    discarded. Each loss is computed before the update of its step. The test stops at the first
    loss that is NaN or infinite. From the sixth loss on, it also stops if

        smoothed > diverged * best                                        if best > 0
        smoothed > best + (diverged - 1) * max(-best, first - best)       else

    Here best is the lowest smoothed loss so far, and first is the first loss. After the stop
    nothing is trained any more.

    A rate is suggested only if the loss falls by more than its noise, and if the fall is due to
    training. To check the second condition, the loss of each batch at the initial parameters is
    computed too, which costs one more forward pass per step. If the fall of the loss at the initial
    parameters is more than half of the fall of the loss in training, the batches themselves get
    easier. Then there is no suggestion: shuffle the batches. A loss that does not depend on the
    parameters never gets a suggestion.

    One curve is noisy. Map over several seeds with `vmap` to get a band:

        jax.vmap(lambda key: lr_range_test(loss, init(key), shuffled(key), optax.adam))(keys)

    A second call with other numbers, parameters or batches of the same shapes triggers no
    recompilation, if `function` is the same object. If `function` is a `jax.tree_util.Partial`, its
    arrays can change without a recompilation too.

    Args:
      function: `loss(params, batch)`, which returns a scalar or a tuple that begins with one.
        Without an optimizer, your own step: `step(state, batch, value)` -> `(state, loss)`, for any
        state.
      params: parameters, or the state of your own step.
      batches: an array, a tuple, a dict or another tree of arrays with the batches on the leading
        axis; or a list of batches, or any iterable, from which `steps` are taken. If there are
        fewer than `steps`, they repeat. None for a loss that needs no batch.
      optimizer: function that makes the optimizer, such as `optax.adam` or `partial(optax.adamw,
        b1=0.8)`.
      low: first value, > 0, or >= 0 if linear.
      high: last value, > low.
      steps: number of values, at least 10. With fewer than 30, the test may miss a small decrease.
      mode: "geometric" for equal ratios, or "linear" for equal differences.
      hyperparameter: argument of `optimizer` to vary. Bind its other arguments: for "weight_decay",
        `partial(optax.adamw, learning_rate=1e-3)`.
      smoothing: decay per step of the mean of the losses, in [0, 1).
      diverged: the test stops when the smoothed loss is this many times the lowest one, > 1.

    Returns:
      A `RangeTest`: the curve, and the suggestions from it.

    Raises:
      ValueError: a number is out of its range; `optimizer` does not have that hyperparameter or
        needs more arguments; or the batches do not fit together. Traced numbers are not checked.

    Example:
      >>> def loss(x, batch):
      ...     return 2 * jnp.mean((x - batch) ** 2)  # of curvature 4: 2 / 4 is the last stable rate
      >>> batches = 3 + jax.random.normal(jax.random.key(0), (100, 8))
      >>> test = lr_range_test(loss, jnp.zeros(()), batches, optax.sgd, low=1e-4)
      >>> print(test)
      rate 0.0774, range 0.00368 to 0.0774; stopped at 1.38 after 83 of 100 points
      >>> schedule = one_cycle(test.rate, total_steps=1000)

    References:
      Smith, 2017, https://arxiv.org/abs/1506.01186, section 3.3; `lr_find` of fastai; `LRFinder` of
      torch-lr-finder, whose last value is also `high`.
    """
    require(callable(function), refuse(_CALL, "function", "be a function", function))
    require_arguments(function, optimizer)
    points = static_length(_CALL, "steps", steps, least=LEAST)
    ramp = _ramp(low, high, points, mode)
    if optimizer is not None:
        require_optimizer(optimizer, word(_CALL, "hyperparameter", hyperparameter))
        require_floats(params)
    tree = as_tree(function)
    run = program(_run, tree, "optimizer", "hyperparameter", "most")
    found = run(
        tree,
        ramp,
        params,
        stacked(batches, points),
        within(_CALL, "smoothing", smoothing, BELOW_ONE),
        within(_CALL, "diverged", diverged, Condition("be above 1", lambda x: x > 1)),
        optimizer=key_of(optimizer),
        hyperparameter=hyperparameter,
        steps=points,
        most=size(points),
    )
    rates, losses, smoothed, untrained = (
        shortened(x, points) for x in (found.rates, found.losses, found.smoothed, found.untrained)
    )
    return RangeTest(rates, losses, smoothed, found.count, untrained)


class _Seen(NamedTuple):
    """The state of the test with respect to the losses."""

    loss: jax.Array  # float: the last loss that counts
    smoothed: jax.Array  # float: the mean of the losses that count
    weight: jax.Array  # float: the sum of its weights
    best: jax.Array  # float: the lowest mean
    first: jax.Array  # float
    heard: jax.Array  # int32: how many count
    stopped: jax.Array  # bool


def _run(
    function: Callable[..., Any],
    ramp: Schedule,
    params: Any,
    batches: Any,
    smoothing: ArrayLike,
    diverged: ArrayLike,
    *,
    optimizer: Key,
    hyperparameter: str,
    steps: ArrayLike,
    most: int,
) -> RangeTest:
    batch = picked(batches)
    if optimizer.call is None:
        step, state = own(function), params
    else:
        tx = inject(optimizer.made(), **{hyperparameter: ramp})
        step, state = trained(function, tx), (params, tx.init(params))
    begin = state

    def untrained(batch: Any) -> jax.Array:
        if optimizer.call is not None:
            return scalar_of(function)(params, batch)
        # Some steps return the loss after their update; at the lowest value it hardly differs.
        return step(begin, batch, ramp(0))[1]

    rates, steps = ramp(jnp.arange(most, dtype=jnp.int32)), jnp.asarray(steps, jnp.int32)

    def body(i: jax.Array, carry: Any) -> Any:
        (state, seen), losses, smoothed, first = carry
        new, loss = step(state, batch(i), rates[i])
        seen = _heard(seen, loss, real(smoothing), real(diverged))
        own = untrained(batch(i))
        own = jnp.where(jnp.isfinite(own), own, seen.loss)
        kept = chosen(~seen.stopped, new, state), seen
        written = losses.at[i].set(seen.loss), smoothed.at[i].set(seen.smoothed)
        return kept, *written, first.at[i].set(own)

    # The number of steps is not a shape here: the loop ends there, and the arrays are padded.
    room = (jnp.zeros_like(rates) for _ in range(3))
    (_, seen), losses, smoothed, first = jax.lax.fori_loop(
        jnp.zeros_like(steps), steps, body, ((state, _nothing()), *room)
    )
    return RangeTest(rates, losses, smoothed, seen.heard, first)


def _nothing() -> _Seen:
    zero = real(0.0)
    return _Seen(zero, zero, zero, zero, zero, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _heard(seen: _Seen, loss: jax.Array, smoothing: jax.Array, diverged: jax.Array) -> _Seen:
    """Add a loss; after the stop nothing changes."""
    weight = smoothing * seen.weight + (1 - smoothing)
    # A fraction of the difference is added, so that the mean of equal losses is exactly that loss.
    mean = seen.smoothed + (loss - seen.smoothed) * ((1 - smoothing) / above_zero(weight))
    fresh = seen.heard == 0
    mean = jnp.where(fresh, loss, mean)
    first = jnp.where(fresh, mean, seen.first)
    best = jnp.where(fresh, mean, jnp.minimum(seen.best, mean))
    over = jnp.where(best > 0, best, jnp.maximum(-best, first - best))
    high = (seen.heard >= _SETTLED) & (mean > best + (diverged - 1) * over)
    counts = ~seen.stopped & jnp.isfinite(loss) & jnp.isfinite(mean)
    new = _Seen(loss, mean, weight, best, first, counted(seen.heard, counts), high)
    return chosen(counts, new, seen._replace(stopped=jnp.ones((), bool)))


def _ramp(low: ArrayLike, high: ArrayLike, steps: int, mode: str) -> Schedule:
    one_of(_CALL, "mode", mode, ("geometric", "linear"))
    if mode == "linear":
        start = within(_CALL, "low", low, NOT_NEGATIVE)
    else:
        start = positive(_CALL, "low", low, remedy='To start at 0, use mode="linear".')
    end = finite(_CALL, "high", high)
    require(end > start, refuse(_CALL, "high", f"be above low={low!r}", high))
    return (linear if mode == "linear" else geometric)(start, end, steps - 1)
