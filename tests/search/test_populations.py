"""A population: stacked, drawn, swept on one device and on many, halved, searched by Optuna."""

import contextlib
import functools
import gc
import re
import subprocess
import sys
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import launch
import numpy as np
import optax
import pytest
import sweeps
from jax.sharding import Mesh

import jaxsched as js
from jaxsched._search import _runs
from jaxsched._search._programs import as_tree
from jaxsched.testing import assert_same

SHAPES = [
    js.linear(1.0, 0.0, 10),
    js.cosine(1.0, 0.1, 20),
    js.linear(0.5, 0.0, 7).shift(-3),
    js.constant(0.3),
    js.piecewise_linear([1, 2, 3], [1, 4, 9]),
    js.table([1.0, 2.0]),
    js.table([1.0, 2.0, 3.0]),
    js.linear(0.0, 0.1, 5) >> js.cosine(0.1, 0.0, 10).cycle(mult=2),
    js.linear(1.0, 0.0, 2**40),
    js.linear(0.7, 0.2, 10),
    optax.linear_schedule(1.0, 0.0, 30),
]


def parabola(schedule):
    """The loss of ten steps down x**2 from 1."""
    step = lambda x, t: (x - schedule(t) * 2 * x, None)
    return jax.lax.scan(step, jnp.float32(1.0), jnp.arange(10))[0] ** 2


def noisy(schedule, key):
    """The same from a start of one's own, and the start."""
    start = 1 + jax.random.uniform(key)
    step = lambda x, t: (x - schedule(t) * 2 * x, None)
    return jax.lax.scan(step, start, jnp.arange(10))[0] ** 2, start


def compiled(function):
    """How many programs there are of it."""
    return _runs.jitted(as_tree(function))._cache_size()


RATES = js.grid(js.constant, value=[0.01, 0.1, 0.4, 1.5])


