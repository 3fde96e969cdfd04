"""Access to the state: in every wrapper, jitted, with the names that are there when one is not."""

import collections
import logging
import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from packed import record

import jaxsched as js
from jaxsched import testing
from jaxsched._core._trees import all_of
from jaxsched._rules._mailbox import Mail

RATE = js.linear(1.0, 0.0, 10)
PARAMS = {"w": jnp.ones(3)}


FAST = {"patience": 1, "factor": 0.5}


def plateau(**options):
    return js.reduce_on_plateau(**{**FAST, **options})


def linen(tx):
    return TrainState.create(apply_fn=None, params=PARAMS, tx=tx)


def test_the_metric_reaches_the_plateau_through_an_unchanged_train_state():
    state = linen(js.scale_by_learning_rate(RATE * plateau()))
    step = jax.jit(lambda state: state.apply_gradients(grads=PARAMS))
    for loss, expected in ((1.0, 1.0), (2.0, 0.45), (0.5, 0.4)):
        state = step(jax.jit(js.observe)(state, value=loss))
        assert isinstance(state, TrainState)
        np.testing.assert_allclose(js.hyperparams(state)["learning_rate"], expected, rtol=1e-6)
    assert js.step(state) == 3 == state.step


class Model(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.ones(3))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_state_of_an_nnx_state_is_changed_too(compiled):
    """Its moments hold `nnx.Variable`s, and what is ours is plain arrays beside them."""
    params = nnx.state(Model(), nnx.Param)
    rate = js.tunable(js.constant(1.0)) * js.until(js.constant(1.0), js.constant(0.5)) * plateau()
    tx = optax.chain(optax.trace(decay=0.9), js.scale_by_learning_rate(rate))
    state = tx.init(params)
    maybe = jax.jit if compiled else lambda f: f
    changes = [
        (lambda s: js.override(s, learning_rate=0.1), 0.1),
        (lambda s: js.retune(s, learning_rate=js.constant(3.0)), 3.0),
        (js.trigger, 0.5),
    ]
    for change, wanted in changes:
        _, after = tx.update(params, maybe(change)(state), params)
        np.testing.assert_allclose(js.hyperparams(after)["learning_rate"], wanted)
    assert js.step(maybe(lambda s: js.set_step(s, 5))(state)) == 5
    assert js.hyperparams(state)["learning_rate"] == 1.0  # what was given is as it was
    for loss in (1.0, 2.0, 2.0):
        _, state = tx.update(params, maybe(lambda s, x=loss: js.observe(s, value=x))(state), params)
    assert js.events(state)["cuts"] > 0


def test_nnx_optimizer_is_changed_in_place():
    model = Model()
    optimizer = nnx.Optimizer(model, js.scale_by_learning_rate(RATE * plateau()), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, loss):
        js.observe(optimizer, value=loss)
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m.w[...]))(model))
        return js.hyperparams(optimizer)["learning_rate"]

    with jax.numpy_dtype_promotion("standard"):  # nnx counts in uint32
        for loss, expected in ((1.0, 1.0), (2.0, 0.45), (0.5, 0.4)):
            np.testing.assert_allclose(
                step(model, optimizer, jnp.float32(loss)), expected, rtol=1e-6
            )
        assert js.step(optimizer) == 3
        assert js.override(optimizer, learning_rate=0.25) is optimizer
        assert step(model, optimizer, jnp.float32(0.4)) == 0.25
        js.set_step(js.override(optimizer.opt_state, learning_rate=None), 0)
        assert step(model, optimizer, jnp.float32(0.3)) == 0.5
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m.w[...]))(model), value=jnp.float32(9))
    np.testing.assert_allclose(js.hyperparams(optimizer)["learning_rate"], 0.225, rtol=1e-6)


def test_observe_is_pure():
    state = js.scale_by_learning_rate(RATE * plateau()).init(PARAMS)
    before = jax.tree.map(np.asarray, state)
    js.observe(state, value=1.0)
    js.override(state, learning_rate=3.0)
    js.set_step(state, 9)
    testing.assert_same(state, jax.tree.map(jnp.asarray, before))


