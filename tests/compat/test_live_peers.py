"""The twins against the peers themselves, wherever these are installed, at random arguments.

optax and Keras always are; `pip install torch transformers timm` for the others.
"""

import importlib.util
import random
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import pytest

from jaxsched import compat

STEPS = np.arange(70)
SEEDS = range(6)
pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


@pytest.fixture(autouse=True)
def not_strict():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def agree(name, arguments, got, want, base, rtol=2e-6):
    message = f"{name}({arguments}) at base {base}"
    want = np.asarray(want, np.float64)
    np.testing.assert_allclose(
        np.asarray(got)[: len(want)], want, rtol=rtol, atol=1e-8 * base, err_msg=message
    )


def noisy(r, count=80, slope=-0.02):
    """Metrics as float32 numbers, sometimes broken."""
    values = [1 + slope * i + r.gauss(0, 0.1) for i in range(count)]
    return [float(np.float32(abs(v))) if r.random() < 0.95 else float("nan") for v in values]


def optimizer_of(torch, base):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base, momentum=0.9)


def stepped(torch, make, base, steps=70):
    """The rate and the momentum of each step of a torch scheduler."""
    optimizer = optimizer_of(torch, base)
    scheduler, rates = make(optimizer), []
    for step in range(steps):
        if step > 0:
            optimizer.step()
            scheduler.step()
        group = optimizer.param_groups[0]
        rates.append((group["lr"], group["momentum"]))
    return np.asarray(rates).T


