"""Trains a one-layer NNX transformer on text, with the schedule of Flax' lm1b and wmt examples.

The rate warms up linearly from 0, then follows 1 / sqrt(step). AdamW has a b2 of 0.98, behind a
clip. The length of the run is in tokens. Run it with `python examples/language_model.py`.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxsched import Units, describe, hyperparams, inject, step, warmup_inverse_sqrt

# 1. Data: the characters of the licence.
text = (Path(__file__).parent.parent / "LICENSE").read_text()
letters = sorted(set(text))
tokens = jnp.array([letters.index(letter) for letter in text])
LENGTH, BATCH, WIDTH = 64, 16, 64

# 2. The rate. Its length is given in tokens, and the first tenth is the warmup.
units = Units(batch_size=BATCH, sequence_length=LENGTH)
rate = warmup_inverse_sqrt(4e-3, warmup_steps=units.tokens(10_000), init_value=0.0)
adamw = inject(partial(optax.adamw, b2=0.98, weight_decay=0.1), learning_rate=rate)
tx = optax.chain(optax.clip_by_global_norm(1.0), adamw)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.attend = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.first, self.second = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.up, self.down = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        x = x + self.attend(self.first(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.second(x))))


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.letter, self.place = (nnx.Embed(n, WIDTH, rngs=rngs) for n in (len(letters), LENGTH))
        self.block = Block(rngs)
        self.head = nnx.Linear(WIDTH, len(letters), rngs=rngs)

    def __call__(self, x):
        return self.head(self.block(self.letter(x) + self.place(jnp.arange(LENGTH))))


# 3. One compiled step. The optimizer's step counter selects the text.
@nnx.jit
def train_step(model, optimizer):
    key = jax.random.fold_in(jax.random.key(1), step(optimizer))
    starts = jax.random.randint(key, (BATCH, 1), 0, len(tokens) - LENGTH)
    rows = tokens[starts + jnp.arange(LENGTH + 1)]

    def loss(model):
        logits = model(rows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return {"loss": value, **hyperparams(optimizer)}


def main():
    print(describe(rate))
    model = Transformer(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    log = [train_step(model, optimizer) for _ in range(units.tokens(100_000))]  # no waiting
    for i in range(0, len(log), 20):
        used, loss = log[i]["learning_rate"], log[i]["loss"]
        print(f"{i * BATCH * LENGTH:6} tokens  rate used {used:.6f}  loss {loss:.4f}")
    return jax.tree.map(lambda *x: jnp.stack(x), *log)


if __name__ == "__main__":
    main()
