"""The tasks by which `diagnose` is judged. None of its limits was chosen on them.

They are of the same kinds as the development tasks, with other data and other models.
"""

from __future__ import annotations

import functools
import pathlib
import sysconfig
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from diagnosis_tasks import (
    WIDTH,
    Case,
    Task,
    dense,
    entropies,
    hidden,
    linear,
    parted,
    squares,
    text,
)
from sklearn import datasets


def decoder() -> Task:
    """Two blocks with learnt scales and a tied embedding, on English text."""
    size, heads, length = 32, 4, 16

    def init(key: jax.Array) -> Any:
        keys = iter(jax.random.split(key, 16))
        normal = lambda *s: jax.random.normal(next(keys), s) / np.sqrt(s[0])  # noqa: E731
        blocks = [
            {
                "scale": jnp.ones((2, size)),
                "qkv": normal(size, 3 * size),
                "mix": normal(size, size),
                "up": normal(size, 4 * size),
                "down": normal(4 * size, size),
            }
            for _ in range(2)
        ]
        token, place = (0.05 * jax.random.normal(next(keys), (n, size)) for n in (128, length))
        return {"token": token, "place": place, "blocks": blocks, "last": jnp.ones(size)}

    def norm(x: jax.Array, scale: jax.Array) -> jax.Array:
        return scale * x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        h = p["token"][x * c["see"].astype(int)] + p["place"]
        for b in p["blocks"]:
            y = (norm(h, b["scale"][0]) @ b["qkv"]).reshape(*x.shape, heads, -1)
            q, k, v = jnp.split(y, 3, axis=-1)
            a = jnp.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(size / heads)
            a = jax.nn.softmax(jnp.where(jnp.tri(length, dtype=bool), a, -1e9))
            h = h + jnp.einsum("bhij,bjhd->bihd", a, v).reshape(h.shape) @ b["mix"]
            h = h + jax.nn.gelu(norm(h, b["scale"][1]) @ b["up"]) @ b["down"]
        return norm(h, p["last"]) @ p["token"].T

    topics = pathlib.Path(sysconfig.get_paths()["stdlib"]) / "pydoc_data" / "topics.py"
    return Task(
        name="decoder on English text",
        init=init,
        losses=entropies(predict),
        **text([topics], length),
        batch=8,
        rates={"momentum": 0.03, "adam": 0.003},
        few=(4, 8),
    )


def gated() -> Task:
    """A gated recurrent network that tells four Markov chains apart."""
    rng, length, kinds, symbols = np.random.default_rng(11), 12, 4, 6
    chains = rng.dirichlet(np.full(symbols, 0.5), (kinds, symbols))
    labels = rng.integers(0, kinds, 6000)
    x = np.zeros((6000, length), np.int32)
    x[:, 0] = rng.integers(0, symbols, 6000)
    for t in range(1, length):
        odds = chains[labels, x[:, t - 1]].cumsum(1)
        x[:, t] = (rng.uniform(size=(6000, 1)) > odds).sum(1).clip(0, symbols - 1)

    def init(key: jax.Array) -> Any:
        a, b, c = jax.random.split(key, 3)
        cell = {
            "in": jax.random.normal(a, (symbols, 3 * WIDTH)) / 2,
            "h": jax.random.normal(b, (WIDTH, 3 * WIDTH)) / np.sqrt(WIDTH),
            "bias": jnp.zeros(3 * WIDTH),
        }
        return {"cell": cell, **dense(c, WIDTH, kinds)}

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        cell, h = p["cell"], jnp.zeros((len(x), WIDTH))
        for t in range(length):
            each = c["see"] * cell["in"][x[:, t]] + cell["bias"]
            u, r, n = jnp.split(each, 3, axis=-1)
            hu, hr, hn = jnp.split(h @ cell["h"], 3, axis=-1)
            u = jax.nn.sigmoid(u + hu)
            h = u * h + (1 - u) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn)
        return h @ p["w0"] + p["b0"]

    return Task(
        name="gated recurrent",
        init=init,
        losses=entropies(predict),
        **parted(x, labels.astype(np.int32), 512),
        batch=32,
        rates={"momentum": 0.1, "adam": 0.02},
        few=(8, 20),
    )


