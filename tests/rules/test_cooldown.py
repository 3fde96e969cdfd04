"""`cooldown`: from the value in force, whatever the schedule did before."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

WARM = js.linear(0.0, 1.0, 20) >> js.cosine(1.0, 0.1, 80)


@pytest.mark.parametrize("when", [0, 7, 20, 55, 200])
@pytest.mark.parametrize("end", [0.0, 0.3])
def test_it_continues_from_the_value_in_force(when, end):
    shape = js.one_minus_sqrt(1.0, 0.0, 16)
    rate = js.cooldown(WARM, shape, end_value=end)
    values = js.simulate(rate, total_steps=250, trigger_at=when).values
    steps = np.arange(250)
    force = float(WARM(when))
    after = end + (force - end) * np.asarray(shape(np.maximum(steps - when, 0)))
    expected = np.where(steps < when, WARM(steps), after)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-8)
    assert np.abs(np.diff(values)).max() < 0.3  # one step of the shape, and no jump


def test_with_a_plateau_in_the_compiled_step():
    rate = js.cooldown(js.constant(0.1), js.linear(1.0, 0.0, 4)) * js.reduce_on_plateau(
        patience=1, factor=0.5
    )
    tx = js.inject(optax.sgd, learning_rate=rate)
    update, state = jax.jit(tx.update), tx.init(jnp.zeros(1))
    seen = []
    for step, loss in enumerate([1.0, 2.0, 0.5, 0.4, 0.3, 0.2, 0.1]):
        state = js.trigger(state, when=step == 3)
        _, state = update(jnp.ones(1), state, value=loss)
        seen.append(float(js.hyperparams(state)["learning_rate"]))
    np.testing.assert_allclose(seen, [0.1, 0.05, 0.05, 0.05, 0.0375, 0.025, 0.0125], rtol=1e-6)
    testing.assert_compiles_clean(tx.update, jnp.ones(1), state)


def test_text_stack_and_errors():
    rate = 2.0 * js.cooldown(WARM, js.linear(1.0, 0.0, 9), end_value=0.1)
    testing.assert_same(js.parse(repr(rate)), rate)
    stacked = js.stack([js.cooldown(js.constant(x), js.linear(1.0, 0.0, 4)) for x in (1.0, 2.0)])
    assert jax.tree.leaves(stacked)[0].shape == (2,)
    with pytest.raises(ValueError, match=r"`cooldown` takes schedules, got 0\.1"):
        js.cooldown(0.1, js.linear(1.0, 0.0, 4))
    with pytest.raises(ValueError, match="`cooldown` takes schedules, got the stateful"):
        js.cooldown(js.reduce_on_plateau(), js.linear(1.0, 0.0, 4))
    with pytest.raises(ValueError, match=r"`cooldown\(end_value=...\)` must be a finite number"):
        js.cooldown(WARM, js.linear(1.0, 0.0, 4), end_value=math.inf)


def test_a_picture_has_both_parts():
    from jaxsched._look._curve import drawn

    rate = js.cooldown(WARM, js.linear(1.0, 0.0, 16))
    (curve,) = drawn([{"": rate}], trigger_at=60)[0]
    assert curve.steps[-1] + 1 == 76 and [*curve.boundaries][:2] == [20, 60] and not curve.jumps
    assert [x.start for x in curve.phases] == [0, 20, 60]


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("anneal", [0, 1, 10])
def test_swalr_of_torch(strategy, anneal):
    """The formulas of `torch.optim.swa_utils.SWALR`, from the rate in force at its first step."""
    before, swa_lr, when = js.compat.torch.ExponentialLR(0.1, 0.9), 0.05, 5
    rate = js.compat.torch.SWALR(before, swa_lr, anneal, strategy)
    found = js.simulate(rate, total_steps=25, trigger_at=when).values
    start = float(before(when))
    for step in range(when, 25):
        t = min(1.0, max(step - when, anneal == 0) / max(1, anneal))
        alpha = (1 - math.cos(math.pi * t)) / 2 if strategy == "cos" else t
        assert found[step] == pytest.approx(swa_lr * alpha + start * (1 - alpha), rel=1e-6)
    level = js.compat.torch.SWALR(0.1, swa_lr=0.05, anneal_epochs=2)
    assert js.simulate(level, total_steps=4, trigger_at=1).values.tolist() == pytest.approx(
        [0.1, 0.1, 0.075, 0.05]
    )
    with pytest.raises(ValueError, match="must be one of 'cos', 'linear'"):
        js.compat.torch.SWALR(0.1, 0.05, anneal_strategy="exp")
