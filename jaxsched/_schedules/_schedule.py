"""The base class of schedules: pure, total functions of the step that are also data.

Every schedule is a frozen pytree: its numbers are the leaves, and its structure is static. So a
schedule can be called like any `optax.Schedule`, passed to `jit` as an argument, mapped over with
`vmap` as a population, and differentiated with `grad` with respect to its floats. It prints as the
expression that builds it.

This file has the base class and its operators. The nodes that operators and methods build are in
files of their own, which register them with `builds`. Every node answers the same questions, and
asks its children for their part: When does it end? What is its value? Where does it change? How is
it written?
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core import _clock
from jaxsched._core._clock import Length
from jaxsched._core._fields import kind_of
from jaxsched._core._node import RESIDENT, require_unstacked
from jaxsched._core._numerics import real
from jaxsched._core._require import (
    Number,
    finite,
    length,
    nonzero,
    refuse,
)
from jaxsched._core._writing import (
    Written,
)
from jaxsched._schedules._marks import Jump, Phase

R_co = TypeVar("R_co", covariant=True)

F = TypeVar("F", bound=Callable[..., Any])

# What builds the nodes of some operators and methods, by the name of the operation. Their files
# import this one, so they register here.
_built_by: dict[str, Callable[..., Any]] = {}


class _Reacting(Protocol[R_co]):
    """A stateful operand. Its product with a schedule is stateful."""

    @property
    def rules(self) -> Any: ...
    def __rmul__(self, other: Any) -> R_co: ...


def builds(operation: str) -> Callable[[F], F]:
    """Register the function that an operator or a method of `Schedule` calls."""

    def registered(function: F) -> F:
        _built_by[operation] = function
        return function

    return registered


class Schedule(Written):
    """A schedule is a pytree and a function of the training step.

    Call it with an integer or an integer array; it returns floats of the same shape, or int32 after
    `integer`. It has a finite value at every step. `schedule.steps` is the step from which its
    value is held, or None if it is unbounded. Operators and the methods below join and change
    schedules. For a schedule of your own, write a subclass with a formula, see `factory`, or use
    `from_function(f)` for any function of the step.

    Operators bind as everywhere in Python: methods first, then `**`, then `*` and `/`, then `+` and
    `-`, and `>>` last. So `0.5 * warmup >> decay` halves only the warmup, and
    `warmup >> decay + 0.01` and `warmup >> decay.hold(22)` change only the decay. For the whole
    chain, use parentheses: `0.5 * (warmup >> decay)`. `describe` and `plot` mark a step at which
    two pieces do not meet.

    The value of a power or a quotient is always finite. If it would overflow, it is the largest
    float. If the numbers of a divisor are known, a divisor that is zero at some step is refused. If
    they are traced, the quotient at that step is the largest float, or 0 for 0 / 0. `0 ** 0` is 1,
    and a negative value raised to a fraction is read as 0. A gradient that would be infinite is 0.
    """

    __array_ufunc__: ClassVar[None] = None  # so that `numpy_scalar * schedule` calls `__rmul__`

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
            if field.name == "steps" and not kind_of(field).is_length:
                raise TypeError(
                    f"`steps` of `{cls.__name__}` is a length, which has no gradient. Declare it "
                    "as `steps: int = length_field()`."
                )

    def __call__(self, step: ArrayLike) -> jax.Array:
        """Returns the value at `step`.

        Args:
          step: int, or integer array of any shape, in optimizer steps. A value below 0 is read as
            0, and a value above 2^31 - 1 as 2^31 - 1.

        Returns:
          float32 (float64 under x64) of the shape of `step`.

        Raises:
          TypeError: `step` is not an integer.
          ValueError: the schedule is stacked. Call it under `jax.vmap`.
        """
        if isinstance(step, int) and not isinstance(step, bool):
            step = np.int32(min(max(step, 0), _clock.LAST))
            return _evaluate(_resident(self), step)
        if not isinstance(step, jax.Array):
            step = np.asarray(step)
        if not jnp.issubdtype(step.dtype, jnp.integer):
            raise TypeError(f"a schedule takes an integer step, got {step!r}")
        if isinstance(step, np.ndarray):
            step = np.clip(step, 0, _clock.LAST).astype(np.int32)
        return _evaluate(_computed(self), step)

    if TYPE_CHECKING:  # a field of some nodes, derived in others

        @property
        def steps(self) -> Length | None:
            """The step from which the value is held, or None if the schedule is unbounded."""
            ...
    else:
        steps = None

    def at(self, t: jax.Array) -> jax.Array:
        """Returns the value at time `t`.

        `t` is in [0, 2^31 - 1]; it is int32, or a float between steps.
        """
        raise NotImplementedError

    def _returned(self, value: jax.Array) -> jax.Array:
        """The value as a call returns it."""
        return real(value)

    def _as_time(self, t: jax.Array) -> jax.Array:
        """The value as a time for another schedule: not negative; int32 if it is an integer."""
        value = self.at(t)
        return jnp.where(value > 0, value, 0)  # NaN too becomes 0

    def _changes(self) -> Iterable[int]:
        """The steps at which something changes, in order; some may occur more than once."""
        return [] if self.steps is None else [int(self.steps)]

    def _phases(self, total: int) -> list[Phase]:
        """The pieces of a chain, up to a step; a wrapper has the phases of its chain."""
        return []

    def _joins(self) -> Iterator[Jump]:
        """The steps at which two pieces of a chain meet, with the values on both sides."""
        return iter(())

    def _grouped(self) -> Schedule:
        """The schedule in the form for computation, with pieces of equal structure grouped."""

        def is_inside(x: Any) -> bool:
            return isinstance(x, Schedule) and x is not self

        return jax.tree.map(lambda x: x._grouped() if is_inside(x) else x, self, is_leaf=is_inside)

    def _stretched(self, steps: Length) -> Schedule:
        """The same schedule with another length."""
        raise ValueError(
            f"`{self}` cannot be stretched. Only a curve or a chain that ends in a curve can; "
            "stretch the parts before joining them."
        )

    def __rshift__(self, other: Any) -> Schedule:
        return _built_by[">>"](self, other)

    def __rrshift__(self, other: Any) -> Schedule:
        return _built_by[">>"](other, self)

    @overload
    def __mul__(self, other: _Reacting[R_co]) -> R_co: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __mul__(self, other: Any) -> Schedule: ...
    def __mul__(self, other: Any) -> Any:
        return _built_by["*"](self, other) if is_operand(other) else NotImplemented

    def __rmul__(self, other: Any) -> Schedule:
        return _built_by["*"](other, self) if is_operand(other) else NotImplemented

    def __truediv__(self, divisor: Any) -> Schedule:
        if hasattr(divisor, "update"):
            return NotImplemented
        if callable(divisor):
            return _built_by["/"](self, divisor)
        return self * (1 / nonzero("schedule / divisor", "divisor", divisor))

    def __rtruediv__(self, other: Any) -> Schedule:
        return _built_by["/"](other, self) if is_operand(other) else NotImplemented

    def __pow__(self, exponent: Any) -> Schedule:
        return _built_by["**"](self, exponent) if is_operand(exponent) else NotImplemented

    def __rpow__(self, base: Any) -> Schedule:
        return _built_by["**"](base, self) if is_operand(base) else NotImplemented

    def __add__(self, other: Any) -> Schedule:
        return _built_by["+"](self, other) if is_operand(other) else NotImplemented

    def __radd__(self, other: Any) -> Schedule:
        return _built_by["+"](other, self) if is_operand(other) else NotImplemented

    def __sub__(self, other: Any) -> Schedule:
        if not is_operand(other):
            return NotImplemented
        return self + (_built_by["*"](-1.0, other) if callable(other) else -other)

    def __rsub__(self, other: Any) -> Schedule:
        return other + -self if is_operand(other) else NotImplemented

    def __neg__(self) -> Schedule:
        return -1.0 * self

    def clip(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Schedule:
        """Limits the value to [`low`, `high`]: min(max(value, low), high). None: no limit.

        Example:
          >>> decay = exponential_decay(1.0, decay_rate=0.5, decay_steps=1).clip(low=0.2)
          >>> print(np.asarray(decay(jnp.arange(4))).round(3))
          [1.   0.5  0.25 0.2 ]
        """
        return _built_by["clip"](self, low, high)

    def integer(self, rounding: str, multiple: ArrayLike = 1) -> Schedule:
        """Rounds the value to an integer, or to a multiple of the integer `multiple`.

            value(t) = multiple * rounded(a(t) / multiple)

        The result is int32. Use it for counts: batches per step, sequence lengths, layers, unrolled
        steps. Such a schedule is accepted wherever a library asks for integers, for example as
        `optax.MultiSteps(every_k_schedule=...)`. Its gradient is zero.

        Operators and other methods read the value as a real number and return real numbers, so call
        `integer` last; only `stretch` keeps integers. A hyperparameter of `inject` is a real number
        too.

        Args:
          rounding: "floor", "ceil", "half_up" or "half_even". The last two round to the nearest
            multiple; a value exactly in the middle goes up, or to the even multiple. Python's
            `int(x)` is "floor" for positive values, and its `round(x)` is "half_even".
          multiple: the result is a multiple of this integer of at least 1.

        Returns:
          A schedule whose values are int32, saturated at 2^31 - 1 on both sides. They are exact if
          a(t) is between -2^24 and 2^24 (2^53 under x64).

        Raises:
          ValueError: `rounding` is another word; `multiple` is not an integer of at least 1; or a
            schedule with an end has values so large that float32 cannot tell neighbouring multiples
            apart.

        Example:
          >>> length = linear(64.0, 256.0, 6).integer("floor", multiple=16)
          >>> print(length(jnp.arange(8)))
          [ 64  96 128 160 192 224 256 256]
          >>> tx = optax.MultiSteps(optax.sgd(0.1), linear(1.0, 4.0, 100).integer("half_up"))

        References:
          The curriculum of DeepSpeed has rounding "floor" and multiples of `difficulty_step`.
        """
        return _built_by["integer"](self, rounding, multiple)

    def take(self, steps: ArrayLike) -> Schedule:
        """Ends the schedule at step `steps`, and holds that value: a(min(t, steps))."""
        return _built_by["take"](self, steps)

    def shift(self, steps: ArrayLike) -> Schedule:
        """Delays the schedule by `steps`: a(t - steps). Negative steps make it earlier.

        Before the start the first value is held.
        """
        return _built_by["shift"](self, steps)

    def faster(self, rate: ArrayLike) -> Schedule:
        """Speeds the schedule up by the factor `rate`: the value at step t is a(t * rate).

        Here `a` is this schedule; t * rate need not be an integer. A rate below 1 slows it down. An
        int is exact at every step. With a real rate, times are real numbers, which float32 resolves
        to one part in 2^24.

        Example:
          >>> print(linear(1.0, 0.0, 4).faster(2)(jnp.arange(4)))
          [1.  0.5 0.  0. ]
        """
        return _built_by["faster"](self, rate)

    def hold(self, steps: ArrayLike) -> Schedule:
        """Holds each value for `steps` steps: a(t // steps), for example for a schedule per epoch.

        Example:
          >>> print(linear(1.0, 0.0, 2).hold(3)(jnp.arange(8)))
          [1.  1.  1.  0.5 0.5 0.5 0.  0. ]
        """
        return _built_by["hold"](self, steps)

    def on(self, clock: AnySchedule) -> Schedule:
        """Reads the schedule at the times that a clock tells: a(max(clock(t), 0)).

        The clock is a schedule or another function of the step. With batches of 512, `counter(512)`
        counts samples, and `units.clock("tokens")` counts tokens. So the lengths of the schedule
        are samples, tokens or epochs. Use it for a whole chain, with its warmup:
        `(warmup >> decay).on(clock)`. Inside `>>` or `cycle`, the clock starts at its step 0
        with each piece.

        If the clock is an integer schedule, see `integer`, its times are exact. Any other clock
        tells real times, which float32 resolves to one part in 2^24; they may exceed 2^31. A
        boundary between two steps takes effect at the exact real time, without rounding. A table or
        a function of the step is read at the time rounded down. NaN is read as 0.

        If the clock never goes back, the new schedule ends at the first step at which the clock
        reaches the end of the original schedule. Otherwise it ends when the clock ends. If the
        numbers are traced, the compiled program searches for the end step. This costs 31
        evaluations of the clock, wherever the length of the schedule is needed. So use `on` last.
        With traced numbers, the clock is assumed never to go back. The result of `on` cannot be
        stretched.

        Args:
          clock: a schedule, or a function of the step.

        Raises:
          ValueError: `clock` is neither; or the schedule has cycles or chains that are longer than
            2^31 - 1 and so cannot be counted.

        Example:
          >>> ramp = piecewise_linear([0.0, 640.0, 6400.0], [0, 20, 110])  # batches of 32, then 64
          >>> rate = (linear(0.0, 1.0, 320) >> linear(1.0, 0.0, 6080)).on(ramp)
          >>> print(rate.steps, np.asarray(rate(jnp.array([5, 10, 20, 65, 110]))).round(3))
          110 [0.5   1.    0.947 0.474 0.   ]
        """
        return _built_by["on"](self, clock)

    def stretch(self, steps: ArrayLike) -> Schedule:
        """Changes the length of the schedule to `steps`.

        A curve changes its `steps`. A chain changes its last piece, so that a warmup keeps its
        length. If the earlier pieces alone are longer than `steps`, the chain is cut off. To change
        all pieces in proportion, use `proportional` first. If a schedule was multiplied by a
        number, clipped, or added to a number, `stretch` acts on the original schedule.

        Raises:
          ValueError: the schedule is anything other than a curve, a chain, or one of them scaled,
            clipped or shifted.
        """
        steps = _clock.held(length("stretch", "steps", steps))
        stretched = self._stretched(steps)
        fits = stretched.steps == steps
        return stretched if isinstance(fits, bool) and fits else stretched.take(steps)

    def proportional(self) -> Schedule:
        """Lets `stretch` and `cycle` change all pieces of a chain in proportion.

        After this call, `stretch` and `cycle(mult=...)` change all pieces. Otherwise they change
        the last piece only, so that a warmup keeps its length. The schedule itself stays the same.

        Raises:
          ValueError: the schedule is unbounded.

        Example:
          >>> triangle = linear(0.0, 1.0, 2) >> linear(1.0, 0.0, 2)
          >>> print(triangle.proportional().stretch(8)(jnp.arange(9)))
          [0.   0.25 0.5  0.75 1.   0.75 0.5  0.25 0.  ]
          >>> print(triangle.proportional().cycle(mult=2)(jnp.array([2, 8, 20])))
          [1. 1. 1.]
        """
        return _built_by["proportional"](self)

    def cycle(
        self, mult: ArrayLike = 1, decay: ArrayLike = 1.0, cycles: ArrayLike | None = None
    ) -> Schedule:
        """Repeats the schedule: it begins again at each end.

            cycle i = a.stretch(a.steps * mult**i) * decay**i,  i = 0, 1, 2, ...

        Each new cycle is a warm restart. The cost does not depend on the number of cycles.

        Args:
          mult: factor from the length of one cycle to the next. An int of at least 1 is exact at
            every step. With a positive float, cycle i starts at the ceiling of the real number
            a.steps * (mult**i - 1) / (mult - 1). If `mult` is below 1, the cycles get shorter, and
            the end of the last cycle that has at least one step is held. With `mult=1` nothing is
            stretched, so any schedule with an end can be cycled. The result then has another tree
            structure than with any other `mult`.
          decay: factor from the height of one cycle to the next, > 0. Below 1, it lowers the end
            value too.
          cycles: number of cycles, after which the end is held; None: unbounded.

        Raises:
          ValueError: the schedule is unbounded, or cannot be stretched although `mult` is not 1.

        Example:
          >>> saw = linear(1.0, 0.0, 2).cycle(mult=2, decay=0.5)
          >>> print(np.asarray(saw(jnp.arange(8))).round(3))
          [1.    0.5   0.5   0.375 0.25  0.125 0.25  0.219]

        References:
          Loshchilov and Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983, section 3.
        """
        return _built_by["cycle"](self, mult, decay, cycles)


@jax.jit
def _evaluate(schedule: Schedule, step: jax.Array) -> jax.Array:
    require_unstacked(schedule)
    value = schedule.at(_clock.read(step))
    if jnp.shape(value) != step.shape:
        raise ValueError(
            f"`{type(schedule).__name__}.at(t)` must return a value for each time. For a time of "
            f"shape {step.shape} it returns shape {jnp.shape(value)}. Use "
            "`jnp.full_like(t, value, dtype=float)`."
        )
    return schedule._returned(value)


_config = cast(Any, jax.config)  # its attributes are created at run time


def _computed(schedule: Schedule) -> Schedule:
    """Return the schedule in the form for computation; for plain numbers it is built once."""
    kept = vars(schedule).get(RESIDENT, {})
    if None in kept:
        return kept[None]
    grouped = schedule._grouped()
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves((schedule, grouped))):
        vars(schedule)[RESIDENT] = {**kept, None: grouped}
    return grouped


def _resident(schedule: Schedule) -> Schedule:
    """Return the schedule with its numbers on the device, so that a call sends only the step.

    Arrays on the devices of one mesh cannot be arguments under another mesh.
    """
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:  # while tracing, where numbers are constants
        return _computed(schedule)
    place = mesh, _config.jax_default_device, _config.jax_enable_x64
    kept = vars(schedule).get(RESIDENT, {})
    if place in kept:
        return kept[place]
    grouped = _computed(schedule)
    if any(isinstance(leaf, (Tracer, Schedule)) for leaf in jax.tree.leaves(grouped)):
        return grouped
    with jax.ensure_compile_time_eval():
        resident = jax.tree.map(jnp.asarray, grouped)
    vars(schedule)[RESIDENT] = {**vars(schedule).get(RESIDENT, {}), place: resident}
    return resident


class Grouped(Schedule):
    """A schedule in the form for computation, with pieces of equal structure grouped."""

    form: Any

    @property
    def steps(self) -> Length | None:
        return self.form.steps

    def at(self, t: jax.Array) -> jax.Array:
        return self.form.at(t)

    def _stretched(self, steps: Length) -> Schedule:
        return Grouped(self.form.stretched(steps))

    def _text(self) -> str:
        return f"<{type(self.form).__name__.lower()}>"


class Function(Schedule):
    """A user's function of the step; its arrays are leaves if it is a pytree."""

    function: Callable[..., Any]

    def at(self, t: jax.Array) -> jax.Array:
        if jnp.issubdtype(t.dtype, jnp.floating):
            t = _clock.read(jnp.floor(t))
        # One `vmap` per axis: flattened steps would lose their sharding.
        function = functools.reduce(lambda f, _: jax.vmap(f), range(t.ndim), self.function)
        return real(function(t))

    def _text(self) -> str:
        function = self.function
        while isinstance(function, jax.tree_util.Partial):
            function = function.func
        return f"<{getattr(function, '__qualname__', repr(function))}>"


def functions_in(schedule: Schedule) -> list[Function]:
    """Return the functions of a user in a schedule."""
    found = jax.tree.leaves(schedule, is_leaf=lambda x: isinstance(x, Function))
    return [x for x in found if isinstance(x, Function)]


def from_function(function: Callable[..., Any]) -> Schedule:
    """Turns any function of the step, such as an optax schedule, into a schedule.

    The function is called with an int32 scalar of at least 0, and under `vmap` for an array of
    steps. So it need not support negative steps or arrays.

    Args:
      function: jittable, int32 scalar -> number. If it is a pytree, its arrays are leaves.

    Returns:
      An unbounded schedule. Call it with an integer or an integer array; it returns float32 of the
      same shape. If `function` is a schedule, it is returned unchanged.

    Raises:
      ValueError: `function` is not callable, or does not map an integer scalar to a number.

    Example:
      >>> print(from_function(optax.linear_schedule(1.0, 0.0, 4)).take(2)(jnp.arange(5)))
      [1.   0.75 0.5  0.5  0.5 ]
    """
    if isinstance(function, Schedule):
        return function
    if not callable(function):
        raise ValueError(refuse("from_function", "function", "be callable", function))
    opaque = jax.tree_util.all_leaves([function])
    schedule = Function(jax.tree_util.Partial(function) if opaque else function)
    for leaf in jax.tree.leaves(schedule):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int, complex)):
            must = "have numbers as its leaves, because it is a pytree"
            remedy = f"One is {leaf!r}. Hide it: `from_function(lambda step: function(step))`."
            raise ValueError(refuse("from_function", "function", must, function, remedy))
    try:
        value = jax.eval_shape(function, jax.ShapeDtypeStruct((), np.int32))
    except Exception as error:
        must = "map an int32 scalar to a number under `jit`"
        raise ValueError(refuse("from_function", "function", must, function, str(error))) from error
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and jnp.issubdtype(leaves[0].dtype, jnp.complexfloating):
        remedy = f"It returns {value}. Return its real part, `jnp.real(...)`."
        raise ValueError(
            refuse("from_function", "function", "return a real number", function, remedy)
        )
    if len(leaves) != 1 or leaves[0].shape != () or leaves[0].dtype == bool:
        returns = f"It returns {value}."
        raise ValueError(
            refuse("from_function", "function", "return one number", function, returns)
        )
    return schedule


