"""The tasks on which the limits of `diagnose` were chosen."""

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
    attention,
    dense,
    entropies,
    hidden,
    linear,
    network,
    parted,
    squares,
    text,
)
from sklearn import datasets

from jaxsched._commands._tasks._data import digits


def bigram() -> Task:
    def predict(params: Any, x: jax.Array, c: Case) -> jax.Array:
        return params["table"][x * c["see"].astype(int)]

    return Task(
        name="bigram",
        init=lambda key: {"table": 0.01 * jax.random.normal(key, (128, 128))},
        losses=entropies(predict),
        **text(sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:20], 32),
        batch=16,
        rates={"momentum": 3.0, "adam": 0.1},
        few=(4, 12),
    )


def classes() -> Task:
    rng = np.random.default_rng(1)
    centres, labels = rng.normal(size=(1000, 32)), rng.integers(0, 1000, 12000)
    x = centres[labels] + 0.3 * rng.normal(size=(12000, 32))
    return Task(
        name="1000 classes",
        init=lambda key: dense(key, 32, WIDTH, 1000),
        losses=entropies(network),
        **parted(x.astype(np.float32), labels.astype(np.int32), 512),
        batch=32,
        rates={"momentum": 0.1, "adam": 0.01},
        dies=True,
        blind="dead",
        few=(16, 40),
    )


def teacher() -> Task:
    rng = np.random.default_rng(2)
    x, w, v = rng.normal(size=(4000, 8)), rng.normal(size=(8, 6)), rng.normal(size=6)
    y = np.tanh(x @ w / 3) @ v + 0.1 * rng.normal(size=4000)
    y = y / y.std()
    return Task(
        name="teacher, 1e-6 and 1e6",
        init=lambda key: dense(key, 8, WIDTH, 1),
        losses=squares(lambda p, x, c: network(p, x, c)[:, 0]),
        **parted(x.astype(np.float32), y.astype(np.float32), 512),
        batch=32,
        rates={"momentum": 0.02, "adam": 0.01},
        scales=(1e-3, 1e3),
        dies=True,
        blind="dead",
        shifts=True,
        few=(8, 20),
    )


def transformer() -> Task:
    size, heads, length = 32, 2, 24

    def init(key: jax.Array) -> Any:
        keys = iter(jax.random.split(key, 8))
        normal = lambda *s: jax.random.normal(next(keys), s) / np.sqrt(s[0])  # noqa: E731
        return {
            "token": 0.02 * jax.random.normal(next(keys), (128, size)),
            "place": 0.02 * jax.random.normal(next(keys), (length, size)),
            "qkv": normal(size, 3 * size),
            "mix": normal(size, size),
            "up": normal(size, 2 * size),
            "down": normal(2 * size, size),
            "out": normal(size, 128),
        }

    def norm(x: jax.Array) -> jax.Array:
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        h = p["token"][x * c["see"].astype(int)] + p["place"]
        q, k, v = jnp.split((norm(h) @ p["qkv"]).reshape(*x.shape, heads, -1), 3, axis=-1)
        h = h + attention(q, k, v).reshape(h.shape) @ p["mix"]
        h = h + hidden(norm(h) @ p["up"], c) @ p["down"]
        return norm(h) @ p["out"]

    files = sorted((pathlib.Path(datasets.__file__).parent / "descr").glob("*.rst"))
    return Task(
        name="transformer on text",
        init=init,
        losses=entropies(predict),
        **text(files, length),
        batch=8,
        rates={"momentum": 0.1, "adam": 0.005},
        few=(4, 8),
    )


def recurrent() -> Task:
    rng, length = np.random.default_rng(3), 10
    x = rng.uniform(size=(6000, length, 2))
    x[..., 1] = np.argsort(np.argsort(rng.normal(size=(6000, length)), axis=1), axis=1) < 2
    y = (x[..., 0] * x[..., 1]).sum(1)

    def init(key: jax.Array) -> Any:
        return {**dense(key, 2, WIDTH, 1), "h": 0.9 * jnp.eye(WIDTH)}

    def predict(p: Any, x: jax.Array, c: Case) -> jax.Array:
        works = jnp.arange(WIDTH) < c["width"]
        state = jnp.zeros((len(x), WIDTH))
        for t in range(length):
            state = works * jnp.tanh(c["see"] * x[:, t] @ p["w0"] + p["b0"] + state @ p["h"])
        return (state @ p["w1"] + p["b1"])[:, 0]

    return Task(
        name="recurrent",
        init=init,
        losses=squares(predict),
        **parted(x.astype(np.float32), y.astype(np.float32), 512),
        batch=32,
        rates={"momentum": 0.01, "adam": 0.003},
        shifts=True,
        few=(8, 16),
    )