def words() -> Task:
    """The next of 1000 words from the two before it, through an embedding."""
    rng, count = np.random.default_rng(12), 1000
    usual = 1 / np.arange(1, count + 1)
    follows = rng.choice(count, (count, 4), p=usual / usual.sum())
    seen = np.zeros(40000, np.int32)
    for t in range(1, len(seen)):
        common = rng.choice(count, p=usual / usual.sum()) if rng.uniform() < 0.3 else None
        seen[t] = follows[seen[t - 1], rng.integers(4)] if common is None else common
    x, y = np.stack([seen[:-2], seen[1:-1]], 1), seen[2:]

    def init(key: jax.Array) -> Any:
        return {
            "words": 0.3 * jax.random.normal(key, (count, WIDTH)),
            **dense(key, 2 * WIDTH, WIDTH, count),
        }

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        h = c["see"] * p["words"][x].reshape(len(x), -1)
        return hidden(h @ p["w0"] + p["b0"], c) @ p["w1"] + p["b1"]

    return Task(
        name="1000 words",
        init=init,
        losses=entropies(predict),
        **parted(x, y, 512),
        batch=32,
        rates={"momentum": 0.1, "adam": 0.003},
        dies=True,
        blind="dead",
        few=(16, 40),
    )


def friedman() -> Task:
    """The first of Friedman's regressions, by two layers of tanh."""
    x, y = datasets.make_friedman1(4000, noise=1.0, random_state=13)
    x, y = 2 * x - 1, (y - y.mean()) / y.std()

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        works = jnp.arange(WIDTH) < c["width"]
        h = works * jnp.tanh(c["see"] * x @ p["w0"] + p["b0"] + c["bias"])
        h = works * jnp.tanh(h @ p["w1"] + p["b1"])
        return (h @ p["w2"] + p["b2"])[:, 0]

    return Task(
        name="Friedman, 1e-6 and 1e6",
        init=lambda key: dense(key, 10, WIDTH, WIDTH, 1),
        losses=squares(predict),
        **parted(x.astype(np.float32), y.astype(np.float32), 512),
        batch=32,
        rates={"momentum": 0.03, "adam": 0.02},
        scales=(1e-3, 1e3),
        shifts=True,
        few=(8, 20),
    )


