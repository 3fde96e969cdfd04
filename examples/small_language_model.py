"""Trains small language models on Python sources: many runs in one compiled program.

    python examples/small_language_model.py [--steps 2000] [--members 1]

compares a constant rate, a cosine and warmup-stable-decay (WSD), which here means that the last
fifth of the run is a decay. Each schedule trains `--members` models from different seeds. `train`
receives the rate of each step as a number. So one program serves all schedules, and a run can
continue from its end, or branch, with other rates. One run takes about 70 seconds on two cores.
"""

import argparse
import sysconfig
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import jaxsched as js

WIDTH, HEADS, LAYERS, LENGTH = 96, 4, 2, 96  # 258,000 parameters, and bytes of a sequence
BATCH, VALIDATION = 24, 64  # sequences
PEAK, STEPS = 4e-3, 2000


# 1. Data: the bytes of the standard library. The last files are for validation.
@cache
def data():
    """The bytes for training, and fixed sequences for validation."""
    root, skipped = Path(sysconfig.get_paths()["stdlib"]), {"site-packages", "test", "tests"}
    files = (x for x in sorted(root.rglob("*.py")) if not skipped & {*x.relative_to(root).parts})
    sources = [file.read_bytes() for file in files]
    first = len(sources) * 95 // 100
    parts = (sources[:first], sources[first:])
    text, judge = (np.frombuffer(b"\n".join(part), np.uint8) for part in parts)
    starts = np.linspace(0, len(judge) - LENGTH - 1, VALIDATION).astype(int)[:, None]
    return jnp.asarray(text), jnp.asarray(judge[starts + np.arange(LENGTH + 1)])


# 2. The model: a causal transformer that predicts the next byte.
class Attention(nn.Module):
    """Attention from each position to itself and to those before it."""

    @nn.compact
    def __call__(self, x):
        heads = nn.Dense(3 * WIDTH)(x).reshape(*x.shape[:-1], 3, HEADS, WIDTH // HEADS)
        query, key, value = jnp.moveaxis(heads, (-3, -2), (0, -3))
        scores = query @ key.mT / (WIDTH // HEADS) ** 0.5
        seen = nn.softmax(jnp.where(jnp.tri(x.shape[-2], dtype=bool), scores, -jnp.inf)) @ value
        return nn.Dense(WIDTH)(jnp.moveaxis(seen, -3, -2).reshape(x.shape))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        byte = nn.Embed(256, WIDTH)
        x = byte(tokens) + nn.Embed(LENGTH, WIDTH)(jnp.arange(tokens.shape[-1]))
        for _ in range(LAYERS):
            x = x + Attention()(nn.LayerNorm()(x))
            x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return byte.attend(nn.LayerNorm()(x))


def next_byte(params, rows):
    """The loss in nats a byte."""
    logits = Transformer().apply(params, rows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()


# 3. Training. The optimizer is AdamW without its rate, which is multiplied in `step`.
directions = optax.chain(
    optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.95), optax.add_decayed_weights(0.1)
)


class State(NamedTuple):
    params: Any
    moments: Any  # the state of the optimizer
    step: jax.Array  # steps so far


class Trained(NamedTuple):
    """Losses of all members. `end` is the `start` of a call of `train` that continues them."""

    losses: jax.Array  # (members, steps): of the batch of each step, before its update
    validation: jax.Array  # (members, points)
    validation_steps: jax.Array  # (members, points): updates before each validation
    end: State


@jax.jit
@jax.vmap
def begin(seed):
    """The state of a new run."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    params = Transformer().init(key, jnp.zeros((1, LENGTH), jnp.uint8))
    return State(params, directions.init(params), jnp.zeros((), jnp.int32))


def run(rates, seed, state, text, judge, every):
    """One member. The seed and the step select the batch."""
    key = jax.random.fold_in(jax.random.key(seed), 1)

    def step(state, rate):
        here = jax.random.fold_in(key, state.step)
        starts = jax.random.randint(here, (BATCH, 1), 0, len(text) - LENGTH)
        rows = text[starts + jnp.arange(LENGTH + 1)]
        loss, grads = jax.value_and_grad(next_byte)(state.params, rows)
        updates, moments = directions.update(grads, state.moments, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        return State(params, moments, state.step + 1), loss

    def interval(state, rates):
        state, losses = jax.lax.scan(step, state, rates)
        return state, (losses, next_byte(state.params, judge), state.step)

    end, (losses, validation, at) = jax.lax.scan(interval, state, rates.reshape(-1, every))
    return Trained(losses.ravel(), validation, at, end)


@partial(jax.jit, static_argnums=(3, 4))
def runs(members, text, judge, every, together):
    one = partial(run, text=text, judge=judge, every=every)
    return jax.lax.map(lambda member: one(*member), members, batch_size=together)


def train(rates, seeds, start=None, every=100, together=None):
    """Train one model for each row of `rates`, all in one program.

    Args:
      rates: the rate of each step of each member. Its shape is (members, steps).
      seeds: the seed of each member, for its parameters and its batches.
      start: the `end` of an earlier call, from which the members continue. None begins new runs.
      every: the number of steps between validations. It divides the number of steps.
      together: how many members are one `vmap`; such groups follow each other. None is one member
        on a CPU, whose caches hold no more, and otherwise all.
    """
    rates, seeds = jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.uint32)
    if rates.shape[1] % every:
        raise ValueError(f"every={every} must divide the number of steps, {rates.shape[1]}.")
    if together is None:
        together = 1 if jax.default_backend() == "cpu" else len(seeds)
    members = rates, seeds, begin(seeds) if start is None else start
    return runs(members, *data(), every, together)


# 4. Three schedules.
def schedules(peak, steps):
    warmup = steps // 20
    return {
        "constant": js.warmup_constant(peak, warmup_steps=warmup),
        "cosine": js.warmup_cosine(peak, total_steps=steps, warmup_steps=warmup),
        "wsd": js.warmup_stable_decay(
            peak, total_steps=steps, warmup_steps=warmup, decay_steps=steps // 5, decay=js.linear
        ),
    }


def main(steps=STEPS, members=1, peak=PEAK):
    steps -= steps % 20
    named = schedules(peak, steps)
    rates = jnp.stack([schedule(jnp.arange(steps)) for schedule in named.values()])
    seeds = jnp.tile(jnp.arange(members), len(named))
    found = train(rates.repeat(members, axis=0), seeds, every=steps // 20)
    print(
        f"{members} run(s) of each schedule: {steps} steps of {BATCH * LENGTH} bytes, peak {peak}"
    )
    print("schedule  training loss of the last 5 %  validation: at 80 %, at the end")
    each = [x.reshape(len(named), members, -1) for x in found[:2]]
    for name, losses, validation in zip(named, *each, strict=True):
        last, before, end = losses[:, -(steps // 20) :], validation[:, 15], validation[:, -1]
        print(f"{name:8} {last.mean():30.4f} {before.mean():19.4f} {end.mean():11.4f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="rounded down to a multiple of 20")
    parser.add_argument("--members", type=int, default=1, help="seeds of each schedule")
    main(**vars(parser.parse_args()))
