"""`hypergradient`: its formulas in NumPy, the rate it finds, and where the gradients come from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxsched as js

NAN, INF = float("nan"), float("inf")


def reference(gradients, rate=0.02, normalize=True, init_value=1.0, min_scale=0.0, max_scale=10.0):
    """The docstring, in float64."""
    scale, before, out = init_value, None, []
    for g in gradients:
        g = np.asarray(g, np.float64)
        if np.all(np.isfinite(g)):
            if before is not None:
                product = g @ before
                norms = np.linalg.norm(g) * np.linalg.norm(before)
                cosine = product / norms if norms else 0.0
                scale = scale * np.exp(rate * cosine) if normalize else scale + rate * product
                scale = np.clip(scale, min_scale, max_scale)
            before = g
        out.append(scale)
    return out


def scales(gradients, **options):
    tx = js.scale_by_schedule(1.0 * js.hypergradient(**options))
    state, out = tx.init(jnp.zeros(len(gradients[0]))), []
    update = jax.jit(tx.update)
    for g in gradients:
        _, state = update(jnp.asarray(g, jnp.float32), state)
        out.append(float(js.hyperparams(state)["scale"]))
    return out


def walk(seed, n=50):
    r = np.random.default_rng(seed)
    gradients = list(r.normal(0.3, 1.0, (n, 6)).astype(np.float32))
    gradients[7], gradients[20] = np.full(6, NAN, np.float32), np.zeros(6, np.float32)
    gradients[30] = np.asarray([INF, 0, 0, 0, 0, 0], np.float32)
    return gradients


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(rate=0.5),
        dict(rate=0.5, min_scale=0.5, max_scale=1.5),
        dict(normalize=False, rate=0.01),
        dict(normalize=False, rate=0.05, min_scale=0.2, init_value=0.5),
    ],
)
def test_it_is_what_its_docstring_says(seed, options):
    gradients = walk(seed)
    np.testing.assert_allclose(scales(gradients, **options), reference(gradients, **options), 1e-5)


def test_golden():
    """Two that agree, one across, one against, by hand."""
    gradients = [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, -1.0]]
    up = float(np.exp(0.5))
    assert scales(gradients, rate=0.5) == pytest.approx([1, up, up, 1])
    assert scales(gradients, rate=0.1, normalize=False) == pytest.approx([1, 1.2, 1.2, 0.9])


def test_it_is_the_additive_rule_of_the_paper_for_plain_descent():
    """Baydin et al.: alpha += beta * (g, g before), then theta -= alpha * g."""
    matrix = np.diag([1.0, 3.0, 0.2])
    theta, alpha, before, expected = np.ones(3), 0.01, None, []
    for _ in range(30):
        g = matrix @ theta
        alpha = alpha if before is None else alpha + 1e-3 * g @ before
        theta, before = theta - alpha * g, g
        expected.append(alpha)
    rule = js.hypergradient(1e-3, normalize=False, init_value=0.01)
    tx = js.inject(optax.sgd, learning_rate=1.0 * rule)
    params, found = jnp.ones(3), []
    state = tx.init(params)
    for _ in range(30):
        updates, state = tx.update(jnp.asarray(matrix, jnp.float32) @ params, state)
        params = optax.apply_updates(params, updates)
        found.append(float(js.hyperparams(state)["learning_rate"]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(params, theta, rtol=1e-4)


@pytest.mark.parametrize("start", [1e-4, 1e-2, 1.0])
def test_from_any_start_it_finds_a_rate_that_works(start):
    """A quadratic of curvatures to 10: a constant rate above 0.2 diverges, and this is about it."""
    curvature = jnp.geomspace(0.1, 10.0, 8)
    tx = js.inject(optax.sgd, learning_rate=start * js.hypergradient(0.1, max_scale=1e5))

    def one(carry, _):
        params, state = carry
        updates, state = tx.update(curvature * params, state)
        params = optax.apply_updates(params, updates)
        return (params, state), js.hyperparams(state)["learning_rate"]

    params = jnp.ones(8)
    (params, _), rates = jax.lax.scan(one, (params, tx.init(params)), length=600)
    assert 0.1 < jnp.exp(jnp.log(rates[-200:]).mean()) < 0.4
    assert jnp.sum(curvature * params**2) < 1e-6


def test_it_hears_what_reaches_its_transform():
    """Behind the preconditioner there are no gradients any more, and its docstring says so."""
    r = np.random.default_rng(0)
    gradients = r.normal(0, 1, (60, 5)).astype(np.float32)
    rule = js.hypergradient(0.1)
    adam = optax.scale_by_adam()
    raw = js.wrap(adam, rule)
    behind = optax.chain(adam, js.scale_by_schedule(1.0 * rule))
    ends = []
    for tx in (raw, behind):
        state = tx.init(jnp.zeros(5))
        with jax.numpy_dtype_promotion("standard"):
            for g in gradients:
                _, state = tx.update(jnp.asarray(g), state)
        ends.append(float(js.hyperparams(state)["scale"]))
    np.testing.assert_allclose(ends[0], reference(gradients, 0.1)[-1], rtol=1e-5)
    assert ends[1] > 10 * 0.99, "momenta always agree"


def test_sharded_parameters_agree_on_the_cosine_of_all_of_them():
    mesh = Mesh(np.array(jax.devices()[:8]), ("i",))
    r = np.random.default_rng(1)
    gradients = r.normal(0.2, 1, (20, 16)).astype(np.float32)
    tx = js.scale_by_schedule(1.0 * js.hypergradient(0.3, axis_name="i"))

    def run(gradients):
        def one(state, g):
            _, state = tx.update(g, state)
            return state, js.hyperparams(state)["scale"]

        return jax.lax.scan(one, tx.init(gradients[0]), gradients)[1][None]

    specs = dict(in_specs=P(None, "i"), out_specs=P("i"), check_vma=False)
    found = jax.jit(jax.shard_map(run, mesh=mesh, **specs))(jnp.asarray(gradients))
    for row in found:
        np.testing.assert_allclose(row, reference(gradients, 0.3), rtol=1e-5)


def test_low_precision_gradients_keep_their_dtype_and_the_scale_its_own():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = js.scale_by_schedule(1.0 * js.hypergradient())
    state = tx.init(params)
    assert state.factors["scale_factors"][0].previous.tree["w"].dtype == jnp.bfloat16
    updates, state = tx.update(params, state)
    assert updates["w"].dtype == jnp.bfloat16
    assert js.hyperparams(state)["scale"].dtype == jnp.float32


def test_complex_gradients():
    tx = js.scale_by_schedule(1.0 * js.hypergradient(0.5))
    g = jnp.asarray([1.0 + 1.0j, 0.5j])
    state = tx.init(g)
    for _ in range(2):
        _, state = tx.update(g, state)
    np.testing.assert_allclose(js.hyperparams(state)["scale"], np.exp(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: js.hypergradient(-0.1), r"hypergradient\(rate=\.\.\.\)` must not be negative"),
        (lambda: js.hypergradient(normalize=1), "must be True or False, got normalize=1"),
        (lambda: js.hypergradient(init_value=0.0), "must be positive, got init_value=0.0"),
        (lambda: js.hypergradient(min_scale=-1.0), "min_scale"),
        (lambda: js.hypergradient(max_scale=0.5, min_scale=1.0), "max_scale=0.5"),
        (lambda: js.hypergradient(axis_name=3), "axis_name=3"),
        (lambda: js.hypergradient(init_value=100.0, max_scale=2.0), "between the bounds"),
        (
            lambda: js.hypergradient().update(js.hypergradient().init(), step=0),
            "compares gradients, but the update has none. Use the rule in an optimizer",
        ),
    ],
)
def test_a_wrong_call_is_told_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_restored_scale_is_held_to_the_bounds():
    g = jnp.ones(2)
    wide = js.scale_by_schedule(1.0 * js.hypergradient(1.0, max_scale=100.0))
    state = wide.init(g)
    for _ in range(5):
        _, state = wide.update(g, state)
    narrow = js.scale_by_schedule(1.0 * js.hypergradient(1.0, max_scale=2.0))
    _, state = narrow.update(jnp.full(2, NAN), state)
    assert js.hyperparams(state)["scale"] == 2.0


def test_a_gradient_too_large_for_the_dtype_of_the_parameters():
    params = jnp.ones(2, jnp.float16)
    tx = js.scale_by_schedule(1.0 * js.hypergradient(0.5))
    state = tx.init(params)
    for size in (1.0, 1e5, 1.0, 1.0):
        _, state = tx.update(jnp.full(2, size, jnp.float32), state)
        (rule,) = js.factors(state)["scale"]
        assert jnp.all(jnp.isfinite(rule.previous.tree))
    assert rule.judged == 4


def test_the_gradient_through_it_is_finite_at_a_gradient_of_zero():
    def after(start, tx):
        params, state = start, tx.init(start)
        for _ in range(3):
            updates, state = tx.update(2 * params, state)
            params = optax.apply_updates(params, updates)
        return jnp.sum(params**2)

    halved = js.feedback(lambda s, m: s * 0.5, metric="gradient_norm")
    raised = js.feedback(lambda s, m: s + m, metric="gradient_norm")
    for rule in (js.hypergradient(), halved, raised):
        tx = js.inject(optax.sgd, learning_rate=0.1 * rule)
        slope = jax.grad(after)(jnp.zeros(2), tx)
        assert jnp.all(jnp.isfinite(slope)), rule
