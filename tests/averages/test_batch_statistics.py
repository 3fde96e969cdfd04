"""`batch_statistics`: the mean over batches, whatever the momentum of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxsched as js

X = jax.random.normal(jax.random.key(0), (20, 16, 3)) * jnp.asarray([[[1.0, 5.0, 0.1]]]) + 2


class Model(nn.Module):
    """Two layers whose momenta differ."""

    momentum: float

    @nn.compact
    def __call__(self, x):
        def norm(momentum):
            return nn.BatchNorm(use_running_average=False, momentum=momentum)

        return norm(self.momentum / 2)(nn.Dense(4)(norm(self.momentum)(x)))


def of(momentum):
    model = Model(momentum)
    variables = model.init(jax.random.key(1), X[0])

    def update(statistics, x):
        given = {"params": variables["params"], "batch_stats": statistics}
        return model.apply(given, x, mutable=["batch_stats"])[1]["batch_stats"]

    return update, variables["batch_stats"]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_it_is_the_mean_of_the_statistics_of_each_batch(momentum):
    update, statistics = of(momentum)
    found = js.batch_statistics(update, statistics, X)
    first = found["BatchNorm_1"]
    np.testing.assert_allclose(first["mean"], X.mean(axis=(0, 1)), rtol=2e-5)
    np.testing.assert_allclose(first["var"], X.var(axis=1).mean(axis=0), rtol=2e-5)
    assert jax.tree.structure(found) == jax.tree.structure(statistics)
    inside = jax.jit(lambda x: js.batch_statistics(update, statistics, x))(X)
    np.testing.assert_allclose(inside["BatchNorm_0"]["var"], found["BatchNorm_0"]["var"], rtol=1e-4)


def test_messages():
    update, statistics = of(0.9)
    with pytest.raises(ValueError, match="must have at least one batch"):
        js.batch_statistics(update, statistics, [])
    with pytest.raises(ValueError, match=r"`BatchNorm_0/mean` is not a running average\. Run"):
        js.batch_statistics(lambda s, x: s, statistics, X)
    with pytest.raises(ValueError, match=r"NaN or infinite\. Check the parameters"):
        js.batch_statistics(update, statistics, X * jnp.nan)
    with pytest.raises(ValueError, match="there are no statistics"):
        js.batch_statistics(lambda s, x: s, {}, X)
    with pytest.raises(ValueError, match="return the statistics alone, in the same containers"):
        js.batch_statistics(lambda s, x: (x, s), statistics, X)


@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_large_activations_keep_their_digits(size):
    update, statistics = of(0.9)
    found = js.batch_statistics(update, statistics, size * X)["BatchNorm_1"]
    np.testing.assert_allclose(found["var"], (size * X).var(axis=1).mean(axis=0), rtol=1e-4)
