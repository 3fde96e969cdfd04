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


def watched(losses, cosine=0.0, validation=None, moved=None, grads=None, slope=0.0, unit=1.0):
    """The state after a run of these losses; the parameters grow by `moved` at each step.

    At the end of a movement, the loss slopes up by `slope` and by noise. Gradients are in `unit`s.
    """
    params = np.zeros((STEPS, 3))
    params[:, 0] = 1 + np.cumsum(np.full(STEPS, 0.01) if moved is None else moved)
    if grads is None:
        grads = turned(cosine)
        ways = 1.0 if moved is None else np.sign(moved)
        grads[:, 0] = ways * (slope + 0.02 * np.random.default_rng(1).normal(size=STEPS))
    valid = losses if validation is None else validation
    rows = (losses, valid, unit * grads, params)
    return state_after(tuple(jnp.asarray(x, jnp.float32) for x in rows))


HEALTHY = 2.0 * np.exp(-T / 30) + 0.05 + 0.01 * NOISE
FLAT = 1.2 + 0.8 * np.exp(-T / 10) + 0.05 * NOISE
NOTHING = "no problem found"
TO_AND_FRO = 0.01 * (-1.0) ** T
STREAMS = {
    NOTHING: dict(losses=HEALTHY),
    "too high": dict(losses=np.where(T < 200, HEALTHY, 0.05 * 1.1 ** (T - 200.0))),
    "too low": dict(losses=2.0 - T / 600 + 0.01 * NOISE, slope=-1 / 6),
    "stagnation": dict(losses=FLAT, moved=np.where(T < 20, 0.01, 0.0)),
    "overfitting": dict(losses=HEALTHY, validation=0.9 + 1.1 * np.exp(-T / 20)),
}


@functools.cache
def diagnosed(kind):
    return js.diagnose(watched(**STREAMS[kind]))


@pytest.mark.parametrize("kind", STREAMS)
def test_each_stream_has_its_verdict_and_no_other(kind):
    diagnosis = diagnosed(kind)
    assert diagnosis.verdict == kind, diagnosis
    scores = {name: float(getattr(diagnosis, name)) for name in WORDS}
    others = {name: score for name, score in scores.items() if name != kind.replace(" ", "_")}
    assert all(score < 0.5 for score in others.values()), others
    assert all(0 <= score <= 1 for score in scores.values())
    assert all(getattr(diagnosis, name).dtype == jnp.float32 for name in WORDS)
    chex.assert_tree_all_finite(diagnosis)
    assert str(diagnosis) == "\n".join(diagnosis.advice)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (NOTHING, "compare with runs at a third of the rate and at three times the rate"),
        ("too high", "the loss rose suddenly, within a sixteenth of the run, by 8.8 times its"),
        ("too low", "1 times as steeply as in the first half; raise the rate about 3x"),
        ("stagnation", "moved 0 as far as in the first half, though the gradients are still 1"),
        ("overfitting", "fall of the training loss, and hardly falls; regularise, or add data"),
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


def test_the_mean_loss_may_leap_and_stay_high():
    losses = 1.5 + 10 * np.exp(-(((T - 25) / 10) ** 2)) + 0.05 * NOISE
    found = js.diagnose(watched(losses))
    assert found.verdict == "too high" and "the mean loss jumped to" in str(found)


@pytest.mark.parametrize("offset", [0.0, -5.0, 20.0])
def test_movements_that_go_too_far_are_no_harm_once_much_is_learnt(offset):
    noise = 0.02 * NOISE + offset
    far = dict(slope=1.0, moved=TO_AND_FRO)
    found = js.diagnose(watched(2.0 - 0.04 * T / STEPS + noise, **far))
    assert found.verdict == "too high" and "the updates go too far" in str(found)
    assert js.diagnose(watched(0.1 + 1.9 * np.exp(-T / 20) + noise, **far)).verdict == NOTHING


def test_on_a_parabola_the_rate_is_told_from_the_limit_of_convergence():
    tx = js.monitor()

    @jax.jit
    def run(rate):
        def one(carry, _):
            x, state = carry
            updates, state = tx.update(x, state, x, value=0.5 * jnp.sum(x**2))
            return (x - rate * updates, state), None

        x = jnp.asarray([1.0, -2.0])
        return js.diagnose(jax.lax.scan(one, (x, tx.init(x)), length=300)[0][1])

    rates = {1e-4: "too low", 3e-3: "too low", 1.0: NOTHING, 1.9: NOTHING, 2.0: "too high"}
    rates |= {2.2: "too high", 1e3: "too high"}
    assert {rate: run(rate).verdict for rate in rates} == rates


