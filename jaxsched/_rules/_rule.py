"""What a rule is: three functions and a NamedTuple.

    start(params)               what it remembers at first, in plain numbers
    react(state, seen, t)       what it remembers after an update at clock time t
    value(state, t)             what it is worth then, usually a factor

A `Rule` reacts at every update, and sees the keywords of the update. A `Listener` has a mailbox for
one metric; it reacts where something was observed, and sees that. A metric arrives by `observe` or
in the very update, and lies in the mailbox until an update reads it. `gradient_norm` needs no
observing: whoever listens to it hears the norm of the gradients that reach its transform, unless
somebody observed another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._fields import choice_field
from jaxsched._core._require import name, refuse, require
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Axis as Axis
from jaxsched._rules._mailbox import Mailbox
from jaxsched._rules._memory import all_finite, chosen, fits, fresh, like, shown
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._schedule import Schedule

GRADIENT_NORM = "gradient_norm"
OWN_NORM = "norm_of_updates"  # how a transform hands it to its rules

# What an update is given by optax, and the clock: no metric has these names.
_TAKEN = ("step", "updates", "state", "params")


class Rule(Stateful):
    """A rule that reacts at every update. Subclass it, or `Listener`; then call `factory`."""

    def start(self, params: Any) -> Any:
        """What it remembers before the first update: a NamedTuple of numbers.

        They are held as float32 (float64 under x64), int32 or bool. `params` are those of the
        optimizer, or None where only the structure of the state is asked for. Arrays of the shapes
        of the parameters are put in a `states.LikeParams`, and keep their dtypes.
        """
        raise NotImplementedError

    def react(self, state: Any, seen: Any, t: jax.Array) -> Any:
        """What it remembers after the update at clock time `t`."""
        raise NotImplementedError

    def value(self, state: Any, t: jax.Array) -> jax.Array:
        """What it is worth at clock time `t`, after the update of that time has reacted."""
        raise NotImplementedError

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (self,)

    def _at_first(self) -> Any:
        return float(self.value(fresh(self.start(None)), jnp.zeros((), jnp.int32)))

    @property
    def _is_curve(self) -> bool:
        """Is it a whole schedule, and no factor of one?"""
        return False

    @property
    def _is_factor(self) -> bool:
        return not self._is_curve and self._at_first() == 1

    @property
    def _axes(self) -> tuple[str, ...] | None:
        """The mapped axes that it agrees over; None if it hears nothing that could differ."""
        return None

    @property
    def _later(self) -> Schedule | None:
        """The schedule that begins when it is triggered, if it can be."""
        return None

    def _said(self) -> str:
        """What it is worth, in words."""
        return f"times {self}, {self._at_first():g} until it acts"

    def _combine(self, values: Iterator[jax.Array], t: jax.Array) -> jax.Array:
        return next(values)

    def _begun(self, params: Any) -> Any:
        return fresh(self.start(params))

    def _updated(self, state: Any, given: dict[str, Any], t: jax.Array) -> Any:
        return self._reacted(state, given, t)

    def _worth(self, state: Any, t: jax.Array) -> jax.Array:
        return self.value(state, t)

    def _reacted(self, state: Any, seen: Any, t: jax.Array) -> Any:
        """What `react` returns, in the shapes and dtypes of the state."""
        new = self.react(state, seen, t)
        if not fits(new, state):  # words are for what is wrong alone
            raise ValueError(
                f"`react` of `{self}` must return a state like the one it is given, "
                f"{shown(state)}, got {shown(new)}."
            )
        return like(new, state)


class Heard(NamedTuple):
    """The state of a rule that listens."""

    mailbox: Mailbox  # what was observed since the last update
    memory: Any  # what it remembers


def listened_to(call: str, /, **argument: Any) -> str:
    """The name of a metric, checked."""
    ((key, metric),) = argument.items()
    require(metric not in _TAKEN, refuse(call, key, "not be an argument of update", metric))
    return name(call, **argument)


def agreed_over(call: str, /, **argument: Any) -> Axis:
    """The mapped axis to agree over, checked."""
    ((_, axis),) = argument.items()
    return axis if axis is None or isinstance(axis, tuple) else name(call, **argument)


class Listener(Rule):
    """A rule that listens to one metric.

    `react` sees an `Observation`: the mean of what was observed since the last update, and whether
    any of it was NaN or infinite. Where nothing was observed, nothing changes, although `react` is
    called: `seen.value` is 0 then. Nor does anything change where it returns a number that is not
    finite.
    """

    metric: str = choice_field(default="value", check=listened_to)
    axis_name: Axis = choice_field(default=None, check=agreed_over)

    @property
    def hears_nonfinite(self) -> bool:
        """Does it react to what is NaN or infinite, too?"""
        return False

    @property
    def _axes(self) -> tuple[str, ...]:
        return (self.axis_name,) if isinstance(self.axis_name, str) else self.axis_name or ()

    def _begun(self, params: Any) -> Heard:
        return Heard(_mailbox.empty(self.metric), fresh(self.start(params)))

    def _updated(self, state: Heard, given: dict[str, Any], t: jax.Array) -> Heard:
        mailbox, memory = heard(state.mailbox, self.metric, given), state.memory
        seen = _mailbox.read(mailbox, self.metric, self.axis_name)
        if not self.hears_nonfinite:
            seen = seen._replace(broken=jnp.zeros_like(seen.broken))
        new = self._reacted(memory, seen, t)
        # A run that goes on must not be lost by one metric.
        counts = (seen.heard | seen.broken) & all_finite(new)
        return Heard(_mailbox.emptied(mailbox, self.axis_name), chosen(counts, new, memory))

    def _worth(self, state: Heard, t: jax.Array) -> jax.Array:
        return self.value(state.memory, t)


def heard(mailbox: Mailbox, metric: str, given: dict[str, Any]) -> Mailbox:
    """The mailbox with the metric of this very update in it."""
    if metric == GRADIENT_NORM and given.get(metric) is None and OWN_NORM in given:
        unheard = (mailbox[metric].finite == 0) & (mailbox[metric].nonfinite == 0)
        posted = _mailbox.add(metric, mailbox[metric], given[OWN_NORM])
        mailbox = {metric: chosen(unheard, posted, mailbox[metric])}
    return _mailbox.post(mailbox, given)


def memory_of(state: Any) -> Any:
    """What a rule remembers, without its mailbox."""
    return state.memory if isinstance(state, Heard) else state


def listening(call: str, metric: str, axis_name: Axis) -> dict[str, Any]:
    """What a transform listens to, and over which axis, checked."""
    return {
        "metric": listened_to(call, metric=metric),
        "axis_name": agreed_over(call, axis_name=axis_name),
    }
