"""`snapshot`: which parameters are taken, in which order they are kept, and what they are worth."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from packed import changed

import jaxsched as js
from jaxsched import testing

CYCLES = js.cosine(0.1, 0.0, 10).cycle()
SCHEDULES = {
    "equal cycles": (CYCLES, [9, 19, 29, 39]),
    "longer cycles": (js.cosine(1.0, 0.0, 5).cycle(mult=2), [4, 14, 34]),
    "a number of cycles": (js.cosine(1.0, 0.1, 10).cycle(cycles=3), [9, 19, 29]),
    "one cycle": (js.cosine(1.0, 0.0, 20), [19]),
    "warmups": (js.warmup_cosine(1.0, total_steps=12, warmup_steps=4).cycle(), [11, 23, 35]),
    "a triangle": (js.cyclic(0.1, 1.0, up_steps=5), [10, 20, 30, 40]),
    "restarts in a chain": (
        js.linear(1.0, 0.0, 7) >> js.constant(0.5).take(3) >> js.linear(0.5, 0.1, 5),
        [6, 14],
    ),
    "a valley that is flat": (
        js.linear(1.0, 0.2, 5) >> js.constant(0.2).take(5) >> js.linear(0.3, 0.1, 5),
        [9, 14],
    ),
    "a warmup is no minimum": (js.constant(0.1).take(5) >> js.linear(0.1, 1.0, 20), []),
    "an endless decay has none": (js.exponential_decay(1.0, decay_rate=0.5, decay_steps=9), []),
    "below zero": (js.cosine(-1.0, -2.0, 10).cycle(), [9, 19, 29, 39]),
    "a slow fall": (js.linear(1.0, 0.9, 1000).take(20).cycle(), [19, 39]),
}


def trained(tx, steps, params=0.0, state=None, first=0):
    """Each update adds one: the parameter after step t is t + 1."""
    params = jnp.asarray(params)
    state = tx.init(params) if state is None else state
    update = jax.jit(tx.update)
    for _ in range(first, steps):
        updates, state = update(jnp.ones(()), state, params)
        params = optax.apply_updates(params, updates)
        chex.assert_tree_all_finite(state)
    return params, state


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_minima(name):
    schedule, steps = SCHEDULES[name]
    _, state = trained(js.snapshot(schedule, keep=5), 44)
    assert js.events(state) == {"snapshots": len(steps)}
    assert js.step(state) == 44
    if not steps:
        for look in (js.snapshots, js.snapshot_average):
            with pytest.raises(ValueError, match="the schedule has had no minimum yet"):
                look(state)
        return
    found = js.snapshots(state)
    np.testing.assert_array_equal(found, np.asarray(steps) + 1.0)
    np.testing.assert_allclose(js.snapshot_average(state), np.mean(np.asarray(steps) + 1.0), 1e-6)
    assert sorted(np.asarray(state.steps)[: len(steps)]) == steps


def test_over_a_million_steps_a_minimum_is_where_it_is():
    schedule = js.cosine(1.0, 0.0, 1_000_000).cycle()
    tx = js.snapshot(schedule, keep=2)

    def last(start):
        state = js.set_step(tx.init(0.0), start)
        state = changed(state, high=jnp.float32(1.0))

        def one(state, t):
            return tx.update(0.0, state, jnp.float32(t))[1], None

        return jax.lax.scan(one, state, jnp.arange(2000) + start)[0]

    state = jax.jit(last, static_argnums=0)(999_000)
    assert js.events(state)["snapshots"] == 1 and state.steps[0] == 999_999


def test_at_the_flat_top_of_a_long_cycle_rounding_is_no_minimum():
    tx = js.snapshot(js.cosine(1.0, 0.0, 10**6).cycle(), keep=1)

    def one(state, _):
        return tx.update(0.0, state, 0.0)[1], None

    state = jax.jit(lambda s: jax.lax.scan(one, s, length=200_000)[0])(tx.init(0.0))
    assert js.events(state)["snapshots"] == 0


def test_the_oldest_goes():
    _, state = trained(js.snapshot(CYCLES, keep=2), 45)
    assert js.snapshots(state).tolist() == [30.0, 40.0]
    assert js.snapshot_average(state) == 35.0
    # Under jit all places, the empty ones first.
    _, state = trained(js.snapshot(CYCLES, keep=3), 25)
    assert jax.jit(js.snapshots)(state).tolist() == [0.0, 10.0, 20.0]
    assert jax.jit(js.snapshot_average)(state) == 15.0


def test_in_a_scan_and_under_vmap_it_is_the_loop():
    def run(cycle_steps, start):
        tx = js.snapshot(js.linear(1.0, 0.0, cycle_steps).cycle(), keep=3)

        def one(carry, _):
            params, state = carry
            updates, state = tx.update(jnp.ones(()), state, params)
            return (optax.apply_updates(params, updates), state), None

        return js.snapshots(jax.lax.scan(one, (start, tx.init(start)), length=34)[0][1])

    many = jax.vmap(run)(jnp.asarray([10, 5]), jnp.asarray([0.0, 100.0]))
    assert many.tolist() == [[10.0, 20.0, 30.0], [120.0, 125.0, 130.0]]


def test_a_run_that_is_resumed_goes_on():
    tx = js.snapshot(js.linear(1.0, 0.0, 4).cycle(), keep=3)
    _, whole = trained(tx, 17)
    for k in range(18):
        params, state = trained(tx, k)
        restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
        testing.assert_same(trained(tx, 17, params, restored, first=k)[1], whole)


def test_it_has_no_branch_and_its_state_is_one_tree():
    tx = optax.chain(optax.sgd(0.1), js.snapshot(CYCLES, keep=2))
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(2)}
    state = tx.init(params)
    testing.assert_compiles_clean(lambda s, p: tx.update(p, s, p), state, params)
    _, new = tx.update(params, state, params)
    assert jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), new) == jax.tree.map(
        lambda x: (x.dtype, x.shape, x.weak_type), state
    )
    assert new[1].params["w"].dtype == jnp.bfloat16
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)


def test_one_clock_with_the_others():
    tx = optax.chain(js.inject(optax.sgd, learning_rate=CYCLES), js.snapshot(CYCLES, keep=2))
    state = js.set_step(tx.init(jnp.ones(2)), 9)
    assert js.step(state) == 9 and list(js.hyperparams(state)) == ["learning_rate"]
    restored = js.graft(tx.init(jnp.ones(2)), state)
    testing.assert_same(restored, state)


def test_an_nnx_ensemble():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = optax.chain(optax.sgd(0.1), js.snapshot(js.linear(1.0, 0.0, 2).cycle(), keep=3))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(6):
        grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        optimizer.update(model, grads)
    graphdef, _ = nnx.split(model)
    x = jnp.ones((4, 3))
    many = jax.vmap(lambda params: nnx.merge(graphdef, params)(x))(js.snapshots(optimizer))
    assert many.shape == (3, 4, 2)
    np.testing.assert_allclose(many[-1], model(x), rtol=1e-6)
    assert not np.allclose(many[0], many[1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: js.snapshot(0.1, keep=2), "`snapshot` takes schedules, got 0.1"),
        (lambda: js.snapshot(CYCLES * js.greedy(), keep=2), "stateful"),
        (lambda: js.snapshot(CYCLES, keep=0), r"snapshot\(keep=\.\.\.\)` must be at least 1"),
        (lambda: js.snapshot(CYCLES, keep=2.0), "must be an integer, got keep=2.0"),
        (lambda: js.snapshots(optax.sgd(0.1).init(0.0)), r"finds no `snapshot\(schedule, keep"),
        (
            lambda: js.snapshots([js.snapshot(CYCLES, keep=1).init(0.0)] * 2),
            r"finds 2 `snapshot\(schedule, keep=\.\.\.\)` in a list, but needs exactly",
        ),
        (
            lambda: js.snapshot(CYCLES, keep=1).update(0.0, js.snapshot(CYCLES, keep=1).init(0.0)),
            "`snapshot` needs the parameters",
        ),
    ],
)
def test_a_wrong_call_is_told_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_ring_of_another_length_is_refused():
    _, state = trained(js.snapshot(CYCLES, keep=2), 12)
    with pytest.raises(ValueError, match=r"but the code has `snapshot\(keep=5\)`"):
        js.snapshot(CYCLES, keep=5).update(0.0, state, 0.0)


def test_outside_a_guard_no_cycle_is_missed():
    cycles = js.cosine(1.0, 0.0, 4).cycle()
    tx = optax.chain(
        js.skip_spikes(js.inject(optax.sgd, learning_rate=cycles)), js.snapshot(cycles, keep=5)
    )
    params, state = jnp.ones(2), tx.init(jnp.ones(2))
    for i in range(16):
        updates, state = tx.update(jnp.full(2, jnp.nan if i == 7 else 1.0), state, params)
        params = optax.apply_updates(params, updates)
    assert js.events(state) == {"skips": 1, "snapshots": 4, "mixed": 0}
