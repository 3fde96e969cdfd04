"""Monitor: records statistics of a run in the state of a transform that changes nothing.

It reads the incoming gradients, the parameters, and the observed losses. It stores scalars, means
of blocks, and samples of the last gradients and parameters, which are compared with the next ones.

The most telling number is the product of a movement of the parameters with the gradient after it.
It is the slope of the loss at the end of the movement. While it is negative, a longer movement
would have gone lower. When it is positive, the movement went too far. A gradient comes from another
batch than the movement, so that its noise cancels in a mean.

On a GPU, an array of the state costs a few microseconds, and so does a kernel. So samples of one
shape are one array, and all sums are computed together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsched._core._clock import counted, ticked
from jaxsched._core._numerics import real
from jaxsched._core._require import refuse, require, static_length, word
from jaxsched._diagnose._sample import (
    Groups,
    Stacks,
    estimated,
    groups,
    groups_of,
    named,
    paired,
    parted,
    sampled,
    shapes,
    still,
    weights,
)
from jaxsched._diagnose._stream import (
    LARGEST,
    History,
    Stream,
    heard,
    remembered,
    silent,
    unwritten,
    weight,
)
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Mailbox
from jaxsched._rules._memory import chosen
from jaxsched._rules._rule import Axis, listening
from jaxsched._transforms._checks import require_state
from jaxsched._transforms._transform import transform

JUDGED = 1  # validations that are averaged: they are so rare that a longer mean would lag


class Gradients(NamedTuple):
    """Statistics of the gradients."""

    seen: jax.Array  # int32: finite gradients seen
    broken: jax.Array  # int32: gradients with a NaN or an infinity
    first: jax.Array  # float: the norm of the first gradient
    norm: jax.Array  # float: the mean norm of about the last `window` gradients
    compared: jax.Array  # int32: pairs of consecutive gradients, none of them zero
    cosine: jax.Array  # float: the mean cosine of such pairs
    still: jax.Array  # float: the mean share of the small arrays whose gradient is zero


class Parameters(NamedTuple):
    """Statistics of the parameters, if updates receive them."""

    seen: jax.Array  # int32: how often they were seen
    norm: jax.Array  # float: their norm
    posed: jax.Array  # int32: how often they were seen with a gradient, none of them zero
    outward: jax.Array  # float: the mean cosine of the parameters and the descent direction
    travel: History  # of each movement: its length, and the slope down at its end
    moved: jax.Array  # int32: movements along the gradient before, or against it
    climb: jax.Array  # float: the mean of 1 for along and -1 for against


class MonitorState(NamedTuple):
    """The state of `monitor`. Scalars are float32 (float64 under x64) or int32, and finite."""

    mailbox: Mailbox  # observations since the last update
    loss: Stream  # the training losses
    validation: Stream  # the validation losses
    gradient: Gradients  # the gradients, as they come in
    parameters: Parameters  # the parameters, before the update
    previous: Any  # samples of the last nonzero gradient and of the last finite parameters

    BESIDE = ("previous",)
    RESTARTS = ("previous",)  # `graft` may leave it fresh


class _Felt(NamedTuple):
    """The gradient of an update. Its norm is 0 if it is not finite."""

    finite: jax.Array
    norm: jax.Array
    before: jax.Array  # the norm of the previous gradient, 0 if there is none
    turn: jax.Array  # the product of the two
    still: jax.Array  # the share of the small arrays whose gradient is zero


class _Met(NamedTuple):
    """The parameters of an update, and their movement. A norm is 0 if it is not finite."""

    finite: jax.Array
    norm: jax.Array
    pull: jax.Array  # their product with the gradient
    length: jax.Array  # of the movement since the last update
    slope: jax.Array  # the product of the movement with the gradient
    climb: jax.Array  # the product of the movement with the gradient before it


def monitor(
    *,
    metric: str = "value",
    validation: str = "validation",
    window: int = 50,
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """Records statistics of a run for `diagnose`, without changing the updates.

        mean += (x - mean) / min(n, window)      at the n-th x: of losses, norms and cosines

    Put it first in the chain, where it receives the gradients unchanged. For the losses, the state
    has the mean, the mean square of the differences between consecutive losses, the best and worst
    mean, and the history in 16 to 32 equal blocks. For the gradients, it has the norm, the cosine
    of consecutive ones, and the number of parameter arrays whose gradient is zero (only of arrays
    with at most 8192 numbers). If updates receive the parameters, it also records the cosine of the
    parameters with the descent direction. A movement is the difference of the parameters from one
    update to the next. The state has a history of the length of the movements, and of the product
    of each movement with the next gradient. That product is the slope of the loss at the end of the
    movement, so it is negative while a longer movement would have been better. The state takes
    about 200 numbers, plus samples of the gradients and of the parameters of at most 1 MiB each.

    Norms and cosines are estimated from a sample. Arrays of up to 8192 numbers are used whole. From
    a larger array, about 8192 numbers are used: whole rows, and the same rows at every step. If the
    numbers are similar, a norm is off by about 1%, and a cosine by about 0.01. In an embedding, a
    batch changes only a few rows, so the error is larger. A NaN outside the sample is not seen in
    the gradients; it appears in the loss of the next step. For the exact norm, use
    `with_gradient_norm`.

    A step without a loss does not change the statistics of the losses. NaN and infinite losses and
    gradients are counted, and otherwise ignored. Losses beyond 1e18 are read as 1e18. A norm beyond
    1e19, whose square overflows, is read as infinite, and a norm below 1e-19 as zero.

    Args:
      metric: name of the training loss: `tx.update(..., value=loss)`, or `observe`.
      validation: name of the validation loss: `observe(opt_state, validation=loss)`, whenever it is
        computed.
      window: approximate number of updates in a mean, at least 2.
      axis_name: mapped axis, under `pmap` and `shard_map`. All scalars are then equal on every
        device: losses, squared norms and products are averaged.

    Returns:
      A transform whose state can be read as a `MonitorState`.

    Raises:
      ValueError: an argument is out of its range; the message names it and its value.

    Example:
      >>> tx = optax.chain(monitor(), optax.sgd(0.1))
      >>> params = jnp.asarray([1.0, 2.0])
      >>> state = tx.init(params)
      >>> for loss in (3.0, 2.0, 1.0):
      ...     _, state = tx.update(params, state, params, value=loss)
      >>> print(state[0].loss.mean, state[0].gradient.cosine)
      2.0 1.0

    References:
      von Neumann et al., The mean square successive difference, 1941, for the jumps; Baydin et al.,
      Online Learning Rate Adaptation with Hypergradient Descent, ICLR 2018, for the slopes.
    """
    call = "monitor"
    axis = listening(call, metric, axis_name)["axis_name"]
    word(call, "validation", validation)
    apart = "not be the name of the training loss"
    require(metric != validation, refuse(call, "validation", apart, validation))
    size = static_length(call, "window", window, least=2, why="the program depends on it")

    def boxes() -> Mailbox:
        return {**_mailbox.empty(metric), **_mailbox.empty(validation)}

    def init(params: optax.Params) -> MonitorState:
        return MonitorState(boxes(), silent(), silent(), _unfelt(), _unmoved(), _unsampled(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, MonitorState]:
        require_state(call, state, MonitorState, metric, validation)
        mail = _mailbox.post(state.mailbox, extra_args)
        before, last, alike = _previous(call, state.previous, updates)
        rows = sampled(updates, alike)
        place = None if params is None else sampled(_like(call, params, updates), alike)
        # The parameters are read before an update may overwrite them. Else XLA copies all of them.
        updates, rows, place = jax.lax.optimization_barrier((updates, rows, place))
        pairs = [(rows, rows), (before, before), (rows, before)]
        if place is not None:
            moved = jax.tree.map(jnp.subtract, place, last)
            pairs += [(place, place), (place, rows), (moved, moved), (moved, rows), (moved, before)]
        scales = weights(updates, alike)
        sums = jnp.append(estimated(scales, *pairs), still(scales, rows))
        sums = sums if axis is None else jax.lax.pmean(sums, axis)
        felt = _Felt(*_length(sums[0]), jnp.sqrt(sums[1]), sums[2], sums[-1])
        parameters = state.parameters
        # A zero gradient has no direction to compare the next one with.
        before = _chosen(felt.norm > 0, rows, before)
        if place is not None:
            met = _Met(*_length(sums[3]), sums[4], _length(sums[5])[1], sums[6], sums[7])
            parameters, last = _moved(parameters, met, felt, size), _chosen(met.finite, place, last)
        return updates, MonitorState(
            mailbox=_mailbox.emptied(mail, axis),
            loss=heard(state.loss, _mailbox.read(mail, metric, axis), size),
            validation=heard(state.validation, _mailbox.read(mail, validation, axis), JUDGED),
            gradient=_after(state.gradient, felt, size),
            parameters=parameters,
            previous=paired(before, last) or state.previous,
        )

    return transform(init, update, axis)


def _like(call: str, params: optax.Params, updates: optax.Updates) -> optax.Params:
    """Return the parameters, which have the shapes of the gradients."""
    require(
        shapes(params) == shapes(updates),
        f"`{call}` got parameters whose samples have the shapes {shapes(params)}, and gradients "
        f"whose samples have the shapes {shapes(updates)}. Pass the parameters of these gradients.",
    )
    return params


def _previous(call: str, stored: Any, updates: optax.Updates) -> tuple[Stacks, Stacks, Groups]:
    """Return the samples of the previous gradient and parameters, and how arrays are stacked."""
    before, last = parted(stored if isinstance(stored, dict) else {})
    alike = groups_of(before)
    new, old = shapes(updates), {i: before[named(each)].shape[1:] for each in alike for i in each}
    require(
        dict(enumerate(new)) == old,
        f"`{call}` got gradients whose samples have the shapes {new}, and a state for "
        f"{[shape for _, shape in sorted(old.items())]}. Use `tx.init(params)` of the same "
        "parameters; under `shard_map`, call it inside.",
    )
    return before, last, alike


def _zero() -> jax.Array:
    return jnp.zeros((), jnp.int32)


def _unfelt() -> Gradients:
    none = real(0.0)
    return Gradients(_zero(), _zero(), none, none, _zero(), none, none)


def _unmoved() -> Parameters:
    none = unwritten(2), _zero(), real(0.0)
    return Parameters(_zero(), real(0.0), _zero(), real(0.0), *none)


def _unsampled(params: optax.Params) -> Any:
    none = jax.tree.map(jnp.zeros_like, sampled(params, groups(params)))
    # `optax.tree.map_params` calls `init` with a tree without arrays, and must find an array here.
    return paired(none, none) or real(jnp.zeros(0))


def _chosen(condition: jax.Array, new: Stacks, old: Stacks) -> Stacks:
    return {name: jnp.where(condition, new[name].astype(x.dtype), x) for name, x in old.items()}


def _length(square: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return whether a square is finite, and its root, which is 0 if it is not."""
    finite = jnp.isfinite(square)
    return finite, jnp.sqrt(jnp.where(finite, square, 0))


