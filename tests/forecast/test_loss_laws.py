"""The laws, against sums over all steps in float64, written from the papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js

PAPER = {"L0": 2.9, "A": 0.6, "alpha": 0.45, "B": 380.0, "C": 2.0, "beta": 0.6, "gamma": 0.65}
STEPS = 6000


def multi_power(rates, warmup, at):
    """Luo et al., equations 1 to 3: updates 1 .. T at eta_1 .. eta_T, and S_W for the warmup."""
    eta = np.append(rates[warmup], rates[warmup + 1 :])
    before, total = rates[: warmup + 1].sum(), np.cumsum(eta)
    t = at - warmup - 1  # the last update after the one at the peak
    s1 = total[t] - total[0] + before
    decay = sum(
        PAPER["B"]
        * (eta[k - 1] - eta[k])
        * (
            1
            - (PAPER["C"] * eta[k] ** -PAPER["gamma"] * (total[t] - total[k - 1]) + 1)
            ** -PAPER["beta"]
        )
        for k in range(1, t + 1)
    )
    return PAPER["L0"] + PAPER["A"] * s1 ** -PAPER["alpha"] - decay


def annealing(rates, warmup, at, momentum, c):
    """Tissue et al., equation 1: S2 is a sum of momenta, one step after the other."""
    s2 = m = 0.0
    for i in range(warmup + 1, at):
        m = momentum * m + (rates[i - 1] - rates[i])
        s2 += m
    return PAPER["L0"] + PAPER["A"] * rates[:at].sum() ** -PAPER["alpha"] - c * s2


LAW = js.MultiPowerLaw(
    floor=PAPER["L0"], gain=PAPER["A"], alpha=PAPER["alpha"], drop=PAPER["B"],
    memory=1 / PAPER["C"], beta=PAPER["beta"], gamma=PAPER["gamma"],
)  # fmt: skip
WARMUP = 300
SCHEDULES = {
    "constant": js.warmup_constant(3e-4, warmup_steps=WARMUP),
    "cosine": js.warmup_cosine(3e-4, total_steps=STEPS, warmup_steps=WARMUP, end_value=3e-5),
    "to zero": js.warmup_linear(3e-4, total_steps=STEPS, warmup_steps=WARMUP),
    "wsd": js.warmup_stable_decay(
        3e-4, total_steps=STEPS, warmup_steps=WARMUP, decay_steps=900, end_value=1e-5
    ),
    "steps": js.linear(1e-6, 3e-4, WARMUP) >> js.step_decay(3e-4, factor=0.5, every=777),
    "inverse": js.warmup_inverse_sqrt(3e-4, warmup_steps=WARMUP),
    "restarts": js.linear(1e-6, 3e-4, WARMUP) >> js.cosine(3e-4, 1e-4, 1000).cycle(),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_law_is_within_1e_4_of_the_sum_over_all_steps(name):
    schedule, at = SCHEDULES[name], np.array([400, 1500, 3100, 5200, 5700, STEPS])
    rates = np.asarray(schedule(np.arange(STEPS)), np.float64)
    expected = [multi_power(rates, WARMUP, t) for t in at]
    np.testing.assert_allclose(LAW(schedule, at), expected, rtol=1e-4)
    np.testing.assert_allclose(LAW(rates, at), expected, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_annealing_law_is_the_scan_of_the_paper(name):
    momentum, c = 0.995, 2.0
    law = js.AnnealingLaw(
        floor=PAPER["L0"], gain=PAPER["A"], alpha=PAPER["alpha"], drop=c / (1 - momentum),
        memory=-1 / np.log(momentum),
    )  # fmt: skip
    schedule, at = SCHEDULES[name], np.array([400, 3100, STEPS])
    rates = np.asarray(schedule(np.arange(STEPS)), np.float64)
    expected = [annealing(rates, WARMUP, t, momentum, c) for t in at]
    np.testing.assert_allclose(law(schedule, at), expected, rtol=1e-4)


def test_units_change_numbers_and_not_losses():
    other = js.MultiPowerLaw(
        floor=LAW.floor, gain=LAW.gain * 0.6**-LAW.alpha, alpha=LAW.alpha, drop=LAW.drop * 3e-4,
        memory=LAW.memory * 3e-4**LAW.gamma / 0.6, beta=LAW.beta, gamma=LAW.gamma,
        unit_rate=3e-4, unit_steps=2000,
    )  # fmt: skip
    schedule = SCHEDULES["cosine"]
    np.testing.assert_allclose(other(schedule, STEPS), LAW(schedule, STEPS), rtol=2e-6)


def test_a_long_run_is_read_at_131072_steps():
    def cosine(steps):
        return js.warmup_cosine(3e-4, total_steps=steps, warmup_steps=steps // 10, end_value=3e-5)

    law = js.MultiPowerLaw(
        floor=2.9, gain=0.2, alpha=0.5, drop=0.1, memory=0.02, beta=0.6, gamma=0.6,
        unit_rate=3e-4, unit_steps=1,
    )  # fmt: skip
    short, long = (
        js.MultiPowerLaw(**{**vars(law), "unit_steps": float(steps)})(cosine(steps), steps)
        for steps in (100_000, 10**9)
    )
    np.testing.assert_allclose(long, short, rtol=1e-5)


def test_losses_are_differentiable_in_the_numbers_of_the_schedule():
    def end(peak, low):
        schedule = js.constant(peak, 4000) >> js.linear(peak, low, 2000)
        return LAW(schedule, STEPS)

    slopes = jax.grad(end, (0, 1))(3e-4, 3e-5)
    for i, step in enumerate((3e-6, 3e-6)):
        ends = [end(*(3e-4 + s * step * (i == 0), 3e-5 + s * step * (i == 1))) for s in (-1, 1)]
        finite = (ends[1] - ends[0]) / (2 * step)
        np.testing.assert_allclose(slopes[i], finite, rtol=0.03)


def test_a_law_is_mapped_over_schedules_and_compiled():
    lows = jnp.array([1e-5, 3e-5, 1e-4])

    def end(low):
        return LAW(js.constant(3e-4, 4000) >> js.linear(3e-4, low, 2000), STEPS)

    np.testing.assert_allclose(jax.jit(jax.vmap(end))(lows), [end(low) for low in lows], rtol=1e-6)
    laws = jax.tree.map(lambda *x: jnp.stack(x), LAW, LAW.with_logs(LAW.logs() + 0.01))
    both = jax.vmap(lambda law: law(js.constant(3e-4), 500))(laws)
    np.testing.assert_allclose(both[0], LAW(js.constant(3e-4), 500), rtol=1e-6)


def test_a_rate_of_zero_stops_the_loss():
    schedule = js.constant(3e-4, 1000) >> js.constant(0.0)
    losses = LAW(schedule, [1001, 2000, 5000])
    assert np.all(np.isfinite(losses))
    assert losses[1] == losses[2]


def test_the_shape_is_that_of_the_steps():
    assert LAW(js.constant(3e-4), 10).shape == ()
    assert LAW(js.constant(3e-4), [20, 10]).shape == (2,)
    assert LAW(js.constant(3e-4), 10).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: js.MultiPowerLaw(**{**vars(LAW), "floor": -1.0}), r"MultiPowerLaw\(floor=...\)"),
        (lambda: LAW(js.constant(3e-4), 0), "at least 1"),
        (lambda: LAW(js.constant(3e-4), 2.5), "whole numbers"),
        (lambda: LAW([3e-4, 3e-4], 10), "a rate for each"),
        (lambda: LAW(js.constant(-1.0), 10), "not negative"),
        (lambda: LAW(js.constant(0.0), 10), "above zero at some step"),
        (lambda: LAW(3e-4, 10), "must be"),
        (lambda: LAW.band(js.constant(3e-4), 10), "fit_loss_law"),
    ],
)
def test_a_wrong_call_names_itself(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
