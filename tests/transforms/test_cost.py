"""What a schedule and its rules add to a compiled update: leaves, kernels and copies, counted.

On an accelerator each of them costs about as much as the arithmetic of a small update. They are
counted in the program that XLA compiles for a CPU, above the same update at a constant rate.
"""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxsched as js

PARAMS = {"b": jnp.ones((32, 32)), "w": jnp.ones((32, 32))}
RATE = js.warmup_cosine(1e-3, total_steps=1000, warmup_steps=100)
SMOOTHED = js.reduce_on_plateau(ema_decay=0.9)
CURVES = (
    RATE,
    js.linear(1.0, 0.0, 10),
    js.cosine(1.0, 0.0, 10),
    js.cosine(1.0, 0.0, 10, exponent=2.0),
    js.polynomial(1.0, 0.0, 10, power=0.9),
    js.polynomial(1.0, 0.0, 10, power=1.0, k=2.0),
    js.geometric(1.0, 0.1, 10),
    js.one_minus_sqrt(1.0, 0.0, 10),
    js.rex(1.0, 0.0, 10),
    js.tanh(1.0, 0.0, 10),
    js.exponential_decay(1.0, decay_rate=0.9, decay_steps=10),
    js.inverse_time_decay(1.0, decay_rate=1.0, decay_steps=10),
    js.inverse_sqrt(1.0, timescale=10),
    js.step_decay(1.0, factor=0.5, every=10),
)


def counted(tx):
    """The leaves of the state, and the fusions, copies and conditionals of an update."""
    tx, state = optax.with_extra_args_support(tx), tx.init(PARAMS)

    def step(params, state, grads, loss):
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(PARAMS, state, PARAMS, jnp.float32(1))
    text = lowered.compile().as_text()
    kinds = collections.Counter(re.findall(r"= \S+ ([a-z\-]+)\(", text[text.index("ENTRY") :]))
    return len(jax.tree.leaves(state)), *(kinds[x] for x in ("fusion", "copy", "conditional"))


@functools.cache
def constant():
    return counted(optax.adamw(1e-3))


def above(rate):
    return [
        a - b
        for a, b in zip(
            counted(js.inject(optax.adamw, learning_rate=rate)), constant(), strict=True
        )
    ]


@pytest.mark.parametrize(
    ("rate", "fusions"),
    [
        (RATE, 2),
        (RATE * js.reduce_on_plateau(), 3),
        (RATE * js.greedy(), 3),
        (RATE * js.until(js.constant(1.0), js.linear(1.0, 0.0, 5)), 3),
        (RATE * js.kl_adaptive(1.2, metric="value"), 4),
        (RATE * js.reduce_when_flat(), 20),  # a mean, and a line through the numbers of a ring
        (RATE * js.spike_guard(), 23),  # the least, the greatest, a mean and a deviation
        (RATE * js.reduce_on_plateau() * js.greedy() * js.spike_guard(), 26),
        *((schedule * SMOOTHED, 7) for schedule in CURVES),
        (js.piecewise_linear([1.0, 0.5, 0.2], [0, 10, 20]) * SMOOTHED, 9),
        (js.warmup_cosine_restarts(1.0, cycle_steps=10, warmup_steps=2, mult=2) * SMOOTHED, 13),
    ],
    ids=str,
)
def test_above_a_constant_rate(rate, fusions):
    leaves, more, copies, conditionals = above(rate)
    assert leaves == 2 and copies <= 2 and conditionals == 0
    assert more <= fusions
