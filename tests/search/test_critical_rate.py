"""The critical rate of a first step, against quadratics that are solved by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxsched as js

ONES = jnp.ones(4)


def bowl(x, batch):
    return 0.5 * jnp.sum(batch * x**2)


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 700.0])
def test_of_a_quadratic_it_is_two_over_the_curvature(curvature):
    rate = js.critical_rate(bowl, ONES, jnp.full(4, curvature))
    np.testing.assert_allclose(rate, 2 / curvature, rtol=1e-3)


def test_of_two_curvatures_it_is_that_of_the_gradient():
    """The loss along the gradient is a parabola, which the two share."""
    c = np.array([1.0, 9.0])
    g = c * 1.0
    rate = js.critical_rate(bowl, jnp.ones(2), jnp.asarray(c, jnp.float32))
    np.testing.assert_allclose(rate, 2 * (g @ g) / (c * g @ g), rtol=1e-3)


def test_of_adam_it_is_twice_the_way_to_the_minimum():
    """The first update of Adam has size 1 in each direction."""
    with jax.numpy_dtype_promotion("standard"):  # Adam itself mixes its types
        rate = js.critical_rate(bowl, 3 * ONES, ONES, optax.adam)
    np.testing.assert_allclose(rate, 6.0, rtol=1e-3)


def test_its_limits():
    assert js.critical_rate(lambda x, _: x.sum(), ONES, None) == jnp.inf
    assert js.critical_rate(bowl, ONES, ONES, high=1.0) == jnp.inf
    assert js.critical_rate(bowl, ONES, 1e12 * ONES, low=1e-3) == jnp.float32(1e-3)
    # A loss that is not finite counts as raised.
    rate = js.critical_rate(lambda x, _: jnp.where(x[0] > -1, x.sum(), jnp.nan), ONES, None)
    np.testing.assert_allclose(rate, 2.0, rtol=1e-3)


def test_rounding_is_no_rise():
    """At the lowest rates the loss of a network changes by its rounding alone."""
    model = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)])

    def loss(params, batch):
        logits = model.apply(params, batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    @jax.jit
    @jax.vmap
    def rates(key):
        batch = jax.random.normal(key, (128, 16)), jax.random.randint(key, (128,), 0, 10)
        return js.critical_rate(loss, model.init(key, batch[0]), batch)

    found = rates(jax.random.split(jax.random.key(0), 200))
    assert found.min() > 0.1 and found.max() < 100


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.7), (1e-8, 1e4), (1e-8, 0.5001)])
def test_it_is_found_up_to_the_highest_rate(low, high):
    rate = js.critical_rate(lambda x, _: 2 * jnp.sum(x**2), ONES, None, low=low, high=high)
    np.testing.assert_allclose(rate, 0.5, rtol=1e-3)


def test_under_jit_and_vmap_it_is_the_same():
    find = functools.partial(js.critical_rate, bowl, ONES)
    curvatures = jnp.outer(jnp.asarray([0.1, 1.0, 50.0]), ONES)
    np.testing.assert_allclose(jax.jit(jax.vmap(find))(curvatures), [*map(find, curvatures)], 1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: js.critical_rate(bowl, ONES, ONES, low=0.0), r"critical_rate\(low=...\)` must be"),
        (lambda: js.critical_rate(bowl, ONES, ONES, low=2.0, high=1.0), "be above low, got high=1"),
        (lambda: js.critical_rate(bowl, jnp.arange(3), ONES), "be floats, but this is int32"),
        (
            lambda: js.critical_rate(bowl, ONES, ONES, optax.sgd(0.1)),
            r"critical_rate\(optimizer=...\)",
        ),
        (lambda: js.critical_rate(lambda x, _: x, ONES, ONES), r"critical_rate\(function=...\)"),
        (lambda: js.critical_rate(bowl, jnp.nan * ONES, ONES), "loss is nan before the first"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
