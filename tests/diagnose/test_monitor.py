"""`monitor`: its statistics against a NumPy reference, in every way a step can be run."""

import math
import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")
PARAMS = {"w": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.asarray([0.25, -1.0])}


class Blocks:
    """The means of equal blocks, at most 32."""

    def __init__(self):
        self.blocks, self.size, self.part = [], 1, []

    def add(self, x):
        self.part.append(x)
        if len(self.part) == self.size:
            self.blocks.append(np.mean(self.part, axis=0))
            self.part = []
        if len(self.blocks) == 32:
            self.blocks = [np.mean(self.blocks[i : i + 2], axis=0) for i in range(0, 32, 2)]
            self.size *= 2


class Reference:
    """The docstrings of `monitor` and of its streams, in float64."""

    def __init__(self, window):
        self.window, self.seen, self.broken, self.lost, self.history = window, 0, 0, 0, Blocks()

    def add(self, x):
        if x is None:
            return
        if not math.isfinite(x):
            self.broken, self.lost = self.broken + 1, self.lost + 1
            return
        x = float(np.clip(x, -1e18, 1e18))
        self.lost = 0
        if self.seen == 0:
            self.first = self.mean = self.best = self.worst = self.latest = x
            self.jumps = 0.0
        else:
            a, b, d = self.weight(self.seen + 1), self.weight(self.seen), x - self.mean
            self.mean += a * d
            self.jumps += b * ((x - self.latest) ** 2 - self.jumps)
            self.best, self.worst = min(self.best, self.mean), max(self.worst, self.mean)
            self.latest = x
        self.seen += 1
        self.history.add(x)

    def weight(self, n):
        return 1 / min(n, self.window)

    def check(self, stream, rtol=1e-4):
        counts = ("seen", "broken", "lost")
        assert [int(getattr(stream, x)) for x in counts] == [getattr(self, x) for x in counts]
        if self.seen:
            for name in ("latest", "first", "mean", "best", "worst"):
                np.testing.assert_allclose(getattr(stream, name), getattr(self, name), rtol)
            np.testing.assert_allclose(stream.jumps, self.jumps, 1e-3, 1e-12)
        check_history(stream.history, self.history)


def check_history(history, blocks, scale=1.0):
    assert int(history.blocks) == len(blocks.blocks)
    assert int(history.size) == blocks.size and int(history.held) == len(blocks.part)
    means = np.asarray(history.means)[: len(blocks.blocks)]
    np.testing.assert_allclose(means / scale, np.asarray(blocks.blocks) / scale, 1e-4, 1e-6)


def mean_of_last(numbers, window):
    mean = 0.0
    for n, x in enumerate(numbers, start=1):
        mean += (x - mean) / min(n, window)
    return mean


def losses(seed, steps=150):
    r = random.Random(seed)
    kinds = (lambda: None, lambda: NAN, lambda: INF, lambda: r.gauss(1, 0.5))
    return [r.choices(kinds, (2, 1, 1, 16))[0]() for _ in range(steps)]


def updated(tx):
    """One step, a loss that is None left out: two programs."""
    update = jax.jit(lambda g, s, p, **kw: tx.update(g, s, p, **kw)[1])

    def step(grads, state, params, loss=None, validation=None):
        given = {"value": loss, "validation": validation}
        given = {k: jnp.float32(v) for k, v in given.items() if v is not None}
        return update(grads, state, params, **given)

    return step


@pytest.mark.parametrize("window", [2, 7, 50])
def test_losses_are_as_in_the_reference(window):
    tx = js.monitor(window=window)
    state, step = tx.init({}), updated(tx)
    train, valid = Reference(window), Reference(1)
    pairs = zip(losses(f"train{window}"), losses(f"valid{window}"), strict=True)
    for i, (loss, validation) in enumerate(pairs):
        state = step({}, state, {}, loss, validation)
        train.add(loss)
        valid.add(validation)
        chex.assert_tree_all_finite(state)
        if i % 7 == 0:
            train.check(state.loss)
            valid.check(state.validation)
    train.check(state.loss)


