"""The mailbox: metrics on their way to the stateful schedules that listen for them.

`observe` posts, the next update reads and empties. What was posted between two updates is one
observation: the mean of the finite values. The others are counted apart, for the rule to decide.
A mailbox is a dict keyed by the metric's name, so the state alone says who listens to what.

A metric that never arrives, and one that arrives by both ways, would go wrong in silence. Therefore
a mailbox also counts the updates that heard something, those since then that did not, and those in
which a metric was observed and given to `update` as well.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._clock import counted
from jaxsched._core._numerics import real, saturated
from jaxsched._core._require import finite_of, require
from jaxsched._core._trees import found, unpacked
from jaxsched._rules import _metric_names


class Mail(NamedTuple):
    """What was posted since the last update, and what became of earlier mail."""

    total: jax.Array  # float: the sum of the finite values
    finite: jax.Array  # int32: how many there were
    nonfinite: jax.Array  # int32: how many were NaN or infinite
    observed: jax.Array  # int32: how many of them came by `observe`
    heard: jax.Array  # int32: updates that read a metric
    silent: jax.Array  # int32: updates since the last of these, or since the start
    mixed: jax.Array  # int32: updates that were given what had been observed already


class Observation(NamedTuple):
    """What a rule reads."""

    value: jax.Array  # float: the mean of the finite values, 0 if there were none
    heard: jax.Array  # bool: were there any?
    broken: jax.Array  # bool: was any value NaN or infinite?


Mailbox = dict[str, Mail]
Axis = str | tuple[str, ...] | None


def empty(metric: str) -> Mailbox:
    """A mailbox for one metric."""
    _metric_names.listened(metric)
    return {metric: Mail(real(0.0), *(jnp.zeros((), jnp.int32) for _ in Mail._fields[1:]))}


def emptied(mailbox: Mailbox, axis_name: Axis) -> Mailbox:
    """The mailbox after an update has read it; over `axis_name`, the same one on every device."""
    return {name: _read(mail, axis_name) for name, mail in mailbox.items()}


def _read(mail: Mail, axis_name: Axis) -> Mail:
    posted, observed = mail.finite + mail.nonfinite, mail.observed
    if axis_name is not None:
        posted, observed = jax.lax.psum((posted, observed), axis_name)
    shape, some = mail.finite.shape, posted > 0

    def none() -> jax.Array:  # a buffer of its own: a donated one may stand in one place only
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
    """The mailbox with those of an update's arguments that it is for."""
    _metric_names.require_known(mailbox, metrics)
    return {
        name: _given(name, mail, metrics[name]) if metrics.get(name) is not None else mail
        for name, mail in mailbox.items()
    }


def _given(name: str, mail: Mail, value: ArrayLike) -> Mail:
    twice = mail.observed > 0
    if not isinstance(twice, Tracer) and bool(jnp.any(twice)):
        warnings.warn(
            f"`{name}` was observed by `observe(opt_state, {name}=...)` and is given to "
            f"`update(..., {name}=...)` too, so that the rule hears the mean of both. If these are "
            f'two losses, give one a name of its own: `reduce_on_plateau(metric="validation")` and '
            "`observe(opt_state, validation=...)`.",
            stacklevel=2,
        )
    return add(name, mail, value)


def read(mailbox: Mailbox, metric: str, axis_name: Axis) -> Observation:
    """One observation; over `axis_name`, the same one on every device."""
    mail = mailbox[metric]
    total, finite, nonfinite = mail.total, mail.finite, mail.nonfinite
    if axis_name is not None:
        total, finite, nonfinite = jax.lax.psum((total, finite, nonfinite), axis_name)
        total = saturated(total)
    return Observation(total / real(jnp.maximum(finite, 1)), finite > 0, nonfinite > 0)


def agreed(mail: Mail, axis_name: Axis) -> Mail:
    """Mail that is to wait, the same on every device: the mean of all, as often as it was told."""
    if axis_name is None:
        return mail
    seen = read({"": mail}, "", axis_name)
    counts = jax.lax.pmax(tuple(mail)[1:], axis_name)
    agreed = Mail(mail.total, *counts)
    return agreed._replace(total=saturated(seen.value * real(agreed.finite)))


def observed(name: str, mail: Mail, value: ArrayLike) -> Mail:
    """What was posted, and one value more that was observed."""
    return add(name, mail, value)._replace(observed=counted(mail.observed, mail.observed >= 0))


def add(name: str, mail: Mail, value: ArrayLike) -> Mail:
    """What was posted, and one value more."""
    kind = None if isinstance(value, str) else jnp.result_type(value)
    require(
        kind is None or not jnp.issubdtype(kind, jnp.complexfloating),
        f"a metric is a real number, got {name} of type {kind}. Give its absolute value: "
        f"`{name}=abs(x)`.",
    )
    value = real(finite_of("observe", name, value) if isinstance(value, str) else value)
    shape = mail.finite.shape
    require(
        value.shape == shape,
        f"a metric is a scalar, got {name} of shape {value.shape}. Take its mean."
        if shape == ()
        else f"the state is stacked, {shape}, and {name} has shape {value.shape}. Observe {name} "
        f"under `jax.vmap`, or one value for all as `{name}=jnp.full({shape}, value)`.",
    )
    finite = jnp.isfinite(value)
    return mail._replace(
        total=saturated(mail.total + jnp.where(finite, value, 0)),
        finite=mail.finite + finite.astype(jnp.int32),
        nonfinite=mail.nonfinite + (~finite).astype(jnp.int32),
    )


def listened(tree: Any) -> set[str]:
    """The metrics that somebody in a state listens to."""
    return {path[-1].key for path, _ in found(Mail, unpacked(tree))}