class TestStack:
    def test_every_shape_is_worth_what_it_is_alone(self):
        steps = jnp.arange(-2, 60)
        together = jax.jit(jax.vmap(lambda schedule: schedule(steps)))(js.stack(SHAPES))
        for schedule, values in zip(SHAPES, together, strict=True):
            alone = js.from_function(schedule)(steps)
            np.testing.assert_allclose(values, alone, rtol=1e-6, atol=1e-7)

    def test_a_member_is_found_again(self):
        cosines = js.grid(js.cosine, init_value=[0.1, 0.2], end_value=0.0, steps=[10, 20])
        stacked = js.stack(cosines)
        assert jax.tree.structure(stacked) == jax.tree.structure(cosines[0])
        assert [x.dtype for x in jax.tree.leaves(stacked)] == [jnp.float32, jnp.float32, jnp.int32]
        assert_same(
            jax.tree.map(lambda x: x[2].item(), stacked), js.cosine(np.float32(0.2), 0.0, 10)
        )

    def test_numbers_are_differentiated_one_by_one(self):
        stacked = js.stack(SHAPES[:4])
        floats, tree = jax.tree.flatten(stacked)
        where = [i for i, x in enumerate(floats) if jnp.issubdtype(x.dtype, jnp.floating)]

        def total(values):
            leaves = dict(enumerate(floats)) | dict(zip(where, values, strict=True))
            schedules = tree.unflatten([leaves[i] for i in range(len(floats))])
            return jax.vmap(lambda schedule: schedule(3))(schedules).sum()

        slopes = jax.grad(total)([floats[i] for i in where])
        # Each number moves its own member, and where it stands in for another, nothing.
        assert sum(np.count_nonzero(slope) for slope in slopes) == 7
        assert all(np.isfinite(slope).all() for slope in slopes)

    def test_under_x64_it_is_double(self, x64):
        assert jax.vmap(lambda s: s(1))(js.stack(SHAPES)).dtype == jnp.float64

    def test_a_length_is_one_whatever_it_is_held_in(self, x64):
        rule = js.reduce_on_plateau
        members = [js.constant(0.1) * rule(patience=n) for n in (5, jnp.int32(5))]
        assert jax.tree.structure(js.stack(members)) == jax.tree.structure(members[0])

    def test_keys_in_a_schedule(self):
        draw = lambda key, t: jax.random.uniform(jax.random.fold_in(key, t))
        noises = [
            js.from_function(jax.tree_util.Partial(draw, key))
            for key in jax.random.split(jax.random.key(0), 3)
        ]
        wanted = [noise(4).item() for noise in noises]
        assert js.sweep(lambda s: s(4), noises, mode="max").scores[:, 0].tolist() == wanted

    def test_a_clip_around_curves_of_two_shapes(self):
        rule = js.reduce_on_plateau(patience=1)
        curves = js.linear(1.0, 0.0, 4), js.constant(0.2)
        stacked = js.stack(
            [(a * rule).clip(low, 0.9) for a, low in zip(curves, (0.5, 0.1), strict=True)]
        )
        found = jax.vmap(lambda s: s(s.init(), step=3))(stacked)
        assert found.tolist() == [0.5, np.float32(0.2)]
        with pytest.raises(ValueError, match=r"members\[1\]"):
            js.stack([(curves[0] * rule).clip(0.5), (curves[1] * rule).clip(high=0.5)])

    def test_stacked_under_jit(self):
        several = jax.jit(lambda x: js.stack([js.constant(x), js.constant(2.0), SHAPES[0]]))(3.0)
        assert jax.vmap(lambda s: s(1))(several).tolist() == [3.0, 2.0, np.float32(0.9)]

    def test_rules_and_trees_of_schedules(self):
        rule = js.reduce_on_plateau
        members = [
            {"learning_rate": js.linear(0.1, 0.0, 9) * rule(patience=1), "momentum": 0.5},
            {"learning_rate": js.constant(0.1) * rule(patience=3, factor=0.5), "momentum": 0.9},
            {"learning_rate": 2.0 * js.constant(0.02) * rule(patience=2), "momentum": 0.0},
            {"learning_rate": rule(patience=2) * 0.3, "momentum": js.linear(0.9, 0.0, 4)},
        ]
        members = [
            {**x, "momentum": js.from_function(_as_schedule(x["momentum"]))} for x in members
        ]

        def rates(member):
            tx = js.inject(optax.sgd, **member)
            params = jnp.ones(2)

            def step(state, t):
                updates, state = tx.update(params, state, params, value=jnp.where(t > 6, 2.0, 1.0))
                return state, (updates, *js.hyperparams(state).values())

            return jax.lax.scan(step, tx.init(params), jnp.arange(12.0))[1]

        together = jax.vmap(rates)(js.stack(members))
        for i, member in enumerate(members):
            for x, alone in zip(together, rates(member), strict=True):
                np.testing.assert_allclose(x[i], alone, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ([], "not be empty"),
            (js.constant(1.0), "be a list"),
            ([js.constant(1.0), js.constant(1.0) * js.greedy()], r"constant\(1.0\)` has none"),
            ([js.reduce_on_plateau(), js.greedy()], "members\\[1\\]"),
            (
                [{"a": js.constant(1.0)}, {"b": js.constant(1.0)}],
                "members\\[1\\].*the same|same keys",
            ),
            ([js.constant(1.0), 0.1], "takes schedules"),
            ([1.0, "two"], "finite number"),
            ([{}, {}], "not be empty"),
            ([np.ones(2), np.ones(3)], "one shape"),
        ],
    )
    def test_what_is_not_alike_is_refused(self, members, said):
        with pytest.raises(ValueError, match=said) as error:
            js.stack(members)
        assert "stack" in str(error.value)


def _as_schedule(x):
    return js.constant(x) if isinstance(x, float) else x