def test_gradients_and_parameters_are_as_in_the_reference():
    tx, rng = js.monitor(window=5), np.random.default_rng(0)
    params, state, step = PARAMS, tx.init(PARAMS), updated(tx)
    norms, cosines, outward, travel, last, broken = [], [], [], Blocks(), None, 0
    before, still = None, []
    for i in range(80):
        flat = rng.normal(size=6).astype(np.float32) * 10.0 ** rng.integers(-15, 15)
        flat = flat * (i % 9 != 4)  # now and then zero
        flat[4:] *= i % 4 != 1
        if i % 11 == 5:
            flat[rng.integers(6)] = rng.choice([NAN, INF, -INF])
        grads = {"w": jnp.asarray(flat[:4].reshape(2, 2)), "b": jnp.asarray(flat[4:])}
        state = step(grads, state, params)
        chex.assert_tree_all_finite(state)
        p = np.concatenate([np.ravel(params["w"]), params["b"]]).astype(np.float64)
        g = np.where(np.all(np.isfinite(flat)), flat, 0).astype(np.float64)
        if before is not None:
            travel.add([np.linalg.norm(p - before), -(g @ (p - before))])
        before = p
        if not np.all(np.isfinite(flat)):
            broken += 1
        else:
            still.append(np.mean([not g[:4].any(), not g[4:].any()]))
            norms.append(np.linalg.norm(g))
            if norms[-1] > 0:
                outward.append(-(g @ p) / norms[-1] / np.linalg.norm(p))
                if last is not None:
                    cosines.append(g @ last / norms[-1] / np.linalg.norm(last))
                last = g
        params = jax.tree.map(lambda x: x * 1.01, params)
    gradient, parameters = state.gradient, state.parameters
    assert int(gradient.broken) == broken and int(gradient.seen) == len(norms)
    assert int(gradient.compared) == len(cosines) and int(parameters.seen) == 80
    np.testing.assert_allclose(gradient.first, norms[0], 1e-5)
    np.testing.assert_allclose(gradient.norm, mean_of_last(norms, 5), 1e-5)
    np.testing.assert_allclose(gradient.cosine, mean_of_last(cosines, 5), 1e-4, 1e-6)
    np.testing.assert_allclose(parameters.outward, mean_of_last(outward, 5), 1e-4, 1e-6)
    np.testing.assert_allclose(gradient.still, mean_of_last(still, 5), 1e-5)
    check_history(parameters.travel, travel, scale=np.abs(travel.blocks).max(axis=0))


def test_it_passes_the_updates_through():
    tx = js.monitor()
    grads = {"w": jnp.asarray([[NAN, 1.0], [INF, 0.0]]), "b": jnp.ones(2)}
    out, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    testing.assert_same(out, grads)
    alone, watched = (
        optax.sgd(0.1, momentum=0.9),
        optax.chain(js.monitor(), optax.sgd(0.1, momentum=0.9)),
    )
    a, _ = alone.update(PARAMS, alone.init(PARAMS), PARAMS)
    b, _ = watched.update(PARAMS, watched.init(PARAMS), PARAMS, value=1.0)
    testing.assert_same(a, b)


def test_a_step_that_saw_no_loss_counts_none():
    tx = js.monitor()
    state = tx.init(PARAMS)
    for seen in (1.0, None, None, 3.0):
        _, state = tx.update(PARAMS, state, PARAMS, **({} if seen is None else {"value": seen}))
    assert int(state.loss.seen) == 2 and int(state.gradient.seen) == 4
    assert float(state.loss.mean) == 2.0 and int(state.validation.seen) == 0


