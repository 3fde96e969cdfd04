"""Every case that was made by running a peer, on its twin; and what the twins do besides."""

import inspect
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax_suite
import peers
import pytest
from peers import CASES, DEFECTS, SIMPLE

import jaxsched as js
from jaxsched import compat, testing

RTOL, ATOL = 2e-6, 1e-8


def by_id(cases):
    return [pytest.param(case, id=case["id"]) for case in cases]


def reached(case):
    """The values of the twin, where the case has values."""
    twin = peers.twin(case)
    if "metrics" in case:
        first = 1 if case["peer"] == "timm" else 0  # timm reports to the step that follows
        return peers.reported(twin, peers.numbers(case["metrics"]), first)
    return np.asarray(twin(np.asarray(case["steps"])))


@pytest.mark.parametrize("case", by_id(SIMPLE))
def test_a_twin_has_its_peers_numbers(case):
    want, steps = peers.expected(case), np.asarray(case["steps"][: len(case["values"])])
    scale = abs(case["base_lr"] or 0) or np.nanmax(np.abs(want))
    if case["id"] in DEFECTS:
        right, where = DEFECTS[case["id"]](steps.astype(float))
        wrong = np.isin(steps, list(where))
        assert not np.allclose(want[wrong], right[wrong], rtol=RTOL, atol=ATOL * scale)
        want = np.where(wrong, right, want)
    np.testing.assert_allclose(reached(case), want, rtol=RTOL, atol=ATOL * scale)


def test_no_case_is_left_out():
    groups = {c["id"] for c in CASES if isinstance(c["base_lr"], list)}
    assert groups == {"torch/ReduceLROnPlateau/13", "timm/CosineLRScheduler/10"}
    assert len(CASES) == 154 and set(DEFECTS) <= {case["id"] for case in SIMPLE}


@pytest.mark.parametrize("case", by_id(c for c in SIMPLE if "momentum" in c))
def test_momentum_moves_against_the_rate(case):
    name = {"CyclicLR": "CyclicMomentum", "OneCycleLR": "OneCycleMomentum"}[case["schedule"]]
    made = getattr(compat.torch, name)
    known = set(inspect.signature(made).parameters)
    momentum = made(**{k: v for k, v in case["kwargs"].items() if k in known})
    steps = np.asarray(case["steps"])
    np.testing.assert_allclose(momentum(steps), case["momentum"], rtol=RTOL)


def test_milestones_come_in_any_order_and_at_the_very_start():
    ours = compat.torch.MultiStepLR(0.1, [4, 0, 2], gamma=0.5)
    np.testing.assert_allclose(ours(np.arange(5)), 0.1 * 0.5 ** np.asarray([1, 1, 2, 2, 3]), 1e-6)
    for first in (0, 1):  # timm cuts a step before
        ours = compat.timm.MultiStepLRScheduler(0.1, [first, 3], decay_rate=0.5)
        np.testing.assert_allclose(ours(np.arange(3)), 0.1 * 0.5 ** np.asarray([1, 1, 2]), 1e-6)


def test_two_parameter_groups_are_two_schedules():
    (case,) = [c for c in CASES if c["id"] == "torch/ReduceLROnPlateau/13"]
    metrics, want = peers.numbers(case["metrics"]), peers.expected(case)
    for group, (base, low) in enumerate(
        zip(case["base_lr"], case["kwargs"]["min_lr"], strict=True)
    ):
        got = peers.reported(peers.twin(case, base, min_lr=low), metrics)
        np.testing.assert_allclose(got, want[:, group], rtol=RTOL)
    (case,) = [c for c in CASES if c["id"] == "timm/CosineLRScheduler/10"]
    steps, want = np.asarray(case["steps"]), peers.expected(case)
    for group, scale in enumerate(case["kwargs"]["lr_scale"]):
        got = (scale * peers.twin(case, case["base_lr"][group]))(steps)
        np.testing.assert_allclose(got, want[:, group], rtol=RTOL, atol=ATOL * 0.1)