class TestSpaces:
    def test_grid_is_the_product_in_order(self):
        found = js.grid(js.linear, init_value=(1.0, 2.0), end_value=np.zeros(1), steps=[3, 4])
        assert [str(x) for x in found] == [
            f"linear({a}, 0.0, {n})" for a in (1.0, 2.0) for n in (3, 4)
        ]

    def test_what_a_person_has_at_hand_is_a_value_or_a_list(self):
        found = js.grid(
            js.linear, init_value=jnp.float32(0.1), end_value=np.array(0.0), steps=range(3, 5)
        )
        assert [str(x) for x in found] == ["linear(0.1, 0.0, 3)", "linear(0.1, 0.0, 4)"]
        assert js.uniform(np.int64(1), jnp.int32(4)).whole
        draw = partial(js.random_search, js.constant, value=js.uniform(0.0, 1.0))
        assert [*map(str, draw(np.int64(3), 2))] == [*map(str, draw(3, 2))]

    def test_draws_are_in_range_and_even(self):
        drawn = js.random_search(
            lambda **x: x, 0, 2000,
            a=js.log_uniform(1e-4, 1.0), b=js.uniform(-1.0, 3.0), c=js.uniform(1, 4),
            d=js.log_uniform(1, 1000), e=["x", "y"], f=7,
        )  # fmt: skip
        a, b, c, d, e = (np.array([x[name] for x in drawn]) for name in "abcde")
        quantiles = np.quantile((np.log10(a) + 4) / 4, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quantiles, [0.25, 0.5, 0.75], atol=0.04)
        np.testing.assert_allclose(np.quantile(b, [0.25, 0.75]), [0.0, 2.0], atol=0.15)
        assert a.min() >= 1e-4 and a.max() <= 1 and b.min() >= -1 and b.max() <= 3
        np.testing.assert_allclose(np.bincount(c), [0, 500, 500, 500, 500], atol=80)
        assert d.dtype == int and d.min() == 1 and 500 < d.max() <= 1000
        assert 0.45 < (e == "x").mean() < 0.55 and all(x["f"] == 7 for x in drawn)

    def test_the_key_is_all_that_a_draw_depends_on(self):
        draw = partial(js.random_search, js.constant, value=js.uniform(0.0, 1.0))
        assert [str(x) for x in draw(3, 5)] == [str(x) for x in draw(jax.random.key(3), 9)][:5]
        assert str(draw(3, 5)) != str(draw(4, 5))

    def test_what_is_drawn_is_short_and_read_back(self):
        for schedule in js.random_search(js.constant, 0, 20, value=js.log_uniform(1e-5, 1.0)):
            assert len(str(schedule)) < 25
            assert_same(js.parse(str(schedule)), schedule)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (lambda: js.grid(js.constant, value=[]), "grid.*value.*empty"),
            (lambda: js.grid(js.constant, peak=[1.0]), "grid.*peak.*It takes value, steps"),
            (lambda: js.grid(js.linear, init_value=[1.0]), "grid.*end_value.*It takes"),
            (lambda: js.grid(3, value=[1.0]), "factory.*function"),
            (lambda: js.grid(js.constant, value=js.uniform(0.0, 1.0)), "random_search"),
            (lambda: js.random_search(js.constant, 0, 0, value=1.0), "n=0"),
            (lambda: js.random_search(js.constant, "a", 1, value=1.0), r"random_search\(key="),
            (lambda: js.random_search(js.constant, 2**70, 1, value=1.0), "64 bits"),
            (lambda: js.random_search(js.constant, 0, 2, value=[]), "empty"),
            (lambda: js.random_search(js.constant, 0, 2, value=(0.1, 1.0)), "value.*log_uniform"),
            (lambda: js.uniform(1.0, 1.0), "uniform.*empty"),
            (lambda: js.log_uniform(0.0, 1.0), "log_uniform.*positive.*uniform"),
            (lambda: js.log_uniform(1.0, 0.1), "empty"),
        ],
    )
    def test_wrong_calls(self, wrong, said):
        with pytest.raises(ValueError, match=said):
            wrong()


on_one_device = functools.cache(partial(sweeps.swept, devices=1))


