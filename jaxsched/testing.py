"""The laws of schedules as assertions, to test your own schedules.

    from jaxsched import testing
    testing.assert_schedule_laws(my_schedule)

Each law is one function; `assert_schedule_laws` checks all of them.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core._clock import LAST
from jaxsched._core._numerics import real
from jaxsched._schedules._integer import Integer
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule

# The names of branches and transfers in XLA programs.
_FORBIDDEN = re.compile(r"\b(conditional|custom-call|infeed|outfeed|send|recv|case)\(")


def assert_same(a: Any, b: Any) -> None:
    """Asserts that two schedules are the same: the same tree, with bit-equal leaves.

    Args:
      a: a schedule, or any pytree.
      b: another one.

    Raises:
      AssertionError: the trees or two leaves differ.

    Example:
      >>> assert_same(linear(1.0, 0.0, 4) >> constant(0.0), linear(1.0, 0.0, 4) >> constant(0.0))
    """
    chex.assert_trees_all_equal_structs(a, b)
    for path, x, y in _paired(a, b):
        x, y = np.asarray(jnp.asarray(x)), np.asarray(jnp.asarray(y))
        same = x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        assert same, f"the leaves at `{path}` differ: {x!r} and {y!r}"


def assert_total(schedule: AnySchedule, steps: Iterable[int] = ()) -> None:
    """Asserts that a schedule has a finite value, of the step's shape, at every step.

    The value is a float, or int32 if the schedule is made by `.integer(...)`.

    Args:
      schedule: the schedule, or a function of the step.
      steps: steps to test, in addition to the first and last steps and the schedule's boundaries.

    Raises:
      AssertionError: a value is not finite, or its shape or dtype is wrong.
    """
    schedule = as_schedule("assert_total", schedule)
    some = _steps(schedule, steps)
    dtype = jnp.int32 if isinstance(schedule, Integer) else jnp.result_type(float)
    values = schedule(some)
    assert bool(jnp.all(jnp.isfinite(values))), f"not finite at {some[~np.isfinite(values)]}"
    shapes = [jax.eval_shape(schedule, jnp.asarray(x)) for x in (some.reshape(-1, 1), some[:0])]
    called = [values, schedule(int(some[0])), schedule(np.uint32(2**32 - 1)), *shapes]
    for value, shape in zip(called, (some.shape, (), (), (len(some), 1), (0,)), strict=True):
        chex.assert_shape(value, shape)
        assert value.dtype == dtype, f"a value is {value.dtype}, not {dtype}"
        assert not value.weak_type, "a value is weakly typed"
    assert schedule(-(2**40)) == schedule(0), "a step below 0 is not read as 0"
    assert schedule(2**40) == schedule(LAST), "a step above 2^31 - 1 is not read as 2^31 - 1"


def assert_held(schedule: AnySchedule) -> None:
    """Asserts that a schedule with an end keeps its value from step `schedule.steps` on.

    Args:
      schedule: the schedule, or a function of the step. An unbounded schedule always passes.

    Raises:
      AssertionError: the value changes after `schedule.steps`.
    """
    schedule = as_schedule("assert_held", schedule)
    if schedule.steps is None:
        return
    end = int(schedule.steps)
    after = np.asarray([end, end + 1, end + 2, end + 1000, LAST]).clip(0, LAST)
    values = np.asarray(schedule(after))
    assert np.all(values == values[0]), f"held from {end}, yet {values} at {after}"


def assert_traceable(schedule: AnySchedule) -> None:
    """Asserts that a schedule has the same values when it is eager, jitted, mapped or unpickled.

    Args:
      schedule: the schedule, or a function of the step. A schedule with a function that cannot be
        pickled is not pickled.

    Raises:
      AssertionError: two ways to call it disagree, or a new number causes a new compilation.
    """
    schedule = as_schedule("assert_traceable", schedule)
    some = _steps(schedule)
    eager = schedule(some)
    _assert_close(jax.jit(schedule)(some), eager)
    _assert_close(jax.vmap(schedule)(some), eager)
    _assert_close(jax.lax.map(schedule, jnp.asarray(some)), eager)

    traces: list[None] = []

    @jax.jit
    def called(schedule: Schedule, step: jax.Array) -> jax.Array:
        traces.append(None)
        return schedule(step)

    _assert_close(called(schedule, some), eager)
    called(jax.tree.map(_other_number, schedule), some)
    assert len(traces) == 1, "new numbers caused a new compilation"
    try:
        text = pickle.dumps(schedule)
    except (pickle.PicklingError, AttributeError, TypeError):
        return  # it contains a function that cannot be pickled
    assert_same(pickle.loads(text), schedule)


def assert_differentiable(schedule: AnySchedule, steps: Iterable[int] = ()) -> None:
    """Asserts that the gradient with respect to every float of a schedule is finite.

    Args:
      schedule: the schedule, or a function of the step.
      steps: steps to test, in addition to the first and last steps and the schedule's boundaries.

    Raises:
      AssertionError: a gradient is not finite.
    """
    schedule = as_schedule("assert_differentiable", schedule)
    some = _steps(schedule, steps)
    floats, treedef = jax.tree.flatten(schedule)
    arrays = [jnp.asarray(x) for x in floats]
    moving = [i for i, x in enumerate(arrays) if jnp.issubdtype(x.dtype, jnp.floating)]

    def values(numbers: list[jax.Array]) -> jax.Array:
        leaves = dict(enumerate(arrays)) | dict(zip(moving, numbers, strict=True))
        return real(treedef.unflatten([leaves[i] for i in range(len(arrays))])(some))

    if not moving:
        return
    jacobian = jax.jit(jax.jacrev(values))(
        [arrays[i].astype(jnp.result_type(float)) for i in moving]
    )
    for i, slope in zip(moving, jacobian, strict=True):
        path = jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path(schedule)[0][i][0])
        assert bool(jnp.all(jnp.isfinite(slope))), (
            f"the gradient in `{path}` is not finite: {slope}"
        )


def assert_compiles_clean(function: Any, *arguments: Any) -> None:
    """Asserts that a function compiles to a program without branches, callbacks or transfers.

    Args:
      function: a schedule, or any jittable function.
      *arguments: its arguments; a schedule is called with a step by default.

    Raises:
      AssertionError: the compiled program has a conditional, or leaves the device.
    """
    arguments = arguments or (jnp.asarray(7, jnp.int32),)
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None, "the compiler returns no text"
    found = sorted({match.group(1) for match in _FORBIDDEN.finditer(text)})
    assert not found, f"the compiled program contains {found}"


def assert_schedule_laws(schedule: AnySchedule, steps: Iterable[int] = ()) -> None:
    """Asserts that a schedule is total, held, traceable, differentiable, and compiles clean.

    Args:
      schedule: the schedule, or a function of the step.
      steps: steps to test, in addition to the first and last steps and the schedule's boundaries.

    Raises:
      AssertionError: a law does not hold.

    Example:
      >>> assert_schedule_laws(linear(0.0, 1.0, 10) >> cosine(1.0, 0.0, 90))
    """
    schedule = as_schedule("assert_schedule_laws", schedule)
    assert_total(schedule, steps)
    assert_held(schedule)
    assert_traceable(schedule)
    assert_differentiable(schedule, steps)
    assert_compiles_clean(schedule)


def _assert_close(actual: jax.Array, expected: jax.Array) -> None:
    atol = 1e-7 * float(np.max(np.abs(expected)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=atol)


def _steps(schedule: Schedule, more: Iterable[int] = ()) -> np.ndarray:
    """Return the first and last steps, and steps around every length that the schedule holds."""
    lengths = [
        int(x)
        for x in jax.tree.leaves(schedule)
        if jnp.ndim(x) == 0 and jnp.issubdtype(jnp.result_type(x), jnp.integer)
    ]
    if schedule.steps is not None:
        lengths.append(int(schedule.steps))
    around = {0, 1, 2, LAST - 1, LAST, *more}
    around |= {n + d for n in lengths for d in (-1, 0, 1)} | {n // 2 for n in lengths}
    return np.asarray(sorted(n for n in around if 0 <= n <= LAST), np.int32)


def _other_number(x: Any) -> Any:
    return type(x)(x + 1) if isinstance(x, (int, float)) and x < LAST else x


def _paired(a: Any, b: Any) -> Iterable[tuple[str, Any, Any]]:
    left = jax.tree_util.tree_flatten_with_path(a)[0]
    for (path, x), y in zip(left, jax.tree.leaves(b), strict=True):
        yield jax.tree_util.keystr(path), x, y
