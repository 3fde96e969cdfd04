"""Stateful schedules: state machines that respond to the run; the value is usually a factor.

A stateful schedule follows optax's protocol, `init()`, `update(state, **metrics)` and
`__call__(state)`. The step counter is passed in as `step`, so that no rule keeps a second one. It
can be multiplied and divided, and `**` combines it with numbers:

    (warmup >> decay) * reduce_on_plateau(patience=5)

A leaf is a `Rule`, see `_rule.py`. A product of rules and schedules holds the states of its rules
as one flat tuple, in order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import jax
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._fields import form_field, in_form, number_in
from jaxsched._core._node import require_unstacked
from jaxsched._core._numerics import growth, real
from jaxsched._core._powers import LOGARITHM, Leaf
from jaxsched._core._require import Number, finite, nonzero, require
from jaxsched._core._writing import POWER, PRODUCT, Written, infix, operand, options, owner, text
from jaxsched._schedules._combined import factor, multiplied, require_one_rate, value_at
from jaxsched._schedules._mapped import bounds, clipped
from jaxsched._schedules._power import divided, power
from jaxsched._schedules._schedule import Schedule, as_schedule, is_number, is_operand

if TYPE_CHECKING:
    from jaxsched._rules._rule import Rule

State = tuple[Any, ...]


class Stateful(Written):
    """A schedule with a state: a rule, or a product of rules and schedules."""

    __array_ufunc__: ClassVar[None] = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules whose states make up this state."""
        raise NotImplementedError

    def _combine(self, values: Iterator[jax.Array], t: jax.Array) -> jax.Array:
        """The value at step `t`, from the values of the rules."""
        raise NotImplementedError

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        """The schedule or number that results if each rule is replaced by one."""
        raise NotImplementedError

    def _at_first(self) -> Any:
        """The schedule or number that applies while no rule acts."""
        return self._with(lambda rule: rule._at_first())

    @property
    def _is_factor(self) -> bool:
        """Whether it is made of rules alone, each with the initial value 1."""
        raise NotImplementedError

    def init(self, params: Any = None) -> State:
        """Returns the state before the first update.

        Rules that store gradients need `params`.
        """
        return tuple(rule._begun(params) for rule in self.rules)

    def update(self, state: State, *, step: ArrayLike | None = None, **metrics: Any) -> State:
        """Returns the state after the update at `step`, from `metrics` and observed values."""
        t = self._clock(step)
        pairs = zip(self.rules, state, strict=True)
        return tuple(rule._updated(own, metrics, t) for rule, own in pairs)

    def __call__(self, state: Any, *, step: ArrayLike | None = None, **_: Any) -> jax.Array:
        """Returns the value at `step`."""
        if not isinstance(state, tuple):
            self._refuse_step()
        require_unstacked(self)
        t = self._clock(step)
        values = (rule._worth(own, t) for rule, own in zip(self.rules, state, strict=True))
        return self._combine(values, t)

    def _clock(self, step: ArrayLike | None) -> jax.Array:
        return self._refuse_step() if step is None else _clock.read(step)

    def _refuse_step(self) -> NoReturn:
        raise ValueError(
            f"`{self}` is stateful: its value needs an optimizer state, not only a step. "
            "Pass it to `jaxsched.scale_by_learning_rate(...)`, or to "
            "`jaxsched.inject(optax.adam, learning_rate=...)` instead of `optax.adam(...)`."
        )

    def __mul__(self, other: Any) -> Stateful:
        return _product(self, other)

    def __rmul__(self, other: Any) -> Stateful:
        return _product(other, self)

    def __truediv__(self, divisor: Any) -> Stateful:
        if is_number(divisor):
            return self * (1 / nonzero("stateful / divisor", "divisor", divisor))
        if isinstance(divisor, Stateful):
            return self * (1.0 / divisor)
        return self * (1.0 / as_schedule("/", divisor))

    def __rtruediv__(self, dividend: Any) -> Stateful:
        if not is_number(dividend):
            return as_schedule("/", dividend) * (1.0 / self)
        made = StatefulQuotient(self, finite("number / stateful", "number", dividend))
        made._at_first()  # raises if the divisor is zero while no rule acts
        made._with(lambda rule: rule._later(0))  # or after a trigger
        return made

    def __pow__(self, exponent: Any) -> Stateful:
        return StatefulPower(self, finite("stateful ** number", "exponent", exponent))

    def __rpow__(self, base: Any) -> Stateful:
        return StatefulExponential(
            self, base=in_form("number ** stateful", "base", base, LOGARITHM)
        )

    def clip(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Stateful:
        """Limits the value to [`low`, `high`], for example to set a floor of a product."""
        return StatefulClip(self, *bounds("clip", low, high))

    def _refuse_operation(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError(
            f"`{self}` is stateful: it can be multiplied and divided, and `**` combines it with "
            "numbers. Put the schedule in parentheses, `(warmup >> decay) * reduce_on_plateau()`, "
            "and a floor behind the product as `.clip(low)`."
        )

    __rshift__ = __rrshift__ = __add__ = __radd__ = __sub__ = __rsub__ = _refuse_operation
    __neg__ = _refuse_operation
    take = shift = faster = hold = stretch = cycle = _refuse_operation
    integer = on = proportional = _refuse_operation


class StatefulProduct(Stateful):
    """The product of any number of schedules, rules and numbers."""

    factors: tuple[Schedule | Stateful | Number, ...]

    _binds = PRODUCT

    @property
    def rules(self) -> tuple[Rule, ...]:
        return sum((x.rules for x in self.factors if isinstance(x, Stateful)), start=())

    def _combine(self, values: Iterator[jax.Array], t: jax.Array) -> jax.Array:
        def value(x: Schedule | Stateful | Number) -> jax.Array:
            if isinstance(x, Stateful):
                return x._combine(values, t)
            return value_at(x._grouped() if isinstance(x, Schedule) else x, t)

        return multiplied(map(value, self.factors))

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        factors: list[Any] = [x._with(of) if isinstance(x, Stateful) else x for x in self.factors]
        return functools.reduce(operator.mul, factors)

    @property
    def _is_factor(self) -> bool:
        return all(isinstance(x, Stateful) and x._is_factor for x in self.factors)

    def _text(self) -> str:
        return infix(" * ", PRODUCT, self.factors, Stateful)


class StatefulMap(Stateful):
    """A function of the value of one stateful schedule."""

    schedule: Stateful

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.schedule.rules

    def _mapped(self, value: jax.Array) -> jax.Array:
        """The result for a value of the schedule."""
        raise NotImplementedError

    def _combine(self, values: Iterator[jax.Array], t: jax.Array) -> jax.Array:
        return self._mapped(self.schedule._combine(values, t))

    @property
    def _is_factor(self) -> bool:
        return False


class StatefulClip(StatefulMap):
    """`a.clip(low, high)`; None means no bound."""

    low: Number | None
    high: Number | None

    def _mapped(self, value: jax.Array) -> jax.Array:
        return clipped(value, self.low, self.high)

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        quiet = self.schedule._with(of)
        if isinstance(quiet, Schedule):
            return quiet.clip(self.low, self.high)
        return self._mapped(real(quiet))

    @property
    def _is_factor(self) -> bool:
        return self.schedule._is_factor

    def _text(self) -> str:
        return f"{owner(self.schedule)}.clip({options(low=self.low, high=self.high)})"


class StatefulPower(StatefulMap):
    """`a ** exponent`."""

    _binds = POWER

    exponent: Number

    def _mapped(self, value: jax.Array) -> jax.Array:
        return power(value, real(self.exponent))

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        return self.schedule._with(of) ** self.exponent

    @property
    def _is_factor(self) -> bool:
        return self.schedule._is_factor

    def _text(self) -> str:
        return f"{operand(self.schedule, POWER)} ** {text(self.exponent)}"


class StatefulExponential(StatefulMap):
    """`base ** a`, for a positive number."""

    _binds = POWER

    base: Leaf = form_field(LOGARITHM)

    def _mapped(self, value: jax.Array) -> jax.Array:
        return growth(self.base, value)

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        return number_in(self, "base") ** self.schedule._with(of)

    def _text(self) -> str:
        return f"{text(number_in(self, 'base'))} ** {operand(self.schedule, POWER)}"


class StatefulQuotient(StatefulMap):
    """`dividend / a`."""

    _binds = PRODUCT

    dividend: Number

    def _mapped(self, value: jax.Array) -> jax.Array:
        return divided(real(self.dividend), value)

    def _with(self, of: Callable[[Rule], Any]) -> Any:
        quiet = self.schedule._with(of)
        zero = not isinstance(quiet, Schedule) and quiet == 0
        require(not zero, f"`... / stateful`: the divisor `{self.schedule}` is zero.")
        return self.dividend / quiet

    def _text(self) -> str:
        return f"{text(self.dividend)} / {operand(self.schedule, PRODUCT)}"


def at_first(x: Any) -> Any:
    """Return the schedule that applies while no rule acts; a number is returned unchanged."""
    return x._at_first() if isinstance(x, Stateful) else x


def _product(*factors: Any) -> Stateful:
    if not all(isinstance(x, Stateful) or is_operand(x) for x in factors):
        return NotImplemented
    require_one_rate(factors)
    flat: list[Schedule | Stateful | Number] = []
    for x in factors:
        if isinstance(x, StatefulProduct):
            flat.extend(x.factors)
        else:
            flat.append(x if isinstance(x, Stateful) else factor(x))
    return StatefulProduct(tuple(flat))
