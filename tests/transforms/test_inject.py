"""`inject`: any hyperparameter of any optax optimizer, with the bits of plain optax."""

import functools
import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js


def dyadic(x):
    """The nearest power of two, or one minus one: exact in float32 and so is one minus it."""
    if x == 0:
        return 0.0
    return 1 - 2.0 ** round(math.log2(1 - x)) if 0.5 < x < 1 else 2.0 ** round(math.log2(x))


# What a factory needs besides its defaults.
BOUND = {
    "schedule_free": {"base_optimizer": optax.sgd(0.125)},
    "noisy_sgd": {"key": 0},
    "dpsgd": {"l2_norm_clip": 1.0, "noise_multiplier": 0.5, "seed": 0},
}
# lbfgs takes no float; scale_by_* are parts of optimizers with the same arguments.
SKIPPED = {"lbfgs", "scale_by_learning_rate", "scale_by_rprop", "scale_by_madgrad"}


def factories():
    for module in (optax, optax.contrib):
        for name, factory in sorted(vars(module).items()):
            if inspect.isfunction(factory) and not name.startswith("_") and name not in SKIPPED:
                parameters = inspect.signature(factory).parameters
                if "learning_rate" in parameters or name in ("cocob", "prodigy", "dowg", "momo"):
                    yield pytest.param(factory, id=f"{module.__name__}.{name}")


def slots_of(factory):
    slots = {
        name: dyadic(p.default)
        for name, p in inspect.signature(factory).parameters.items()
        if isinstance(p.default, float) and name not in ("l2_norm_clip", "noise_multiplier")
    }
    if "learning_rate" in inspect.signature(factory).parameters:
        slots["learning_rate"] = 2.0**-6
    return slots


def three_steps(tx, dtype, batched=False):
    params = {"w": jnp.ones((4, 3), dtype), "b": jnp.zeros(3, dtype)}
    tx, state = optax.with_extra_args_support(tx), tx.init(params)
    for i in range(3):
        grads = jax.tree.map(
            lambda p, i=i: (
                jnp.linspace(-1, 1, p.size, dtype=dtype).reshape(p.shape) + 0.01 * i + 0.1
            ),
            params,
        )
        if batched:
            grads = jax.tree.map(lambda g: jnp.stack([g, g / 2]), grads)
        updates, state = tx.update(
            grads,
            state,
            params,
            value=jnp.float32(1 / (i + 1)),
            obj_fn=lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(p)),
        )
        params = optax.apply_updates(params, updates)
    return params, state


def bits(tree):
    leaves = jax.tree.leaves(tree)
    is_key = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in leaves]
    arrays = [jax.random.key_data(x) if key else x for x, key in zip(leaves, is_key, strict=True)]
    return [(str(x.dtype), np.asarray(x).tobytes()) for x in arrays]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("factory", list(factories()))
@pytest.mark.filterwarnings("default")
def test_parity_with_plain_optax_bit_for_bit(factory, dtype):
    name = factory.__name__
    bound = functools.partial(factory, **BOUND.get(name, {}))
    slots = slots_of(factory)
    with jax.numpy_dtype_promotion("standard"):  # optax's own adam needs it
        plain, state = three_steps(bound(**slots), dtype, batched=name == "dpsgd")
        ours, injected = three_steps(js.inject(bound, **slots), dtype, batched=name == "dpsgd")
    assert jax.tree.structure(injected.inner_state) == jax.tree.structure(state)
    if name == "fromage":  # it takes a square root of the rate, of a Python float in float64
        close = {"rtol": 4 * float(jnp.finfo(dtype).eps)}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), ours, plain)
        return
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(plain))
    assert bits(ours) == bits(plain)
    assert bits(injected.inner_state) == bits(state)
    assert all(x.dtype == jnp.float32 for x in injected.hyperparams.values())


@pytest.mark.parametrize(
    ("factory", "slots"),
    [
        (optax.adamw, {"b1": js.linear(0.8, 0.95, 5)}),
        (optax.sgd, {"momentum": js.one_cycle_momentum(total_steps=10)}),
        (optax.lion, {"b1": 0.9, "weight_decay": js.cosine(0.1, 0.0, 5)}),
        (optax.contrib.muon, {"beta": 0.95}),
    ],
    ids=lambda x: getattr(x, "__name__", "slots"),
)
def test_the_carry_of_a_scan_keeps_its_types(factory, slots):
    params = {"w": jnp.ones((4, 3), jnp.bfloat16)}
    tx = js.inject(factory, learning_rate=js.cosine(0.1, 0.0, 10), **slots)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params)
        return (optax.apply_updates(params, updates), state), js.hyperparams(state)

    with jax.numpy_dtype_promotion("standard"):
        _, used = jax.lax.scan(step, (params, tx.init(params)), length=10)
    for name, slot in {"learning_rate": js.cosine(0.1, 0.0, 10), **slots}.items():
        expected = slot(np.arange(10)) if callable(slot) else np.full(10, np.float32(slot))
        np.testing.assert_allclose(used[name], expected, rtol=1e-6)


