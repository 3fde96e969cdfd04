"""The numbers of a state in two vectors, by every road on which a state comes back."""

import collections
import functools
import math
import pickle
from typing import NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import old_state
import optax
import pytest
from kinds import KINDS, PARAMS, RATE, advanced
from packed import record

import jaxsched as js
from jaxsched import testing
from jaxsched._core._packed import PackedState

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def packed_in(tree):
    """All packed states, the outer before the inner."""
    found = [
        x
        for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, PackedState))
        if isinstance(x, PackedState)
    ]
    return found + [y for x in found for y in packed_in(x.inner_state)]


def start(tx, dtype=jnp.float32):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    return params, tx.init(params)


@functools.cache
def program(tx, how):
    """Updates over steps, compiled once for all tests of an optimizer."""

    def scan(carry, steps):
        return jax.lax.scan(lambda c, t: (advanced(tx, c, t), None), carry, steps)[0]

    one = functools.partial(advanced, tx)
    return jax.jit(scan) if how == "scan" else jax.jit(one) if how == "jit" else one


def trained(tx, carry, first, last, how="jit"):
    """Updates `first` to `last`, in one of three ways."""
    run, steps = program(tx, how), jnp.arange(first, last, dtype=jnp.int32)
    if how == "scan":
        return run(carry, steps)
    return functools.reduce(run, steps, carry)


@each_kind
def test_all_numbers_are_in_two_vectors(kind):
    _, state = start(KINDS[kind])
    found = packed_in(state)
    assert found
    for one in found:
        (floats,), (ints,) = one.floats.values(), one.ints.values()
        assert floats.dtype == jnp.float32 and ints.dtype == jnp.int32
        for vector in (one.floats, one.ints):
            ((key, x),) = vector.items()
            named = key.split("/")[1:] if vector is one.ints else key.split("/")
            sizes = [[int(m) for m in label.split(":")[1:] if m != "flag"] for label in named]
            assert sum(map(math.prod, sizes)) == x.size, "each number has a name"
        for x in jax.tree.leaves(one.arrays):
            shapes = {(2,), (3, 2), (3, 3, 2), (300,), (2, 1, 2), (2, 1, 3, 2)}
            assert x.shape in shapes, "parameters, stacks of their samples, or a ring"


ROADS = {
    "pickle": lambda tree, like: pickle.loads(pickle.dumps(tree)),
    "msgpack": lambda tree, like: flax.serialization.from_bytes(
        like, flax.serialization.to_bytes(tree)
    ),
    "numpy": lambda tree, like: jax.tree.map(np.asarray, tree),
    "dicts": lambda tree, like: (
        flax.serialization.from_state_dict(like[0], raw(tree)["0"]),
        js.graft(like[1], raw(tree)["1"]),
    ),
}


def raw(tree):
    """What a checkpoint of flax is without a target: nested dicts."""
    return flax.serialization.msgpack_restore(flax.serialization.to_bytes(tree))


@pytest.mark.parametrize("how", ["jit", "scan", "eager"])
@each_kind
def test_half_a_run_away_and_back_is_the_whole_run(kind, how):
    tx = KINDS[kind]
    half = trained(tx, start(tx), 0, 3, how)
    whole = trained(tx, half, 3, 6, how)
    for travel in ROADS.values():
        back = travel(half, start(tx))
        testing.assert_same(jax.tree.map(jnp.asarray, back), half)
        testing.assert_same(trained(tx, back, 3, 6, how), whole)


