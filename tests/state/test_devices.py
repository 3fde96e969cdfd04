"""Parameters that are sharded: copies lie as they do, nothing is gathered, decisions are the same.

`test_processes.py` has the runs whose devices see losses of their own, and several processes.
"""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import processes
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from processes import AXIS, RULES

import jaxsched as js
from jaxsched._commands._tasks._model import Network

SPECS = {  # along the first dimension, and along the last
    "Dense_0": {"kernel": P(None, AXIS), "bias": P(AXIS)},
    "Dense_1": {"kernel": P(AXIS, None), "bias": P()},
}
MOMENTUM = functools.partial(optax.sgd, momentum=0.9)
CURVE = js.cosine(0.1, 0.02, 3).cycle()
PLAIN = optax.with_extra_args_support(MOMENTUM(0.1))
EACH = {
    **{name: js.inject(MOMENTUM, learning_rate=CURVE * rule(None)) for name, rule in RULES.items()},
    "gradient_norm": js.inject(
        MOMENTUM, learning_rate=CURVE * js.reduce_on_plateau(metric="gradient_norm")
    ),
    "monitor": optax.chain(js.monitor(), MOMENTUM(0.1)),
    "keep_best": js.keep_best(
        js.inject(MOMENTUM, learning_rate=CURVE * js.greedy()), backtrack=True
    ),
    "skip_spikes": js.skip_spikes(MOMENTUM(0.1)),
    "snapshot": optax.chain(MOMENTUM(0.1), js.snapshot(CURVE, keep=2)),
    "average": js.average(
        MOMENTUM(0.1), [js.exponential_average(2), js.merged_decay(js.linear(1.0, 0.0, 4))]
    ),
    "everything": processes.optimizer(),
}
each = pytest.mark.parametrize("name", EACH)


def mesh_of(kind):
    return Mesh(np.array(jax.devices()[:8]), (AXIS,), axis_types=(kind,))


def shardings(mesh):
    return jax.tree.map(lambda s: NamedSharding(mesh, s), SPECS, is_leaf=lambda x: type(x) is P)


def sharded(mesh):
    """The parameters, each device an eighth of them."""
    params = Network().init(jax.random.key(0), jnp.zeros((1, 64)))["params"]
    return jax.device_put(params, shardings(mesh))


def assert_copies_lie_as_the_parameters(state, placed, of=lambda x: x.sharding):
    """`placed` has the shardings, or what `of` finds them in."""
    specs = {(64, 64): SPECS["Dense_0"]["kernel"], (64, 10): SPECS["Dense_1"]["kernel"]}
    specs |= {(n, *shape): P(None, *spec) for shape, spec in specs.items() for n in (1, 2)}
    copies = 0
    for x, where in zip(jax.tree.leaves(state), map(of, jax.tree.leaves(placed)), strict=True):
        if x.shape in specs:
            copies += 1
            wanted = NamedSharding(where.mesh, specs[x.shape])
            assert where.is_equivalent_to(wanted, x.ndim), (x.shape, where)
        elif x.ndim == 0:
            assert where.is_fully_replicated
    assert copies >= 2


def step_of(tx, placed):
    def step(params, state, batch):
        def loss(params):
            said = Network().apply({"params": params}, batch.pixels)
            return optax.softmax_cross_entropy_with_integer_labels(said, batch.labels).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        gradients = jax.lax.with_sharding_constraint(gradients, placed)
        updates, state = tx.update(gradients, state, params, value=value, kl=value / 100)
        return optax.apply_updates(params, updates), state

    return step


def compiled(tx, state, mesh, params):
    batch = processes.shared(processes.batches("none")[0], mesh)
    step = jax.jit(step_of(tx, shardings(mesh)), donate_argnums=(0, 1))
    return step.lower(params, state, batch).compile()