def test_observe_finds_it_in_a_chain_and_in_flax():
    from flax.training.train_state import TrainState

    tx = optax.chain(js.monitor(metric="loss"), optax.sgd(0.1, momentum=0.9))
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    for loss in (4.0, 2.0):
        state = js.observe(state, loss=loss, validation=loss + 1)
        state = state.apply_gradients(grads=PARAMS)
    assert float(state.opt_state[0].loss.mean) == 3.0
    assert float(state.opt_state[0].validation.latest) == 3.0
    # Observations between two updates are one, their mean.
    state = js.observe(js.observe(state, loss=0.0), loss=2.0).apply_gradients(grads=PARAMS)
    assert float(state.opt_state[0].loss.latest) == 1.0
    with pytest.raises(ValueError, match="Names in use: loss, validation"):
        js.observe(state, value=1.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_all_floats_are_float32_whatever_the_parameters(dtype):
    tx = js.monitor()
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    state = tx.init(params)
    for _ in range(3):
        _, new = tx.update(params, state, params, value=jnp.asarray(1.0, dtype))
        chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
        state = new
    leaves = jax.tree.leaves((state.floats, state.ints))
    assert [x.dtype.name for x in leaves] == ["float32", "int32"]
    assert not any(x.weak_type for x in jax.tree.leaves(state))
    assert {x.dtype.name for x in jax.tree.leaves(state.previous)} == {"float32"}
    np.testing.assert_allclose(state.gradient.cosine, 1.0, rtol=1e-3)


def test_what_float16_cannot_square_is_measured():
    tx = js.monitor()
    params = jnp.full(4, 6e4, jnp.float16)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    np.testing.assert_allclose(state.gradient.norm, 1.2e5, rtol=1e-3)
    np.testing.assert_allclose(state.gradient.cosine, 1.0, rtol=1e-3)


def test_the_largest_numbers_are_finite():
    tx = js.monitor(window=2)
    state, step = tx.init(PARAMS), updated(tx)
    largest = float(np.finfo(np.float32).max)
    for sign in (1, -1, 1, 1, -1):
        grads = jax.tree.map(lambda x, s=sign: jnp.full_like(x, s * largest), PARAMS)
        state = step(grads, state, grads, sign * largest, -sign * largest)
        chex.assert_tree_all_finite(state)
        chex.assert_tree_all_finite(js.diagnose(state))


def test_a_fresh_state_has_a_buffer_for_each_leaf():
    leaves = jax.tree.leaves(js.monitor().init(PARAMS))
    assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)
    tx = optax.chain(js.monitor(), optax.sgd(0.1))
    step = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS, value=1.0)[1], donate_argnums=0)
    step(step(tx.init(PARAMS)))


def stream_of(steps):
    rng = np.random.default_rng(1)
    grads = {"w": rng.normal(size=(steps, 2, 2)), "b": rng.normal(size=(steps, 2))}
    values = rng.normal(size=steps)
    values[3] = NAN
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (grads, values))


def test_scan_vmap_and_a_loop_are_the_same():
    tx = js.monitor(window=4)
    grads, values = stream_of(70)

    def one(state, x):
        return tx.update(x[0], state, PARAMS, value=x[1])[1], None

    scanned, _ = jax.lax.scan(one, tx.init(PARAMS), (grads, values))
    looped, jitted = tx.init(PARAMS), jax.jit(one)
    for i in range(70):
        looped, _ = jitted(looped, jax.tree.map(lambda x, i=i: x[i], (grads, values)))
    chex.assert_trees_all_close(scanned, looped, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(scanned, tx.init(PARAMS))

    def run(scale):
        scaled = jax.tree.map(lambda x: scale * x, (grads, values))
        return jax.lax.scan(one, tx.init(PARAMS), scaled)[0]

    many = jax.vmap(run)(jnp.asarray([1.0, 3.0]))
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], many), scanned, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(many.loss.mean[1], 3 * many.loss.mean[0], rtol=1e-4)
    np.testing.assert_allclose(many.gradient.cosine[1], many.gradient.cosine[0], atol=1e-4)


