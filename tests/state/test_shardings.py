"""Schedules of sharded steps, under one mesh and another: every case of the catalogue."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import ALL
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched import testing

STEPS = np.arange(64, dtype=np.int32).reshape(16, 4) * 3
KINDS = (AxisType.Explicit, AxisType.Auto)
first_of_each = {case.name.split()[0]: case for case in reversed(ALL)}.values()
cases = pytest.mark.parametrize("case", first_of_each, ids=lambda case: case.name)


def mesh_of(devices, kind):
    return Mesh(np.array(devices), ("d",), axis_types=(kind,))


def grid_of(kind):
    return Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"), axis_types=(kind,) * 2)


@cases
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_steps_keep_their_sharding(case, kind):
    mesh, alone = grid_of(kind), np.asarray(case.schedule(STEPS))
    for spec in (P("a", "b"), P(("a", "b"), None)):
        with jax.set_mesh(mesh):
            values = case.schedule(jax.device_put(STEPS, NamedSharding(mesh, spec)))
            if kind is AxisType.Explicit:  # elsewhere it is the compiler's choice
                assert values.sharding.spec == spec
            np.testing.assert_allclose(values, alone, rtol=1e-5, atol=1e-12)


@cases
def test_steps_under_shard_map(case):
    spec = P("a", "b")
    mapped = jax.shard_map(
        case.schedule, mesh=grid_of(AxisType.Auto), in_specs=spec, out_specs=spec
    )
    alone = np.asarray(case.schedule(STEPS))
    np.testing.assert_allclose(jax.jit(mapped)(STEPS), alone, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [
        js.cosine(1.0, 0.0, 5).cycle(mult=2),
        js.cosine(1.0, 0.0, 5).cycle(mult=1.5, decay=0.9),
        js.cosine(1.0, 0.0, 5).cycle(mult=0.9),
        js.linear(1.0, 0.0, 5).cycle(mult=3, cycles=2).faster(1.5).hold(3),
        js.table([1.0, 2.0]).cycle().faster(0.5),
        js.select(1, [js.constant(1.0), js.linear(1.0, 0.0, 5)]),
        js.join([js.constant(1.0), js.table([1.0, 2.0, 3.0])], [4]),
        js.minimum(js.constant(1.0), js.piecewise_constant([2.0, 0.5], [4])),
    ],
    ids=repr,
)
def test_what_operators_build_keeps_the_sharding_of_steps(schedule):
    with jax.set_mesh(grid_of(AxisType.Explicit)):
        values = schedule(jax.device_put(STEPS, NamedSharding(grid_of(AxisType.Explicit), P("a"))))
    assert values.sharding.spec[0] == "a"
    np.testing.assert_allclose(values, schedule(STEPS), rtol=1e-5, atol=1e-12)


DEVICES = [jax.devices()[:4], jax.devices()[4:8], jax.devices()[:8], jax.devices()[:2], None]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("first", range(len(DEVICES)))
def test_a_schedule_goes_from_one_mesh_to_another(kind, first):
    """What is kept on the devices of one mesh is no argument under another."""
    schedule = js.linear(1.0, 0.0, 10) >> js.piecewise_linear([0.5, 0.0], [0, 4])
    for devices in (DEVICES[first], *DEVICES, DEVICES[first]):
        if devices is None:
            assert float(schedule(5)) == 0.5
            continue
        with jax.set_mesh(mesh_of(devices, kind)):
            assert float(schedule(5)) == 0.5
            assert float(jax.jit(lambda: schedule(5))()) == 0.5


def test_a_schedule_goes_from_one_default_device_to_another():
    schedule = js.cosine(1.0, 0.0, 10)
    for device in jax.devices()[1:3]:
        with jax.default_device(device):
            assert schedule(10).devices() == {device}
    with jax.enable_x64(True):
        assert schedule(3).dtype == jnp.float64
    assert schedule(3).dtype == jnp.float32


def test_what_is_on_a_device_is_not_pickled_or_copied():
    schedule = js.warmup_cosine(0.1, total_steps=100, warmup_steps=10)
    fresh = pickle.dumps(schedule)
    schedule(17)
    assert pickle.dumps(schedule) == fresh
    for other in (pickle.loads(fresh), copy.copy(schedule), copy.deepcopy(schedule)):
        testing.assert_same(other, schedule)
        assert set(vars(other)) == {"pieces"}
        assert float(other(17)) == float(schedule(17))
