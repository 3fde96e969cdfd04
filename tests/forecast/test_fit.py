"""Fits: the truth is found again, bad runs are refused by name, what is unknown is said."""

import pickle

import jax
import numpy as np
import pytest

import jaxsched as js

TRUTH = js.MultiPowerLaw(
    floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
    unit_rate=0.01, unit_steps=2000,
)  # fmt: skip
STEPS = np.arange(100, 2001, 10)
STABLE, BRANCH = js.constant(0.01), js.constant(0.01, 1000) >> js.constant(0.003)
DECAY = js.constant(0.01, 1600) >> js.linear(0.01, 0.003, 400)


def runs(*schedules, noise=0.0, scale=1.0, steps=STEPS):
    random = np.random.default_rng(0)

    def losses(schedule):
        factor = np.exp(noise * random.normal(size=len(steps)))
        return scale * np.asarray(TRUTH(schedule, steps), np.float64) * factor

    return [(schedule, steps, losses(schedule)) for schedule in schedules]


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_law_found_from_two_runs_predicts_a_third(noise):
    law = js.fit_loss_law(runs(STABLE, BRANCH, noise=noise))
    np.testing.assert_allclose(law(DECAY, 2000), TRUTH(DECAY, 2000), rtol=3e-3 + noise / 2)
    low, high = law.band(DECAY, 2000)
    assert low < TRUTH(DECAY, 2000) < high


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_fit_does_not_depend_on_the_unit_of_the_loss(scale):
    law = js.fit_loss_law(runs(STABLE, BRANCH, scale=scale))
    expected = scale * TRUTH(DECAY, 2000)
    np.testing.assert_allclose(law(DECAY, 2000), expected, rtol=2e-3)


def test_a_fit_does_not_depend_on_the_units_of_rate_and_step():
    schedules = js.constant(1e-5), js.constant(1e-5, 10_000) >> js.constant(3e-6)
    losses = [x for _, _, x in runs(STABLE, BRANCH)]
    slow = [(s, 10 * STEPS, x) for s, x in zip(schedules, losses, strict=True)]
    law = js.fit_loss_law(slow)
    decay = js.constant(1e-5, 16_000) >> js.linear(1e-5, 3e-6, 4000)
    np.testing.assert_allclose(law(decay, 20_000), TRUTH(DECAY, 2000), rtol=2e-3)


def test_what_the_runs_do_not_determine_is_named_and_widens_the_band():
    alone, both = js.fit_loss_law(runs(STABLE)), js.fit_loss_law(runs(STABLE, BRANCH))
    assert {"drop", "memory", "beta", "gamma"} <= set(alone.undetermined)
    assert "drop" not in both.undetermined
    assert "gamma" in both.undetermined  # one level of branch does not tell it

    def half_width(law):
        low, high = law.band(DECAY, 2000)
        return float(high / low) ** 0.5 - 1

    assert half_width(alone) > 0.03
    assert half_width(both) < 0.015


def test_rates_of_a_log_are_as_good_as_the_schedule():
    warmup = js.linear(0.0, 0.01, 100)  # the log begins after it
    known = runs(warmup >> js.constant(0.01), warmup >> js.constant(0.01, 900) >> js.constant(3e-3))
    law = js.fit_loss_law([(s(STEPS), STEPS, x) for s, _, x in known])
    np.testing.assert_allclose(law(DECAY, 2000), js.fit_loss_law(known)(DECAY, 2000), rtol=1e-3)


def test_a_log_that_begins_at_its_interval_has_no_warmup():
    steps = np.arange(20, 2001, 20)
    known = [(s, steps, np.asarray(TRUTH(s, steps))) for s in (STABLE, BRANCH)]
    law = js.fit_loss_law([(s(steps), steps, x) for s, _, x in known])
    np.testing.assert_allclose(law(DECAY, 2000), TRUTH(DECAY, 2000), rtol=3e-3)


def test_the_order_of_the_runs_does_not_matter():
    laws = [js.fit_loss_law(x) for x in (runs(STABLE, BRANCH), runs(BRANCH, STABLE))]
    np.testing.assert_allclose(*(law(DECAY, 2000) for law in laws), rtol=1e-4)


