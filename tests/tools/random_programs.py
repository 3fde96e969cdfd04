"""Random programs of the algebra, in the package and in the interpreter.

    python tests/tools/random_programs.py --programs 20000 --seed 1

A program is a text. Both sides read it, and tell its value at every step where something begins or
ends, at the steps beside it, at both ends of the clock and at some others. It prints how many
programs and values there were, and each disagreement: the text, the step and the two values.

The shape of a program and its numbers are drawn apart. Most programs are evaluated eagerly, since
to compile each takes a second. Of some shapes one program is compiled, and run with many numbers.
"""

from __future__ import annotations

import argparse
import collections
import functools
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import interpreter
import jax
import numpy as np
from interpreter import LAST, UNDECIDED, AmbiguousError, Schedule, meaning

import jaxsched as js

DEPTH = 6
STEPS = 64  # of each program, so that a compiled one is compiled once
COMPILED = 50  # one shape in so many is compiled,
SETS = 20  # and run with so many sets of numbers

LENGTHS = (0, 1, 1, 2, 3, 5, 7, 12, 31, 97, 100, 1000, 1009, 2**16 + 1, 10**6 + 3, 2**24 + 1)
LONGEST = (2**30 + 7, LAST - 1, LAST)
VALUES = (0.0, 0.0, 1.0, 1.0, -1.0, 0.5, 0.1, 3e-4, 24.0, -7.0, 100.0)
RATES = (0.9999, 0.99997, 0.5, 0.9, 1e-3, 1.5, 1.0001, 0.1)
MULTS = (1.5, 1.1, 2.5, 3.0, 1.0, 0.9, 0.5, 0.75, 1.25, 1.001)
EXPONENTS, BASES = (-1.0, -0.5, 0.5, 0.75, 1.0, 2.0, 3.5), (0.5, 0.9, 0.999, 1.5, 10.0)
POWERS = (1.0, 2.0, 0.5, 0.9, 3.0, 1.7)
CURVES = (
    *("linear", "cosine", "one_minus_sqrt", "rex", "tanh"),
    *("sigmoid", "power_ramp", "logarithmic"),
)


class Redraw(Exception):
    """These numbers make no program, such as a cycle of no steps."""


class Numbers:
    """Awkward numbers: as texts, some of them used before."""

    def __init__(self, rng: random.Random):
        self.rng, self.used = rng, ["1.0"]

    def value(self) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            return rng.choice(self.used)
        if rng.random() < 0.5:
            x = rng.choice(VALUES)
        else:
            x = rng.choice((1, 1, -1)) * 10 ** rng.uniform(-9, 5)
        self.used.append(repr(float(f"{x:.{rng.randint(1, 9)}g}")))
        return self.used[-1]

    def above_zero(self) -> str:
        x = abs(float(self.value()))
        return repr(x) if x else "0.25"

    def length(self, least: int = 0) -> str:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.6:
            n = rng.choice(LENGTHS)
        else:
            n = rng.choice(LONGEST) if kind < 0.65 else int(10 ** rng.uniform(0, 6))
        return str(max(n, least))

    def sorted_lengths(self, count: int) -> list[str]:
        lengths = sorted(int(self.length()) for _ in range(count))
        for k in range(1, count):
            if self.rng.random() < 0.2:
                lengths[k] = lengths[k - 1]
        return list(map(str, lengths))

    def one_of(self, choices: Iterable[float]) -> str:
        return repr(self.rng.choice(tuple(choices)))


class Draw(NamedTuple):
    """Where a program comes from: its shape from one source, its numbers from the other."""

    shape: random.Random
    numbers: Numbers

    def program(self, depth: int) -> str:
        if depth == 0:
            return self._leaf()
        return self.shape.choice(OPERATORS)(self, depth - 1)

    def beside(self, depth: int) -> str:
        """The other operand, which is less deep."""
        return self.program(self.shape.randint(0, min(depth, 2)))

    def ending(self, text: str) -> str:
        """A program with an end, whatever it was."""
        return f"{text}.take({self.numbers.length()})" if meaning(text).steps is None else text

    def _leaf(self) -> str:
        kind = self.shape.choice((_curve, _curve, _decay, _list, _recipe, _warmup))
        return kind(self)


