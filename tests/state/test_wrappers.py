"""States in trees of wrappers: every writer changes what it names, and `graft` is the identity."""

import random

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from packed import record

import jaxsched as js
from jaxsched import testing
from jaxsched._core._trees import rewritten

PARAMS = {"dec": jnp.ones((3, 2)), "enc": jnp.ones(2)}
LABELS = {"dec": "dec", "enc": "enc"}


@pytest.fixture(autouse=True)
def promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def factor(r):
    """A schedule times rules that listen to the same metric."""
    rate = js.linear(0.1, 0.0, 100)
    if r.random() < 0.3:
        rate = js.tunable(rate)
    for _ in range(r.randrange(3)):
        rate = rate * r.choice(
            [
                js.reduce_on_plateau(patience=1),
                js.greedy(window_size=4),
                js.spike_guard(window_size=8),
                js.until(js.constant(1.0), js.constant(0.5)),
            ]
        )
    return rate


def drawn(r, depth=3):
    """A random optimizer."""
    leaf = [
        lambda: js.scale_by_learning_rate(factor(r)),
        lambda: js.inject(optax.adam, learning_rate=factor(r)),
        lambda: optax.adam(0.1),
        lambda: js.per_group(LABELS, {"dec": 0.1, "enc": factor(r)}),
    ]
    if depth == 0:
        return r.choice(leaf)()

    def inner():
        return drawn(r, depth - 1)

    wrappers = [
        lambda: optax.chain(*(inner() for _ in range(r.randrange(1, 3)))),
        lambda: optax.partition({"dec": inner(), "enc": inner()}, LABELS),
        lambda: optax.masked(inner(), {"dec": True, "enc": False}),
        lambda: optax.MultiSteps(inner(), 2),
        lambda: optax.apply_if_finite(inner(), 3),
        lambda: js.wrap(inner(), js.reduce_on_plateau()),
        lambda: js.keep_best(inner()),
        lambda: js.skip_spikes(inner(), window_size=8),
    ]
    return r.choice(wrappers + leaf)()


def filled(state, seed):
    """A state with random numbers in all its leaves."""
    draw = np.random.default_rng(seed)

    def one(x):
        if x.dtype == bool:
            return jnp.asarray(draw.random(x.shape) < 0.5)
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(draw.integers(0, 9, x.shape), x.dtype)
        return jnp.asarray(draw.normal(size=x.shape), x.dtype)

    return rewritten(state, lambda tree: jax.tree.map(one, tree))


def made(seed):
    r = random.Random(seed)
    while True:
        try:
            tx = drawn(r)
            return tx, filled(tx.init(PARAMS), seed)
        except (ValueError, TypeError):  # `per_group` in a group of one, say
            continue


def raw(tree):
    return flax.serialization.msgpack_restore(flax.serialization.to_bytes(tree))


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_graft_onto_the_same_optimizer_is_the_identity(first, caplog):
    for seed in range(first, first + 20):
        tx, state = made(seed)
        for old in (state, flax.serialization.to_state_dict(state), raw(state)):
            testing.assert_same(js.graft(tx.init(PARAMS), old), state)
    assert caplog.messages == []


def leaves(state):
    """Each number of a state by the names on the way to it."""
    flat = jax.tree_util.tree_flatten_with_path(record(state))[0]
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in flat}


