"""Every public factory, with arguments and an oracle: the same formula in float64 NumPy.

A `Case` is one call. `numbers` are its numeric arguments by name, `oracle(t, **numbers)` its value
for an array of steps. `scale(t)` widens the tolerance where the law does: by the power for powers,
by the e-foldings for exponentials.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
from scipy import interpolate

import jaxsched as js


class Case(NamedTuple):
    name: str
    make: Callable[..., js.Schedule]
    numbers: dict[str, Any]
    oracle: Callable[..., np.ndarray]
    scale: Callable[..., Any] = lambda t, **_: 1.0
    length: str | None = None
    blur: float = 0.0  # for cycles of real length: the steepest slope, per step

    @property
    def schedule(self) -> js.Schedule:
        return self.make(**self.numbers)

    def expected(self, t, **numbers):
        with np.errstate(all="ignore"):
            return np.asarray(self.oracle(t.astype(np.float64), **numbers))

    def tolerance(self, t):
        """What the law's 1e-6 is multiplied with."""
        scale = self.scale(t.astype(np.float64), **self.numbers)
        return np.asarray(scale, np.float64) * np.ones(t.shape)

    def other(self, name):
        """Another value for one number, that fits the rest."""

        def moved(x):
            if name == "b2":
                return 2 * x - 1
            if isinstance(x, float):
                return x * (0.99 if name in ("rate", "step_decay") else 0.75)
            return max(x - 1, 0) if name in ("warmup", "steps") else min(x + 1, 2**31 - 1)

        one = {"mult": 3, "index": 1}
        value = self.numbers[name]
        if isinstance(value, list):
            return [type(x)(x * 1.5) if name == "boundaries" else x * 0.75 for x in value]
        return one[name] if name in one and isinstance(value, int) else moved(value)


def part(t, steps):
    return np.where(t >= steps, 1.0, np.clip(t / max(steps, 1), 0.0, 1.0))


def between(init, end, of_init):
    return init * of_init + end * (1 - of_init)


def linear(t, init, end, steps):
    return between(init, end, 1 - part(t, steps))


def hc(x):
    return np.sin(np.pi / 2 * (1 - x)) ** 2


def powers(a, b, p):
    """a**p and 1 - a**p for a + b = 1; even float64 has no digits left of 1 - 1e-19."""
    with np.errstate(divide="ignore"):
        log_a = np.where(b < 0.5, np.log1p(-b), np.log(a))
        return np.exp(p * log_a), -np.expm1(p * log_a)


def sawtooth(t, init, end, power, every):
    total = every * np.maximum(np.ceil(t / every), 1)
    of_init, of_end = powers((total - t) / total, t / total, power)
    return weighted(init, end, of_init, of_end)


def weighted(init, end, of_init, of_end):
    return init * of_init + end * of_end


def cosine(t, init, end, steps, exponent=1.0, k=1.0):
    x = part(t, steps)
    done, left = powers(x, 1 - x, k)
    s, c = np.sin(np.pi / 2 * done) ** 2, np.sin(np.pi / 2 * left) ** 2
    return weighted(init, end, *powers(c, s, exponent))


def polynomial(t, init, end, steps, power, k=1.0):
    x = part(t, steps)
    done, left = powers(x, (steps - np.minimum(t, steps)) / max(steps, 1), k)
    return weighted(init, end, *powers(left, done, power))


def one_minus_sqrt(t, init, end, steps):
    return between(init, end, 1 - np.sqrt(part(t, steps)))


def rex(t, init, end, steps, beta=0.5):
    done = part(t, steps)
    scale = beta * done + (1 - done)
    return weighted(init, end, (1 - done) / scale, beta * done / scale)


def tanh(t, init, end, steps, low=-7.0, high=3.0):
    x = part(t, steps)
    z = 2 * (low + (high - low) * x)
    of_init, of_end = 1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))
    return weighted(init, end, np.where(x >= 1, 0, of_init), np.where(x >= 1, 1, of_end))


def logistic(x, k, middle):
    s = lambda x: 1 / (1 + np.exp(-k * (x - middle)))
    return (s(x) - s(0.0)) / (s(1.0) - s(0.0))


def monotone_cubic(t, values, boundaries):
    """SciPy's curve with flat ends."""
    x, y = np.asarray(boundaries, float), np.asarray(values, float)
    slopes = interpolate.PchipInterpolator(x, y).derivative()(x)
    slopes[[0, -1]] = 0.0
    return interpolate.CubicHermiteSpline(x, y, slopes)(np.clip(t, x[0], x[-1]))


def geometric(t, init, end, steps):
    return init * (end / init) ** part(t, steps)


def exponential(t, init, rate, every, end=None, staircase=False):
    n = t // every if staircase else t / every
    value = init * np.exp(n * np.log(rate))
    if end is None:
        return value
    return np.maximum(value, end) if rate < 1 else np.minimum(value, end)


def foldings(t, rate, every, **_):
    return 1 + np.abs(np.log(rate)) * t / every


