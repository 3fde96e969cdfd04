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
from jaxsched._diagnose._sample import OF_ALL, OF_ONE, estimated, sampled, weights

gradients, exact = (getattr(benchmark("monitor"), name) for name in ("gradients", "product"))


@pytest.mark.parametrize("seed", range(5))
def test_norm_and_cosine_are_near_the_exact_ones(seed):
    a, noise = gradients(seed), gradients(100 + seed)
    b = jax.tree.map(lambda x, y: 0.6 * x + 0.8 * y, a, noise)
    x, y = sampled(a), sampled(b)
    scales = weights(a, x)
    aa, bb, ab = (float(estimated(scales, *pair)) for pair in ((x, x), (y, y), (x, y)))
    np.testing.assert_allclose(np.sqrt(aa), np.sqrt(exact(a, a)), rtol=0.02)
    cosine = exact(a, b) / np.sqrt(exact(a, a) * exact(b, b))
    np.testing.assert_allclose(ab / np.sqrt(aa * bb), cosine, atol=0.02)


def test_estimates_are_right_in_the_mean():
    errors = []
    for seed in range(40):
        a = gradients(seed)
        rows = sampled(a)
        errors.append(float(estimated(weights(a, rows), rows, rows)) / exact(a, a) - 1)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors)) + 1e-4
    assert np.std(errors) < 0.02


@pytest.mark.parametrize(
    "shape", [(), (0,), (7,), (OF_ONE,), (OF_ONE + 1,), (10**7,), (3, 10**6), (10**6, 3), (0, 5)]
)
def test_a_sample_is_whole_rows_of_no_more_than_its_share(shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = jax.eval_shape(sampled, x)
    assert found.size <= OF_ONE and (found.size > 0) == (x.size > 0)
    if x.size <= OF_ONE:
        assert found.shape == x.shape
    assert found.size >= min(x.size, OF_ONE) // 2


def test_many_arrays_share_one_mebibyte():
    shapes = [(768,)] * 98 + [(768, 3072)] * 24 + [(50_257, 768)] + [(768, 768)] * 48
    tree = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = jax.eval_shape(sampled, tree)
    total = sum(x.size for x in found)
    assert OF_ALL // 2 < total <= OF_ALL
    assert all(x.shape == (768,) for x in found[:98]), "the small ones are whole"
    state = jax.eval_shape(js.monitor().init, tree)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert held <= 2**20 + 4096


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