WRITERS = {
    "set_step": (lambda s: js.set_step(s, 77), (".count",), "clock"),
    "observe": (
        lambda s: js.observe(s, value=2.5),
        (".total", ".finite", ".observed", ".nonfinite"),
        "mailbox['value']",
    ),
    "override": (
        lambda s: js.override(s, learning_rate=0.3),
        (".value", ".active", "['learning_rate']", "/learning_rate']"),
        "learning_rate_override",
    ),
    "trigger": (js.trigger, (".triggered",), ".triggered"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_changes_what_it_names_and_nothing_else(name):
    write, fields, mark = WRITERS[name]
    wrote = 0
    for seed in range(200):
        _, state = made(seed)
        before = leaves(state)
        clocks = {path for path in before if path.endswith(".warm")}
        there = bool(clocks) if mark == "clock" else any(mark in path for path in before)
        if not there:
            with pytest.raises(ValueError, match=f"`{name}"):
                write(state)
            continue
        after = leaves(write(state))
        assert before.keys() == after.keys()
        changed = [k for k in before if not np.array_equal(before[k], after[k])]
        strange = [k for k in changed if not k.endswith(fields)]
        assert not strange, (seed, strange)
        wrote += bool(changed)
    assert wrote > 15


class Model(nnx.Module):
    def __init__(self):
        self.dec, self.enc = nnx.Param(jnp.ones((3, 2))), nnx.Param(jnp.ones(2))


def rate():
    return 0.1 * js.reduce_on_plateau() * js.until(js.constant(1.0), js.constant(0.5))


def tuned():
    return js.scale_by_learning_rate(js.tunable(js.constant(0.1)) * rate())


IN_NNX = {
    "partition": lambda: optax.partition(
        {"dec": js.inject(optax.adam, learning_rate=rate()), "enc": tuned()},
        lambda params: jax.tree_util.tree_map_with_path(lambda path, _: path[0].key, params),
    ),
    "masked": lambda: optax.chain(
        optax.masked(
            optax.trace(0.9),
            lambda params: jax.tree_util.tree_map_with_path(lambda p, _: p[0].key == "dec", params),
        ),
        tuned(),
    ),
    "muon": lambda: optax.chain(optax.contrib.muon(0.1), tuned()),
    "sm3": lambda: optax.chain(optax.sm3(0.1), tuned()),
    "guards": lambda: js.keep_best(js.skip_spikes(tuned(), window_size=8)),
}


@pytest.mark.parametrize("name", IN_NNX)
def test_writers_reach_an_nnx_optimizer(name):
    optimizer = nnx.Optimizer(Model(), IN_NNX[name](), wrt=nnx.Param)
    js.set_step(optimizer, 7)
    assert js.step(optimizer) == 7
    js.observe(optimizer, value=2.0)
    js.trigger(optimizer)
    js.override(optimizer, learning_rate=0.25)
    if name != "partition":  # of which one group alone is tunable
        js.retune(optimizer, learning_rate=js.constant(0.3))
    fresh = nnx.Optimizer(Model(), IN_NNX[name](), wrt=nnx.Param)
    js.graft(fresh, optimizer)
    assert js.step(fresh) == 7
    for x, y in zip(*(jax.tree.leaves(nnx.state(o)) for o in (fresh, optimizer)), strict=True):
        np.testing.assert_array_equal(x, y)
    model = Model()
    fresh.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    assert js.step(fresh) == 8


def test_a_writer_that_raises_leaves_an_nnx_optimizer_as_it_was():
    optimizer = nnx.Optimizer(Model(), IN_NNX["partition"](), wrt=nnx.Param)
    before = [np.array(x) for x in jax.tree.leaves(nnx.state(optimizer))]
    for write in (
        lambda: js.retune(optimizer, learning_rate=js.linear(1.0, 0.0, 5)),
        lambda: js.observe(optimizer, value=1.0, nobody=2.0),
        lambda: js.override(optimizer, learning_rate=float("nan")),
        lambda: js.graft(optimizer, {"nothing": 1.0}),
    ):
        with pytest.raises(ValueError, match="`"):
            write()
        after = jax.tree.leaves(nnx.state(optimizer))
        chex.assert_trees_all_equal(list(map(np.asarray, after)), before)


class TestGraftTellsApart:
    def groups(self, frozen=False, names=("dec", "enc")):
        adam = js.inject(optax.adam, learning_rate=0.1 * js.reduce_on_plateau())
        parts = {k: optax.set_to_zero() if frozen and k == "enc" else adam for k in names}
        return optax.partition(parts, dict(zip(PARAMS, names, strict=True)))

    def test_a_group_that_trains_now_gets_nothing_of_the_other(self):
        old = filled(self.groups(frozen=True).init(PARAMS), 1)
        new = self.groups().init(PARAMS)
        state = js.graft(new, old)
        testing.assert_same(state.inner_states["dec"], old.inner_states["dec"])
        fresh, taken = record(new.inner_states["enc"]), record(state.inner_states["enc"])
        testing.assert_same(taken.inner_state.inner_state, fresh.inner_state.inner_state)
        testing.assert_same(taken.inner_state.factors, fresh.inner_state.factors)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: optax.chain(optax.adam(0.1), optax.adam(0.2)),
            lambda: optax.chain(*(js.inject(optax.adam, learning_rate=x) for x in (0.1, 0.2))),
            lambda: optax.chain(
                *(
                    optax.masked(js.scale_by_learning_rate(factor(random.Random(1))), mask)
                    for mask in ({"dec": True, "enc": False}, {"dec": False, "enc": True})
                )
            ),
        ],
    )
    def test_two_of_a_kind_from_nested_dicts(self, make):
        tx = make()
        state = filled(tx.init(PARAMS), 3)
        testing.assert_same(js.graft(tx.init(PARAMS), raw(state)), state)
        around = optax.chain(optax.clip(1.0), optax.MultiSteps(tx, 2))
        grafted = js.graft(around.init(PARAMS), raw(state))
        testing.assert_same(grafted[1].inner_opt_state, state)

    def test_a_group_with_another_name(self):
        old = filled(optax.masked(optax.adam(0.1), True).init(PARAMS), 4)
        one = optax.partition({"all": optax.adam(0.1)}, "all")
        two = optax.partition({"every": optax.adam(0.1)}, "every")
        old = filled(one.init(PARAMS), 4)
        state = js.graft(two.init(PARAMS), old)
        testing.assert_same(state.inner_states["every"], old.inner_states["all"])

    def test_what_nothing_tells_apart_is_refused(self):
        old = filled(self.groups().init(PARAMS), 5)
        new = optax.chain(js.inject(optax.adam, learning_rate=0.1 * js.reduce_on_plateau()))
        new = new.init(PARAMS)
        with pytest.raises(
            ValueError, match="cannot match several records of the step counter of learning"
        ):
            js.graft(new, old)
        testing.assert_same(jax.jit(js.graft)(new, old)[0].factors, new[0].factors)
        one = js.graft(new, old.inner_states["dec"])
        assert js.step(one) == js.step(old.inner_states["dec"])
