"""The mailbox: metrics that wait in the state until the next update reads them.

`observe` posts a metric; the next update reads and empties the mailbox. All values posted between
two updates are one observation: the mean of the finite values. Non-finite values are counted
separately, and the rule decides about them. A mailbox is a dict keyed by the metric's name, so the
state alone says which metrics are listened to.

Two mistakes would go unnoticed: a metric that never arrives, and a metric that arrives both by
`observe` and by `update`. Therefore a mailbox also counts the updates that read a metric, the
updates since then that did not, and the updates that received a metric in both ways.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._clock import counted, ticked
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import finite, require, warn
from jaxsched._core._trees import found, unpacked
from jaxsched._rules import _metric_names


class Mail(NamedTuple):
    """The metrics posted since the last update, and counts of earlier ones."""

    total: jax.Array  # float: the sum of the finite values
    finite: jax.Array  # int32: how many values were finite
    nonfinite: jax.Array  # int32: how many values were NaN or infinite
    observed: jax.Array  # int32: how many of all values came by `observe`
    heard: jax.Array  # int32: updates that read a metric
    silent: jax.Array  # int32: updates since the last that read a metric, or since the start
    mixed: jax.Array  # int32: updates that received a metric that was also observed


class Observation(NamedTuple):
    """One observation of a metric, as a rule receives it: all values since the last update.

    `value` is the mean of the finite values, or 0 if there were none. `heard` is whether there was
    a finite value. `broken` is whether a value was NaN or infinite; it is always False for a rule
    whose `hears_nonfinite` is False.
    """

    value: jax.Array  # float: the mean of the finite values, 0 if there were none
    heard: jax.Array  # bool: whether any value was finite
    broken: jax.Array  # bool: whether any value was NaN or infinite


Mailbox = dict[str, Mail]
Axis = str | tuple[str, ...] | None


def empty(metric: str) -> Mailbox:
    """A mailbox for one metric."""
    _metric_names.add(metric)
    return {metric: Mail(real(0.0), *(jnp.zeros((), jnp.int32) for _ in Mail._fields[1:]))}


def emptied(mailbox: Mailbox, axis_name: Axis) -> Mailbox:
    """Return the mailbox after an update has read it; with `axis_name`, equal on all devices."""
    return {name: _read(mail, axis_name) for name, mail in mailbox.items()}


def _read(mail: Mail, axis_name: Axis) -> Mail:
    posted, observed = mail.finite + mail.nonfinite, mail.observed
    if axis_name is not None:
        posted, observed = jax.lax.psum((posted, observed), axis_name)
    shape, some = mail.finite.shape, posted > 0

    def none() -> jax.Array:  # separate buffers: a donated buffer may be used only once
        return jnp.zeros(shape, jnp.int32)

    return Mail(
        total=jnp.zeros(shape, mail.total.dtype),
        finite=none(),
        nonfinite=none(),
        observed=none(),
        heard=counted(mail.heard, some),
        silent=jnp.where(some, 0, counted(mail.silent, ~some)),
        mixed=counted(mail.mixed, (observed > 0) & (posted > observed)),
    )


def post(mailbox: Mailbox, metrics: dict[str, Any]) -> Mailbox:
    """Return the mailbox with the metrics of an update that it listens to."""
    _metric_names.warn_of_unread(mailbox, metrics)
    return {
        name: _given(name, mail, metrics[name]) if metrics.get(name) is not None else mail
        for name, mail in mailbox.items()
    }


def _given(name: str, mail: Mail, value: ArrayLike) -> Mail:
    twice = mail.observed > 0
    if not isinstance(twice, Tracer) and bool(jnp.any(twice)):
        warn(
            f"`{name}` was given to `observe(opt_state, {name}=...)` and to "
            f"`update(..., {name}=...)`, so the rule receives the mean of both. If these are "
            f'different losses, give one its own name: `reduce_on_plateau(metric="validation")` '
            "and `observe(opt_state, validation=...)`."
        )
    return add(name, mail, value)


def read(mailbox: Mailbox, metric: str, axis_name: Axis) -> Observation:
    """Return one observation; with `axis_name`, the same one on every device."""
    mail = mailbox[metric]
    total, finite, nonfinite = mail.total, mail.finite, mail.nonfinite
    if axis_name is not None:
        total, finite, nonfinite = jax.lax.psum((total, finite, nonfinite), axis_name)
        total = saturated(total)
    return Observation(total / real(jnp.maximum(finite, 1)), finite > 0, nonfinite > 0)


def agreed(mail: Mail, axis_name: Axis) -> Mail:
    """Return waiting mail, made equal on all devices: the mean of all, and the largest counts."""
    if axis_name is None:
        return mail
    seen = read({"": mail}, "", axis_name)
    counts = jax.lax.pmax(tuple(mail)[1:], axis_name)
    agreed = Mail(mail.total, *counts)
    return agreed._replace(total=saturated(seen.value * real(agreed.finite)))


def observed(name: str, mail: Mail, value: ArrayLike) -> Mail:
    """Return the mail with one more observed value."""
    return add(name, mail, value)._replace(observed=ticked(mail.observed))


def add(name: str, mail: Mail, value: ArrayLike) -> Mail:
    """Return the mail with one more value."""
    kind = None if isinstance(value, str) else jnp.result_type(value)
    require(
        kind is None or not jnp.issubdtype(kind, jnp.complexfloating),
        f"a metric must be a real number, got {name} of type {kind}. Give its absolute value: "
        f"`{name}=abs(x)`.",
    )
    value = real(finite("observe", name, value) if isinstance(value, str) else value)
    shape = mail.finite.shape
    require(
        value.shape == shape,
        f"a metric must be a scalar, got {name} of shape {value.shape}. Take its mean."
        if shape == ()
        else f"the state is stacked, {shape}, and {name} has shape {value.shape}. Observe {name} "
        f"under `jax.vmap`, or pass one value for all as `{name}=jnp.full({shape}, value)`.",
    )
    is_finite = jnp.isfinite(value)
    return mail._replace(
        total=saturated(mail.total + jnp.where(is_finite, value, 0)),
        finite=mail.finite + is_finite.astype(jnp.int32),
        nonfinite=mail.nonfinite + (~is_finite).astype(jnp.int32),
    )


def listened(tree: Any) -> set[str]:
    """Return the names of the metrics that the rules and transforms in a state listen to."""
    return {path[-1].key for path, _ in found(Mail, unpacked(tree))}