def operand(call: str, name: str, x: Any) -> Schedule | Number:
    """Return an operand of a schedule, checked: a schedule, or a plain number."""
    return as_schedule(call, x) if callable(x) else finite(call, name, x)


def is_number(x: Any) -> bool:
    """Return whether `x` is a number or an array."""
    return isinstance(x, (numbers.Real, jax.Array, np.ndarray))


def is_operand(x: Any) -> bool:
    """Return whether `x` can be an operand of a schedule in a product or a sum."""
    return is_number(x) or is_function(x)


def is_function(x: Any) -> bool:
    """Return whether `x` is a function of the step. A type, such as a dtype, is not."""
    return callable(x) and not isinstance(x, type) and not hasattr(x, "update")


AnySchedule = Schedule | Callable[..., Any]


def as_schedule(call: str, x: AnySchedule) -> Schedule:
    """Return `x` as a schedule: itself, or `from_function(x)` for a function of the step."""
    if isinstance(x, Schedule):
        return x
    if callable(x) and hasattr(x, "update"):
        raise ValueError(
            f"`{call}` takes schedules, got the stateful `{x!r}`. Put the schedule in parentheses: "
            "`(warmup >> decay) * reduce_on_plateau()`."
        )
    if hasattr(x, "init") and hasattr(x, "update"):
        raise ValueError(
            f"`{call}` takes schedules, got an optimizer. Pass the schedule that it was built from."
        )
    if not is_function(x):
        raise ValueError(
            f"`{call}` takes schedules, got {x!r}. A number is a schedule as `constant({x!r})`."
        )
    return from_function(x)