def injected(case):
    """The rates that a twin of optax's injector uses, and the last b2, and the last update."""
    rate = {
        "schedule": compat.optax.warmup_cosine_decay_schedule(0.0, 1e-3, 4, 20),
        "constant_schedule": compat.optax.constant_schedule(1e-3),
        "float": 1e-3,
    }[case["kwargs"]["learning_rate"]]
    tx = compat.optax.inject_hyperparams(optax.adam)(learning_rate=rate)
    params = jnp.ones(3, case["kwargs"]["params_dtype"])
    state, rates, update = tx.init(params), [], jax.jit(tx.update)
    for _ in case["steps"]:
        updates, state = update(params, state, params)
        rates.append(float(state.hyperparams["learning_rate"]))
    return rates, state, updates


@pytest.mark.parametrize("case", by_id(c for c in CASES if c["schedule"] == "inject_hyperparams"))
def test_injected_hyperparameters_keep_their_digits(case):
    with jax.numpy_dtype_promotion("standard"):  # which optax's adam needs
        rates, state, updates = injected(case)
    want = peers.expected(case)
    rounded = case["dtype"] == "bfloat16"  # the defect: so is the peer's rate
    np.testing.assert_allclose(rates, want, rtol=1e-3 if rounded else RTOL, atol=ATOL * 1e-3)
    assert state.hyperparams["b2"] == jnp.float32(0.999)
    assert updates.dtype == case["kwargs"]["params_dtype"] and bool(jnp.all(jnp.isfinite(updates)))


OLDER = tuple(map(int, optax.__version__.split(".")[:3])) < (0, 2, 8)
its_tests = pytest.mark.skipif(OLDER, reason="the test files of an older optax import otherwise")


@its_tests
def test_optax_passes_its_own_tests_here():
    done = optax_suite.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@its_tests
def test_what_is_left_out_of_optax_own_tests_is_all_that_fails():
    text = optax_suite.changed("schedules/_inject_test.py")
    for name in optax_suite.DEFECTS:
        assert name.split("::")[1].removesuffix("_bf16") in text


TWINS = {
    f"{peer}.{name}": function
    for peer in peers.TWINS
    for name, function in vars(getattr(compat, peer)).items()
    if inspect.isfunction(function)
    and function.__module__.startswith(("jaxsched.compat._optax", f"jaxsched.compat.{peer}"))
    and not name.startswith("_")
}


@pytest.mark.parametrize("case", by_id(c for c in SIMPLE if "metrics" not in c))
def test_a_twin_is_data(case):
    """It compiles without a branch, and what it prints builds it again."""
    twin = peers.twin(case)
    testing.assert_compiles_clean(twin)
    if case["schedule"] != "MultiplicativeLR":  # a loop over all steps: 2^31 of them take a minute
        testing.assert_total(twin)
    if "<" not in repr(twin):
        testing.assert_same(js.parse(repr(twin)), twin)


@pytest.mark.parametrize("case", by_id(c for c in SIMPLE if "metrics" in c))
def test_a_stateful_twin_is_data(case):
    twin = peers.twin(case)
    assert str(js.parse(repr(twin))) == repr(twin)
    tx = js.scale_by_learning_rate(twin)
    state = tx.init({})
    chex.assert_tree_all_finite(state)
    testing.assert_compiles_clean(lambda s: tx.update({}, s, value=jnp.float32(1.0))[1], state)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_a_twin_says_what_it_is(name):
    text = inspect.getdoc(TWINS[name])
    assert "References:" in text
    assert "Example:" in text or "deprecated" in text


