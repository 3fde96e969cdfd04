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
    scheduler = compat.torch.to_scheduler(optimizer, [SCHEDULE, 0.1 * SCHEDULE])
    seen = []
    for _ in range(30):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    wanted = np.asarray(SCHEDULE(np.arange(30)))
    np.testing.assert_allclose(seen, np.stack([wanted, 0.1 * wanted], 1), rtol=1e-6)

    # Its state is a step: a fresh one goes on from it.
    again = torch.optim.SGD([{"params": [w]} for w in weights], lr=0.5)
    resumed = compat.torch.to_scheduler(again, [SCHEDULE, 0.1 * SCHEDULE])
    resumed.load_state_dict(scheduler.state_dict())
    assert [group["lr"] for group in again.param_groups] == resumed.get_last_lr()
    again.step()
    resumed.step()
    assert again.param_groups[0]["lr"] == pytest.approx(float(SCHEDULE(31)))


TEXT = (
    "(linear(0.02, 0.1, 20) >> cosine(0.1, 0.0, 180)) * reduce_on_plateau(patience=3, factor=0.5)"
)


def torch_training(torch, steps, saved=None):
    """A network on noisy data, whose rate comes from a text; it may stop, and go on."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    x = torch.tensor(generator.normal(size=(64, 4)), dtype=torch.float32)
    y = x.sum(1, keepdim=True) + torch.tensor(generator.normal(size=(64, 1)), dtype=torch.float32)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = compat.torch.to_scheduler(optimizer, js.parse(TEXT))
    first = 0
    if saved is not None:
        first, weights, of_optimizer, of_scheduler = saved
        model.load_state_dict(weights)
        optimizer.load_state_dict(of_optimizer)
        scheduler.load_state_dict(of_scheduler)
    rates, losses = [], []
    for step in range(first, steps):
        at = torch.arange(16) + 16 * (step % 4)
        loss = torch.nn.functional.mse_loss(model(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(loss.item())
        losses.append(loss.item())
    state = steps, model.state_dict(), optimizer.state_dict(), scheduler.state_dict()
    return rates, losses, state


def test_a_torch_loop_with_a_plateau_from_a_text():
    torch = pytest.importorskip("torch")
    rates, losses, _ = torch_training(torch, 120)
    # The loss of a step arrives after it, and so with the next update.
    metrics = {"value": (np.arange(1, 120), np.asarray(losses[:-1]))}
    run = js.simulate(js.parse(TEXT), metrics, total_steps=120)
    np.testing.assert_allclose(rates, run.values, rtol=1e-6)
    assert run.events["cuts"][-1] > 2 and losses[-1] < losses[0]

    before, _, state = torch_training(torch, 47)
    after, _, _ = torch_training(torch, 120, state)
    assert [*before, *after] == rates


def test_torch_wrong_calls():
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, (0.1, 0.01), strict=True)]
    optimizer = torch.optim.SGD(groups)
    with pytest.raises(ValueError, match=r"rates \[0.01, 0.1\].*list of schedules"):
        compat.torch.to_scheduler(optimizer, SCHEDULE)
    with pytest.raises(ValueError, match="one schedule for each of the 2 parameter groups, got 1"):
        compat.torch.to_scheduler(optimizer, [SCHEDULE])
    rule = js.constant(0.1) * js.reduce_on_plateau(metric="validation")
    scheduler = compat.torch.to_scheduler(optimizer, [SCHEDULE, rule])
    optimizer.step()
    with pytest.raises(ValueError, match=r"a rule listens to, one of \['validation'\]"):
        scheduler.step(0.3)
    scheduler.step(validation=0.3)
    assert scheduler.last_epoch == 1


@pytest.mark.filterwarnings("ignore")
def test_keras_fit_with_a_rule_on_the_validation_loss(keras, not_strict):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(96, 4)).astype(np.float32)
    y = x.sum(1) + generator.normal(size=96).astype(np.float32)
    rate = js.warmup_cosine(0.2, total_steps=96, warmup_steps=6) * js.reduce_on_plateau(
        patience=1, factor=0.5, metric="val_loss"
    )
    used = []

    class Used(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.jax_state_sync()
            used.append(float(self.model.optimizer.learning_rate))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    callback = compat.keras.to_callback(rate)
    history = model.fit(
        x[:64], y[:64], epochs=12, batch_size=8, verbose=0, shuffle=False,
        validation_data=(x[64:], y[64:]), callbacks=[callback, Used()],
    )  # fmt: skip
    losses = history.history["val_loss"]
    told = {"val_loss": (8 * np.arange(1, 12), np.asarray(losses[:-1]))}
    run = js.simulate(rate, told, total_steps=96)
    np.testing.assert_allclose(callback.rates, run.values, rtol=1e-6)
    np.testing.assert_allclose(used, run.values, rtol=1e-6)
    assert run.events["cuts"][-1] > 0

    deaf = compat.keras.to_callback(js.constant(0.1) * js.reduce_on_plateau(metric="val_los"))
    with pytest.raises(ValueError, match=r"one of \['loss', 'val_loss'\], got metric='val_los'"):
        model.fit(x, y, validation_split=0.5, verbose=0, callbacks=[deaf])


def test_it_says_what_is_missing(monkeypatch):
    for name, call in {
        "torch": lambda: compat.torch.to_scheduler(None, SCHEDULE),
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


def test_what_torch_does_when_a_plateau_shares_an_optimizer():
    """Some schedulers overwrite the cut at their next step, or at a milestone."""
    torch = pytest.importorskip("torch")
    lr = torch.optim.lr_scheduler

    def rates(make, cut):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = make(optimizer)
        plateau = lr.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        plateau.step(1.0)
        seen = []
        for step in range(10):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            if cut and step == 1:
                plateau.step(2.0)
        return np.asarray(seen)

    def warmed(optimizer):
        parts = [
            lr.LinearLR(optimizer, 0.1, total_iters=5),
            lr.CosineAnnealingLR(optimizer, 9),
        ]
        return lr.SequentialLR(optimizer, parts, [5])

    kept = np.asarray([1, 1, *[0.5] * 8])
    for make, expected in (
        (lambda o: lr.CosineAnnealingLR(o, 12), kept),
        (lambda o: lr.ExponentialLR(o, 0.9), kept),
        (lambda o: lr.LambdaLR(o, lambda t: 0.9**t), np.asarray([1, 1, 0.5, *[1] * 7])),
        (lambda o: lr.OneCycleLR(o, 0.1, total_steps=20), np.asarray([1, 1, 0.5, *[1] * 7])),
        (warmed, np.asarray([1, 1, *[0.5] * 3, *[1] * 5])),
    ):
        ratios = rates(make, True) / rates(make, False)
        np.testing.assert_allclose(ratios, expected, rtol=1e-6)

    rule = js.cosine(0.1, 0.0, 12) * js.reduce_on_plateau(patience=1, factor=0.5)
    losses = {"value": (np.asarray([0, 2]), np.asarray([1.0, 2.0]))}
    ours = js.simulate(rule, losses, total_steps=10).values / js.cosine(0.1, 0.0, 12)(np.arange(10))
    np.testing.assert_allclose(ours, kept, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_keras_counts_batches_where_gradients_are_accumulated(keras, not_strict):
    """Its schedules run as many times too fast as batches are accumulated; `hold` mends that."""
    rate = js.linear(0.8, 0.0, 8)

    def moved(schedule):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        optimizer = keras.optimizers.SGD(
            compat.keras.to_keras(schedule), gradient_accumulation_steps=4
        )
        model.compile(optimizer, loss=lambda y, p: keras.ops.mean(p))  # a gradient of 1
        model.set_weights([np.zeros((1, 1), np.float32)])
        weights = []
        for _ in range(4):
            model.fit(np.ones((4, 1)), np.ones(4), batch_size=1, epochs=1, verbose=0)
            weights.append(float(model.get_weights()[0][0, 0]))
        return -np.diff([0.0, *weights])

    np.testing.assert_allclose(moved(rate.hold(4)), rate(np.arange(4)), rtol=1e-6)
    np.testing.assert_allclose(moved(rate), rate(4 * np.arange(4) + 3), rtol=1e-6)
