"""The algebra of schedules once more, in plain Python: exact times, float64 values, a recursion.

It is written from the contract and from the formulas of the docstrings, and shares no code with the
package. The names are the package's names, so one text has a meaning in both: `meaning(text)` here,
`jaxsched.parse(text)` there.

A value is told as an interval, because the package computes in float32. Each node says how far a
float32 result of its own formula may be off, as the law "Exact" does, and the operators carry the
intervals of their children along. What the contract calls exact has an interval of no width.

A time is an int, or a `Fraction` between the steps. Where float32 cannot hold a time between the
steps, all that it may round it to is allowed.
"""

from __future__ import annotations

import itertools
import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

LAST = 2**31 - 1
LARGEST = struct.unpack("f", b"\xff\xff\x7f\x7f")[0]
TINY = 1e-37  # below it, zero is right
ROUNDING = 2.0**-24  # of float32, relative
EXACT = 1e-6  # the law's tolerance, relative
OF_RANGE = 1e-7  # the law's tolerance of a curve that crosses zero, as a part of its range
FOLDING = 2.5e-7  # relative, for each e-folding of an exponential

Time = int | Fraction


class AmbiguousError(Exception):
    """The contract does not decide at which step something ends: float32 cannot tell."""


class UnstretchableError(Exception):
    """Only a curve, or what ends in one, has another length."""


class Told(NamedTuple):
    """A value, and the interval in which a float32 result has to lie."""

    value: float
    low: float
    high: float


def exactly(value: float) -> Told:
    return Told(value, value, value)


def about(value: float, error: float) -> Told:
    """A value and its error; beyond the largest float it is held there, about."""
    error += 0 if value == 0 and error == 0 else TINY if abs(value) < TINY else 0
    low, high = held(value - error), held(value + error)
    if abs(value) > 0.99 * LARGEST:
        low, high = min(low, 0.99 * high), max(high, 0.99 * low)
    return Told(held(value), low, high)


def held(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)


def any_of(first: Told, *others: Told) -> Told:
    """A value of which float32 may take any of several."""
    low, high = (f(x[k] for x in (first, *others)) for f, k in ((min, 1), (max, 2)))
    return Told(first.value, low, high)


def f32(x: float) -> float:
    """A number as a float32 holds it."""
    return struct.unpack("f", struct.pack("f", x))[0]


def fits(t: Time) -> bool:
    """Does float32 hold this time, and all that is taken from it? An int is not rounded."""
    return isinstance(t, int) or (t <= 2**24 and Fraction(f32(float(t))) == t)


def around(t: Time, error: float) -> list[Time]:
    """A time, and the two that are off by a relative error."""
    near = Fraction(error)
    return [t, t * (1 - near), t * (1 + near)]


def rounded(t: Fraction) -> list[Time]:
    """What float32 may make of a time between the steps: what is beside it, by three roundings.

    One rounding is that of the step, one that of the product with the rate, and one of a product.
    """
    if fits(t):
        return [t]
    digit = Fraction(2) ** (math.floor(math.log2(t)) - 23)
    nearest = round(t / digit) * digit
    return [t, *(nearest + k * digit / 2 for k in range(-6, 7))]


# Beyond 2^24 a clock that is real does not tell one step from the next.
UNDECIDED = Told(0.0, -math.inf, math.inf)


def read_at(child: Schedule, t: Time) -> Told:
    """What a child is worth at a time that may be real."""
    if isinstance(t, int):
        return child.at(t)
    return UNDECIDED if t > 2**24 else any_of(*(child.at(x) for x in rounded(t)))


# Nodes.


class Schedule:
    steps: int | None = None

    def __call__(self, step: int) -> Told:
        return self.at(min(max(step, 0), LAST))

    def at(self, t: Time) -> Told:
        raise NotImplementedError

    def over(self, steps: Time) -> Schedule:
        """The schedule over another length, for all but its earlier pieces."""
        raise UnstretchableError(type(self).__name__)

    def turns(self) -> Iterable[int]:
        """Steps where something begins or ends; a selection where there are many."""
        return [] if self.steps is None else [self.steps]

    def __rshift__(self, other: Schedule) -> Schedule:
        return Then([*parts(Then, self), *parts(Then, other)])

    def __mul__(self, other: Any) -> Schedule:
        return Product([*parts(Product, self), *parts(Product, other)])

    def __rmul__(self, other: float) -> Schedule:
        return Product([other, *parts(Product, self)])

    def __truediv__(self, other: Any) -> Schedule:
        return Quotient([self, other]) if isinstance(other, Schedule) else self * (1 / other)

    def __rtruediv__(self, other: float) -> Schedule:
        return Quotient([other, self])

    def __pow__(self, other: Any) -> Schedule:
        return Power([self, other])

    def __rpow__(self, other: float) -> Schedule:
        return Exponential(self, other)

    def __add__(self, other: Any) -> Schedule:
        return Sum([*parts(Sum, self), *parts(Sum, other)])

    def __radd__(self, other: float) -> Schedule:
        return Sum([other, *parts(Sum, self)])

    def __neg__(self) -> Schedule:
        return -1.0 * self

    def __sub__(self, other: Any) -> Schedule:
        return self + -other

    def __rsub__(self, other: float) -> Schedule:
        return other + -self

    def clip(self, low: float | None = None, high: float | None = None) -> Schedule:
        return Clip(self, low, high)

    def integer(self, rounding: str, multiple: int = 1) -> Schedule:
        return Integer(self, rounding, multiple)

    def take(self, steps: int) -> Schedule:
        return Take(self, steps)

    def shift(self, steps: int) -> Schedule:
        return Shift(self, steps)

    def faster(self, rate: float) -> Schedule:
        return FasterWhole(self, rate) if isinstance(rate, int) else FasterReal(self, rate)

    def hold(self, steps: int) -> Schedule:
        return Hold(self, steps)

    def on(self, clock: Schedule) -> Schedule:
        return On(self, clock)

    def stretch(self, steps: int) -> Schedule:
        return Take(self.over(steps), steps)

    def cycle(self, mult: float = 1, decay: float = 1.0, cycles: int | None = None) -> Schedule:
        if isinstance(mult, int) and mult == 1:
            return Repeated(self, decay, cycles)
        self.over(1)
        kind = CycleWhole if isinstance(mult, int) else CycleReal
        return kind(self, mult, decay, cycles)


