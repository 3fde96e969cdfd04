"""`auto_warmup`: its docstring in plain Python, and the losses on which such rules go wrong."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from streams import follow

import jaxsched as js

NAN, INF = float("nan"), float("inf")


def factors(losses, **options):
    """The factor after each update; None is an update without a loss."""
    found, states = follow(js.auto_warmup(**options), losses, None, "value", True)
    return found, states[-1]


def reference(losses, ratio=3.0, floor=0.0, ema_decay=0.9):
    """The docstring of `auto_warmup`, in Python floats."""
    heard, first, out = [], None, []
    for loss in losses:
        if loss is not None and math.isfinite(loss):
            if len(heard) >= math.ceil(1 / (1 - ema_decay) - 1e-9) and first > floor:
                loss = min(loss, floor + 10 * (first - floor))
            heard.append(loss)
            ages = range(len(heard) - 1, -1, -1)
            weights = [ema_decay**age for age in ages]
            mean = sum(w * x for w, x in zip(weights, heard, strict=True)) / sum(weights)
            if len(heard) <= math.ceil(1 / (1 - ema_decay) - 1e-9):
                first = mean
        if len(heard) <= math.ceil(1 / (1 - ema_decay) - 1e-9):
            out.append(1 / (1 + ratio))
        elif first <= floor:
            out.append(1.0)
        else:
            out.append(1 / (1 + ratio * max(mean - floor, 0) / (first - floor)))
    return out


@pytest.mark.parametrize(
    ("losses", "options", "expected"),
    [
        ([4.0, 2.0, 0.0], dict(ratio=1.0, ema_decay=0.0), [1 / 2, 2 / 3, 1]),
        ([None, 4.0, None, 1.0], dict(ratio=3.0, ema_decay=0.0), [1 / 4, 1 / 4, 1 / 4, 4 / 7]),
        # It is no latch: where the loss rises, the factor falls, beyond its start.
        ([4.0, 1.0, 4.0, 8.0], dict(ratio=1.0, ema_decay=0.0), [1 / 2, 4 / 5, 1 / 2, 1 / 3]),
        ([NAN, 4.0, INF, 4.0, -INF], dict(ratio=1.0, ema_decay=0.0), [1 / 2] * 5),
        ([4.0, -1.0, -9.0], dict(ratio=1.0, ema_decay=0.0), [1 / 2, 1, 1]),
        ([-1.0, -2.0, 3.0], dict(ema_decay=0.0), [1 / 4, 1, 1]),
        ([-1.0, -2.0], dict(ratio=1.0, floor=-3.0, ema_decay=0.0), [1 / 2, 2 / 3]),
        ([4.0, 0.5, 9.0], dict(ratio=0.0), [1, 1, 1]),
        # One monstrous loss is forgotten soon.
        ([1.0, 1e30, 1.0], dict(ratio=1.0, ema_decay=0.0), [1 / 2, 1 / 11, 1 / 2]),
    ],
)
def test_what_it_does(losses, options, expected):
    np.testing.assert_allclose(factors(losses, **options)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(reference(losses, **options), expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_its_docstring(seed):
    r = random.Random(seed)
    options = dict(
        ratio=r.choice([0.5, 3.0, 30.0]),
        floor=r.choice([0.0, -2.0, 1.0]),
        ema_decay=r.choice([0.0, 0.55, 0.85, 0.97]),
    )
    losses = [4 * math.exp(-i / 20) + r.gauss(0, 0.5) for i in range(80)]
    losses = [r.choices([x, None, NAN, INF], [20, 2, 1, 1])[0] for x in losses]
    np.testing.assert_allclose(factors(losses, **options)[0], reference(losses, **options), 1e-5)


LOSSES = [5 * math.exp(-i / 15) + 0.3 + 0.2 * math.sin(i) for i in range(100)]


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_unit_of_the_loss_does_not_matter(scale):
    plain, scaled = (factors([c * x for x in LOSSES])[0] for c in (1.0, scale))
    np.testing.assert_allclose(plain, scaled, rtol=1e-5)


@pytest.mark.parametrize("shift", [2.0, -7.0, 100.0])
def test_with_its_floor_a_shift_does_not_matter(shift):
    plain = factors(LOSSES)[0]
    shifted = factors([x + shift for x in LOSSES], floor=shift)[0]
    np.testing.assert_allclose(plain, shifted, rtol=1e-4)


def test_without_its_floor_a_shifted_loss_keeps_the_factor_low():
    """The figure of the guide: a loss that cannot fall below two fifths of its start."""
    factor = factors([2 + 3 * math.exp(-i / 15) for i in range(500)])[0][-1]
    assert factor == pytest.approx(1 / (1 + 3 * 2 / 4.2), abs=0.03)


def test_losses_below_the_floor_are_counted():
    state = factors([4.0, 1.0, 0.5, -1.0, None, 3.0, -0.1], floor=0.6)[1]
    assert js.factors(state)["scale"][0].below == 3


def test_an_easy_first_batch_changes_little():
    """The first loss is one of ten that are averaged."""
    easy = [0.5 * LOSSES[0], *LOSSES[1:]]
    plain, found = np.asarray(factors(LOSSES)[0]), np.asarray(factors(easy)[0])
    assert np.abs(found / plain - 1)[10:].max() < 0.1


@pytest.mark.parametrize("easy", [1e-6, 1e-3, 0.0])
def test_a_first_batch_that_is_far_too_easy_is_one_of_ten(easy):
    found = factors([easy, *[2.0] * 40])[0]
    np.testing.assert_allclose(found[:10], 1 / 4, rtol=1e-6)
    # The mean of the first ten is a tenth too low, so the loss seems to have risen.
    assert min(found) > 0.2 and found[-1] == pytest.approx(0.23, abs=0.02)


def test_a_decay_that_float32_reads_as_one():
    assert factors([4.0, 2.0], ema_decay=1 - 1e-9)[0] == pytest.approx([1 / 4, 1 / 4])


def test_in_a_run_the_rate_rises_as_the_loss_falls():
    def loss(x):
        return 0.5 * (x**2).sum()

    tx = js.inject(optax.sgd, learning_rate=0.5 * js.auto_warmup(ratio=9.0, ema_decay=0.0))
    x = jnp.full(4, 10.0)
    state, rates = tx.init(x), []
    for _ in range(20):
        value, gradient = jax.value_and_grad(loss)(x)
        updates, state = tx.update(gradient, state, x, value=value)
        x = optax.apply_updates(x, updates)
        rates.append(float(js.hyperparams(state)["learning_rate"]))
    assert rates[0] == pytest.approx(0.05) and np.all(np.diff(rates) > 0) and rates[-1] > 0.45


def test_a_factor_alone_is_no_learning_rate():
    with pytest.raises(ValueError, match="learning rate"):
        js.scale_by_learning_rate(js.auto_warmup())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ratio=-1.0), r"`auto_warmup\(ratio=...\)` must not be negative, got ratio=-1.0"),
        (dict(floor=NAN), r"`auto_warmup\(floor=...\)` must be a finite number"),
        (dict(ema_decay=1.0), r"`auto_warmup\(ema_decay=...\)` must be in \[0, 1\)"),
        (dict(metric="params"), r"`auto_warmup\(metric=...\)` must not be an argument"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        js.auto_warmup(**options)