def test_a_run_that_is_resumed_at_any_step_goes_on():
    tx = js.monitor(window=4)
    grads, values = stream_of(40)
    step = updated(tx)

    def on(state, i):
        return step(jax.tree.map(lambda x: x[i], grads), state, PARAMS, values[i])

    whole = [tx.init(PARAMS)]
    for i in range(40):
        whole.append(on(whole[-1], i))
    for i in range(40):
        restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), whole[i])
        testing.assert_same(on(restored, i), whole[i + 1])


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_every_device_remembers_the_same(how):
    devices = np.asarray(jax.devices())
    assert len(devices) == 8
    tx, alone = js.monitor(axis_name="d", window=3), js.monitor(window=3)
    rng = np.random.default_rng(2)
    # Each device has its part of the parameters.
    grads = jnp.asarray(rng.normal(size=(6, 8, 2)), jnp.float32).at[2, 3, 1].set(NAN)
    metrics = jnp.asarray(rng.normal(size=(6, 8)), jnp.float32).at[4, 5].set(INF)
    params = jnp.ones((8, 2))

    def one(grads, state, params, metric):
        return tx.update(grads, state, params, value=metric)[1]

    if how == "pmap":
        state = jax.tree.map(lambda x: jnp.stack([x] * 8), tx.init(params[0]))
        step = jax.pmap(one, axis_name="d")
    else:
        state = tx.init(params)
        parted = jax.tree.map(lambda _: P(), state)
        parted = parted._replace(arrays={"previous": P(None, None, "d")})
        step = jax.jit(
            jax.shard_map(
                lambda g, s, p, m: one(g, s, p, m[0]),
                mesh=Mesh(devices, ("d",)),
                in_specs=(P("d"), parted, P("d"), P("d")),
                out_specs=parted,
            )
        )
    expected, mean = alone.init(params), np.asarray(metrics)
    for i in range(6):
        state = step(grads[i], state, params, metrics[i])
        finite = mean[i][np.isfinite(mean[i])].mean()
        _, expected = alone.update(grads[i], expected, params, value=jnp.float32(finite))
    for path, x in jax.tree_util.tree_flatten_with_path(state)[0]:
        assert np.all(np.isfinite(x))
        if how == "pmap" and "previous" not in jax.tree_util.keystr(path):
            assert np.all(np.asarray(x) == np.asarray(x)[0]), path
    first = jax.tree.map(lambda x: x[0], state) if how == "pmap" else state
    np.testing.assert_allclose(first.gradient.cosine, expected.gradient.cosine, rtol=1e-5)
    # Mean squares, not sums: the norm is that of a device.
    norm = expected.gradient.norm / np.sqrt(8)
    np.testing.assert_allclose(first.gradient.norm, norm, rtol=1e-5)
    np.testing.assert_allclose(first.loss.mean, expected.loss.mean, rtol=1e-5)
    assert int(first.gradient.broken) == int(expected.gradient.broken) == 1
    assert int(first.loss.broken) == 1


def test_it_compiles_to_no_branch():
    tx = js.monitor()

    def both(state):
        new = tx.update(PARAMS, state, PARAMS, value=jnp.float32(1.0))[1]
        return new, js.diagnose(new)

    testing.assert_compiles_clean(both, tx.init(PARAMS))


def test_it_is_float64_under_x64(x64):
    tx = js.monitor()
    params = jnp.ones(3, jnp.float32)
    _, state = tx.update(params, tx.init(params), params, value=1.0)
    assert js.diagnose(state).too_high.dtype == jnp.float64
    assert state.loss.mean.dtype == jnp.float64 and state.loss.seen.dtype == jnp.int32
    assert [x.dtype for x in jax.tree.leaves(state.previous)] == [jnp.float32]


def test_placeholders_and_no_parameters():
    tx = js.monitor()
    optax.tree.map_params(tx, lambda x: x * 2, tx.init(PARAMS))
    _, state = tx.update(PARAMS, tx.init(PARAMS), value=1.0)
    assert int(state.parameters.seen) == 0 and int(state.gradient.seen) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(metric=""), r"`monitor\(metric=\.\.\.\)` must be a name"),
        (dict(validation=3), "validation"),
        (dict(metric="loss", validation="loss"), "not be the name of the training loss"),
        (dict(window=1), r"window=1"),
        (dict(window=2.5), r"`monitor\(window=\.\.\.\)` must be an integer"),
        (dict(axis_name=""), "axis_name"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(options, says):
    with pytest.raises(ValueError, match=says):
        js.monitor(**options)


def test_the_state_of_another_is_refused():
    with pytest.raises(ValueError, match="listens to value, validation"):
        js.monitor().update({}, js.monitor(metric="loss").init({}))
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), js.monitor().init({}))
    with pytest.raises(ValueError, match="stacked"):
        js.monitor().update({}, stacked)


def test_parameters_of_other_shapes_are_refused():
    tx = js.monitor()
    state = tx.init({"a": None, "b": jnp.ones(3)})
    with pytest.raises(ValueError, match="got parameters whose samples have the shapes"):
        tx.update({"a": None, "b": jnp.ones(3)}, state, {"a": jnp.ones(3), "b": jnp.ones(3)})


def test_a_sample_of_zeros_is_no_gradient_of_zero():
    """A batch changes few rows of an embedding, and only some rows are in the sample."""
    tx, params = js.monitor(), {"embedding": jnp.ones((50_000, 16)), "bias": jnp.zeros(4)}
    gradient = {"embedding": jnp.zeros((50_000, 16)).at[1].set(1.0), "bias": jnp.ones(4)}
    assert tx.update(gradient, tx.init(params), params)[1].gradient.still == 0
    gradient["bias"] = jnp.zeros(4)
    assert tx.update(gradient, tx.init(params), params)[1].gradient.still == 1
