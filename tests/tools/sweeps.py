"""A sweep on the devices of several processes: `test_populations.py` asks whether it is the same.

python tests/tools/sweeps.py
"""

import functools
import sys
from typing import Any

import jax
import launch
import numpy as np
import optax
from jax.sharding import Mesh

import jaxsched as js
from jaxsched._commands._tasks._data import Digits, digits
from jaxsched._commands._tasks._digits import loss
from jaxsched._commands._tasks._model import Network

STEPS, BATCH, SEEDS = 40, 32, 2

POPULATION = [
    *js.grid(js.linear, init_value=[0.05, 0.2], end_value=0.0, steps=[STEPS, STEPS // 2]),
    *js.grid(js.warmup_cosine, peak_value=[0.1, 0.3], total_steps=STEPS, warmup_steps=[2, 10]),
    js.cosine(0.2, 0.0, 10).cycle(mult=2, decay=0.5),
]


def train(schedule: Any, key: jax.Array, data: Digits) -> tuple[jax.Array, jax.Array]:
    """The validation loss after a run, and the rates that were used."""
    tx = js.inject(functools.partial(optax.sgd, momentum=0.9), learning_rate=schedule)
    first, order = jax.random.split(key)
    params = Network().init(first, data.train.pixels[:1])["params"]
    batches = jax.random.randint(order, (STEPS, BATCH), 0, len(data.train.labels))

    def step(carry: Any, batch: jax.Array) -> Any:
        params, state = carry
        images = jax.tree.map(lambda x: x[batch], data.train)
        gradients = jax.grad(loss, has_aux=True)(params, images)[0]
        updates, state = tx.update(gradients, state, params, value=loss)
        rate = js.hyperparams(state)["learning_rate"]
        return (optax.apply_updates(params, updates), state), rate

    (params, _), rates = jax.lax.scan(step, (params, tx.init(params)), batches)
    return loss(params, data.valid)[0], rates


def swept(devices: int | None = None, chunk: int | None = None) -> js.Sweep:
    """The sweep, on so many devices; None is all there are."""
    mesh = None if devices is None else Mesh(np.array(jax.devices()[:devices]), ("runs",))
    run = jax.tree_util.Partial(train, data=digits())  # the data are arguments of the program
    return js.sweep(run, POPULATION, key=0, seeds=SEEDS, chunk=chunk, mesh=mesh)


def written() -> dict[str, Any]:
    """The leaderboard, and what it is of, to the last bit."""
    found = swept()
    return {
        "leaderboard": found.leaderboard(),
        "scores": [score.hex() for score in found.scores.ravel().tolist()],
        "rates": np.asarray(found.results, float).tolist(),
    }


def main() -> None:
    first, second = launch.started(__file__)
    print(f"both processes found the same: {first == second}")
    print(first["leaderboard"])


if __name__ == "__main__":
    launch.work(written, sys.argv[1:]) if len(sys.argv) > 1 else main()