def parts(kind: type, x: Any) -> list[Any]:
    """Operators of one kind are one node of many."""
    return x.children if isinstance(x, kind) else [x]


def told(x: Any, t: Time) -> Told:
    """What an operand is worth: a schedule, or a number."""
    return x.at(t) if isinstance(x, Schedule) else exactly(f32(x))


def longest(operands: Iterable[Any]) -> int | None:
    """The longer of the schedules, None if one never ends. A plain number has no say."""
    ends = [x.steps for x in operands if isinstance(x, Schedule)]
    return None if None in ends else max(ends)


class Operands(Schedule):
    """What schedules and numbers of one clock are made into."""

    def __init__(self, children: list[Any]):
        self.children = children

    @property
    def steps(self) -> int | None:
        return longest(self.children)

    def over(self, steps: Time) -> Schedule:
        if sum(isinstance(x, Schedule) for x in self.children) > 1:
            return super().over(steps)
        return type(self)([x.over(steps) if isinstance(x, Schedule) else x for x in self.children])

    def turns(self) -> Iterable[int]:
        return [n for x in self.children if isinstance(x, Schedule) for n in x.turns()]


class Product(Operands):
    def at(self, t: Time) -> Told:
        product = told(self.children[0], t)
        for child in self.children[1:]:
            product = times(product, told(child, t))
        return product


def times(a: Told, b: Told) -> Told:
    value = held(a.value * b.value)
    ends = [held(x * y) for x in a[1:] for y in b[1:]]
    # A factor of exactly one, or zero, rounds nothing.
    exact = any(x.low == x.high and abs(x.value) in (0, 1) for x in (a, b))
    error = 0 if exact else ROUNDING * max(map(abs, ends))
    return spread(value, min(ends), max(ends), error)


def spread(value: float, low: float, high: float, error: float) -> Told:
    near = about(value, error)
    return Told(near.value, min(near.low, held(low - error)), max(near.high, held(high + error)))


class Sum(Operands):
    def at(self, t: Time) -> Told:
        terms = [told(child, t) for child in self.children]
        value, low, high = map(math.fsum, zip(*terms, strict=True))
        # Every partial sum is rounded, and none is larger than all terms without their signs.
        size = sum(max(abs(x.low), abs(x.high)) for x in terms)
        exact = sum(x != exactly(0.0) for x in terms) < 2
        error = 0 if exact else ROUNDING * (len(terms) - 1) * size
        return spread(value, low, high, error)


class Quotient(Operands):
    def at(self, t: Time) -> Told:
        a, b = (told(child, t) for child in self.children)
        if b.low <= 0 <= b.high:
            return UNDECIDED
        ends = [held(x / y) for x in a[1:] for y in b[1:]]
        return spread(
            held(a.value / b.value), min(ends), max(ends), 2 * ROUNDING * max(map(abs, ends))
        )


class Power(Operands):
    """a ** b; where a is not above zero, only a whole exponent is decided here."""

    def at(self, t: Time) -> Told:
        a, b = (told(child, t) for child in self.children)
        whole = b.low == b.high == math.floor(b.value)
        if a.low <= 0 and not (whole and (a.high < 0 or a.low == a.high)):
            return UNDECIDED
        if a.value == 0:
            return exactly(0.0 if b.value > 0 else 1.0 if b.value == 0 else LARGEST)
        ends = [to_the(x, y) for x in a[1:] for y in b[1:]]
        folds = max(abs(y * math.log(abs(x))) for x in a[1:] for y in b[1:])
        error = EXACT * max(1.0, folds / 4) * max(map(abs, ends))
        return spread(to_the(a.value, b.value), min(ends), max(ends), error)


def to_the(x: float, y: float) -> float:
    try:
        return held(x**y)
    except OverflowError:
        return LARGEST if x > 0 or y % 2 == 0 else -LARGEST


class Minimum(Operands):
    def over(self, steps: Time) -> Schedule:
        raise UnstretchableError("Minimum")

    def at(self, t: Time) -> Told:
        return Told(*map(min, *(told(child, t) for child in self.children)))


class Maximum(Operands):
    def over(self, steps: Time) -> Schedule:
        raise UnstretchableError("Maximum")

    def at(self, t: Time) -> Told:
        return Told(*map(max, *(told(child, t) for child in self.children)))


class Select(Operands):
    def __init__(self, index: int, children: list[Any]):
        super().__init__(children)
        self.index = index

    def over(self, steps: Time) -> Schedule:
        raise UnstretchableError("Select")

    def at(self, t: Time) -> Told:
        return self.children[self.index].at(t)


class Then(Schedule):
    """a(t) for t < a.steps, else b(t - a.steps)."""

    def __init__(self, children: list[Schedule]):
        self.children, self.starts = children, [0]
        for child in children[:-1]:
            assert child.steps is not None, "what never ends is followed by nothing"
            self.starts.append(self.starts[-1] + child.steps)

    @property
    def steps(self) -> int | None:
        last = self.children[-1].steps
        return None if last is None else min(self.starts[-1] + last, LAST)

    def at(self, t: Time) -> Told:
        k = bisect_right(self.starts, t) - 1
        value = self.children[k].at(t - self.starts[k])
        if fits(t):
            return value
        # Beyond 2^24 float32 rounds the starts too.
        near = [i for i, n in enumerate(self.starts) if abs(n - t) <= 8 * Fraction(ROUNDING) * t]
        return any_of(value, *(self.children[i].at(0) for i in near))

    def over(self, steps: Time) -> Schedule:
        *earlier, last = self.children
        return Then([*earlier, last.over(max(steps - self.starts[-1], 0))])

    def turns(self) -> Iterable[int]:
        each = zip(self.starts, self.children, strict=True)
        return [start + n for start, child in each for n in [0, *child.turns()]]


