"""The core's speed, as ratios against optax in one run; and torch's, where it is installed.

python benchmarks/core.py
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import Aim, Table, against, run

import jaxsched as js
from jaxsched.testing import _FORBIDDEN

Row = tuple[Any, ...]


def row(
    what: str,
    ours: Any,
    theirs: Any,
    turns: int,
    aim: float | None,
    per: int = 1,
    theirs_per: int = 0,
) -> Row:
    """`per` is how often what is timed happens in one call of ours, and `theirs_per` in theirs."""
    found = against(ours, theirs, turns, per, theirs_per)
    return what, *found, Aim(aim) if aim is not None else ""


def scanned(schedule: Callable[[Any], Any], steps: int) -> Callable[[], Any]:
    """The sum of a schedule over `steps` steps of one compiled scan."""

    @jax.jit
    def run(start: jax.Array) -> jax.Array:
        def body(carry: Any, _: None) -> Any:
            t, total = carry
            return (t + 1, total + jnp.asarray(schedule(t), jnp.float32)), None

        return jax.lax.scan(body, (start, jnp.float32(0)), length=steps)[0][1]

    return lambda: run(jnp.int32(0))


N = 100_000
SHAPES = {
    "constant": (js.constant(0.1), optax.constant_schedule(0.1)),
    "linear": (js.linear(1.0, 0.0, N), optax.linear_schedule(1.0, 0.0, N)),
    "polynomial 0.9": (
        js.polynomial(1.0, 0.0, N, power=0.9),
        optax.polynomial_schedule(1.0, 0.0, 0.9, N),
    ),
    "cosine": (js.cosine(1.0, 0.0, N), optax.cosine_decay_schedule(1.0, N)),
    "cosine, exponent 2": (
        js.cosine(1.0, 0.0, N, exponent=2.0),
        optax.cosine_decay_schedule(1.0, N, exponent=2.0),
    ),
    "exponential": (
        js.exponential_decay(1.0, decay_rate=0.9, decay_steps=1000),
        optax.exponential_decay(1.0, 1000, 0.9),
    ),
    "exponential, staircase": (
        js.exponential_decay(1.0, decay_rate=0.9, decay_steps=1000, staircase=True),
        optax.exponential_decay(1.0, 1000, 0.9, staircase=True),
    ),
    "piecewise constant": (
        js.piecewise_constant([1.0, 0.1, 0.01], [N // 2, 3 * N // 4]),
        optax.piecewise_constant_schedule(1.0, {N // 2: 0.1, 3 * N // 4: 0.1}),
    ),
    "warmup, constant": (
        js.warmup_constant(1.0, warmup_steps=1000),
        optax.warmup_constant_schedule(0.0, 1.0, 1000),
    ),
    "warmup, cosine": (
        js.warmup_cosine(1.0, total_steps=N, warmup_steps=1000),
        optax.warmup_cosine_decay_schedule(0.0, 1.0, 1000, N),
    ),
    "warmup, exponential": (
        js.warmup_exponential(1.0, warmup_steps=1000, decay_rate=0.9, decay_steps=1000),
        optax.warmup_exponential_decay_schedule(0.0, 1.0, 1000, 1000, 0.9),
    ),
    "one cycle, cosine": (js.one_cycle(1.0, total_steps=N), optax.cosine_onecycle_schedule(N, 1.0)),
    "one cycle, linear": (
        js.one_cycle(1.0, total_steps=N, curve=js.linear),
        optax.linear_onecycle_schedule(N, 1.0),
    ),
}


def shape_rows(turns: int) -> list[Row]:
    return [
        row(f"in a scan: {name}", scanned(ours, N), scanned(theirs, N), turns, 0.98, per=N)
        for name, (ours, theirs) in SHAPES.items()
    ]


def sgdr(cycles: int, length: int = 100) -> optax.Schedule:
    cycle = {
        "init_value": 0.1,
        "peak_value": 1.0,
        "decay_steps": length,
        "warmup_steps": 10,
        "end_value": 0.0,
    }
    return optax.sgdr_schedule([cycle] * cycles)


def restarts(cycles: int | None, length: int = 100) -> js.Schedule:
    return js.warmup_cosine_restarts(
        1.0, cycle_steps=length, warmup_steps=10, init_value=0.1, cycles=cycles
    )


def restart_rows(turns: int) -> list[Row]:
    ours, theirs = restarts(100, N // 100), sgdr(100, N // 100)

    def compiling(schedule: Any) -> Callable[[], Any]:
        return lambda: jax.jit(lambda t: schedule(t)).lower(jnp.int32(3)).compile() and 0

    one, many = restarts(1), restarts(10**6)
    return [
        row(
            "100 warm restarts, in a scan",
            scanned(ours, N),
            scanned(theirs, N),
            turns,
            40,
            per=N,
        ),
        row(
            "100 warm restarts, to compile",
            compiling(ours),
            compiling(theirs),
            max(3, turns // 3),
            8,
        ),
        row(
            "10^6 cycles against 1, in a scan",
            scanned(many, N),
            scanned(one, N),
            turns,
            None,
            per=N,
        ),
    ]


def python_rows(turns: int) -> list[Row]:
    calls = 300

    def called(schedule: Any) -> Callable[[], Any]:
        return lambda: [schedule(17) for _ in range(calls)][-1]

    ours, theirs = SHAPES["warmup, cosine"]
    floor = jax.jit(lambda t: jnp.float32(0.1))
    hundred = sgdr(100)
    return [
        row(
            "schedule(17) from Python: warmup, cosine",
            called(ours),
            called(theirs),
            turns,
            12,
            per=calls,
        ),
        row(
            "schedule(17) from Python: 100 restarts",
            called(restarts(100)),
            lambda: hundred(17),
            turns,
            1000,
            per=calls,
            theirs_per=1,
        ),
        row(
            "schedule(17) against a jitted constant",
            called(ours),
            called(floor),
            turns,
            None,
            per=calls,
        ),
    ]


def model(width: int) -> tuple[Any, Any, Any]:
    """Parameters, and a loss of a two-layer network on a batch that goes with them."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "a": jax.random.normal(keys[0], (64, width)) / 8,
        "b": jax.random.normal(keys[1], (width, 10)) / width**0.5,
    }
    x, y = jax.random.normal(keys[2], (256, 64)), jax.random.randint(keys[3], (256,), 0, 10)

    def loss(params: Any) -> jax.Array:
        logits = jnp.tanh(x @ params["a"]) @ params["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return params, loss, (x, y)


def stepped(tx: Any, width: int, steps: int) -> Callable[[], Any]:
    """A scan of whole training steps that report their loss."""
    params, loss, _ = model(width)
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def run(params: Any, state: Any) -> Any:
        def body(carry: Any, _: None) -> Any:
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(body, (params, state), length=steps)

    state = tx.init(params)
    return lambda: run(params, state)


def adamw(rate: Any) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(1e-4), js.scale_by_learning_rate(rate)
    )