def test_a_run_that_turned_to_nan_has_diverged_however_short():
    losses = np.where(T < 3, 1.0, np.nan)
    diagnosis = js.diagnose(watched(losses))
    assert diagnosis.verdict == "too high" and float(diagnosis.too_high) == 1
    assert "99.0% of the updates had a NaN" in str(diagnosis)


def test_one_nan_in_a_good_run_is_forgiven():
    assert js.diagnose(watched(np.where(T == 100, np.nan, HEALTHY))).verdict == NOTHING


def test_a_loss_that_rises_is_seen_before_it_is_above_the_first():
    losses = 2.0 * np.exp(-T / 30) + 0.05 + 0.02 * NOISE + np.maximum(T - 260, 0) * 0.07
    diagnosis = js.diagnose(watched(losses))
    assert diagnosis.verdict == "too high"
    assert "% of its fall is lost again" in str(diagnosis)


def test_a_sudden_rise_and_a_slow_one_are_told_apart():
    sudden = js.diagnose(watched(HEALTHY + 1.5 * (T > 250)))
    slow = js.diagnose(watched(HEALTHY + 0.015 * np.maximum(T - 150, 0)))
    assert sudden.verdict == slow.verdict == "too high"
    assert "rose suddenly" in str(sudden) and "rose slowly" in str(slow)


def test_the_validation_loss_may_rise_for_good():
    valid = 0.1 + 1.9 * np.exp(-T / 20) + 0.003 * T
    said = str(js.diagnose(watched(HEALTHY, validation=valid)))
    assert "above its best" in said and "stop earlier" in said


def test_one_whose_best_validation_is_the_last_is_not_to_be_stopped():
    said = str(js.diagnose(watched(HEALTHY, validation=0.9 + 1.1 * np.exp(-T / 20))))
    assert said.startswith("overfitting") and "stop" not in said


def test_while_the_validation_loss_falls_nothing_overfits():
    valid = 2.0 - 1.0 * T / STEPS
    assert js.diagnose(watched(HEALTHY, validation=valid)).overfitting < 0.5


