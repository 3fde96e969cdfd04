"""PPO on cart-pole: the rate and the clip range are annealed, or the rate adapts to the KL.

`hold` keeps a value for all minibatches of a policy update, so no count has to be divided. All
schedules read one step counter, and a run is one compiled program. Run: `python examples/ppo.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsched import constant, hyperparams, inject, kl_adaptive, linear, step

UPDATES, EPOCHS, MINIBATCHES, CARTS, LENGTH = 30, 4, 4, 64, 64

# 1. The schedules: one value for all epochs and minibatches of a policy update.
annealed = linear(3e-3, 0.0, UPDATES).hold(EPOCHS * MINIBATCHES)
by_kl = constant(1e-3) * kl_adaptive(0.003)
clip_range = linear(0.3, 0.1, UPDATES).hold(EPOCHS * MINIBATCHES)


# 2. The environment: cart-pole (Barto et al., 1983), which restarts when the pole has fallen.
def env_step(state, action, again):
    _, speed, angle, spin = state
    push = (jnp.where(action == 1, 10, -10) + 0.05 * spin**2 * jnp.sin(angle)) / 1.1
    turn = 9.8 * jnp.sin(angle) - jnp.cos(angle) * push
    turn /= 0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1)
    pull = push - 0.05 * turn * jnp.cos(angle) / 1.1
    state += 0.02 * jnp.stack([speed, pull, spin, turn])
    fell = (abs(state[0]) > 2.4) | (abs(state[2]) > 0.21)
    return jnp.where(fell, again, state), fell


def policy(params, state):
    return jnp.tanh(state @ params["in"]) @ params["out"]


def loss(params, state, action, logits, gain, clip):
    cost = optax.softmax_cross_entropy_with_integer_labels
    ratio = jnp.exp(cost(logits, action) - cost(policy(params, state), action))
    gain = jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - clip, 1 + clip) * gain)
    return -gain.mean(), jnp.mean(ratio - 1 - jnp.log(ratio))


# 3. A run. Each policy update acts, computes gains, and makes EPOCHS * MINIBATCHES updates of tx.
@partial(jax.jit, static_argnums=0)
def train(tx, params, draws):
    def update(carry, draws):
        def act(state, draw):
            logits = policy(carry[0], state)
            action = (logits + draw[0]).argmax(-1)
            new, fell = jax.vmap(env_step)(state, action, draw[1])
            return new, (state, action, logits, fell)

        def judge(later, fell):
            gain = 1 + 0.98 * later * ~fell
            return gain, gain

        def minibatch(carry, rows):
            params, opt_state = carry
            clip = clip_range(step(opt_state))
            batch = (x.reshape(LENGTH * CARTS, *x.shape[2:])[rows] for x in (*seen, gains))
            grads, kl = jax.grad(loss, has_aux=True)(params, *batch, clip)
            updates, opt_state = tx.update(grads, opt_state, params, kl=kl)  # for `kl_adaptive`
            log = {"clip": clip, "kl": kl, **hyperparams(opt_state)}
            return (optax.apply_updates(params, updates), opt_state), log

        state, (*seen, fell) = jax.lax.scan(act, carry[2], draws[:2])
        gains = jax.lax.scan(judge, jnp.zeros(CARTS), fell, reverse=True)[1]
        gains -= gains.mean(axis=1, keepdims=True)  # relative to the other carts at the same time
        gains /= gains.std() + 1e-6
        trained, log = jax.lax.scan(minibatch, carry[:2], draws[2])
        return (*trained, state), {**log, "falls": fell.mean()}

    return jax.lax.scan(update, (params, tx.init(params), jnp.zeros((CARTS, 4))), draws)[1]


def main():
    rng, logs = np.random.default_rng(0), {}
    params = {"in": rng.normal(size=(4, 64)), "out": rng.normal(size=(64, 2)) / 80}
    rows = rng.integers(LENGTH * CARTS, size=(UPDATES, EPOCHS * MINIBATCHES, 1024))
    noise = rng.gumbel(size=(UPDATES, LENGTH, CARTS, 2))
    again = rng.uniform(-0.05, 0.05, size=(UPDATES, LENGTH, CARTS, 4))
    for name, rate in {"annealed": annealed, "by the KL": by_kl}.items():
        tx = optax.chain(optax.clip_by_global_norm(0.5), inject(optax.adam, learning_rate=rate))
        logs[name] = train(tx, *jax.tree.map(jnp.asarray, (params, (noise, again, rows))))
        for i in range(0, UPDATES, 5):
            last = (f" {name} {values[i].mean():.4f}" for name, values in logs[name].items())
            print(f"{name}, update {i:2}:", *last)
    return logs


if __name__ == "__main__":
    main()
