"""Wrong names, wrong keywords and wrong orders say what was meant."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cosine_decay", r"Did you mean `jaxsched.cosine`"),
        (
            "cosine_decay_schedule",
            r"compat.optax.cosine_decay_schedule`.*`jaxsched.cosine`",
        ),
        ("ReduceLROnPlateau", r"compat.torch.ReduceLROnPlateau`.*`jaxsched.reduce_on_plateau`"),
        ("CosineLRScheduler", r"compat.timm.CosineLRScheduler`"),
        (
            "get_cosine_schedule_with_warmup",
            r"transformers.get_cosine_schedule_with_warmup`",
        ),
        ("reduce_on_plato", r"Did you mean `jaxsched.reduce_on_plateau`"),
        ("hyperparam", r"`jaxsched.hyperparams`"),
    ],
)
def test_an_attribute_that_is_not_there(name, meant):
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'.*{meant}"):
        getattr(js, name)
    assert not hasattr(js, name)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: js.reduce_on_plateau(min_lr=0.1), r"`min_scale` by `min_lr`\?.*\.clip\(low\)"),
        (lambda: js.reduce_on_plateau(patiance=3), "`patience` by `patiance`"),
        (lambda: js.reduce_on_plateau(threshold=3), "`rtol` by `threshold`"),
        (
            lambda: js.step_decay(0.1, gamma=0.5, step_size=3),
            "`factor` by `gamma`.*`every` by",
        ),
        (lambda: js.warmup_cosine(0.1, num_training_steps=9, warmup_steps=1), "`total_steps` by"),
        (lambda: js.piecewise_constant(0.1, [0.1, 0.01], [3]), r"constant\(values, boundaries\)"),
        (
            lambda: js.cosine(0.1, eta_min=0.0, T_max=3),
            "`end_value` by `eta_min`.*`steps` by",
        ),
        (lambda: js.bert(0.1), r"It is `bert\(peak_value, \*, total_steps, .*decay=linear\)`"),
    ],
)
def test_a_call_that_does_not_fit(call, meant):
    with pytest.raises(TypeError, match=meant):
        call()


def test_an_error_from_within_is_as_it_was():
    def broken(t):
        return len(t)

    with pytest.raises(ValueError, match="broken"):
        js.from_function(broken)
    with pytest.raises(TypeError) as caught:
        js.linear(1.0, 0.0, 4)(0.5)
    assert "Did you mean" not in str(caught.value)


def test_public_functions_are_known_by_their_public_names():
    assert js.cosine.__module__ == "jaxsched" and js.cosine.__name__ == "cosine"
    assert pickle.loads(pickle.dumps(js.cosine)) is js.cosine
    assert js.warmup_cosine(0.1, total_steps=9, warmup_steps=1, warmup=js.cosine).steps == 9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: js.warmup_cosine(0.1, total_steps=100, warmup_steps=0.1),
            r"`Units\(total_steps=...\).fraction\(0.1\)`, and `10%` in a text",
        ),
        (
            lambda: js.cosine(500, 0.1, 0.0),
            r"The order is `cosine\(init_value, end_value",
        ),
        (lambda: js.linear(1000, 0.1, 0.5), r"The order is `linear\(init_value"),
        (lambda: js.linear(0, 0.1, 1e5), r"Write steps=100_000"),
    ],
)
def test_lengths_that_are_none(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "piecewise_constant(0.1, [0.1, 0.01], [30])",
            r"boundaries\)` takes no argument",
        ),
        ("StepLR(0.1, 30)", "is the twin `jaxsched.compat.torch.StepLR`, and twins .* are not in"),
        ("compat.torch.StepLR(0.1, 30)", "twins of other libraries are not in texts"),
        ("js.cosine(0.1, 0.0, 30)", "without their module"),
        ("cosine_schedule(0.1, 0.0, 30)", "Did you mean cosine"),
        ("cosine(500, 0.1, 0.0)", "The order is"),
    ],
)
def test_texts_that_say_something_else(text, said):
    with pytest.raises(ValueError, match=said):
        js.parse(text)


def test_a_stacked_state_says_both_ways():
    tx = js.scale_by_learning_rate(0.1 * js.reduce_on_plateau())
    state = jax.vmap(lambda _: tx.init({}))(jnp.arange(3))
    with pytest.raises(ValueError, match=r"under `jax.vmap`, or .*`value=jnp.full\(\(3,"):
        js.observe(state, value=1.0)
    js.observe(state, value=jnp.full((3,), 1.0))


def test_other_libraries_have_no_state_of_ours():
    rule = js.linear(0.1, 0.0, 9) * js.reduce_on_plateau()
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=r"without a state.* schedule alone.*own plateau"):
        js.compat.torch.to_lambda_lr(optimizer, rule)


def test_keras_has_none_either():
    with pytest.raises(ValueError, match=r"`to_keras` takes a schedule without a state"):
        js.compat.keras.to_keras(js.linear(0.1, 0.0, 9) * js.reduce_on_plateau())


WARM, FALL = js.linear(0.0, 0.1, 50), js.cosine(0.1, 0.0, 100)


@pytest.mark.parametrize(
    ("schedule", "jump"),
    [
        (0.5 * WARM >> FALL, (50, 0.05, 0.1)),
        (WARM >> FALL + 0.01, (50, 0.1, 0.11)),
        (2 * (WARM >> FALL * 2).clip(0.01), (50, 0.2, 0.4)),
        ((WARM >> FALL * 0.5) + 0.1, (50, 0.2, 0.15)),
        ((WARM >> js.constant(0.2, 0) >> FALL * 0.5) * js.greedy(), (50, 0.1, 0.05)),
        (js.constant(0.1, 3) >> js.constant(0.01), (3, 0.1, 0.01)),
    ],
    ids=repr,
)
def test_a_jump_at_a_join_is_told(schedule, jump):
    (found,) = js.describe(schedule).jumps
    np.testing.assert_allclose(found, jump, rtol=1e-6)
    step, before, after = jump
    assert f"jumps from {before:.4g} to {after:.4g} at step {step}" in repr(js.describe(schedule))


def test_what_meets_does_not_jump():
    for schedule in (WARM >> FALL, js.warmup_cosine(0.1, total_steps=90, warmup_steps=9), FALL):
        assert js.describe(schedule).jumps == ()
    optimized = js.from_function(optax.join_schedules([optax.constant_schedule(1.0)] * 2, [3]))
    assert js.describe(optimized.take(5)).jumps == ()


def test_a_picture_tells_it_too():
    halved = 0.5 * WARM >> FALL
    (panel,) = js.plot(halved).axes
    assert "0.05 → 0.1" in [text.get_text() for text in panel.texts]
    assert "0.05 → 0.1" in halved._repr_html_()


def test_a_wrong_keyword_is_guessed_once():
    with pytest.raises(TypeError) as caught:
        js.cosine(0.1, 0.0, stepss=3)
    assert str(caught.value).count("Did you mean") == 1