class One(Schedule):
    """A node with one child."""

    def __init__(self, child: Schedule):
        self.child = child

    @property
    def steps(self) -> int | None:
        return self.child.steps

    def turns(self) -> Iterable[int]:
        return self.child.turns()


class Clip(One):
    def __init__(self, child: Schedule, low: float | None, high: float | None):
        super().__init__(child)
        self.low, self.high = low, high

    def at(self, t: Time) -> Told:
        low = -math.inf if self.low is None else f32(self.low)
        high = math.inf if self.high is None else f32(self.high)
        return Told(*(min(max(x, low), high) for x in self.child.at(t)))

    def over(self, steps: Time) -> Schedule:
        return Clip(self.child.over(steps), self.low, self.high)


class Exponential(One):
    """base ** a: the base is held as its logarithm."""

    def __init__(self, child: Schedule, base: float):
        super().__init__(child)
        self.base = base

    def at(self, t: Time) -> Told:
        exponent = self.child.at(t)
        ends = [to_the(self.base, x) for x in exponent[1:]]
        folds = max(abs(x * math.log(self.base)) for x in exponent[1:])
        error = FOLDING * (1 + folds) * max(ends)
        return spread(to_the(self.base, exponent.value), min(ends), max(ends), error)

    def over(self, steps: Time) -> Schedule:
        return Exponential(self.child.over(steps), self.base)


class Integer(One):
    """A multiple of an integer; where float32 cannot tell which, either of two."""

    def __init__(self, child: Schedule, rounding: str, multiple: int):
        super().__init__(child)
        self.rounding, self.multiple = rounding, multiple

    def at(self, t: Time) -> Told:
        value, low, high = (self._rounded(x) for x in self.child.at(t))
        return Told(value, low, high)

    def _rounded(self, x: float) -> float:
        part = Fraction(x) / self.multiple
        whole = {
            "floor": math.floor(part),
            "ceil": math.ceil(part),
            "half_up": math.floor(part + Fraction(1, 2)),
            "half_even": round(part),
        }
        return float(self.multiple * whole[self.rounding])

    def over(self, steps: Time) -> Schedule:
        return Integer(self.child.over(steps), self.rounding, self.multiple)


class On(One):
    """a(max(clock(t), 0)): exact if the clock is an integer, and otherwise a float32 time."""

    def __init__(self, child: Schedule, clock: Schedule):
        super().__init__(child)
        self.clock = clock

    def at(self, t: Time) -> Told:
        found = self.clock.at(t)
        value, low, high = (min(max(x, 0), LAST) for x in found)
        if isinstance(self.clock, Integer):
            return UNDECIDED if low != high else self.child.at(int(value))
        if high >= 2**24 or high - low > 1:
            return UNDECIDED
        return any_of(*(read_at(self.child, Fraction(x)) for x in (value, low, high)))

    @property
    def steps(self) -> int | None:
        """Of a clock that does not go back, and that comes to every time in the end."""
        end, last = self.child.steps, self.clock.steps
        if end is None or end == LAST:
            return last
        sure, perhaps = (self._first(end, k, last) for k in (1, 2))
        if sure != perhaps:
            raise AmbiguousError("on")
        return sure

    def _first(self, end: int, side: int, last: int | None) -> int | None:
        low, high = -1, LAST if last is None else last
        if self.clock.at(high)[side] < end:
            return last
        while high - low > 1:
            middle = (low + high) // 2
            reached = self.clock.at(middle)[side] >= end
            low, high = (low, middle) if reached else (middle, high)
        return high

    def turns(self) -> Iterable[int]:
        inside = [n for n in self.child.turns() if 0 <= n < LAST]
        found = [self._first(n, 0, None) for n in inside]
        return [*self.clock.turns(), *(n for n in found if n is not None)]


class Take(One):
    def __init__(self, child: Schedule, steps: int):
        super().__init__(child)
        self.length = steps

    @property
    def steps(self) -> int:
        return self.length

    def at(self, t: Time) -> Told:
        return self.child.at(min(t, self.length))

    def turns(self) -> Iterable[int]:
        return [*self.child.turns(), self.length]


class Shift(One):
    def __init__(self, child: Schedule, by: int):
        super().__init__(child)
        self.by = by

    @property
    def steps(self) -> int | None:
        end = self.child.steps
        return None if end is None else min(max(end + self.by, 0), LAST)

    def at(self, t: Time) -> Told:
        return self.child.at(min(max(t - self.by, 0), LAST))

    def turns(self) -> Iterable[int]:
        return [self.by, *(n + self.by for n in self.child.turns())]


class Hold(One):
    def __init__(self, child: Schedule, each: int):
        super().__init__(child)
        self.each = each

    @property
    def steps(self) -> int | None:
        end = self.child.steps
        return None if end is None else min(end * self.each, LAST)

    def at(self, t: Time) -> Told:
        return self.child.at(math.floor(t / Fraction(self.each)))

    def turns(self) -> Iterable[int]:
        return [self.each, *(n * self.each for n in self.child.turns())]


