"""Pictures say what the schedule says: `plot`, the SVG of a notebook, the terminal, `compare`."""

import itertools
import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched._core import _extra
from jaxsched._look._axis import Axis, along, number
from jaxsched._look._curve import POINTS, drawn, horizon, labelled
from jaxsched._look._svg import svg
from jaxsched._look._terminal import draw
from jaxsched.cli import main

SVG = "{http://www.w3.org/2000/svg}"
RESTARTS = js.warmup_cosine_restarts(0.1, cycle_steps=50, warmup_steps=5, mult=2)
CHAIN = js.warmup_stable_decay(0.1, total_steps=1000, warmup_steps=50, decay_steps=200)
PLATEAU = js.constant(0.1) * js.reduce_on_plateau(patience=2, factor=0.5)
LOSSES = np.array([1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8], np.float32)


def curve(schedule, **options):
    return drawn([labelled("plot", schedule)], **options)[0][0]


def elements(text, kind):
    return list(ElementTree.fromstring(text).iter(SVG + kind))


def words(text):
    return [
        "".join(x.itertext()).removeprefix(x.findtext(SVG + "title", ""))
        for x in elements(text, "text")
    ]


@pytest.mark.parametrize("schedule", [CHAIN, RESTARTS, js.inverse_sqrt(0.1, timescale=50)])
def test_a_curve_has_every_step_and_its_value(schedule):
    found = curve(schedule, total_steps=1000)
    assert np.array_equal(found.steps, np.arange(1001))
    # Not to the bit: XLA rounds differently in a program for another number of steps.
    np.testing.assert_allclose(found.values, schedule(np.arange(1001)), rtol=2e-7)


def test_a_long_curve_has_both_sides_of_every_boundary():
    schedule = js.linear(0.0, 1.0, 10) >> js.constant(1.0, 2**30) >> js.constant(0.0)
    found = curve(schedule, total_steps=2**31 - 1)
    assert POINTS <= len(found.steps) < POINTS + 10
    edges = [10, 2**30 + 10]
    assert found.boundaries.tolist() == edges
    assert found.at(found.boundaries).tolist() == [1.0, 0.0]
    assert found.at(found.boundaries - 1) == pytest.approx([0.9, 1.0])


@pytest.mark.parametrize(
    ("schedule", "restarts"),
    [
        (RESTARTS, [50, 150, 350]),
        (js.cosine(0.1, 0.0, 100).cycle(), [100, 200, 300, 400]),
        (js.cyclic(0.1, 1.0, up_steps=50), [100, 200, 300, 400]),
        (js.cosine(1.0, 0.1, 30) >> js.cosine(1.0, 0.1, 30) >> js.constant(0.1), [30]),
        (CHAIN, []),
        (js.step_decay(0.1, factor=0.5, every=20), []),
        (js.piecewise_linear([1.0, 0.5, 0.1], [0, 40, 90]), []),
        (js.one_cycle(0.1, total_steps=400), []),
        (js.cosine(0.1, 0.0, 100).clip(0.01).cycle(cycles=3), [100, 200]),
        (js.cosine(0.1, 0.0, 10).cycle(cycles=3).hold(10), [100, 200]),
        ((js.cosine(0.1, 0.0, 50) >> js.constant(0.0, 50)).cycle(cycles=3), [100, 200]),
        # A first fall that turns is no restart, as in the momentum of one cycle.
        (js.cosine(0.1, 0.0, 100) >> js.linear(0.0, 0.1, 100), []),
        (js.linear(1.0, 0.1, 5) >> js.constant(0.1, 5) >> js.linear(0.1, 1.0, 5), []),
        (js.one_cycle_momentum(total_steps=400), []),
    ],
)
def test_a_restart_is_a_boundary_where_a_fall_becomes_a_rise(schedule, restarts):
    assert curve(schedule, total_steps=400).restarts.tolist() == restarts


