"""A stateful schedule as the schedule that it is until something acts."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax.numpy as jnp

from jaxsched._decays import constant
from jaxsched._schedule import Schedule
from jaxsched._stateful._protocol import Rule, StatefulClip, StatefulProduct
from jaxsched._stateful._tunable import Tunable
from jaxsched._stateful._until import Until


def still(x: Any) -> Schedule:
    """What a schedule is worth, stateful or not, while nothing acts."""
    quiet = at_first(x)
    return quiet if isinstance(quiet, Schedule) else constant(quiet)


@functools.singledispatch
def at_first(x: Any) -> Any:
    """The same, which may be a number; so may `x`."""
    return x


@at_first.register
def _(x: Rule) -> float:
    return float(x._value(x._start(), jnp.zeros((), jnp.int32)))


@at_first.register
def _(x: Until) -> Schedule:
    return x.a


@at_first.register
def _(x: Tunable) -> Schedule:
    return x.schedule


@at_first.register
def _(x: StatefulProduct) -> Any:
    return functools.reduce(operator.mul, map(at_first, x.factors))


@at_first.register
def _(x: StatefulClip) -> Schedule:
    return still(x.schedule).clip(x.low, x.high)
