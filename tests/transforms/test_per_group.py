"""Rates by group and by layer: on trees of linen and NNX, on one clock, readable by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import jaxsched as js
from jaxsched import testing

PARAMS = {"embed": {"w": jnp.ones(2)}, "body": [jnp.ones(3), jnp.ones(1)], "head": jnp.ones(2)}
LABELS = {"embed": "slow", "body": "slow", "head": "fast"}
RATES = {
    "slow": js.linear(0.1, 0.0, 10),
    "fast": js.constant(1.0) * js.reduce_on_plateau(patience=1),
}


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        return x + linen.relu(linen.Dense(4)(x))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Dense(4, name="embed")(x)
        for i in range(12):
            x = Block(name=f"layers_{i}")(x)
        return linen.Dense(2, name="head")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(3, 4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(12)])
        self.head = nnx.Linear(4, 2, rngs=rngs)


LINEN = ["embed", *(f"layers_{i}" for i in range(12)), "head"]
NNX = ["embed", *(f"layers/{i}" for i in range(12)), "head"]


def linen_params():
    return Linen().init(jax.random.key(0), jnp.ones((1, 3)))["params"]


def ones(params):
    return jax.tree.map(jnp.ones_like, params)


def test_each_group_has_its_rate_and_all_have_one_clock():
    tx = js.per_group(LABELS, RATES)
    state = tx.init(PARAMS)
    for step, (value, fast) in enumerate([(1.0, 1.0), (2.0, 0.1), (2.0, 0.01)]):
        updates, state = tx.update(PARAMS, state, value=value)
        for group in ("embed", "body"):
            for x in jax.tree.leaves(updates[group]):
                np.testing.assert_allclose(x, -0.1 * (1 - step / 10), rtol=1e-6)
        np.testing.assert_allclose(updates["head"], -fast, rtol=1e-6)
        found = js.hyperparams(state)
        assert found["fast/learning_rate"] == pytest.approx(fast) and len(found) == 2
    assert js.step(state) == 3 and js.events(state) == {"cuts": 2, "mixed": 0}


def test_it_is_partition_with_one_preconditioner():
    rates = {"slow": js.linear(0.1, 0.0, 10), "fast": js.cosine(1.0, 0.0, 5)}
    tx = js.per_group(LABELS, rates)
    parts = {k: js.scale_by_learning_rate(v) for k, v in rates.items()}
    both = tx, optax.partition(parts, LABELS)
    states = [x.init(PARAMS) for x in both]
    for _ in range(6):
        outs = [x.update(PARAMS, s, PARAMS) for x, s in zip(both, states, strict=True)]
        testing.assert_same(outs[0][0], outs[1][0])
        states = [state for _, state in outs]
    assert list(js.hyperparams(states[0])) == list(js.hyperparams(states[1]))


def test_override_of_one_group_and_of_all():
    tx = js.per_group(LABELS, RATES)
    state = js.override(tx.init(PARAMS), **{"fast/learning_rate": 0.5})
    _, state = tx.update(PARAMS, state)
    assert {k: float(x) for k, x in js.hyperparams(state).items()} == pytest.approx(
        {"slow/learning_rate": 0.1, "fast/learning_rate": 0.5}
    )
    _, state = tx.update(PARAMS, js.override(state, learning_rate=0.25))
    assert {float(x) for x in js.hyperparams(state).values()} == {0.25}
    with pytest.raises(
        ValueError, match="the state has only fast/learning_rate, slow/learning_rate"
    ):
        js.override(state, rate=0.1)
    tx = js.per_group(LABELS, {k: js.tunable(js.constant(1.0)) for k in ("slow", "fast")})
    state = js.retune(tx.init(PARAMS), learning_rate=js.constant(0.5))
    assert {float(x) for x in js.hyperparams(tx.update(PARAMS, state)[1]).values()} == {0.5}


@pytest.mark.parametrize("offset", [0, 1])
def test_layerwise_is_what_beit_and_electra_say(offset):
    """BEiT: the top layer has decay**1. ELECTRA leaves a power out: decay**2."""
    params, gap = linen_params(), [()] * offset
    tx = js.layerwise(decay=0.8, depth=[*LINEN[:-1], *gap, "head"])
    updates, state = tx.update(ones(params), tx.init(params))
    values = js.hyperparams(state)
    for i in range(12):
        expected = 0.8 ** (12 - i + offset)
        assert values[f"layers_{i}/scale"] == pytest.approx(expected)
        np.testing.assert_allclose(updates[f"layers_{i}"]["Dense_0"]["kernel"], expected, 1e-6)
    np.testing.assert_allclose(updates["embed"]["bias"], 0.8 ** (13 + offset), 1e-6)
    np.testing.assert_array_equal(updates["head"]["bias"], 1)


def test_an_nnx_tree():
    model = Nnx(nnx.Rngs(0))
    tx = optax.chain(js.layerwise(decay=0.5, depth=NNX), js.scale_by_learning_rate(0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.array, nnx.state(model, nnx.Param))
    optimizer.update(model, ones(before))
    moved = jax.tree.map(jnp.subtract, before, nnx.state(model, nnx.Param))
    for i in (0, 1, 10, 11):
        np.testing.assert_allclose(moved["layers"][i]["kernel"][...], 0.1 * 0.5 ** (12 - i), 1e-3)
    np.testing.assert_allclose(moved["head"]["kernel"][...], 0.1, 1e-5)
    assert js.hyperparams(optimizer)["layers/11/scale"] == 0.5


def test_discriminative_fine_tuning_with_a_train_state():
    params = linen_params()
    tx = optax.chain(
        optax.trace(0.9),
        js.layerwise(decay=1 / 2.6, depth=LINEN),
        js.scale_by_learning_rate(js.warmup_linear(0.1, total_steps=100, warmup_steps=10)),
    )
    state = TrainState.create(apply_fn=Linen().apply, params=params, tx=tx)
    state = state.apply_gradients(grads=ones(params))
    rate = js.hyperparams(state)["learning_rate"]
    moved = params["layers_11"]["Dense_0"]["bias"] - state.params["layers_11"]["Dense_0"]["bias"]
    np.testing.assert_allclose(moved, rate / 2.6, rtol=1e-4)


def test_unfreezing():
    params = linen_params()
    order = ["head", "layers_11", "layers_10", "rest"]
    labels = js.by_path(lambda path: path.split("/")[0] if path.split("/")[0] in order else "rest")
    tx = js.per_group(labels, js.unfreezing(js.linear(1.0, 0.0, 20), order, every=5))
    state = tx.init(params)
    update = jax.jit(tx.update)
    for step in range(20):
        updates, state = update(ones(params), state)
        for i, name in enumerate(("head", "layers_11", "layers_10", "layers_3")):
            expected = 0 if step < 5 * i else -(1 - step / 20)
            for x in jax.tree.leaves(updates[name]):
                np.testing.assert_allclose(x, expected, rtol=1e-6, atol=0)
    constant = js.unfreezing(0.5, ["a", "b"], every=3)
    assert constant["b"](jnp.arange(2, 4)).tolist() == [0.0, 0.5]


def test_one_program_for_any_decay_and_no_branch():
    params = linen_params()

    def factors(decay):
        tx = js.layerwise(decay=decay, depth=LINEN)
        return js.hyperparams(tx.update(ones(params), tx.init(params))[1])["layers_10/scale"]

    np.testing.assert_allclose(jax.vmap(factors)(jnp.asarray([0.5, 0.8])), [0.25, 0.64], 1e-6)
    tx = js.per_group(LABELS, RATES)
    state = tx.init(PARAMS)
    testing.assert_compiles_clean(lambda s: tx.update(PARAMS, s, value=jnp.float32(1.0)), state)


def test_low_precision():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}
    tx = js.per_group({"a": "a", "b": "b"}, {"a": 0.1, "b": 0.1})
    updates, state = tx.update(params, tx.init(params))
    assert updates["a"].dtype == jnp.bfloat16
    assert js.hyperparams(state)["a/learning_rate"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: js.per_group(LABELS, {}), "has no schedules. Give one per group"),
        (lambda: js.per_group(LABELS, {"slow": "x"}), r"per_group\(slow=\.\.\.\)"),
        (
            lambda: js.per_group(LABELS, {"slow": 0.1}).init(PARAMS),
            "`head` is in 'fast', and there is only slow",
        ),
        (
            lambda: js.per_group(LABELS, {**RATES, "other": 0.1}).init(PARAMS),
            "no parameter is in 'other'",
        ),
        (lambda: js.per_group(LABELS, RATES, flip_sign=0), "must be True or False"),
        (lambda: js.layerwise(decay=0.0, depth=["a"]), "must be positive, got decay=0.0"),
        (lambda: js.layerwise(decay=0.5, depth=[]), "must name at least one layer"),
        (
            lambda: js.layerwise(decay=0.5, depth=["embed", "head"]).init(PARAMS),
            "`body/0` is in no layer. `depth` has embed, head",
        ),
        (
            lambda: js.layerwise(decay=0.5, depth=["embed", "body", "head", "w"]).init(PARAMS),
            "`embed/w` is in embed and w. Name more of its path",
        ),
        (
            lambda: js.layerwise(decay=0.5, depth=["embed", "body", "neck", "head"]).init(PARAMS),
            "no parameter is in 'neck'",
        ),
        (lambda: js.unfreezing(0.1, [], every=3), "must name at least one group"),
        (lambda: js.unfreezing(0.1, ["a"], every=-1), "must not be negative, got every=-1"),
        (lambda: js.unfreezing("x", ["a"], every=1), "unfreezing"),
        (lambda: js.unfreezing(0.1, "head", every=3), "must be a list of names, got groups='head'"),
        (lambda: js.unfreezing(0.1, ["a", "b", "a"], every=3), "have each name once"),
        (lambda: js.unfreezing(0.1, None, every=3), "must be a list of names, got groups=None"),
        (lambda: js.unfreezing(0.1, [1], every=3), "must be a name, got groups=1"),
        (lambda: js.unfreezing(0.1, [("a", "b")], every=3), "must be a name, got groups=..a"),
        (lambda: js.layerwise(decay=0.5, depth=["a", "b", "a"]), "each name once, got depth=..a"),
        (lambda: js.layerwise(decay=0.5, depth=[("a", "b"), "b"]), "each name once"),
        (lambda: js.layerwise(decay=0.5, depth=12), "must be a list of names, got depth=12"),
        (lambda: js.layerwise(decay=0.5, depth=[0, 1]), "must be a list of names"),
        (lambda: js.per_group(LABELS, [0.1]), "must be a dict of schedules by group"),
        (lambda: js.by_path("head"), "must be a function of a path, got name='head'"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_name_of_its_own_is_not_that_of_all_groups():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = optax.chain(
        js.wrap(optax.sgd(0.1), js.constant(1.0)), js.layerwise(decay=0.5, depth=["a", "b"])
    )
    _, state = tx.update(params, js.override(tx.init(params), scale=0.25))
    assert {k: float(x) for k, x in js.hyperparams(state).items()} == {
        "scale": 0.25,
        "a/scale": 0.5,
        "b/scale": 1.0,
    }


@pytest.mark.parametrize("wrapped", [lambda tx: tx, optax.chain], ids=["alone", "chain"])
@pytest.mark.parametrize("grouped", [js.per_group, "partition"])
def test_paths_are_the_same_at_the_start_and_in_an_update_of_nnx(grouped, wrapped):
    """The state of an `nnx.Optimizer` starts from variables, and its updates are arrays."""
    labels = js.by_path(lambda path: "bias" if path.endswith("bias") else "rest")
    rates = {"bias": 0.1, "rest": 1.0}
    if grouped == "partition":
        tx = optax.partition({name: optax.sgd(rate) for name, rate in rates.items()}, labels)
    else:
        tx = grouped(labels, rates)
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    params = nnx.state(model, nnx.Param)
    optimizer = nnx.Optimizer(model, wrapped(tx), wrt=nnx.Param)
    before = jax.tree.map(jnp.array, params)
    optimizer.update(model, jax.tree.map(jnp.ones_like, params))
    moved = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), before)
    for path, change in jax.tree_util.tree_flatten_with_path(moved)[0]:
        rate = 0.1 if "bias" in jax.tree_util.keystr(path) else 1.0
        np.testing.assert_allclose(change, -rate, rtol=1e-6)


def test_layers_of_an_nnx_model():
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    tx = js.layerwise(decay=0.5, depth=["layers/0", "layers/1"])
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(1.0), tx), wrt=nnx.Param)
    params = nnx.state(model, nnx.Param)
    bias = jnp.array(model.layers[0].bias[...])
    optimizer.update(model, jax.tree.map(jnp.ones_like, params))
    np.testing.assert_allclose(model.layers[0].bias[...] - bias, -0.5)


def test_a_label_that_appears_in_an_update_is_refused():
    tx = js.per_group(lambda tree: jax.tree.map(lambda x: "ab"[x.size > 1], tree), {"a": 0.1})
    state = tx.init({"w": jnp.ones(1)})
    with pytest.raises(ValueError, match="`w` is in 'b', and there is only a"):
        tx.update({"w": jnp.ones(2)}, state)