def chain(t, *pieces):
    """pieces: (oracle of a local time, length); the last may have None."""
    value, start = np.zeros_like(t, float), 0
    for oracle, length in pieces:
        value = np.where(t >= start, oracle(np.maximum(t - start, 0)), value)
        start += length or 0
    return value


def up(peak, warmup, init=None):
    init = peak / (warmup + 1) if init is None else init
    return (lambda t: linear(t, init, peak, warmup)), warmup


def repeated(t, length, mult, decay, cycles, one):
    """Cycle by cycle, in Python: one(position, length) * decay**i."""
    out = []
    for step in t:
        start, i = 0, 0
        while step >= start + length * mult**i and (cycles is None or i + 1 < cycles):
            start, i = start + length * mult**i, i + 1
        size = length * mult**i
        out.append(float(one(np.asarray(min(step - start, size), float), size)) * decay**i)
    return np.asarray(out)


def knots(t, values, boundaries, blend):
    out = []
    for step in t:
        k = int(np.searchsorted(boundaries, step, side="right"))
        if k in (0, len(values)):
            out.append(values[0] if k == 0 else values[-1])
            continue
        a, b = boundaries[k - 1], boundaries[k]
        out.append(between(values[k - 1], values[k], blend((step - a) / (b - a))))
    return np.asarray(out)


def radam(t, b2):
    limit = 2 / (1 - b2) - 1
    rho = lambda n: limit - 2 * n * b2**n / (1 - b2**n)
    first = next(n for n in range(1, 1000) if rho(np.float64(n)) > 4)
    h = -np.log1p(b2 - 1)
    u = (t + first) * h / 2
    # The formula as printed cancels even in float64 for late steps; coth form there.
    r = 1 / np.tanh(h / 2) - 2 * (t + first) / np.expm1(2 * u)
    return np.sqrt((r - 4) * (r - 2) * limit / ((limit - 4) * (limit - 2) * r))


def listed(t, values):
    return np.append(values / np.max(values), 0)[np.minimum(t, len(values)).astype(int)]


def optimal(t, norms):
    """Backward, the lowest cost b of what is left to go; forward, the part that each step goes."""
    g2 = np.asarray([*norms, norms[-1]], np.float64) ** 2
    lowest = [g2[-1]]
    for x in g2[-2::-1]:
        lowest.append(2 * np.sqrt(x) * (np.sqrt(x + lowest[-1]) - np.sqrt(x)))
    left, values = 1.0, []
    for x, b in zip(g2, lowest[-2::-1], strict=False):
        values.append(left * (1 - np.sqrt(x / (x + b))))
        left -= values[-1]
    return listed(t, np.asarray(values))


def refined(t, norms, width, power):
    half, n = int(width * len(norms)) // 2, len(norms)
    mirrored = [*norms[:1] * half, *norms, *norms[-2 : -2 - half : -1]]
    smooth = np.asarray([np.median(mirrored[k : k + 2 * half + 1]) for k in range(n)], np.float64)
    weights = np.append(smooth, smooth[-1]) ** -float(power)
    return listed(t, weights[:-1] * np.cumsum(weights[::-1])[::-1][1:])


PLACED = {
    "falls": dict(init=0.3, end=0.01, steps=97),
    "rises from zero": dict(init=0.0, end=1e-3, steps=1000),
    "crosses zero": dict(init=-0.7, end=0.4, steps=12),
    "is as long as the clock": dict(init=1.0, end=0.0, steps=2**31 - 1),
    "has one step": dict(init=2.0, end=1.0, steps=1),
    "has no step": dict(init=2.0, end=1.0, steps=0),
}


def placed(name, make, oracle, scale=lambda t, **_: 1.0, only=tuple(PLACED), **more):
    return [
        Case(f"{name} {how}", make, {**PLACED[how], **more}, oracle, scale, "steps") for how in only
    ]


def power_scale(t, power=1.0, exponent=1.0, k=1.0, **_):
    return max(1.0, power, exponent) * max(1.0, k)


