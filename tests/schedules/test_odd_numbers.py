"""Integers and complex numbers where real ones are meant."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxsched as js
from jaxsched._core._numerics import dot, norm, wide

PARAMS = {"weights": jnp.ones(2), "counts": jnp.arange(3)}


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.uint32, bool])
def test_integers_are_summed_in_the_default_float(dtype):
    """NumPy would promote them to float64, of which JAX warns."""
    assert wide(jnp.ones(3, dtype)).dtype == jnp.float32
    assert float(norm({"n": jnp.ones(4, dtype)})) == 2
    assert float(dot(jnp.ones(3, dtype), jnp.ones(3, dtype))) == 3
    assert wide(jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32
    assert wide(jnp.ones(3, jnp.complex64)).dtype == jnp.complex64


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.chain(js.monitor(), optax.sgd(0.1)),
        lambda: js.skip_spikes(optax.sgd(0.1)),
        lambda: js.inject(
            optax.sgd, learning_rate=0.1 * js.reduce_on_plateau(metric="gradient_norm")
        ),
        lambda: js.scale_by_learning_rate(0.1 * js.hypergradient()),
        lambda: optax.chain(optax.sgd(0.1), js.snapshot(js.cosine(0.1, 0.0, 2).cycle(), keep=2)),
    ],
)
def test_integer_leaves_among_the_parameters(make):
    tx = make()
    gradients, state = jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):  # optax scales integers by floats
        for _ in range(3):
            _, state = tx.update(gradients, state, PARAMS, value=1.0)


PLATEAU = js.wrap(optax.sgd(0.1), js.reduce_on_plateau())


@pytest.mark.parametrize("value", [1j, jnp.complex64(1), jnp.ones((), jnp.complex64)])
def test_a_complex_metric_is_named(value):
    said = r"a metric must be a real number, got value of type complex\d+. .* `value=abs\(x\)`"
    state = PLATEAU.init(jnp.ones(2))
    with pytest.raises(ValueError, match=said):
        js.observe(state, value=value)
    with pytest.raises(ValueError, match=said):
        jax.jit(lambda x: js.observe(state, value=x))(value)
    for tx in (PLATEAU, js.keep_best(optax.sgd(0.1)), optax.chain(js.monitor(), optax.sgd(0.1))):
        with pytest.raises(ValueError, match=said):
            tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2), value=value)


def test_a_complex_function_is_named():
    def wave(step):
        return jnp.asarray(step, jnp.complex64)

    said = r"`from_function\(function=...\)` must return a real number, got .*complex64.*`jnp.real"
    for make in (
        lambda: js.from_function(wave),
        lambda: js.linear(1.0, 0.0, 3) * wave,
        lambda: js.join([wave, js.constant(1.0)], [3]),
        lambda: js.scale_by_learning_rate(wave),
    ):
        with pytest.raises(ValueError, match=said):
            make()


@pytest.mark.parametrize("tree", [{"a": 1}, {}, None, optax.adam(0.1).init(jnp.ones(2))])
def test_events_of_what_is_no_state_raise_as_step_does(tree):
    for read in (js.events, js.step, js.hyperparams, js.factors):
        said = rf"`{read.__name__}\(opt_state\)` finds no jaxsched transform"
        with pytest.raises(ValueError, match=said):
            read(tree)


@pytest.mark.parametrize(
    "tx",
    [
        js.scale_by_learning_rate(0.1),
        optax.MultiSteps(js.wrap(optax.sgd(0.1), js.constant(1.0)), 2),
    ],
)
def test_a_state_in_which_nothing_reacts_has_no_events(tx):
    assert js.events(tx.init(jnp.ones(2))) == {}


def test_a_function_with_a_leaf_that_is_no_number_is_refused_where_it_is_built():
    partial = jax.tree_util.Partial(lambda g, t: g(t.astype(float)), jnp.tanh)
    with pytest.raises(ValueError, match=r"numbers as its leaves.*from_function\(lambda step"):
        js.from_function(partial)
    value = js.from_function(lambda step: partial(step))(3)
    assert jnp.allclose(value, jnp.tanh(3.0))
