"""What `monitor` reads of large gradients: how far an estimate is off, and what it costs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scripts import benchmark

import jaxsched as js
from jaxsched._diagnose._sample import (
    OF_ALL,
    OF_ONE,
    estimated,
    groups,
    groups_of,
    named,
    sampled,
    weights,
)

gradients, exact = (getattr(benchmark("monitor"), name) for name in ("gradients", "product"))


def every_sample(tree):
    return [*sampled(tree, groups(tree)).values()]


@pytest.mark.parametrize("each", [[0], [0, 1, 2], [3, 5, 6, 7, 11], [0, 2, 4]])
def test_the_name_of_a_stack_tells_its_arrays(each):
    assert groups_of([named([1]), named(each)]) == sorted([each, [1]], key=named)


@pytest.mark.parametrize("seed", range(5))
def test_norm_and_cosine_are_near_the_exact_ones(seed):
    a, noise = gradients(seed), gradients(100 + seed)
    b = jax.tree.map(lambda x, y: 0.6 * x + 0.8 * y, a, noise)
    alike = groups(a)
    x, y = sampled(a, alike), sampled(b, alike)
    aa, bb, ab = map(float, estimated(weights(a, alike), (x, x), (y, y), (x, y)))
    np.testing.assert_allclose(np.sqrt(aa), np.sqrt(exact(a, a)), rtol=0.02)
    cosine = exact(a, b) / np.sqrt(exact(a, a) * exact(b, b))
    np.testing.assert_allclose(ab / np.sqrt(aa * bb), cosine, atol=0.02)


def test_estimates_are_right_in_the_mean():
    errors = []
    for seed in range(40):
        a = gradients(seed)
        alike = groups(a)
        rows = sampled(a, alike)
        errors.append(float(estimated(weights(a, alike), (rows, rows))[0]) / exact(a, a) - 1)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors)) + 1e-4
    assert np.std(errors) < 0.02


@pytest.mark.parametrize(
    "shape", [(), (0,), (7,), (OF_ONE,), (OF_ONE + 1,), (10**7,), (3, 10**6), (10**6, 3), (0, 5)]
)
def test_a_sample_is_whole_rows_of_no_more_than_its_share(shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    (found,) = jax.eval_shape(every_sample, x)
    assert found.size <= OF_ONE and (found.size > 0) == (x.size > 0)
    if x.size <= OF_ONE:
        assert found.shape == (1, *x.shape)
    assert found.size >= min(x.size, OF_ONE) // 2


def test_many_arrays_share_one_mebibyte():
    shapes = [(768,)] * 98 + [(768, 3072)] * 24 + [(50_257, 768)] + [(768, 768)] * 48
    tree = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = jax.eval_shape(every_sample, tree)
    total = sum(x.size for x in found)
    assert OF_ALL // 2 < total <= OF_ALL
    assert found[0].shape == (98, 768), "the small ones are whole"
    assert [len(x) for x in found] == [98, 24, 49], "the samples of one shape are stacked"
    state = jax.eval_shape(js.monitor().init, tree)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert held <= 2 * 2**20 + 4096, "of gradients and of parameters"


def test_the_state_has_an_array_for_each_shape_and_two_vectors():
    tx = js.monitor()
    for count, shapes in ((3, [(125_000,)] * 8), (5, [(64, 64), (64,), (64,), (64, 10)])):
        params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        assert len(jax.tree.leaves(jax.eval_shape(tx.init, params))) == count


def test_one_kernel_sums_all_arrays_of_one_shape():
    tx = js.monitor()
    sizes = []
    for count in (2, 16):
        params = [jax.ShapeDtypeStruct((300, 50), jnp.float32)] * count
        lowered = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params)
        sizes.append(len(re.findall(r"stablehlo\.reduce\(", lowered.as_text())))
    assert sizes[0] == sizes[1]


def test_parameters_that_have_not_moved_have_not_moved():
    """However large the arrays are, and whatever the gradient is."""
    tx = js.monitor()
    params = [jnp.full((8192,), 0.1), jnp.full((300_000,), 0.1), jnp.ones((90, 1000))]
    state, update = tx.init(params), jax.jit(lambda g, s: tx.update(g, s, params)[1])
    for t in range(8):
        noise = gradients(t)["long"][:8192]
        state = update([1e-3 * (t + 1) + 1e-4 * noise, 3e-4 * params[1], params[2] / 7], state)
    assert int(state.gradient.compared) == 7 and int(state.parameters.moved) == 0


@pytest.mark.parametrize("spec", [P("d"), P(None, "d")])
def test_nothing_is_gathered_of_sharded_gradients(spec):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((4096, 1024), jnp.float32, sharding=NamedSharding(mesh, spec))
    tx = js.monitor()
    state = jax.eval_shape(tx.init, x)
    text = jax.jit(tx.update).lower(x, state, x).compile().as_text()
    moved = re.findall(r"= (\S+) (all-gather|all-to-all|collective-permute)\(", text)
    sizes = [
        np.prod([int(n) for n in re.findall(r"\d+", shape.split("[")[1].split("]")[0])] or [1])
        for shape, _ in moved
    ]
    assert all(size <= OF_ONE for size in sizes), moved


@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P()])
def test_on_a_mesh_whose_shardings_are_types(spec):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((400, 3200)), NamedSharding(mesh, spec))
        tx = js.monitor()
        state = jax.jit(tx.init)(x)
        for _ in range(2):
            _, state = jax.jit(tx.update)(x, state, x)
        np.testing.assert_allclose(state.gradient.norm, np.sqrt(400 * 3200), rtol=1e-5)
        np.testing.assert_allclose(state.gradient.cosine, 1.0, rtol=1e-5)


def test_arrays_of_one_shape_and_unlike_shardings_stay_where_they_are():
    """XLA would move all of an array, to stack its sample on those of others."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    specs = (P("d"), P(None, "d"), P("d"), P())
    params = [jax.device_put(jnp.ones((512, 256)), NamedSharding(mesh, x)) for x in specs]
    tx = js.monitor()
    state = tx.init(params)
    assert list(state.previous) == ["0,2", "1", "3"]
    text = jax.jit(tx.update).lower(params, state, params).compile().as_text()
    assert re.findall(r"(all-gather|all-to-all|collective-permute)\(", text) == []


def test_arrays_of_one_shape_may_have_unlike_shardings():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        specs = (P("d"), P(None, "d"), P(), P("d"))
        params = [jax.device_put(jnp.ones((64, 64)), NamedSharding(mesh, spec)) for spec in specs]
        tx = js.monitor()
        state = tx.init(params)
        for _ in range(2):
            _, state = jax.jit(tx.update)(params, state, params)
        np.testing.assert_allclose(state.gradient.norm, 128, rtol=1e-6)
        np.testing.assert_allclose(state.gradient.cosine, 1.0, rtol=1e-6)


def test_a_state_of_other_shapes_is_refused():
    tx = js.monitor()
    with pytest.raises(ValueError, match="under `shard_map`, call it inside"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(16)))