def test_what_is_bound_is_not_touched():
    mask = {"w": True, "b": False}
    tx = js.inject(
        functools.partial(optax.adamw, mask=mask, nesterov=True),
        weight_decay=0.5,
        learning_rate=js.constant(0.1),
    )
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], 0)


def test_any_function_of_the_step_is_a_slot():
    tx = js.inject(optax.sgd, learning_rate=optax.linear_schedule(1.0, 0.0, 4))
    state = tx.init(jnp.ones(2))
    for expected in (1.0, 0.75, 0.5):
        _, state = tx.update(jnp.ones(2), state)
        assert js.hyperparams(state)["learning_rate"] == expected


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ({"mask": {"w": True}}, ["mask", "partial(adamw, mask=...)"]),
        (
            {"mask": lambda params: jax.tree.map(lambda p: p.ndim > 1, params)},
            ["mask", "partial(adamw, mask=...)"],
        ),
        ({"nesterov": True}, ["nesterov=True", "partial(adamw, nesterov=...)"]),
        ({"mu_dtype": "bfloat16"}, ["mu_dtype='bfloat16'", "partial"]),
        ({"learning_rate": None}, ["learning_rate=None"]),
        ({"learning_rate": float("nan")}, ["learning_rate=nan"]),
        ({"lerning_rate": 0.1}, ["no argument 'lerning_rate'", "learning_rate"]),
        ({}, ["no slots", "learning_rate=..."]),
    ],
)
def test_messages(slots, said):
    with pytest.raises(ValueError, match="inject") as error:
        js.inject(optax.adamw, **slots)
    for words in said:
        assert words in str(error.value)
    with pytest.raises(ValueError, match="factory"):
        js.inject("adamw", learning_rate=0.1)
    with pytest.raises(ValueError, match="no argument 'weight'"):
        js.inject(functools.partial(optax.adamw, weight=2), learning_rate=0.1)


def test_an_argument_that_is_branched_on_in_python_is_told_to_be_bound():
    says = (
        r"`sgd` branches on nesterov in Python, so nesterov cannot follow a schedule. "
        r"Bind it first: `inject\(partial\(sgd, nesterov=...\), learning_rate=...\)`"
    )
    with pytest.raises(ValueError, match=says):
        js.inject(optax.sgd, learning_rate=0.1, momentum=0.9, nesterov=0.0)
    js.inject(functools.partial(optax.sgd, nesterov=True), learning_rate=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("factory", "slots", "said"),
    [
        (optax.adamw, {"lr": 0.1}, "Did you mean `learning_rate` by `lr`"),
        (
            optax.adamw,
            {"weight_decay": 0.1},
            "`inject(adamw, learning_rate=...)`",
        ),
        (functools.partial(optax.adamw, b1=0.8), {"weight_decay": 0.1}, "needs learning_rate"),
        (functools.partial(optax.adamw, typo=1), {"learning_rate": 0.1}, "typo"),
        (
            optax.add_decayed_weights,
            {"weight_decay": 0.1, "mask": lambda params: params["w"]},
            "`inject(partial(add_decayed_weights, mask=...), weight_decay=...)`",
        ),
    ],
)
def test_what_is_unknown_or_missing_is_said_with_the_slots_given(factory, slots, said):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        js.inject(factory, **slots).init(jnp.ones(2))


def test_arguments_bound_by_position_are_not_missing():
    tx = js.inject(functools.partial(optax.adamw, 0.1), weight_decay=0.2)
    assert js.hyperparams(tx.init(jnp.ones(2))) == {"weight_decay": jnp.float32(0.2)}


def test_a_factory_may_take_any_number_of_positional_arguments():
    def made(*_, learning_rate):
        return optax.sgd(learning_rate)

    assert js.inject(made, learning_rate=0.5).init(jnp.ones(2)).hyperparams["learning_rate"] == 0.5
