"""Batch statistics of averaged parameters.

Batch normalisation keeps running statistics of the activations. They belong to the parameters with
which they were collected. Averaged parameters give other activations, so their statistics must be
collected again. In training mode, a layer with momentum m turns the statistics s into

    m * s + (1 - m) * batch

and its output does not depend on s. So m follows from two evaluations on one batch, with different
statistics. Each further batch needs one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxsched._core._numerics import wide
from jaxsched._core._require import refuse, require
from jaxsched._core._trees import text_of

S = TypeVar("S")
B = TypeVar("B")


def batch_statistics(update: Callable[[S, B], S], statistics: S, batches: Iterable[B]) -> S:
    """Re-estimates the batch statistics of a model, such as those of averaged parameters.

        the mean over all batches of the statistics of each batch

    The averages of `average`, `snapshot_average` and `best_params` are parameters only. The running
    statistics of batch normalisation in the model were computed with other parameters. With them,
    the averaged model can be far worse than the models that it averages. Layers without running
    statistics, such as layer normalisation, need nothing.

    Args:
      update: a function `(statistics, batch) -> statistics` that runs the model in training mode
        with the averaged parameters, and returns its updated statistics. It is compiled here.
      statistics: statistics of the model, of which only the containers, shapes and dtypes are used.
        They must be running averages. In training mode, the output of the model must not depend on
        them.
      batches: batches of training data; 50 to 100 are usually enough. They count equally, so they
        should have the same size.

    Returns:
      New statistics, with the structure of the argument. They do not depend on the momentum of the
      layers.

    Raises:
      ValueError: there are no batches or no statistics; `update` returns something else; or,
        outside `jit`, a statistic is not finite or is not a running average.

    Example:
      >>> from flax import linen as nn
      >>> class Model(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, train):
      ...         return nn.Dense(1)(nn.BatchNorm(use_running_average=not train)(x))
      >>> model, batches = Model(), [jnp.asarray([[0.0], [2.0]]), jnp.asarray([[4.0], [6.0]])]
      >>> variables = model.init(jax.random.key(0), batches[0], train=False)
      >>> params = variables["params"]  # or `averaged_params(opt_state)`
      >>> def update(statistics, x):
      ...     variables = {"params": params, "batch_stats": statistics}
      ...     _, new = model.apply(variables, x, train=True, mutable=["batch_stats"])
      ...     return new["batch_stats"]
      >>> batch_statistics(update, variables["batch_stats"], batches)
      {'BatchNorm_0': {'mean': Array([3.], dtype=float32), 'var': Array([1.], dtype=float32)}}

    References:
      Izmailov et al., 2018, https://arxiv.org/abs/1803.05407, section 3.2; `update_bn` of
      `torch.optim.swa_utils`.
    """
    require(bool(jax.tree.leaves(statistics)), "`batch_statistics`: there are no statistics.")
    step = jax.jit(update)
    zeros = jax.tree.map(jnp.zeros_like, statistics)
    share, total, count = None, None, 0
    for batch in batches:
        new = step(zeros, batch)
        _require_like(new, statistics)
        new = jax.tree.map(wide, new)
        if share is None:
            share = _shares(step, batch, new, statistics)
        total = new if total is None else jax.tree.map(jnp.add, total, new)
        count += 1
    require(count > 0, "`batch_statistics(batches=...)` must have at least one batch, got none.")
    _require_each(jnp.isfinite, total, "is NaN or infinite. Check the parameters and the batches.")
    _require_each(
        lambda x: x > 0, share, "is not a running average. Run the model in training mode."
    )

    def mean(x: jax.Array, share: jax.Array, like: jax.Array) -> jax.Array:
        return (x / share / count).astype(like.dtype)

    return jax.tree.map(mean, total, share, statistics)


def _shares(step: Callable[..., Any], batch: Any, new: Any, statistics: Any) -> Any:
    """Return 1 - m for each statistic, from a second evaluation.

    It begins with statistics as large as those of the batch, so that the difference keeps digits.
    """

    def large(x: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.full_like(x, (1 + jnp.nan_to_num(jnp.abs(new)).max()).astype(x.dtype))

    def share(again: jax.Array, new: jax.Array, given: jax.Array) -> jax.Array:
        return 1 - (wide(again) - new) / wide(given)

    given = jax.tree.map(large, statistics, new)
    return jax.tree.map(share, step(given, batch), new, given)


def _require_like(new: Any, statistics: Any) -> None:
    """Raise unless an update has returned statistics alone."""
    found, expected = (jax.tree.structure(x) for x in (new, statistics))
    must = "return the statistics alone, in the same containers"
    remedy = f"They were {expected}."
    require(found == expected, refuse("batch_statistics", "update", must, found, remedy))


def _require_each(holds: Callable[[jax.Array], jax.Array], tree: Any, reason: str) -> None:
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        require(holds(x).all(), f"`batch_statistics`: `{text_of(path)}` {reason}")
