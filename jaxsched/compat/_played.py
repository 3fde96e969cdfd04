"""A schedule with rules, played on the host for a loop of another library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxsched._core._require import refuse, require
from jaxsched._rules._mailbox import listened
from jaxsched._rules._stateful import Stateful
from jaxsched._rules._until import triggered
from jaxsched._schedules._schedule import Schedule, as_schedule


class Played:
    """The rate of every step, and the state of the rules behind it."""

    def __init__(self, call: str, rate: Any) -> None:
        self.rate = rate if isinstance(rate, Stateful) else as_schedule(call, rate)
        self.state: Any = self.rate.init() if isinstance(self.rate, Stateful) else ()
        self.metrics = listened(self.state)  # the names that the rules listen to

    def at(self, step: int, metrics: Mapping[str, Any]) -> float:
        """Return the rate of a step, after the rules have reacted to metrics; steps in order."""
        given = {name: float(x) for name, x in metrics.items() if name in self.metrics}
        self.state, value = _advanced(self.rate, self.state, np.int32(step), given)
        return float(value)

    def trigger(self) -> None:
        """Trigger every `until` and `cooldown`."""
        self.state = triggered(self.state, True)

    def state_dict(self) -> list[Any]:
        """Return the numbers of the state."""
        return [np.asarray(leaf).item() for leaf in jax.tree.leaves(self.state)]

    def load(self, call: str, numbers: list[Any]) -> None:
        """Replace the numbers of the state."""
        leaves, tree = jax.tree.flatten(self.state)
        must = f"have {len(leaves)} numbers for each group, of the rules in `{self.rate}`"
        require(len(numbers) == len(leaves), refuse(call, "state_dict", must, len(numbers)))
        pairs = zip(leaves, numbers, strict=True)
        self.state = tree.unflatten(
            [jax.numpy.asarray(number, leaf.dtype) for leaf, number in pairs]
        )


@jax.jit
def _advanced(rate: Any, state: Any, step: Any, metrics: dict[str, Any]) -> tuple[Any, jax.Array]:
    if isinstance(rate, Schedule):
        return state, rate(step)
    state = rate.update(state, step=step, **metrics)
    return state, rate(state, step=step)