def flow() -> Task:
    """The density of a narrow ring, by four affine couplings: losses below zero."""
    rng, angle = np.random.default_rng(14), np.random.default_rng(15).uniform(0, 2 * np.pi, 6000)
    radius = 1 + 0.05 * rng.normal(size=6000)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 4)
        return [jax.tree.map(lambda w: 0.5 * w, dense(k, 1, WIDTH, 2)) for k in keys]

    def losses(p: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        del y
        z, total = x + c["offset"], jnp.zeros(len(x))
        for layer in p:
            a, b = z[:, :1], z[:, 1]
            h = hidden(c["see"] * a @ layer["w0"] + layer["b0"], c)
            shift, log = jnp.split(h @ layer["w1"] + layer["b1"], 2, axis=1)
            log = 3 * jnp.tanh(log[:, 0])
            z = jnp.stack([b * jnp.exp(log) + shift[:, 0], a[:, 0]], 1)
            total = total + log
        return 0.5 * (z**2).sum(1) - total

    return Task(
        name="flow",
        init=init,
        losses=losses,
        **parted(x.astype(np.float32), np.zeros(6000, np.float32), 512),
        batch=64,
        rates={"momentum": 0.001, "adam": 0.005},
        dies=True,
        blind="dead",
        few=(8, 20),
    )


def bandit() -> Task:
    """The policy gradient of a softmax over five actions, with a learnt baseline."""
    rng, arms = np.random.default_rng(16), 5
    x = rng.normal(size=(4000, 6)).astype(np.float32)
    worth = np.tanh(x @ rng.normal(size=(6, arms))).astype(np.float32)

    def logits(p: Any, x: jax.Array, c: Case) -> jax.Array:
        return hidden(c["see"] * x @ p["w0"] + p["b0"], c) @ p["w1"] + p["b1"]

    def losses(p: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        return -(jax.nn.softmax(logits(p, x, c)[:, :arms]) * y).sum(1)

    def surrogate(
        p: Any, before: Any, x: jax.Array, y: jax.Array, key: jax.Array, c: Case
    ) -> jax.Array:
        a, b = jax.random.split(key)
        action = jax.random.categorical(a, logits(before, x, c)[:, :arms])[:, None]
        reward = jnp.take_along_axis(y, action, 1)[:, 0] + 0.5 * jax.random.normal(b, (len(x),))
        out = logits(p, x, c)
        log = jnp.take_along_axis(jax.nn.log_softmax(out[:, :arms]), action, 1)[:, 0]
        gain = reward - jax.lax.stop_gradient(out[:, arms])
        return -(log * gain).mean() + 0.5 * ((out[:, arms] - reward) ** 2).mean()

    return Task(
        name="bandit",
        init=lambda key: dense(key, 6, WIDTH, arms + 1),
        losses=losses,
        **parted(x, worth, 512),
        batch=64,
        rates={"momentum": 0.03, "adam": 0.01},
        surrogate=surrogate,
        dies=True,
        blind="dead",
    )


def convolution() -> Task:
    """A convolution over the digits, of whose labels three in ten are drawn at random."""
    rng, raw = np.random.default_rng(17), datasets.load_digits()
    wrong = rng.uniform(size=len(raw.target)) < 0.3
    labels = np.where(wrong, rng.integers(0, 10, len(raw.target)), raw.target)

    def init(key: jax.Array) -> Any:
        kernel = jax.random.normal(key, (3, 3, 1, WIDTH)) / 3
        return {"kernel": kernel, "bias": jnp.zeros(WIDTH), **dense(key, 9 * WIDTH, 10)}

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        form = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(
            c["see"] * x, p["kernel"], (2, 2), "VALID", dimension_numbers=form
        )
        return hidden(h + p["bias"], c).reshape(len(x), -1) @ p["w0"] + p["b0"]

    right, other = 0.73, 0.03
    return Task(
        name="convolution, noisy labels",
        init=init,
        losses=entropies(predict),
        **parted((raw.images[..., None] / 16).astype(np.float32), labels.astype(np.int32), 360),
        batch=32,
        rates={"momentum": 0.03, "adam": 0.003},
        floor=-right * np.log(right) - 9 * other * np.log(other),
        dies=True,
        blind="dead",
        few=(16, 40),
    )


def factors() -> Task:
    """Ratings by the product of two embeddings: a matrix of rank four, with noise."""
    rng, size = np.random.default_rng(18), 60
    u, v = rng.normal(size=(2, size, 4))
    x = rng.integers(0, size, (20000, 2)).astype(np.int32)
    y = (u[x[:, 0]] * v[x[:, 1]]).sum(1) / 2 + 0.3 * rng.normal(size=20000)

    def init(key: jax.Array) -> Any:
        a, b = jax.random.split(key)
        each = {"u": a, "v": b}
        rows = {name: 0.3 * jax.random.normal(k, (size, 8)) for name, k in each.items()}
        return {**rows, "bias": jnp.zeros(())}

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        rows, works = c["see"] * p["u"][x[:, 0]], jnp.arange(8) < c["width"]
        return (works * rows * p["v"][x[:, 1]]).sum(1) + p["bias"]

    return Task(
        name="matrix factors",
        init=init,
        losses=squares(predict),
        **parted(x, y.astype(np.float32), 2048),
        batch=128,
        rates={"momentum": 0.2, "adam": 0.01},
        floor=0.09,
        blind="dead",
        shifts=True,
        few=(16, 64),
    )


REPORT = (
    decoder,
    gated,
    words,
    friedman,
    flow,
    bandit,
    functools.partial(
        linear, "online linear, correlated, batches of 1 and 3", 12, 0.7, (1, 3), 19, 0.9
    ),
    convolution,
    factors,
)