@pytest.mark.parametrize(
    ("twin", "says"),
    [
        (lambda: compat.torch.CosineAnnealingLR(0.1, T_max=1e3), "T_max=1_000"),
        (
            lambda: compat.torch.CosineAnnealingLR(0.1, T_max=0),
            r"T_max=\.\.\.\)` must be at least 1",
        ),
        (lambda: compat.torch.ConstantLR(0.1, factor=1.5), r"ConstantLR\(factor=...\)` must be in"),
        (
            lambda: compat.torch.ConstantLR(0.1, factor=-0.1),
            r"ConstantLR\(factor=...\)` must be in",
        ),
        (
            lambda: compat.torch.LinearLR(0.1, start_factor=0.0),
            r"LinearLR\(start_factor=...\)` must",
        ),
        (
            lambda: compat.torch.LinearLR(0.1, start_factor=0),
            r"be in \(0, 1\], got start_factor=0\.",
        ),
        (
            lambda: compat.torch.LinearLR(0.1, start_factor=1.5),
            r"be in \(0, 1\], got start_factor=",
        ),
        (lambda: compat.torch.LinearLR(0.1, end_factor=1.5), r"be in \[0, 1\], got end_factor=1.5"),
        (lambda: compat.torch.LinearLR(0.1, end_factor=-0.5), r"be in \[0, 1\], got end_factor=-0"),
        (
            lambda: compat.torch.MultiStepLR(0.1, [2.5]),
            r"MultiStepLR\(milestones=...\)` must be an",
        ),
        (lambda: compat.torch.OneCycleLR(0.1, 10, pct_start=1), "be a float in .*got pct_start=1"),
        (lambda: compat.torch.OneCycleMomentum(10, pct_start=0), "be a float in .*got pct_start=0"),
        (lambda: compat.torch.OneCycleLR(0.1, 10, three_phase="no"), "three_phase"),
        (
            lambda: compat.torch.OneCycleLR(0.1, 0),
            r"OneCycleLR\(total_steps=...\)` must be at least 1",
        ),
        (lambda: compat.torch.OneCycleLR(0.1, epochs=3), "`steps_per_epoch`"),
        (lambda: compat.torch.OneCycleLR(0.1, epochs=0, steps_per_epoch=5), "got epochs=0"),
        (lambda: compat.torch.CosineAnnealingWarmRestarts(0.1, 0), "got T_0=0"),
        (lambda: compat.torch.CosineAnnealingWarmRestarts(0.1, 2.0), "got T_0=2.0"),
        (lambda: compat.torch.CosineAnnealingWarmRestarts(0.1, 2, T_mult=0.5), "got T_mult=0.5"),
        (lambda: compat.torch.CosineAnnealingWarmRestarts(0.1, 2, 1, "x"), "'x'"),
        (lambda: compat.torch.ReduceLROnPlateau(0.1, mode="low"), r"ReduceLROnPlateau\(mode=...\)"),
        (lambda: compat.torch.SequentialLR([], []), r"SequentialLR\(schedulers=...\)` must not be"),
        (
            lambda: compat.torch.SequentialLR([compat.torch.StepLR(0.1, 3)] * 2, []),
            "be one fewer than the 2 schedulers",
        ),
        (
            lambda: compat.torch.ChainedScheduler(0.1, [compat.torch.ReduceLROnPlateau(0.1)]),
            "`ChainedScheduler` takes schedules, got the stateful",
        ),
        (lambda: compat.optax.cosine_onecycle_schedule(0, 5.0), "cosine onecycle"),
        (lambda: compat.optax.linear_onecycle_schedule(0, 5.0), "linear onecycle"),
        (lambda: compat.torch.StepLR(0.1, 3, gamma=0.0), "gamma"),
        (lambda: compat.torch.OneCycleLR(0.1), "needs `total_steps`"),
        (lambda: compat.torch.OneCycleLR(0.1, 10, pct_start=1.5), "pct_start"),
        (lambda: compat.torch.OneCycleLR(0.1, 10, anneal_strategy="sine"), "'cos', 'linear'"),
        (lambda: compat.torch.CyclicLR(0.1, 1.0, mode="square"), "triangular2"),
        (lambda: compat.torch.ReduceLROnPlateau(0.1, factor=1.0), "factor"),
        (lambda: compat.torch.ReduceLROnPlateau(0.1, threshold_mode="x"), "'rel', 'abs'"),
        (lambda: compat.torch.LambdaLR(0.1, lambda t: 1.0 if t < 3 else 0.1), "total_steps"),
        (lambda: compat.torch.SequentialLR([compat.torch.ReduceLROnPlateau(0.1)], []), "stateful"),
        (lambda: compat.torch.ChainedScheduler(0.1, []), "not be empty"),
        (lambda: compat.transformers.get_scheduler("cosin", 0.1), "'cosine'"),
        (lambda: compat.transformers.get_scheduler("cosine", 0.1, 3), "num_training_steps"),
        (lambda: compat.transformers.get_scheduler("linear", 0.1), "num_warmup_steps"),
        (
            lambda: compat.transformers.get_scheduler("cosine_with_min_lr", 0.1, 1, 9),
            "one of `min_lr` and `min_lr_rate`",
        ),
        (
            lambda: compat.transformers.get_polynomial_decay_schedule_with_warmup(
                0.1, 0, 9, lr_end=0.2
            ),
            "lr_end",
        ),
        (lambda: compat.timm.CosineLRScheduler(0.1, 10, noise_range_t=5), "from_function"),
        (lambda: compat.timm.create_scheduler_v2(0.1, "cosin"), "'cosine'"),
        (lambda: compat.timm.WSDLRScheduler(0.1, 10, 11), "decay_t"),
        (lambda: compat.timm.WSDLRScheduler(0.1, 10, 5, stable_fn="rsqrt"), "stable_timescale"),
        (lambda: compat.keras.CosineDecay(0.1, 0), "decay_steps"),
        (lambda: compat.keras.ReduceLROnPlateau(0.1, monitor="val_thing"), 'mode="min"'),
        (lambda: compat.optax.cosine_decay_schedule(0.1, 0), "decay_steps"),
        (lambda: compat.optax.sgdr_schedule([]), "not be empty"),
        (lambda: compat.optax.join_schedules([optax.constant_schedule(1.0)], [3]), "one more"),
        (
            lambda: compat.optax.inject_hyperparams(optax.sgd, static_args="lr"),
            "learning_rate",
        ),
    ],
)
def test_a_wrong_call_is_told_what_to_write(twin, says):
    with pytest.raises(ValueError, match=says):
        twin()


