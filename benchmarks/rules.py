"""What each rule and each wrapper costs in a training step, against the same step without it.

    python benchmarks/rules.py

The step is AdamW on a two-layer network, in a compiled scan, at a constant rate; the rule is at its
defaults and hears the loss of every step. Of the small step the difference is printed, which is the
cost itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from core import model, stepped
from measure import Table, paired, ratio, run, unit

import jaxsched as js
from jaxsched.testing import _FORBIDDEN

RATE = js.constant(1e-3)
CYCLES = js.cosine(1e-3, 0.0, 100).cycle()
GROUPS = {"a": "a", "b": "b"}


def chained(rate: Any) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(1e-4), js.scale_by_learning_rate(rate)
    )


def ruled(rule: Any) -> Callable[[], optax.GradientTransformation]:
    return lambda: chained(RATE * rule)


CASES: dict[str, Callable[[], Any]] = {
    "cosine with restarts, for scale": lambda: chained(CYCLES),
    "reduce_on_plateau()": ruled(js.reduce_on_plateau()),
    "greedy()": ruled(js.greedy()),
    "kl_adaptive(0.01)": ruled(js.kl_adaptive(0.01, metric="value")),
    "spike_guard()": ruled(js.spike_guard()),
    "spike_guard(metric='gradient_norm')": lambda: js.with_gradient_norm(
        chained(RATE * js.spike_guard(metric="gradient_norm"))
    ),
    "reduce_when_flat()": ruled(js.reduce_when_flat()),
    "auto_warmup()": ruled(js.auto_warmup()),
    "hypergradient()": ruled(js.hypergradient()),
    "feedback(...)": ruled(js.feedback(lambda s, loss: jnp.where(loss > 1e9, s * 0.5, s))),
    "until(a, b)": ruled(js.until(js.constant(1.0), js.linear(1.0, 0.0, 100))),
    "cooldown(a, shape)": ruled(js.cooldown(js.constant(1.0), js.linear(1.0, 0.0, 100))),
    "tunable(cosine)": ruled(js.tunable(js.cosine(1.0, 0.5, 10_000))),
    "per_group, two groups": lambda: optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(1e-4),
        js.per_group(GROUPS, {"a": RATE, "b": CYCLES}),
    ),
    "layerwise": lambda: optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(1e-4),
        js.layerwise(decay=0.5, depth=["a", "b"]),
        js.scale_by_learning_rate(RATE),
    ),
    "skip_spikes(tx)": lambda: js.skip_spikes(chained(RATE)),
    "keep_best(tx)": lambda: js.keep_best(chained(RATE)),
    "snapshot(cycles, keep=5)": lambda: optax.chain(chained(RATE), js.snapshot(CYCLES, keep=5)),
    "average(tx, exponential_average(100))": lambda: js.average(
        chained(RATE), js.exponential_average(100)
    ),
    "monitor()": lambda: optax.chain(js.monitor(), chained(RATE)),
}


def forbidden(tx: Any) -> int:
    """How many branches, callbacks and transfers there are in the compiled update."""
    params, _, _ = model(4)
    tx = optax.with_extra_args_support(tx)
    update = jax.jit(lambda s, v: tx.update(params, s, params, value=v))
    return len(
        _FORBIDDEN.findall(update.lower(tx.init(params), jnp.float32(1)).compile().as_text())
    )


def tables(turns: int) -> list[Table]:
    """A row for each."""
    bare = {width: stepped(chained(RATE), width, steps) for width, steps in ((1024, 20), (4, 1000))}
    rows: list[tuple[Any, ...]] = []
    for name, make in CASES.items():
        large, _, found = paired(stepped(make(), 1024, 20), bare[1024], turns)
        small, without, _ = paired(stepped(make(), 4, 1000), bare[4], turns)
        share = ratio([1 / x for x in found])
        adds = unit(max(small - without, 0) / 1000)
        rows.append((f"`{name}`", unit(large / 20), share, adds, forbidden(make())))
    columns = "with", "large step", "with / without", "adds to a small step", "branches"
    note = (
        "The table compares a step of AdamW on a two-layer network, in a compiled scan, with the "
        "same step at a constant rate. The large step takes more than a millisecond, and the small "
        "step takes some microseconds."
    )
    return [Table("Rules and wrappers, in a whole step", note, columns, tuple(rows))]


if __name__ == "__main__":
    run(tables)