def test_the_rates_of_the_warmup_count_and_its_losses_do_not():
    warm = js.linear(1e-4, 0.01, 400) >> js.constant(0.01)
    fell = js.linear(1e-4, 0.01, 400) >> js.constant(0.01, 800) >> js.constant(0.003)
    good = runs(warm, fell)
    spoilt = [(s, n, np.where(n < 400, 50.0, x)) for s, n, x in good]
    laws = [js.fit_loss_law(x) for x in (good, spoilt)]
    np.testing.assert_allclose(*(law(DECAY, 2000) for law in laws), rtol=1e-6)
    np.testing.assert_allclose(laws[0](DECAY, 2000), TRUTH(DECAY, 2000), rtol=3e-3)


def test_losses_of_single_batches_are_averaged():
    every = np.arange(1, 2001)
    law = js.fit_loss_law(runs(STABLE, BRANCH, noise=0.05, steps=every))
    np.testing.assert_allclose(law(DECAY, 2000), TRUTH(DECAY, 2000), rtol=5e-3)


def test_new_losses_compile_nothing(caplog):
    js.fit_loss_law(runs(STABLE, BRANCH, noise=0.01))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        js.fit_loss_law(runs(STABLE, BRANCH, noise=0.02))
    assert not [x for x in caplog.messages if "Compiling" in x and "_fitted" in x]


def test_a_fitted_law_is_data():
    law = js.fit_loss_law(runs(STABLE, BRANCH))
    again = pickle.loads(pickle.dumps(law))
    assert again(DECAY, 2000) == law(DECAY, 2000)
    assert again.undetermined == law.undetermined
    mapped = jax.vmap(lambda x: x(DECAY, 2000))(jax.tree.map(lambda x: np.stack([x, x]), law))
    np.testing.assert_allclose(mapped, law(DECAY, 2000), rtol=1e-6)
    assert "floor=" in repr(law)


def test_the_annealing_law_is_fitted_too():
    law = js.fit_loss_law(runs(STABLE, BRANCH), form="annealing")
    assert isinstance(law, js.AnnealingLaw)
    np.testing.assert_allclose(law(DECAY, 2000), TRUTH(DECAY, 2000), rtol=0.01)


LOSSES = np.asarray(TRUTH(STABLE, STEPS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((STABLE, STEPS, LOSSES), "be a list of runs"),
        ([], "be a list of runs"),
        (STABLE, "be a list of runs"),
        ([(STABLE, [100], [3.0])], r"at least 3 losses in runs\[0\]"),
        ([(STABLE, STEPS, np.where(STEPS == 500, np.nan, LOSSES))], r"nan at step 500"),
        ([(STABLE, STEPS, np.where(STEPS == 500, np.inf, LOSSES))], r"inf at step 500"),
        ([(STABLE, STEPS, LOSSES - 3.0)], r"positive losses.*at step 2000.*offset.* \d"),
        ([(STABLE, STEPS[::-1], LOSSES)], "2000, then 1990"),
        ([(STABLE, STEPS, LOSSES[1:])], "one loss for each of the 191 steps"),
        ([(js.constant(0.0), STEPS, LOSSES)], "above zero at some step"),
        ([(STABLE, STEPS, LOSSES), (-LOSSES, STEPS, LOSSES)], "not negative"),
        ([(np.full(91, 0.01), STEPS[100:], LOSSES[100:])], r"from the start of runs\[0\]"),
        ([(js.linear(0.0, 0.01, 3000), STEPS, LOSSES)], "ends at step 1999"),
    ],
)
def test_bad_runs_name_themselves(given, message):
    with pytest.raises(ValueError, match=f"fit_loss_law.*{message}"):
        js.fit_loss_law(given)


def test_a_wrong_form_lists_the_forms():
    with pytest.raises(ValueError, match="'multi_power', 'annealing'"):
        js.fit_loss_law(runs(STABLE), form="power")