def _options(draw: Draw, **options: Callable[[], str]) -> str:
    """Each of the options, or not."""
    given = [name for name in options if draw.shape.random() < 0.5]
    return "".join(f", {name}={options[name]()}" for name in given)


def _curve(draw: Draw) -> str:
    value, n = draw.numbers.value, draw.numbers
    power, rng = functools.partial(n.one_of, POWERS), draw.shape
    name = rng.choice((*CURVES, "polynomial", "polynomial", "geometric", "constant"))
    if name == "constant":
        return f"constant({value()}, {n.length()})"
    if name == "geometric":
        sign = rng.choice(("", "-"))
        return f"geometric({sign}{n.above_zero()}, {sign}{n.above_zero()}, {n.length()})"
    options = {
        "cosine": lambda: _options(draw, exponent=power, k=power),
        "rex": lambda: _options(draw, beta=n.above_zero),
        "tanh": lambda: _options(draw, low=lambda: "-5.5", high=lambda: "4.0"),
        "sigmoid": lambda: _options(draw, steepness=lambda: "6.5", midpoint=lambda: "0.25"),
        "power_ramp": lambda: _options(draw, power=power),
        "polynomial": lambda: f", power={power()}" + _options(draw, k=power),
    }
    more = options[name]() if name in options else ""
    return f"{name}({value()}, {value()}, {n.length()}{more})"


def _decay(draw: Draw) -> str:
    n, rng = draw.numbers, draw.shape
    rate, every = n.one_of(RATES), n.length(1)
    staircase = ", staircase=True" if rng.random() < 0.3 else ""
    text = rng.choice(
        (
            "constant({value})",
            "exponential_decay({value}, decay_rate={rate}, decay_steps={every}{options})",
            "exponential_decay({value}, decay_rate={rate}, decay_steps={every}{options})",
            "inverse_time_decay({value}, decay_rate={above}, decay_steps={every}{staircase})",
            "inverse_sqrt({value}, timescale={above})",
            "power_law({value}, exponent=-{power}, timescale={above})",
            "step_decay({value}, factor={rate}, every={every})",
            "sawtooth_polynomial({value}, {other}, power={power}, decay_steps={every})",
        )
    )
    options = staircase + _options(draw, end_value=n.value)
    return text.format(
        value=n.value(),
        other=n.value(),
        rate=rate,
        every=every,
        options=options,
        staircase=staircase,
        above=n.above_zero(),
        power=n.one_of(POWERS),
    )


def _list(draw: Draw) -> str:
    n, rng = draw.numbers, draw.shape
    size, name = rng.randint(1, 4), rng.choice(("constant", "linear", "cosine", "cubic", "table"))
    size = max(size, 2) if name == "cubic" else size
    values = [n.value() for _ in range(size)]
    if name == "table":
        return f"table([{', '.join(values)}])"
    edges = n.sorted_lengths(size - (name == "constant"))
    if name == "cubic" and len(set(edges)) < size:
        raise Redraw
    if edges and rng.random() < 0.3:
        edges = [f"{int(x) / 8 + 0.375!r}" for x in edges]
    return f"piecewise_{name}([{', '.join(values)}], [{', '.join(edges)}])"


def _warmup(draw: Draw) -> str:
    return draw.shape.choice(
        (
            "exponential_warmup(timescale={above})",
            "untuned_linear_warmup(b2={b2})",
            "radam_warmup(b2={b2})",
        )
    ).format(above=draw.numbers.above_zero(), b2=draw.numbers.one_of((0.75, 0.875, 1 - 2**-10)))