@pytest.mark.parametrize("count", [1, 6])
def test_few_validations_do_not_tell_overfitting(count):
    tx, params = js.monitor(), jnp.ones(1)

    def one(state, x):
        loss, t = x
        seen = js.observe(state, validation=2.0 - 0.1 * t / STEPS)
        fresh = t % (STEPS // count) == 0
        state = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), seen, state)
        return tx.update(params, state, params, value=loss)[1], None

    xs = jnp.asarray(HEALTHY, jnp.float32), jnp.asarray(T, jnp.float32)
    state = jax.jit(lambda state: jax.lax.scan(one, state, xs)[0])(tx.init(params))
    assert state.validation.seen == -(-STEPS // (STEPS // count))
    assert js.diagnose(state).overfitting == 0


def test_a_warmup_that_is_not_ours_is_no_low_rate():
    losses = 2.0 - 0.5 * (T / STEPS) ** 2 + 0.01 * NOISE
    found = js.diagnose(watched(losses, slope=-1 / 6, moved=2e-2 * (T + 1) / STEPS))
    assert found.verdict == NOTHING and found.warm


def test_a_descent_after_an_ascent_is_no_low_rate():
    slope = np.where(T < STEPS // 2, 1 / 6, -1 / 6)
    losses = 2.0 - np.maximum(T - STEPS // 2, 0) / 600 + 0.01 * NOISE
    assert js.diagnose(watched(losses, slope=slope)).too_low == 0


def test_without_parameters_the_text_asks_for_them():
    tx = js.monitor()

    def one(state, loss):
        return tx.update(jnp.ones(2), state, value=loss)[1], None

    state = jax.lax.scan(one, tx.init(jnp.ones(2)), jnp.asarray(HEALTHY, jnp.float32))[0]
    assert "the updates received no parameters" in str(js.diagnose(state))


def test_a_gap_that_was_there_from_the_start_is_not_overfitting():
    assert js.diagnose(watched(HEALTHY, validation=HEALTHY + 1.0)).overfitting < 0.5


def test_a_flat_loss_alone_is_nobodys_fault():
    """A small model, noise in the labels, and a bad rate look the same."""
    inwards = np.abs(turned(0.0)) * [0, 1, 1] + [0.1, 0, 0]
    for losses in (FLAT, 2.3 + 0.01 * NOISE):
        state = watched(losses, grads=inwards, moved=TO_AND_FRO)
        assert js.diagnose(state).verdict == NOTHING
        said = str(js.diagnose(state, floor=1.0))
        assert "at a third of the rate and at three times" in said


@pytest.mark.parametrize("losses", [HEALTHY, 2.3 + 0.05 * NOISE])
def test_gradients_of_zero_are_said_but_are_no_verdict(losses):
    """Units may be dead, or layers may be frozen on purpose."""
    found = js.diagnose(watched(losses, grads=np.zeros((STEPS, 3))))
    assert found.verdict == NOTHING
    assert "zero gradients: 100% of the small arrays get a gradient of zero; if you have" in str(
        found
    )


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_verdict_has_no_unit(kind, scale):
    stream = dict(STREAMS[kind])
    stream["losses"] = scale * stream["losses"]
    if "validation" in stream:
        stream["validation"] = scale * stream["validation"]
    assert js.diagnose(watched(**stream, unit=scale)).verdict == kind


@pytest.mark.parametrize("kind", [NOTHING, "too high", "stagnation", "too low", "overfitting"])
@pytest.mark.parametrize("offset", [-5.0, 20.0])
def test_a_verdict_has_no_zero(kind, offset):
    """A density has losses below zero, and labels with noise have losses that stay above it."""
    stream = dict(STREAMS[kind])
    stream["losses"] = stream["losses"] + offset
    if "validation" in stream:
        stream["validation"] = stream["validation"] + offset
    assert js.diagnose(watched(**stream)).verdict == kind


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch", [1, 4])
def test_small_batches_are_not_accused(seed, batch):
    """Squares of errors vary by more than their mean, and a first one can be next to nothing."""
    errors = np.random.default_rng(seed).normal(size=(STEPS, batch))
    mean = np.exp(-T / 40) + 0.25
    assert js.diagnose(watched(mean * (errors**2).mean(1))).verdict == NOTHING


def test_what_returns_from_a_leap_is_not_slow():
    """Movements that lead back point downhill, and the loss falls steadily."""
    losses = np.where(T < 8, 2.0, 6.0 - 4.5 * T / STEPS) + 0.01 * NOISE
    found = js.diagnose(watched(losses, slope=-1.0))
    assert found.too_low < 0.5 and "raise" not in str(found)


@pytest.mark.parametrize("rise", [0.0, 0.5])
def test_of_a_loss_that_is_not_that_of_the_gradients_nothing_is_said(rise):
    """In reinforcement learning, movements go downhill and the loss does not follow."""
    losses = 0.5 + rise * T / STEPS + 0.05 * NOISE
    assert js.diagnose(watched(losses, slope=-1.0)).verdict == NOTHING


def test_a_descent_that_ends_is_not_slow():
    """The rate is right, and the task gives no more: a well-tuned model of text."""
    losses = 2.0 + 2.8 / np.sqrt(1 + T / 4) + 0.02 * NOISE
    slope = -35 / (1 + T / 4) ** 1.5  # of this loss, over movements of 0.01
    assert js.diagnose(watched(losses, slope=slope)).verdict == NOTHING


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


@pytest.mark.parametrize(("last", "grown"), [(1e6, True), (50.0, False)])
def test_a_loss_that_explodes_early_is_said_before_there_is_a_verdict(last, grown):
    tx = js.monitor()
    state = tx.init(jnp.ones(2))
    for loss in (1.0, 0.9, *[last] * 20):
        _, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=loss)
    diagnosis = js.diagnose(state)
    assert diagnosis.verdict == "too early"
    assert ("the loss has grown to" in str(diagnosis)) == grown


def test_scores_are_the_same_under_jit_and_vmap():
    states = [watched(**STREAMS[kind]) for kind in ("too low", "overfitting")]
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

        times = jnp.arange(300, dtype=jnp.int32)
        return js.diagnose(jax.lax.scan(one, (params, tx.init(params)), times)[0][1])

    made = {NOTHING: (0.05, 1437), "too high": (2.0, 1437), "too low": (1e-4, 1437)}
    made["overfitting"] = (0.05, 15)
    rates, counts = zip(*made.values(), strict=True)
    found = jax.jit(jax.vmap(run))(jnp.asarray(rates), jnp.asarray(counts, jnp.int32))
    for i, kind in enumerate(made):
        diagnosis = jax.tree.map(lambda x, i=i: x[i], found)
        assert diagnosis.verdict == kind, diagnosis
