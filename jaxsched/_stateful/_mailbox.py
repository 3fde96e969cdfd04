"""The mailbox: metrics on their way to the stateful schedules that listen for them.

`observe` posts, the next update reads and empties. What was posted between two updates is one
observation: the mean of the finite values. The others are counted apart, for the rule to decide.
A mailbox is a dict keyed by the metric's name, so the state alone says who listens to what.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsched._numerics import real, saturated
from jaxsched._require import finite_of, require


class Mail(NamedTuple):
    """What was posted since the last update."""

    total: jax.Array  # float: the sum of the finite values
    finite: jax.Array  # int32: how many there were
    nonfinite: jax.Array  # int32: how many were NaN or infinite


class Observation(NamedTuple):
    """What a rule reads."""

    value: jax.Array  # float: the mean of the finite values, 0 if there were none
    heard: jax.Array  # bool: were there any?
    broken: jax.Array  # bool: was any value NaN or infinite?


Mailbox = dict[str, Mail]
Axis = str | tuple[str, ...] | None


def empty(metric: str) -> Mailbox:
    """A mailbox for one metric."""
    return {metric: Mail(real(0.0), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))}


def post(mailbox: Mailbox, metrics: dict[str, ArrayLike]) -> Mailbox:
    """The mailbox with those of the metrics that it is for."""
    return {
        name: add(name, mail, metrics[name]) if metrics.get(name) is not None else mail
        for name, mail in mailbox.items()
    }


def read(mailbox: Mailbox, metric: str, axis_name: Axis) -> Observation:
    """One observation; over `axis_name`, the same one on every device."""
    mail = mailbox[metric]
    if axis_name is not None:
        mail = jax.lax.psum(mail, axis_name)
        mail = mail._replace(total=saturated(mail.total))
    mean = mail.total / real(jnp.maximum(mail.finite, 1))
    return Observation(mean, mail.finite > 0, mail.nonfinite > 0)


def agreed(mail: Mail, axis_name: Axis) -> Mail:
    """Mail that is to wait, the same on every device: the mean of all, as often as it was told."""
    if axis_name is None:
        return mail
    seen = read({"": mail}, "", axis_name)
    finite, nonfinite = jax.lax.pmax((mail.finite, mail.nonfinite), axis_name)
    return Mail(saturated(seen.value * real(finite)), finite, nonfinite)


def add(name: str, mail: Mail, value: ArrayLike) -> Mail:
    """What was posted, and one value more."""
    kind = None if isinstance(value, str) else jnp.result_type(value)
    require(
        kind is None or not jnp.issubdtype(kind, jnp.complexfloating),
        f"a metric is a real number, got {name} of type {kind}. Give its absolute value: "
        f"`{name}=abs(x)`.",
    )
    value = real(finite_of("observe", name, value) if isinstance(value, str) else value)
    require(
        value.shape == mail.finite.shape,
        f"a metric is a scalar, got {name} of shape {value.shape}. Take its mean."
        if mail.finite.shape == ()
        else f"the state is stacked, {mail.finite.shape}: observe {name} under `jax.vmap`.",
    )
    finite = jnp.isfinite(value)
    return Mail(
        saturated(mail.total + jnp.where(finite, value, 0)),
        mail.finite + finite.astype(jnp.int32),
        mail.nonfinite + (~finite).astype(jnp.int32),
    )
