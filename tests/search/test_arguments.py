"""A population remembers its arguments, and the result of a search shows them."""

import copy
import pickle
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched._search._arguments import varying, written
from jaxsched._search._population import Population

PEAKS, WARMUPS = [0.001, 0.01, 0.1, 1e30], [0, 4, 8]


def warmed(peak_value, warmup_steps):
    return js.warmup_cosine(peak_value, total_steps=10, warmup_steps=warmup_steps)


TWO = js.grid(warmed, peak_value=0.1, warmup_steps=[1, 2])
MANY = js.random_search(warmed, 0, 17, peak_value=js.uniform(0.0, 1.0), warmup_steps=2)


def parabola(schedule):
    step = lambda x, t: (x - schedule(t) * 2 * x, None)
    return jax.lax.scan(step, jnp.float32(1.0), jnp.arange(10))[0] ** 2


def advance(schedule, state, steps):
    return state + steps, schedule(0)


def table_of(text):
    head, *lines = text.splitlines()
    return head.split(), [line.split() for line in lines]


class TestPopulation:
    def test_it_is_a_list_for_everybody_else(self):
        found = js.grid(js.constant, value=[0.1, 0.2])
        plain = [js.constant(0.1), js.constant(0.2)]
        assert isinstance(found, list) and found == plain and repr(found) == repr(plain)
        assert [str(x) for x in jax.tree.map(lambda x: 2 * x, found)] == [
            "constant(0.2)",
            "constant(0.4)",
        ]
        paths = [
            jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(found)
        ]
        assert paths == [
            jax.tree_util.keystr(x) for x, _ in jax.tree_util.tree_leaves_with_path(plain)
        ]
        assert jax.jit(lambda members: members[1](0))(found) == jnp.float32(0.2)

    def test_the_arguments_follow_the_members(self):
        a, b = (
            js.grid(js.constant, value=[1, 2, 3]),
            js.grid(js.linear, init_value=9, end_value=0, steps=5),
        )
        one, two, three = ({"value": x} for x in (1, 2, 3))
        line = {"init_value": 9, "end_value": 0, "steps": 5}
        extra = js.constant(7)
        assert (a + b).arguments == [one, two, three, line]
        assert ([extra] + a).arguments == [{}, one, two, three]
        assert a[::-2].arguments == [three, one] and a[::-2].one_factory
        assert a[1] is [*a][1]
        a.append(extra)
        a += b
        assert a.arguments == [one, two, three, {}, line] and not a.one_factory
        order = [*range(5)]
        random.Random(0).shuffle(order)
        a[:] = [a[i] for i in order]
        assert a.arguments == [[one, two, three, {}, line][i] for i in order]
        a.sort(key=str)
        assert a.arguments == [one, two, three, {}, line]
        for copied in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
            assert copied == a and copied.arguments == a.arguments
        with pytest.raises(TypeError):
            a + (1,)

    def test_members_that_are_one_object_keep_their_own_arguments(self):
        found = js.grid(lambda n: n // 2, n=[2, 3, 4])
        assert found == [1, 1, 2] and found.arguments == [{"n": n} for n in (2, 3, 4)]
        assert found[1:].arguments == [{"n": 3}, {"n": 4}]
        found.extend(found)
        assert [x["n"] for x in found.arguments] == [2, 3, 4] * 2

    def test_one_factory(self):
        grid, other = js.grid(js.constant, value=[0.1]), js.grid(lambda value: value, value=[0.1])
        assert grid.one_factory and ([] + grid).one_factory and (grid + grid).one_factory
        for several in (grid + other, grid + [1], [1] + grid, Population([1]), Population()):
            assert not several.one_factory
        copied = pickle.loads(pickle.dumps(other))
        assert copied.one_factory and not (copied + other).one_factory
        grid[0] = js.constant(0.2)
        assert not grid.one_factory and grid.arguments == [{}]

    def test_values_that_differ_are_written_differently(self):
        assert written([0.1, 1 / 3, 1e-7, 100_000]) == ["0.1", "0.3333", "1e-07", "100000"]
        assert written([0.12341, 0.12342]) == ["0.12341", "0.12342"]
        assert written([1, 1.0]) == ["1", "1.0"] and written([None, True, "a"]) == [
            "None",
            "True",
            "a",
        ]
        assert written([0.5, 0.5]) == ["0.5", "0.5"]
        near = np.nextafter(0.1, 1)
        assert len({*written([0.1, near])}) == 2
        assert varying([{"a": 1, "b": 2}, {"a": 1, "c": 3}]) == {"b": ["2", ""], "c": ["", "3"]}


class TestLeaderboard:
    def test_a_column_for_each_argument_that_varies(self):
        population = js.grid(
            js.warmup_cosine, peak_value=[0.01, 0.1], total_steps=9, warmup_steps=[1, 2]
        )
        found = js.sweep(parabola, population)
        head, lines = table_of(found.leaderboard())
        assert head == ["score", "behind", "peak_value", "warmup_steps"]
        rows = [found.arguments[i] for i in found.order]
        assert [line[-2:] for line in lines] == [
            [str(row["peak_value"]), str(row["warmup_steps"])] for row in rows
        ]
        head, _ = table_of(found.leaderboard(top=1))  # also if the rest is not shown
        assert head == ["score", "peak_value", "warmup_steps"]

    def test_members_of_several_factories_keep_their_text(self):
        drawn = js.random_search(js.constant, 0, 2, value=js.log_uniform(0.01, 0.1))
        population = js.grid(js.linear, init_value=[0.1, 0.2], end_value=0.0, steps=9) + drawn
        found = js.sweep(parabola, population)
        head, lines = table_of(found.leaderboard())
        assert head == ["score", "behind", "schedule"]
        assert sum("linear(" in " ".join(line) for line in lines) == 2
        longer = js.grid(js.constant, value=[0.3, 0.4], steps=5)
        head, lines = table_of(js.sweep(parabola, drawn + longer).leaderboard())
        assert head[2:] == ["value", "steps"] and sum(line[-1] == "5" for line in lines) == 2
        assert table_of(js.sweep(parabola, [*population]).leaderboard())[0][2:] == ["schedule"]

    def test_halving_and_an_argument_named_as_a_column(self):
        population = js.grid(js.linear, init_value=0.1, end_value=0.0, steps=[3, 4])
        found = js.successive_halving(lambda s, k: 0, advance, population, rungs=[1])
        head, _ = table_of(found.leaderboard())
        assert head == ["score", "behind", "steps", "steps", "(argument)"]
        assert found.arguments == population.arguments

    def test_bayesian_search_without_the_members_that_fill_a_batch(self):
        space = {"value": js.log_uniform(1e-3, 0.1)}
        found = js.bayesian_search(parabola, js.constant, space, trials=5, batch=3)
        assert [js.constant(x["value"]) for x in found.arguments] == [*found.members]
        assert found.leaderboard().splitlines()[0].split() == ["score", "behind", "value"]

    def test_scores_of_a_loop_of_ones_own(self):
        population = js.grid(js.constant, value=[1.0, 2.0])
        found = js.Sweep(population, np.array([[2.0], [1.0]]))
        population.clear()
        assert found.leaderboard().splitlines()[1].split() == ["1", "1", "2"]
        assert found.best == js.constant(2.0) and isinstance(found.members, tuple)
        assert js.Sweep((0.1,), np.ones((1, 1))).arguments == [{}]


class TestPandas:
    def test_a_frame(self):
        pytest.importorskip("pandas")
        found = js.sweep(
            lambda s, key: parabola(s) + jax.random.uniform(key),
            js.grid(warmed, peak_value=PEAKS, warmup_steps=WARMUPS),
            key=0,
            seeds=3,
        )
        frame = found.to_pandas()
        assert [*frame.columns] == [
            "peak_value",
            "warmup_steps",
            "score",
            "standard_error",
            "rank",
            "schedule",
        ]
        assert frame.index.tolist() == found.order.tolist()
        np.testing.assert_allclose(frame["score"], found.mean[found.order])
        first = found.scores[found.order[0]]
        np.testing.assert_allclose(frame["standard_error"].iloc[0], first.std(ddof=1) / 3**0.5)
        assert frame["score"].isna().sum() == 3 == frame["standard_error"].isna().sum()
        assert frame["schedule"].iloc[0] == str(found.best)
        assert frame.loc[4, "peak_value"] == 0.01 and frame.loc[4, "warmup_steps"] == 4
        assert frame.groupby("peak_value")["score"].min().size == 4

    def test_a_frame_without_arguments_and_one_with_the_steps(self):
        pytest.importorskip("pandas")
        frame = js.sweep(parabola, [js.constant(0.1)]).to_pandas()
        assert [*frame.columns] == ["score", "standard_error", "rank", "schedule"]
        assert frame["standard_error"].isna().all()
        population = [
            js.constant(0.3),
            *js.grid(lambda schedule: js.constant(schedule), schedule=[0.1]),
        ]
        assert "value" not in js.sweep(parabola, population).to_pandas()
        population = js.grid(lambda score: js.constant(score), score=[0.1, 0.2])
        frame = js.successive_halving(lambda s, k: 0, advance, population, rungs=[1, 2]).to_pandas()
        assert "score (argument)" in frame and frame["trained"].tolist() == [2, 1]

    def test_without_pandas(self, monkeypatch):
        monkeypatch.setattr("jaxsched._core._extra._is_there", lambda module: module != "pandas")
        with pytest.raises(ImportError, match=r"pandas.*jaxsched\[search\]"):
            js.sweep(parabola, [js.constant(0.1)]).to_pandas()


class TestHeatMap:
    def test_every_cell_is_the_score_of_its_member(self, tmp_path):
        population = js.grid(warmed, peak_value=PEAKS, warmup_steps=WARMUPS)
        random.Random(1).shuffle(population)
        found = js.sweep(parabola, population)
        figure = found.plot_grid("peak_value", "warmup_steps", tmp_path / "grid.png")
        assert (tmp_path / "grid.png").stat().st_size > 10_000
        panel = figure.axes[0]
        assert [x.get_text() for x in panel.get_xticklabels()] == ["0.001", "0.01", "0.1", "1e+30"]
        assert [x.get_text() for x in panel.get_yticklabels()] == ["0", "4", "8"]
        cells = {text.get_position(): text.get_text() for text in panel.texts}
        for row, score in zip(found.arguments, found.mean, strict=True):
            place = PEAKS.index(row["peak_value"]), WARMUPS.index(row["warmup_steps"])
            assert cells[place] == ("diverged" if np.isnan(score) else f"{score:#.4g}")
        assert [*cells.values()].count("diverged") == 3
        best = found.arguments[found.order[0]]
        corner = panel.patches[-1].get_xy()
        assert corner == (
            PEAKS.index(best["peak_value"]) - 0.5,
            WARMUPS.index(best["warmup_steps"]) - 0.5,
        )
        assert len(panel.patches) == 4 and panel.get_title() == "Mean score"

    def test_the_best_of_the_other_arguments_and_cells_without_a_member(self):
        population = js.grid(
            lambda a, b, c: js.constant(a + b + c), a=[0.1, 0.2], b=[0.0, 0.1], c=[0.3, 0.5]
        )
        found = js.sweep(lambda s: s(0), population[2:], mode="max")
        panel = found.plot_grid("a", "b").axes[0]
        assert [text.get_text() for text in panel.texts] == ["", "0.7000", "0.7000", "0.8000"]
        assert panel.get_title() == "Mean score, at the best c" and panel.patches[-1].get_xy() == (
            0.5,
            0.5,
        )

    def test_values_that_look_alike_are_two_columns(self):
        population = js.grid(lambda a, b: js.constant(a + b), a=[0.10001, 0.10002], b=[1, 2])
        labels = js.sweep(lambda s: s(0), population).plot_grid("a", "b").axes[0].get_xticklabels()
        assert [x.get_text() for x in labels] == ["0.10001", "0.10002"]

    def test_all_that_diverged(self):
        population = js.grid(warmed, peak_value=[1e20, 1e30], warmup_steps=[1, 2])
        panel = js.sweep(parabola, population).plot_grid("warmup_steps", "peak_value").axes[0]
        assert [text.get_text() for text in panel.texts] == ["diverged"] * 4

    @pytest.mark.parametrize(
        ("population", "x", "said"),
        [
            (TWO, "peak", r"x=\.\.\..*got x='peak'.*It has peak_value, warmup_steps"),
            ([js.constant(0.1)], "peak_value", "Make the population with `grid`"),
            (TWO + [js.constant(1.0)], "peak_value", "every member"),
            (MANY, "peak_value", r"at most 16 values, got x='peak_value'.*17.*`plot`"),
            (TWO, "warmup_steps", r"y=\.\.\..*another argument"),
        ],
    )
    def test_wrong_calls(self, population, x, said):
        with pytest.raises(ValueError, match=said):
            js.sweep(parabola, population).plot_grid(x, "warmup_steps")
