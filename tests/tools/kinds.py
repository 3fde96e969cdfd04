"""An optimizer of each kind of state, and one step of each."""

import jax
import jax.numpy as jnp
import optax

import jaxsched as js

PARAMS = {"b": jnp.zeros(2), "w": jnp.ones((3, 2))}
RATE = js.warmup_cosine(0.1, total_steps=40, warmup_steps=4)
CYCLES = js.linear(0.1, 0.01, 4).cycle()


def scaled(rule):
    """A rule beside a schedule."""
    return js.scale_by_learning_rate(RATE * rule)


KINDS = {
    "schedule": js.scale_by_learning_rate(RATE),
    "plateau": scaled(js.reduce_on_plateau(patience=1, accumulation_size=2, ema_decay=0.5)),
    "flat": scaled(js.reduce_when_flat(block_size=1, blocks=8, rtol=0.5)),
    "greedy": scaled(js.greedy(patience=1, window_size=4)),
    "a long ring": scaled(js.greedy(patience=1, window_size=300)),
    "kl": scaled(js.kl_adaptive(1.2, tolerance=1.2, metric="value")),
    "spikes": scaled(js.spike_guard(sigmas=1.0, window_size=8, min_observations=3)),
    "warmup": scaled(js.auto_warmup(ratio=9.0, ema_decay=0.5)),
    "hypergradient": scaled(js.hypergradient(0.3)),
    "feedback": scaled(js.feedback(lambda s, x: 0.9 * s + 0.01 * x, 1.0)),
    "until": scaled(js.until(js.constant(1.0), js.linear(1.0, 0.0, 20))),
    "tunable": scaled(js.tunable(js.linear(1.0, 0.5, 30))),
    "inject": js.inject(
        optax.adamw, learning_rate=RATE * js.reduce_on_plateau(), weight_decay=js.linear(0.1, 0, 9)
    ),
    "wrap": js.wrap(optax.sgd(0.1, momentum=0.9), js.reduce_on_plateau(patience=1)),
    "groups": js.per_group({"b": "b", "w": "w"}, {"b": 0.1, "w": RATE * js.reduce_on_plateau()}),
    "accumulate": js.accumulate(scaled(js.reduce_on_plateau(patience=1)), 2),
    "skip": js.skip_spikes(scaled(js.greedy(patience=1)), window_size=8),
    "best": js.keep_best(scaled(js.reduce_on_plateau(patience=1)), backtrack=True),
    "snapshot": optax.chain(js.scale_by_learning_rate(CYCLES), js.snapshot(CYCLES, keep=3)),
    "average": js.average(
        scaled(js.greedy(patience=1)),
        [
            js.exponential_average(5),
            js.uniform_average(3),
            js.merged_decay(js.constant(1.0, 4) >> js.linear(1.0, 0.0, 8)),
            js.merged_decay(js.linear(0.5, 1.5, 20)),
        ],
        every=2,
    ),
    "noise": js.noise_scale(js.accumulate(scaled(js.reduce_on_plateau()), 2), batch_size=2),
    "monitor": optax.chain(js.monitor(), js.scale_by_learning_rate(RATE)),
    "partition": optax.partition(
        {k: js.inject(optax.adam, learning_rate=0.1 * js.reduce_on_plateau()) for k in PARAMS},
        {k: k for k in PARAMS},
    ),
}


def advanced(tx, carry, t):
    """The parameters and the state after one more update, with a loss that goes up and down."""
    params, state = carry
    tx = optax.with_extra_args_support(tx)
    dtype = jax.tree.leaves(params)[0].dtype
    grads = jax.tree.map(lambda x: jnp.cos(3 * x + t.astype(dtype)).astype(dtype), params)
    loss = 1 + jnp.sin(t.astype(jnp.float32))
    updates, state = tx.update(grads, state, params, value=loss)
    return optax.apply_updates(params, updates), state