def test_the_pieces_of_a_chain_are_named():
    phases = [(0, 50, "linear"), (50, 800, "constant"), (800, 1000, "one_minus_sqrt")]
    assert [*map(tuple, curve(CHAIN).phases)] == phases
    assert [*map(tuple, curve(CHAIN.clip(0.01) * 0.5).phases)] == phases
    cycles = [(0, 50, "cycle 1"), (50, 150, "cycle 2"), (150, 349, "cycle 3")]
    assert [*map(tuple, curve(RESTARTS).phases)] == cycles
    three = js.cosine(0.1, 0.0, 100).cycle(cycles=3)
    held = [(0, 100, "cycle 1"), (100, 200, "cycle 2"), (200, 400, "cycle 3")]
    assert [*map(tuple, three._phases(400))] == held
    assert three.cycle()._phases(250) == [(0, 250, "cycle 1")]
    assert len(js.cosine(0.1, 0.0, 10).cycle()._phases(160)) == 16
    assert js.cosine(0.1, 0.0, 10).cycle()._phases(161) == []
    shrinking = js.cosine(0.1, 0.0, 8).cycle(mult=0.5)  # of 8, 4, 2 and 1 steps
    assert shrinking._phases(1000)[-1] == (14, 1000, "cycle 4")


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (CHAIN, 1000),
        (RESTARTS, 349),  # three cycles
        (js.step_decay(0.1, factor=0.5, every=20), 80),  # four steps of the stair
        (js.exponential_decay(0.1, decay_rate=0.5, decay_steps=100), 200),
        (js.constant(0.1), 100),
        (js.linear(0.1, 0.0, 0), 1),
        (js.until(CHAIN, js.linear(0.1, 0.0, 10)), 1000),
    ],
)
def test_what_never_ends_is_drawn_as_far_as_it_is_of_interest(schedule, steps):
    assert horizon([schedule]) == steps


def test_the_longest_end_decides_how_far():
    assert horizon([CHAIN, js.constant(0.1), js.linear(1.0, 0.0, 3000)]) == 3000


# Simulated


def test_an_until_is_drawn_to_the_end_of_what_is_triggered():
    schedule = js.until(js.constant(0.1), js.linear(0.1, 0.0, 300))
    found = curve(schedule, trigger_at=500)
    assert found.steps[-1] == 799 and found.events["triggers"].tolist() == [500]
    assert found.values[499] == found.values[500] == np.float32(0.1) > found.values[501]


def test_of_very_many_restarts_it_says_that_there_are_more():
    assert curve(js.cosine(0.1, 0.0, 100).cycle(cycles=10**4)).happened == {
        "restarts": "1024+ restarts"
    }


def test_simulated_under_vmap_and_jit():
    patience = jnp.array([1, 2, 4])
    rates = jax.vmap(
        lambda n: js.simulate(js.constant(1.0) * js.reduce_on_plateau(patience=n, factor=0.5),
                              {"value": LOSSES}).values[-1]
    )(patience)  # fmt: skip
    assert rates.tolist() == [0.0625, 0.25, 0.5]


def test_an_until_is_triggered_where_it_is_said():
    schedule = js.until(js.constant(1.0), js.linear(1.0, 0.0, 4))
    found = js.simulate(schedule, total_steps=8, trigger_at=2)
    assert found.values.tolist() == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


