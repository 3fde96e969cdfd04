"""Schedules whose texts have everything in them, and such texts with mistakes."""

import re

import jax.numpy as jnp
import numpy as np

import jaxsched as js

LINE = js.linear(1.0, 0.0, 4)
WAVE = js.cosine(0.5, 0.1, 7)
PLATEAU = js.reduce_on_plateau(patience=3)
UNITS = js.Units(batch_size=32, dataset_size=1437, sequence_length=128, total_steps=1000)

STATEFUL = [
    PLATEAU,
    js.greedy(window_size=3, reset_after=4),
    js.reduce_on_plateau(mode="max", metric='it\'s "accuracy"\n', accumulation_size=2),
    js.reduce_on_plateau(axis_name=("hosts", "devices"), ema_decay=0.5, nonfinite="bad"),
    js.reduce_on_plateau(axis_name="devices", factor=0.5, min_scale=0.1, start_after=2**40),
    js.tunable(LINE >> WAVE),
    js.until(js.constant(0.1), js.one_minus_sqrt(0.1, 0.0, 50)),
    LINE * PLATEAU,
    PLATEAU * LINE * WAVE,
    LINE * (WAVE * PLATEAU),
    (LINE * WAVE) * PLATEAU,
    2 * (3 * (LINE * (PLATEAU * 0.5))) * js.greedy(),
    ((LINE >> WAVE) * PLATEAU).clip(1e-4),
    (PLATEAU.clip(0.1, 0.9) * (LINE + 1)).clip(high=2.0) * js.until(LINE, WAVE),
]

ALGEBRA = [
    2 * (3 * LINE),
    2 * (3 * (4 * LINE)) * 5 * WAVE,
    1 + (2 + (LINE + 3)),
    1 - (2 - LINE) - -WAVE / 3,
    -1 * -LINE,
    (LINE + WAVE) * (LINE - 0.5),
    (LINE >> WAVE).cycle(mult=2, decay=0.5, cycles=3) >> LINE,
    LINE.cycle(mult=2**40, cycles=2**40),
    LINE.cycle(mult=1.5, decay=0.9),
    js.minimum(LINE * 2, 0.5) + js.maximum(0.1, LINE >> WAVE),
    js.join([LINE], []),
    js.join([LINE, js.constant(0.5), WAVE], [3, 9]),
    js.select(1, [LINE, LINE >> WAVE]),
    js.constant(1e-30).take(2**40).shift(-3).clip().clip(-1.0).faster(2).faster(0.5),
    js.linear(-0.0, 1e22, 2**31),
    js.piecewise_constant([1.0, 0.5], [2**24 + 1]),
    js.piecewise_linear([1.0, 0.5], jnp.array([2.0, 4.0])),
    js.piecewise_linear([1.0, 0.5], np.array([2.0, 4.0])),
    js.piecewise_cosine(jnp.array([1.0, 0.5]), jnp.array([3, 2**24 + 1])),
    js.linear(np.float32(0.1), jnp.float32(0.3), np.int64(7)),
]

PIECES = [
    *"()[],=.*/+->%'\"\\\n <_09#:;{}@!é\0", ">>", "ep", "tok", "9" * 30, "1e999", "-1", "None",
    "True", "linear", "cosine", "greedy", ".clip", ".cycle", "steps=", "total_steps=", "lambda ",
    ".__class__", "f'", "nan", "**", "[1, 2]", "'min'", "10%", "1e-3",
]  # fmt: skip


def mutated(rng, texts):
    """A text with some pieces taken out, put in, or put in the place of another."""
    text = rng.choice(texts)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if rng.random() < 0.4:
            a, b = rng.choice([m.span() for m in re.finditer(r"\w+|\W", text)] or [(0, 0)])
        else:
            a = rng.randrange(len(text) + 1)
            b = a + rng.choice((0, 1, 2, 8))
        other = rng.choice(texts)
        at = rng.randrange(len(other))
        new = rng.choice(("", rng.choice(PIECES), other[at : at + rng.choice((3, 10, 30))]))
        text = text[:a] + new + text[b:]
    return text