def step_rows(turns: int) -> list[Row]:
    warm = js.warmup_cosine(1e-3, total_steps=1000, warmup_steps=100)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)
    ours = adamw(warm * js.reduce_on_plateau())
    constant = optax.adamw(1e-3)
    optaxs = optax.chain(optax.adamw(theirs), optax.contrib.reduce_on_plateau())
    plateau_a = optax.chain(optax.sgd(1e-3), js.scale_by_plateau())
    plateau_b = optax.chain(optax.sgd(1e-3), optax.contrib.reduce_on_plateau())
    return [
        row(
            "AdamW step of over 1 ms, schedule and plateau, against a constant rate",
            stepped(ours, 1024, 20),
            stepped(constant, 1024, 20),
            turns,
            0.98,
            per=20,
        ),
        row(
            "tiny AdamW step, schedule and plateau, against optax's two",
            stepped(ours, 4, 1000),
            stepped(optaxs, 4, 1000),
            turns,
            1,
            per=1000,
        ),
        row(
            "tiny SGD step, plateau, against optax.contrib's",
            stepped(plateau_a, 4, 1000),
            stepped(plateau_b, 4, 1000),
            turns,
            0.98,
            per=1000,
        ),
    ]


def branches() -> Row:
    params = {"w": jnp.ones(4)}

    def count(tx: Any) -> int:
        state = tx.init(params)
        compiled = jax.jit(lambda s, v: tx.update(params, s, value=v)).lower(state, 1.0).compile()
        return len(_FORBIDDEN.findall(compiled.as_text()))

    ours, theirs = count(js.scale_by_plateau()), count(optax.contrib.reduce_on_plateau())
    return "conditionals in the compiled plateau", ours, theirs, "", "0 against 2"


def peaks_row(turns: int) -> Row:
    params, loss, _ = model(16)
    peaks = np.geomspace(1e-4, 1e-1, 10)

    def trained(tx: Any, params: Any) -> jax.Array:
        def body(carry: Any, _: None) -> Any:
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(body, (params, tx.init(params)), length=100)[1][-1]

    def ours() -> Any:
        train = jax.jit(lambda rate: trained(adamw(rate), params))
        return [train(js.warmup_cosine(p, total_steps=100, warmup_steps=10)) for p in peaks]

    def theirs() -> Any:
        rates = [optax.warmup_cosine_decay_schedule(0.0, p, 10, 100) for p in peaks]
        return [jax.jit(lambda r=r: trained(optax.adamw(r), params))() for r in rates]

    return row(
        "10 peaks, one after the other, against closures, compilation included",
        ours,
        theirs,
        max(3, turns // 5),
        10,
    )


def torch_rows(turns: int) -> list[Row]:
    """A rate for each step of a Python loop, as in torch; a compiled step needs no such call."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    steps = 200

    def theirs() -> Any:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 20)
        joined = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], [20])
        for _ in range(steps):
            optimizer.step()
            joined.step()
        return joined.get_last_lr()[0]

    schedule = js.linear(0.01, 0.1, 20) >> js.cosine(0.1, 0.0, steps - 20)
    name = "a step's rate in a Python loop: warmup, cosine, against torch"
    return [row(name, lambda: [schedule(t) for t in range(steps)][-1], theirs, turns, None, steps)]


COLUMNS = "what", "jaxsched", "the other", "the other / jaxsched", "to reach"


def tables(turns: int) -> list[Table]:
    """What stands in the design, and what it is about."""
    scan = (
        "The table shows the time of one step of a schedule inside a compiled `lax.scan` of "
        "100,000 steps. The polynomial is half a nanosecond slower than Optax's, because an extra "
        "`select` operation makes its start exact."
    )
    rest = (
        "The other library is Optax unless the row names another. Called from Python, Optax "
        "computes operation by operation; jaxsched runs one compiled program. The ten peaks are "
        "ten compilations for Optax and one for jaxsched."
    )
    rows = (
        *restart_rows(turns),
        *python_rows(turns),
        *step_rows(turns),
        branches(),
        peaks_row(turns),
        *torch_rows(turns),
    )
    return [
        Table("Every shape that Optax has", scan, COLUMNS, tuple(shape_rows(turns))),
        Table("Restarts, calls, whole steps", rest, COLUMNS, rows),
    ]


if __name__ == "__main__":
    run(tables)