BAD = {
    lambda: js.simulate(PLATEAU, {}): "`simulate(metrics=...)` needs 'value', which `constant(",
    lambda: js.simulate(PLATEAU, {"value": LOSSES, "loss": LOSSES}): "has 'loss', which no rule in",
    lambda: js.simulate(PLATEAU, {"value": np.ones((2, 2))}): "got int64[4] and [2, 2] for",
    lambda: js.simulate(PLATEAU, {"value": ([0.5], [1.0])}): "of integer steps",
    lambda: js.simulate(PLATEAU, {"value": ([1, 1], [1.0, 1.0])}): "must differ and lie in [0, 2)",
    lambda: js.simulate(PLATEAU, {"value": ([-1], [1.0])}, total_steps=4): "lie in [0, 4)",
    lambda: js.simulate(js.constant(0.1)): "must be given, because neither the metrics nor",
    lambda: js.simulate(CHAIN, total_steps=0): "got total_steps=0",
    lambda: js.simulate(CHAIN, trigger_at=3): "there is no `until` or `cooldown` to trigger in",
    lambda: js.simulate(0.1): "takes schedules, got 0.1",
    lambda: js.plot(0.1): "takes schedules, got 0.1",
    lambda: js.plot([]): "`plot(schedules=...)` must have a schedule in it",
    lambda: js.plot(CHAIN, total_steps=-5): "got total_steps=-5",
    lambda: js.plot(CHAIN, metrics={"value": LOSSES}): "`plot(metrics=...)` has 'value'",
    lambda: js.plot(CHAIN, beside={"b1": CHAIN}, axes=object()): "`plot(axes=...)` must be None",
    lambda: js.plot(CHAIN, beside={"learning rate": CHAIN}): "not have 'learning rate'",
    lambda: js.plot(CHAIN, trigger_at=5): "there is no `until` or `cooldown` to trigger",
    lambda: js.plot("cosine(0.1, 0.0, 9)"): "got the text 'cosine(0.1, 0.0, 9)'. Use `parse(text)`",
    lambda: js.plot(PLATEAU, metrics=[1.0]): "must be a dict, such as",
}


