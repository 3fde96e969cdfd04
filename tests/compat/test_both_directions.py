"""Schedules of this library in Keras' `model.fit`, and stepping a torch optimizer."""

import jax
import numpy as np
import pytest

import jaxsched as js
from jaxsched import compat, testing

SCHEDULE = js.warmup_cosine(0.1, total_steps=24, warmup_steps=5)


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


@pytest.fixture
def not_strict():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def trained(keras, rate):
    """A linear model, after three epochs of eight steps, and the rates that it saw on the way."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)).astype(np.float32)
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    model.fit(x, x.sum(1), epochs=3, batch_size=8, shuffle=False, verbose=0, callbacks=[Rates()])
    return model, rates


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_a_schedule_runs_inside_fit(keras, not_strict, tmp_path):
    model, rates = trained(keras, compat.keras.to_keras(SCHEDULE))
    np.testing.assert_allclose(rates, SCHEDULE(np.arange(24)), rtol=1e-7)

    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").optimizer
    testing.assert_same(restored._learning_rate.schedule, SCHEDULE)
    assert float(restored.learning_rate) == float(SCHEDULE(24))


@pytest.mark.filterwarnings("ignore")
def test_it_trains_as_the_twin_of_a_keras_schedule_does(keras, not_strict):
    arguments = dict(decay_steps=20, alpha=0.1, warmup_target=0.1, warmup_steps=4)
    theirs = keras.optimizers.schedules.CosineDecay(0.0, **arguments)
    ours = compat.keras.to_keras(compat.keras.CosineDecay(0.0, **arguments))
    (a, _), (b, _) = trained(keras, theirs), trained(keras, ours)
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_schedule_steps_a_torch_optimizer():
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w]} for w in weights], lr=0.5)
    scheduler = compat.torch.to_lambda_lr(optimizer, [SCHEDULE, 0.1 * SCHEDULE])
    seen = []
    for _ in range(30):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    wanted = np.asarray(SCHEDULE(np.arange(30)))
    np.testing.assert_allclose(seen, np.stack([wanted, 0.1 * wanted], 1), rtol=1e-6)

    # Its state is a step count: a fresh one goes on from it.
    again = torch.optim.SGD(weights, lr=0.5)
    resumed = compat.torch.to_lambda_lr(again, SCHEDULE)
    state = {k: v for k, v in scheduler.state_dict().items() if k == "last_epoch"}
    resumed.load_state_dict({**resumed.state_dict(), **state})
    again.step()
    resumed.step()
    assert again.param_groups[0]["lr"] == pytest.approx(float(SCHEDULE(31)))


def test_it_says_what_is_missing(monkeypatch):
    for name, call in {
        "torch": lambda: compat.torch.to_lambda_lr(None, SCHEDULE),
        "keras": lambda: compat.keras.to_keras(SCHEDULE),
    }.items():
        monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
        with pytest.raises(ImportError, match=rf"jaxsched\[{name}\]"):
            call()


def test_what_is_no_schedule_is_refused(keras):
    with pytest.raises(ValueError, match="to_keras"):
        compat.keras.to_keras(0.1)
    with pytest.raises(ValueError, match="stateful"):
        compat.keras.to_keras(SCHEDULE * js.reduce_on_plateau())


@pytest.mark.filterwarnings("ignore")
def test_what_keras_could_not_load_it_is_not_given_to_save(keras, not_strict, tmp_path):
    halved = js.from_function(lambda t: 0.1 * 0.5**t)
    for schedule in (halved, 2.0 * halved, js.table(np.linspace(1.0, 0.0, 300_000))):
        rate = compat.keras.to_keras(schedule)
        assert float(rate(1)) == float(schedule(1))
        with pytest.raises(ValueError, match="this text cannot be read back: `<"):
            rate.get_config()
        with pytest.raises(NotImplementedError):
            keras.optimizers.schedules.serialize(rate)
    model, rates = trained(keras, compat.keras.to_keras(halved))
    np.testing.assert_allclose(rates, halved(np.arange(24)), rtol=1e-6)
    with pytest.raises(ValueError, match="cannot be read back"):
        model.save(tmp_path / "model.keras")