def test_observations_between_two_updates_are_one():
    tx = js.scale_by_learning_rate(RATE * plateau())
    state = tx.init(PARAMS)
    for value in (1.0, float("nan"), 3.0, float("inf")):
        state = js.observe(state, value=value)
    with pytest.warns(UserWarning, match="the mean of both"):
        _, state = tx.update(PARAMS, state, value=5.0)
    (factor,) = js.factors(state)["learning_rate"]
    assert factor.best == 3 and factor.judged == 1
    assert all_of(Mail, state)[0].finite == 0


def test_override_and_return():
    tx = js.inject(optax.sgd, learning_rate=RATE, momentum=0.5)
    state = tx.init(PARAMS)
    step = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS)[1])
    seen = []
    for value in (None, 0.25, 0.75, None):
        state = step(js.override(state, learning_rate=value))
        seen.append(float(js.hyperparams(state)["learning_rate"]))
    np.testing.assert_allclose(seen, [1.0, 0.25, 0.75, 0.7], rtol=1e-6)
    assert step._cache_size() <= 1  # jax forgets the oldest
    traced = jax.jit(lambda s, x: js.override(s, learning_rate=x))(state, jnp.float32(0.125))
    assert js.hyperparams(step(traced))["learning_rate"] == 0.125


def test_before_the_first_update_an_override_is_recorded():
    tx = js.inject(optax.sgd, learning_rate=RATE, momentum=0.5)
    state = jax.jit(lambda s: js.override(s, learning_rate=0.25))(tx.init(PARAMS))
    assert js.hyperparams(state) == {"learning_rate": 0.25, "momentum": 0.5}
    _, used = tx.update(PARAMS, state, PARAMS)
    testing.assert_same(js.hyperparams(used), js.hyperparams(state))
    later = js.hyperparams(js.override(used, learning_rate=0.75))
    assert later["learning_rate"] == 0.25, "what was used, not what will be"


def test_an_override_of_stacked_states():
    tx = js.scale_by_learning_rate(RATE)
    states = jax.vmap(lambda _: tx.init({}))(jnp.arange(3))
    for value in (0.25, jnp.array([0.25, 0.5, 1.0])):
        used = js.hyperparams(js.override(states, learning_rate=value))["learning_rate"]
        np.testing.assert_array_equal(used, jnp.broadcast_to(value, 3))
    with pytest.raises(ValueError, match=r"a number or have shape \(3,\)"):
        js.override(states, learning_rate=jnp.ones(2))


def test_the_factors_are_readable_by_name():
    rate = js.until(RATE, RATE) * plateau()
    tx = optax.chain(js.inject(optax.sgd, learning_rate=rate, momentum=0.5), js.scale_by_plateau())
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=3.0)
    found = js.factors(state)
    assert set(found) == {"learning_rate", "momentum", "scale"} and found["momentum"] == ()
    assert not found["learning_rate"][0].begun
    assert found["learning_rate"][1].best == 3.0 == found["scale"][0].best


def test_any_name_is_a_hyperparameter():
    def sgd(learning_rate, remedy):
        return optax.sgd(learning_rate * remedy)

    tx = js.inject(sgd, learning_rate=1.0, remedy=0.5)
    _, state = tx.update(PARAMS, js.override(tx.init(PARAMS), remedy=0.25), PARAMS)
    assert js.hyperparams(state)["remedy"] == 0.25


def test_set_step_leaves_adams_count_alone():
    tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(RATE))
    state = js.set_step(tx.init(PARAMS), 5)
    assert state[0].count == 0 and js.step(state) == 5
    assert js.step(js.set_step(state, 2**40)) == 2**31 - 1
    assert jax.jit(js.step)(jax.jit(js.set_step)(state, jnp.int32(7))) == 7


def test_clocks_that_disagree():
    a, b = js.scale_by_schedule(RATE), js.wrap(optax.sgd(0.1), RATE, name="other")
    tx = optax.chain(a, b)
    state = tx.init(PARAMS)
    state = (js.set_step(state[0], 3), state[1])
    with pytest.raises(ValueError, match="disagree") as error:
        js.step(state)
    assert "0: 3, 1: 0" in str(error.value)
    assert jax.jit(js.step)(state) == 3
    assert js.step(js.set_step(state, 4)) == 4


