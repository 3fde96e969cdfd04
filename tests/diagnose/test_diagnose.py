"""`diagnose`: a verdict for every kind of stream, its words, and a few runs on the digits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._commands._tasks._data import digits
from jaxsched._commands._tasks._model import Network
from jaxsched._diagnose._advice import WORDS

STEPS = 300
T = np.arange(STEPS)
NOISE = np.random.default_rng(0).normal(size=STEPS)


def turned(cosine):
    """Gradients across the parameters, of this cosine with the one before."""
    angle = T * np.arccos(cosine)
    return np.stack([np.zeros(STEPS), np.cos(angle), np.sin(angle)], axis=1)


TX = optax.chain(js.monitor(), optax.identity())


@jax.jit
def state_after(xs):
    def one(state, x):
        loss, valid, grads, params = x
        state = js.observe(state, value=loss, validation=valid)
        return TX.update(grads, state, params)[1], None

    return jax.lax.scan(one, TX.init(xs[3][0]), xs)[0]


def watched(losses, cosine=0.0, validation=None, moved=None, grads=None):
    """The state after a run of these losses; the parameters grow by `moved` at each step."""
    params = np.zeros((STEPS, 3))
    params[:, 0] = 1 + np.cumsum(np.full(STEPS, 0.01) if moved is None else moved)
    grads = turned(cosine) if grads is None else grads
    valid = losses if validation is None else validation
    return state_after(tuple(jnp.asarray(x, jnp.float32) for x in (losses, valid, grads, params)))


HEALTHY = 2.0 * np.exp(-T / 30) + 0.05 + 0.01 * NOISE
FLAT = 1.2 + 0.8 * np.exp(-T / 10) + 0.05 * NOISE
STREAMS = {
    "healthy": dict(losses=HEALTHY),
    "divergence": dict(losses=np.where(T < 200, HEALTHY, 0.05 * 1.1 ** (T - 200.0))),
    "overshoot": dict(losses=np.where(T < 50, HEALTHY, 0.6 * np.exp(1.2 * NOISE))),
    "stagnation": dict(losses=FLAT, cosine=0.3, moved=np.where(T < 20, 0.01, 0.0)),
    "slow": dict(losses=2.0 - T / 600 + 0.05 * NOISE, cosine=0.4),
    "overfitting": dict(losses=HEALTHY, validation=0.5 + 1.5 * np.exp(-T / 20)),
    "underfitting": dict(losses=FLAT, cosine=0.02),
}


@functools.cache
def diagnosed(kind):
    return js.diagnose(watched(**STREAMS[kind]))


@pytest.mark.parametrize("kind", STREAMS)
def test_each_stream_has_its_verdict_and_no_other(kind):
    diagnosis = diagnosed(kind)
    assert diagnosis.verdict == kind, diagnosis
    scores = {name: float(getattr(diagnosis, name)) for name in WORDS}
    others = {name: score for name, score in scores.items() if name != kind}
    assert all(score < 0.5 for score in others.values()), others
    assert all(0 <= score <= 1 for score in scores.values())
    assert all(getattr(diagnosis, name).dtype == jnp.float32 for name in WORDS)
    chex.assert_tree_all_finite(diagnosis)
    assert len(diagnosis.advice) == 1 and str(diagnosis) == diagnosis.advice[0]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("healthy", "healthy: the loss is 0.03"),
        ("divergence", "times the first loss; lower the rate about 10x"),
        ("overshoot", "its mean from step to step"),
        ("stagnation", "the rate has decayed too early"),
        ("slow", "cos 0.40, and the loss is still 0.7"),
        ("overfitting", "0.23 of the first loss above the training loss"),
        ("underfitting", "gradients cancel, cos 0.02"),
    ],
)
def test_the_advice_has_the_numbers(kind, says):
    assert says in str(diagnosed(kind))


def test_what_moves_evenly_moves_as_far_in_the_latter_half():
    """Of an odd number of blocks, the last is in neither half."""
    params = np.stack([1 + 0.01 * T, 0 * T, 0 * T], axis=1)
    for steps in (10, 11):
        xs = (HEALTHY, HEALTHY, turned(0.0), params)
        state = state_after(tuple(jnp.asarray(x[:steps], jnp.float32) for x in xs))
        assert js.diagnose(state).evidence.moving == pytest.approx(1, rel=1e-3)


def test_full_batches_that_oscillate_overshoot():
    losses = 1.0 + 0.2 * (-1.0) ** T
    assert "von Neumann's ratio 2.0" in str(js.diagnose(watched(losses)))
    against = js.diagnose(watched(np.ones(STEPS), cosine=-0.5))
    assert against.verdict == "overshoot"
    assert str(against).startswith(
        "overshooting: consecutive gradients point in opposite directions, cos -0.50; lower"
    )


def test_a_run_that_turned_to_nan_has_diverged_however_short():
    losses = np.where(T < 3, 1.0, np.nan)
    diagnosis = js.diagnose(watched(losses))
    assert diagnosis.verdict == "divergence" and float(diagnosis.divergence) == 1
    assert "99.0% of the updates had a NaN" in str(diagnosis)


def test_one_nan_in_a_good_run_is_forgiven():
    assert js.diagnose(watched(np.where(T == 100, np.nan, HEALTHY))).verdict == "healthy"


def test_a_loss_that_rises_is_seen_before_it_is_above_the_first():
    losses = 2.0 * np.exp(-T / 30) + 0.05 + 0.02 * NOISE + np.maximum(T - 260, 0) * 0.04
    diagnosis = js.diagnose(watched(losses))
    assert diagnosis.verdict == "divergence" and "Page and Hinkley" in str(diagnosis)


def test_the_validation_loss_may_rise_for_good():
    valid = 0.1 + 1.9 * np.exp(-T / 20) + 0.0004 * T
    assert "above its best" in str(js.diagnose(watched(HEALTHY, validation=valid)))


def test_weight_decay_that_holds_back_is_named():
    grads = np.tile(np.asarray([-1.0, 0.5, 0.0]), (STEPS, 1))
    diagnosis = js.diagnose(watched(FLAT, grads=grads))
    assert diagnosis.verdict == "underfitting" and "lower the weight decay" in str(diagnosis)


def test_what_has_no_gradient_from_the_start_stagnates():
    losses = 2.3 + 0.01 * NOISE
    grads = np.zeros((STEPS, 3))
    assert "dead or saturated" in str(js.diagnose(watched(losses, grads=grads)))


def test_a_loss_that_cannot_be_avoided_is_subtracted():
    state = watched(HEALTHY + 3.0)
    assert js.diagnose(state).verdict == "underfitting"
    assert js.diagnose(state, floor=3.0).verdict == "healthy"


def test_of_a_short_run_nothing_is_said():
    tx = js.monitor()
    state = tx.init(jnp.ones(2))
    diagnosis = js.diagnose(state)
    assert diagnosis.verdict == "too early" and "no loss was seen" in str(diagnosis)
    for _ in range(5):
        _, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=1.0)
    diagnosis = js.diagnose(state)
    assert "5 losses were seen, but 128 are needed" in str(diagnosis)
    assert not any(getattr(diagnosis, name) for name in WORDS)


def test_scores_are_the_same_under_jit_and_vmap():
    states = [watched(**STREAMS[kind]) for kind in ("slow", "underfitting")]
    alone = [js.diagnose(state) for state in states]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    for many in (js.diagnose(stacked), jax.jit(jax.vmap(js.diagnose))(stacked)):
        for i, one in enumerate(alone):
            chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], many), one, rtol=1e-3)
    with pytest.raises(ValueError, match=r"several runs.*x\[0\]"):
        str(js.diagnose(stacked))
    with pytest.raises(ValueError, match="outside `jit`"):
        jax.jit(lambda s: js.diagnose(s).verdict)(states[0])


def test_it_finds_the_monitor_through_wrappers():
    params = {"w": jnp.ones(2)}
    inner = optax.chain(js.monitor(), js.scale_by_learning_rate(0.1))
    for tx in (
        optax.MultiSteps(inner, 2),
        optax.masked(inner, {"w": True}),
        optax.apply_if_finite(inner, 3),
        optax.partition({"a": inner}, {"w": "a"}),
    ):
        assert js.diagnose(tx.init(params)).verdict == "too early"


def test_it_finds_the_monitor_in_an_nnx_optimizer():
    from flax import nnx

    tx = optax.chain(js.monitor(), optax.sgd(0.1))
    optimizer = nnx.Optimizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), tx, wrt=nnx.Param)
    assert js.diagnose(optimizer).verdict == "too early"


def test_a_state_without_a_monitor_or_with_two_is_refused():
    with pytest.raises(ValueError, match=r"finds no `monitor` in a tuple.*chain\(monitor\(\), "):
        js.diagnose(optax.sgd(0.1).init({}))
    with pytest.raises(ValueError, match="finds 2 monitors"):
        js.diagnose(optax.chain(js.monitor(), js.monitor()).init({}))
    with pytest.raises(ValueError, match="floor=nan"):
        js.diagnose(js.monitor().init({}), floor=float("nan"))


def test_runs_on_the_digits():
    """One of each kind, in one program; the benchmark has a thousand."""
    data = digits()

    def loss_of(params, images, labels):
        logits = Network().apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def run(rate, count):
        key = jax.random.key(0)
        params = Network().init(key, data.train.pixels[:1])["params"]
        tx = optax.chain(js.monitor(), optax.trace(0.9), js.scale_by_learning_rate(rate))

        def one(carry, t):
            params, state = carry
            i = jax.random.randint(jax.random.fold_in(key, t), (32,), 0, count)
            batch = (data.train.pixels[i], data.train.labels[i])
            loss, grads = jax.value_and_grad(loss_of)(params, *batch)
            valid = loss_of(params, data.valid.pixels[:90], data.valid.labels[:90])
            state = js.observe(state, value=loss, validation=valid)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        times = jnp.arange(250, dtype=jnp.int32)
        return js.diagnose(jax.lax.scan(one, (params, tx.init(params)), times)[0][1])

    made = {"healthy": (0.05, 1437), "divergence": (0.5, 1437), "slow": (1e-4, 1437)}
    made["overfitting"] = (0.05, 25)
    rates, counts = zip(*made.values(), strict=True)
    found = jax.jit(jax.vmap(run))(jnp.asarray(rates), jnp.asarray(counts, jnp.int32))
    for i, kind in enumerate(made):
        diagnosis = jax.tree.map(lambda x, i=i: x[i], found)
        assert diagnosis.verdict == kind, diagnosis