def _after(old: Gradients, now: _Felt, window: int) -> Gradients:
    seen = counted(old.seen, now.finite)
    pair = (now.norm > 0) & (now.before > 0)
    cosine = _cosine(now.turn, now.norm, now.before, pair)
    compared = counted(old.compared, pair)
    return Gradients(
        seen=seen,
        broken=counted(old.broken, ~now.finite),
        first=jnp.where((old.seen == 0) & now.finite, now.norm, old.first),
        norm=_mean(old.norm, now.norm, seen, now.finite, window),
        compared=compared,
        cosine=_mean(old.cosine, cosine, compared, pair, window),
        still=_mean(old.still, now.still, seen, now.finite, window),
    )


def _moved(old: Parameters, here: _Met, gradient: _Felt, window: int) -> Parameters:
    posed = (gradient.norm > 0) & (here.norm > 0)
    outward = _cosine(-here.pull, gradient.norm, here.norm, posed)
    together = counted(old.posed, posed)
    before = (old.seen > 0) & here.finite
    step = jnp.stack([here.length, jnp.where(gradient.norm > 0, -here.slope, 0)])
    travel = chosen(before, remembered(old.travel, _limited(step)), old.travel)
    went = before & (gradient.before > 0) & (here.climb != 0)
    moved = counted(old.moved, went)
    new = Parameters(
        seen=ticked(old.seen),
        norm=here.norm,
        posed=together,
        outward=_mean(old.outward, outward, together, posed, window),
        travel=travel,
        moved=moved,
        climb=_mean(old.climb, jnp.sign(here.climb), moved, went, window),
    )
    return chosen(here.finite, new, old)


def _limited(x: jax.Array) -> jax.Array:
    """Return numbers that are finite, and small enough for sums of their squares."""
    return jnp.clip(jnp.nan_to_num(x), -LARGEST, LARGEST)


def _mean(
    old: jax.Array, new: jax.Array, count: jax.Array, counts: jax.Array, window: int
) -> jax.Array:
    return jnp.where(counts, old + weight(count, window) * (new - old), old)


def _cosine(dot: jax.Array, a: jax.Array, b: jax.Array, known: jax.Array) -> jax.Array:
    """Return the cosine of an angle between two vectors of such lengths."""
    return jnp.clip(jnp.where(known, dot, 0) / _whole(a) / _whole(b), -1, 1)


def _whole(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)
