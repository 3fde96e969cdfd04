"""Pretrains a byte-level transformer on Python sources: the first part of fine_tuning.py.

    python examples/pretraining.py FOLDER

saves the parameters to FOLDER. The text is on every machine: the standard library, JAX and Flax.
Other dependencies of jaxsched provide the validation and the test examples.
"""

import ast
import importlib.util
import sys
import sysconfig
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn

import jaxsched as js

# 1. Data. Whole packages are in one part only. So nothing of the test packages is in the text
# for pretraining: there, the model could read the answers and the style of the same authors.
PARTS = {
    "training": "stdlib jax flax",
    "validation": "sklearn optax chex etils absl joblib",
    "test": "scipy numpy matplotlib orbax PIL fontTools google fsspec dateutil treescope",
}
QUICK = {"training": "flax", "validation": "optax", "test": "chex"}
NAMES = ["ValueError", "TypeError", "NotImplementedError", "RuntimeError"]
NAMES += ["AttributeError", "AssertionError"]
BEFORE, LENGTH, BATCH = 40, 64, 32  # bytes before the mask, bytes of a window, windows
SKIPPED = {"site-packages", "dist-packages", "test", "tests"}


def sources(package):
    """The bytes of each Python file of a package, without its tests."""
    if package == "stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
    elif spec := importlib.util.find_spec(package):
        root = Path(next(iter(spec.submodule_search_locations)))
    else:  # a dependency of a dependency may be missing
        return []
    files = (x for x in sorted(root.rglob("*.py")) if not SKIPPED & {*x.relative_to(root).parts})
    return [file.read_bytes() for file in files]


def short(text):
    """A tab for four spaces: the model then sees more of the code around the mask."""
    return text.replace(b"    ", b"\t")


def examples(source):
    """The text around each masked name of an exception, and the place of the name in NAMES."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # some files are templates
        return
    starts = np.cumsum([0, *map(len, source.splitlines(keepends=True))])
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id in NAMES:
                at = starts[name.lineno - 1] + name.col_offset
                before = short(source[max(0, at - 160) : at])[-BEFORE:].rjust(BEFORE, b"\n")
                after = short(source[at + len(name.id) :][:160])[: LENGTH - BEFORE - 1]
                yield before + b"\0" + after.ljust(LENGTH - BEFORE - 1, b"\n"), NAMES.index(name.id)


def part(packages):
    """The text of some packages, and the examples in it."""
    files = [file for package in packages.split() for file in sources(package)]
    found = dict(pair for file in files for pair in examples(file))  # no example is there twice
    # Numerical libraries raise more ValueErrors. Outside the training packages two fifths of them
    # are kept, chosen by a checksum, so that the shares of the classes are about the same.
    share = 5 if "stdlib" in packages else 2
    kept = [(x, y) for x, y in found.items() if y or zlib.crc32(x) % 5 < share]
    windows = np.stack([np.frombuffer(x, np.uint8) for x, _ in kept])
    text = np.frombuffer(short(b"\n".join(files)), np.uint8)
    return text, (windows, np.array([y for _, y in kept]))


# 2. The model: a causal transformer, which is pretrained to predict the next byte.
class SelfAttention(nn.MultiHeadDotProductAttention):
    """Attention from each position to those before it, with a causal mask."""


class Block(nn.Module):
    heads: int = 3

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0])
        x = x + SelfAttention(self.heads)(nn.LayerNorm()(x), mask=mask)
        y = nn.relu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class Embedding(nn.Module):
    width: int = 96

    def setup(self):
        self.byte, self.place = nn.Embed(256, self.width), nn.Embed(LENGTH, self.width)

    def __call__(self, tokens):
        return self.byte(tokens) + self.place(jnp.arange(tokens.shape[-1]))


class Body(nn.Module):
    """The hidden states, and the logits of the next byte."""

    @nn.compact
    def __call__(self, tokens):
        embed = Embedding(name="embed")
        x = embed(tokens)
        for i in range(2):
            x = Block(name=f"block_{i}")(x)
        x = nn.LayerNorm(name="norm")(x)
        return x, embed.byte.attend(x)


@jax.jit
def init(key):
    return Body().init(key, jnp.zeros((1, LENGTH), jnp.uint8))["params"]


def next_byte(params, rows):
    logits = Body().apply({"params": params}, rows[:, :-1])[1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()


# 3. Pretraining, once: a second call reads the parameters and the losses from the cache.
@partial(jax.jit, static_argnums=3)
def pretrain(params, text, judge, steps):
    """The parameters, and sixteen times the loss on batches and on the text of other packages."""
    rate = js.warmup_cosine(5e-3, total_steps=steps, warmup_steps=steps // 32)
    adamw = js.inject(partial(optax.adamw, b2=0.98, weight_decay=0.1), learning_rate=rate)
    tx = optax.chain(optax.clip_by_global_norm(1.0), adamw)

    def step(carry, _):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(1), js.step(state))
        starts = jax.random.randint(key, (BATCH, 1), 0, len(text) - LENGTH)
        loss, grads = jax.value_and_grad(next_byte)(params, text[starts + jnp.arange(LENGTH + 1)])
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    def sixteenth(carry, _):
        carry, losses = jax.lax.scan(step, carry, length=steps // 16)
        return carry, jnp.stack([losses.mean(), next_byte(carry[0], judge)])

    (params, _), losses = jax.lax.scan(sixteenth, (params, tx.init(params)), length=16)
    return {"params": params, "losses": losses}


def pretrained(text, judge, cache, steps):
    """The parameters and the losses, from the cache or trained now."""
    folder, disk = Path(cache).resolve() / f"pretrained_{steps}", ocp.StandardCheckpointer()
    start = init(jax.random.key(0))
    if not folder.exists():
        starts = np.random.default_rng(0).integers(len(judge) - LENGTH, size=(min(1024, steps), 1))
        disk.save(folder, pretrain(start, text, judge[starts + np.arange(LENGTH + 1)], steps))
        disk.wait_until_finished()
    found = disk.restore(folder, {"params": start, "losses": jnp.zeros((16, 2))})
    # Restored arrays belong to a device, for which `jit` would compile another program.
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), found)


def main(cache, quick=False):
    """The labelled examples of each part, and the pretrained parameters."""
    parts = {name: part(packages) for name, packages in (QUICK if quick else PARTS).items()}
    print("# the data")
    for name, (text, (_, y)) in parts.items():
        share = 100 * (y == 0).mean()
        print(f"  {name:10} {len(text) / 1e6:4.1f} MB, {len(y)} examples, {share:.1f} % {NAMES[0]}")
    print("# pretraining: nats per byte in the batches, and in other packages", flush=True)
    steps = 32 if quick else 16_000
    found = pretrained(parts["training"][0], parts["validation"][0], cache, steps)
    for n in (0, 1, 3, 7, 15):
        here, there = found["losses"][n]
        print(f"  {(n + 1) * steps // 16:5} steps  {here:.3f}  {there:.3f}", flush=True)
    return [jax.tree.map(jnp.asarray, x) for _, x in parts.values()], found["params"]


if __name__ == "__main__":
    main(sys.argv[1])