def fed(torch, make, base, metrics):
    """The rate after each metric."""
    optimizer = optimizer_of(torch, base)
    scheduler, rates = make(optimizer), []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def of_torch(r, base):
    gamma, k, total = r.uniform(0.3, 1.0), r.randint(1, 9), r.randint(0, 20)
    low = base * r.choice([0, 0.1])
    return {
        "StepLR": dict(step_size=k, gamma=gamma),
        "MultiStepLR": dict(milestones=[r.randint(0, 40) for _ in range(r.randint(0, 4))]),
        "ConstantLR": dict(factor=r.uniform(0.1, 1), total_iters=total),
        "LinearLR": dict(start_factor=r.uniform(0.01, 1), end_factor=r.random(), total_iters=total),
        "ExponentialLR": dict(gamma=gamma),
        "PolynomialLR": dict(total_iters=total, power=r.choice([1.0, 2.0, 0.5, 0.9])),
        "CosineAnnealingLR": dict(T_max=r.randint(1, 30), eta_min=low),
        "CosineAnnealingWarmRestarts": dict(T_0=k, T_mult=r.randint(1, 4), eta_min=low),
        "LambdaLR": dict(lr_lambda=lambda t: 1 / (1 + gamma * t)),
        "MultiplicativeLR": dict(lr_lambda=lambda t: 1 - gamma / (t + 1)),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_torch(seed):
    torch = pytest.importorskip("torch")
    peer, r = torch.optim.lr_scheduler, random.Random(seed)
    base = r.choice([0.1, 3e-4, 1.0])
    for name, kw in of_torch(r, base).items():
        want, _ = stepped(torch, lambda o, name=name, kw=kw: getattr(peer, name)(o, **kw), base)
        agree(name, kw, getattr(compat.torch, name)(base, **kw)(STEPS), want, base)

    sizes = dict(step_size_up=r.randint(1, 9), step_size_down=r.choice([None, r.randint(1, 9)]))
    kind = dict(mode=r.choice(["triangular", "triangular2", "exp_range"]), gamma=r.uniform(0.9, 1))
    rates = dict(base_lr=base / 10, max_lr=base)
    want, momentum = stepped(torch, lambda o: peer.CyclicLR(o, **rates, **sizes, **kind), base)
    agree("CyclicLR", kind, compat.torch.CyclicLR(**rates, **sizes, **kind)(STEPS), want, base)
    ours = compat.torch.CyclicMomentum(**sizes, **kind)
    agree("CyclicMomentum", kind, ours(STEPS), momentum, 1)

    n = r.randint(2, 50)
    share = r.choice([0.0, 0.1, 0.3, 0.45, 0.7, 1.0])
    share = (
        share if round(share * n, 9) not in (0.5, 1, n / 2 + 0.5) else 0.31
    )  # torch divides by 0
    kind = dict(total_steps=n, pct_start=share, three_phase=r.random() < 0.4)
    kind["anneal_strategy"] = r.choice(["cos", "linear"])
    want, momentum = stepped(torch, lambda o: peer.OneCycleLR(o, base, **kind), base, n)
    agree("OneCycleLR", kind, compat.torch.OneCycleLR(base, **kind)(STEPS), want, base)
    agree("OneCycleMomentum", kind, compat.torch.OneCycleMomentum(**kind)(STEPS), momentum, 1)

    def three(module, o):
        up = module.LinearLR(o, start_factor=0.2, total_iters=r.randint(1, 9))
        return [up, module.CosineAnnealingLR(o, T_max=7), module.ExponentialLR(o, gamma=0.9)]

    state, milestones = r.getstate(), sorted(r.sample(range(1, 30), 2))
    want, _ = stepped(torch, lambda o: peer.SequentialLR(o, three(peer, o), milestones), base)
    r.setstate(state)
    r.sample(range(1, 30), 2)
    ours = compat.torch.SequentialLR(three(compat.torch, base), milestones)
    agree("SequentialLR", milestones, ours(STEPS), want, base)


@pytest.mark.parametrize("seed", SEEDS)
def test_torch_plateau(seed):
    torch = pytest.importorskip("torch")
    r = random.Random(seed)
    base, metrics = r.choice([0.1, 3e-4]), noisy(r)
    kw = dict(mode=r.choice(["min", "max"]), factor=r.choice([0.1, 0.5, 0.9]))
    kw |= dict(patience=r.randint(0, 4), cooldown=r.randint(0, 3), threshold=0.01)
    kw |= dict(threshold_mode=r.choice(["rel", "abs"]), eps=r.choice([1e-8, base / 100]))
    kw |= dict(min_lr=r.choice([0, base / 50, 2 * base]))
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau
    want = fed(torch, lambda o: peer(o, **kw), base, metrics)
    ours = peers.reported(compat.torch.ReduceLROnPlateau(base, **kw), metrics)
    agree("ReduceLROnPlateau", kw, ours, want, base)


@pytest.mark.parametrize("seed", SEEDS)
def test_transformers(seed):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("transformers.optimization")
    r = random.Random(seed)
    base, warmup = r.choice([0.1, 3e-4]), r.randint(0, 12)
    total = r.randint(warmup + 1, 50)
    waves = dict(num_cycles=r.choice([0.5, 1, 1.5, 2, 0.25, 3, 7 / 16, 0.3]))
    types = ["linear", "cosine", "1-sqrt"]
    for name, kw in {
        "constant": {},
        "constant_with_warmup": {},
        "linear": {},
        "cosine": waves,
        "cosine_with_restarts": dict(num_cycles=r.randint(1, 4)),
        "polynomial": dict(power=r.choice([1.0, 2.0, 0.5]), lr_end=base / 100),
        "inverse_sqrt": dict(timescale=r.choice([None, 5, 100])),
        "cosine_with_min_lr": dict(min_lr=base / 10, **waves),
        "cosine_warmup_with_min_lr": dict(
            min_lr_rate=0.1, warmup_lr_rate=r.choice([None, 0.05]), **waves
        ),
        "warmup_stable_decay": dict(
            num_decay_steps=r.randint(0, 20),
            warmup_type=r.choice(types),
            decay_type=r.choice(types),
            min_lr_ratio=r.choice([0, 0.1]),
            **waves,
        ),
    }.items():

        def make(o, name=name, kw=kw):
            return peer.get_scheduler(name, o, warmup, total, dict(kw))

        want, _ = stepped(torch, make, base)
        ours = compat.transformers.get_scheduler(name, base, warmup, total, kw)
        agree(name, (warmup, total, kw), ours(STEPS), want, base)


@pytest.mark.parametrize("seed", SEEDS)
def test_transformers_greedy(seed):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("transformers.optimization")
    r = random.Random(seed)
    base, smooth = r.choice([0.1, 3e-4]), r.random() < 0.4
    metrics = [m if m == m or not smooth else 0.5 for m in noisy(r, 150, r.choice([-0.02, 0.0]))]
    kw = dict(mode=r.choice(["min", "max"]), factor=r.choice([0.5, 0.9, 0.95]))
    kw |= dict(patience=r.randint(0, 3), cooldown=r.randint(0, 3), warmup=r.randint(0, 3))
    kw |= dict(threshold=0.01, threshold_mode=r.choice(["rel", "abs"]))
    kw |= dict(min_lr=base * r.choice([0.01, 0.5, 2]), max_lr=base * r.choice([1, 4, 20]))
    kw |= dict(smooth=smooth, window_size=r.randint(1, 9), reset_start=r.choice([1, 3, 500]))
    want = fed(torch, lambda o: peer.GreedyLR(o, **kw), base, metrics)
    ours = peers.reported(compat.transformers.GreedyLR(base, **kw), metrics)
    agree("GreedyLR", kw, ours, want, base)


def timm_scheduler():
    """`timm.scheduler` alone: the whole of timm needs a torchvision that fits the torch."""
    if "timm" not in sys.modules:
        found = importlib.util.find_spec("timm")
        if found is None or importlib.util.find_spec("torch") is None:
            pytest.skip("timm is not installed")
        package = types.ModuleType("timm")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["timm"] = package
    return importlib.import_module("timm.scheduler.scheduler_factory")


@pytest.mark.parametrize("seed", SEEDS)
def test_timm(seed):
    factory, r = timm_scheduler(), random.Random(seed)
    torch = pytest.importorskip("torch")
    base, t_initial = r.choice([0.1, 3e-4]), r.randint(2, 20)
    warm = dict(warmup_t=r.choice([0, r.randint(1, 10)]), warmup_lr_init=base / 100)
    prefix = dict(**warm, warmup_prefix=r.random() < 0.5)
    cycles = dict(t_initial=t_initial, lr_min=base * r.choice([0, 0.01]))
    cycles |= dict(cycle_mul=r.choice([1.0, 2.0]), cycle_decay=r.choice([1.0, 0.5]))
    cycles |= dict(cycle_limit=r.choice([1, 2, 3]), **prefix)
    k = dict(k_decay=r.choice([1.0, 0.5, 2.0]))
    wsd = dict(t_initial=t_initial, decay_t=r.randint(1, t_initial), lr_min=base / 100, **warm)
    wsd |= dict(stable_fn=r.choice(["constant", "rsqrt", "power"]), stable_timescale=5)
    wsd |= dict(decay_fn=r.choice(["linear", "1-sqrt", "cosine", "power", "exp"]))
    for name, kw in {
        "CosineLRScheduler": {**cycles, **k},
        "PolyLRScheduler": {**cycles, **k, "power": r.choice([0.5, 1.0, 2.0])},
        "TanhLRScheduler": cycles,
        "StepLRScheduler": dict(decay_t=r.choice([5, 2.4, 7.25]), decay_rate=0.5, **prefix),
        "MultiStepLRScheduler": dict(decay_t=[3, 10, 11], decay_rate=0.3, **prefix),
        "WSDLRScheduler": wsd,
    }.items():
        optimizer = optimizer_of(torch, base)
        scheduler, want = getattr(factory, name)(optimizer, **kw), []
        for t in STEPS:
            scheduler.step(int(t))
            want.append(optimizer.param_groups[0]["lr"])
        agree(name, kw, getattr(compat.timm, name)(base, **kw)(STEPS), want, base)

    plateau = dict(decay_rate=0.5, patience_t=r.randint(0, 3), lr_min=base / 100, **warm)
    optimizer, metrics, want = optimizer_of(torch, base), noisy(r), []
    scheduler = factory.PlateauLRScheduler(optimizer, **plateau)
    for epoch, metric in enumerate(metrics, start=1):
        scheduler.step(epoch, metric)
        want.append(optimizer.param_groups[0]["lr"])
    ours = peers.reported(compat.timm.PlateauLRScheduler(base, **plateau), metrics, first=1)
    agree("PlateauLRScheduler", plateau, ours, want, base)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_keras(seed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras, r = pytest.importorskip("keras"), random.Random(seed)
    base, steps = r.choice([0.1, 3e-4]), r.randint(1, 20)
    stairs = dict(decay_steps=steps, staircase=r.random() < 0.5)
    for name, kw in {
        "ExponentialDecay": dict(initial_learning_rate=base, decay_rate=0.8, **stairs),
        "InverseTimeDecay": dict(initial_learning_rate=base, decay_rate=0.8, **stairs),
        "PiecewiseConstantDecay": dict(boundaries=[3, 7, 40], values=[base, 0.1, 0.2, 0.3]),
        "PolynomialDecay": dict(
            initial_learning_rate=base,
            decay_steps=steps,
            end_learning_rate=base / 10,
            power=r.choice([1.0, 2.0, 0.5]),
            cycle=r.random() < 0.5,
        ),
        "CosineDecay": dict(
            initial_learning_rate=base,
            decay_steps=steps,
            alpha=r.choice([0.0, 0.1]),
            warmup_target=r.choice([None, 2 * base]),
            warmup_steps=r.randint(0, 6),
        ),
        "CosineDecayRestarts": dict(
            initial_learning_rate=base,
            first_decay_steps=steps,
            t_mul=r.choice([1.0, 2.0]),
            m_mul=r.choice([1.0, 0.5]),
            alpha=r.choice([0.0, 0.1]),
        ),
    }.items():
        peer = getattr(keras.optimizers.schedules, name)(**kw)
        want = [float(peer(int(t))) for t in STEPS]
        # Keras counts in float32, and near the end of a cosine that is what it is exact to.
        ours = getattr(compat.keras, name)(**kw)(STEPS)
        np.testing.assert_allclose(ours, want, rtol=2e-6, atol=3e-6 * np.max(want), err_msg=name)

    kw = dict(factor=0.5, patience=r.randint(0, 3), cooldown=r.randint(0, 3), min_lr=base / 100)
    kw |= dict(mode=r.choice(["min", "max"]), min_delta=r.choice([1e-4, 0.05]))
    peer, model = keras.callbacks.ReduceLROnPlateau(**kw), types.SimpleNamespace()
    model.optimizer, metrics, want = keras.optimizers.SGD(base), noisy(r), []
    peer.set_model(model)
    peer.on_train_begin()
    for epoch, metric in enumerate(metrics):
        peer.on_epoch_end(epoch, {"val_loss": metric})
        want.append(float(model.optimizer.learning_rate))
    ours = peers.reported(compat.keras.ReduceLROnPlateau(base, **kw), metrics)
    agree("ReduceLROnPlateau", kw, ours, want, base)


@pytest.mark.parametrize("seed", SEEDS)
def test_optax(seed):
    r = random.Random(seed)
    base, steps, begin = r.choice([0.1, 3e-4]), r.randint(1, 30), r.randint(-1, 5)
    scales = {b: r.uniform(0.1, 2) for b in r.sample(range(40), 3)}
    cosine = dict(peak_value=base, warmup_steps=r.randint(0, 9), decay_steps=r.randint(10, 40))
    stairs = dict(staircase=r.random() < 0.5, end_value=r.choice([None, base / 5]))
    kinds = {
        "constant_schedule": dict(value=base),
        "polynomial_schedule": dict(
            init_value=base,
            end_value=base / 10,
            power=r.choice([1, 2, 0.5]),
            transition_steps=r.randint(-1, 20),
            transition_begin=begin,
        ),
        "exponential_decay": dict(
            init_value=base,
            transition_steps=r.randint(0, 9),
            decay_rate=r.choice([0.5, 0.9, 0.0]),
            transition_begin=begin,
            **stairs,
        ),
        "cosine_decay_schedule": dict(init_value=base, decay_steps=steps, exponent=2.0),
        "piecewise_constant_schedule": dict(init_value=base, boundaries_and_scales=scales),
        "piecewise_interpolate_schedule": dict(
            interpolate_type=r.choice(["linear", "cosine"]),
            init_value=base,
            boundaries_and_scales=scales,
        ),
        "linear_onecycle_schedule": dict(transition_steps=steps, peak_value=base),
        "cosine_onecycle_schedule": dict(transition_steps=steps, peak_value=base),
        "warmup_constant_schedule": dict(init_value=0.0, peak_value=base, warmup_steps=steps),
        "warmup_cosine_decay_schedule": dict(init_value=0.0, end_value=base / 10, **cosine),
        "warmup_exponential_decay_schedule": dict(
            init_value=0.0,
            peak_value=base,
            warmup_steps=r.randint(0, 9),
            transition_steps=steps,
            decay_rate=0.5,
            **stairs,
        ),
        "sgdr_schedule": dict(cosine_kwargs=[dict(init_value=0.0, **cosine)] * 2),
    }
    with jax.enable_x64(True):
        wanted = {
            name: [float(schedule(jnp.asarray(t, jnp.float64))) for t in STEPS]
            for name, kw in kinds.items()
            for schedule in (getattr(optax, name)(**kw),)
        }
    for name, kw in kinds.items():
        agree(name, kw, getattr(compat.optax, name)(**kw)(STEPS), wanted[name], base)


KINDS = ["cosine", "tanh", "step", "constant", "multistep", "poly", "wsd", "rsqrt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_timm_command_line(seed, kind):
    factory, r = timm_scheduler(), random.Random(seed)
    torch = pytest.importorskip("torch")
    base = r.choice([0.1, 3e-4])
    kw = dict(sched=kind, num_epochs=r.randint(20, 60), warmup_epochs=r.randint(0, 5))
    kw |= dict(min_lr=base / 100, warmup_lr=base / 10, warmup_prefix=r.random() < 0.5)
    kw |= dict(cooldown_epochs=r.randint(0, 4), decay_milestones=[10, 20], decay_rate=0.3)
    kw |= dict(decay_epochs=r.choice([None, 5, 0.5]) if kind in ("wsd", "rsqrt") else 7)
    kw |= dict(cycle_limit=r.choice([1, 2]), cycle_mul=r.choice([1.0, 2.0]), stable_timescale=4)
    by_update = r.random() < 0.5
    if by_update:
        kw |= dict(step_on_epochs=False, updates_per_epoch=3)
    optimizer, want = optimizer_of(torch, base), []
    theirs, epochs = factory.create_scheduler_v2(optimizer, **kw)
    ours, as_many = compat.timm.create_scheduler_v2(base, **kw)
    assert as_many == epochs
    for t in STEPS:
        (theirs.step_update if by_update else theirs.step)(int(t))
        want.append(optimizer.param_groups[0]["lr"])
    agree("create_scheduler_v2", kw, ours(STEPS), want, base)