def density() -> Task:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5000, 4))
    spread = 0.05 * np.exp(0.3 * x[:, 1])
    y = np.sin(x[:, 0]) + spread * rng.normal(size=5000)

    def losses(p: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        mean, log = jnp.split(network(p, x, c), 2, axis=1)
        log = jnp.clip(log[:, 0], -8, 8)
        return 0.5 * ((y + c["offset"] - mean[:, 0]) * jnp.exp(-log)) ** 2 + log

    return Task(
        name="density",
        init=lambda key: dense(key, 4, WIDTH, 2),
        losses=losses,
        **parted(x.astype(np.float32), y.astype(np.float32), 512),
        batch=32,
        rates={"momentum": 0.003, "adam": 0.01},
        dies=True,
        blind="dead",
        shifts=True,
        few=(8, 20),
    )


def policy() -> Task:
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(4000, 6)).astype(np.float32), rng.normal(size=(6, 2)) / 2.5

    def losses(p: Any, x: jax.Array, y: jax.Array, c: Case) -> jax.Array:
        """The mean loss of the reward, with the known noise of the actions."""
        mean = network(p, x, c)[:, :2]
        return ((mean - y) ** 2).sum(1) + 2 * jnp.exp(2 * jnp.clip(p["spread"], -3, 2))

    return Task(
        name="policy gradient",
        init=lambda key: {**dense(key, 6, WIDTH, 3), "spread": jnp.zeros(())},
        losses=losses,
        **parted(x, (x @ w).astype(np.float32), 512),
        batch=64,
        rates={"momentum": 0.001, "adam": 0.01},
        surrogate=surrogate,
        dies=True,
        blind="dead",
    )


def surrogate(p: Any, before: Any, x: jax.Array, y: jax.Array, key: jax.Array, c: Case) -> Any:
    """The loss of proximal policy optimization, with the actions of the policy before."""

    def logs(q: Any, action: jax.Array) -> jax.Array:
        s = jnp.clip(q["spread"], -3, 2)
        return (-0.5 * ((action - network(q, x, c)[:, :2]) * jnp.exp(-s)) ** 2 - s).sum(1)

    noise = jax.random.normal(key, y.shape)
    action = network(before, x, c)[:, :2] + jnp.exp(jnp.clip(before["spread"], -3, 2)) * noise
    reward = -((action - y) ** 2).sum(1) + jax.random.normal(key, (len(x),))
    value = network(p, x, c)[:, 2]
    gain = reward - jax.lax.stop_gradient(value)
    gain = (gain - gain.mean()) / (gain.std() + 1e-6)
    ratio = jnp.exp(jnp.clip(logs(p, action) - logs(before, action), -20, 20))
    gained = jnp.minimum(ratio * gain, jnp.clip(ratio, 0.8, 1.2) * gain).mean()
    return -gained + 0.05 * ((value - reward) ** 2).mean() - 0.003 * p["spread"]


def diabetes() -> Task:
    raw: Any = datasets.load_diabetes()
    x, y = raw.data / raw.data.std(0), raw.target / raw.target.std()
    return Task(
        name="diabetes, 1e-6 and 1e6",
        init=lambda key: dense(key, 10, WIDTH, 1),
        losses=squares(lambda p, x, c: network(p, x, c)[:, 0]),
        **parted(x.astype(np.float32), y.astype(np.float32), 142),
        batch=32,
        rates={"momentum": 0.003, "adam": 0.01},
        scales=(1e-3, 1e3),
        dies=True,
        blind="dead",
        shifts=True,
        few=(8, 20),
    )


def autoencoder() -> Task:
    data = digits()
    pixels = np.concatenate([np.asarray(data.train.pixels), np.asarray(data.valid.pixels)])
    return Task(
        name="autoencoder",
        init=lambda key: dense(key, 64, WIDTH, 64),
        losses=squares(network),
        **parted(pixels, pixels, 360),
        batch=32,
        rates={"momentum": 0.1, "adam": 0.01},
        dies=True,
        blind="dead",
        few=(8, 16),
    )


def noisy() -> Task:
    rng = np.random.default_rng(6)
    centres, labels = 2 * rng.normal(size=(10, 16)), rng.integers(0, 10, 6000)
    x = centres[labels] + rng.normal(size=(6000, 16))
    wrong = rng.uniform(size=6000) < 0.4
    labels = np.where(wrong, rng.integers(0, 10, 6000), labels)
    return Task(
        name="noisy labels",
        init=lambda key: dense(key, 16, WIDTH, 10),
        losses=entropies(network),
        **parted(x.astype(np.float32), labels.astype(np.int32), 512),
        batch=32,
        rates={"momentum": 0.01, "adam": 0.003},
        dies=True,
        blind="dead",
        few=(16, 40),
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
        blind="dead",
        shifts=True,
        few=(16, 64),
    )


DEVELOPMENT = (
    bigram,
    classes,
    teacher,
    functools.partial(linear, "online linear, batches of 1 and 4", 8, 0.5, (1, 4), 7),
    transformer,
    recurrent,
    density,
    policy,
    diabetes,
    functools.partial(linear, "online linear, batches of 2 and 3", 16, 1.0, (2, 3), 8),
    autoencoder,
    noisy,
    words,
    flow,
    bandit,
    factors,
    functools.partial(
        linear, "online linear, correlated, batches of 1 and 3", 12, 0.7, (1, 3), 19, 0.9
    ),
)