@pytest.mark.filterwarnings("default")
def test_through_orbax_with_a_target_and_without(tmp_path):
    import orbax.checkpoint as ocp

    half = {kind: trained(tx, start(tx), 0, 3) for kind, tx in KINDS.items()}
    fresh = {kind: start(tx) for kind, tx in KINDS.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", half)
        checkpointer.wait_until_finished()
        back = checkpointer.restore(tmp_path / "half", fresh)
        plain = checkpointer.restore(tmp_path / "half")
    for kind, (_, state) in half.items():
        testing.assert_same(back[kind], half[kind])
        testing.assert_same(js.graft(fresh[kind][1], plain[kind][1]), state)


@each_kind
# Outside `jit` Adam asks for the dtype of moments that are NumPy's.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
def test_a_state_keeps_its_width(kind):
    """A float32 state goes on under x64 as it is, and one of x64 in a float32 program."""
    tx = KINDS[kind]
    narrow = jax.tree.map(np.asarray, trained(tx, start(tx), 0, 3))
    with jax.enable_x64(True):
        for how in ("scan", "eager"):
            on = trained(tx, narrow, 3, 6, how)
            assert [x.dtype for x in jax.tree.leaves(on)] == [
                x.dtype for x in jax.tree.leaves(narrow)
            ]
        wide = jax.tree.map(np.asarray, trained(tx, start(tx, jnp.float64), 0, 3, "scan"))
        assert {x.floats[next(iter(x.floats))].dtype for x in packed_in(wide[1])} == {
            np.dtype("float64")
        }
    expected = trained(tx, narrow, 3, 6)
    for a, b in zip(*map(jax.tree.leaves, (expected, on)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    params, state = wide
    for how in ("scan", "eager"):
        trained(tx, (jax.tree.map(jnp.float32, params), state), 3, 6, how)


def test_a_state_of_the_code_before_is_grafted(caplog):
    """The file was written by the code whose states had a leaf for each number."""
    content = (old_state.FOLDER / "state.msgpack").read_bytes()
    tx = old_state.optimizer()
    params, expected = old_state.trained(tx, 6)
    state = js.graft(tx.init(old_state.PARAMS), flax.serialization.msgpack_restore(content))
    # The monitor of that code kept other numbers of the movements, so all of it starts again.
    assert caplog.messages == ["graft: missing in the old state: MonitorState"]
    testing.assert_same(state[0], tx.init(old_state.PARAMS)[0])
    testing.assert_same(state[1], expected[1])
    updated = [tx.update(params, x, params, value=1.0, loss=1.0) for x in (state, expected)]
    testing.assert_same(*([updates, state[1]] for updates, state in updated))


def test_a_checkpoint_says_what_its_numbers_are():
    state = js.scale_by_learning_rate(RATE * js.until(RATE, RATE)).init(PARAMS)
    assert "".join(state.floats).split("/") == [
        "hyperparams.learning_rate",
        "overrides.learning_rate_override.value",
    ]
    assert "".join(state.ints).split("/") == [
        "ScheduledState.Override.UntilState",
        "count",
        "overrides.learning_rate_override.active:flag",
        "factors.learning_rate_factors.0.triggered:flag",
        "factors.learning_rate_factors.0.begun:flag",
        "factors.learning_rate_factors.0.start",
        "warm:flag",
    ]
    ring = js.scale_by_learning_rate(0.1 * js.greedy(window_size=4)).init(PARAMS)
    assert "memory.window.values:4" in "".join(ring.floats)
    # The name of a group may have the signs in it that separate names.
    group = "a.b/c"
    one = js.per_group(lambda x: jax.tree.map(lambda _: group, x), {group: 0.1}).init(PARAMS)
    assert "hyperparams.a%2Eb%2Fc%2Flearning_rate" in "".join(one.floats)
    assert list(js.hyperparams(one)) == ["a.b/c/learning_rate"]
    restored = js.graft(one, raw(js.override(one, **{"a.b/c/learning_rate": 0.3})))
    assert js.hyperparams(restored)["a.b/c/learning_rate"] == np.float32(0.3)


def test_a_record_is_read_as_fields_of_the_state():
    state = js.scale_by_learning_rate(RATE * js.reduce_on_plateau()).init(PARAMS)
    assert state.count == 0 and not state.warm
    assert state.factors["learning_rate_factors"][0].memory.scale == 1
    assert "scale=" in repr(state)
    with pytest.raises(AttributeError, match="no attribute 'rate'"):
        _ = state.rate
    jitted = jax.jit(lambda s: (s.count, s.hyperparams))(state)
    assert dict(jitted[1]) == {"learning_rate": RATE(0)}
    testing.assert_same(record(state).inner_state, state.inner_state)


def test_a_state_of_no_optimizer_here_says_so():
    state = PackedState({"a": jnp.zeros(1)}, {"Mine/b": jnp.zeros(1, jnp.int32)}, {}, ())
    with pytest.raises(ValueError, match=r"has a state with these numbers: a Mine b.*graft"):
        js.hyperparams(state)
    assert repr(state).startswith("PackedState(")


def test_a_stack_of_states():
    tx = js.scale_by_learning_rate(RATE * js.reduce_on_plateau())
    states = jax.vmap(lambda _: tx.init(PARAMS))(jnp.arange(3))
    assert js.hyperparams(states)["learning_rate"].shape == (3,)
    told = js.observe(states, value=jnp.arange(3.0))
    _, after = jax.vmap(lambda s: optax.with_extra_args_support(tx).update(PARAMS, s))(told)
    assert js.factors(after)["learning_rate"][0].best.tolist() == [0.0, 1.0, 2.0]


class Remembering(js.Listener):
    """A rule that remembers what a test says."""

    memory: object = js.choice_field(default=None, check=lambda call, name, memory: memory)

    def start(self, params):
        return self.memory()

    def react(self, state, seen, t):
        return state

    def value(self, state, t):
        return jnp.ones(())


remembering = js.factory(Remembering)


def following(memory):
    return js.scale_by_learning_rate(0.1 * remembering(memory=memory))


def two_of_one_name():
    def made():
        class State(NamedTuple):
            scale: float = 1.0

        return State

    return made(), made()


def test_two_classes_of_one_name_are_each_their_optimizers():
    first, second = map(following, two_of_one_name())
    state, _ = first.init(PARAMS), second.init(PARAMS)
    _, state = first.update(PARAMS, state, value=1.0)
    assert js.step(state) == 1


@pytest.mark.parametrize(
    "memory",
    [
        lambda: collections.OrderedDict(b=1.0, a=2.0),
        lambda: [(1.0, True), {"x/y": 2, "x.y": 3}],
        lambda: {"empty": (), "none": None, "matrix": jnp.ones((2, 3))},
        lambda: jnp.zeros((0, 3)),
    ],
)
def test_a_rule_may_remember_any_tree(memory):
    tx = following(memory)
    _, state = tx.update(PARAMS, tx.init(PARAMS), value=1.0)
    (kept,) = js.factors(state)["learning_rate"]
    expected = jax.tree.map(lambda x: jnp.asarray(x), memory())
    assert jax.tree.structure(kept) == jax.tree.structure(expected)
    for x, y in zip(*map(jax.tree.leaves, (kept, expected)), strict=True):
        np.testing.assert_array_equal(x, y)
    testing.assert_same(js.graft(tx.init(PARAMS), raw(state)), state)


def test_a_state_may_hold_something_else_than_arrays():
    state = js.scale_by_learning_rate(RATE * js.greedy()).init(PARAMS)
    for change in (lambda x: x.sharding, lambda x: x.dtype, lambda _: None, lambda x: x.shape):
        other = jax.tree.map(change, state)
        assert repr(other).startswith("PackedState(") and not hasattr(other, "hyperparams")
    with pytest.raises(ValueError, match="axes in front"):
        js.step(jax.vmap(lambda _: state, out_axes=1)(jnp.arange(3)))


def test_what_compiles_grows_with_the_numbers_and_not_with_their_square():
    def flops(n):
        class State(NamedTuple):
            numbers: dict

        tx = following(lambda: State({str(i): float(i) for i in range(n)}))
        state = tx.init(PARAMS)
        lowered = jax.jit(lambda s: tx.update(PARAMS, s, value=1.0)[1]).lower(state)
        return lowered.cost_analysis()["flops"]

    assert flops(400) < 5 * flops(100)


def test_a_wide_state_in_a_narrow_program_asks_for_no_wide_number():
    tx = js.scale_by_learning_rate(RATE * js.reduce_on_plateau())
    with jax.enable_x64(True):
        wide = jax.tree.map(np.asarray, tx.init(PARAMS))
    _, state = tx.update(PARAMS, wide, value=1.0)  # a warning would be an error
    assert [x.dtype for x in jax.tree.leaves(state)] == [jnp.float32, jnp.int32]
