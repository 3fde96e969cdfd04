"""The critical rate of a first step, against quadratics that are solved by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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


def test_under_jit_and_vmap_it_is_the_same():
    find = functools.partial(js.critical_rate, bowl, ONES)
    curvatures = jnp.outer(jnp.asarray([0.1, 1.0, 50.0]), ONES)
    np.testing.assert_allclose(jax.jit(jax.vmap(find))(curvatures), [*map(find, curvatures)], 1e-6)


def test_a_warmup_begins_at_the_rate_and_is_as_steep():
    plain, short = js.linear(0.0, 0.4, 1000), js.critical_warmup(0.1, 0.4, warmup_steps=1000)
    assert short.steps == 750
    np.testing.assert_allclose(short(jnp.arange(750)), plain(jnp.arange(250, 1000)), rtol=1e-6)
    for rate in (0.4, 3.0, jnp.inf):
        none = js.critical_warmup(rate, 0.4, warmup_steps=1000)
        assert none.steps == 0 and none(0) == jnp.float32(0.4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: js.critical_rate(bowl, ONES, ONES, low=0.0), r"critical_rate\(low=...\)` must be"),
        (lambda: js.critical_rate(bowl, ONES, ONES, low=2.0, high=1.0), "be above low, got high=1"),
        (lambda: js.critical_rate(bowl, jnp.arange(3), ONES), "be floats, but this is int32"),
        (lambda: js.critical_rate(bowl, ONES, ONES, optax.sgd(0.1)), "be a function"),
        (lambda: js.critical_warmup(0.0, 0.1, warmup_steps=9), "be positive, got rate=0.0"),
        (lambda: js.critical_warmup(0.1, -0.1, warmup_steps=9), "must be positive, got peak_value"),
        (lambda: js.critical_warmup(0.1, 0.1, warmup_steps=0.5), "warmup_steps"),
        (
            lambda: jax.jit(lambda r: js.critical_warmup(r, 1.0, warmup_steps=9)(0))(0.1),
            "needs numbers that are known",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