def test_a_stacked_state():
    tx = js.scale_by_learning_rate(RATE * plateau())
    states = jax.vmap(lambda _: tx.init(PARAMS))(jnp.arange(4))
    states = jax.vmap(lambda s, v: js.observe(s, value=v))(states, jnp.arange(4.0))
    _, states = jax.vmap(lambda s: tx.update(PARAMS, s))(states)
    np.testing.assert_array_equal(js.step(states), [1, 1, 1, 1])
    np.testing.assert_array_equal(js.factors(states)["learning_rate"][0].best, jnp.arange(4.0))
    np.testing.assert_array_equal(js.hyperparams(states)["learning_rate"], np.ones(4))


def test_same_names_get_labels():
    both = optax.chain(js.scale_by_schedule(RATE), js.scale_by_schedule(0.5))
    assert set(js.hyperparams(both.init(PARAMS))) == {"0/scale", "1/scale"}
    state = js.override(both.init(PARAMS), **{"1/scale": 0.25})
    _, state = both.update(PARAMS, state)
    assert js.hyperparams(state) == {"0/scale": 1.0, "1/scale": 0.25}


def test_names_that_are_not_there():
    tx = js.inject(optax.sgd, learning_rate=RATE * plateau(metric="loss"), momentum=0.5)
    state = tx.init(PARAMS)
    plain = optax.adam(0.1).init(PARAMS)
    for call, said in (
        (lambda: js.hyperparams(plain), ["hyperparams", "no jaxsched transform", "inject(...)"]),
        (lambda: js.step(plain), ["step", "no jaxsched transform"]),
        (lambda: js.set_step(plain, 3), ["set_step", "no jaxsched transform"]),
        (lambda: js.set_step(state, -3), ["set_step", "k=-3"]),
        (lambda: js.set_step(state, 1.5), ["set_step", "k=1.5"]),
        (lambda: js.observe(state, value=1.0), ["observe", "value=", "Names in use: loss"]),
        (lambda: js.observe(plain, value=1.0), ["observe", "The state has no rule"]),
        (lambda: js.observe(state, loss=jnp.ones(2)), ["scalar", "loss", "(2,)"]),
        (lambda: js.override(state, lr=0.1), ["override", "lr=", "learning_rate, momentum"]),
        (lambda: js.override(state, learning_rate="x"), ["override", "learning_rate='x'"]),
        (lambda: js.override(state, learning_rate=float("nan")), ["override", "learning_rate=nan"]),
        (
            lambda: js.override(state, learning_rate=jnp.ones(2)),
            ["override", "must be a number", "got learning_rate=Array([1., 1.]"],
        ),
        (lambda: js.retune(state, momentum=RATE), ["retune", "momentum", "tunable"]),
        (lambda: js.retune(state, lr=RATE), ["retune", "lr=", "learning_rate, momentum"]),
        (lambda: js.trigger(state), ["trigger", "until"]),
    ):
        with pytest.raises(ValueError, match=said[0]) as error:
            call()
        for words in said:
            assert words in str(error.value), str(error.value)