def _recipe(draw: Draw) -> str:
    n, rng = draw.numbers, draw.shape
    curve = functools.partial(rng.choice, CURVES)
    warmup, decay, rest = int(n.length()), int(n.length()), int(n.length())
    init = {"init_value": n.value, "warmup": curve}
    total = f"total_steps={min(warmup + decay + rest, LAST)}, warmup_steps={warmup}"
    peak, up = n.value(), f"warmup_steps={warmup}"
    rate = f"decay_rate={n.one_of(RATES)}, decay_steps={n.length(1)}"
    third = f"total_steps={min(2 * warmup + rest, LAST)}, warmup_steps={warmup}"
    phases, cycle = rng.choice((2, 3)), max(min(warmup + rest, LAST), 1)
    if warmup + decay > LAST or 2 * warmup > LAST:
        raise Redraw
    return rng.choice(
        (
            lambda: f"warmup_constant({peak}, {up}{_options(draw, **init)})",
            lambda: f"warmup_linear({peak}, {total}{_options(draw, **init, end_value=n.value)})",
            lambda: (
                f"warmup_cosine({peak}, {total}"
                f"{_options(draw, **init, end_value=n.value, exponent=lambda: n.one_of(POWERS))})"
            ),
            lambda: f"warmup_polynomial({peak}, {total}, power=2.0{_options(draw, **init)})",
            lambda: f"warmup_exponential({peak}, {up}, {rate}{_options(draw, **init)})",
            lambda: f"warmup_inverse_sqrt({peak}, {up}, timescale={n.above_zero()})",
            lambda: (
                f"warmup_stable_decay({peak}, {total}, decay_steps={decay}"
                f"{_options(draw, **init, decay=curve, end_value=n.value)})"
            ),
            lambda: (
                f"warmup_cosine_restarts({peak}, cycle_steps={cycle}, {up}"
                f"{_options(draw, end_value=n.value)}{_grown(draw)}, rewarm={rng.random() < 0.5})"
            ),
            lambda: (
                f"one_cycle({peak}, {third}, phases={phases}"
                f"{_options(draw, init_value=n.value, end_value=n.value, curve=curve)})"
            ),
            lambda: f"one_cycle_momentum({peak}, {n.value()}, {third}, phases={phases})",
            lambda: f"noam({peak}, model_size={n.above_zero()}, warmup_steps={max(warmup, 1)})",
            lambda: f"bert({peak}, {total}{_options(draw, decay=curve)})",
            lambda: (
                f"cyclic({peak}, {n.value()}, up_steps={max(warmup, 1)}, down_steps={rest}"
                f"{_options(draw, decay=lambda: n.one_of(RATES), step_decay=lambda: '0.9999')})"
            ),
        )
    )()


def _grown(draw: Draw, stretches: bool = True) -> str:
    """The arguments of a cycle."""
    n, rng = draw.numbers, draw.shape
    mult = rng.choice(
        (
            lambda: "1",
            lambda: str(n.rng.choice((2, 3, 7))),
            lambda: n.one_of(MULTS),
        )
    )()
    mult = f", mult={mult}" if stretches else ""
    cycles = {"cycles": lambda: str(n.rng.choice((1, 2, 3, 5, 40, 1000)))}
    return mult + _options(draw, decay=lambda: n.one_of(RATES), **cycles)


def _then(draw: Draw, depth: int) -> str:
    first, second = draw.program(depth), draw.beside(depth)
    if draw.shape.random() < 0.5:
        first, second = second, first
    return f"({draw.ending(first)} >> {second})"


def _infix(draw: Draw, depth: int) -> str:
    a, b = draw.program(depth), draw.beside(depth)
    return f"({a} {draw.shape.choice('+-*')} {b})"


def _scaled(draw: Draw, depth: int) -> str:
    a, x = draw.program(depth), draw.numbers.value()
    text = draw.shape.choice(("({a} * {x})", "({x} * {a})", "({a} / {above})", "(-{a})"))
    return text.format(a=a, x=x, above=draw.numbers.above_zero())


def _moved(draw: Draw, depth: int) -> str:
    a, x = draw.program(depth), draw.numbers.value()
    return draw.shape.choice(("({a} + {x})", "({x} + {a})", "({a} - {x})", "({x} - {a})")).format(
        a=a, x=x
    )


def _extreme(draw: Draw, depth: int) -> str:
    a, name = draw.program(depth), draw.shape.choice(("minimum", "maximum"))
    b = draw.numbers.value() if draw.shape.random() < 0.3 else draw.beside(depth)
    return f"{name}({a}, {b})"


def _clip(draw: Draw, depth: int) -> str:
    a, (low, high) = draw.program(depth), sorted(float(draw.numbers.value()) for _ in "ab")
    return a + draw.shape.choice((f".clip({low!r}, {high!r})", f".clip(low={low!r})"))


