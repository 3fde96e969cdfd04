"""The convex bound: against the theorem as printed, against SGD itself, and at its minimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.ndimage import median_filter
from scipy.optimize import minimize

import jaxsched as js
from jaxsched import testing
from jaxsched._search._convex_bound import _best_peak, _sums

T = 120
CURVES = {
    "constant": js.constant(1.0),
    "linear": js.linear(1.0, 0.0, T),
    "cosine": js.cosine(1.0, 0.0, T),
    "1-sqrt": js.one_minus_sqrt(1.0, 0.0, T),
    "inverse sqrt": js.inverse_sqrt(1.0, timescale=1),
    "exponential": js.exponential_decay(1.0, decay_rate=0.9, decay_steps=1),
    "warmup": js.warmup_stable_decay(1.0, total_steps=T, warmup_steps=12, decay_steps=24),
    "a long zero end": js.linear(1.0, 0.0, T // 2),
    "a zero in the middle": js.linear(1.0, 0.0, T // 3).cycle(),
    "a zero at first": js.linear(0.0, 1.0, 10) >> js.linear(1.0, 0.0, T - 10),
    "restarts": js.cosine(1.0, 0.0, 15).cycle(mult=2),
}
curves = pytest.mark.parametrize("name", CURVES)
BUMP = 1 + 9 * np.exp(-np.arange(T) / 8)


def theorem(s, g=None):
    """D = 1 and the best gamma, from the double sum that the papers print, in float64."""
    s = np.asarray(s, np.float64)
    n = np.flatnonzero(s)[-1] + 1
    s, g = s[:n], (np.ones(n) if g is None else np.asarray(g, np.float64)[:n])
    bracket = np.sum(s**2 * g**2) / np.sum(s)
    for k in range(n - 1):
        bracket += s[k] / np.sum(s[k + 1 :]) * np.sum(s[k:] ** 2 * g[k:] ** 2) / np.sum(s[k:])
    return np.sqrt(bracket / np.sum(s)), 1 / np.sqrt(bracket * np.sum(s))


@functools.cache
def values_of(name):
    return np.asarray(CURVES[name](np.arange(T)))


def tail(x):
    return np.cumsum(x[::-1])[::-1]


def theorem_quickly(s, g):
    s, g = np.asarray(s, np.float64), np.asarray(g, np.float64)
    a, q = tail(s), tail(s**2 * g**2)
    return np.sqrt((q[0] / a[0] + np.sum(s[:-1] / a[1:] * q[:-1] / a[:-1])) / a[0])


class TestBound:
    @curves
    @pytest.mark.parametrize("norms", [None, BUMP, BUMP[::-1]], ids=["one", "falling", "rising"])
    def test_is_the_theorem(self, name, norms):
        values = values_of(name)
        for steps in (1, 2, T):
            given = None if norms is None else norms[:steps]
            if not values[:steps].any():
                continue
            bound = js.convex_bound(js.table(values), total_steps=steps, grad_norms=given)
            assert bound.dtype == jnp.float32 and bound.shape == ()
            np.testing.assert_allclose(bound, theorem(values[:steps], given)[0], rtol=1e-6)

    def test_of_a_long_run(self):
        steps = 10**6
        norms = js.geometric(3.0, 0.5, steps)
        for schedule in (
            js.constant(0.3),
            js.linear(0.3, 0.0, steps),
            js.warmup_cosine(0.3, total_steps=steps, warmup_steps=steps // 20),
            js.inverse_sqrt(0.3, timescale=100),
        ):
            s, g = schedule(np.arange(steps)), norms(np.arange(steps))
            bound = js.convex_bound(schedule, total_steps=steps, grad_norms=norms)
            np.testing.assert_allclose(bound, theorem_quickly(s, g), rtol=1e-6)

    @curves
    def test_has_no_scale(self, name):
        schedule = js.table(values_of(name))
        bound = js.convex_bound(schedule, total_steps=T, grad_norms=BUMP)
        for c in (1e-30, 1e-3, 3.0, 1e30):
            same = js.convex_bound(c * schedule, total_steps=T, grad_norms=BUMP)
            np.testing.assert_allclose(same, bound, rtol=1e-6)
            louder = js.convex_bound(schedule, total_steps=T, grad_norms=c * BUMP)
            np.testing.assert_allclose(louder, c * bound, rtol=1e-6)

    def test_what_comes_after_the_last_step_is_nothing(self):
        long = np.maximum(60 - np.arange(T), 0) / 60
        norms = np.concatenate([np.ones(60), np.full(T - 60, 1e6)])
        assert js.convex_bound(js.table(long), total_steps=T, grad_norms=norms) == js.convex_bound(
            js.table(long[:60]), total_steps=60
        )

    def test_of_nothing(self):
        of = lambda c: js.convex_bound(c * js.constant(1.0), total_steps=7)
        value, slope = jax.jit(jax.value_and_grad(of))(0.0)
        assert value == jnp.inf and slope == 0
        assert js.convex_bound(js.constant(1.0), total_steps=5, grad_norms=np.zeros(5)) == 0

    def test_takes_any_function_of_the_step(self):
        line = js.linear(1.0, 0.0, T)
        here = js.convex_bound(
            optax.linear_schedule(1.0, 0.0, T), total_steps=T, grad_norms=js.linear(2.0, 2.0 + T, T)
        )
        there = js.convex_bound(line, total_steps=T, grad_norms=2.0 + np.arange(T))
        np.testing.assert_allclose(here, there, rtol=1e-6)

    def test_x64(self, x64):
        s = js.cosine(1.0, 0.0, T)
        bound = js.convex_bound(s, total_steps=T)
        assert bound.dtype == jnp.float64
        np.testing.assert_allclose(bound, theorem(s(np.arange(T)))[0], rtol=1e-14)


class TestIsAFunctionOfTheNumbers:
    def test_mapped_compiled_and_traced_once(self):
        traces = []

        def of(end):
            traces.append(end)
            return js.convex_bound(js.linear(1.0, end, T), total_steps=T)

        ends = jnp.linspace(0, 1, 5)
        mapped, compiled = jax.vmap(of)(ends), jax.jit(of)
        alone = [compiled(end) for end in ends]
        np.testing.assert_allclose(mapped, alone, rtol=1e-6)
        assert len(traces) == 2

    def test_gradients_are_finite_differences(self, x64):
        def of(x):
            return js.convex_bound(js.table(x), total_steps=T, grad_norms=BUMP)

        gradient = jax.jit(jax.grad(of))
        for name in CURVES:
            values = np.asarray(values_of(name), np.float64)
            slope = np.asarray(gradient(values))
            assert np.all(np.isfinite(slope)), name
            for k in (0, 1, 17, 57):
                if values[k] > 0 and values[k + 1] > 0:
                    h = 1e-4 * values[k]
                    moved = [theorem(values + d * (np.arange(T) == k), BUMP)[0] for d in (h, -h)]
                    expected = (moved[0] - moved[1]) / (2 * h)
                    np.testing.assert_allclose(slope[k], expected, rtol=1e-5, err_msg=name)
            # Euler: what does not depend on the scale has no slope along it.
            assert abs(slope @ values) < 1e-12, name

    def test_gradients_are_finite_after_a_decay_to_nothing(self):
        def of(rate, end):
            fall = js.exponential_decay(1.0, decay_rate=rate, decay_steps=1).take(200)
            return js.convex_bound(fall >> js.constant(end), total_steps=210)

        gradient = jax.jit(jax.grad(of, (0, 1)))
        for rate in (0.5, 1e-3):
            for end in (0.0, 1e-30, 0.5):
                assert np.all(np.isfinite(gradient(rate, end)))

    def test_what_is_traced_and_negative_is_zero(self):
        steps = np.arange(9)

        def of(x, g):
            return js.convex_bound(js.table(x), total_steps=9, grad_norms=g)

        s, g = jnp.asarray(4.0 - steps, jnp.float32), jnp.asarray(6.0 - steps, jnp.float32)
        assert jax.jit(of)(s, g) == jax.jit(of)(jnp.maximum(s, 0), jnp.maximum(g, 0))

    def test_a_search_by_gradients_descends(self):
        numbers, rebuild = js.trainable(js.linear(1.0, 1.0, T // 2) >> js.linear(1.0, 1.0, T // 2))
        loss = jax.jit(jax.value_and_grad(lambda x: js.convex_bound(rebuild(x), total_steps=T)))
        before, _ = loss(numbers)
        for _ in range(30):
            _, slope = loss(numbers)
            numbers = jax.tree.map(lambda x, g: jnp.maximum(x - 5 * g, 1e-3), numbers, slope)
        assert loss(numbers)[0] < 0.85 * before


DIM, SEEDS = 6, 200


@jax.jit
def descent(rates, noise, key):
    """SGD on the largest of affine functions, which is 0 at the origin and nowhere less."""
    planes = jnp.asarray(np.random.default_rng(0).normal(size=(30, DIM)), jnp.float32)
    planes = planes / jnp.linalg.norm(planes, axis=1, keepdims=True)

    def loss(x):
        return jnp.max(jnp.abs(planes @ x))

    def step(x, rate_key):
        rate, key = rate_key
        value, g = jax.value_and_grad(loss)(x)
        g = g + noise * jax.random.rademacher(key, (DIM,), jnp.float32)
        return x - rate * g, (value, jnp.sum(g**2))

    def run(key):
        start = jnp.full(DIM, DIM**-0.5, jnp.float32)
        return jax.lax.scan(step, start, (rates, jax.random.split(key, T)))[1]

    losses, squares = jax.vmap(run)(jax.random.split(key, SEEDS))
    error = losses.std(axis=0) / np.sqrt(SEEDS)
    return losses.mean(axis=0), error, jnp.sqrt(squares.mean(axis=0))


class TestHolds:
    """SGD itself, whose mean loss at the last point where a gradient is taken is bounded."""

    @pytest.mark.parametrize("noise", [0.0, 0.5])
    @pytest.mark.parametrize("name", ["constant", "linear", "a long zero end", "restarts"])
    def test_for_noisy_maxima(self, name, noise):
        shape = values_of(name)
        loudest = np.sqrt(1 + DIM * noise**2)
        peak = _best_peak(shape, jnp.full(T, loudest))
        last = np.flatnonzero(shape)[-1]
        for off in (0.2, 1.0, 5.0):
            mean, error, norms = descent(peak * off * shape, noise, jax.random.key(1))
            a, b = _sums(shape, norms)
            bound = 1 / (2 * peak * off * a) + peak * off * b * norms.max() ** 2 / 2
            assert mean[last] <= bound + 3 * error[last]
            # It is a bound and no triviality: the loss begins near 1.
            assert off != 1.0 or bound < 0.5 * loudest

    def test_nearly_tightly_where_it_can(self):
        """On |x|, in one dimension, constant rates come back to half of a step."""
        gamma, n = 0.02, 60

        def step(x, _):
            return x - gamma * jnp.where(x > 0, 1.0, -1.0), jnp.abs(x)

        _, losses = jax.lax.scan(step, jnp.float32(1.0), length=n)
        bound = 1 / (2 * gamma * n) + gamma / 2 * float(_sums(jnp.ones(n), jnp.ones(n))[1])
        assert losses[-1] <= bound < 2


class TestTransfer:
    def test_is_the_ratio_of_the_best_peaks(self):
        for name in CURVES:
            for other in ("constant", "cosine"):
                from_, to = (np.asarray(values_of(x), np.float64) for x in (name, other))
                a, b = js.table(from_), js.table(0.1 * to)
                ratio = (theorem(to)[1] * to.max()) / (theorem(from_)[1] * from_.max())
                for c in (1.0, 1e-20, 1e20):
                    rate = js.transfer_rate(0.3, c * a, b / c, total_steps=T)
                    np.testing.assert_allclose(rate, 0.3 * ratio, rtol=2e-6)

    def test_there_and_back(self):
        a, b = CURVES["cosine"], CURVES["inverse sqrt"]
        there = js.transfer_rate(0.3, a, b, total_steps=T, to_steps=500, grad_norms=lambda t: t + 1)
        back = js.transfer_rate(
            there, b, a, total_steps=500, to_steps=T, grad_norms=lambda t: t + 1
        )
        np.testing.assert_allclose(back, 0.3, rtol=1e-6)

    def test_louder_gradients_ask_for_a_lower_rate(self):
        a = CURVES["linear"]
        rate = js.transfer_rate(
            1.0, a, a, total_steps=T, grad_norms=np.ones(T), to_grad_norms=np.full(T, 4.0)
        )
        np.testing.assert_allclose(rate, 0.25, rtol=1e-6)

    def test_ratios_that_were_measured_elsewhere(self):
        """Peaks to those of linear decay, 1500 steps of which 5 % warm up; see the page."""
        n = 1500
        up = dict(total_steps=n, warmup_steps=75)
        expected = {
            0.343: js.warmup_constant(1.0, warmup_steps=75),
            0.525: js.warmup_stable_decay(1.0, **up, decay_steps=n // 5),
            1.394: js.warmup_polynomial(1.0, **up, power=2.0),
            1.970: js.linear(0.0, 1.0, 75) >> js.geometric(1.0, 0.01, n - 75),
        }
        for ratio, schedule in expected.items():
            rate = js.transfer_rate(1.0, js.warmup_linear(1.0, **up), schedule, total_steps=n)
            np.testing.assert_allclose(rate, ratio, rtol=0.07)

    def test_traced(self):
        def of(rate, end):
            return js.transfer_rate(rate, js.linear(1.0, end, T), js.constant(1.0), total_steps=T)

        assert np.isfinite(jax.jit(jax.grad(of))(0.1, 0.5))
        silent = jax.jit(
            lambda c: js.transfer_rate(1.0, c * js.constant(1.0), js.constant(1.0), total_steps=T)
        )
        assert silent(0.0) == 0


def smallest(norms):
    """The lowest bound by a general optimiser, of log values."""
    g2 = np.asarray(norms, np.float64) ** 2

    def of(z):
        s = np.exp(z)
        a = tail(s)
        terms = np.append(s[:-1] / a[1:], 1.0) * s * g2
        slope = 2 * np.append(s[:-1] / a[1:], 0.5) * g2
        slope[1:] -= np.cumsum((s[:-1] / a[1:]) ** 2 * g2[:-1])
        total = np.log(terms.sum()) - np.log(a[0])
        return total, s * (slope / terms.sum() - 1 / a[0])

    found = minimize(of, np.zeros(len(g2)), jac=True, method="L-BFGS-B", options=dict(
        maxiter=20_000, maxfun=40_000, ftol=1e-15, gtol=1e-10, maxcor=30,
    ))  # fmt: skip
    return np.exp(found.fun / 2), np.exp(found.x - found.x.max())


class TestOptimal:
    @pytest.mark.parametrize("steps", [1, 2, 30])
    def test_no_point_that_a_last_step_leads_to_is_lower(self, steps):
        r = np.random.default_rng(steps)
        for norms in (
            np.ones(steps),
            1 + 9 * np.exp(-10 * np.arange(steps) / steps),
            r.uniform(0.5, 2.0, steps),
        ):
            values = np.asarray(js.optimal_schedule(norms)(np.arange(steps)), np.float64)
            there = np.append(norms, norms[-1])
            lowest, found = smallest(there)
            found, weight = found[:-1], found[-1] / found[:-1].max()
            np.testing.assert_allclose(values, found / found.max(), atol=1e-2)
            for w in weight * np.asarray([0.5, 0.9, 1.0, 1.1, 2.0]):
                bound = theorem(np.append(values, w), there)[0]
                assert bound >= lowest * (1 - 1e-6)
                assert w != weight or bound <= lowest * (1 + 1e-5)
            for _ in range(20):
                wild = np.exp(r.normal(size=steps + 1) * 10 ** r.uniform(-2, 0))
                other = np.append(values, weight) * wild
                assert theorem(other, there)[0] >= lowest * (1 - 1e-6)

    @pytest.mark.parametrize("steps", [2, 10, 1000])
    def test_rediscovers_linear_decay(self, steps):
        line = 1 - np.arange(steps) / steps
        values = np.asarray(js.optimal_schedule(np.ones(steps))(np.arange(steps)))
        assert np.all(np.diff(values) < 0)
        assert np.corrcoef(values, line)[0, 1] > 0.9998
        # The logarithm by which it differs.
        assert np.abs(values - line).max() < (1 + np.log(steps)) / steps
        # In the steps themselves it is better too, for it ends higher.
        ones = np.ones(steps)
        assert theorem_quickly(values, ones) < theorem_quickly(line, ones)

    def test_warms_up_where_the_norms_are_large_at_first(self):
        values = np.asarray(js.optimal_schedule(BUMP)(np.arange(T)))
        top = values.argmax()
        assert 10 < top < 60 and values[0] < 0.03 and np.all(np.diff(values[:20]) > 0)
        bound = js.convex_bound(js.table(values), total_steps=T, grad_norms=BUMP)
        for name in CURVES:
            other = js.table(values_of(name))
            assert js.convex_bound(other, total_steps=T, grad_norms=BUMP) > bound

    def test_hardly_steps_where_the_norms_explode(self):
        norms = np.concatenate([np.ones(50), np.full(T - 50, 1e4)])
        values = np.asarray(js.optimal_schedule(norms)(np.arange(T)))
        assert 0 < values[50:].max() < 1e-7 < values[:49].min()

    def test_has_no_scale(self):
        values = js.optimal_schedule(BUMP)(np.arange(T))
        for scale in (1e-30, 1e30):
            same = js.optimal_schedule(scale * BUMP)(np.arange(T))
            np.testing.assert_allclose(same, values, rtol=1e-5)

    @pytest.mark.parametrize("make", [js.optimal_schedule, js.refined_schedule])
    def test_is_data(self, make):
        s = make(BUMP)
        testing.assert_same(js.parse(repr(s)), s)
        assert s.steps == T and s(T) == s(10 * T) == 0
        assert np.max(s(np.arange(T))) == 1
        inside = jax.jit(lambda g: make(g)(np.arange(T)))(jnp.asarray(BUMP, jnp.float32))
        np.testing.assert_allclose(inside, s(np.arange(T)), rtol=1e-5)
        gradient = jax.jit(jax.grad(lambda g: make(g)(3)))
        for wild in (np.geomspace(1e-30, 1e30, T), np.geomspace(1e30, 1e-30, T)):
            slope = gradient(jnp.asarray(wild, jnp.float32))
            assert np.all(np.isfinite(make(wild)(np.arange(T)))) and np.all(np.isfinite(slope))


def as_their_code_does(norms, width=0.1, power=2, extra=True):
    """`find_closed_form_schedule` after their filter, with one point more."""
    size = 2 * (int(width * len(norms)) // 2) + 1
    mirrored = np.pad(norms, (0, min(2 * size, len(norms) - 1)), mode="reflect")
    smooth = median_filter(mirrored, size=size, mode="nearest")[: len(norms)]
    w = np.append(smooth, smooth[-1]) ** -float(power)
    s = w[:-1] * tail(w)[1:]
    return s / s.max()


class TestRefined:
    @pytest.mark.parametrize(("steps", "norm"), [(1, "l1"), (3, "l2"), (1000, "l1"), (1000, "l2")])
    def test_of_equal_norms_is_linear_decay_exactly(self, steps, norm):
        t = np.arange(steps + 3)
        line = js.linear(1.0, 0.0, steps)(t)
        for level in (1.0, 0.3, 1e-20):
            s = js.refined_schedule(np.full(steps, level), norm=norm)
            np.testing.assert_array_equal(s(t), line)

    @pytest.mark.parametrize("steps", [2, 7, 501])
    @pytest.mark.parametrize(
        ("width", "norm", "power"),
        [(0.0, "l1", 1), (0.1, "l2", 2), (0.5, "l1", 1), (1.0, "l2", 2)],
    )
    def test_is_their_algorithm(self, steps, width, norm, power):
        norms = np.random.default_rng(steps).lognormal(size=steps)
        s = js.refined_schedule(norms, width=width, norm=norm)
        expected = as_their_code_does(norms, width, power)
        np.testing.assert_allclose(s(np.arange(steps)), expected, rtol=3e-6)

    def test_warms_up_and_anneals(self):
        norms = BUMP * np.where(np.arange(T) > 100, 2, 1)
        values = np.asarray(js.refined_schedule(norms)(np.arange(T)))
        assert values[0] < 0.03 and 10 < values.argmax() < 60
        assert values[105] < 0.4 * js.refined_schedule(BUMP)(105)
        assert js.convex_bound(js.table(values), total_steps=T, grad_norms=norms) < js.convex_bound(
            js.linear(1.0, 0.0, T), total_steps=T, grad_norms=norms
        )


LINE = js.linear(1.0, 0.0, 4)
SAYS = {
    "bad steps": (lambda: js.convex_bound(LINE, total_steps=0), "be at least 1, got total_steps=0"),
    "real steps": (lambda: js.convex_bound(LINE, total_steps=4.0), "Write total_steps=4"),
    "array steps": (lambda: js.convex_bound(LINE, total_steps=jnp.int32(4)), "be an int"),
    "negative": (
        lambda: js.convex_bound(-LINE, total_steps=4),
        "not negative at the steps",
    ),
    "a number": (lambda: js.convex_bound(0.1, total_steps=4), "`constant(0.1)`"),
    "a plateau": (
        lambda: js.convex_bound(LINE * js.reduce_on_plateau(), total_steps=4),
        "`convex_bound` takes schedules",
    ),
    "few norms": (lambda: js.convex_bound(LINE, total_steps=4, grad_norms=[1.0]), "shape (4,)"),
    "bad norms": (
        lambda: js.convex_bound(LINE, total_steps=2, grad_norms=[1.0, -1.0]),
        "`convex_bound(grad_norms=...)` must be finite and not negative, got grad_norms=[1.0, -1",
    ),
    "nan norms": (lambda: js.convex_bound(LINE, total_steps=1, grad_norms=[np.nan]), "grad_norms"),
    "norms of another run": (
        lambda: js.transfer_rate(1.0, LINE, LINE, total_steps=2, to_steps=3, grad_norms=[1, 1]),
        "to_grad_norms",
    ),
    "no rate": (lambda: js.transfer_rate(0.0, LINE, LINE, total_steps=2), "best_rate=0.0"),
    "from nothing": (
        lambda: js.transfer_rate(1.0, 0.0 * LINE, LINE, total_steps=2),
        "`transfer_rate(from_schedule=...)` must be positive at some step",
    ),
    "to nothing": (lambda: js.transfer_rate(1.0, LINE, 0.0 * LINE, total_steps=2), "to_schedule"),
    "silence": (
        lambda: js.transfer_rate(1.0, LINE, LINE, total_steps=2, grad_norms=[0, 0]),
        "`transfer_rate(grad_norms=...)` must be positive at some step",
    ),
    "wide": (lambda: js.refined_schedule([1.0], width=1.5), "be in [0, 1], got width=1.5"),
    "another norm": (lambda: js.refined_schedule([1.0], norm="linf"), "be one of 'l2', 'l1'"),
    "a table of norms": (lambda: js.optimal_schedule(np.ones((2, 2))), "one for each step"),
}


@pytest.mark.parametrize(("call", "text"), SAYS.values(), ids=SAYS)
def test_says(call, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        call()
    assert text in str(caught.value), str(caught.value)