def exchanged(program):
    """What devices tell each other, by its shape; of a number nobody asks."""
    found = collections.Counter()
    kinds = (
        "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    )
    for shapes, kind in re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", program.as_text()):
        found.update((kind, shape) for shape in re.findall(r"\w+\[(?!1\])[\d,]+\]", shapes))
    return found


@pytest.fixture(scope="module")
def plain():
    mesh = mesh_of(AxisType.Auto)
    params = sharded(mesh)
    return exchanged(compiled(PLAIN, PLAIN.init(params), mesh, params))


@each
def test_nothing_is_gathered_that_the_plain_optimizer_does_not(name, plain):
    mesh = mesh_of(AxisType.Auto)
    params = sharded(mesh)
    state = EACH[name].init(params)
    assert_copies_lie_as_the_parameters(
        [x for x in jax.tree.leaves(state) if x.ndim], [x for x in jax.tree.leaves(state) if x.ndim]
    )
    program = compiled(EACH[name], state, mesh, params)
    assert ("all-gather", "f32[64,64]") in plain and exchanged(program) == plain
    after = program.output_shardings[1]
    assert_copies_lie_as_the_parameters(state, after, of=lambda x: x)


@each
@pytest.mark.parametrize("how", ["eager", "jit"])
def test_where_shardings_are_types(name, how):
    mesh, tx = mesh_of(AxisType.Explicit), EACH[name]
    params = sharded(mesh)
    with jax.set_mesh(mesh):
        state = (jax.jit(tx.init) if how == "jit" else tx.init)(params)
        big = [x for x in jax.tree.leaves(state) if x.ndim]
        assert_copies_lie_as_the_parameters(big, big)
        update = jax.jit(lambda g, s, p: tx.update(g, s, p, value=jnp.ones(()), kl=jnp.ones(())))
        after = jax.eval_shape(update, params, state, params)[1]
        assert [x.sharding.spec for x in jax.tree.leaves(after) if x.ndim] == [
            jax.typeof(x).sharding.spec for x in big
        ]


def test_a_sharded_run_decides_as_that_of_one_device():
    mesh, tx = mesh_of(AxisType.Auto), processes.optimizer()
    step = jax.jit(functools.partial(processes.advanced, tx), donate_argnums=0)
    params = sharded(mesh)
    carry = processes.Carry(params, jax.tree.map(jnp.copy, params), tx.init(params))
    expected = processes.on_one_device()["device"]
    wanted = zip(expected["rates"], expected["events"], strict=True)
    for batch, (rate, events) in zip(processes.batches("device"), wanted, strict=True):
        carry = step(carry, processes.shared(batch, mesh))
        found = float(js.hyperparams(carry.opt_state)["learning_rate"])
        np.testing.assert_allclose(found, float.fromhex(rate), rtol=processes.RTOL)
        assert {name: int(x) for name, x in js.events(carry.opt_state).items()} == events
    assert all(count for name, count in events.items() if name != "mixed")
    assert_copies_lie_as_the_parameters(carry, carry)
    kernel = carry.params["Dense_0"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8


def replicated(tx, told=None):
    """A step under `shard_map`, which has to prove that the state is the same on all devices."""

    def local(state, losses):
        state = state if told is None else js.observe(state, **{told: losses[0]})
        return tx.update({"w": jnp.ones(2)}, state, {"w": jnp.ones(2)}, value=losses[0])[1]

    mesh = mesh_of(AxisType.Auto)
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P()))


def test_a_rule_that_is_not_told_the_axis_is_refused():
    state = js.scale_by_learning_rate(0.1 * js.greedy()).init({"w": jnp.ones(2)})
    for axis in (AXIS, (AXIS,)):
        replicated(js.scale_by_learning_rate(0.1 * js.greedy(axis_name=axis)))(state, jnp.ones(8))
    with pytest.raises(ValueError, match="replication"):
        replicated(js.scale_by_learning_rate(0.1 * js.greedy()))(state, jnp.ones(8))


@pytest.mark.parametrize("advances", [True, False])
def test_mail_that_waits_through_a_skipped_step_is_the_same_everywhere(advances):
    """What was observed before a step that is left out is read after it, by all devices alike."""
    rule = js.feedback(lambda s, x: x, 0.0, metric="mine", axis_name=AXIS)
    tx = js.skip_spikes(
        js.scale_by_learning_rate(1.0 * rule),
        metric="value",
        advance_on_skip=advances,
        axis_name=AXIS,
    )
    told, untold = replicated(tx, "mine"), replicated(tx)
    broken = jnp.arange(8.0).at[3].set(jnp.nan)
    state = told(tx.init({"w": jnp.ones(2)}), broken)
    assert bool(state.skipped)
    for x in jax.tree.leaves(state):
        shards = [np.asarray(shard.data) for shard in x.addressable_shards]
        assert all(np.array_equal(shards[0], shard) for shard in shards)
    state = untold(state, jnp.ones(8))
    mean = np.mean([x for x in range(8) if x != 3])
    np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], mean, rtol=1e-6)


def test_a_rule_that_agrees_over_nothing_keeps_what_each_device_has():
    """Beside one that agrees over the axis, its numbers are not merged."""
    own = js.reduce_on_plateau(patience=1, factor=0.5, metric="own")
    both = own * js.reduce_on_plateau(patience=99, metric="value", axis_name=AXIS)
    params, mesh = {"w": jnp.ones(2)}, mesh_of(AxisType.Auto)

    def rates(tx):
        def local(losses):
            state = tx.init(params)
            for t in range(3):
                state = js.observe(state, own=losses[0] * (-1.0) ** t)
                _, state = tx.update(params, state, params, value=losses[0])
            return js.hyperparams(state)["learning_rate"][None]

        mapped = jax.shard_map(local, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))
        return jax.jit(mapped)(jnp.asarray([1.0, -1.0] * 4))

    np.testing.assert_array_equal(
        rates(js.scale_by_learning_rate(0.1 * both)), rates(js.scale_by_learning_rate(0.1 * own))
    )
    assert len(set(rates(js.scale_by_learning_rate(0.1 * own)).tolist())) == 2
