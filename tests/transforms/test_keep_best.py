"""`keep_best`: which parameters are remembered, and when they are gone back to."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")
METRICS = [3.0, 2.0, NAN, 2.5, None, 1.0, INF, -INF, 1.0, 0.5, 0.9]


@functools.cache
def compiled(tx):
    """Its update, and what is asked after each: every run of it calls one program."""

    def update(state, params, metrics):
        updates, state = tx.update(jnp.ones_like(params), state, params, **metrics)
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)]
        params = optax.apply_updates(params, updates)
        return params, js.best_params(state), state, jnp.all(jnp.stack(finite))

    return jax.jit(update)


def run(tx, metrics, params=None, state=None):
    """The parameters that each update saw, the best after it, and the state at the end."""
    params = jnp.ones(3) if params is None else params
    state = tx.init(params) if state is None else state
    seen, best = [], []
    for metric in metrics:
        seen.append(np.asarray(params, np.float32)[0])
        metrics = {} if metric is None else {"value": np.float32(metric)}
        params, kept, state, finite = compiled(tx)(state, params, metrics)
        best.append(np.asarray(kept, np.float32)[0])
        assert finite, state
    assert not best or best[-1] == np.asarray(js.best_params(state), np.float32)[0]
    return seen, best, params, state


def reference(metrics, seen, mode="min", rtol=0.0, atol=0.0):
    best, kept, out = None, seen[0], []
    for metric, params in zip(metrics, seen, strict=True):
        if metric is not None and math.isfinite(metric):
            margin = 0 if best is None else rtol * abs(best) + atol
            sign = 1 if mode == "min" else -1
            if best is None or sign * metric < sign * best - margin:
                best, kept = metric, params
        out.append(kept)
    return out


@pytest.mark.parametrize(
    "options", [{}, dict(mode="max"), dict(rtol=0.3), dict(atol=0.6), dict(mode="max", atol=2.0)]
)
def test_it_is_what_its_docstring_says(options):
    metrics = METRICS if options.get("mode") != "max" else METRICS[::-1]
    seen, best, _, _ = run(js.keep_best(optax.sgd(0.1), **options), metrics)
    assert best == reference(metrics, seen, **options) and len(set(best)) > 1


def test_what_is_observed_is_of_the_parameters_of_the_next_update():
    tx = js.keep_best(optax.sgd(0.1))
    state = TrainState.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=tx)
    ones = {"w": jnp.ones(2)}
    for loss in (3.0, 1.0, 2.0):
        state = state.apply_gradients(grads=ones)
        state = js.observe(state, value=loss)  # a validation of the parameters as they are now
    state = state.apply_gradients(grads=ones)
    assert js.best_params(state)["w"].tolist() == pytest.approx([0.8, 0.8])


@functools.cache
def plateau(backtrack=True, **options):
    rate = 0.1 * js.reduce_on_plateau(patience=2, factor=0.5)
    return js.keep_best(js.inject(optax.sgd, learning_rate=rate), backtrack=backtrack, **options)


def test_a_cut_goes_back_to_the_best():
    seen, _, params, state = run(plateau(), [3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    # The second bad metric cuts, in the fourth update, and the fifth sees the best again.
    assert seen == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.9, 0.85])
    assert params == pytest.approx([0.8] * 3)
    assert js.events(state) == {"cuts": 1, "restores": 1, "mixed": 0}
    forward, *_ = run(plateau(backtrack=False), [3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    assert forward == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.65, 0.6])


def test_what_comes_back_is_exact_but_for_a_rounding():
    for dtype in (jnp.float32, jnp.bfloat16):
        for seed in range(5):
            here, there = jax.random.normal(jax.random.key(seed), (2, 1000)).astype(dtype)
            tx = plateau()
            state = tx.init(there)
            _, state = tx.update(jnp.zeros_like(there), state, there, value=1.0)
            for _ in range(2):
                updates, state = tx.update(jnp.zeros_like(here), state, here, value=2.0)
            back = optax.apply_updates(here, updates)
            eps = float(jnp.finfo(dtype).eps)
            error = np.abs(np.asarray(back - there, np.float64))
            # Of the larger one: what is small is reached by a difference of what is large.
            scale = np.maximum(np.abs(np.asarray(here)), np.abs(np.asarray(there)))
            assert np.all(error <= eps * scale.astype(np.float64))


def test_nothing_is_gone_back_to_without_a_rule_that_cuts():
    with pytest.raises(ValueError, match="nothing in `tx` cuts it"):
        js.keep_best(optax.sgd(0.1), backtrack=True).init(jnp.ones(2))


def test_in_a_scan_and_under_vmap_it_is_the_loop():
    metrics = jnp.asarray([3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    seen, best, _, _ = run(plateau(), [float(x) for x in metrics])

    def scanned(start):
        tx = plateau()

        def one(carry, metric):
            params, state = carry
            updates, state = tx.update(jnp.ones(3), state, params, value=metric)
            return (optax.apply_updates(params, updates), state), (
                params[0],
                js.best_params(state)[0],
            )

        params = jnp.full(3, start)
        return jax.lax.scan(one, (params, tx.init(params)), metrics)[1]

    many = jax.vmap(scanned)(jnp.asarray([1.0, 5.0]))
    np.testing.assert_allclose(many[0], [seen, np.add(seen, 4)], rtol=1e-6)
    np.testing.assert_allclose(many[1], [best, np.add(best, 4)], rtol=1e-6)


def test_a_run_that_is_resumed_goes_on():
    metrics = [3.0, 1.0, 2.0, 2.0, NAN, 0.5, 0.7, 0.8, 0.1]
    seen, best, _, _ = run(plateau(), metrics)
    for k in range(len(metrics)):
        first, _, params, state = run(plateau(), metrics[:k])
        params, state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), (params, state))
        second, after, _, _ = run(plateau(), metrics[k:], params, state)
        assert first + second == seen and after == best[k:]


def test_every_device_keeps_the_same():
    rate = 0.1 * js.reduce_on_plateau(patience=1, factor=0.5, axis_name="i")
    inner = js.inject(optax.sgd, learning_rate=rate)
    tx = js.keep_best(inner, backtrack=True, axis_name="i")
    mesh = Mesh(np.array(jax.devices()[:8]), ("i",))
    params = jnp.ones(3)
    state = tx.init(params)

    @jax.jit
    def step(params, state, values):
        def local(params, state, value):
            updates, state = tx.update(jnp.ones(3), state, params, value=value[0])
            return jax.tree.map(lambda x: x[None], (optax.apply_updates(params, updates), state))

        specs = dict(in_specs=(P(), P(), P("i")), out_specs=P("i"), check_vma=False)
        return jax.shard_map(local, mesh=mesh, **specs)(params, state, values)

    for mean in (3.0, 1.0, 2.0, 0.5):
        out = step(params, state, mean + jnp.arange(8.0) - 3.5)
        for leaf in jax.tree.leaves(out):
            assert np.all(np.asarray(leaf) == np.asarray(leaf)[0])
        params, state = jax.tree.map(lambda x: x[0], out)
    # The third metric cut, and went back to the parameters of the second.
    assert js.best_params(state) == pytest.approx([0.9] * 3)
    assert js.events(state) == {"cuts": 1, "restores": 1, "mixed": 0}


def test_it_has_no_branch_and_its_buffers_are_fresh():
    tx, params = plateau(), jnp.ones(3)
    state = tx.init(params)
    testing.assert_compiles_clean(
        lambda s, p: tx.update(p, s, p, value=jnp.float32(1.0)), state, params
    )
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)


def test_an_nnx_model():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, js.keep_best(optax.sgd(0.1)), wrt=nnx.Param)
    start = jax.tree.map(jnp.array, nnx.state(model, nnx.Param))
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for loss in (1.0, 2.0):
        optimizer.update(model, grads, value=loss)
    best = js.best_params(optimizer)
    for a, b in zip(jax.tree.leaves(best), jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: js.keep_best(3), r"keep_best\(tx=\.\.\.\)` must be an optax.GradientTrans"),
        (lambda: js.keep_best(optax.sgd(0.1), mode="best"), "'min', 'max', got mode='best'"),
        (lambda: js.keep_best(optax.sgd(0.1), rtol=-1.0), "rtol"),
        (lambda: js.keep_best(optax.sgd(0.1), atol=NAN), "atol"),
        (lambda: js.keep_best(optax.sgd(0.1), backtrack=1), "must be True or False"),
        (lambda: js.keep_best(optax.sgd(0.1), metric="step"), "argument of update"),
        (lambda: js.best_params(optax.sgd(0.1).init(3)), r"finds no `keep_best\(tx\)` in a tuple"),
        (
            lambda: js.keep_best(optax.sgd(0.1)).update(
                1.0, js.keep_best(optax.sgd(0.1)).init(1.0)
            ),
            r"`keep_best` needs the parameters: `tx.update\(updates, state, params\)`",
        ),
    ],
)
def test_a_wrong_call_is_told_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_before_there_is_a_best_nothing_is_gone_back_to():
    """The rule that cuts hears another metric, and cuts first."""
    rate = 0.1 * js.reduce_on_plateau(patience=1, factor=0.5, metric="loss")
    tx = js.keep_best(js.inject(optax.sgd, learning_rate=rate), backtrack=True)
    params = jnp.full(2, 10.0)
    state = tx.init(params)
    for _ in range(4):
        updates, state = tx.update(jnp.ones(2), state, params, loss=1.0)
        params = optax.apply_updates(params, updates)
    assert js.events(state)["cuts"] == 3 and js.events(state)["restores"] == 0
    assert jnp.all(params < 10.0)
    with pytest.raises(ValueError, match="no update has received a metric 'value' yet"):
        js.best_params(state)


def test_what_is_not_finite_is_not_called_restored():
    rate = 0.1 * js.reduce_on_plateau(nonfinite="reduce")
    tx = js.keep_best(js.inject(optax.sgd, learning_rate=rate), backtrack=True)
    params = jnp.ones(2)
    _, state = tx.update(jnp.ones(2), tx.init(params), params, value=1.0)
    _, state = tx.update(jnp.ones(2), state, jnp.full(2, NAN), value=NAN)
    assert js.events(state) == {"cuts": 1, "restores": 0, "mixed": 0}
    assert js.best_params(state).tolist() == [1.0, 1.0]


def test_the_last_metric_is_judged_by_one_update_more():
    tx = js.keep_best(optax.sgd(0.1))
    state = tx.init(jnp.ones(2))
    _, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=2.0)
    state = js.observe(state, value=1.0)
    assert js.best_params(state)[0] == 1.0
    _, state = tx.update(jnp.zeros(2), state, jnp.full(2, 0.9))
    assert js.best_params(state)[0] == jnp.float32(0.9)


def test_it_goes_back_at_the_cut_of_a_rule_of_ones_own():
    rule = js.feedback(lambda scale, loss: jnp.where(loss > 1.5, scale * 0.5, scale))
    tx = js.keep_best(js.inject(optax.sgd, learning_rate=0.1 * rule), backtrack=True)
    seen, _, params, state = run(tx, [1.0, 1.2, 2.0])
    assert seen == pytest.approx([1.0, 0.9, 0.8]) and params == pytest.approx([1.0] * 3)
    assert js.events(state) == {"cuts": 1, "raises": 0, "restores": 1, "mixed": 0}


def test_the_best_of_another_metric_is_not_taken_over():
    params = jnp.ones(2)
    old = js.keep_best(optax.sgd(0.1, momentum=0.9), metric="accuracy", mode="max")
    _, state = old.update(params, old.init(params), params, accuracy=0.3)
    new = js.keep_best(optax.sgd(0.1, momentum=0.9))
    with pytest.raises(ValueError, match="`keep_best` which listens to value got the state of acc"):
        new.update(params, state, params)
    grafted = js.graft(new.init(params), state)
    assert grafted.judged == 0
    testing.assert_same(grafted.inner_state, state.inner_state)