class TestSweep:
    def test_the_best_arguments_are_those_of_the_best_member(self):
        members = js.grid(js.cosine, init_value=[0.1, 0.2], end_value=0.0, steps=[5, 9])
        found = js.Sweep(members, [[3.0], [2.0], [1.0], [np.nan]])
        assert found.best == js.cosine(0.2, 0.0, 5)
        assert found.best_arguments == {"init_value": 0.2, "end_value": 0.0, "steps": 5}
        lost = js.Sweep(members, np.full((4, 1), np.nan))
        for read in (lambda: lost.best, lambda: lost.best_arguments):
            with pytest.raises(ValueError, match="none of the 4 members has a finite score"):
                read()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (dict(mode="minimum"), "mode=...)` must be one of 'min', 'max', got mode='minimum'"),
            (
                dict(scores=[1.0, 2.0]),
                "scores=...)` must have a row for each of 2 members and a col",
            ),
            (
                dict(scores=[[1.0]]),
                "scores=...)` must have a row for each of 2 members and a column",
            ),
            (dict(scores=[[], []]), "scores=...)` must have a row for each of 2 members and a col"),
        ],
    )
    def test_a_wrong_result_is_refused(self, wrong, message):
        right = dict(members=[js.constant(0.1), js.constant(0.2)], scores=[[2.0], [1.0]])
        assert js.Sweep(**right).best == js.constant(0.2)
        assert js.Sweep(**right).best_arguments == {}  # of a list, they are not known
        with pytest.raises(ValueError, match=re.escape(f"`Sweep({message}")):
            js.Sweep(**{**right, **wrong})

    def test_a_member_alone_is_a_member_of_the_population(self):
        found = on_one_device()
        keys = jax.random.split(jax.random.key(0), sweeps.SEEDS)
        alone = jax.jit(partial(sweeps.train, data=sweeps.digits()))
        rows = [*zip(found.members, found.scores, found.results, strict=True)]
        for member, scores, rates in rows[::4]:  # one of each shape
            for key, score, used in zip(keys, scores, rates, strict=True):
                wanted, rate = alone(member, key)
                np.testing.assert_allclose(score, wanted, rtol=1e-4)  # sums in another order
                np.testing.assert_allclose(used, rate, rtol=1e-6, atol=1e-8)

    def test_devices_and_chunks_change_nothing(self):
        one = on_one_device()
        for devices, chunk in ((8, None), (3, 2)):
            other = sweeps.swept(devices, chunk)
            np.testing.assert_allclose(other.scores, one.scores, rtol=1e-4)
            assert (other.order == one.order).all()

    def test_two_processes_have_the_leaderboard_of_one_device(self):
        first, second = launch.started(sweeps.__file__)
        assert first == second
        one = on_one_device()
        scores = np.reshape([float.fromhex(x) for x in first["scores"]], one.scores.shape)
        np.testing.assert_allclose(scores, one.scores, rtol=1e-4)
        np.testing.assert_allclose(first["rates"], one.results, rtol=1e-6, atol=1e-8)
        ranked = [line.split("  ")[-1] for line in first["leaderboard"].splitlines()]
        assert ranked == [line.split("  ")[-1] for line in one.leaderboard().splitlines()]

    def test_eight_families_are_one_program_and_new_numbers_none(self):
        def population(x):
            return [
                schedule
                for peak in np.geomspace(0.01, x, 8).tolist()
                for schedule in (
                    js.constant(peak), js.linear(peak, 0.0, 10), js.cosine(peak, 0.0, 10),
                    js.rex(peak, 0.0, 10), js.one_minus_sqrt(peak, 0.0, 10),
                    js.exponential_decay(peak, decay_rate=0.9, decay_steps=2),
                    js.warmup_cosine(peak, total_steps=10, warmup_steps=2),
                    js.piecewise_constant([peak, peak / 2], [5]),
                )
            ]  # fmt: skip

        before = compiled(parabola)
        first = js.sweep(parabola, population(0.4))
        assert compiled(parabola) == before + 1
        js.sweep(parabola, population(0.3)[::-1])
        assert compiled(parabola) == before + 1
        wanted = [*map(jax.jit(parabola), population(0.4))]
        np.testing.assert_allclose(first.scores[:, 0], wanted, rtol=1e-4, atol=1e-12)

    def test_any_mesh(self):
        wanted = js.sweep(noisy, RATES, key=0, seeds=3)
        axis = jax.sharding.AxisType
        two = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axis.Explicit, axis.Auto))
        found = js.sweep(noisy, RATES, key=0, seeds=3, mesh=two, chunk=np.array(2))
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
        assert (np.asarray(found.results) == np.asarray(wanted.results)).all()
        with jax.set_mesh(two), pytest.raises(ValueError, match=r"sweep.*mesh.*outside"):
            js.sweep(noisy, RATES, key=0, mesh=two)

    def test_a_closure_goes_with_all_that_it_holds(self):
        def gone(run):
            held = jnp.ones(3) + 1
            run(lambda *x: noisy(*x)[0] * held.sum())
            return weakref.ref(held)

        mesh = Mesh(np.array(jax.devices()[:1]), ("runs",))
        found = [
            gone(lambda train: js.sweep(train, RATES, key=0, mesh=mesh)),
            gone(lambda train: js.learn_schedule(train, RATES[0], updates=1)),
        ]
        gc.collect()
        assert [x() for x in found] == [None, None]

    def test_a_method_is_one_program(self):
        class Trainer:
            def train(self, schedule):
                return parabola(schedule)

        trainer = Trainer()
        js.sweep(trainer.train, RATES)
        js.sweep(trainer.train, RATES[::-1])
        assert compiled(trainer.train) == 1

    def test_devices_say_nothing_to_each_other(self):
        mesh = Mesh(np.array(jax.devices()), ("runs",))
        text = _runs.jitted(as_tree(parabola)).lower(
            as_tree(parabola), (js.stack(RATES * 2),), chunk=None, mesh=mesh
        ).compile().as_text()  # fmt: skip
        for word in ("all-reduce", "all-gather", "all-to-all", "collective", "callback"):
            assert word not in text

    def test_as_many_at_a_time_as_memory_holds(self, monkeypatch):
        chunks = []
        program = _runs.jitted(as_tree(parabola))
        spy = lambda *x, chunk, mesh: chunks.append(chunk) or program(*x, chunk=chunk, mesh=mesh)
        spy.lower = program.lower
        monkeypatch.setattr(_runs, "jitted", lambda _: spy)
        mesh = Mesh(np.array(jax.devices()[:1]), ("runs",))
        wanted = js.sweep(parabola, RATES * 4, mesh=mesh).scores
        monkeypatch.setattr(_runs, "memory", lambda device: 1 << 40)
        js.sweep(parabola, RATES * 4, mesh=mesh)
        arguments = as_tree(parabola), (js.stack(RATES * 4),)
        needed = _runs.peak_bytes(*arguments, chunk=None, mesh=mesh)
        monkeypatch.setattr(_runs, "memory", lambda device: needed // 2)
        found = js.sweep(parabola, RATES * 4, mesh=mesh).scores
        assert chunks[:2] == [None, None] and 1 <= chunks[2] < 16
        np.testing.assert_allclose(found, wanted, rtol=1e-5)

    def test_seeds_are_shared_and_results_kept(self):
        found = js.sweep(noisy, RATES, key=1, seeds=3)
        assert found.scores.shape == found.results.shape == (4, 3)
        assert (np.asarray(found.results) == found.results[0].tolist()).all() and len(
            {*found.results[0].tolist()}
        ) == 3
        first, *_, last = found.leaderboard().splitlines()
        assert first.split() == ["score", "behind", "value"]
        assert "±" in last and last.endswith(" 1.5")
        assert str(found) == repr(found) == found.leaderboard()
        assert len(found.leaderboard(top=2).splitlines()) == 3

    def test_what_diverges_is_last(self):
        rates = js.grid(js.constant, value=[1e30, 0.1, 0.4, 1e20])
        found = js.sweep(parabola, rates)
        assert found.order.tolist() == [2, 1, 0, 3] and str(found.best) == "constant(0.4)"
        assert found.leaderboard().count("diverged") == 4  # the scores, and how far behind
        with pytest.raises(ValueError, match=r"sweep.best.*2 members"):
            _ = js.sweep(parabola, [rates[0], rates[3]]).best
        infinite = js.sweep(lambda s: jnp.inf * s(0), RATES)
        assert infinite.leaderboard().count("diverged") == 7
        most = js.sweep(lambda s: parabola(s) - 1, rates, mode="max")
        assert str(most.best) == "constant(0.1)"

    def test_the_picture(self, tmp_path):
        found = js.sweep(parabola, [*RATES, js.cosine(0.3, 0.0, 10)])
        figure = found.plot(tmp_path / "sweep.png", top=2)
        scores, curves = figure.axes
        assert (tmp_path / "sweep.png").stat().st_size > 10_000
        assert len(curves.get_lines()) == 5
        labels = [text.get_text() for text in curves.get_legend().get_texts()]
        assert labels == [f"{i + 1}: {found.members[k]}" for i, k in enumerate(found.order[:2])]
        assert "diverged" not in scores.get_xlabel()

    def test_the_picture_of_numbers(self):
        found = js.Sweep((0.1, {"a": 0.2}), np.array([[-2.0], [np.nan]]))
        curves = found.plot(top=0).axes[1]
        assert [line.get_ydata()[0] for line in curves.get_lines()] == [
            *map(np.float32, (0.2, 0.1))
        ]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (lambda: js.sweep(parabola, []), "population.*not empty"),
            (lambda: js.sweep(parabola, RATES[0]), r"population.*constant\(0.01\)"),
            (lambda: js.sweep(3, RATES), "train.*be a function"),
            (lambda: js.sweep(noisy, RATES), r"train.*\(schedule, key\) with a `key`.*key"),
            (lambda: js.sweep(parabola, RATES, key=0), "train.*too many positional"),
            (lambda: js.sweep(lambda s: s(jnp.arange(3)), RATES), r"return a score.*\(3,\)"),
            (lambda: js.sweep(lambda s: None, RATES), "return a score.*None"),
            (lambda: js.sweep(lambda s: (1, 2, 3), RATES), "return a score"),
            (lambda: js.sweep(lambda s: s(0) > 0, RATES), "return a score.*bool"),
            (lambda: js.sweep(parabola, RATES, seeds=3), "seeds=3.*needs a key"),
            (lambda: js.sweep(parabola, RATES, seeds=0), "seeds=0"),
            (lambda: js.sweep(parabola, RATES, chunk=0), "chunk=0"),
            (lambda: js.sweep(parabola, RATES, mode="best"), "'min', 'max'"),
            (lambda: js.sweep(parabola, RATES, mesh=8), "mesh"),
            (lambda: js.sweep(lambda s: "low", RATES), r"sweep\(train=...\).*arrays.*'low'"),
            (lambda: js.sweep(lambda s: (s(0), "low"), RATES), r"sweep\(train=...\).*arrays"),
            (lambda: js.sweep(jax.tree_util.Partial(noisy, key="a"), RATES), "functools.partial"),
            (lambda: js.sweep(noisy, RATES, key=True), r"sweep\(key=...\).*True"),
            (lambda: js.sweep(parabola, [js.constant(0.1), js.greedy()]), "same rules"),
        ],
    )
    def test_wrong_calls(self, wrong, said):
        with pytest.raises(ValueError, match=said):
            wrong()


