"""The error and the memory of the sample of gradients that `monitor` reads.

    python benchmarks/monitor.py

`monitor` estimates the norm of the gradients, and the cosine between gradients of consecutive
steps, from at most 8192 numbers of each array. The error is measured on gradients whose layers
differ in size and scale as much as those of a language model do.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Table, run, size

import jaxsched as js

DRAWS = 40
LAYERS = {  # shape, and the scale of its gradient
    "embedding": ((5000, 64), 0.01),
    "wide": ((64, 3000), 1.0),
    "kernel": ((3, 3, 128, 96), 0.3),
    "bias": ((96,), 5.0),
    "scale": ((), 2.0),
    "long": ((100_000,), 0.1),
    "row": ((2, 50_000), 0.2),
}


def decoder(width: int, layers: int, vocabulary: int) -> list[tuple[int, ...]]:
    """The shapes of the parameters of a GPT-2."""
    block = [(width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [(width, 4 * width), (4 * width,), (4 * width, width), (width,), *[(width,)] * 4]
    return [(vocabulary, width), (1024, width), *block * layers, (width,), (width,)]


MODELS = {
    "a small network on digits": [(64, 64), (64,), (64, 10), (10,)],
    "GPT-2 small": decoder(768, 12, 50_257),
    "GPT-2 XL": decoder(1600, 48, 50_257),
}


def gradients(seed: int) -> dict[str, jax.Array]:
    draw = np.random.default_rng(seed)
    return {k: jnp.asarray(s * draw.normal(size=n), jnp.float32) for k, (n, s) in LAYERS.items()}


def product(a: Any, b: Any) -> float:
    """The inner product of two trees, in float64."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.vdot(np.asarray(x, float), np.asarray(y, float))) for x, y in pairs)


def errors() -> Table:
    tx = js.monitor()
    update = jax.jit(lambda x, state: tx.update(x, state, x)[1])
    rows: list[tuple[Any, ...]] = []
    for similarity in (0.0, 0.6, 0.99):
        norms, cosines = [], []
        for seed in range(DRAWS):
            a, noise = gradients(seed), gradients(1000 + seed)
            rest = (1 - similarity**2) ** 0.5
            b = jax.tree.map(lambda x, y, c=similarity, r=rest: c * x + r * y, a, noise)
            found = update(b, update(a, tx.init(a))).gradient
            norms.append(float(found.norm) / product(b, b) ** 0.5 - 1)
            exact = product(a, b) / (product(a, a) * product(b, b)) ** 0.5
            cosines.append(float(found.cosine) - exact)
        cells = (f"{np.mean(x):+.1e}, {np.max(np.abs(x)):.1e}" for x in (norms, cosines))
        rows.append((f"cosine {similarity:g}", *cells))
    columns = "gradients of two steps", "relative error of the norm", "error of the cosine"
    note = (
        f"The table shows the mean error and the largest error over {DRAWS} pairs of random "
        "gradients. The gradients have seven layers of 1 to 320,000 numbers, with scales from 0.01 "
        "to 5."
    )
    return Table("The error of the monitor's sample", note, columns, tuple(rows))


def memory() -> Table:
    rows: list[tuple[Any, ...]] = []
    for name, shapes in MODELS.items():
        params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        state = jax.eval_shape(js.monitor().init, params)
        held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        count = sum(int(np.prod(shape)) for shape in shapes)
        rows.append((name, f"{count / 1e6:.3g} million", len(shapes), size(4 * count), size(held)))
    columns = "model", "parameters", "arrays", "its gradients", "the state of `monitor`"
    note = "The table shows the size of the state of `monitor` in float32."
    return Table("The memory of the monitor", note, columns, tuple(rows))


def tables(turns: int) -> list[Table]:
    """Both."""
    return [errors(), memory()]


if __name__ == "__main__":
    run(tables)