class FasterWhole(One):
    def __init__(self, child: Schedule, rate: int):
        super().__init__(child)
        self.rate = rate

    @property
    def steps(self) -> int | None:
        end = self.child.steps
        return None if end is None else -(-end // self.rate)

    def at(self, t: Time) -> Told:
        return read_at(
            self.child, min(t * self.rate, LAST) if isinstance(t, int) else t * self.rate
        )

    def turns(self) -> Iterable[int]:
        return [-(-n // self.rate) for n in self.child.turns()]


class FasterReal(One):
    """The clock is real, and float32 resolves it to one part in 2^24."""

    def __init__(self, child: Schedule, rate: float):
        super().__init__(child)
        self.rate = Fraction(f32(rate))

    @property
    def steps(self) -> int | None:
        end = self.child.steps
        if end is None:
            return None
        found = {self._first(rate, end) for rate in around(self.rate, 2 * ROUNDING)}
        first = self._first(self.rate, end)
        times = (Fraction(end), first * self.rate, (first - 1) * self.rate)
        if len(found) > 1 and not all(map(fits, times)):
            raise AmbiguousError("faster")
        return first

    @staticmethod
    def _first(rate: Fraction, end: int) -> int:
        return min(math.ceil(end / rate), LAST)

    def at(self, t: Time) -> Told:
        return read_at(self.child, t * self.rate)

    def turns(self) -> Iterable[int]:
        return [math.ceil(n / self.rate) for n in self.child.turns()]


# Cycles.


class Cycle(One):
    """Cycle i is a.over(a.steps * mult**i) * decay**i."""

    def __init__(self, child: Schedule, decay: float, cycles: int | None):
        super().__init__(child)
        self.decay, self.cycles = decay, cycles
        self.first = child.steps
        assert self.first, "what has no steps is not repeated"

    def _start(self, i: int) -> Time:
        raise NotImplementedError

    def _of(self, i: int) -> tuple[Schedule, Time]:
        """Cycle i, and its length."""
        raise NotImplementedError

    def _index(self, t: Time) -> int:
        """The cycle that t is in, if none is the last."""
        low, high = 0, 1
        while math.ceil(self._start(high)) <= t:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if math.ceil(self._start(middle)) <= t else (low, middle)
        return low

    def _last(self) -> int | None:
        return None if self.cycles is None else self.cycles - 1

    @property
    def steps(self) -> int | None:
        last = self._last()
        if self.cycles is None or last is None:
            return None
        return min(math.ceil(self._start(last + 1)), LAST)

    def at(self, t: Time) -> Told:
        i, last = self._index(t), self._last()
        if last is not None and i > last:
            child, length = self._of(last)
            return self._lowered(child.at(length), last)
        child, length = self._of(i)
        return self._lowered(child.at(min(t - self._start(i), length)), i)

    def _lowered(self, told: Told, i: int) -> Told:
        if i == 0 or self.decay == 1:
            return told
        return times(told, power(1.0, self.decay, i))

    def turns(self) -> Iterable[int]:
        last = self._last()
        inside = list(self.child.turns())[:8]
        found = [0, 1, 2, 3, 10] if last is None else [0, 1, 2, last // 2, last, last + 1]
        found += [self._index(t) for t in (10**4, 10**6, LAST - 1)] if last is None else []
        starts = [math.ceil(self._start(i)) for i in found]
        return [start + n for start in starts if start <= LAST for n in [0, *inside]]


class Repeated(Cycle):
    """All of one length."""

    def _start(self, i: int) -> Time:
        return self.first * i

    def _index(self, t: Time) -> int:
        return math.floor(t / Fraction(self.first))

    def _of(self, i: int) -> tuple[Schedule, Time]:
        return self.child, self.first


class CycleWhole(Cycle):
    """An int `mult` is exact at every step."""

    def __init__(self, child: Schedule, mult: int, decay: float, cycles: int | None):
        super().__init__(child, decay, cycles)
        self.mult = mult

    def _start(self, i: int) -> Time:
        # After 40 doublings every clock has ended.
        return self.first * (self.mult ** min(i, 40) - 1) // (self.mult - 1)

    def _of(self, i: int) -> tuple[Schedule, Time]:
        length = self.first * self.mult**i
        return Take(self.child.over(length), length), length


class CycleReal(Cycle):
    """Cycle i starts at the ceiling of a real time, from which the position in it is counted."""

    def __init__(self, child: Schedule, mult: float, decay: float, cycles: int | None):
        super().__init__(child, decay, cycles)
        self.mult, self.starts = Fraction(mult), {}

    def _start(self, i: int) -> Time:
        if i not in self.starts:
            self.starts[i] = whole_if_near(self._sum(i))
        return self.starts[i]

    def _sum(self, i: int) -> Fraction:
        if i * math.log(self.mult) > 40:
            return Fraction(2**60)  # no clock comes so far
        if self.mult == 1:
            return Fraction(self.first * i)
        if i > 300:  # digits by the thousand
            log = math.log1p(float(self.mult - 1))
            return self.first * Fraction(math.expm1(i * log)) / (self.mult - 1)
        return self.first * (self.mult**i - 1) / (self.mult - 1)

    def _length(self, i: int) -> Fraction:
        if i > 300:
            return self.first * Fraction(math.exp(i * math.log1p(float(self.mult - 1))))
        return self.first * self.mult**i

    def _last(self) -> int | None:
        last = super()._last()
        if self.mult >= 1:
            return last
        whole = self._last_of_one_step()
        return whole if last is None else min(last, whole)

    def _last_of_one_step(self) -> int:
        i = math.floor(math.log(self.first) / -math.log(self.mult)) + 2
        while i > 0 and self._length(i) < 1 - Fraction(1e-9):
            i -= 1
        return i

    def _index(self, t: Time) -> int:
        last = self._last() if self.mult < 1 else None
        if last is not None and math.ceil(self._start(last + 1)) <= t:
            return last + 1
        return super()._index(t)

    def _of(self, i: int) -> tuple[Schedule, Time]:
        length = whole_if_near(self._length(i))
        return self.child.over(Fraction(length)), length

    @property
    def steps(self) -> int | None:
        end = super().steps
        last = self._last()
        if end is None or last is None or end == LAST:
            return end
        start = self._start(last + 1)
        if not fits(start):
            near = {math.ceil(x) for x in around(start, EXACT)}
            if len(near) > 1:
                raise AmbiguousError("cycle")
        return end

    def at(self, t: Time) -> Told:
        i, last = self._index(t), self._last()
        known = i if last is None else min(i, last)
        if all(map(fits, (t, self._start(known), self._start(known + 1), self._length(known)))):
            return super().at(t)
        # The law gives the start of a cycle a tolerance. Where it may begin a step earlier or
        # later, both its first value and the last one before it are right. Where it may begin
        # several steps earlier or later, so many values are right that none is decided.
        blur = Fraction(EXACT) * t
        if blur > 1:
            return UNDECIDED
        shifts = [0, *(blur * k / 6 for k in range(-6, 7))]
        starts = {self._begun(t, early) for early in shifts}
        edges = [x for j in range(min(starts) + 1, max(starts) + 1) for x in self._edge(j)]
        return any_of(*(self._placed(t, early) for early in shifts), *edges)

    def _begun(self, t: Time, early: Time) -> int:
        """The cycle that t is in, if all begin so much earlier."""
        i = self._index(t)
        while i > 0 and math.ceil(self._start(i) - early) > t:
            i -= 1
        while (self._last() is None or i <= self._last()) and self._begins(i + 1, t, early):
            i += 1
        return i

    def _begins(self, i: int, t: Time, early: Time) -> bool:
        return math.ceil(self._start(i) - early) <= t

    def _placed(self, t: Time, early: Time) -> Told:
        i, last = self._begun(t, early), self._last()
        if last is not None and i > last:
            return self._edge(last + 1)[0]
        child, length = self._of(i)
        position = min(max(t - self._start(i) + early, 0), length)
        return self._lowered(child.at(position), i)

    def _edge(self, j: int) -> list[Told]:
        """The last value before cycle j, and the first one in it."""
        last = self._last()
        earlier = j - 1 if last is None else min(j - 1, last)
        child, length = self._of(earlier)
        before = self._lowered(child.at(length), earlier)
        begins = last is None or j <= last
        return [before, self._lowered(self._of(j)[0].at(0), j)] if begins else [before]


def whole_if_near(start: Fraction) -> Fraction:
    """A real time within a rounding of a whole step is that step."""
    near = round(start)
    return Fraction(near) if abs(start - near) <= start * Fraction(1e-9) else start


# Curves with an end.


class Curve(Schedule):
    """init * of_init + end * of_end over some steps, held at both ends."""

    scale = 1.0  # the law's factor

    def __init__(self, init_value: float, end_value: float, steps: Time):
        self.init, self.end, self.steps = f32(init_value), f32(end_value), steps

    def over(self, steps: Time) -> Schedule:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other.steps = steps
        return other

    def weights(self, done: float, left: float) -> tuple[float, float]:
        raise NotImplementedError

    def at(self, t: Time) -> Told:
        if t >= self.steps:
            return exactly(self.end)
        if t <= 0 and self.starts:
            return exactly(self.init)
        done, left = Fraction(t) / self.steps, (self.steps - t) / Fraction(self.steps)
        return self.between(float(done), float(left), t)

    starts = True  # is the initial value reached exactly?

    def between(self, done: float, left: float, t: Time) -> Told:
        of_init, of_end = self.weights(done, left)
        value = self.init * of_init + self.end * of_end
        crosses = OF_RANGE * abs(self.end - self.init) if self.init * self.end < 0 else 0
        return about(value, EXACT * self.scale * abs(value) + crosses)

    def turns(self) -> Iterable[int]:
        return [1, math.ceil(self.steps)]


class Linear(Curve):
    def weights(self, done: float, left: float) -> tuple[float, float]:
        return left, done

    def between(self, done: float, left: float, t: Time) -> Told:
        counted = isinstance(self.steps, int)  # in a cycle of real length, it is a real number
        if not counted or not all(float(x).is_integer() for x in (self.init, self.end, t)):
            return super().between(done, left, t)
        value = int(self.init) + (int(self.end) - int(self.init)) * Fraction(t) / int(self.steps)
        # Between whole numbers, over whole steps, it is exact where its value is whole.
        exact = value.denominator == 1 and fits(Fraction(value))
        return exactly(float(value)) if exact else super().between(done, left, t)


class OneMinusSqrt(Curve):
    def weights(self, done: float, left: float) -> tuple[float, float]:
        return left / (1 + math.sqrt(done)), math.sqrt(done)


class Rex(Curve):
    def __init__(self, *placed: Any, beta: float = 0.5):
        super().__init__(*placed)
        self.beta = f32(beta)

    def weights(self, done: float, left: float) -> tuple[float, float]:
        scale = self.beta * done + left
        return left / scale, self.beta * done / scale


class Sigmoid(Curve):
    """A logistic curve, scaled to its ends."""

    def __init__(self, *placed: Any, steepness: float = 10.0, midpoint: float = 0.5):
        super().__init__(*placed)
        self.k, self.middle = f32(steepness), f32(midpoint)
        self.scale = max(1.0, self.k / 2)  # its e-foldings

    def weights(self, done: float, left: float) -> tuple[float, float]:
        def s(x: float) -> float:
            return 1 / (1 + math.exp(-self.k * (x - self.middle)))

        of_end = (s(done) - s(0.0)) / (s(1.0) - s(0.0))
        return 1 - of_end, of_end


class PowerRamp(Curve):
    def __init__(self, *placed: Any, power: float = 2.0):
        super().__init__(*placed)
        self.power = f32(power)
        self.scale = max(1.0, power)

    def weights(self, done: float, left: float) -> tuple[float, float]:
        of_end, of_init = raised(done, left, self.power)
        return of_init, of_end


class Logarithmic(Curve):
    def weights(self, done: float, left: float) -> tuple[float, float]:
        t, whole = done * float(self.steps), math.log1p(float(self.steps))
        return math.log1p(left * float(self.steps) / (1 + t)) / whole, math.log1p(t) / whole


class Tanh(Curve):
    starts = False

    def __init__(self, *placed: Any, low: float = -7.0, high: float = 3.0):
        super().__init__(*placed)
        self.low, self.high = f32(low), f32(high)
        self.scale = max(1.0, 2 * max(abs(low), abs(high)))

    def weights(self, done: float, left: float) -> tuple[float, float]:
        z = 2 * (self.low * left + self.high * done)
        return sigmoid(-z), sigmoid(z)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def raised(a: float, b: float, power: float) -> tuple[float, float]:
    """a**p and 1 - a**p for a + b = 1, without the cancellation that float64 has too."""
    log_a = math.log1p(-b) if b < 0.5 else math.log(a) if a > 0 else -math.inf
    return math.exp(power * log_a), -math.expm1(power * log_a)


class Polynomial(Curve):
    def __init__(self, *placed: Any, power: float = 1.0, k: float | None = None):
        super().__init__(*placed)
        self.power, self.k = f32(power), 1.0 if k is None else f32(k)
        self.scale = max(1.0, self.power) * max(1.0, self.k)

    def weights(self, done: float, left: float) -> tuple[float, float]:
        done, left = raised(done, left, self.k)
        return raised(left, done, self.power)


class Cosine(Curve):
    def __init__(self, *placed: Any, exponent: float | None = None, k: float | None = None):
        super().__init__(*placed)
        self.exponent = 1.0 if exponent is None else f32(exponent)
        self.k = 1.0 if k is None else f32(k)
        self.scale = max(1.0, self.exponent) * max(1.0, self.k)

    def weights(self, done: float, left: float) -> tuple[float, float]:
        done, left = raised(done, left, self.k)
        of_init, of_end = math.sin(math.pi / 2 * left) ** 2, math.sin(math.pi / 2 * done) ** 2
        return raised(of_init, of_end, self.exponent)


class Geometric(Curve):
    def between(self, done: float, left: float, t: Time) -> Told:
        log = math.log(abs(self.end)) - math.log(abs(self.init))
        value = self.init * math.exp(done * log)
        return about(value, EXACT * (1 + abs(log)) * abs(value))


# Curves without an end.


class Counter(Schedule):
    def __init__(self, rate: float):
        self.rate = f32(rate)

    def at(self, t: Time) -> Told:
        value = float(t * Fraction(self.rate))
        exact = value == f32(value) and fits(t) and t <= 2**24
        return exactly(value) if exact else about(value, 2 * ROUNDING * value)


class Constant(Schedule):
    def __init__(self, value: float, steps: Time | None = None):
        self.value, self.steps = f32(value), steps

    def at(self, t: Time) -> Told:
        return exactly(self.value)

    def over(self, steps: Time) -> Schedule:
        return super().over(steps) if self.steps is None else Constant(self.value, steps)

    def turns(self) -> Iterable[int]:
        return [] if self.steps is None else [math.ceil(self.steps)]


def power(scale: float, rate: float, n: float) -> Told:
    """scale * rate**n, of the rate as it was given."""
    foldings = n * (math.log1p(rate - 1) if rate >= 0.5 else math.log(rate))
    if scale == 0 or foldings == 0:
        return exactly(scale)
    size = math.log(abs(scale)) + foldings
    value = math.copysign(math.exp(min(size, 100.0)), scale)  # e**100 is beyond float32
    return about(value, (EXACT + FOLDING * abs(foldings)) * abs(value))


class ExponentialDecay(Schedule):
    def __init__(
        self,
        init_value: float,
        *,
        decay_rate: float,
        decay_steps: int,
        end_value: float | None = None,
        staircase: bool = False,
    ):
        self.init, self.rate, self.every = f32(init_value), decay_rate, decay_steps
        self.end, self.staircase = end_value, staircase

    def at(self, t: Time) -> Told:
        value = power(self.init, self.rate, periods(t, self.every, self.staircase))
        if self.end is None:
            return value
        limited = max if self.rate < 1 else min
        return Told(*(limited(x, f32(self.end)) for x in value))

    def turns(self) -> Iterable[int]:
        return [self.every, 2 * self.every, 100 * self.every]


def periods(t: Time, every: int, staircase: bool) -> float:
    n = Fraction(t) / every
    return float(math.floor(n) if staircase else n)


class InverseTimeDecay(Schedule):
    def __init__(
        self, init_value: float, *, decay_rate: float, decay_steps: int, staircase: bool = False
    ):
        self.init, self.rate, self.every = f32(init_value), f32(decay_rate), decay_steps
        self.staircase = staircase

    def at(self, t: Time) -> Told:
        n = periods(t, self.every, self.staircase)
        value = self.init / (1 + self.rate * n)
        return about(value, EXACT * abs(value) * (n > 0))

    def turns(self) -> Iterable[int]:
        return [self.every, 2 * self.every, 100 * self.every]


class PowerLaw(Schedule):
    def __init__(self, peak_value: float, *, exponent: float, timescale: float):
        self.peak, self.exponent, self.timescale = map(f32, (peak_value, exponent, timescale))

    def at(self, t: Time) -> Told:
        ratio = max(float(t) / self.timescale, 1.0)
        value = self.peak * ratio**self.exponent
        return about(value, EXACT * max(1, -self.exponent) * abs(value) * (ratio > 1))

    def turns(self) -> Iterable[int]:
        return [math.ceil(self.timescale)]


class InverseSqrt(Schedule):
    def __init__(self, peak_value: float, *, timescale: float):
        self.peak, self.timescale = f32(peak_value), f32(timescale)

    def at(self, t: Time) -> Told:
        value = self.peak / math.sqrt(1 + float(t) / self.timescale)
        return about(value, EXACT * abs(value) * (t > 0))

    def turns(self) -> Iterable[int]:
        return [math.ceil(self.timescale)]


class SawtoothPolynomial(Schedule):
    def __init__(self, init_value: float, end_value: float, *, power: float, decay_steps: int):
        self.init, self.end, self.power = f32(init_value), f32(end_value), f32(power)
        self.every = decay_steps

    def at(self, t: Time) -> Told:
        n = self.every * max(1, math.ceil(Fraction(t) / self.every))
        return Polynomial(self.init, self.end, n, power=self.power).at(t)

    def turns(self) -> Iterable[int]:
        return [self.every, 2 * self.every, 100 * self.every]


class ExponentialWarmup(Schedule):
    def __init__(self, timescale: float):
        self.timescale = f32(timescale)

    def at(self, t: Time) -> Told:
        value = -math.expm1(-(float(t) + 1) / self.timescale)
        return about(value, EXACT * value)


class RadamWarmup(Schedule):
    def __init__(self, b2: float):
        self.half = -math.log1p(b2 - 1) / 2
        self.limit = 2 / (1 - b2) - 1
        self.first = next(n for n in range(1, 10**4) if self._rho(n) > 4)

    def _rho(self, n: float) -> float:
        # rho_inf - 2 n b2**n / (1 - b2**n)
        return self.limit - 2 * n / math.expm1(min(2 * n * self.half, 700.0))

    def at(self, t: Time) -> Told:
        rho, limit = self._rho(float(t) + self.first), self.limit
        ratio = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
        # rho itself is rounded, and what it is above 4 may be little of it.
        error = EXACT + ROUNDING / 2 * rho / (rho - 4)
        return about(math.sqrt(ratio), error * math.sqrt(ratio))


# Lists.


class Table(Schedule):
    def __init__(self, values: list[float]):
        self.values, self.steps = values, len(values) - 1

    def at(self, t: Time) -> Told:
        return exactly(f32(self.values[min(math.floor(t), self.steps)]))


def knots(boundaries: list[float]) -> list[Time]:
    """Whole steps are held as such, and among others all as float32."""
    if all(float(b).is_integer() for b in boundaries):
        return [min(int(b), LAST) for b in boundaries]
    return [Fraction(f32(b)) for b in boundaries]


class PiecewiseConstant(Schedule):
    def __init__(self, values: list[float], boundaries: list[float]):
        self.values, self.boundaries = values, knots(boundaries)

    def at(self, t: Time) -> Told:
        return exactly(f32(self.values[bisect_right(self.boundaries, t)]))

    def turns(self) -> Iterable[int]:
        return [math.ceil(b) for b in self.boundaries]


class Knots(PiecewiseConstant):
    curve: type[Curve]

    def at(self, t: Time) -> Told:
        k = bisect_right(self.boundaries, t)
        if k in (0, len(self.values)):
            return exactly(f32(self.values[min(k, len(self.values) - 1)]))
        begin, end = self.boundaries[k - 1 : k + 1]
        return self.curve(*self.values[k - 1 : k + 1], end - begin).at(t - begin)


class Line(Linear):
    """A line through knots, of which nobody says that it is exact where it is whole."""

    between = Curve.between


class PiecewiseLinear(Knots):
    curve = Line


class PiecewiseCosine(Knots):
    curve = Cosine


class PiecewiseCubic(PiecewiseConstant):
    """Cubic polynomials with the slopes of Fritsch and Butland, and flat at both ends."""

    def at(self, t: Time) -> Told:
        k = bisect_right(self.boundaries, t)
        if k in (0, len(self.values)):
            return exactly(f32(self.values[min(k, len(self.values) - 1)]))
        (a, b), width = map(f32, self.values[k - 1 : k + 1]), self._width(k)
        x = float(Fraction(t) - Fraction(self.boundaries[k - 1])) / width
        m, n = self._slope(k - 1), self._slope(k)
        value = a + (b - a) * x * x * (3 - 2 * x) + width * x * (1 - x) * ((1 - x) * m - x * n)
        return about(value, 4 * EXACT * abs(value) + OF_RANGE * abs(b - a))

    def _width(self, k: int) -> float:
        return float(Fraction(self.boundaries[k]) - Fraction(self.boundaries[k - 1]))

    def _rise(self, k: int) -> float:
        return (f32(self.values[k]) - f32(self.values[k - 1])) / self._width(k)

    def _slope(self, k: int) -> float:
        if k in (0, len(self.values) - 1) or self._rise(k) * self._rise(k + 1) <= 0:
            return 0.0
        before, after = self._width(k), self._width(k + 1)
        far, near = 2 * after + before, after + 2 * before
        return (far + near) / (far / self._rise(k) + near / self._rise(k + 1))


# The names of the package.


def step_decay(init_value: float, *, factor: float, every: int) -> Schedule:
    return ExponentialDecay(init_value, decay_rate=factor, decay_steps=every, staircase=True)


def untuned_linear_warmup(*, b2: float = 0.999) -> Schedule:
    w = round(2 / (1 - b2))
    return Linear(1 / w, 1.0, w - 1)


def join(schedules: list[Schedule], boundaries: list[int]) -> Schedule:
    edges = [0, *map(int, boundaries)]
    gaps = [b - a for a, b in itertools.pairwise(edges)]
    taken = [x.take(gap) for x, gap in zip(schedules[:-1], gaps, strict=True)]
    return Then([*taken, *parts(Then, schedules[-1])])


def ramp(init: float | None, peak: float, steps: int, warmup: Callable[..., Schedule]) -> Schedule:
    """A warmup: None starts at the first of equal steps up to the peak."""
    return warmup(peak / (steps + 1) if init is None else init, peak, steps)


def warmup_constant(
    peak_value: float,
    *,
    warmup_steps: int,
    init_value: float | None = None,
    warmup: Callable[..., Schedule] = Linear,
) -> Schedule:
    return ramp(init_value, peak_value, warmup_steps, warmup) >> Constant(peak_value)


def warmup_to(curve: Callable[..., Schedule]) -> Callable[..., Schedule]:
    """A warmup, then a curve to the end."""

    def recipe(
        peak_value: float,
        *,
        total_steps: int,
        warmup_steps: int,
        end_value: float = 0.0,
        init_value: float | None = None,
        warmup: Callable[..., Schedule] = Linear,
        **more: Any,
    ) -> Schedule:
        up = ramp(init_value, peak_value, warmup_steps, warmup)
        return up >> curve(peak_value, end_value, total_steps - warmup_steps, **more)

    return recipe


def warmup_exponential(
    peak_value: float,
    *,
    warmup_steps: int,
    init_value: float | None = None,
    warmup: Callable[..., Schedule] = Linear,
    **decay: Any,
) -> Schedule:
    up = ramp(init_value, peak_value, warmup_steps, warmup)
    return up >> ExponentialDecay(peak_value, **decay)


def warmup_inverse_sqrt(
    peak_value: float,
    *,
    warmup_steps: int,
    timescale: float | None = None,
    init_value: float | None = None,
    warmup: Callable[..., Schedule] = Linear,
) -> Schedule:
    up = ramp(init_value, peak_value, warmup_steps, warmup)
    scale = warmup_steps if timescale is None else timescale
    return up >> InverseSqrt(peak_value, timescale=scale)


def warmup_stable_decay(
    peak_value: float,
    *,
    total_steps: int,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    init_value: float | None = None,
    decay: Callable[..., Schedule] = OneMinusSqrt,
    warmup: Callable[..., Schedule] = Linear,
) -> Schedule:
    up = ramp(init_value, peak_value, warmup_steps, warmup)
    stable = Constant(peak_value, total_steps - warmup_steps - decay_steps)
    return up >> stable >> decay(peak_value, end_value, decay_steps)


def warmup_cosine_restarts(
    peak_value: float,
    *,
    cycle_steps: int,
    warmup_steps: int = 0,
    mult: float = 1,
    decay: float = 1.0,
    cycles: int | None = None,
    end_value: float = 0.0,
    init_value: float | None = None,
    rewarm: bool = True,
) -> Schedule:
    first = peak_value / (warmup_steps + 1) if init_value is None else init_value
    floor = 0.0 if decay == 1 else end_value  # the height above it is what decays
    up = Linear(first - floor, peak_value - floor, warmup_steps)
    steps = cycle_steps - warmup_steps * rewarm
    down = Cosine(peak_value - floor, end_value - floor, steps)
    if rewarm:
        made = (up >> down).cycle(mult, decay, cycles)
    else:
        made = up >> down.cycle(mult, decay, cycles)
    return made + floor if floor else made


def one_cycle(
    peak_value: float,
    *,
    total_steps: int,
    warmup_steps: int,
    init_value: float | None = None,
    end_value: float | None = None,
    phases: int = 2,
    curve: Callable[..., Schedule] = Cosine,
) -> Schedule:
    init = peak_value / 25 if init_value is None else init_value
    end = init / 10_000 if end_value is None else end_value
    up = curve(init, peak_value, warmup_steps)
    if phases == 2:
        return up >> curve(peak_value, end, total_steps - warmup_steps)
    down = curve(peak_value, init, warmup_steps)
    return up >> down >> curve(init, end, total_steps - 2 * warmup_steps)


def one_cycle_momentum(
    init_value: float = 0.95,
    trough_value: float = 0.85,
    *,
    total_steps: int,
    warmup_steps: int,
    phases: int = 2,
    curve: Callable[..., Schedule] = Cosine,
) -> Schedule:
    down = curve(init_value, trough_value, warmup_steps)
    if phases == 2:
        return down >> curve(trough_value, init_value, total_steps - warmup_steps)
    up = curve(trough_value, init_value, warmup_steps)
    return down >> up >> curve(init_value, init_value, total_steps - 2 * warmup_steps)


def noam(factor: float = 1.0, *, model_size: float, warmup_steps: int) -> Schedule:
    """factor / sqrt(model_size) * min(n**-0.5, n * warmup_steps**-1.5), n = t + 1."""
    return Noam(factor / math.sqrt(model_size), warmup_steps)


class Noam(Schedule):
    def __init__(self, scale: float, warmup: int):
        self.scale, self.warmup = scale, warmup

    def at(self, t: Time) -> Told:
        n = float(t) + 1
        value = self.scale * min(n**-0.5, n * self.warmup**-1.5)
        return about(value, EXACT * abs(value))

    def turns(self) -> Iterable[int]:
        return [self.warmup - 1]


def bert(
    peak_value: float,
    *,
    total_steps: int,
    warmup_steps: int,
    decay: Callable[..., Schedule] = Linear,
) -> Schedule:
    up = ramp(None, peak_value, warmup_steps, Linear)
    return up >> decay(peak_value, 0.0, total_steps - warmup_steps)


def cyclic(
    low: float,
    high: float,
    *,
    up_steps: int,
    down_steps: int | None = None,
    decay: float | None = None,
    step_decay: float | None = None,
) -> Schedule:
    down_steps = up_steps if down_steps is None else down_steps
    if decay is None and step_decay is None:
        return (Linear(low, high, up_steps) >> Linear(high, low, down_steps)).cycle()
    up, down = Linear(0.0, high - low, up_steps), Linear(high - low, 0.0, down_steps)
    height = (up >> down).cycle(1, 1.0 if decay is None else decay)
    if step_decay is None:
        return low + height
    return low + height * ExponentialDecay(1.0, decay_rate=step_decay, decay_steps=1)


NAMES: dict[str, Any] = {
    "linear": Linear,
    "one_minus_sqrt": OneMinusSqrt,
    "rex": Rex,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "power_ramp": PowerRamp,
    "logarithmic": Logarithmic,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "geometric": Geometric,
    "constant": Constant,
    "exponential_decay": ExponentialDecay,
    "inverse_time_decay": InverseTimeDecay,
    "inverse_sqrt": InverseSqrt,
    "power_law": PowerLaw,
    "step_decay": step_decay,
    "sawtooth_polynomial": SawtoothPolynomial,
    "exponential_warmup": ExponentialWarmup,
    "untuned_linear_warmup": untuned_linear_warmup,
    "radam_warmup": RadamWarmup,
    "table": Table,
    "counter": Counter,
    "piecewise_constant": PiecewiseConstant,
    "piecewise_linear": PiecewiseLinear,
    "piecewise_cosine": PiecewiseCosine,
    "piecewise_cubic": PiecewiseCubic,
    "minimum": lambda a, b: Minimum([a, b]),
    "maximum": lambda a, b: Maximum([a, b]),
    "select": Select,
    "join": join,
    "warmup_constant": warmup_constant,
    "warmup_linear": warmup_to(Linear),
    "warmup_cosine": warmup_to(Cosine),
    "warmup_polynomial": warmup_to(Polynomial),
    "warmup_exponential": warmup_exponential,
    "warmup_inverse_sqrt": warmup_inverse_sqrt,
    "warmup_stable_decay": warmup_stable_decay,
    "warmup_cosine_restarts": warmup_cosine_restarts,
    "one_cycle": one_cycle,
    "one_cycle_momentum": one_cycle_momentum,
    "noam": noam,
    "bert": bert,
    "cyclic": cyclic,
}


def meaning(text: str) -> Schedule:
    """What a text says."""
    return eval(text, {"__builtins__": {}, **NAMES})