class TestGraft:
    def trained(self, rate, steps=4):
        tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(rate))
        state = tx.init(PARAMS)
        for i in range(steps):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(PARAMS, state, PARAMS, value=jnp.float32(i))
        return tx, state

    def test_a_factor_more(self, caplog):
        _, old = self.trained(RATE)
        tx, _ = self.trained(RATE * plateau(), 0)
        with caplog.at_level(logging.WARNING, "jaxsched"):
            new = js.graft(tx.init(PARAMS), old)
        assert "missing in the old state: PlateauState of learning_rate" in caplog.text
        assert js.step(new) == 4
        testing.assert_same(new[0], old[0])
        assert js.factors(new)["learning_rate"][0].judged == 0

    def test_a_factor_moved(self):
        _, old = self.trained(RATE * plateau())
        tx, _ = self.trained(js.until(RATE, RATE) * plateau(), 0)
        new = js.graft(tx.init(PARAMS), old)
        testing.assert_same(
            new[1].factors["learning_rate_factors"][1], old[1].factors["learning_rate_factors"][0]
        )

    def test_a_factor_less_and_plain_dicts(self, caplog):
        _, old = self.trained(RATE * plateau())
        tx, _ = self.trained(RATE, 0)

        def raw(x):
            if isinstance(x, dict):
                return {k: raw(v) for k, v in x.items()}
            if hasattr(x, "_fields"):
                return {k: raw(getattr(x, k)) for k in x._fields}
            return [raw(v) for v in x] if isinstance(x, (tuple, list)) else np.asarray(x)

        with caplog.at_level(logging.WARNING, "jaxsched"):
            new = js.graft(tx.init(PARAMS), raw(old))
        assert "unused parts of the old state" in caplog.text and "best" in caplog.text
        assert js.step(new) == 4
        jax.tree.map(np.testing.assert_array_equal, new[0], old[0])

    def injected(self, **slots):
        def adam(learning_rate, b1=0.9, eps=1e-8):
            return optax.adam(learning_rate, b1=b1, eps=eps)

        return js.inject(adam, **slots)

    def test_a_hyperparameter_more_or_less(self, caplog):
        rate = 0.1 * plateau(patience=5)
        one = self.injected(learning_rate=rate)
        two = self.injected(learning_rate=rate, b1=js.linear(0.8, 0.9, 9))
        with jax.numpy_dtype_promotion("standard"), caplog.at_level(logging.WARNING, "jaxsched"):
            for before, after, said in (
                (one, two, "missing in the old state: b1"),
                (two, one, "unused parts of the old state: b1"),
            ):
                old = js.override(before.init(PARAMS), learning_rate=0.25)
                for value in (1.0, 2.0, 3.0):
                    _, old = before.update(PARAMS, old, PARAMS, value=value)
                state = js.graft(after.init(PARAMS), old)
                testing.assert_same(
                    js.factors(state)["learning_rate"], js.factors(old)["learning_rate"]
                )
                testing.assert_same(state.inner_state, old.inner_state)
                assert js.step(state) == 3 and said in caplog.messages[-1]
                assert len(caplog.messages) == 1, "and nothing else"
                caplog.clear()
                _, state = after.update(PARAMS, state, PARAMS, value=4.0)
                assert js.hyperparams(state)["learning_rate"] == 0.25
                assert js.factors(state)["learning_rate"][0].bad == 3

    def heard(self, state):
        names = [name for name, x in js.factors(state).items() if x]
        mails = [float(mail.total) for mail in all_of(Mail, state)]
        return dict(zip(names, mails, strict=True))

    def test_clocks_that_changed_are_told_apart_by_their_labels(self):
        params = {"w": jnp.ones(3), "b": jnp.ones(3)}

        def each(**slots):
            rate = 1.0 * plateau()
            parts = {k: self.injected(learning_rate=rate, **slots) for k in params}
            return optax.partition(parts, {k: k for k in params}).init(params)

        old = js.set_step(each(), 7)
        for name, value in (("w", 3.0), ("b", 5.0)):
            old.inner_states[name] = js.observe(old.inner_states[name], value=value)
        state = js.graft(each(b1=0.5), old)
        assert self.heard(state) == {"b/learning_rate": 5.0, "w/learning_rate": 3.0}
        assert js.step(state) == 7

    def test_a_changed_clock_is_the_nearest_if_that_is_one(self):
        rate = 1.0 * plateau()
        b1, eps, both = (
            self.injected(learning_rate=rate, **slots)
            for slots in ({"b1": 0.5}, {"eps": 0.1}, {"b1": 0.5, "eps": 0.1})
        )

        def old(*transforms):
            return js.observe(js.set_step(optax.chain(*transforms).init(PARAMS), 7), value=3.0)

        new = self.injected(learning_rate=rate).init(PARAMS)
        with pytest.raises(ValueError, match="cannot match several records of ScaleByAdamState"):
            js.graft(new, old(b1, eps))
        state = jax.jit(js.graft)(new, old(b1, eps))
        assert self.heard(state) == {"learning_rate": 0.0} and js.step(state) == 7
        state = js.graft(b1.init(PARAMS), old(both, self.injected(learning_rate=1.0)))
        assert self.heard(state) == {"learning_rate": 3.0}

    def test_no_optimizer_gets_the_moments_of_another(self, caplog):
        adam = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(RATE))
        belief = optax.chain(optax.scale_by_belief(), js.scale_by_learning_rate(RATE))
        with jax.numpy_dtype_promotion("standard"):
            _, old = adam.update(PARAMS, adam.init(PARAMS), PARAMS)
        with caplog.at_level(logging.WARNING, "jaxsched"):
            state = js.graft(belief.init(PARAMS), old)
        testing.assert_same(state[0], belief.init(PARAMS)[0])
        assert js.step(state) == 1
        assert "missing in the old state: ScaleByBeliefState" in caplog.text
        assert "unused parts of the old state: ScaleByAdamState" in caplog.text

    def test_a_plateau_that_begins_or_ceases_to_smooth(self, caplog):
        plain, smooth = (js.scale_by_plateau(**FAST, **x) for x in ({}, {"ema_decay": 0.5}))
        for before, after in ((plain, smooth), (smooth, plain)):
            _, old = before.update({}, before.init({}), value=1.0)
            _, old = before.update({}, old, value=2.0)
            with caplog.at_level(logging.WARNING, "jaxsched"):
                (factor,) = js.factors(js.graft(after.init({}), old))["scale"]
            assert factor.scale == 0.5 and factor.best == 1.0
        assert caplog.messages == ["graft: missing in the old state: SmoothingState of scale"]

    def test_a_rule_that_has_learnt_to_count_more(self, caplog):
        tx, old = self.trained(RATE * plateau())
        (heard,) = old[1].factors["learning_rate_factors"]
        state = heard.memory
        assert state.scale < 1
        fewer = collections.namedtuple("PlateauState", [f for f in state._fields if f != "cuts"])
        then = fewer(**{name: getattr(state, name) for name in fewer._fields})
        old = (
            old[0],
            record(old[1])._replace(
                factors={"learning_rate_factors": (heard._replace(memory=then),)}
            ),
        )
        with caplog.at_level(logging.WARNING, "jaxsched"):
            new = js.graft(tx.init(PARAMS), old)
        assert "missing in the old state: cuts of PlateauState of learning_rate" in caplog.text
        (state,) = js.factors(new)["learning_rate"]
        assert (state.scale, state.bad, state.cuts) == (then.scale, then.bad, 0)

    def test_each_tunable_gets_its_own_numbers(self):
        line, constant = js.tunable(RATE), js.tunable(js.constant(1.0))
        old = js.scale_by_learning_rate(line * constant).init({})
        old = js.retune(old, learning_rate=js.constant(0.25))
        state = js.graft(js.scale_by_learning_rate(constant * line).init({}), old)
        assert js.factors(state)["learning_rate"][0].numbers["Constant.value"] == 0.25

    def test_nothing_changed_says_nothing(self, caplog):
        tx, old = self.trained(RATE * plateau())
        with caplog.at_level(logging.WARNING, "jaxsched"):
            testing.assert_same(js.graft(tx.init(PARAMS), old), old)
        assert caplog.text == ""

    @pytest.mark.parametrize("around", ["before", "MultiSteps", "apply_if_finite", "wrap"])
    def test_another_transform_around_it(self, around):
        old = js.scale_by_learning_rate(RATE)
        new = {
            "before": optax.chain(optax.clip(1.0), optax.scale_by_adam(), old),
            "MultiSteps": optax.MultiSteps(old, 2),
            "apply_if_finite": optax.apply_if_finite(old, 3),
            "wrap": js.wrap(old, plateau()),
        }[around]
        assert js.step(js.graft(new.init(PARAMS), js.set_step(old.init(PARAMS), 50))) == 50

    def test_adam_gets_its_own_count_and_moments(self):
        _, old = self.trained(RATE)
        rate = js.scale_by_learning_rate(RATE)
        new = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), rate)
        grafted = js.graft(new.init(PARAMS), js.set_step(old, 9))
        testing.assert_same(grafted[1], old[0])
        assert js.step(grafted) == 9
        wider = {"w": jnp.ones(4)}
        other = js.graft(new.init(wider), old)
        assert other[1].count == 0, "a record that does not fit is not taken in part"
        assert js.step(other) == 4

    def test_checkpoints_of_flax(self):
        tx, old = self.trained(RATE * plateau())
        raw = flax.serialization.to_state_dict(old)
        testing.assert_same(js.graft(tx.init(PARAMS), raw), old)
        state = linen(tx).replace(opt_state=old, step=jnp.int32(4))
        raw = flax.serialization.to_state_dict(state)
        grafted = js.graft(linen(tx).replace(step=jnp.int32(0)), raw)
        assert js.step(grafted) == 4 == grafted.step
        testing.assert_same(grafted.opt_state, old)

    def test_a_plateau_never_gets_anothers_memory(self):
        accuracy = plateau(metric="accuracy", mode="max")
        both = js.scale_by_learning_rate(0.1 * plateau() * accuracy)
        _, old = both.update({}, both.init({}), value=7.0, accuracy=0.5)
        one = js.scale_by_learning_rate(0.1 * accuracy)
        state = js.graft(one.init({}), old)
        for value in (0.6, 0.7, 0.8):
            _, state = one.update({}, state, accuracy=value)
        assert js.hyperparams(state)["learning_rate"] == np.float32(0.1)

    def test_across_x64(self):
        tx = js.scale_by_learning_rate(0.1 * plateau(patience=2))
        _, old = tx.update({}, tx.init({}), value=5.0)
        with jax.enable_x64(True):
            state = js.graft(tx.init({}), old)
            for value in (4.0, 3.0, 2.0, 1.0):
                _, state = tx.update({}, state, value=value)
            assert js.hyperparams(state)["learning_rate"] == 0.1
            assert js.factors(state)["learning_rate"][0].best.dtype == jnp.float64

    def test_nothing_in_common_is_an_error(self):
        tx, _ = self.trained(RATE, 0)
        with pytest.raises(ValueError, match="found nothing to take"):
            js.graft(tx.init(PARAMS), None)

    def test_buffers_are_fresh(self):
        tx, old = self.trained(RATE * plateau())
        new = js.graft(tx.init(PARAMS), old)
        pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((new, old))]
        assert len(pointers) == len(set(pointers))

    def test_an_nnx_optimizer(self):
        def made():
            return nnx.Optimizer(
                Model(), js.scale_by_learning_rate(RATE * plateau()), wrt=nnx.Param
            )

        old = js.observe(js.set_step(made(), 5), value=3.0)
        new = made()
        assert js.graft(new, old) is new
        assert js.step(new) == 5

    def test_jitted(self):
        tx, old = self.trained(RATE * plateau())
        testing.assert_same(jax.jit(js.graft)(tx.init(PARAMS), old), old)