@pytest.mark.parametrize(("call", "message"), BAD.items(), ids=BAD.values())
def test_a_wrong_call_says_so(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


# `plot`


def test_a_figure_has_a_panel_for_each_hyperparameter_and_metric(tmp_path):
    figure = js.plot(
        PLATEAU, tmp_path / "new" / "run.png",
        metrics={"value": LOSSES}, beside={"momentum": [CHAIN, js.constant(0.9)]},
    )  # fmt: skip
    rate, momentum, value = figure.axes
    names = [panel.get_ylabel() for panel in figure.axes]
    assert names == ["learning rate", "momentum", "value"]
    used = [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    assert rate.lines[0].get_ydata() == pytest.approx(used)
    texts = [text.get_text() for text in rate.get_legend().get_texts()]
    assert texts[1] == "2 cuts"
    assert np.array_equal(value.lines[0].get_ydata(), LOSSES)
    assert momentum.lines[0].get_ydata() == pytest.approx(np.asarray(CHAIN(np.arange(8))))
    assert (tmp_path / "new" / "run.png").read_bytes().startswith(b"\x89PNG")


def test_marks_are_where_the_boundaries_are():
    panel = js.plot(RESTARTS, total_steps=300).axes[0]
    _, boundaries, restarts = panel.lines
    assert boundaries.get_xdata().tolist() == [5, 55, 155]
    assert restarts.get_xdata().tolist() == [50, 150]
    assert restarts.get_ydata() == pytest.approx(np.asarray(RESTARTS(np.array([50, 150]))))


def test_one_may_draw_on_axes_of_ones_own():
    from matplotlib.figure import Figure

    panel = Figure().add_subplot()
    assert js.plot({"ours": CHAIN, "none": lambda step: jnp.sqrt(step)}, axes=panel) is panel.figure
    assert [line.get_label() for line in panel.lines if line.get_label()[0] != "_"] == [
        "ours",
        "none",
    ]


def test_values_below_zero_and_at_zero():
    assert js.plot(-CHAIN).axes[0].get_ylim()[0] < -0.1
    assert js.plot(CHAIN).axes[0].get_ylim()[0] == 0
    log = js.plot(CHAIN, log=True).axes[0]
    assert log.get_yscale() == "log" and log.get_ylim()[0] > 0


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(_extra, "_is_there", lambda module: not module.startswith("matplotlib"))
    with pytest.raises(ImportError, match=re.escape("pip install 'jaxsched[train]'")):
        js.plot(CHAIN)
    assert CHAIN._repr_html_().startswith("<div><svg")


# The SVG


def test_the_points_of_the_svg_are_the_values():
    text = svg([curve(js.linear(0.0, 1.0, 100))], width=472, height=152)
    (line,) = elements(text, "polyline")
    points = np.array([pair.split(",") for pair in line.get("points").split()], float)
    assert points[0].tolist() == [56, 120] and points[-1, 0] == 456
    heights = (120 - points[:, 1]) / (120 - points[-1, 1])
    np.testing.assert_allclose(heights, (points[:, 0] - 56) / 400, atol=2e-3)


def test_the_svg_marks_restarts_and_names_pieces():
    text = svg([curve(RESTARTS)])
    titles = [x.text for x in elements(text, "title")]
    assert titles[1:] == [
        "boundary at 5", "restart at 50", "boundary at 55", "restart at 150", "boundary at 155",
    ]  # fmt: skip
    assert {"cycle 1", "cycle 2", "cycle 3", "optimizer step"} <= {*words(text)}
    (shaded,) = elements(text, "rect")  # every other piece, which is the second
    triangle = elements(text, "polygon")[0].get("points").split()[-1]
    assert shaded.get("x") == triangle.split(",")[0]


def test_the_svg_of_a_simulated_run_marks_the_cuts():
    text = svg([curve(PLATEAU, metrics={"value": LOSSES})])
    titles = [x.text for x in elements(text, "title")]
    assert titles[1:] == ["cut at 3", "cut at 5"]


def test_a_logarithm_of_zero_is_a_gap():
    zero = js.constant(1.0, 10) >> js.constant(0.0, 10) >> js.constant(0.1)
    lines = elements(svg([curve(zero, total_steps=40)], log=True), "polyline")
    assert len(lines) == 2


@pytest.mark.parametrize(
    "schedule",
    [
        CHAIN, RESTARTS, PLATEAU, js.reduce_on_plateau(), js.constant(0.0), js.constant(-1.0),
        js.linear(0.1, 0.0, 0), js.linear(0.1, 0.0, 1), js.from_function(jnp.sqrt),
        js.cosine(0.1, 0.0, 2**31 - 1), js.cosine(0.1, 0.0, 1).cycle(mult=1.5, decay=0.5),
        js.stack([CHAIN, RESTARTS]), js.tunable(CHAIN), js.cosine(0.1, 0.0, 8).cycle(mult=0.5),
        js.constant(1e-30), js.constant(3e38),
    ],
)  # fmt: skip
def test_a_notebook_shows_a_picture_of_anything(schedule):
    text = schedule._repr_html_()
    root = ElementTree.fromstring(text.replace("<br>", ""))
    assert root.find(SVG + "svg") is not None
    assert "nan" not in re.sub(r"<text.*?</text>|<title.*?</title>|<code.*", "", text)
    assert len(text) < 60_000
    assert root.find("code").text == repr(schedule)


def test_a_notebook_shows_text_where_there_is_no_picture():
    seen = []
    jax.jit(lambda s: seen.append(s._repr_html_()) or s(0))(CHAIN)
    assert seen == [None]


def test_text_in_a_picture_is_escaped():
    text = svg(drawn([labelled("plot", {"<a> & b": CHAIN, "c": CHAIN})])[0])
    assert words(text)[-2:] == ["<a> & b", "c"]


# The terminal


def test_the_terminal_draws_in_braille():
    text = draw([curve(js.linear(0.0, 1.0, 100))], width=40, height=6)
    *panel, axis, numbers, legend = text.splitlines()
    assert len(panel) == 6 and legend == "linear(0.0, 1.0, 100)"
    columns = [[i for i, c in enumerate(row) if c >= "\u2800"] for row in panel]
    assert all(columns)
    assert all(a[0] >= b[-1] for a, b in itertools.pairwise(columns))  # it rises
    assert axis.count("┬") >= 3 and numbers.split()[-1] == "100" and axis.startswith("step")
    assert max(map(len, text.splitlines())) <= 40


def test_several_are_letters_or_colours():
    curves = drawn([labelled("plot", [js.linear(0.0, 1.0, 100), js.linear(1.0, 0.0, 100)])])[0]
    plain = draw(curves, width=60, height=10)
    *_, first, second, shared = plain.splitlines()
    assert [first, second] == ["A linear(0.0, 1.0, 100)", "B linear(1.0, 0.0, 100)"]
    assert shared == "* several curves" and plain.count("*") > 1  # where the two cross
    assert "A" in plain.splitlines()[1] and "\x1b" not in plain
    coloured = draw(curves, width=60, height=10, colour=True)
    assert coloured.count("\x1b[38;5;32m") > 5 < coloured.count("\x1b[38;5;166m")
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert max(map(len, bare.splitlines()[:10])) <= 60


def test_ticks_are_round_numbers_within():
    assert Axis(0.0, 1.0).ticks(5) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Axis(-0.3, 0.3).ticks(3) == pytest.approx([-0.2, 0.0, 0.2])
    assert Axis(1e-6, 1.0, log=True).ticks(4) == pytest.approx([1e-6, 1e-4, 1e-2, 1.0])
    assert Axis(0.05, 2.0, log=True).ticks(9) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
    shown = [number(x) for x in (0, 0.05, 1e-7, 1500, 20_000, 1.5e6, 2e9, -0.25)]
    assert shown == ["0", "0.05", "1e-7", "1500", "20k", "1.5M", "2G", "-0.25"]


# The command


def test_plot_in_the_terminal_and_into_files(tmp_path, capsys):
    assert main(["plot", "warmup_cosine(0.1, warmup_steps=5%)", "--total-steps", "1000"]) == 0
    shown = capsys.readouterr().out
    assert "⠉" in shown and shown.splitlines()[-1] == "warmup_cosine(0.1, warmup_steps=5%)"
    for name, start in (("a.svg", b"<svg"), ("b.png", b"\x89PNG"), ("c.pdf", b"%PDF")):
        file = tmp_path / "pictures" / name
        said = ["plot", "cosine", "init_value=0.1", "end_value=0", "steps=50", "linear(0.1, 0, 50)"]
        assert main([*said, "-o", str(file), "--log"]) == 0
        assert file.read_bytes().startswith(start)
        assert capsys.readouterr().out.strip() == str(file)
    written = (tmp_path / "pictures" / "a.svg").read_text()
    assert "background:#fff" in written and words(written)[-1] == "linear(0.1, 0, 50)"


def test_compare_has_the_numbers_beside_each_other(capsys):
    texts = ["linear(0.1, 0.0, 1000)", "constant(0.2)", "cosine(0.1, 0.0, 500)"]
    assert main(["compare", *texts]) == 0
    head, *rows = capsys.readouterr().out.splitlines()[-4:]
    assert head.split() == ["peak", "at", "step", "mean", "end", "steps", "bound", "schedule"]
    found = [row.split(maxsplit=6) for row in rows]
    assert [row[-1] for row in found] == texts
    assert found[0][:6] == ["0.1", "0", "0.05005", "0", "1000", "1.000"]
    assert found[1][:5] == ["0.2", "0", "0.2", "0.2", "endless"]
    bounds = [float(js.convex_bound(js.parse(text), total_steps=1000)) for text in texts]
    assert [float(row[5]) for row in found] == pytest.approx(
        np.divide(bounds, min(bounds)), abs=1e-3
    )
    assert found[2][2] == "0.02505"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot", "cosin(1, 0, 5)"], "plot: there is no schedule `cosin`"),
        (["plot", "constant(1)", "--metric", "value"], "--metric: write NAME=FILE:COLUMN"),
        (
            ["plot", "constant(1)", "--metric", "value=no.csv:loss"],
            "there is no folder or file no.csv",
        ),
        (
            ["plot", "constant(1)", "--metric", "value={file}:los"],
            "has no numbers 'los', but has loss",
        ),
        (
            ["plot", "constant(1)", "--metric", "value={file}:text"],
            "has no numbers 'text', but has loss",
        ),
        (["plot", "constant(1)", "--metric", "v={file}:loss"], "which no rule in"),
        (["plot", "linear(1, 0, 5)", "-o", "{file}/x.png"], "File exists"),
        (["plot", "linear(1, 0, 5)", "-o", "x.nothing"], "must end in one of"),
        (["plot", "linear(1, 0, 5)", "-o", "noext"], "-o: the file name must end in .svg"),
        (["plot", "linear(1, 0, 5)", "-o", "."], "-o: the file name must end in .svg"),
        (["plot", "constant(0.0)", "--log"], "a log axis needs positive values"),
        (
            ["plot", "constant(1)", "--trigger-at", "3"],
            "there is no `until` or `cooldown` to trigger",
        ),
        (
            ["plot", "constant(1)", "--metric", "a={file}:loss", "--metric", "a={file}:loss"],
            "a name is given twice",
        ),
        (["compare"], "the following arguments are required: TEXT"),
    ],
)
def test_a_wrong_command_is_one_line_and_a_caret(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.csv").write_text("step,loss,text\n0,1.0,x\n1,0.5,y\n")
    said = [word.replace("{file}", "file.csv") for word in words]
    assert main(said) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == (3 if shown.splitlines()[-1].strip() == "^" else 1)


def test_a_terminal_without_unicode_gets_ascii_and_a_log_axis_says_what_it_hides():
    [curves] = drawn([labelled("plot", js.linear(1.0, -1.0, 100))])
    text = draw(curves, width=60, height=10, log=True, plain=True)
    assert text.isascii() and "A" in text
    assert "at or below zero are not drawn" in text.splitlines()[-1]
    figure = js.plot(js.linear(1.0, -1.0, 100), log=True)
    assert figure.axes[0].get_ylabel() == "learning rate, where positive"


def test_more_than_seven_curves_are_told_apart():
    many = [js.constant(0.1 * n, 100) for n in range(1, 20)]
    [panel] = js.plot(many).axes
    looks = {(x.get_color(), x.get_linestyle(), x._unscaled_dash_pattern) for x in panel.lines}
    assert len({look[0] for look in looks}) == 7 and len(looks) >= len(many)
    [curves] = drawn([labelled("plot", many)])
    assert svg(curves).count("stroke-dasharray=") == len(many) - 7


def test_an_axis_starts_where_the_values_are():
    [top, bottom] = js.plot(
        js.one_cycle(0.1, total_steps=30),
        beside={"momentum": js.one_cycle_momentum(total_steps=30)},
    ).axes
    assert top.get_ylim()[0] == 0 and bottom.get_ylim()[0] > 0.8
    assert top.lines[0].get_marker() == "."  # so few steps that each is a dot


def test_marks_of_events_are_at_most_a_few_dozen():
    losses = np.r_[1.0, np.full(2000, 2.0)]
    rate = js.constant(0.1) * js.reduce_on_plateau(patience=1, factor=0.999)
    figure = js.plot(rate, metrics={"value": losses})
    marks = [x for x in figure.axes[0].lines if "cuts" in x.get_label()]
    assert len(marks[0].get_xdata()) <= 40 and "2000 cuts" in marks[0].get_label()


def test_a_triggered_until_has_the_pieces_and_boundaries_of_both_schedules():
    schedule = js.until(js.linear(0.0, 1.0, 5) >> js.constant(1.0), js.linear(1.0, 0.5, 10))
    (c,) = drawn([{"a": schedule}], trigger_at=20, total_steps=40)[0]
    assert [*c.phases] == [(0, 5, "linear"), (5, 20, "constant"), (20, 40, "linear")]
    assert [*c.boundaries] == [5, 20, 30] and [*c.events["triggers"]] == [20] and not c.jumps
    (c,) = drawn([{"a": schedule}], trigger_at=0, total_steps=40)[0]
    assert [*c.phases] == [(0, 40, "linear")] and [*c.boundaries] == [10]
    (c,) = drawn([{"a": schedule}], trigger_at=60, total_steps=40)[0]
    assert [*c.phases] == [(0, 5, "linear"), (5, 40, "constant")] and [*c.boundaries] == [5]
    low = js.until(js.constant(1.0), js.linear(0.5, 0.0, 10)) * js.linear(1.0, 0.0, 100)
    (c,) = drawn([{"a": low}], trigger_at=7)[0]
    assert [*c.boundaries] == [7, 17, 100]
    (c,) = drawn([{"a": 2.0 * js.until(js.constant(1.0), js.constant(0.5))}], trigger_at=7)[0]
    assert [(x.step, x.before, x.after) for x in c.jumps] == [(7, 2.0, 1.0)]
    scaled = 2.0 * js.until(js.constant(1.0), js.linear(1.0, 0.0, 10))
    (c,) = drawn([{"a": scaled}], trigger_at=7)[0]
    assert not c.jumps and [*c.boundaries] == [7] and len(c.steps) == 17


def test_many_cycles_are_drawn_as_the_area_between_their_extremes():
    schedule = js.linear(1.0, 0.1, 10).cycle() * js.linear(1.0, 0.5, 20_000)
    (c,) = drawn([{"a": schedule}], total_steps=20_000)[0]
    steps, low, high = c.envelope()
    assert steps[0] == 0 and steps[-1] == 20_000 and len(steps) == 200
    middle = (low[1:-1] + high[1:-1]) / 2
    slowly = js.linear(1.0, 0.5, 20_000)(steps[1:-1].astype(int))
    np.testing.assert_allclose(middle, slowly * (1.0 + 0.19) / 2, rtol=5e-3)
    assert svg([c]).count("<polygon") == 1 and "<polyline" not in svg([c])
    area = js.plot(schedule, total_steps=20_000).axes[0].collections
    assert len(area) == 1 and not js.plot(schedule, total_steps=500).axes[0].collections
    assert drawn([{"a": schedule}], total_steps=500)[0][0].envelope() is None
    assert "NaN" not in svg(drawn([{"a": schedule}], total_steps=20_000)[0], log=True)


def test_an_axis_in_epochs(capsys):
    units = js.Units(batch_size=32, dataset_size=50_000)
    panel = js.plot(js.cosine(0.1, 0.0, units.epochs(10)), units=units).axes[0]
    assert panel.get_xlabel() == "epoch"
    ticks = {
        x.get_text(): at for x, at in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)
    }
    assert ticks["10"] == 15_625 and ticks["4"] == 6_250
    x = along(15_625, units.steps_per_epoch)
    assert [x.label(tick) for tick in x.ticks(5)] == ["0", "2", "4", "6", "8", "10"]
    with pytest.raises(ValueError, match=r"steps_per_epoch.*Units\(dataset_size"):
        js.plot(js.constant(0.1), units=js.Units(batch_size=32))
    sizes = ["--batch-size", "10", "--dataset-size", "25"]
    main(["plot", "cosine(0.1, 0.0, 10ep)", *sizes])
    shown = capsys.readouterr().out
    assert "epoch └" in shown and shown.splitlines()[-2].split() == ["0", "2", "4", "6", "8", "10"]
    main(["plot", "cosine(0.1, 0.0, 10)", "--batch-size", "10"])
    assert "step └" in capsys.readouterr().out