CASES: dict[str, list[Case]] = {
    "linear": placed("linear", lambda init, end, steps: js.linear(init, end, steps), linear),
    "cosine": [
        *placed("cosine", lambda init, end, steps: js.cosine(init, end, steps), cosine),
        *placed(
            "cosine",
            lambda init, end, steps, exponent, k: js.cosine(
                init, end, steps, exponent=exponent, k=k
            ),
            cosine,
            power_scale,
            exponent=1.7,
            k=2.5,
        ),
    ],
    "polynomial": [
        case
        for power, k in ((0.9, 1.0), (2.0, 1.0), (3.5, 0.5), (1.0, 2.0))
        for case in placed(
            f"polynomial {power} {k}",
            lambda init, end, steps, power, k: js.polynomial(init, end, steps, power=power, k=k),
            polynomial,
            power_scale,
            power=power,
            k=k,
        )
    ],
    "one_minus_sqrt": placed(
        "one_minus_sqrt",
        lambda init, end, steps: js.one_minus_sqrt(init, end, steps),
        one_minus_sqrt,
    ),
    "rex": placed(
        "rex", lambda init, end, steps, beta: js.rex(init, end, steps, beta=beta), rex, beta=0.25
    ),
    "tanh": placed(
        "tanh",
        lambda init, end, steps, low, high: js.tanh(init, end, steps, low=low, high=high),
        tanh,
        lambda t, low, high, **_: 2 * max(abs(low), abs(high)),
        low=-7.0,
        high=3.0,
    ),
    "geometric": placed(
        "geometric",
        lambda init, end, steps: js.geometric(init, end, steps),
        geometric,
        lambda t, init, end, **_: 1 + abs(np.log(end / init)),
        only=("falls", "has one step", "has no step"),
    )
    + [
        Case(
            "geometric below zero",
            lambda init, end, steps: js.geometric(init, end, steps),
            dict(init=-1e-7, end=-10.0, steps=99),
            geometric,
            lambda t, **_: 20,
        )
    ],
    "constant": [
        Case(
            "constant",
            lambda value: js.constant(value),
            dict(value=0.1),
            lambda t, value: value + 0 * t,
        ),
        Case(
            "constant for a while",
            lambda value, steps: js.constant(value, steps),
            dict(value=-2.0, steps=5),
            lambda t, value, steps: value + 0 * t,
        ),
    ],
    "exponential_decay": [
        Case(
            f"exponential_decay {rate} {end} {staircase}",
            lambda init, rate, every, end=None, staircase=staircase: js.exponential_decay(
                init, decay_rate=rate, decay_steps=every, end_value=end, staircase=staircase
            ),
            dict(init=0.5, rate=rate, every=every) | ({} if end is None else {"end": end}),
            lambda t, staircase=staircase, **n: exponential(t, staircase=staircase, **n),
            foldings,
        )
        for rate, every, end, staircase in (
            (0.5, 10, None, False),
            (0.999, 1, 1e-3, False),
            (0.999999, 7, None, False),
            (0.1, 1000, None, True),
            (1.5, 100, 3.0, True),
            (1e-6, 2**30, None, False),
        )
    ],
    "inverse_time_decay": [
        Case(
            f"inverse_time_decay {staircase}",
            lambda init, rate, every, staircase=staircase: js.inverse_time_decay(
                init, decay_rate=rate, decay_steps=every, staircase=staircase
            ),
            dict(init=0.5, rate=0.3, every=7),
            lambda t, init, rate, every, staircase=staircase: (
                init / (1 + rate * (t // every if staircase else t / every))
            ),
        )
        for staircase in (False, True)
    ],
    "inverse_sqrt": [
        Case(
            f"inverse_sqrt {timescale}",
            lambda peak, timescale: js.inverse_sqrt(peak, timescale=timescale),
            dict(peak=0.3, timescale=timescale),
            lambda t, peak, timescale: peak / np.sqrt(1 + t / timescale),
        )
        for timescale in (1.0, 400.5, 1e4)
    ],
    "power_law": [
        Case(
            f"power_law {exponent}",
            lambda peak, exponent, timescale: js.power_law(
                peak, exponent=exponent, timescale=timescale
            ),
            dict(peak=0.3, exponent=exponent, timescale=1000.5),
            lambda t, peak, exponent, timescale: peak * np.maximum(t / timescale, 1) ** exponent,
            lambda t, exponent, **_: max(1, -exponent),
        )
        for exponent in (-0.5, -0.51, -2.0)
    ],
    "step_decay": [
        Case(
            "step_decay",
            lambda init, factor, every: js.step_decay(init, factor=factor, every=every),
            dict(init=0.5, factor=0.1, every=30),
            lambda t, init, factor, every: exponential(t, init, factor, every, staircase=True),
            lambda t, factor, every, **_: foldings(t, factor, every),
        )
    ],
    "sawtooth_polynomial": [
        Case(
            f"sawtooth_polynomial {power}",
            lambda init, end, power, every: js.sawtooth_polynomial(
                init, end, power=power, decay_steps=every
            ),
            dict(init=0.5, end=0.01, power=power, every=70),
            sawtooth,
            lambda t, power, **_: max(1, power),
        )
        for power in (1.0, 0.5, 2.0)
    ],
    "table": [
        Case(
            "table",
            lambda values: js.table(values),
            dict(values=[0.1, 0.5, 0.2, 0.0, 0.3]),
            lambda t, values: np.asarray(values)[np.minimum(t, len(values) - 1).astype(int)],
        )
    ],
    "optimal_schedule": [
        Case(
            f"optimal_schedule {len(norms)}",
            lambda norms: js.optimal_schedule(norms),
            dict(norms=norms),
            optimal,
        )
        for norms in ([2.0], [1.0, 1.0], [3.0, 2.0, 1.0, 1.25, 0.75, 0.7])
    ],
    "refined_schedule": [
        Case(
            f"refined_schedule {width} {norm}",
            lambda norms, width=width, norm=norm: js.refined_schedule(
                norms, width=width, norm=norm
            ),
            dict(norms=[3.0, 2.0, 1.0, 1.25, 0.75, 2.5]),
            lambda t, norms, width=width, power=power: refined(t, norms, width, power),
        )
        for width, norm, power in ((0.1, "l2", 2), (0.5, "l2", 2), (1.0, "l1", 1))
    ],
    "piecewise_constant": [
        Case(
            f"piecewise_constant {boundaries}",
            lambda values, boundaries: js.piecewise_constant(values, boundaries),
            dict(values=[0.1, 0.5, 0.2, 0.0], boundaries=boundaries),
            lambda t, values, boundaries: np.asarray(values)[
                np.searchsorted(boundaries, t, side="right")
            ],
        )
        for boundaries in ([10, 20, 30], [0, 20, 20], [0.5, 3.0, 2.0**30])
    ],
    "piecewise_linear": [
        Case(
            f"piecewise_linear {boundaries}",
            lambda values, boundaries: js.piecewise_linear(values, boundaries),
            dict(values=[0.1, 0.5, 0.2, 0.0], boundaries=boundaries),
            lambda t, values, boundaries: knots(t, values, boundaries, lambda x: 1 - x),
        )
        for boundaries in ([0, 10, 20, 30], [5, 20, 20, 2**30], [0.5, 3.25, 3.5, 1000.125])
    ],
    "piecewise_cosine": [
        Case(
            f"piecewise_cosine {boundaries}",
            lambda values, boundaries: js.piecewise_cosine(values, boundaries),
            dict(values=[0.1, 0.5, 0.2, 0.0], boundaries=boundaries),
            lambda t, values, boundaries: knots(t, values, boundaries, hc),
        )
        for boundaries in ([0, 10, 20, 30], [5, 20, 20, 2**30], [0.5, 3.25, 3.5, 1000.125])
    ],
    "gradual_warmup": [
        Case(
            f"gradual_warmup {rule}",
            lambda rate, base, batch, warmup, rule=rule: js.gradual_warmup(
                rate, base, batch, warmup_steps=warmup, rule=rule
            ),
            dict(rate=0.1, base=256, batch=8192, warmup=97),
            lambda t, rate, base, batch, warmup, power=power: linear(
                t, rate, rate * (batch / base) ** power, warmup
            ),
        )
        for rule, power in (("linear", 1.0), ("sqrt", 0.5))
    ],
    "cyclic": [
        Case(
            f"cyclic {decay} {step_decay}",
            lambda low, high, up, down, decay=None, step_decay=None: js.cyclic(
                low, high, up_steps=up, down_steps=down, decay=decay, step_decay=step_decay
            ),
            dict(low=0.01, high=0.3, up=20, down=33)
            | ({} if decay is None else {"decay": decay})
            | ({} if step_decay is None else {"step_decay": step_decay}),
            lambda t, low, high, up, down, decay=1.0, step_decay=1.0: (
                low
                + (high - low)
                * np.where(
                    t % (up + down) < up, t % (up + down) / up, 1 - (t % (up + down) - up) / down
                )
                * np.exp((t // (up + down)) * np.log(decay) + t * np.log(step_decay))
            ),
            lambda t, up, down, decay=1.0, step_decay=1.0, **_: (
                foldings(t, step_decay, 1) + foldings(t, decay, up + down)
            ),
        )
        for decay, step_decay in ((None, None), (0.5, None), (None, 0.9999), (0.75, 0.9999))
    ],
    "exponential_warmup": [
        Case(
            "exponential_warmup",
            lambda timescale: js.exponential_warmup(timescale=timescale),
            dict(timescale=1000.5),
            lambda t, timescale: -np.expm1(-(t + 1) / timescale),
        )
    ],
    "untuned_linear_warmup": [
        Case(
            "untuned_linear_warmup",
            lambda b2: js.untuned_linear_warmup(b2=b2),
            dict(b2=1 - 2**-10),
            lambda t, b2: np.minimum(1, (t + 1) / np.round(2 / (1 - b2))),
        )
    ],
    "radam_warmup": [
        Case(f"radam_warmup {b2}", lambda b2: js.radam_warmup(b2=b2), dict(b2=b2), radam)
        for b2 in (0.875, 0.9, 0.99, 0.999, 0.99999)
    ],
    "sigmoid": [
        Case(
            f"sigmoid {middle}",
            lambda init, end, steps, k, middle: js.sigmoid(
                init, end, steps, steepness=k, midpoint=middle
            ),
            dict(init=0.3, end=0.01, steps=100, k=8.0, middle=middle),
            lambda t, init, end, steps, k, middle: between(
                init, end, 1 - logistic(part(t, steps), k, middle)
            ),
            lambda t, k, **_: max(1.0, k / 2),
            length="steps",
        )
        for middle in (0.5, 0.25)
    ],
    "power_ramp": [
        Case(
            f"power_ramp {power}",
            lambda init, end, steps, power: js.power_ramp(init, end, steps, power=power),
            dict(init=0.001, end=0.3, steps=100, power=power),
            lambda t, init, end, steps, power: between(init, end, 1 - part(t, steps) ** power),
            lambda t, power, **_: max(1.0, power),
            length="steps",
        )
        for power in (2.0, 0.7)
    ],
    "logarithmic": [
        Case(
            f"logarithmic {steps}",
            js.logarithmic,
            dict(init_value=0.001, end_value=0.3, steps=steps),
            lambda t, init_value, end_value, steps: between(
                init_value,
                end_value,
                1 - np.log1p(np.minimum(t, steps)) / np.log1p(max(steps, 1e-9)),
            ),
        )
        for steps in (1, 100, 10**6)
    ],
    "piecewise_cubic": [
        Case(
            "piecewise_cubic",
            lambda values, boundaries: js.piecewise_cubic(values, boundaries),
            dict(values=[0.1, 0.9, 0.5, 0.2, 0.4], boundaries=[3, 20, 55, 100, 130]),
            monotone_cubic,
            lambda t, **_: 4,
        )
    ],
    "counter": [
        Case("counter", lambda a: js.counter(a), dict(a=2.25), lambda t, a: a * t),
    ],
    "on": [
        Case(
            "on a counter",
            lambda a, b, c: (js.linear(a, b, 40) >> js.cosine(b, 0.0, 100)).on(js.counter(c)),
            dict(a=0.25, b=2.0, c=2.5),
            lambda t, a, b, c: chain(
                c * t, (lambda s: linear(s, a, b, 40), 40), (lambda s: cosine(s, b, 0.0, 100), None)
            ),
        ),
        Case(
            "on a clock that ends",
            lambda a, end: js.inverse_sqrt(a, timescale=10).on(js.linear(0.0, end, 128)),
            dict(a=0.25, end=64.0),
            lambda t, a, end: a / np.sqrt(1 + linear(t, 0.0, end, 128) / 10),
        ),
    ],
    "power": [
        Case(
            "power",
            lambda a, b, p: js.linear(a, b, 100) ** p,
            dict(a=0.25, b=2.0, p=-1.75),
            lambda t, a, b, p: linear(t, a, b, 100) ** p,
        ),
        Case(
            "power down to zero",
            lambda a, p: js.linear(a, 0.0, 100) ** p,
            dict(a=2.0, p=0.4),
            lambda t, a, p: linear(t, a, 0.0, 100) ** p,
        ),
        Case(
            "power of a negative value",
            lambda a: js.linear(a, -1.0, 100) ** 3,
            dict(a=-2.5),
            lambda t, a: linear(t, a, -1.0, 100) ** 3,
            lambda t, **_: 3,
        ),
        Case(
            "power of two schedules",
            lambda a, b: js.linear(a, 1.0, 50) ** js.cosine(b, 0.0, 90),
            dict(a=3.0, b=2.0),
            lambda t, a, b: linear(t, a, 1.0, 50) ** cosine(t, b, 0.0, 90),
        ),
        Case(
            "exponential",
            lambda rate, n: rate ** js.linear(0.0, n, 5000),
            dict(rate=0.999, n=4000.0),
            lambda t, rate, n: np.exp(linear(t, 0.0, n, 5000) * np.log(rate)),
            lambda t, rate, n: 1 + np.abs(np.log(rate) * linear(t, 0.0, n, 5000)),
        ),
        Case(
            "exponential of a quotient",
            lambda rate, low, high: rate ** (512 / js.linear(low, high, 8)),
            dict(rate=0.5, low=1.0, high=9.0),
            lambda t, rate, low, high: np.exp(512 / linear(t, low, high, 8) * np.log(rate)),
            lambda t, rate, low, high: 1 + np.abs(512 / linear(t, low, high, 8) * np.log(rate)),
        ),
    ],
    "quotient": [
        Case(
            "quotient",
            lambda c, a, b: c / js.linear(a, b, 100),
            dict(c=1e-3, a=0.1, b=1e-4),
            lambda t, c, a, b: c / linear(t, a, b, 100),
        ),
        Case(
            "quotient of two schedules",
            lambda a, b: js.cosine(a, 0.0, 70) / (js.linear(b, 1.0, 50) >> js.constant(b)),
            dict(a=0.1, b=0.3),
            lambda t, a, b: cosine(t, a, 0.0, 70) / np.where(t < 50, linear(t, b, 1.0, 50), b),
        ),
    ],
    "integer": [
        Case(
            f"integer {rounding}",
            lambda a, b, every, rounding=rounding: js.linear(a, b, 128).integer(rounding, every),
            dict(a=0.0, b=64.0, every=3),
            lambda t, a, b, every, whole=whole: every * whole(linear(t, a, b, 128) / every),
        )
        for rounding, whole in {
            "floor": np.floor,
            "ceil": np.ceil,
            "half_up": lambda x: np.floor(x + 0.5),
            "half_even": np.round,
        }.items()
    ],
    "minimum": [
        Case(
            "minimum",
            lambda a, b: js.minimum(js.linear(a, 0.0, 100), js.constant(b)),
            dict(a=1.0, b=0.3),
            lambda t, a, b: np.minimum(linear(t, a, 0.0, 100), b),
        )
    ],
    "maximum": [
        Case(
            "maximum",
            lambda a, b: js.maximum(js.linear(a, 0.0, 100), b),
            dict(a=1.0, b=0.3),
            lambda t, a, b: np.maximum(linear(t, a, 0.0, 100), b),
        )
    ],
    "join": [
        Case(
            "join",
            lambda a, b, first, second: js.join(
                [js.linear(a, b, 100), js.cosine(b, a, 10), js.inverse_sqrt(a, timescale=10)],
                [first, second],
            ),
            dict(a=0.5, b=0.1, first=50, second=90),
            lambda t, a, b, first, second: chain(
                t,
                (lambda s: linear(np.minimum(s, first), a, b, 100), first),
                (lambda s: cosine(np.minimum(s, second - first), b, a, 10), second - first),
                (lambda s: a / np.sqrt(1 + s / 10), None),
            ),
        )
    ],
    "select": [
        Case(
            f"select {index}",
            lambda a, index: js.select(
                index, [js.linear(a, 0.0, 9), js.constant(a), js.cosine(a, 0.0, 5)]
            ),
            dict(a=0.7, index=index),
            lambda t, a, index: [linear(t, a, 0.0, 9), a + 0 * t, cosine(t, a, 0.0, 5)][index],
        )
        for index in (0, 1, 2)
    ],
    "from_function": [
        Case(
            "from_function",
            lambda: js.from_function(optax.linear_schedule(1.0, 0.25, 100)),
            {},
            lambda t: linear(t, 1.0, 0.25, 100),
        ),
        Case(
            "from_function of a pytree",
            lambda a: js.from_function(js.linear(a, 0.0, 10)).take(20),
            dict(a=0.3),
            lambda t, a: linear(t, a, 0.0, 10),
        ),
    ],
    "warmup_constant": [
        Case(
            "warmup_constant",
            lambda peak, warmup: js.warmup_constant(peak, warmup_steps=warmup),
            dict(peak=0.3, warmup=10),
            lambda t, peak, warmup: chain(t, up(peak, warmup), (lambda s: peak + 0 * s, None)),
        ),
        Case(
            "warmup_constant by a cosine",
            lambda peak, warmup, init: js.warmup_constant(
                peak, warmup_steps=warmup, init_value=init, warmup=js.cosine
            ),
            dict(peak=0.3, warmup=10, init=0.0),
            lambda t, peak, warmup, init: cosine(t, init, peak, warmup),
        ),
        Case(
            "warmup_constant of no steps",
            lambda peak, warmup: js.warmup_constant(peak, warmup_steps=warmup),
            dict(peak=0.3, warmup=0),
            lambda t, peak, warmup: peak + 0 * t,
        ),
    ],
    "warmup_linear": [
        Case(
            "warmup_linear",
            lambda peak, warmup, total, end: js.warmup_linear(
                peak, warmup_steps=warmup, total_steps=total, end_value=end
            ),
            dict(peak=0.3, warmup=10, total=101, end=0.01),
            lambda t, peak, warmup, total, end: chain(
                t, up(peak, warmup), (lambda s: linear(s, peak, end, total - warmup), None)
            ),
        )
    ],
    "warmup_cosine": [
        Case(
            f"warmup_cosine {warmup} of {total}",
            lambda peak, warmup, total, end: js.warmup_cosine(
                peak, warmup_steps=warmup, total_steps=total, end_value=end
            ),
            dict(peak=0.3, warmup=warmup, total=total, end=0.01),
            lambda t, peak, warmup, total, end: chain(
                t, up(peak, warmup), (lambda s: cosine(s, peak, end, total - warmup), None)
            ),
        )
        for warmup, total in ((10, 101), (0, 50), (50, 50), (0, 0), (1, 2))
    ],
    "warmup_polynomial": [
        Case(
            "warmup_polynomial",
            lambda peak, warmup, total, end, power: js.warmup_polynomial(
                peak, warmup_steps=warmup, total_steps=total, end_value=end, power=power
            ),
            dict(peak=0.3, warmup=10, total=101, end=0.01, power=0.9),
            lambda t, peak, warmup, total, end, power: chain(
                t,
                up(peak, warmup),
                (lambda s: polynomial(s, peak, end, total - warmup, power), None),
            ),
        )
    ],
    "warmup_exponential": [
        Case(
            "warmup_exponential",
            lambda peak, warmup, rate, every: js.warmup_exponential(
                peak, warmup_steps=warmup, decay_rate=rate, decay_steps=every
            ),
            dict(peak=0.3, warmup=10, rate=0.9, every=20),
            lambda t, peak, warmup, rate, every: chain(
                t, up(peak, warmup), (lambda s: exponential(s, peak, rate, every), None)
            ),
            lambda t, rate, every, **_: foldings(t, rate, every),
        )
    ],
    "warmup_inverse_sqrt": [
        Case(
            "warmup_inverse_sqrt",
            lambda peak, warmup: js.warmup_inverse_sqrt(peak, warmup_steps=warmup),
            dict(peak=0.3, warmup=40),
            lambda t, peak, warmup: chain(
                t, up(peak, warmup), (lambda s: peak / np.sqrt(1 + s / warmup), None)
            ),
        ),
        Case(
            "warmup_inverse_sqrt of a timescale",
            lambda peak, warmup, timescale: js.warmup_inverse_sqrt(
                peak, warmup_steps=warmup, timescale=timescale
            ),
            dict(peak=0.3, warmup=0, timescale=10.5),
            lambda t, peak, warmup, timescale: peak / np.sqrt(1 + t / timescale),
        ),
    ],
    "warmup_stable_decay": [
        Case(
            f"warmup_stable_decay {curve.__name__}",
            lambda peak, warmup, total, down, end, curve=curve: js.warmup_stable_decay(
                peak,
                warmup_steps=warmup,
                total_steps=total,
                decay_steps=down,
                end_value=end,
                decay=curve,
            ),
            dict(peak=0.3, warmup=10, total=101, down=20, end=0.01),
            lambda t, peak, warmup, total, down, end, shape=shape: chain(
                t,
                up(peak, warmup),
                (lambda s: peak + 0 * s, total - warmup - down),
                (lambda s: shape(s, peak, end, down), None),
            ),
            lambda t, **_: 4,
        )
        for curve, shape in (
            (js.linear, linear),
            (js.cosine, cosine),
            (js.one_minus_sqrt, one_minus_sqrt),
            (js.geometric, geometric),
        )
    ],
    "warmup_cosine_restarts": [
        Case(
            f"warmup_cosine_restarts {mult} {decay} {cycles}",
            lambda peak, cycle, warmup, mult, decay, cycles=cycles: js.warmup_cosine_restarts(
                peak, cycle_steps=cycle, warmup_steps=warmup, mult=mult, decay=decay, cycles=cycles
            ),
            dict(peak=0.3, cycle=20, warmup=3, mult=mult, decay=decay),
            lambda t, peak, cycle, warmup, mult, decay, cycles=cycles: repeated(
                t,
                cycle,
                mult,
                decay,
                cycles,
                lambda s, n: chain(
                    s, up(peak, warmup), (lambda s: cosine(s, peak, 0.0, n - warmup), None)
                ),
            ),
            lambda t, decay, cycle, **_: 4 if decay == 1 else foldings(t, decay, cycle),
            blur=0.3 / 4 if isinstance(mult, float) else 0.0,
        )
        for mult, decay, cycles in (
            (1, 1.0, None),
            (2, 1.0, None),
            (2, 0.5, 3),
            (3, 0.9, 4),
            (1, 0.9, 5),
            (1.5, 0.9, 6),
        )
    ]
    + [
        Case(
            "warmup_cosine_restarts warmed once",
            lambda peak, cycle, warmup, mult: js.warmup_cosine_restarts(
                peak, cycle_steps=cycle, warmup_steps=warmup, mult=mult, rewarm=False
            ),
            dict(peak=0.3, cycle=20, warmup=3, mult=2),
            lambda t, peak, cycle, warmup, mult: chain(
                t,
                up(peak, warmup),
                (
                    lambda s: repeated(
                        s, cycle, mult, 1.0, None, lambda x, n: cosine(x, peak, 0.0, n)
                    ),
                    None,
                ),
            ),
        )
    ],
    "one_cycle": [
        Case(
            "one_cycle",
            lambda peak, total, warmup: js.one_cycle(peak, total_steps=total, warmup_steps=warmup),
            dict(peak=0.3, total=100, warmup=30),
            lambda t, peak, total, warmup: chain(
                t,
                (lambda s: cosine(s, peak / 25, peak, warmup), warmup),
                (lambda s: cosine(s, peak, peak / 25e4, total - warmup), None),
            ),
        ),
        Case(
            "one_cycle in three phases",
            lambda peak, total, init, end: js.one_cycle(
                peak, total_steps=total, init_value=init, end_value=end, phases=3, curve=js.linear
            ),
            dict(peak=0.3, total=100, init=0.1, end=0.001),
            lambda t, peak, total, init, end: chain(
                t,
                (lambda s: linear(s, init, peak, 30), 30),
                (lambda s: linear(s, peak, init, 30), 30),
                (lambda s: linear(s, init, end, 40), None),
            ),
        ),
    ],
    "one_cycle_momentum": [
        Case(
            f"one_cycle_momentum {phases}",
            lambda init, trough, total, warmup, phases=phases: js.one_cycle_momentum(
                init, trough, total_steps=total, warmup_steps=warmup, phases=phases
            ),
            dict(init=0.95, trough=0.85, total=100, warmup=30),
            lambda t, init, trough, total, warmup, phases=phases: chain(
                t,
                (lambda s: cosine(s, init, trough, warmup), warmup),
                (
                    lambda s: cosine(s, trough, init, total - warmup if phases == 2 else warmup),
                    None,
                ),
            ),
        )
        for phases in (2, 3)
    ],
    "noam": [
        Case(
            "noam",
            lambda factor, size, warmup: js.noam(factor, model_size=size, warmup_steps=warmup),
            dict(factor=2.0, size=512.0, warmup=4000),
            lambda t, factor, size, warmup: (
                factor / np.sqrt(size) * np.minimum((t + 1.0) ** -0.5, (t + 1.0) * warmup**-1.5)
            ),
        )
    ],
    "bert": [
        Case(
            f"bert {curve.__name__}",
            lambda peak, total, curve=curve: js.bert(peak, total_steps=total, decay=curve),
            dict(peak=5e-5, total=1000),
            lambda t, peak, total, shape=shape: chain(
                t, up(peak, total // 10), (lambda s: shape(s, peak, 0.0, total - total // 10), None)
            ),
        )
        for curve, shape in ((js.linear, linear), (js.cosine, cosine))
    ],
    "methods": [
        Case(
            "arithmetic",
            lambda a, b: (
                (2 * js.linear(a, b, 50) - js.cosine(b, a, 30) / 3 + 0.5) * js.constant(b) - -a
            ),
            dict(a=0.3, b=0.1),
            lambda t, a, b: (2 * linear(t, a, b, 50) - cosine(t, b, a, 30) / 3 + 0.5) * b + a,
            lambda t, **_: 4,
        ),
        Case(
            "clip, take, shift, stretch",
            lambda a, n, k: (
                (js.linear(0.0, a, 5) >> js.cosine(a, 0.0, 20).clip(0.1, 0.25))
                .stretch(n)
                .shift(k)
                .take(n)
            ),
            dict(a=0.3, n=40, k=7),
            lambda t, a, n, k: chain(
                np.clip(np.minimum(t, n) - k, 0, None),
                (lambda s: linear(s, 0.0, a, 5), 5),
                (lambda s: np.clip(cosine(s, a, 0.0, n - 5), 0.1, 0.25), None),
            ),
        ),
        Case(
            "faster",
            lambda a, rate: (js.cosine(a, 0.0, 320) >> js.linear(0.0, a, 50)).cycle().faster(rate),
            dict(a=0.3, rate=3),
            lambda t, a, rate: repeated(
                np.minimum(t * rate, 2**31 - 1),
                370,
                1,
                1.0,
                None,
                lambda s, n: chain(
                    s, (lambda u: cosine(u, a, 0.0, 320), 320), (lambda u: linear(u, 0.0, a, 50), 0)
                ),
            ),
        ),
        Case(
            "hold",
            lambda a, each: (
                (js.cosine(a, 0.0, 20) >> js.linear(0.0, a, 9)).cycle(mult=2).hold(each)
            ),
            dict(a=0.3, each=7),
            lambda t, a, each: repeated(
                t // each,
                29,
                2,
                1.0,
                None,
                lambda s, n: chain(
                    s,
                    (lambda u: cosine(u, a, 0.0, 20), 20),
                    (lambda u: linear(u, 0.0, a, n - 20), 0),
                ),
            ),
        ),
        Case(
            "hold what ends",
            lambda a, each, steps: js.linear(a, 0.1, steps).hold(each),
            dict(a=0.3, each=4, steps=90),
            lambda t, a, each, steps: linear(t // each, a, 0.1, steps),
        ),
        Case(
            "slower",
            lambda a, rate: js.linear(a, 0.1, 300).faster(rate),
            dict(a=0.3, rate=0.3125),
            lambda t, a, rate: linear(t * rate, a, 0.1, 300),
        ),
        Case(
            "earlier",
            lambda a, k: js.linear(a, 0.0, 100).shift(k),
            dict(a=0.3, k=-40),
            lambda t, a, k: linear(t - k, a, 0.0, 100),
        ),
        Case(
            "a cycle of real length that shrinks",
            lambda a, mult: js.cosine(a, 0.0, 100).cycle(mult=mult),
            dict(a=0.3, mult=0.5),
            lambda t, a, mult: repeated(t, 100, mult, 1.0, 7, lambda s, n: cosine(s, a, 0.0, n)),
            blur=0.3 * np.pi / 2,
        ),
        Case(
            "a product in a cycle",
            lambda a, b: (js.linear(a, 0.1, 9) * js.cosine(b, 0.2, 7)).cycle(decay=0.9, cycles=4),
            dict(a=0.3, b=0.8),
            lambda t, a, b: repeated(
                t, 9, 1, 0.9, 4, lambda s, n: linear(s, a, 0.1, 9) * cosine(s, b, 0.2, 7)
            ),
        ),
    ],
}

ALL = [case for cases in CASES.values() for case in cases]
