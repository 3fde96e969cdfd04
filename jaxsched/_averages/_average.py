"""The transform that keeps averages of the parameters in the optimizer state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from jaxsched._averages._kinds import Average
from jaxsched._core._clock import ticked
from jaxsched._core._numerics import wide
from jaxsched._core._require import refuse, require, static_length
from jaxsched._transforms._checks import require_params, require_state, require_transform
from jaxsched._transforms._scheduled import REMEDY, StepCounter, with_extra_args
from jaxsched._transforms._transform import transform


class AverageState(NamedTuple):
    """The state of one average."""

    totals: dict[str, jax.Array]  # float, by the name of the average: the sum of its weights
    begun: jax.Array  # bool: whether an iterate was taken
    late: jax.Array  # bool: whether its decay had begun before the first iterate was taken
    mean: optax.Params  # in float32 or wider; initially the initial parameters

    BESIDE = ("mean",)


class AveragesState(NamedTuple):
    """The state of `average`."""

    clock: StepCounter
    averages: dict[str, AverageState]  # by name
    inner_state: optax.OptState


def average(
    tx: optax.GradientTransformation, averages: Average | Sequence[Average], *, every: int = 1
) -> optax.GradientTransformationExtraArgs:
    """Keeps averages of the parameters inside the optimizer state.

    An average over a run at a constant rate can be as good as the end of a run whose rate decays.
    `averaged_params(opt_state)` and `average_at(opt_state, horizon)` return it. The training itself
    does not change.

    An average is held in float32 or wider, for parameters in bfloat16 too. It averages the iterates
    as they are stored, so it cannot restore what an update in bfloat16 has lost. Integers among the
    parameters are not averaged: the latest ones are kept. If an iterate is NaN, the average stays
    NaN from then on. To prevent this, wrap `tx` first: `average(skip_spikes(tx), ...)`.

    Each average holds one array for each array of parameters, with the same sharding, and reads and
    writes it at every update. With `every=k`, it does so at every k-th update, and the program has
    a conditional for that. On a GPU a conditional makes the host wait, and under `vmap` it saves
    nothing.

    In float32 a running average over n iterates is accurate to n * 6e-8, relative to the
    parameters. So use `every` for averages over more than 10,000 steps.

    `average` must see the updates as they are applied. Put it around `keep_best` and `skip_spikes`,
    but inside `accumulate` and `optax.MultiSteps`, which combine several updates into one. If the
    model has batch statistics, recompute them for the averaged parameters with `batch_statistics`.

    Args:
      tx: any optimizer.
      averages: one or more of `exponential_average`, `uniform_average` and `merged_decay`.
      every: number of updates between two iterates that count, at least 1. The length of every
        `merged_decay`, its horizon, must be a multiple of `every`.

    Returns:
      A transform that needs the parameters. It has its own step counter.

    Raises:
      ValueError: `tx` is not a transform; `averages` contains something else, or nothing, or two of
        one name; `every` is not an integer of at least 1, or does not divide a horizon; or an
        update has no parameters.

    Example:
      >>> decays = [merged_decay(constant(1.0, n // 2) >> linear(1.0, 0.0, n // 2)) for n in (4, 8)]
      >>> tx = average(optax.sgd(1.0), [*decays, uniform_average(start=4)])
      >>> params = jnp.zeros(1)
      >>> state = tx.init(params)
      >>> for _ in range(8):
      ...     updates, state = tx.update(-jnp.ones(1), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(average_at(state, 4), average_at(state, 8), averaged_params(state))
      [3.5] [6.5] [6.5]

    References:
      For the papers, see each kind of average. `torch.optim.swa_utils.AveragedModel` keeps one
      average beside a model.
    """
    call = "average"
    inner = with_extra_args(require_transform(call, tx))
    stride = static_length(call, "every", every)
    kept = _checked(call, averages, stride)

    def init(params: optax.Params) -> AveragesState:
        begun = {name: _begun(each, params, stride) for name, each in kept.items()}
        return AveragesState(StepCounter(jnp.zeros((), jnp.int32)), begun, inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, AveragesState]:
        here = require_params(call, params)
        require_state(call, state, AveragesState)
        _require_kept(state, kept)
        updates, inner_state = inner.update(updates, state.inner_state, here, **extra_args)
        count = ticked(state.clock.count)
        # Outside the branch: XLA then reads the parameters that the step itself makes.
        x = jax.tree.map(_as_stored, optax.apply_updates(here, updates))

        def moved(averages: dict[str, AverageState]) -> dict[str, AverageState]:
            pairs = kept.items()
            return {name: _moved(each, averages[name], x, count, stride) for name, each in pairs}

        if stride == 1:
            averages = moved(state.averages)
        else:
            averages = jax.lax.cond(count % stride == 0, moved, lambda x: x, state.averages)
        return updates, AveragesState(StepCounter(count), averages, inner_state)

    return transform(init, update)


def _checked(call: str, averages: Any, every: int) -> dict[str, Average]:
    """Return the averages by name."""
    several = isinstance(averages, (list, tuple))
    listed = [*cast(Sequence[Any], averages)] if several else [averages]
    kept: dict[str, Average] = {}
    require(len(listed) > 0, refuse(call, "averages", "have at least one average", averages))
    for each in listed:
        remedy = "Use `exponential_average(half_life)`, `uniform_average()` or `merged_decay(...)`."
        known = isinstance(each, Average)
        require(known, refuse(call, "averages", "contain only averages", each, remedy))
        remedy = (
            f"Two of them are called {each.name!r}. Put one into a link of its own, "
            "`optax.chain(tx, average(optax.identity(), ...))`, and read it from the state of that "
            "link."
        )
        require(each.name not in kept, refuse(call, "averages", "differ", listed, remedy))
        divides = each.horizon is None or each.horizon % every == 0
        require(divides, refuse(call, "every", f"divide the horizon {each.horizon}", every))
        kept[each.name] = each
    return kept


def _begun(average: Average, params: optax.Params, every: int) -> AverageState:
    total = average.first(every)
    weight = total if average.is_sum else jnp.ones_like(total)

    def begun(x: Any) -> jax.Array:
        x = jnp.array(x, jnp.result_type(x), copy=True)
        return _times(weight, wide(x)) if _is_averaged(x) else x

    begins = jnp.zeros((), bool), jnp.zeros((), bool)
    return AverageState({average.name: total}, *begins, jax.tree.map(begun, params))


def _moved(
    average: Average, state: AverageState, params: optax.Params, j: jax.Array, every: int
) -> AverageState:
    """Return the state with one more iterate: the parameters after `j` updates."""
    ((name, before),) = state.totals.items()
    share, total = average.taken(before, j, every)

    def moved(mean: jax.Array, x: Any) -> jax.Array:
        if not _is_averaged(x):
            return jnp.asarray(x)
        way = wide(x) if average.is_sum else wide(x) - mean
        # Beyond its horizon an average is at rest, even if the parameters become infinite.
        return mean + _times(share, jnp.where(share == 0, 0, way))

    # A state of float32 goes on as it is under x64.
    totals = {name: total.astype(before.dtype)}
    late = state.late | (~state.begun & average.is_late(j - every))
    mean = jax.tree.map(moved, state.mean, params)
    return AverageState(totals, jnp.ones_like(state.begun), late, mean)


def _is_averaged(x: Any) -> bool:
    """Return whether a parameter has a mean: an integer or a key has none."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _as_stored(x: jax.Array) -> jax.Array:
    """Return a parameter with the digits of its dtype.

    XLA would read a sum in bfloat16 before it is rounded, which is not what the step stores.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating) or wide(x).dtype == x.dtype:
        return x
    kind = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(x, kind.nexp, kind.nmant)


def _times(weight: jax.Array, x: jax.Array) -> jax.Array:
    return weight.astype(x.dtype) * x


def _require_kept(state: AveragesState, kept: dict[str, Average]) -> None:
    """Raise unless the state has the averages of the code."""
    if state.averages.keys() != kept.keys():
        raise ValueError(
            f"the state keeps the averages {', '.join(state.averages)}, but the code has "
            f"{', '.join(kept)}. {REMEDY}"
        )