def _timed(draw: Draw, depth: int) -> str:
    a, n = draw.program(depth), draw.numbers
    return (
        a
        + draw.shape.choice(
            (
                lambda: f".take({n.length()})",
                lambda: f".shift({n.length()})",
                lambda: f".shift(-{n.length()})",
                lambda: f".hold({n.length(1)})",
                lambda: f".faster({n.length(1)})",
                lambda: f".faster({n.one_of((0.1, 0.5, 1.5, 2.25, 3.7, 0.999, 10.0))})",
            )
        )()
    )


def _stretches(text: str) -> bool:
    try:
        meaning(text).over(1)
    except interpreter.UnstretchableError:
        return False
    return True


def _stretch(draw: Draw, depth: int) -> str:
    a = draw.program(depth)
    return f"{a}.stretch({draw.numbers.length()})" if _stretches(a) else a


def _cycle(draw: Draw, depth: int) -> str:
    text = draw.program(depth)
    a = draw.ending(text)
    if meaning(a).steps == 0:
        raise Redraw
    return f"{a}.cycle({_grown(draw, _stretches(a)).removeprefix(', ')})"


def _join(draw: Draw, depth: int) -> str:
    schedules = [draw.program(depth), draw.beside(depth), draw.beside(0)]
    draw.shape.shuffle(schedules)
    return f"join([{', '.join(schedules)}], [{', '.join(draw.numbers.sorted_lengths(2))}])"


def _select(draw: Draw, depth: int) -> str:
    return f"select({draw.numbers.rng.randint(0, 1)}, [{draw.program(depth)}, {draw.beside(0)}])"


def _powered(draw: Draw, depth: int) -> str:
    a, b = draw.program(depth), draw.beside(0)
    low, high = sorted(abs(float(draw.numbers.value())) + 1e-3 for _ in "ab")
    between, power = f".clip({low!r}, {high + 1!r})", draw.numbers.one_of(EXPONENTS)
    return draw.shape.choice((
        f"({draw.numbers.value()} / {a}{between})",
        f"({b} / {a}{between})",
        f"({a}{between} ** {power})",
        f"({a}.clip(-9.0, 9.0) ** {draw.numbers.rng.choice((2, 3))})",
        f"({a}{between} ** {b}.clip(-2.0, 2.0))",
        f"({draw.numbers.one_of(BASES)} ** {a}.clip(-60.0, 20.0))",
    ))  # fmt: skip


def _integer(draw: Draw, depth: int) -> str:
    a, rounding = draw.program(depth), draw.shape.choice(("floor", "ceil", "half_up", "half_even"))
    multiple = draw.numbers.rng.choice((1, 1, 2, 16, 10_000))
    return f"{a}.clip(-1e6, 1e6).integer({rounding!r}, multiple={multiple})"


def _clocked(draw: Draw, depth: int) -> str:
    a, n, rng = draw.program(depth), draw.numbers, draw.shape
    clock = rng.choice(("counter({rate})", "counter({rate})", "linear(0.0, {end}, {steps})"))
    rate, end = n.one_of((0.25, 0.5, 1.0, 1.5, 3.0, 7.0, 64.0)), float(n.length(1))
    clock = clock.format(rate=rate, end=min(end, 1e6), steps=n.length(1))
    whole = rng.choice(("", ".integer('floor')", ".integer('ceil', multiple=2)"))
    return f"{a}.on({clock}{'.clip(high=1e6)' * bool(whole)}{whole})"


OPERATORS = (
    *(_clocked, _clocked),
    *(_powered, _integer),
    *(_then, _then, _infix, _infix, _scaled, _moved, _extreme, _clip, _timed, _timed),
    *(_timed, _stretch, _cycle, _cycle, _join, _select),
)


def programs(seed: int, count: int) -> Iterator[tuple[int, str]]:
    """Texts, each with the number of its shape; some shapes come with many sets of numbers."""
    drawn, shape = 0, 0
    while drawn < count:
        sets = SETS if shape % COMPILED == 0 else 1
        for k in range(min(sets, count - drawn)):
            text = one(seed, shape, k)
            if text is None:
                break
            drawn += 1
            yield shape, text
        shape += 1


