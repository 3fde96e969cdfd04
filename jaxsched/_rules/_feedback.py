"""Feedback: a rule written as two functions, one that updates a state and one that reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxsched._core._clock import counted
from jaxsched._core._fields import choice_field, tree_field
from jaxsched._core._numerics import real
from jaxsched._core._require import refuse, require
from jaxsched._rules._mailbox import Observation
from jaxsched._rules._memory import OTHER, breadth, fits, fresh, initially, like, shown
from jaxsched._rules._rule import Axis, Listener, Rule, listening


class FeedbackState(NamedTuple):
    """The state of a rule made by `feedback`."""

    memory: Any  # the last result of `react`, in the shapes and dtypes of `init_state`
    cuts: jax.Array = initially(0)  # how often the factor fell
    raises: jax.Array = initially(0)  # how often the factor rose


class Feedback(Listener):
    """factor(memory), where memory = function(memory, metric) for every metric."""

    function: Callable[[Any, jax.Array], Any] = choice_field(kw_only=False)
    init_state: Any = tree_field(default=1.0)
    factor: Callable[[Any], Any] | None = choice_field(default=None)

    def start(self, params: Any) -> FeedbackState:
        return FeedbackState(self.init_state)

    def react(self, state: FeedbackState, seen: Observation, t: jax.Array) -> FeedbackState:
        memory = like(self.function(state.memory, seen.value), state.memory)
        before, after = self._factor_of(state.memory), self._factor_of(memory)
        return state._replace(
            memory=memory,
            cuts=counted(state.cuts, after < before),
            raises=counted(state.raises, after > before),
        )

    def value(self, state: FeedbackState, t: jax.Array) -> jax.Array:
        return self._factor_of(state.memory)

    def _factor_of(self, memory: Any) -> jax.Array:
        return real(memory if self.factor is None else self.factor(memory))


def feedback(
    react: Callable[[Any, jax.Array], Any],
    init_state: Any = 1.0,
    *,
    factor: Callable[[Any], Any] | None = None,
    metric: str = "value",
    axis_name: Axis = None,
) -> Rule:
    """A custom rule, defined by a function that updates a state from each metric.

        for every metric: state = react(state, metric)
        value           : factor(state)

    An update without a metric changes nothing. A metric that is NaN or infinite is ignored, and so
    is a new state that is not finite. A new state takes effect in the update that receives the
    metric. Falls and rises of the factor are counted in `events`, as for any rule.

    Args:
      react: a function of the state and of the metric, a scalar. It returns a new state with the
        same structure, shapes and dtypes. It is traced, so use `jnp.where` instead of `if`.
      init_state: the initial state, a number or any tree of numbers.
      factor: a function of the state that returns a number. None: the state is the factor.
      metric: name of the metric, as in `observe(opt_state, value=...)` and `tx.update(...,
        value=...)`. `inject` and `wrap` provide `"gradient_norm"`; see `with_gradient_norm`.
      axis_name: mapped axis over which the metric is averaged, under `pmap` and `shard_map`.

    Returns:
      A stateful schedule. Its state is kept in float32 (float64 under x64), int32 and bool.

    Raises:
      ValueError: `react` or `factor` is not a function, or returns something of the wrong form.

    Example:
      >>> bold = feedback(
      ...     lambda state, loss: {
      ...         "scale": state["scale"] * jnp.where(loss < state["last"], 1.05, 0.5),
      ...         "last": loss,
      ...     },
      ...     {"scale": 1.0, "last": 1e9},
      ...     factor=lambda state: state["scale"],
      ... )
      >>> tx = scale_by_learning_rate(0.1 * bold)
      >>> state = tx.init({})
      >>> for loss in (1.0, 0.9, 1.1):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(f"{hyperparams(state)['learning_rate']:.4f}")
      0.1050
      0.1102
      0.0551

    References:
      The example is the bold driver of Battiti, 1989. His method also undoes a step that raised the
      loss; the example does not.
    """
    call = "feedback"
    require(callable(react), refuse(call, "react", "be a function", react))
    given = factor is None or callable(factor)
    require(given, refuse(call, "factor", "be a function or None", factor))
    rule = Feedback(
        react,
        init_state,
        factor=factor,
        **listening(call, metric, axis_name),
    )
    _require_rule(rule)
    return rule


def _require_rule(rule: Feedback) -> None:
    """Raise unless the functions of a rule return values of the right form."""
    memory = _memory(rule.init_state)
    found = _traced("react", rule.function, memory, jax.eval_shape(lambda: real(0.0)))
    must = f"return a state like its argument, {shown(memory)}"
    require(fits(found, memory), refuse("feedback", "react", must, shown(found)))
    value = memory if rule.factor is None else _traced("factor", rule.factor, memory)
    number = jax.tree.structure(value) == jax.tree.structure(0) and value.shape == ()
    number = number and breadth(value) < OTHER
    remedy = "" if rule.factor else "Compute it from the state: `factor=lambda state: ...`."
    require(number, refuse("feedback", "factor", "return a number", shown(value), remedy))


def _memory(init_state: Any) -> Any:
    """Return the shapes of the state, or raise if it holds no numbers or non-finite ones."""
    try:
        memory = jax.eval_shape(lambda: fresh(init_state))
        known = [x for x in jax.tree.leaves(init_state) if not isinstance(x, Tracer)]
        finite = all(bool(jnp.all(jnp.isfinite(x))) for x in known)
        whole = all(breadth(x) < OTHER for x in jax.tree.leaves(memory))
    except (TypeError, ValueError, OverflowError) as error:
        must = "be a number or a tree of numbers"
        raise ValueError(refuse("feedback", "init_state", must, init_state)) from error
    must, remedy = "hold finite real numbers", "For a best loss, start with 1e9, or use a flag."
    require(finite and whole, refuse("feedback", "init_state", must, init_state, remedy))
    return memory


def _traced(argument: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the shapes of a function's result, or raise with the reason why tracing failed."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # a user's function may raise anything
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        branches = isinstance(error, jax.errors.ConcretizationTypeError)
        remedy = "Use `jnp.where` instead of `if`." if branches else reason
        must = "be a function of the state" + (" and a metric" if argument == "react" else "")
        raise ValueError(refuse("feedback", argument, must, function, remedy)) from error