def start(schedule, key):
    return 1 + jax.random.uniform(key), jnp.int32(0), key


def advance(schedule, state, steps):
    def step(state, _):
        x, t, key = state
        return (x - schedule(t) * 2 * x, t + 1, key), None

    state, _ = jax.lax.scan(step, state, length=steps)
    return state, state[0] ** 2


class TestHalving:
    def test_it_is_what_a_loop_does(self):
        rates = js.grid(js.constant, value=np.geomspace(0.01, 1.2, 11).tolist())
        found = js.successive_halving(
            start, advance, rates, rungs=[2, 5, 9, 12], reduction=3, key=4, seeds=2
        )
        keys = jax.random.split(jax.random.key(4), 2)
        begin, go_on = jax.jit(start), jax.jit(advance, static_argnums=2)
        alive = [*range(11)]
        for rung, left in ((2, 3), (5, 1), (9, 1), (12, 1)):
            scores = {
                i: [float(go_on(rates[i], begin(rates[i], key), rung)[1]) for key in keys]
                for i in alive
            }
            for i in alive:
                np.testing.assert_allclose(found.scores[i] if found.trained[i] == rung else
                                           scores[i], scores[i], rtol=1e-5)  # fmt: skip
            assert {i for i in alive if found.trained[i] >= rung} == {*alive}
            alive = sorted(alive, key=lambda i, scores=scores: np.mean(scores[i]))[:left]
        assert found.trained.max() == 12 and (found.trained == 2).sum() == 8
        assert found.order[0] == alive[0] and found.best is rates[alive[0]]
        assert "steps" in found.leaderboard().splitlines()[0]

    def test_one_that_diverges_late_is_last(self):
        def advance(schedule, t, steps):
            return t + steps, jnp.where(t + steps < 3, schedule(0), jnp.nan)

        found = js.successive_halving(lambda s, key: 0, advance, RATES, rungs=[1, 2, 3, 4])
        assert found.trained.tolist() == [4, 2, 1, 1]
        assert found.order.tolist() == [1, 2, 3, 0] and found.best is RATES[1]

    def test_new_numbers_compile_nothing(self):
        run = partial(js.successive_halving, start, advance, rungs=[2, 4])
        run(RATES)
        before = compiled(start), compiled(advance)
        run(js.grid(js.constant, value=[0.02, 0.1, 0.3, 0.5]))
        assert (compiled(start), compiled(advance)) == before

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"rungs": []}, "rungs.*increase"),
            ({"rungs": [4, 4]}, "rungs.*increase"),
            ({"rungs": [0, 4]}, "rungs=0"),
            ({"reduction": 1}, "reduction=1"),
            ({"key": None}, "key=None"),
            ({"population": []}, "population"),
            ({"advance": lambda s, state: 0}, r"advance.*\(schedule, state, steps\)"),
            ({"advance": lambda s, state, steps: state}, r"advance.*\(state, score\)"),
            ({"start": lambda s: 0}, r"start.*\(schedule, key\)"),
        ],
    )
    def test_wrong_calls(self, change, said):
        given = {"start": start, "advance": advance, "population": RATES, "rungs": [2, 4]}
        with pytest.raises(ValueError, match=said):
            js.successive_halving(**given | change)