def one(seed: int, shape: int, numbers: int, tries: int = 20) -> str | None:
    """A program, or None if no numbers fit this shape."""
    for k in range(tries):
        draw = Draw(
            random.Random(f"{seed} {shape}"),
            Numbers(random.Random(f"{seed} {shape} {numbers} {k}")),
        )
        try:
            text = draw.program(draw.shape.randint(0, DEPTH))
            _ = meaning(text).steps
            return text
        except (Redraw, AmbiguousError):
            continue
    return None


def steps_of(schedule: Schedule, rng: random.Random) -> list[int]:
    """Steps where something begins or ends, and those beside them."""
    ends = [] if schedule.steps is None else [schedule.steps]
    turns = sorted({n for n in schedule.turns() if 0 <= n <= LAST})
    turns = sorted(rng.sample(turns, 14)) if len(turns) > 14 else turns
    beside = [n + d for n in [*ends, *turns] for d in (-1, 0, 1)]
    drawn = [int(10 ** rng.uniform(0, 9.3)) for _ in range(STEPS)]
    steps = dict.fromkeys([-1, 0, 1, LAST - 1, LAST, *beside, *drawn])
    return [n for n in steps if -1 <= n <= LAST][:STEPS]


class Disagreement(NamedTuple):
    text: str
    at: int | str  # a step; or what else it is that differs
    got: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.text}\n    at {self.at}: {self.got!r}, right {self.right!r}"


class Compared(NamedTuple):
    values: int
    undecided: int
    lost: list[Disagreement]


@jax.jit
def _compiled(schedule: Any, steps: Any) -> Any:
    return schedule(steps)


def disagreements(
    text: str, rng: random.Random, compiled: bool = False, right: Schedule | None = None
) -> Compared:
    """What comes of a program in the package, beside what is right."""
    right = meaning(text) if right is None else right
    steps = steps_of(right, rng)
    schedule = js.parse(text)
    ends = schedule.steps, right.steps
    lost = [] if ends[0] == ends[1] else [Disagreement(text, "its end", *ends)]
    times = np.asarray(steps, np.int64).clip(-1, LAST).astype(np.int32)
    with jax.numpy_dtype_promotion("strict"), jax.disable_jit(not compiled):
        got = np.asarray((_compiled if compiled else type(schedule).__call__)(schedule, times))
    dtype = np.int32 if isinstance(right, interpreter.Integer) else np.float32
    assert np.all(np.isfinite(got)) and got.dtype == dtype and got.shape == times.shape
    told = [right(n) for n in steps]
    found = zip(steps, got.astype(np.float64).tolist(), told, strict=True)
    lost += [Disagreement(text, n, x, y) for n, x, y in found if not y.low <= x <= y.high]
    return Compared(len(steps), told.count(UNDECIDED), lost)


class Report(NamedTuple):
    programs: int
    compiled: int
    values: int
    undecided: int  # of these, of a real clock beyond what float32 can tell apart
    lost: list[Disagreement]
    refused: list[str]  # what the package refused


def compare(seed: int, count: int) -> Report:
    """Draw programs and compare their values."""
    rng, lost, refused = random.Random(seed), [], []
    drawn = compiled = values = undecided = 0
    for shape, text in programs(seed, count):
        jitted = shape % COMPILED == 0
        drawn, compiled = drawn + 1, compiled + jitted
        try:
            found = disagreements(text, rng, jitted)
        except Exception as error:  # the next one may be well
            refused.append(f"{text}\n    {type(error).__name__}: {str(error)[:300]}")
            continue
        values, undecided = values + found.values, undecided + found.undecided
        lost += found.lost
    return Report(drawn, compiled, values, undecided, lost, refused)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    report = compare(options.seed, options.programs)
    for refusal in report.refused:
        print(refusal)
    first = {}
    for x in report.lost:
        first.setdefault(x.text, x)
    for x in first.values():
        print(x)
    often = collections.Counter(x.text for x in report.lost)
    print(
        f"{report.programs} programs ({report.compiled} compiled), {report.values} values "
        f"({report.undecided} undecided): "
        f"{len(report.lost)} disagreements in {len(often)} programs, {len(report.refused)} "
        f"refusals, {time.perf_counter() - start:.0f} s"
    )
    return bool(report.lost or report.refused)


if __name__ == "__main__":
    sys.exit(main())
