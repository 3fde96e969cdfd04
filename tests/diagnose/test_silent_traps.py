"""What trains without an error and trains badly: each is refused, counted or said."""

import pathlib
import sysconfig
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._core._trees import all_of
from jaxsched._rules._mailbox import Mail

PARAMS = {"w": jnp.ones(3)}
LINE = js.linear(0.1, 0.0, 10)
LIBRARY = pathlib.Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(autouse=True)
def _as_users_have_it():
    """Adam adds floats to its integer count, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def descend(tx, steps=40, start=4.0, **given):
    """A parabola by an optimizer; the loss is given to the update."""

    def step(carry, _):
        x, state = carry
        loss, gradient = jax.value_and_grad(lambda x: 0.5 * jnp.sum(x**2))(x)
        updates, state = tx.update(gradient, state, x, value=loss, **given)
        return (optax.apply_updates(x, updates), state), loss

    x = jnp.full(3, start)
    (_, state), losses = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps))(x)
    return state, losses


class TestOneMetricByTwoWays:
    """The training loss by `update`, the validation loss by `observe`, under one name."""

    tx = optax.chain(
        js.monitor(), js.inject(optax.sgd, learning_rate=0.1 * js.reduce_on_plateau(patience=2))
    )

    def test_it_is_warned_of_outside_jit(self):
        state = js.observe(self.tx.init(PARAMS), value=1.0)
        with pytest.warns(UserWarning, match=r"`value` was given to .* and to .*metric="):
            self.tx.update(PARAMS, state, PARAMS, value=2.0)

    def test_it_is_counted_and_said(self):
        update, state = jax.jit(self.tx.update), self.tx.init(PARAMS)
        for step in range(20):
            state = js.observe(state, value=1.0 - 0.01 * step)
            _, state = update(PARAMS, state, PARAMS, value=2.0 + step % 3)
        assert js.events(state)["mixed"] == 40  # in two mailboxes
        assert "mixed: in 40 updates" in str(js.diagnose(state))
        assert js.diagnose(state).verdict == "mixed"

    def test_names_of_their_own_are_not_mixed(self):
        rate = 0.1 * js.reduce_on_plateau(patience=2, metric="validation")
        tx = optax.chain(js.monitor(), js.inject(optax.sgd, learning_rate=rate))
        state = tx.init(PARAMS)
        for step in range(20):
            state = js.observe(state, validation=1.0 - 0.01 * step)
            _, state = tx.update(PARAMS, state, PARAMS, value=2.0 + step % 3)
        assert js.events(state) == {"cuts": 0, "mixed": 0}
        assert "mixed" not in str(js.diagnose(state))

    def test_one_way_is_not_mixed(self):
        state = self.tx.init(PARAMS)
        for value in (1.0, 2.0):
            _, state = self.tx.update(PARAMS, state, PARAMS, value=value)
            _, state = self.tx.update(PARAMS, js.observe(state, value=value), PARAMS)
        assert js.events(state) == {"cuts": 1, "mixed": 0}

    @pytest.mark.parametrize("guard", [js.skip_spikes, js.keep_best])
    def test_guards_count_too(self, guard):
        name = "value" if guard is js.keep_best else "gradient_norm"
        tx = guard(optax.sgd(0.1))
        state = js.observe(tx.init(PARAMS), **{name: 1.0})
        _, state = jax.jit(tx.update)(PARAMS, state, PARAMS, **{name: 1.0})
        assert js.events(state)["mixed"] == 1


class TestUphill:
    """A chain that turns the sign twice."""

    @pytest.mark.parametrize(
        "link",
        [
            js.scale_by_learning_rate(1.0),
            js.scale_by_learning_rate(LINE),
            js.per_group("all", {"all": 1.0}),
        ],
    )
    @pytest.mark.parametrize("optimizer", [optax.adam(1e-2), optax.sgd(1e-2)])
    def test_it_is_said_after_a_few_updates(self, link, optimizer):
        state, _ = descend(optax.chain(js.monitor(), optimizer, link), steps=10)
        found = js.diagnose(state)
        assert found.verdict == "uphill" and "wrap(optax.adam(1e-3), factor)" in str(found)

    @pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.5])
    def test_downhill_is_not_accused(self, rate):
        for optimizer in (optax.adam(rate), optax.sgd(rate), optax.sgd(rate, momentum=0.9)):
            state, _ = descend(optax.chain(js.monitor(), optimizer), steps=60)
            found = js.diagnose(state)
            assert found.uphill == 0 and found.evidence.climb < 0

    def test_what_is_named_as_the_remedy_is_one(self):
        tx = optax.chain(js.monitor(), js.wrap(optax.adam(1e-2), LINE))
        assert js.diagnose(descend(tx)[0]).uphill == 0

    def test_gradients_of_bfloat16_have_a_direction(self):
        tx = optax.chain(js.monitor(), optax.sgd(0.1))
        params = jnp.full(64, 4.0, jnp.bfloat16)
        state = tx.init(params)
        for _ in range(12):
            updates, state = tx.update(params, state, params, value=jnp.float32(1.0))
            params = optax.apply_updates(params, updates)
        assert js.diagnose(state).evidence.climb == -1


class TestNoRate:
    @pytest.mark.parametrize(
        "rate",
        [
            js.reduce_on_plateau(),
            js.greedy(),
            js.reduce_when_flat().clip(0.1),
            js.reduce_on_plateau() * js.spike_guard(),
            js.feedback(lambda state, _: state, 1.0),
        ],
    )
    def test_a_rule_alone_is_refused(self, rate):
        for make in (
            lambda: js.inject(optax.adam, learning_rate=rate),
            lambda: js.scale_by_learning_rate(rate),
            lambda: js.per_group("all", {"all": rate}),
        ):
            with pytest.raises(ValueError, match=r"a rule alone is a factor .* `1e-3 \* "):
                make()

    @pytest.mark.parametrize(
        "rate",
        [
            1e-3 * js.reduce_on_plateau(),
            1.0 * js.reduce_on_plateau(),
            LINE * js.greedy(),
            js.until(js.constant(1.0), js.constant(0.1)),
            js.tunable(js.constant(1.0)),
            js.feedback(lambda state, _: state, 1e-3),
        ],
    )
    def test_what_has_a_number_is_a_rate(self, rate):
        js.inject(optax.adam, learning_rate=rate)
        js.scale_by_learning_rate(rate)

    def test_other_hyperparameters_and_factors_may_be_rules(self):
        js.wrap(optax.adam(1e-3), js.reduce_on_plateau())
        js.scale_by_schedule(js.reduce_on_plateau())
        js.inject(optax.adamw, learning_rate=1e-3, weight_decay=js.reduce_on_plateau())

    @pytest.mark.parametrize(
        "rate",
        [
            -0.1,
            -LINE,
            js.linear(0.1, -0.01, 10),
            js.linear(-0.1, 0.1, 10) * js.greedy(),
            js.constant(0.1) - 0.2,
            optax.linear_schedule(-0.1, 0.0, 4),
        ],
    )
    def test_a_negative_one_is_refused(self, rate):
        for make in (
            lambda: js.inject(optax.sgd, learning_rate=rate),
            lambda: js.scale_by_learning_rate(rate),
            lambda: js.per_group("all", {"all": rate}),
        ):
            with pytest.raises(ValueError, match=r"must not be negative, but it reaches -0\.\d+"):
                make()

    def test_a_sign_of_ones_own_may_be_negative(self):
        js.scale_by_learning_rate(-0.1, flip_sign=False)
        js.scale_by_schedule(-LINE)
        jax.jit(lambda x: js.inject(optax.sgd, learning_rate=x).init(PARAMS))(-0.1)

    def test_a_function_that_closes_over_a_traced_number_is_not_asked(self):
        def started(peak):
            rate = js.from_function(lambda t: peak / (1.0 + t))
            return js.hyperparams(js.scale_by_learning_rate(rate).init(PARAMS))["learning_rate"]

        np.testing.assert_allclose(jax.vmap(started)(jnp.array([0.1, 0.2])), [0.1, 0.2])

    def test_a_late_step_of_somebody_elses_function_is_not_asked_for(self):
        asked = []

        def rate(t):
            jax.debug.callback(lambda t: asked.append(int(t)), t)
            return 0.1

        js.inject(optax.sgd, learning_rate=js.from_function(rate).take(2**30))
        jax.effects_barrier()
        assert set(asked) == {0}


class TestTwoBaseRates:
    torch = js.compat.torch

    def test_they_are_refused(self):
        falling = self.torch.CosineAnnealingLR(0.1, 10)
        plateau = self.torch.ReduceLROnPlateau(0.1)
        for multiply in (
            lambda: falling * plateau,
            lambda: plateau * falling,
            lambda: falling * self.torch.StepLR(0.1, 3),
            lambda: js.compat.transformers.get_constant_schedule(0.1) * plateau,
            lambda: js.compat.timm.StepLRScheduler(0.1, 2) * js.compat.keras.ReduceLROnPlateau(0.1),
        ):
            with pytest.raises(ValueError, match=r"two learning rates, 0.1 and 0.1\. .*1\.0"):
                multiply()

    def test_a_factor_is_none(self):
        rate = self.torch.CosineAnnealingLR(0.1, 10) * self.torch.ReduceLROnPlateau(1.0)
        assert js.hyperparams(js.scale_by_learning_rate(rate).init(PARAMS))[
            "learning_rate"
        ] == np.float32(0.1)
        js.linear(0.0, 1.0, 5) * self.torch.ReduceLROnPlateau(0.1)
        2 * self.torch.ReduceLROnPlateau(0.1)

    def test_a_floor_is_under_the_product(self):
        plateau = self.torch.ReduceLROnPlateau(1.0, min_lr=1e-3)
        with pytest.raises(ValueError, match=r"floor min_lr=0\.001\. .* `\(\.\.\.\)\.clip\(0.001"):
            LINE * plateau


class TestNothingIsHeard:
    tx = optax.chain(
        js.monitor(metric="loss"),
        js.inject(optax.sgd, learning_rate=0.1 * js.reduce_on_plateau(metric="accuracy")),
    )

    def run(self, **given):
        update, state = jax.jit(self.tx.update), self.tx.init(PARAMS)
        for _ in range(130):
            _, state = update(PARAMS, state, PARAMS, loss=1.0, **given)
        return state

    def test_it_is_counted_and_said(self):
        state = self.run()
        mail = all_of(Mail, state)[-1]
        assert mail.heard == 0 and mail.silent == 130
        found = js.diagnose(state)
        assert found.unheard["accuracy"] == 130
        assert "waited 130 updates for the metric `accuracy`" in str(found)
        assert "state = observe(state, accuracy=x)" in str(found)
        assert found.verdict == "unheard"

    def test_what_observe_returned_was_thrown_away(self):
        update, state = jax.jit(self.tx.update), self.tx.init(PARAMS)
        for _ in range(130):
            js.observe(state, accuracy=0.5)
            _, state = update(PARAMS, state, PARAMS, loss=1.0)
        assert "has received none" in str(js.diagnose(state))

    def test_one_that_is_heard_is_not_said(self):
        assert "unheard" not in str(js.diagnose(self.run(accuracy=0.5)))

    def test_the_norm_of_the_gradients_comes_by_itself(self):
        rule = js.spike_guard(metric="gradient_norm")
        tx = optax.chain(js.monitor(), js.inject(optax.sgd, learning_rate=0.1 * rule))
        state = tx.init(PARAMS)
        for _ in range(2):
            _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
        assert js.diagnose(state).unheard == {}

    def test_none_is_no_metric(self):
        with pytest.raises(ValueError, match=r"`observe\(accuracy=...\)` must be a number.*Leave"):
            js.observe(self.tx.init(PARAMS), accuracy=None)

    def test_a_name_that_is_nearly_one_is_warned_of(self):
        update, state = jax.jit(self.tx.update), self.tx.init(PARAMS)
        for wrong, right in (("acuracy", "accuracy"), ("accuracies", "accuracy")):
            with pytest.warns(
                UserWarning, match=rf"listens to `{wrong}`, but one waits for `{right}`"
            ):
                update(PARAMS, state, PARAMS, **{wrong: 1.0})

    def test_a_keyword_of_another_transform_is_no_error(self):
        def read(updates, state, params=None, *, values, **_):
            return updates, values

        foreign = optax.GradientTransformationExtraArgs(lambda _: jnp.zeros(()), read)
        rate = js.scale_by_learning_rate(0.1 * js.reduce_on_plateau())
        tx = optax.chain(foreign, rate)
        state = js.observe(tx.init(PARAMS), value=1.0)
        with pytest.warns(UserWarning, match="no rule listens to `values`"):
            _, state = tx.update(PARAMS, state, PARAMS, values=jnp.asarray(3.0))
        assert state[0] == 3.0 and js.factors(state)["learning_rate"][0].best == 1.0

    def test_a_synonym_is_warned_of(self):
        tx = optax.chain(js.wrap(optax.sgd(0.1), js.reduce_on_plateau()), optax.identity())
        for update in (tx.update, jax.jit(tx.update)):
            with pytest.warns(UserWarning, match=r"no rule listens to `metrics`.*`value`") as said:
                update(PARAMS, tx.init(PARAMS), PARAMS, metrics=1.0)
            assert said[0].filename == __file__  # not a line of the packages in between

    def test_names_of_others_pass(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            state = self.tx.init(PARAMS)
            names = {"grad": PARAMS, "value_fn": jnp.sum, "obj_fn": jnp.sum, "batch": 3}
            self.tx.update(PARAMS, state, PARAMS, loss=1.0, accuracy=0.5, **names)


class TestTheNormBehindAPreconditioner:
    rate = 0.1 * js.spike_guard(metric="gradient_norm", window_size=4)

    @pytest.mark.parametrize(
        "link",
        [
            js.scale_by_learning_rate(rate),
            js.per_group("all", {"all": rate}),
            js.scale_by_plateau(metric="gradient_norm"),
        ],
    )
    def test_the_last_link_asks_for_it(self, link):
        tx = optax.chain(optax.scale_by_adam(), link)
        with pytest.raises(ValueError, match=r"with_gradient_norm\(optax.chain"):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS)

    def test_it_is_that_of_the_gradients_around_the_chain(self):
        tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(self.rate))
        tx = js.with_gradient_norm(tx)
        state = tx.init(PARAMS)
        for size in (1.0, 10.0):
            gradients = {"w": jnp.full(3, size)}
            _, state = jax.jit(tx.update)(gradients, state, PARAMS)
        (guard,) = js.factors(state)["learning_rate"]
        np.testing.assert_allclose(guard.window.values[:2], np.sqrt(3) * np.array([1.0, 10.0]))

    def test_a_norm_that_is_given_is_kept(self):
        tx = js.with_gradient_norm(js.scale_by_learning_rate(self.rate))
        _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS, gradient_norm=7.0)
        assert js.factors(state)["learning_rate"][0].window.values[0] == 7

    def test_it_needs_an_optimizer(self):
        with pytest.raises(ValueError, match="with_gradient_norm"):
            js.with_gradient_norm(self.rate)


class TestStoppingEarly:
    def losses(self, tx, losses, **more):
        update, state, seen = jax.jit(tx.update), tx.init(PARAMS), []
        for loss in losses:
            _, state = update(PARAMS, state, PARAMS, value=loss)
            seen.append(bool(js.exhausted(state)))
        return state, seen

    def test_a_plateau_at_its_floor_that_would_cut_again(self):
        rule = js.reduce_on_plateau(patience=2, factor=0.5, min_scale=0.5)
        _, seen = self.losses(js.wrap(optax.sgd(0.1), rule), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
        # A cut to the floor at the third loss; at the fifth there is nothing left to cut.
        assert seen == [False, False, False, False, True, True, False]

    def test_every_one_has_to_be(self):
        fast = js.reduce_on_plateau(patience=1, min_scale=0.5)
        slow = js.reduce_on_plateau(patience=3, min_scale=0.5)
        _, seen = self.losses(js.wrap(optax.sgd(0.1), fast * slow), [1.0] * 8)
        assert seen.index(True) == 6

    def test_of_torch_too(self):
        rule = js.compat.torch.ReduceLROnPlateau(0.1, patience=0, min_lr=0.05)
        _, seen = self.losses(js.scale_by_learning_rate(rule), [1.0] * 4)
        assert seen == [False, False, True, True]

    def test_without_a_floor_it_is_never_so(self):
        _, seen = self.losses(js.wrap(optax.sgd(0.1), js.reduce_on_plateau(patience=1)), [1.0] * 9)
        assert not any(seen)

    def test_of_one_that_tests_for_flatness(self):
        rule = js.reduce_when_flat(blocks=8, block_size=1, min_scale=0.1)
        rng = np.random.default_rng(0)
        _, seen = self.losses(js.wrap(optax.sgd(0.1), rule), 1 + 0.01 * rng.normal(size=200))
        assert seen[-1] and not seen[0]

    def test_a_state_without_a_plateau_says_so(self):
        state = js.scale_by_learning_rate(LINE).init(PARAMS)
        with pytest.raises(ValueError, match=r"`exhausted\(opt_state\)` finds no plateau"):
            js.exhausted(state)


class TestWarmup:
    def test_nothing_is_said_before_its_end(self):
        rate = js.linear(1e-5, 1e-3, 300) >> js.linear(1e-3, 0.0, 300)
        tx = optax.chain(js.monitor(), js.inject(optax.sgd, learning_rate=rate))
        state, _ = descend(tx, steps=250)
        found = js.diagnose(state)
        assert found.verdict == "too early" and "warming up" in str(found) and found.too_low == 0
        state, _ = descend(tx, steps=303)
        assert bool(js.diagnose(state).warm)

    def test_a_constant_rate_has_none(self):
        tx = optax.chain(js.monitor(), js.inject(optax.sgd, learning_rate=1e-4))
        assert js.diagnose(descend(tx, steps=400)[0]).verdict == "too low"


class TestNoOppositeRemedy:
    """A bigram model of the standard library, by Adam at rates that are far too high."""

    def diagnosed(self, rate):
        text = b"".join(p.read_bytes() for p in sorted(LIBRARY.glob("*.py"))[:20])
        data = np.frombuffer(text, np.uint8).astype(np.int32) % 128
        at = np.random.default_rng(0).integers(0, len(data) - 65, (300, 32))
        batches = jnp.asarray(data[at[..., None] + np.arange(65)])
        tx = optax.chain(js.monitor(), optax.adam(rate))

        def loss_of(params, batch):
            logits = params[batch[:, :-1]]
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

        def step(carry, batch):
            params, state = carry
            loss, gradient = jax.value_and_grad(loss_of)(params, batch)
            updates, state = tx.update(gradient, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        params = jnp.zeros((128, 128))
        (_, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, batches))((params, tx.init(params)))
        return js.diagnose(state)

    @pytest.mark.parametrize("rate", [0.1, 0.3, 1.0, 3.0, 10.0])
    def test_a_rate_that_is_too_high_is_not_to_be_raised(self, rate):
        found = self.diagnosed(rate)
        assert found.too_low < 0.5 and "raise the rate" not in str(found)
        assert found.stagnation == 0

    def test_one_that_is_too_low_is(self):
        assert self.diagnosed(1e-3).verdict == "too low"

    def test_a_first_batch_that_is_easy_is_not_the_unit(self):
        tx = optax.chain(js.monitor(), optax.sgd(0.0))
        update, state = jax.jit(tx.update), tx.init(PARAMS)
        for step in range(200):
            _, state = update(PARAMS, state, PARAMS, value=1.0 if step else 0.6)
        assert js.diagnose(state).too_high < 0.5  # the first loss alone makes it 1.67 times
