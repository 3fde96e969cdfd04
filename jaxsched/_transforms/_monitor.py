"""What a run is like, remembered in the state of a transform that changes nothing.

It is fed with the gradients, as they come in, with the parameters, and with the losses that are
observed. Everything it keeps is a scalar or a mean of a block, but for one copy of the gradients,
which the next are compared with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsched._numerics import real, saturated
from jaxsched._require import length, name, refuse, require
from jaxsched._stateful import _mailbox
from jaxsched._stateful._mailbox import Mailbox
from jaxsched._stateful._protocol import chosen
from jaxsched._transforms._stream import (
    History,
    Stream,
    counted,
    heard,
    remembered,
    silent,
    unwritten,
    weight,
)

JUDGED = 1  # validations that are averaged: they are so few that a mean would be late

Axis = str | tuple[str, ...] | None


class Gradients(NamedTuple):
    """What is remembered of the gradients."""

    seen: jax.Array  # int32: finite gradients seen
    broken: jax.Array  # int32: those with a NaN or an infinity
    first: jax.Array  # float: the norm of the first
    norm: jax.Array  # float: the mean norm of about the last `window`
    compared: jax.Array  # int32: pairs of consecutive gradients, none of them zero
    cosine: jax.Array  # float: the mean cosine of the angle between the two
    previous: Any  # the last gradient, its largest entry 1, in the dtypes of the parameters


class Parameters(NamedTuple):
    """What is remembered of the parameters, by an update that is given them."""

    seen: jax.Array  # int32: how often they were seen
    norm: jax.Array  # float: their norm
    posed: jax.Array  # int32: how often together with a gradient, none of them zero
    outward: jax.Array  # float: the mean cosine of the parameters and the descent
    travel: History  # by how much their norm changed, at each update


class MonitorState(NamedTuple):
    """What `monitor` remembers. Scalars are float32 (float64 under x64) or int32, and finite."""

    mailbox: Mailbox  # what was observed since the last update
    loss: Stream  # the training losses
    validation: Stream  # the validation losses
    gradient: Gradients  # the gradients, as they come in
    parameters: Parameters  # the parameters, before the update


def monitor(
    *,
    metric: str = "value",
    validation: str = "validation",
    window: int = 50,
    axis_name: Axis = None,
) -> optax.GradientTransformationExtraArgs:
    """A transform that changes nothing, and remembers what `diagnose` needs to know.

        mean += (x - mean) / min(n, window)      at the n-th x: of losses, norms and cosines

    It stands first in the chain, where the gradients are as they were computed. The state has, of
    the losses: mean, variance, von Neumann's ratio, Page and Hinkley's alarm, the best and worst
    mean, and the history in 16 to 32 equal blocks; of the gradients: the norm, and the cosine of
    consecutive ones; of the parameters, if the update is given them: how far their norm has
    travelled, and the cosine with the descent. That is about 150 numbers and **one copy of the
    gradients**, in the dtypes of the parameters: half of what Adam keeps. Of time it costs five
    passes over the gradients and four over the parameters, which are sums.

    A step that saw no loss counts none. NaN and infinite losses and gradients are counted, and
    nothing else; numbers beyond 1e18 are read as 1e18.

    Args:
      metric: the name of the training loss: `tx.update(..., value=loss)`, or `observe`.
      validation: the name of the validation loss: `observe(opt_state, validation=loss)`, whenever
        there is one.
      window: about how many updates a mean remembers, at least 2.
      axis_name: mapped axis, under `pmap` and `shard_map`: all scalars are then the same on every
        device, the losses the mean, and squared norms and products too.

    Returns:
      A transform with a `MonitorState`.

    Raises:
      ValueError: an argument is out of its range, named with its value.

    Example:
      >>> tx = optax.chain(monitor(), optax.sgd(0.1))
      >>> params = jnp.asarray([1.0, 2.0])
      >>> state = tx.init(params)
      >>> for loss in (3.0, 2.0, 1.0):
      ...     _, state = tx.update(params, state, params, value=loss)
      >>> print(state[0].loss.mean, state[0].gradient.cosine)
      2.0 1.0

    References:
      Page, Continuous inspection schemes, Biometrika 1954; von Neumann, Distribution of the ratio
      of the mean square successive difference to the variance, 1941.
    """
    call = "monitor"
    name(call, metric=metric)
    name(call, validation=validation)
    apart = "not be the name of the training loss"
    require(metric != validation, refuse(call, "validation", apart, validation))
    size = length(call, window=window, least=2)
    if not isinstance(size, int):
        raise ValueError(refuse(call, "window", "be an int", window))
    axis = axis_name if isinstance(axis_name, tuple | None) else name(call, axis_name=axis_name)

    def boxes() -> Mailbox:
        return {**_mailbox.empty(metric), **_mailbox.empty(validation)}

    def init(params: optax.Params) -> MonitorState:
        return MonitorState(boxes(), silent(), silent(), _unfelt(params), _unmoved())

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, MonitorState]:
        _require_own(state, (metric, validation))
        mail = _mailbox.post(state.mailbox, extra_args)
        unit, largest, broken = _scaled(updates, axis)
        return updates, MonitorState(
            mailbox=boxes(),
            loss=heard(state.loss, _mailbox.read(mail, metric, axis), size),
            validation=heard(state.validation, _mailbox.read(mail, validation, axis), JUDGED),
            gradient=_felt(state.gradient, unit, largest, broken, size, axis),
            parameters=_moved(state.parameters, unit, params, size, axis),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _require_own(state: Any, names: tuple[str, str]) -> None:
    if not isinstance(state, MonitorState) or state.mailbox.keys() != {*names}:
        listens = ", ".join(names)
        raise ValueError(f"`monitor` listens to {listens}, and this is the state of another.")
    if jnp.ndim(state.loss.seen) != 0:
        shape = jnp.shape(state.loss.seen)
        raise ValueError(f"the state is stacked, of shape {shape}: update under `jax.vmap`.")


def _zero() -> jax.Array:
    return jnp.zeros((), jnp.int32)


def _unfelt(params: optax.Params) -> Gradients:
    kept = jax.tree.map(lambda x: jnp.zeros_like(x, dtype=jnp.result_type(x)), params)
    return Gradients(_zero(), _zero(), real(0.0), real(0.0), _zero(), real(0.0), kept)


def _unmoved() -> Parameters:
    return Parameters(_zero(), real(0.0), _zero(), real(0.0), unwritten())


def _scaled(tree: Any, axis: Axis) -> tuple[Any, jax.Array, jax.Array]:
    """A tree divided by its largest entry, and that entry; zeros if any is NaN or infinite.

    No square of what is at most 1 overflows, and they do not all vanish.
    """
    leaves = [real(x) for x in jax.tree.leaves(tree)]
    broken = jnp.stack([jnp.zeros((), bool), *(jnp.any(~jnp.isfinite(x)) for x in leaves)]).any()
    if axis is not None:
        broken = jax.lax.psum(broken.astype(jnp.int32), axis) > 0
    finite = jax.tree.map(lambda x: jnp.where(broken, 0, real(x)), tree)
    peaks = (jnp.abs(x).max(initial=0) for x in jax.tree.leaves(finite))
    largest = jnp.stack([real(0.0), *peaks]).max()
    if axis is not None:
        largest = jax.lax.pmax(largest, axis)
    return jax.tree.map(lambda x: x / jnp.where(largest > 0, largest, 1), finite), largest, broken


def _felt(
    old: Gradients, unit: Any, largest: jax.Array, broken: jax.Array, window: int, axis: Axis
) -> Gradients:
    norm = saturated(largest * jnp.sqrt(_dot(unit, unit, axis)))
    seen = counted(old.seen, ~broken)
    mean = old.norm + weight(seen, window) * (norm - old.norm)
    compared, cosine = _angle(old.compared, old.cosine, unit, old.previous, window, axis)

    def kept(new: jax.Array, last: jax.Array) -> jax.Array:
        # What has no direction is nothing to compare the next one with.
        return jnp.where(largest > 0, new.astype(last.dtype), last)

    return Gradients(
        seen=seen,
        broken=counted(old.broken, broken),
        first=jnp.where((old.seen == 0) & ~broken, norm, old.first),
        norm=jnp.where(broken, old.norm, mean),
        compared=compared,
        cosine=cosine,
        previous=jax.tree.map(kept, unit, old.previous),
    )


def _moved(old: Parameters, unit: Any, params: Any, window: int, axis: Axis) -> Parameters:
    if params is None:
        return old
    scaled, largest, broken = _scaled(params, axis)
    norm = saturated(largest * jnp.sqrt(_dot(scaled, scaled, axis)))
    inward = jax.tree.map(jnp.negative, scaled)
    posed, outward = _angle(old.posed, old.outward, unit, inward, window, axis)
    travel = chosen(old.seen > 0, remembered(old.travel, jnp.abs(norm - old.norm)), old.travel)
    new = Parameters(counted(old.seen, ~broken), norm, posed, outward, travel)
    return chosen(broken, old, new)


def _angle(
    count: jax.Array, mean: jax.Array, a: Any, b: Any, window: int, axis: Axis
) -> tuple[jax.Array, jax.Array]:
    """A mean cosine with that of one more pair, if neither is zero."""
    # Of what is kept in few digits the length is that of what is kept: no cosine is above 1.
    lengths = jnp.sqrt(_dot(a, a, axis)) * jnp.sqrt(_dot(b, b, axis))
    counts = lengths > 0
    cosine = jnp.clip(_dot(a, b, axis) / jnp.where(counts, lengths, 1), -1, 1)
    count = counted(count, counts)
    return count, jnp.where(counts, mean + weight(count, window) * (cosine - mean), mean)


def _dot(a: Any, b: Any, axis: Axis) -> jax.Array:
    products = jax.tree.map(lambda x, y: jnp.sum(real(x) * real(y)), a, b)
    total = sum(jax.tree.leaves(products), start=real(0.0))
    return total if axis is None else jax.lax.pmean(total, axis)