def everything():
    rate = js.until(RATE, js.linear(0.5, 0.0, 5)) * plateau() * js.tunable(js.constant(1.0))
    return {
        "schedule": js.scale_by_learning_rate(RATE),
        "plateau": js.wrap(
            optax.sgd(0.1, momentum=0.9), plateau(accumulation_size=2, ema_decay=0.5)
        ),
        "everything": optax.chain(optax.scale_by_rms(), js.scale_by_learning_rate(rate.clip(1e-3))),
        "inject": js.inject(optax.sgd, learning_rate=RATE * plateau(), momentum=0.5),
        "accumulated": optax.MultiSteps(js.scale_by_learning_rate(RATE * plateau()), 2),
    }


@pytest.mark.parametrize("name", everything())
@pytest.mark.filterwarnings("default")
def test_fifty_saved_restored_and_fifty_is_a_hundred(name, tmp_path):
    import orbax.checkpoint as ocp

    tx = everything()[name]

    @jax.jit
    def step(params, state, t):
        state = js.observe(state, value=1 + jnp.sin(t / 7)) if name != "schedule" else state
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    def train(params, state, first, last):
        with jax.numpy_dtype_promotion("standard"):
            for t in range(first, last):
                if name == "everything" and t in (30, 70):
                    state = js.retune(js.trigger(state), learning_rate=js.constant(0.5))
                params, state = step(params, state, jnp.float32(t))
        return params, state

    whole = train(PARAMS, tx.init(PARAMS), 0, 100)
    half = train(PARAMS, tx.init(PARAMS), 0, 50)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", half)
        checkpointer.wait_until_finished()
        target = jax.tree.map(jnp.zeros_like, (PARAMS, tx.init(PARAMS)))
        restored = checkpointer.restore(tmp_path / "half", target)
    testing.assert_same(restored, half)
    testing.assert_same(train(*restored, 50, 100), whole)
    testing.assert_same(train(*pickle.loads(pickle.dumps(half)), 50, 100), whole)