SHARED = """
import sys, optuna
import jax.numpy as jnp
import jaxsched as js

study = optuna.create_study(
    study_name="shared", storage=f"sqlite:///{sys.argv[1]}", load_if_exists=True,
    sampler=optuna.samplers.TPESampler(seed=int(sys.argv[2])),
)
found = js.bayesian_search(
    lambda s: (jnp.log10(s(0)) + 2) ** 2, js.constant, {"value": js.log_uniform(1e-4, 1.0)},
    trials=6, batch=3, study=study,
)
print(len(found.members))
"""


@contextlib.contextmanager
def a_database(path):
    """A study's storage whose connections are closed: optuna leaves that to whoever opened it."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


class TestBayesian:
    def test_it_finds_the_best_and_a_batch_is_one_program(self):
        def train(schedule, key):
            return (jnp.log10(schedule(0)) + 2) ** 2 + (
                schedule.steps.astype(float) - 40
            ) ** 2 * 1e-3, key

        space = {
            "init_value": js.log_uniform(1e-4, 1.0),
            "end_value": 0.0,
            "steps": js.uniform(1, 99),
        }
        found = js.bayesian_search(train, js.linear, space, trials=45, batch=10, key=0, seeds=2)
        assert compiled(train) == 1
        assert found.scores.shape == (45, 2) and len(found.members) == len(found.results) == 45
        first, last = found.mean[:10].min(), found.mean[10:].min()
        assert last < first and last < 0.1
        assert isinstance(found.members[0].steps, int)

    def test_what_diverges_has_failed_and_what_breaks_leaves_nothing_running(self):
        import optuna

        study = optuna.create_study(direction="maximize")
        space = {"value": [0.1, 1e30]}
        js.bayesian_search(parabola, js.constant, space, trials=8, batch=4, study=study, mode="max")
        states = {trial.state.name for trial in study.trials}
        assert states == {"COMPLETE", "FAIL"}
        with pytest.raises(ValueError, match="return a score"):
            js.bayesian_search(
                lambda s: None, js.constant, space, trials=2, study=study, mode="max"
            )
        assert [trial.state.name for trial in study.trials[-2:]] == ["FAIL", "FAIL"]
        both = optuna.create_study(directions=["minimize", "maximize"])
        for wrong, said in ((study, "mode='max'"), (both, "one score.*and"), (3, "study=3")):
            with pytest.raises(ValueError, match=said):
                js.bayesian_search(parabola, js.constant, space, trials=2, study=wrong)
        with pytest.raises(ValueError, match=r"space.*dict"):
            js.bayesian_search(parabola, js.constant, [0.1], trials=2)

    def test_a_choice_of_schedules_is_kept_by_its_place(self, tmp_path):
        import optuna

        space = {"schedule": [js.constant(0.1), js.linear(0.4, 0.0, 10)]}
        with a_database(tmp_path / "study.db") as storage:
            study = optuna.create_study(storage=storage)
            given = dict(trials=6, batch=6, study=study)
            found = js.bayesian_search(parabola, lambda schedule: schedule, space, **given)
            kept = [trial.params["schedule"] for trial in study.trials]
        assert [space["schedule"][i] for i in kept] == [*found.members]

    def test_two_machines_share_a_study(self, tmp_path):
        import optuna

        path = tmp_path / "study.db"
        with a_database(path) as storage:
            optuna.create_study(study_name="shared", storage=storage)
        command = [sys.executable, "-c", SHARED, str(path)]
        both = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE) for i in range(2)]
        assert [process.communicate(timeout=launch.TIMEOUT)[0] for process in both] == [
            b"6\n",
            b"6\n",
        ]
        with a_database(path) as storage:
            trials = optuna.load_study(study_name="shared", storage=storage).trials
        assert len(trials) == 12
        assert len({trial.params["value"] for trial in trials}) == 12
