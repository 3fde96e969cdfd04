"""What listens to one metric: the part that every rule which is fed with one has in common.

A metric arrives by `observe` or in the very update, lies in the mailbox until an update reads it,
and the rule reacts to it there. `gradient_norm` needs no observing: whoever listens to it hears the
norm of the gradients that reach its transform, unless somebody observed another.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxsched._core._numerics import norm
from jaxsched._core._require import name, refuse, require
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Axis as Axis
from jaxsched._rules._mailbox import Mailbox, Observation
from jaxsched._rules._stateful import Rule

GRADIENT_NORM = "gradient_norm"

# What an update is given by optax, and the clock: no metric has these names.
_TAKEN = ("step", "updates", "state", "params")


class Listener(Rule):
    """A rule with a mailbox for one metric."""

    @property
    def _ear(self) -> tuple[str, Axis]:
        """Which metric it hears, and over which axis: fields of each rule, behind its own."""
        own = vars(self)
        return own["metric"], own["axis_name"]

    def _hear(self, state: Any, metrics: dict[str, Any]) -> Any:
        return state._replace(mailbox=heard(state.mailbox, self._ear[0], metrics))

    def _next(self, state: Any, t: jax.Array) -> Any:
        metric, axis_name = self._ear
        state = self._react(state, _mailbox.read(state.mailbox, metric, axis_name), t)
        return state._replace(mailbox=_mailbox.emptied(state.mailbox, axis_name))

    def _react(self, state: Any, seen: Observation, t: jax.Array) -> Any:
        """The state after an update at clock time `t`, in which this was seen or nothing."""
        raise NotImplementedError


def heard(mailbox: Mailbox, metric: str, metrics: dict[str, Any]) -> Mailbox:
    """The mailbox with the metric of this very update in it."""
    if metric == GRADIENT_NORM and metrics.get(metric) is None and "updates" in metrics:
        unheard = (mailbox[metric].finite == 0) & (mailbox[metric].nonfinite == 0)
        posted = _mailbox.post(mailbox, {metric: norm(metrics["updates"])})
        mailbox = jax.tree.map(lambda a, b: jax.numpy.where(unheard, a, b), posted, mailbox)
    return _mailbox.post(mailbox, metrics)


def listening(call: str, metric: str, axis_name: Axis) -> dict[str, Any]:
    """What a rule listens to, and over which axis, checked."""
    require(metric not in _TAKEN, refuse(call, "metric", "not be an argument of update", metric))
    return {"metric": name(call, metric=metric), "axis_name": axis(call, axis_name)}


def axis(call: str, axis_name: Axis) -> Axis:
    """The mapped axis to agree over, checked."""
    whole = axis_name is None or isinstance(axis_name, tuple)
    return axis_name if whole else name(call, axis_name=axis_name)
