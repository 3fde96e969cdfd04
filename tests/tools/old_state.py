"""The optimizer whose state was written by the code before scalars were packed in two vectors.

The file in `tests/state/old` was written by `write` at that code.
"""

import pathlib

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

FOLDER = pathlib.Path(__file__).parents[1] / "state" / "old"
PARAMS = {"b": jnp.zeros(2), "w": jnp.ones((3, 2))}


def optimizer() -> optax.GradientTransformation:
    """Something of every kind."""
    rate = (js.linear(0.0, 0.1, 3) >> js.cosine(0.1, 0.0, 20)) * js.reduce_on_plateau(patience=1)
    rate = (
        rate
        * js.spike_guard(metric="loss", window_size=8)
        * js.until(js.constant(1.0), js.linear(1.0, 0.0, 4))
    )
    adam = js.inject(optax.adamw, learning_rate=rate, weight_decay=js.cosine(0.1, 0.01, 20))
    guarded = js.keep_best(js.skip_spikes(adam, window_size=8), metric="loss")
    return optax.chain(js.monitor(), guarded)


def trained(tx: optax.GradientTransformation, steps: int) -> tuple[optax.Params, optax.OptState]:
    """The parameters and the state after some updates."""
    params, state = PARAMS, tx.init(PARAMS)
    update = jax.jit(tx.update)
    for step in range(steps):
        grads = jax.tree.map(lambda x, t=step: jnp.sin(x + t), params)
        loss = 1.0 / (1 + step) if step < 3 else 1.0
        updates, state = update(grads, state, params, value=loss, loss=loss)
        params = optax.apply_updates(params, updates)
    return params, js.override(js.trigger(state), weight_decay=0.05)


def write() -> None:
    """Writes what `optimizer` has after six updates."""
    _, state = trained(optimizer(), 6)
    state = jax.tree.map(np.asarray, state)
    (FOLDER / "state.msgpack").write_bytes(flax.serialization.to_bytes(state))
