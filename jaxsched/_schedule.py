"""A schedule is a pure, total function of the step that is also data.

A curve, placed in time and value, joined to others. Every schedule is a frozen pytree: its numbers
are the leaves, its structure is static. So the same object is called like any `optax.Schedule`,
passes through `jit` as an argument, through `vmap` as a population and through `grad` in its
floats, and prints as the expression that builds it.

This file holds what all schedules share: the call, and the operators that join them. The nodes
which the operators build are in `_algebra.py` and `_cycle.py`, the curves in `_curves.py`.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched import _clock
from jaxsched._clock import Length
from jaxsched._require import length, nonzero

if TYPE_CHECKING:
    from jaxsched._stateful._protocol import Stateful

N = TypeVar("N")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def node(cls: type[N]) -> type[N]:
    """Make a class a frozen pytree with identity `==` and `hash`, which is what `jit` needs.

    Fields are leaves or children, unless their metadata says `static`. Nothing is validated here:
    unflattening rebuilds nodes around tracers. The factories validate.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    data = tuple(f.name for f in fields if f.name not in static)
    keys = tuple(map(jax.tree_util.GetAttrKey, data))

    def flatten(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        own = vars(x).__getitem__
        return tuple(map(own, data)), tuple(map(own, static)) if static else ()

    def flatten_with_keys(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, structure = flatten(x)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Any) -> Any:
        new = object.__new__(cls)
        vars(new).update(zip(data, children, strict=True))
        vars(new).update(zip(static, structure, strict=True))
        return new

    # Not `register_dataclass`: in jax 0.10.2 the structures of two such classes are equal if their
    # fields are, and a compiled program of one is now and then taken for one of the other.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


class Schedule:
    """A pure, total function of the step: integer steps of any shape to floats of that shape.

    `schedule.steps` is the step from which its value is held, or None: it never is. Operators and
    the methods below join schedules; one of your own is `from_function(f)`, not a subclass.

    Operators bind as everywhere in Python: first methods, then `*` and `/`, then `+` and `-`, and
    `>>` last. So `0.5 * warmup >> decay` halves the warmup alone, and `warmup >> decay + 0.01` and
    `warmup >> decay.hold(22)` change the decay alone. For the whole chain write parentheses:
    `0.5 * (warmup >> decay)`. `describe` and `plot` mark a step where two pieces do not meet.
    """

    __array_ufunc__: ClassVar[None] = None  # so that `numpy_scalar * schedule` asks the schedule

    def __call__(self, step: ArrayLike) -> jax.Array:
        """The value at `step`.

        Args:
          step: int, or integer array of any shape, counted in optimizer steps. Below 0 it is read
            as 0, beyond 2^31 - 1 as 2^31 - 1.

        Returns:
          float32 (float64 under x64) of the shape of `step`.

        Raises:
          TypeError: `step` is not an integer, or the schedule is of a class that is no pytree.
          ValueError: the schedule is stacked: call it under `jax.vmap`.
        """
        if isinstance(step, int) and not isinstance(step, bool):
            step = np.int32(min(max(step, 0), _clock.LAST))
            return _called(_resident(self), step)
        if not isinstance(step, jax.Array):
            step = np.asarray(step)
        if not jnp.issubdtype(step.dtype, jnp.integer):
            raise TypeError(f"a schedule takes an integer step, got {step!r}")
        if isinstance(step, np.ndarray):
            step = np.clip(step, 0, _clock.LAST).astype(np.int32)
        return _called(self, step)

    if TYPE_CHECKING:  # a field of some nodes, derived in others

        @property
        def steps(self) -> Length | None:
            """The step from which the value is held, or None: it never is."""
            ...

    def _at(self, t: jax.Array) -> jax.Array:
        """The value at clock time `t`, see `_clock.py`."""
        raise NotImplementedError

    def _stretched(self, steps: Length) -> Schedule:
        """The same schedule over another length."""
        raise ValueError(
            f"`{self}` cannot be stretched. A curve can, or a chain that ends in one; "
            "stretch the parts before joining them."
        )

    def __rshift__(self, other: Any) -> Schedule:
        from jaxsched._algebra import Then

        return Then.of(self, as_schedule(">>", other))

    def __rrshift__(self, other: Any) -> Schedule:
        return as_schedule(">>", other) >> self

    @overload
    def __mul__(self, other: Stateful) -> Stateful: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __mul__(self, other: Any) -> Schedule: ...
    def __mul__(self, other: Any) -> Any:
        from jaxsched._algebra import Product

        return Product.of(self, other) if is_operand(other) else NotImplemented

    def __rmul__(self, other: Any) -> Schedule:
        from jaxsched._algebra import Product

        return Product.of(other, self) if is_operand(other) else NotImplemented

    def __truediv__(self, divisor: ArrayLike) -> Schedule:
        return self * (1 / nonzero("schedule / divisor", divisor=divisor))

    def __add__(self, other: Any) -> Schedule:
        from jaxsched._algebra import Sum

        return Sum.of(self, other) if is_operand(other) else NotImplemented

    def __radd__(self, other: Any) -> Schedule:
        from jaxsched._algebra import Sum

        return Sum.of(other, self) if is_operand(other) else NotImplemented

    def __sub__(self, other: Any) -> Schedule:
        from jaxsched._algebra import Product

        if not is_operand(other):
            return NotImplemented
        return self + (Product.of(-1.0, other) if callable(other) else -other)

    def __rsub__(self, other: Any) -> Schedule:
        return other + -self if is_operand(other) else NotImplemented

    def __neg__(self) -> Schedule:
        return -1.0 * self

    def clip(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Schedule:
        """The value, held between `low` and `high`: min(max(value, low), high). None: no bound.

        Example:
          >>> decay = exponential_decay(1.0, decay_rate=0.5, decay_steps=1).clip(low=0.2)
          >>> print(decay(jnp.arange(4)))
          [1.   0.5  0.25 0.2 ]
        """
        from jaxsched._algebra import Clip

        return Clip.of(self, low, high)

    def take(self, steps: ArrayLike) -> Schedule:
        """The first `steps` steps, then held: a(min(t, steps)). It ends at `steps`."""
        from jaxsched._algebra import Take

        return Take(self, _clock.held(length("take", steps=steps)))

    def shift(self, steps: ArrayLike) -> Schedule:
        """The same, `steps` later: a(t - steps), the first value before. Negative: earlier."""
        from jaxsched._algebra import Shift

        return Shift.of(self, steps)

    def faster(self, rate: ArrayLike) -> Schedule:
        """The same, `rate` times as fast: a(t * rate), also between the steps of `a`.

        Below 1 it is slower. An int is exact at every step; a real rate makes times real, which
        float32 resolves to one part in 2^24.

        Example:
          >>> print(linear(1.0, 0.0, 4).faster(2)(jnp.arange(4)))
          [1.  0.5 0.  0. ]
        """
        from jaxsched._algebra import Faster

        return Faster.of(self, rate)

    def hold(self, steps: ArrayLike) -> Schedule:
        """Each value for so many steps: a(t // steps). A schedule by epochs, held through each.

        Example:
          >>> print(linear(1.0, 0.0, 2).hold(3)(jnp.arange(8)))
          [1.  1.  1.  0.5 0.5 0.5 0.  0. ]
        """
        from jaxsched._algebra import Hold

        return Hold(self, _clock.held(length("hold", steps=steps, least=1)))

    def stretch(self, steps: ArrayLike) -> Schedule:
        """The same schedule over another length, in steps.

        A curve changes its `steps`; a chain changes its last piece, so that a warmup keeps its
        length, and is cut off if it is longer than `steps` without it; a schedule that is scaled or
        clipped, or that has a number added, stretches its child.

        Raises:
          ValueError: the schedule is none of these.
        """
        steps = _clock.held(length("stretch", steps=steps))
        stretched = self._stretched(steps)
        fits = stretched.steps == steps
        return stretched if isinstance(fits, bool) and fits else stretched.take(steps)

    def cycle(
        self, mult: ArrayLike = 1, decay: ArrayLike = 1.0, cycles: ArrayLike | None = None
    ) -> Schedule:
        """Start again at each end.

            cycle i = a.stretch(a.steps * mult**i) * decay**i,  i = 0, 1, 2, ...

        The cost does not grow with the number of cycles.

        Args:
          mult: each cycle is `mult` times as long as the one before. An int of at least 1 is exact
            at every step; a positive float starts cycle i at the ceiling of the real number
            a.steps * (mult**i - 1) / (mult - 1), and below 1 holds the end of the last cycle of at
            least one step. The number 1 itself stretches nothing, so that anything with an end can
            be cycled; it is another tree than a `mult` that grows.
          decay: each cycle is `decay` times as high as the one before, > 0.
          cycles: hold the end of this many cycles; None never stops.

        Raises:
          ValueError: the schedule never ends, or cannot be stretched and `mult` is not 1.

        Example:
          >>> saw = linear(1.0, 0.0, 2).cycle(mult=2, decay=0.5)
          >>> print(saw(jnp.arange(8)))
          [1.    0.5   0.5   0.375 0.25  0.125 0.25  0.219]

        References:
          Loshchilov and Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983, section 3.
        """
        from jaxsched._cycle import cycle

        return cycle(self, mult, decay, cycles)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the fields, and nothing that is on a device."""
        return {name: x for name, x in vars(self).items() if name != _RESIDENT}

    def __repr__(self) -> str:
        from jaxsched._show._expression import expression

        return expression(self) if dataclasses.is_dataclass(self) else object.__repr__(self)

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the curve, and the expression."""
        from jaxsched._plot._notebook import page

        return page(self)


def _called(schedule: Schedule, step: ArrayLike) -> jax.Array:
    try:
        return _evaluate(schedule, step)
    except TypeError as error:
        foreign = [x for x in jax.tree.leaves(schedule) if isinstance(x, Schedule)]
        if not foreign:
            raise
        raise TypeError(
            f"a schedule is data, and `{type(foreign[0]).__name__}`, a subclass of Schedule, is no "
            "pytree. Write a function of the step instead, and `from_function(function)`."
        ) from error


class Endless(Schedule):
    """What never ends."""

    @property
    def steps(self) -> None:
        return None


@jax.jit
def _evaluate(schedule: Schedule, step: jax.Array) -> jax.Array:
    require_unstacked(schedule)
    return schedule._at(_clock.read(step))


_config = cast(Any, jax.config)  # its attributes are made at run time
_RESIDENT = "_resident"  # beside the fields, so that it is no part of the tree


def _resident(schedule: Schedule) -> Schedule:
    """The schedule with its numbers on the device: a call sends nothing but the step.

    Arrays on the devices of one mesh cannot be arguments under another mesh.
    """
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:  # in what is being traced, where numbers are constants
        return schedule
    place = mesh, _config.jax_default_device, _config.jax_enable_x64
    kept = vars(schedule).get(_RESIDENT, {})
    if place in kept:
        return kept[place]
    if any(isinstance(leaf, (Tracer, Schedule)) for leaf in jax.tree.leaves(schedule)):
        return schedule
    with jax.ensure_compile_time_eval():
        resident = jax.tree.map(jnp.asarray, schedule)
    vars(schedule)[_RESIDENT] = {**kept, place: resident}
    return resident


def require_unstacked(x: Any, place: str = "", rank: int = 0) -> None:
    """Raise if a number in a node, or a list in it, has more axes than one schedule's has."""
    if dataclasses.is_dataclass(x) and not isinstance(x, jax.Array):
        for field in dataclasses.fields(x):
            place = f"`{field.name}` of `{type(x).__name__}`"
            require_unstacked(getattr(x, field.name), place, field.metadata.get("rank", 0))
    elif isinstance(x, tuple):
        for child in cast(tuple[Any, ...], x):
            require_unstacked(child, place, rank)
    elif isinstance(x, jax.Array) and x.ndim != rank:
        raise ValueError(
            f"a stacked schedule is called under `jax.vmap`: {place} has shape {x.shape}, "
            f"one schedule has {'a number' if rank == 0 else 'a list'} there."
        )


def is_operand(x: Any) -> bool:
    """Can `x` stand beside a schedule, or a stateful one, in a product or a sum?"""
    return isinstance(x, (Schedule, numbers.Real, jax.Array, np.ndarray)) or is_function(x)


def is_function(x: Any) -> bool:
    """Is `x` somebody's function of the step? A type, such as a dtype, is none."""
    return callable(x) and not isinstance(x, type) and not hasattr(x, "update")


AnySchedule = Schedule | Callable[..., Any]


def as_stateless(call: str, x: AnySchedule) -> Schedule:
    """`x` as a schedule, for a library that keeps no state of ours."""
    if callable(x) and hasattr(x, "update"):
        raise ValueError(
            f"`{call}` takes a schedule without a state, got the stateful `{x!r}`, whose state is "
            "that of an optax optimizer. Give it the schedule alone, and use the other library's "
            "own plateau."
        )
    return as_schedule(call, x)


def as_schedule(call: str, x: AnySchedule) -> Schedule:
    """`x` as a schedule: itself, or `from_function(x)` for an optax schedule or any function."""
    from jaxsched._compose import from_function

    if isinstance(x, Schedule):
        return x
    if callable(x) and hasattr(x, "update"):
        raise ValueError(
            f"`{call}` takes schedules, got the stateful `{x!r}`, which only multiplies: "
            "`(warmup >> decay) * reduce_on_plateau()`."
        )
    if not is_function(x):
        raise ValueError(
            f"`{call}` takes schedules, got {x!r}. A number is a schedule as `constant({x!r})`."
        )
    return from_function(x)