def test_any_number_of_a_twin_may_be_traced():
    def values(base, low):
        return compat.torch.CosineAnnealingWarmRestarts(base, 4, 2, low)(jnp.arange(40))

    bases, lows = jnp.asarray([0.1, 1.0]), jnp.asarray([0.0, 0.01])
    many = jax.vmap(values)(bases, lows)
    for row, base, low in zip(many, bases, lows, strict=True):
        np.testing.assert_allclose(row, values(float(base), float(low)), rtol=1e-6)

    def rate(warmup, total):
        return compat.transformers.get_scheduler("cosine", 0.1, warmup, total)(jnp.arange(40))

    many = jax.vmap(rate)(jnp.asarray([0, 4, 9]), jnp.asarray([20, 30, 9]))
    for row, warmup, total in zip(many, (0, 4, 9), (20, 30, 9), strict=True):
        np.testing.assert_allclose(row, rate(warmup, total), rtol=1e-6, atol=1e-9)


def test_a_plateau_of_optax_keeps_its_state_while_it_averages():
    """A state of optax's names, saved between two values of one window."""
    options = dict(patience=1, factor=0.5, accumulation_size=2)
    ours, theirs = (module.reduce_on_plateau(**options) for module in (compat.optax, optax.contrib))
    a, b = ours.init(jnp.ones(2)), theirs.init(jnp.ones(2))
    for value in (1.0, 0.8, 1.0, 1.0, 0.9, 0.2, 0.9, 0.9):
        a = jax.tree.map(jnp.array, a)
        _, a = ours.update(jnp.ones(2), a, value=value)
        with jax.numpy_dtype_promotion("standard"):  # which optax's needs
            _, b = theirs.update(jnp.ones(2), b, value=value)
        for name in ("scale", "plateau_count", "cooldown_count", "count", "avg_value"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6)


def test_injected_plateaus_hear_the_metric_of_the_update():
    rate = js.constant(0.1) * js.reduce_on_plateau(patience=1, factor=0.5)
    tx = compat.optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    state = tx.init(jnp.ones(2))
    for _ in range(3):
        _, state = tx.update(jnp.ones(2), js.observe(state, value=1.0))
    np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.025)


@pytest.mark.parametrize("module", ["torch", "transformers", "timm", "keras"])
def test_twins_do_not_import_their_peers(module):
    code = f"import sys, jaxsched.compat.{module}; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