def test_a_restored_run_follows_the_code_that_restored_it():
    tx = js.scale_by_learning_rate(RATE * plateau(factor=0.5))
    _, state = tx.update(PARAMS, tx.init(PARAMS), value=1.0)
    other = js.scale_by_learning_rate(js.constant(8.0) * plateau(factor=0.25, patience=1))
    _, state = other.update(PARAMS, state, value=2.0)
    assert js.hyperparams(state)["learning_rate"] == 2.0


def test_trainable():
    schedule = (js.linear(0.0, 1.0, 4) >> js.cosine(1.0, 0.0, 3 * 10**9)) * 0.5 + 0.25
    numbers, rebuild = js.trainable(schedule)
    assert all(x.dtype == jnp.float32 for x in numbers.values()) and len(numbers) == 6
    assert not any("steps" in name for name in numbers)
    testing.assert_same(rebuild(numbers)(jnp.arange(9)), schedule(jnp.arange(9)))
    target = js.cosine(0.3, 0.1, 20)(jnp.arange(20))
    numbers, rebuild = js.trainable(js.piecewise_linear([0.2] * 5, [0, 5, 10, 15, 20]))

    def loss(numbers):
        return jnp.mean((rebuild(numbers)(jnp.arange(20)) - target) ** 2)

    name = "PiecewiseLinear.values"
    assert list(numbers) == [name]
    for _ in range(200):
        slope = jax.grad(loss)(numbers)
        numbers = {name: numbers[name] - 2.0 * slope[name]}
    assert loss(numbers) < 1e-5
    with pytest.raises(ValueError, match="trainable"):
        js.trainable(0.1)
    _, rebuild = js.trainable(js.linear(1.0, 0.0, 4))
    assert rebuild({"Linear.init_value": 0.5})(0) == 0.5
    with pytest.raises(ValueError, match="no place") as error:
        rebuild({"Linear.inti_value": 0.5})
    assert "'Linear.inti_value'. Places: Linear.init_value, Linear." in str(error.value)


