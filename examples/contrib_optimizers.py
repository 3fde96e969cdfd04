"""Trains with the optimizers of `optax.contrib`, each with a suitable schedule through `inject`.

Optimizers that find their own rate multiply it by the schedule. Schedule-free needs no decay. Its
updates must not be multiplied: `wrap` rejects it. Run it: `python examples/contrib_optimizers.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from optax import contrib
from sklearn.datasets import load_digits

from jaxsched import cosine, hyperparams, inject, linear, warmup_constant, wrap

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.float32(pixels / 16), jnp.int32(labels)
TRAIN, BATCH, STEPS = 1437, 128, 100
draws = jax.random.randint(jax.random.key(1), (STEPS, BATCH), 0, TRAIN)
weights = jax.random.normal(jax.random.key(0), (64, 74)) / 8
start = {"in": weights[:, :64], "out": weights[:, 64:], "bias": jnp.zeros(10)}

# 2. All start above 0. At rate 0 the first step of Prodigy and D-Adaptation is 0 / 0.
level = warmup_constant(0.02, warmup_steps=10)
factor = warmup_constant(1.0, warmup_steps=10).take(10) >> cosine(1.0, 0.0, STEPS - 10)
rate = 0.01 * factor


def mechanic(learning_rate):
    return contrib.mechanize(optax.adamw(learning_rate))


# 3. The slots of each optimizer. (MADGRAD and Muon's second rate need optax > 0.2.6.)
OPTIMIZERS = {
    "schedule_free_adamw": inject(contrib.schedule_free_adamw, learning_rate=level),
    "prodigy": inject(contrib.prodigy, learning_rate=factor),
    "dadapt_adamw": inject(contrib.dadapt_adamw, learning_rate=factor),
    "cocob": inject(contrib.cocob, learning_rate=factor),
    "mechanic": inject(mechanic, learning_rate=rate),
    "momo": inject(contrib.momo, learning_rate=factor),  # the largest rate; needs the loss
    "muon": inject(contrib.muon, learning_rate=5 * rate, adam_learning_rate=rate),
    "ademamix": inject(contrib.ademamix, learning_rate=rate, alpha=linear(0.0, 5.0, STEPS)),
    "madgrad": inject(contrib.madgrad, learning_rate=rate),
    "wrapped madgrad": wrap(contrib.madgrad(0.01), factor),
}


def loss(params, rows):
    logits = jax.nn.relu(pixels[rows] @ params["in"]) @ params["out"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()


@partial(jax.jit, static_argnums=0)
def train(tx, params):
    def step(run, rows):
        params, state = run
        value, grads = jax.value_and_grad(loss)(params, rows)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), {"loss": value, **hyperparams(state)}

    (params, state), log = jax.lax.scan(step, (params, tx.init(params)), draws)
    if isinstance(state.inner_state, contrib.ScheduleFreeState):
        params = contrib.schedule_free_eval_params(state.inner_state, params)
    return log, loss(params, jnp.arange(TRAIN, len(pixels)))


def main(names=tuple(OPTIMIZERS)):
    logs = {}
    for name in names:
        logs[name], held_out = train(OPTIMIZERS[name], start)
        used = "  ".join(f"{slot} {values[50]:.4f}" for slot, values in logs[name].items())
        print(f"{name:20} held out {held_out:.3f}  halfway: {used}")
    return logs


if __name__ == "__main__":
    main()