ZERO = {
    "LinearLR": lambda n: compat.torch.LinearLR(0.1, 0.3, 0.9, n),
    "PolynomialLR": lambda n: compat.torch.PolynomialLR(0.1, n, 2.0),
    "ConstantLR": lambda n: compat.torch.ConstantLR(0.1, 0.5, n),
    "inverse_sqrt": lambda n: compat.transformers.get_inverse_sqrt_schedule(0.1, n),
    "wsd": lambda n: compat.transformers.get_wsd_schedule(0.1, n, 3, 12),
    "linear_schedule": lambda n: compat.optax.linear_schedule(0.1, 0.01, n),
    "exponential_decay": lambda n: compat.optax.exponential_decay(0.1, n, 0.5),
}


@pytest.mark.parametrize("name", ZERO)
def test_no_steps_are_the_same_traced_or_not(name):
    steps = jnp.arange(6)
    eager = ZERO[name](0)(steps)
    np.testing.assert_allclose(jax.jit(lambda n: ZERO[name](n)(steps))(0), eager, rtol=1e-6)
    np.testing.assert_allclose(ZERO[name](np.int64(0))(steps), eager, rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "num_cycles", "t"),
    [
        (100_000, 4.7123, 99_000),
        (10_000_000, 33.3, 7_000_000),
        (10_000, 100, 20_000_123),
        (1000, 1.5, 2**31 - 5),
    ],
)
def test_waves_do_not_stop_with_the_clock(steps, num_cycles, t):
    wave = compat.transformers.get_cosine_schedule_with_warmup(0.1, 0, steps, num_cycles)
    want = 0.05 * (1 + np.cos(2 * np.pi * num_cycles * t / steps))
    np.testing.assert_allclose(float(wave(t)), want, rtol=1e-5)


def test_the_plateau_of_optax_takes_its_state_and_gives_it():
    ours, theirs = (m.reduce_on_plateau(patience=1) for m in (compat.optax, optax.contrib))
    params = jnp.ones(2)
    a, b = ours.init(params), theirs.init(params)
    assert a._fields == b._fields
    chex.assert_tree_all_finite(a)
    for value in (1.0, 1.0, 0.5):
        _, a = ours.update(params, type(a)(*b), value=value)
        with jax.numpy_dtype_promotion("standard"):
            _, b = theirs.update(params, b, value=value)
        chex.assert_trees_all_close(tuple(a), tuple(b))


@pytest.mark.parametrize("case", by_id(c for c in SIMPLE if c["schedule"] == "reduce_on_plateau"))
def test_the_transform_too_has_optax_numbers(case):
    if case["id"] in DEFECTS:
        pytest.skip("see the stateful one")
    tx = compat.optax.reduce_on_plateau(**case["kwargs"])
    state, rates = tx.init(jnp.ones(())), []
    for metric in peers.numbers(case["metrics"]):
        _, state = tx.update(jnp.ones(()), state, value=metric)
        rates.append(case["base_lr"] * float(state.scale))
    np.testing.assert_allclose(rates, peers.expected(case), rtol=RTOL)


def test_a_dtype_is_no_schedule_and_a_buffer_is_nobody_elses():
    with jax.numpy_dtype_promotion("standard"):
        rate = jnp.float32(0.1)
        inject = compat.optax.inject_hyperparams
        inject(optax.adafactor)(learning_rate=rate).init(jnp.ones(3))  # has dtype_momentum
        tx = inject(optax.adam)(learning_rate=rate, b1=rate, mu_dtype=jnp.float32)
        params = jnp.ones((4, 4))
        state = tx.init(params)
        _, state = jax.jit(tx.update, donate_argnums=1)(params, state, params)
        tx.init(params)


def test_a_function_of_the_epoch_may_end():
    with pytest.raises(ValueError, match=r"epoch 3, .*total_steps"):
        compat.keras.LearningRateScheduler(0.1, lambda e: [0.1, 0.01, 0.001][e])
    three = compat.keras.LearningRateScheduler(0.1, lambda *a: a[1] * 0.5, total_steps=3)
    np.testing.assert_allclose(three(np.arange(4)), [0.05, 0.025, 0.0125, 0.0125])