@pytest.mark.parametrize(
    "schedule",
    [
        js.constant(1.0).hold(2**40),
        js.linear(1.0, 0.0, 2**40),
        js.linear(1.0, 0.0, 9).shift(2**40),
        js.linear(1.0, 0.0, 9).cycle(cycles=2**40),
        js.exponential_decay(1.0, decay_rate=0.5, decay_steps=2**40),
    ],
    ids=str,
)
def test_a_length_beyond_the_clock_is_a_length_still(schedule):
    numbers, _ = js.trainable(schedule)
    assert all(x <= 1 for x in numbers.values()), numbers
    kept = js.tunable(schedule).init()[0].numbers
    assert sum(x.dtype == jnp.int32 for x in kept.values()) == len(kept) - len(numbers)


def test_trigger_when():
    tx = js.scale_by_learning_rate(js.until(js.constant(1.0), js.constant(0.5)))
    state = tx.init({})

    @jax.jit
    def step(state, now):
        return tx.update({}, js.trigger(state, now))[1]

    rates = []
    for now in (False, True, False):
        state = step(state, now)
        rates.append(float(js.hyperparams(state)["learning_rate"]))
    assert rates == [1.0, 0.5, 0.5], "once is for ever"
    stacked = jax.vmap(js.trigger)(
        jax.vmap(lambda _: tx.init({}))(jnp.arange(2)), jnp.arange(2) > 0
    )
    assert js.factors(stacked)["learning_rate"][0].triggered.tolist() == [False, True]
    with pytest.raises(
        ValueError, match=r"trigger\(when=\.\.\.\)` must be True or False, got when=1"
    ):
        js.trigger(state, 1)


@pytest.mark.parametrize("when", ["yes", None, {}, 0.5, np.ones(2, bool)])
def test_trigger_takes_a_bool(when):
    state = js.scale_by_learning_rate(js.until(js.constant(1.0), js.constant(0.5))).init({})
    with pytest.raises(ValueError, match=r"trigger\(when=\.\.\.\)` must be True or False"):
        js.trigger(state, when)
