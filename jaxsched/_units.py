"""Lengths said in epochs, examples, tokens or fractions, and counted in optimizer steps."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from jaxsched._require import flag, refuse, require

WHOLE = (int, np.integer)
REAL = (*WHOLE, float, np.floating, Fraction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
    """What an optimizer step consumes, so that lengths can be said in other units.

        examples in a step = batch_size * accumulation
        tokens in a step   = examples in a step * sequence_length

    A method takes an amount and returns the optimizer steps that it lasts for, rounded down: a
    budget is never exceeded. Amounts are exact: `0.3` is three tenths.

    Args:
      batch_size: examples in a batch.
      dataset_size: examples in an epoch.
      accumulation: batches in an optimizer step.
      sequence_length: tokens in an example.
      total_steps: optimizer steps of the run, of which a fraction is one if nothing else is said.
      drop_remainder: what becomes of the short batch at the end of an epoch. True: it is left out.
        False: it is a batch like the others, as in torch's `DataLoader` and Keras' `fit` if nothing
        else is said. None: there is none, for batches run on into the next epoch.

    Raises:
      ValueError: a number is not a positive integer.

    Example:
      >>> units = Units(batch_size=32, dataset_size=50_000, sequence_length=512, total_steps=9_000)
      >>> units.epochs(3), units.examples(10_000), units.tokens(1e9), units.fraction(0.05)
      (4687, 312, 61035, 450)
      >>> units.epochs(3) == Units(batch_size=8, accumulation=4, dataset_size=50_000).epochs(3)
      True
      >>> Units(batch_size=32, dataset_size=100, drop_remainder=False).epochs(8)
      32
    """

    batch_size: int | None = None
    dataset_size: int | None = None
    accumulation: int = 1
    sequence_length: int | None = None
    total_steps: int | None = None
    drop_remainder: bool | None = None

    def __post_init__(self) -> None:
        if self.drop_remainder is not None:
            flag("Units", drop_remainder=self.drop_remainder)
        for name, value in {**vars(self)}.items():
            if name != "drop_remainder" and (value is not None or name == "accumulation"):
                object.__setattr__(self, name, _whole("Units", name, value, least=1))

    def epochs(self, n: float) -> int:
        """The steps of `n` epochs: floor(n * batches / accumulation).

        An epoch has dataset_size / batch_size batches: rounded down if `drop_remainder` is True, up
        if it is False, a real number if it is None.

        Raises:
          ValueError: `n` is not a number of at least 0, or makes less than one step.
        """
        size, batch = self._known("epochs", "dataset_size", "batch_size")
        batches = Fraction(size, batch)
        if self.drop_remainder is not None:
            batches = Fraction(size // batch if self.drop_remainder else -(-size // batch))
        return _steps("epochs", n, batches / self.accumulation)

    def examples(self, n: float) -> int:
        """The steps that consume `n` examples: floor(n / (batch_size * accumulation)).

        Raises:
          ValueError: `n` is not a number of at least 0, or makes less than one step.
        """
        (batch,) = self._known("examples", "batch_size")
        return _steps("examples", n, Fraction(1, batch * self.accumulation))

    def tokens(self, n: float) -> int:
        """The steps that consume `n` tokens, of examples of `sequence_length` each.

        Raises:
          ValueError: `n` is not a number of at least 0, or makes less than one step.
        """
        batch, length = self._known("tokens", "batch_size", "sequence_length")
        return _steps("tokens", n, Fraction(1, batch * self.accumulation * length))

    def fraction(self, x: float, of: int | None = None) -> int:
        """The steps of a part of `of` steps: floor(x * of). None is `total_steps`.

        Raises:
          ValueError: `x` is not in [0, 1], or makes less than one step.
        """
        if of is None:
            (of,) = self._known("fraction", "total_steps")
        steps = _steps("fraction", x, Fraction(_whole("Units.fraction", "of", of, least=0)))
        require(float(x) <= 1, refuse("Units.fraction", "x", "be in [0, 1]", x))
        return steps

    def _known(self, method: str, *names: str) -> tuple[int, ...]:
        missing = [f"{name}=..." for name in names if getattr(self, name) is None]
        require(not missing, f"`{method}` needs `Units({', '.join(missing)})`.")
        return tuple(getattr(self, name) for name in names)


def _steps(method: str, amount: Any, each: Fraction) -> int:
    """The whole steps of an amount, given those of one."""
    call, name = f"Units.{method}", "x" if method == "fraction" else "n"
    real = isinstance(amount, REAL) and not isinstance(amount, bool)
    valid = real and 0 <= amount < float("inf")
    require(valid, refuse(call, name, "be a finite number of at least 0", amount))
    # By its decimal text: the float 0.3 is a little less than three tenths.
    steps = Fraction(str(amount)) * each
    some = amount == 0 or steps >= 1
    part = "" if some else f"It is {float(steps):.3g} of one."
    require(some, refuse(call, name, "make an optimizer step or more", amount, part))
    return int(steps)


def _whole(call: str, name: str, value: Any, least: int) -> int:
    fits = isinstance(value, WHOLE) and not isinstance(value, bool) and value >= least
    require(fits, refuse(call, name, f"be an integer of at least {least}", value))
    return int(value)
