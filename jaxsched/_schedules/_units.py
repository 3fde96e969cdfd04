"""Lengths given in epochs, examples, tokens or fractions, converted to optimizer steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from jaxsched._core._require import flag, one_of, refuse, require
from jaxsched._schedules._batch_ramp import BatchRamp
from jaxsched._schedules._counter import counter
from jaxsched._schedules._schedule import Schedule

WHOLE = (int, np.integer)
REAL = (*WHOLE, float, np.floating, Fraction)

_FLAGS = ("drop_remainder", "flush_epoch")
_CLOCKS = ("examples", "tokens", "epochs")
_RUNS_ON = "If `batch_size` is a schedule, batches continue into the next epoch."
_NO_EPOCH = (
    "`Units(flush_epoch=True)` needs epochs that end, but with drop_remainder=None batches "
    "continue into the next epoch. Set drop_remainder=True or drop_remainder=False."
)


StepsOf = Callable[[Fraction], Fraction]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
    """Converts epochs, examples, tokens and fractions of a run to optimizer steps.

        examples in a step = batch_size * accumulation
        tokens in a step   = examples in a step * sequence_length

    A method takes an amount and returns its length in optimizer steps. Epochs, examples and tokens
    are rounded down, so that a budget is never exceeded. A fraction of a run is rounded up, so that
    a short warmup has at least one step in a short run. Amounts are exact: `0.3` means three
    tenths.

    Args:
      batch_size: examples per batch; or an integer schedule over the optimizer steps, see
        `Schedule.integer`, which has an end.
      dataset_size: examples per epoch.
      accumulation: batches per optimizer step.
      sequence_length: tokens per example.
      total_steps: optimizer steps of the run, the default whole for `fraction`.
      drop_remainder: handling of the short batch at the end of an epoch. True: it is dropped.
        False: it is a batch like the others, the default of torch's `DataLoader` and Keras' `fit`.
        None: there is none, because batches continue into the next epoch.
      flush_epoch: handling of batches that are still accumulated at the end of an epoch. True: they
        make an optimizer step of their own, as in the trainers of Hugging Face and NeMo. False: the
        next epoch continues with them, as `optax.MultiSteps` and `accumulate` do.

    Raises:
      ValueError: a number is not a positive integer; a flag is not True or False; `flush_epoch` is
        True although batches continue into the next epoch; or `batch_size` is a schedule that is
        unbounded, is not an integer schedule, or is given together with `drop_remainder`.

    Example:
      >>> units = Units(batch_size=32, dataset_size=50_000, sequence_length=512, total_steps=9_000)
      >>> units.epochs(3), units.examples(10_000), units.tokens(1e9), units.fraction(0.05)
      (4687, 312, 61035, 450)
      >>> units.epochs(3) == Units(batch_size=8, accumulation=4, dataset_size=50_000).epochs(3)
      True
      >>> Units(batch_size=32, dataset_size=100, drop_remainder=False).epochs(8)
      32
      >>> loop = dict(batch_size=8, dataset_size=100, accumulation=4, drop_remainder=False)
      >>> Units(**loop).epochs(3), Units(**loop, flush_epoch=True).epochs(3)
      (9, 12)
      >>> Units(batch_size=32, dataset_size=50_000).steps_per_epoch
      1562.5
      >>> ramp = piecewise_constant([32, 64], [1000]).take(1000).integer("floor")
      >>> units = Units(batch_size=ramp)
      >>> units.examples(96_000), float(units.clock("examples")(1500))
      (2000, 64000.0)
    """

    batch_size: int | Schedule | None = None
    dataset_size: int | None = None
    accumulation: int = 1
    sequence_length: int | None = None
    total_steps: int | None = None
    drop_remainder: bool | None = None
    flush_epoch: bool = False

    def __post_init__(self) -> None:
        if self.drop_remainder is not None:
            flag("Units", "drop_remainder", self.drop_remainder)
        run_on = flag("Units", "flush_epoch", self.flush_epoch) and self.drop_remainder is None
        require(not run_on, _NO_EPOCH)
        for name, value in {**vars(self)}.items():
            if name == "batch_size" and callable(value):
                runs_on = self.drop_remainder is None
                must = refuse("Units", "drop_remainder", "be None", self.drop_remainder, _RUNS_ON)
                require(runs_on, must)
                BatchRamp(value)  # raises if it is not one
            elif name not in _FLAGS and (value is not None or name == "accumulation"):
                object.__setattr__(self, name, _whole("Units", name, value, least=1))

    @property
    def steps_per_epoch(self) -> float:
        """The optimizer steps of an epoch, which need not be a whole number.

        If the schedule `f` is a function of the epoch, which is a real number here,
        `f.faster(1 / units.steps_per_epoch)` is the same schedule as a function of the step.

        Raises:
          ValueError: `dataset_size` or `batch_size` is not given, or `batch_size` is a schedule.
        """
        constant = not callable(self.batch_size)
        require(constant, "`steps_per_epoch` needs a constant batch size. Use `clock('epochs')`.")
        return float(self._of_epochs("steps_per_epoch")(Fraction(1)))

    def clock(self, unit: str) -> Schedule:
        """Returns what is consumed before each step, as a clock for `schedule.on(clock)`.

        If the batch size is a number, the clock is a `counter`. If it is a schedule, the clock is
        linear between the steps at which the batch size changes.

        Args:
          unit: "examples", "tokens" or "epochs".

        Raises:
          ValueError: `unit` is another word, or a size that it needs is not given.
        """
        one_of("clock", "unit", unit, _CLOCKS)
        if unit == "epochs" and not callable(self.batch_size):
            return counter(1 / self.steps_per_epoch)
        (batch,) = self._known("clock", "batch_size")
        scale = Fraction(self.accumulation)
        if unit == "tokens":
            scale *= self._known("clock", "sequence_length")[0]
        if unit == "epochs":
            scale /= self._known("clock", "dataset_size")[0]
        return BatchRamp(batch).clock(scale) if callable(batch) else counter(float(batch * scale))

    def epochs(self, n: float) -> int:
        """Returns the steps of `n` epochs: floor(n * batches / accumulation).

        An epoch has dataset_size / batch_size batches: rounded down if `drop_remainder` is True,
        rounded up if it is False, and not rounded if it is None. If `flush_epoch` is True, an epoch
        has a whole number of steps: floor(n * ceil(batches / accumulation)).

        Raises:
          ValueError: `n` is not a number of at least 0, or is less than one step.
        """
        return _steps("epochs", n, self._of_epochs("epochs"))

    def examples(self, n: float) -> int:
        """Returns the steps that consume `n` examples: floor(n / (batch_size * accumulation)).

        Raises:
          ValueError: `n` is not a number of at least 0, or is less than one step.
        """
        return _steps("examples", n, self._of_examples("examples"))

    def tokens(self, n: float) -> int:
        """Returns the steps that consume `n` tokens, for examples of `sequence_length` tokens.

        Raises:
          ValueError: `n` is not a number of at least 0, or is less than one step.
        """
        _, length = self._known("tokens", "batch_size", "sequence_length")
        of_examples = self._of_examples("tokens")
        return _steps("tokens", n, lambda tokens: of_examples(tokens / length))

    def fraction(self, x: float, of: int | None = None) -> int:
        """Returns the steps of a fraction of `of` steps: ceil(x * of). None means `total_steps`.

        If several parts make up a run, compute the last part as the total minus the others. Each
        part is rounded up by itself, so their sum may be longer than the run.

        Raises:
          ValueError: `x` is not in [0, 1].
        """
        if of is None:
            (of,) = self._known("fraction", "total_steps")
        steps = _exact("fraction", x) * _whole("Units.fraction", "of", of, least=0)
        require(float(x) <= 1, refuse("Units.fraction", "x", "be in [0, 1]", x))
        return math.ceil(steps)

    def _of_epochs(self, method: str) -> StepsOf:
        """Return the function from epochs to the exact number of steps."""
        size, batch = self._known(method, "dataset_size", "batch_size")
        if self.drop_remainder is None:
            of_examples = self._of_examples(method)
            return lambda epochs: of_examples(epochs * size)
        steps = Fraction(size // batch if self.drop_remainder else -(-size // batch))
        steps /= self.accumulation
        each = Fraction(math.ceil(steps)) if self.flush_epoch else steps
        return lambda epochs: epochs * each

    def _of_examples(self, method: str) -> StepsOf:
        """Return the function from examples to the exact number of steps."""
        (batch,) = self._known(method, "batch_size")
        if callable(batch):
            ramp = BatchRamp(batch)
            return lambda examples: ramp.steps(examples / self.accumulation)
        return lambda examples: examples / (batch * self.accumulation)

    def _known(self, method: str, *names: str) -> tuple[Any, ...]:
        missing = [f"{name}=..." for name in names if getattr(self, name) is None]
        require(not missing, f"`{method}` needs `Units({', '.join(missing)})`.")
        return tuple(getattr(self, name) for name in names)


def _steps(method: str, amount: Any, steps_of: StepsOf) -> int:
    """Return the whole steps of an amount."""
    steps = steps_of(_exact(method, amount))
    some = amount == 0 or steps >= 1
    part = "" if some else f"It is {float(steps):.3g} of one."
    must = "make an optimizer step or more"
    require(some, refuse(f"Units.{method}", "n", must, amount, part))
    return int(steps)


def _exact(method: str, amount: Any) -> Fraction:
    """Return an amount as it is written: the float 0.3 is slightly less than three tenths."""
    call, name = f"Units.{method}", "x" if method == "fraction" else "n"
    real = isinstance(amount, REAL) and not isinstance(amount, bool)
    valid = real and 0 <= amount < float("inf")
    require(valid, refuse(call, name, "be a finite number of at least 0", amount))
    return Fraction(str(amount))


def _whole(call: str, name: str, value: Any, least: int) -> int:
    fits = isinstance(value, WHOLE) and not isinstance(value, bool) and value >= least
    require(fits, refuse(call, name, f"be an integer of at least {least}", value))
    return int(value)
