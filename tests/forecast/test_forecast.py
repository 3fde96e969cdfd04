"""Forecasts say what they do not know; the best schedule is better, and runs in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js

TRUTH = js.MultiPowerLaw(
    floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
    unit_rate=0.01, unit_steps=2000,
)  # fmt: skip
STEPS = np.arange(100, 2001, 10)
STABLE, BRANCH = js.constant(0.01), js.constant(0.01, 1000) >> js.constant(0.001)


@pytest.fixture(scope="module")
def law():
    return js.fit_loss_law([(s, STEPS, TRUTH(s, STEPS)) for s in (STABLE, BRANCH)])


def test_a_forecast_covers_the_run_from_the_end_of_the_warmup(law):
    schedule = js.warmup_cosine(0.01, total_steps=4000, warmup_steps=200, end_value=0.001)
    found = js.forecast(law, schedule)
    assert (found.steps[0], found.steps[-1]) == (201, 4000)
    np.testing.assert_allclose(found.losses, law(schedule, found.steps))
    assert np.all(found.low < found.losses)
    assert np.all(found.losses < found.high)
    assert found.doubts == ()
    assert found.loss == pytest.approx(float(TRUTH(schedule, 4000)), rel=3e-3)
    assert str(found).endswith("at step 4000")


@pytest.mark.parametrize(
    ("schedule", "doubt"),
    [
        (js.constant(0.01, 900) >> js.linear(0.01, 0.0, 100) >> js.constant(0.0, 9), "to zero"),
        (js.linear(0.01, 1e-4, 1000), "The rate falls to"),
        (js.constant(0.02, 900) >> js.constant(0.01, 9), "up to 0.02"),
        (js.constant(0.01, 100_000), "50 times"),
        (js.linear(0.01, 0.001, 1000).cycle(cycles=2), "rises after its warmup"),
    ],
)
def test_a_forecast_says_where_it_leaves_the_runs(law, schedule, doubt):
    assert any(doubt in x for x in js.forecast(law, schedule).doubts)


def test_a_law_that_never_saw_a_fall_says_so():
    law = js.fit_loss_law([(STABLE, STEPS, TRUTH(STABLE, STEPS))])
    assert "have no fall" in js.forecast(law, js.linear(0.01, 0.001, 2000)).doubts[-1]


def test_higher_levels_are_wider(law):
    schedule = js.linear(0.01, 0.001, 2000)
    bands = [js.forecast(law, schedule, level=level).band for level in (0.5, 0.9, 0.99)]
    widths = [high - low for low, high in bands]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda law: js.forecast(law, STABLE), "total_steps=100_000"),
        (lambda law: js.forecast(law, js.linear(0.0, 0.01, 100)), "after its warmup"),
        (lambda law: js.forecast("law", STABLE), "fit_loss_law"),
        (lambda law: js.forecast(TRUTH, STABLE, total_steps=100), "fit_loss_law"),
        (lambda law: js.forecast(law, STABLE, total_steps=100, level=1.0), "in \\(0, 1\\)"),
        (lambda law: js.best_schedule(TRUTH, 100), "Give `lowest` and `highest`"),
        (lambda law: js.best_schedule(law, 100, lowest=0.1), "lowest=.*below the highest, 0.01"),
        (lambda law: js.best_schedule(law, 4000, knots=1000), "at most 129"),
        (lambda law: js.best_schedule(law, 10), "at most 11"),
        (
            lambda law: js.best_remaining(
                law, js.warmup_linear(0.01, total_steps=4000, warmup_steps=500), 50
            ),
            "above 500, the end of the warmup",
        ),
        (lambda law: js.forecast(law, STABLE, total_steps=1), "at least 2"),
        (lambda law: js.best_schedule(law, 100, warmup_steps=100), "warmup_steps"),
        (lambda law: js.best_remaining(law, STABLE, 10), "total_steps"),
        (lambda law: js.best_remaining(law, STABLE, 100, total_steps=100), "step=100"),
    ],
)
def test_a_wrong_call_names_its_remedy(law, call, message):
    with pytest.raises(ValueError, match=message):
        call(law)


def test_the_best_schedule_is_better_than_others_and_within_its_bounds(law):
    best = js.best_schedule(law, 4000, warmup_steps=200)
    others = (
        js.warmup_linear(0.01, total_steps=4000, warmup_steps=200, end_value=0.001),
        js.warmup_cosine(0.01, total_steps=4000, warmup_steps=200, end_value=0.001),
        js.warmup_stable_decay(
            0.01, total_steps=4000, warmup_steps=200, decay_steps=800, end_value=0.001
        ),
    )
    assert all(TRUTH(best, 4000) <= TRUTH(other, 4000) + 1e-4 for other in others)
    rates = np.asarray(best(np.arange(200, 4000)))
    assert rates.min() >= 0.001 * 0.999
    assert rates.max() <= 0.01 * 1.001
    assert np.all(np.diff(rates) <= 1e-9)
    assert js.parse(repr(best)) == best


def test_the_rest_starts_from_the_rate_that_was_used(law):
    plan = js.linear(0.01, 0.001, 4000)
    rest = js.best_remaining(law, plan, 2000)
    assert rest(2000) <= plan(1999) * 1.001
    free = js.best_remaining(law, plan, 2000, monotone=False)

    def whole(rest):
        return plan.take(2000) >> rest.shift(-2000)

    ends = [TRUTH(x, 4000) for x in (whole(free), whole(rest), plan)]
    assert ends == sorted(ends)


def test_a_rate_below_all_others_is_not_raised(law):
    plan = js.linear(0.01, 0.0, 4000)
    rest = js.best_remaining(law, plan, 3900, knots=9)
    assert np.all(np.asarray(rest(np.arange(3900, 4000))) <= plan(3899))


def test_a_law_that_fits_badly_says_so():
    rising = np.linspace(2.0, 3.0, len(STEPS))
    found = js.forecast(js.fit_loss_law([(STABLE, STEPS, rising)]), STABLE, total_steps=4000)
    assert any("worse than usual" in x for x in found.doubts)


def test_a_run_that_fell_to_zero_bounds_the_rest_above_it():
    runs = [STABLE, js.constant(0.01, 1000) >> js.linear(0.01, 0.0, 500)]
    law = js.fit_loss_law([(s, STEPS, TRUTH(s, STEPS)) for s in runs])
    assert js.best_schedule(law, 4000)(4000) >= 1e-5


def test_a_run_takes_the_rest_without_compiling_anything(law):
    places = np.linspace(0, 4000, 21).round().astype(int)
    plan = js.piecewise_linear(np.asarray(js.linear(0.01, 0.001, 4000)(places)), places)
    tx = js.inject(optax.sgd, learning_rate=js.tunable(plan))
    traces = 0

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.ones(3)
    state = js.set_step(tx.init(params), 1999)
    params, state = step(params, state)
    rest = js.best_remaining(law, plan, 2000, total_steps=4000, knots=21)
    state = js.retune(state, learning_rate=rest)
    for t in (2000, 2001):
        params, state = step(params, state)
        assert js.hyperparams(state)["learning_rate"] == pytest.approx(float(rest(t)), rel=1e-6)
    assert traces == 1


def test_the_picture_shows_the_log_the_bands_and_the_others(law, tmp_path):
    found = [js.forecast(law, s) for s in (js.linear(0.01, 0.001, 2000), js.constant(0.01, 2000))]
    log = STEPS, TRUTH(STABLE, STEPS)
    figure = found[0].plot(tmp_path / "forecast.png", log=log, beside=found[1:])
    losses, rates = figure.axes
    assert len(losses.get_lines()) == 3
    assert len(losses.collections) == 2
    assert len(rates.get_lines()) == 2
    assert (tmp_path / "forecast.png").stat().st_size > 10_000
