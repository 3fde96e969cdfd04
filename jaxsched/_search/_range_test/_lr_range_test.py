"""The LR range test, as one compiled scan: rising rates, a loss for each, until it diverges.

    rate(i), i = 0 ... steps - 1     from low to high, both included
    loss(i)                          of batch i, before the update with rate(i)
    untrained(i)                     of batch i at the first parameters: what the batch alone does
    smoothed(i)                      the mean of loss(0) ... loss(i) with weights smoothing**(i - j)
    stop                             smoothed > diverged * lowest smoothed so far, or not finite

The updates from the stop on are computed and not kept: nothing waits for the host, and of many
seeds under `vmap` each stops for itself.
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
    name,
    one_of,
    positive,
    refuse,
    require,
    static_length,
    within,
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
_SETTLED = 5  # losses before which a high one is an accident of its batch


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
    """Train a little at rising rates, and see at which the loss falls and at which it explodes.

    One compiled loop. Nothing of the caller's is changed: what was learnt is thrown away.
    Losses are taken before the update of their step. The test stops at the first loss that is NaN
    or infinite, or, from the sixth on, once

        smoothed > diverged * best                                        if best > 0
        smoothed > best + (diverged - 1) * max(-best, first - best)       else

    where best is the lowest smoothed loss so far. From then on nothing is learnt any more.

    A suggestion needs a loss that falls by more than its noise, which may be autocorrelated, and
    that falls by training. The loss of each batch at the first parameters is computed too, which
    costs one more forward pass per step. If that falls by half as much, the batches get easier by
    themselves, and there is no suggestion: shuffle them. A loss that does not depend on the
    parameters never gets one.

    A band of seeds, which says more than one noisy curve, is a `vmap`:

        jax.vmap(lambda key: lr_range_test(loss, init(key), shuffled(key), optax.adam))(keys)

    A second call with other numbers, parameters or batches of the same shapes compiles nothing, if
    `function` is the same object. Arrays in a `jax.tree_util.Partial` are no part of the program.

    Args:
      function: `loss(params, batch)`, a scalar or a tuple that begins with it. Without an
        optimizer your own step, `step(state, batch, value)` -> `(state, loss)`, of any state.
      params: the parameters, or the state of your own step.
      batches: an array, a tuple, a dict or another tree of arrays whose leading axis is the
        batches; or a list of batches, or anything else iterable, of which `steps` are drawn. They
        are taken in turn, and again if there are fewer than `steps`. None for a loss without.
      optimizer: what makes the optimizer, `optax.adam` or `partial(optax.adamw, b1=0.8)`.
      low: the first value, > 0, or >= 0 if linear.
      high: the last value, > low.
      steps: how many values, at least 10; of fewer than 30 only a large fall is told from noise.
      mode: "geometric", equal ratios, or "linear", equal differences.
      hyperparameter: the argument of `optimizer` that is tried; the others are bound, as in
        `partial(optax.adamw, learning_rate=1e-3)` for "weight_decay".
      smoothing: the decay of the mean of the losses per step, in [0, 1).
      diverged: how many times the lowest loss is too much, > 1.

    Returns:
      A `RangeTest`: the curve, and on it the suggestions.

    Raises:
      ValueError: a number is out of its range, `optimizer` has not that hyperparameter or needs
        more arguments, or the batches do not fit together. Traced numbers are not checked.

    Example:
      >>> def loss(x, batch):
      ...     return 2 * jnp.mean((x - batch) ** 2)  # of curvature 4: 2 / 4 is the last stable rate
      >>> batches = 3 + jax.random.normal(jax.random.key(0), (100, 8))
      >>> test = lr_range_test(loss, jnp.zeros(()), batches, optax.sgd, low=1e-4)
      >>> print(test)
      rate 0.0774, range 0.00368 to 0.0774; stopped at 1.38 after 83 of 100 points
      >>> schedule = one_cycle(test.rate, total_steps=1000)

    References:
      Smith, 2017, https://arxiv.org/abs/1506.01186, section 3.3; fastai's `lr_find`; `LRFinder` of
      torch-lr-finder, whose last value is `high` too.
    """
    require(callable(function), refuse(_CALL, "function", "be a function", function))
    require_arguments(function, optimizer)
    points = static_length(_CALL, steps=steps, least=LEAST)
    ramp = _ramp(low, high, points, mode)
    if optimizer is not None:
        require_optimizer(optimizer, name(_CALL, hyperparameter=hyperparameter))
        require_floats(params)
    tree = as_tree(function)
    run = program(_run, tree, "optimizer", "hyperparameter", "most")
    found = run(
        tree,
        ramp,
        params,
        stacked(batches, points),
        within(_CALL, BELOW_ONE, smoothing=smoothing),
        within(_CALL, Condition("be above 1", lambda x: x > 1), diverged=diverged),
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
    """What the test remembers of the losses."""

    loss: jax.Array  # float: the last one that counts
    smoothed: jax.Array  # float: the mean of those that count
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
        # Some steps tell the loss behind their update: at the lowest value that is no other.
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

    # The number of steps is no shape here: a loop to it, over arrays that have room for more.
    room = (jnp.zeros_like(rates) for _ in range(3))
    (_, seen), losses, smoothed, first = jax.lax.fori_loop(
        jnp.zeros_like(steps), steps, body, ((state, _nothing()), *room)
    )
    return RangeTest(rates, losses, smoothed, seen.heard, first)


def _nothing() -> _Seen:
    zero = real(0.0)
    return _Seen(zero, zero, zero, zero, zero, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _heard(seen: _Seen, loss: jax.Array, smoothing: jax.Array, diverged: jax.Array) -> _Seen:
    """With a loss more; from the stop on nothing changes."""
    weight = smoothing * seen.weight + (1 - smoothing)
    # What is added is a part of the difference: of equal losses the mean is exactly that loss.
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
    one_of(_CALL, ("geometric", "linear"), mode=mode)
    if mode == "linear":
        start = within(_CALL, NOT_NEGATIVE, low=low)
    else:
        start = positive(_CALL, low=low, remedy='From 0 on it is mode="linear".')
    end = finite(_CALL, high=high)
    require(end > start, refuse(_CALL, "high", f"be above low={low!r}", high))
    return (linear if mode == "linear" else geometric)(start, end, steps - 1)
