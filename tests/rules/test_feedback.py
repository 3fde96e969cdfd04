"""`feedback`: rules of one's own, which are the rules of this package where they say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")


def values(rule, metrics, **extra):
    tx = js.scale_by_schedule(1.0 * rule)
    state, out = tx.init({}), []
    update = jax.jit(lambda s, seen: tx.update({}, s, **seen))
    for metric in metrics:
        seen = {} if metric is None else {"value": metric}
        _, state = update(state, seen)
        out.append(float(js.hyperparams(state)["scale"]))
    return out, state


def metrics(n=60):
    r = np.random.default_rng(0)
    stream = list(np.abs(r.normal(1.0, 0.6, n)))
    for i, x in ((5, None), (9, NAN), (20, INF), (21, None), (33, -INF)):
        stream[i] = x
    return [x if x is None else float(np.float32(x)) for x in stream]


def test_a_plateau_in_six_lines_is_the_plateau():
    def react(state, metric):
        better = (state["n"] == 0) | (metric < state["best"] * (1 - 1e-4))
        bad = jnp.where(better, 0, state["bad"] + 1)
        cut = bad >= 3
        return {
            "best": jnp.where(better, metric, state["best"]),
            "bad": jnp.where(cut, 0, bad),
            "scale": jnp.where(cut, state["scale"] * 0.5, state["scale"]),
            "n": state["n"] + 1,
        }

    start = {"best": 0.0, "bad": 0, "scale": 1.0, "n": 0}
    own = js.feedback(react, start, factor=lambda state: state["scale"])
    theirs = js.reduce_on_plateau(patience=3, factor=0.5)
    assert values(own, metrics())[0] == pytest.approx(values(theirs, metrics())[0])


def test_kl_adaptive_in_three_lines_is_kl_adaptive():
    def react(scale, kl):
        scale = jnp.where(kl > 1.5, jnp.maximum(scale / 1.5, 0.01), scale)
        near = (kl > 0) & (kl < 0.375)
        return jnp.where(near, jnp.minimum(scale * 1.5, 10.0), scale)

    theirs = js.kl_adaptive(0.75, metric="value", nonfinite="ignore")
    found, _ = values(js.feedback(react), metrics())
    assert found == pytest.approx(values(theirs, metrics())[0]) and len(set(found)) > 2


def test_what_would_break_the_state_is_passed_over():
    rule = js.feedback(lambda s, metric: s / metric)
    found, state = values(rule, [2.0, 0.0, NAN, 4.0, 1e-38, 1e-38])
    assert found[:4] == [0.5, 0.5, 0.5, 0.125] and np.all(np.isfinite(found))
    assert jnp.isfinite(js.factors(state)["scale"][0].memory)


def test_the_state_is_kept_in_strong_types_whatever_it_is_given():
    start = {"a": 1, "b": np.float64(2.0), "c": True, "d": [jnp.zeros(3, jnp.bfloat16)]}
    rule = js.feedback(lambda s, m: {**s, "b": s["b"] + m}, start, factor=lambda s: s["b"])
    _, state = values(rule, [1.0])
    memory = js.factors(state)["scale"][0].memory
    kinds = jax.tree.map(lambda x: (x.dtype.name, x.weak_type), memory)
    assert kinds == {
        "a": ("int32", False),
        "b": ("float32", False),
        "c": ("bool", False),
        "d": [("float32", False)],
    }


def test_a_number_in_its_state_may_be_traced_and_mapped():
    def last(start):
        rule = js.feedback(lambda s, m: s + m, start)
        tx = js.scale_by_schedule(1.0 * rule)
        _, state = tx.update({}, tx.init({}), value=jnp.float32(2.0))
        return js.hyperparams(state)["scale"]

    assert jax.vmap(last)(jnp.asarray([1.0, 5.0])).tolist() == [3.0, 7.0]


def test_it_goes_through_graft_and_a_checkpoint():
    tx = js.scale_by_schedule(1.0 * js.feedback(lambda s, m: s * m))
    _, state = tx.update({}, tx.init({}), value=0.5)
    restored = js.graft(tx.init({}), jax.tree.map(np.asarray, state))
    testing.assert_same(restored, state)
    # Another rule beside it, and it is still found.
    more = js.scale_by_schedule(js.greedy() * js.feedback(lambda s, m: s * m))
    grafted = js.graft(more.init({}), state)
    assert js.factors(grafted)["scale"][1].memory == 0.5


def test_it_has_no_branch_and_one_program():
    traces = 0

    def react(state, metric):
        nonlocal traces
        traces += 1
        return state * metric

    tx = js.inject(optax.sgd, learning_rate=0.1 * js.feedback(react))
    params = jnp.ones(3)
    state, before = tx.init(params), traces
    step = jax.jit(lambda s, value: tx.update(params, s, value=value)[1])
    for value in (1.0, 2.0, 3.0):
        state = step(state, jnp.float32(value))
    assert traces == before + 1
    testing.assert_compiles_clean(lambda s: step(s, jnp.float32(1.0)), state)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: js.feedback(0.5), r"feedback\(react=\.\.\.\)` must be a function, got react=0.5"),
        (lambda: js.feedback(lambda s, m: s, factor=1), "must be a function or None, got factor=1"),
        (lambda: js.feedback(lambda s, m: (s, m)), "a state like its argument, float32"),
        (lambda: js.feedback(lambda s, m: m, 1), "int32.*got react='float32"),
        (lambda: js.feedback(lambda s, m: s, "x"), "must be a number or a tree of numbers"),
        (lambda: js.feedback(lambda s, m: s, (1.0, 2.0)), "Compute it from the state: `factor="),
        (
            lambda: js.feedback(lambda s, m: s, factor=lambda s: jnp.ones(2)),
            r"factor=\.\.\.\)` must return a number, got factor='float32\[2\]'",
        ),
        (lambda: js.feedback(lambda s, m: s, metric="updates"), "argument of update"),
        (
            lambda: js.feedback(lambda s, m: s, INF),
            "finite real numbers.*start with 1e9, or use a flag",
        ),
        (lambda: js.feedback(lambda s, m: s, {"a": NAN}), "must hold finite real numbers"),
        (lambda: js.feedback(lambda s, m: s, 1j), "must hold finite real numbers"),
        (lambda: js.feedback(lambda s, m: s, 2**40), "must be a number or a tree of numbers"),
        (lambda: js.feedback(lambda s, m: s * 0.5 if m > 1 else s), "Use `jnp.where` instead of"),
        (lambda: js.feedback(lambda s: s), "TypeError.*positional argument"),
        (lambda: js.feedback(lambda s, m: s["scal"], {"scale": 1.0}), "KeyError: 'scal'"),
        (lambda: js.feedback(lambda s, m: s, factor=lambda s: "x"), r"feedback\(factor=\.\.\.\)`"),
        (lambda: js.feedback(lambda s, m: s, axis_name=1), "axis_name"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_that_its_factor_moved_is_counted():
    _, state = values(js.feedback(lambda s, m: s * m), [2.0, 0.5, 1.0, 3.0])
    assert js.events(state) == {"cuts": 1, "raises": 2, "mixed": 0}
