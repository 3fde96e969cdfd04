"""Search spaces: lists of schedules made by a factory, from lists or ranges of its arguments.

A population is a list of schedules, which remembers the arguments of each. Two populations are
joined with `+`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsched._core._padded import size
from jaxsched._core._require import finite, length, positive, refuse, require
from jaxsched._search._contract import require_key
from jaxsched._search._population import Population


class Range(NamedTuple):
    """The numbers from `low` to `high`, both included; integers if both are ints."""

    low: float
    high: float
    log: bool

    def __repr__(self) -> str:
        return f"{'log_' if self.log else ''}uniform({self.low}, {self.high})"

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, fraction: float) -> float:
        """The number that has this fraction of the range below it."""
        # An integer has the width from itself to the next one.
        low, high = self.low, self.high + 1 if self.whole else self.high
        value = low * (high / low) ** fraction if self.log else low + (high - low) * fraction
        within = min(max(value, self.low), self.high)
        return math.floor(within) if self.whole else shortest(within)


def uniform(low: float, high: float) -> Range:
    """A uniform range: numbers from `low` to `high` with equal probability.

    Args:
      low: smallest number.
      high: largest number, above `low`. If both are ints, ints are drawn.

    Returns:
      A range for `random_search` and `bayesian_search`.

    Raises:
      ValueError: `low` is not below `high`.

    Example:
      >>> uniform(0.0, 0.1)
      uniform(0.0, 0.1)
    """
    return _range("uniform", low, high, log=False)


def log_uniform(low: float, high: float) -> Range:
    """A log-uniform range: numbers from `low` to `high`, uniform in their logarithm.

        low * (high / low)**u,  u uniform in [0, 1]

    Args:
      low: smallest number, > 0.
      high: largest number, above `low`. If both are ints, ints are drawn.

    Returns:
      A range for `random_search` and `bayesian_search`.

    Raises:
      ValueError: `low` is not above zero, or not below `high`.

    Example:
      >>> log_uniform(1e-4, 1e-1)
      log_uniform(0.0001, 0.1)
    """
    positive(
        "log_uniform", "low", low, remedy="For a range that contains zero, use `uniform(...)`."
    )
    return _range("log_uniform", low, high, log=True)


def grid(factory: Callable[..., Any], /, **given: Any) -> list[Any]:
    """Returns a schedule for every combination of the given argument values.

    Args:
      factory: a function that returns a schedule, or anything that `stack` takes.
      **given: for each argument of the factory, a list of values or one value. The last argument
        varies fastest.

    Returns:
      A list of the factory's results. It remembers the arguments of each for `Sweep.leaderboard`.

    Raises:
      ValueError: a list is empty, or the factory has no such argument.

    Example:
      >>> for schedule in grid(linear, init_value=[1.0, 0.1], end_value=0.0, steps=[10, 20]):
      ...     print(schedule)
      linear(1.0, 0.0, 10)
      linear(1.0, 0.0, 20)
      linear(0.1, 0.0, 10)
      linear(0.1, 0.0, 20)
    """
    lists = spaces("grid", factory, given)
    for name, space in lists.items():
        if isinstance(space, Range):
            raise ValueError(refuse("grid", name, "be values", space, "Or use `random_search`."))
    rows = itertools.product(*lists.values())
    return Population.by(factory, (dict(zip(lists, row, strict=True)) for row in rows))


def random_search(
    factory: Callable[..., Any], key: ArrayLike, n: int, /, **ranges: Any
) -> list[Any]:
    """Returns schedules with randomly drawn argument values.

    Args:
      factory: a function that returns a schedule, or anything that `stack` takes.
      key: a random key, or an int to make one from.
      n: number of schedules, at least 1.
      **ranges: for each argument of the factory, `uniform(low, high)`, `log_uniform(low, high)`, a
        list of choices, or one value.

    Returns:
      A list of the factory's results, which remembers the arguments of each. With the same key, a
      larger `n` adds to the same results.

    Raises:
      ValueError: `n` is not a positive int, a list is empty, or the factory has no such argument.

    Example:
      >>> random_search(cosine, 0, 2, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=100)
      [cosine(0.3364669, 0.0, 100), cosine(0.0010516748, 0.0, 100)]

    References:
      Bergstra and Bengio, Random search for hyper-parameter optimization, 2012, JMLR 13.
    """
    n = int(length("random_search", "n", n, least=1))
    lists = drawn_from("random_search", factory, ranges)
    key = require_key("random_search", key)
    row = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (len(ranges),)))
    drawn = np.asarray(row(np.arange(size(n))), float)[:n]
    places = (dict(zip(lists, us, strict=True)) for us in drawn)
    return Population.by(factory, ({k: _at(lists[k], u) for k, u in us.items()} for us in places))


def spaces(call: str, factory: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the space of each argument: a range, or a list of values."""
    require(callable(factory), refuse(call, "factory", "be a function", factory))
    signature = inspect.signature(factory)
    try:
        signature.bind_partial(**given)  # first check unknown arguments, then missing ones
        signature.bind(**given)
    except TypeError as error:
        name = getattr(factory, "__name__", "factory")
        takes = f"It takes {', '.join(signature.parameters)}."
        raise ValueError(f"`{call}({name}, ...)`: {error}. {takes}") from None
    return {name: x if isinstance(x, Range) else values(call, name, x) for name, x in given.items()}


def drawn_from(call: str, factory: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Like `spaces`, but refuse a pair of numbers, which was probably meant as a range."""
    for name, x in given.items():
        pair = isinstance(x, tuple) and not isinstance(x, Range) and len(x) == 2
        remedy = "For a range, use `uniform(low, high)` or `log_uniform(low, high)`."
        require(not pair, refuse(call, name, "be a range, a list or one value", x, remedy))
    return spaces(call, factory, given)


def values(call: str, name: str, given: Any) -> list[Any]:
    """Return the values to choose from: those of a list, or the only one."""
    if not isinstance(given, (list, tuple, range, np.ndarray, jax.Array)) or np.ndim(given) == 0:
        return [plain(given)]
    if len(given) == 0:
        raise ValueError(refuse(call, name, "not be empty", given))
    return [*map(plain, given)]


def plain(x: Any) -> Any:
    """Return a number in an array as a plain number; anything else unchanged."""
    if not isinstance(x, (np.generic, np.ndarray, jax.Array)) or x.ndim > 0:
        return x
    number = x.item()
    return shortest(number) if isinstance(number, float) else number


def _at(space: Range | list[Any], fraction: float) -> Any:
    """Return the entry with this fraction of a range, or of a list, below it."""
    if isinstance(space, Range):
        return space.at(fraction)
    return space[min(int(fraction * len(space)), len(space) - 1)]


def _range(call: str, low: float, high: float, log: bool) -> Range:
    low, high = (plain(x) for x in (low, high))  # integers of an array count as ints too
    finite(call, "low", low)
    finite(call, "high", high)
    require(low < high, f"`{call}(low=..., high=...)` is empty: low={low!r} >= high={high!r}.")
    return Range(low, high, log)


def shortest(x: float) -> float:
    """Return the number with the fewest digits that has the same value in a schedule."""
    return float(str(np.dtype(jnp.result_type(float)).type(x)))
