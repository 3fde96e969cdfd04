"""The base classes of rules. A rule is three functions and a NamedTuple.

    start(params)               the initial state, in plain numbers
    react(state, seen, t)       the state after the update at step t
    value(state, t)             the value at step t, usually a factor

A `Rule` reacts at every update, and receives the keywords of the update. A `Listener` has a mailbox
for one metric; it reacts if the metric was observed, and receives the observation. A metric arrives
by `observe` or as a keyword of the update, and waits in the mailbox until an update reads it. The
metric `gradient_norm` need not be observed. A rule that listens to it receives the norm of the
gradients that reach its transform, unless another value was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsched._core._fields import choice_field
from jaxsched._core._require import refuse, require, word
from jaxsched._rules import _mailbox
from jaxsched._rules._mailbox import Axis as Axis
from jaxsched._rules._mailbox import Mailbox
from jaxsched._rules._memory import all_finite, chosen, fits, fresh, like, shown
from jaxsched._rules._stateful import Stateful

GRADIENT_NORM = "gradient_norm"
OWN_NORM = "norm_of_updates"  # how a transform hands it to its rules

# The keywords that optax passes to an update, and the step. A metric cannot have these names.
_TAKEN = ("step", "updates", "state", "params")


class Rule(Stateful):
    """Base class of rules that react at every update.

    For a rule that responds to a metric, subclass `Listener` instead. Then call `factory` on the
    subclass.
    """

    def start(self, params: Any) -> Any:
        """Returns the state before the first update: a NamedTuple of numbers.

        The numbers are stored as float32 (float64 under x64), int32 or bool. `params` are the
        parameters of the optimizer, or None if only the structure of the state is needed. Put
        arrays with the shapes of the parameters in a `states.LikeParams`; they keep their dtypes.
        """
        raise NotImplementedError

    def react(self, state: Any, seen: Any, t: jax.Array) -> Any:
        """Returns the state after the update at step `t`."""
        raise NotImplementedError

    def value(self, state: Any, t: jax.Array) -> jax.Array:
        """Returns the value at step `t`, after the rule has reacted to the update of that step."""
        raise NotImplementedError

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (self,)

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        return of(self)

    def _at_first(self) -> Any:
        with jax.ensure_compile_time_eval():  # an optimizer may be built inside `jit`
            return float(self.value(fresh(self.start(None)), jnp.zeros((), jnp.int32)))

    @property
    def _is_curve(self) -> bool:
        """Whether the rule is a whole schedule, rather than a factor."""
        return False

    @property
    def _is_factor(self) -> bool:
        return not self._is_curve and self._at_first() == 1

    @property
    def _axes(self) -> tuple[str, ...] | None:
        """The mapped axes that the rule averages over; None if it reads no per-device values."""
        return None

    def _later(self, step: int) -> Any:
        """What applies from a step on if the rule is triggered there, if it can be."""
        return self._at_first()

    def _said(self) -> str:
        """The value of the rule, in words."""
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
        """The result of `react`, in the shapes and dtypes of the state."""
        new = self.react(state, seen, t)
        if not fits(new, state):  # the message is built only for an error
            raise ValueError(
                f"`react` of `{self}` must return a state like its argument, "
                f"{shown(state)}, got {shown(new)}."
            )
        return like(new, state)


class Heard(NamedTuple):
    """The state of a rule that listens to a metric."""

    mailbox: Mailbox  # observations since the last update
    memory: Any  # the rule's own state


def listened_to(call: str, name: str, metric: Any) -> str:
    """Return the name of a metric, checked."""
    require(metric not in _TAKEN, refuse(call, name, "not be an argument of update", metric))
    return word(call, name, metric)


def agreed_over(call: str, name: str, axis: Any) -> Axis:
    """Return the mapped axis to average over, checked."""
    return axis if axis is None or isinstance(axis, tuple) else word(call, name, axis)


class Listener(Rule):
    """Base class of rules that respond to one metric.

    `react(state, seen, t)` is called at every update and returns the new state. `seen` is an
    `Observation`. `seen.value` is the mean of the finite values since the last update. `seen.heard`
    is whether there was one. `seen.broken` is whether a value was NaN or infinite; it is always
    False unless `hears_nonfinite` is True. If there was no finite value, `seen.value` is 0. The
    result of `react` is then discarded, unless `seen.broken` is True. A result with a number that
    is not finite is always discarded.
    """

    metric: str = choice_field(default="value", check=listened_to)
    axis_name: Axis = choice_field(default=None, check=agreed_over)

    @property
    def hears_nonfinite(self) -> bool:
        """Whether the rule also reacts to NaN and infinite values."""
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
        # One bad metric must not ruin a run.
        counts = (seen.heard | seen.broken) & all_finite(new)
        return Heard(_mailbox.emptied(mailbox, self.axis_name), chosen(counts, new, memory))

    def _worth(self, state: Heard, t: jax.Array) -> jax.Array:
        return self.value(state.memory, t)


def heard(mailbox: Mailbox, metric: str, given: dict[str, Any]) -> Mailbox:
    """Return the mailbox with the metric of the current update in it."""
    if metric == GRADIENT_NORM and given.get(metric) is None and OWN_NORM in given:
        unheard = (mailbox[metric].finite == 0) & (mailbox[metric].nonfinite == 0)
        posted = _mailbox.add(metric, mailbox[metric], given[OWN_NORM])
        mailbox = {metric: chosen(unheard, posted, mailbox[metric])}
    return _mailbox.post(mailbox, given)


def hears_gradient_norm(slots: Iterable[Any]) -> bool:
    """Whether a rule in a slot listens to the gradient norm."""
    rules = (rule for slot in slots if isinstance(slot, Stateful) for rule in slot.rules)
    return any(getattr(rule, "metric", None) == GRADIENT_NORM for rule in rules)


def memory_of(state: Any) -> Any:
    """Return the rule's own state, without its mailbox."""
    return state.memory if isinstance(state, Heard) else state


def listening(call: str, metric: str, axis_name: Axis) -> dict[str, Any]:
    """Return the metric and the axis that a rule or transform listens to, checked."""
    return {
        "metric": listened_to(call, "metric", metric),
        "axis_name": agreed_over(call, "axis_name", axis_name),
    }
