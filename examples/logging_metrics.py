"""Logs rates and events to TensorBoard, CSV, JSONL and W&B, without waiting at each step.

A scan collects the values, and each chunk of steps is one transfer. Run it with
`python examples/logging_metrics.py [folder]`.
"""

import csv
import json
import sys

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from tensorboardX import SummaryWriter

import jaxsched as js

# 1. Data: 1797 handwritten digits of 8 x 8 pixels.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = jnp.float32(pixels / 16), jnp.int32(labels)
BATCH, STEPS, CHUNK = 128, 120, 20

# 2. A rate for each group. A rule can cut one rate, and a guard can skip steps.
schedule = js.linear(1e-3, 1e-2, 10) >> js.cosine(1e-2, 0.0, STEPS - 10)
rates = {"in": schedule * js.reduce_on_plateau(patience=15, factor=0.5), "out": schedule / 2}
tx = optax.chain(optax.scale_by_adam(), js.per_group({"in": "in", "out": "out"}, rates))
tx = js.skip_spikes(tx, metric="value", window_size=16)


def loss(params, rows):
    logits = jax.nn.relu(pixels[rows] @ params["in"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()


# 3. The record of a step: scalars by name. The state already holds all of them.
def record(opt_state, **metrics):
    (plateau,) = js.factors(opt_state)["in/learning_rate"]
    happened = {f"events/{name}": count for name, count in js.events(opt_state).items()}
    return {**metrics, **js.hyperparams(opt_state), "in/plateau": plateau.scale, **happened}


@jax.jit
def chunk(run, draws):
    def step(run, rows):
        params, opt_state = run
        value, grads = jax.value_and_grad(loss)(params, rows)
        value = jnp.where(js.step(opt_state) == 70, 1e3, value)  # an artificial spike
        updates, new = tx.update(grads, opt_state, params, value=value)
        log = record(new, step=js.step(opt_state), loss=value)
        return (optax.apply_updates(params, updates), new), log

    return jax.lax.scan(step, run, draws)


# 4. Transfer each chunk as rows of Python numbers, and write the rows to every logger.
def main(folder="runs/logging", wandb_log=lambda row, step: None):  # or wandb.log
    weights = jax.random.normal(jax.random.key(0), (64, 74)) / 8
    params = {"in": weights[:, :64], "out": weights[:, 64:]}
    run = params, tx.init(params)
    draws = jax.random.randint(jax.random.key(1), (STEPS // CHUNK, CHUNK, BATCH), 0, len(labels))
    board = SummaryWriter(folder)  # makes the folder
    with (
        board,
        open(f"{folder}/metrics.csv", "w") as sheet,
        open(f"{folder}/metrics.jsonl", "w") as lines,
    ):
        table = csv.DictWriter(sheet, record(run[1], step=0, loss=0.0), lineterminator="\n")
        table.writeheader()
        for some in draws:
            run, log = chunk(run, some)
            columns = [x.tolist() for x in jax.device_get(log).values()]
            rows = [dict(zip(log, values, strict=True)) for values in zip(*columns, strict=True)]
            table.writerows(rows)
            lines.writelines(json.dumps(row) + "\n" for row in rows)
            for row in rows:
                wandb_log(row, step=row["step"])
                for name in row.keys() - {"step"}:
                    board.add_scalar(name, row[name], row["step"])
            print(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
