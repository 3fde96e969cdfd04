"""The page of a run: what it reads, whatever a logger has left, and what a browser makes of it."""

import json
import re

import numpy as np
import pytest
from effort import at_most

import jaxsched as js
from jaxsched._commands._reporting._log import log
from jaxsched._commands._reporting._packed import packed
from jaxsched._commands._reporting._page import page as page_of
from jaxsched._commands._reporting._panels import LINES, happened, kind, panels
from jaxsched._look._colours import EVENTS
from jaxsched._rules._events import EVENTS as COUNTED
from jaxsched.cli import main

STEPS, EPOCH = 2000, 100
SCHEDULE = (js.linear(0.01, 0.1, 100) >> js.cosine(0.1, 0.0, 400)).cycle(mult=3)
RATE = SCHEDULE * js.reduce_on_plateau(patience=2)
CUTS, SKIPS = [700, 710, 1500], [40, 900, 903, 906, 1999]
PANELS = ["learning rate", "what happened", "loss", "accuracy", "scale"]


def write(folder, columns, name="metrics.csv"):
    folder.mkdir(exist_ok=True)
    cells = [[str(x) for x in column] for column in columns.values()]
    lines = [",".join(columns), *map(",".join, zip(*cells, strict=True))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def report(folder):
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


def counted(steps):
    return np.isin(np.arange(STEPS), steps).cumsum()


@pytest.fixture(scope="module")
def columns():
    """A run as `jaxsched train` writes it."""
    steps, rng = np.arange(STEPS), np.random.default_rng(0)
    scale = np.float32(0.5) ** counted(CUTS)
    judged = steps % EPOCH == EPOCH - 1
    train = np.float32(np.exp(-steps / 400 + rng.normal(size=STEPS) / 4))
    return {
        "step": steps,
        "epoch": steps // EPOCH + 1,
        "learning_rate": np.asarray(SCHEDULE(steps)) * scale,
        "scale": scale,
        "train_loss": train,
        "val_loss": np.where(judged, train.astype(str), ""),
        "val_accuracy": np.where(judged, (1 - train / 4).astype(str), ""),
        **{name: np.zeros(STEPS, int) for name in COUNTED},
        "cuts": counted(CUTS),
        "skips": counted(SKIPS),
    }


@pytest.fixture(scope="module")
def file(columns, tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("runs") / "digits", columns)
    settings = {"epochs": 20, "optimizer": "adam", "learning_rate": repr(RATE), "wrappers": ["a()"]}
    (folder / "settings.json").write_text(json.dumps(settings))
    return report(folder)


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def panel(page, name):
    return page.locator("figure").filter(has=page.get_by_role("heading", name=name, exact=True))


def labels(figure, anchor):
    """Where the ticks are, and what they say."""
    found = figure.locator(f'svg.plot text[text-anchor="{anchor}"]').evaluate_all(
        "all => all.map(x => [+x.getAttribute('x'), +x.getAttribute('y') - 4, +x.textContent])"
    )
    return np.array(found)


def drawn(figure, n=0):
    """The points of a curve, read by the ticks of its axes as one would by eye."""
    d = figure.locator("path.curve").nth(n).get_attribute("d")
    points = np.array([pair.split() for pair in re.split("[ML]", d)[1:]], float)
    across, up = labels(figure, "middle"), labels(figure, "end")
    is_log = figure.locator("input").is_checked()
    heights = np.log(up[:, 2]) if is_log else up[:, 2]
    x = np.polyval(np.polyfit(across[:, 0], across[:, 2], 1), points[:, 0])
    y = np.polyval(np.polyfit(up[:, 1], heights, 1), points[:, 1])
    return x, np.exp(y) if is_log else y


def place(figure, step):
    """The pixel of a step, at mid height."""
    across, box = labels(figure, "middle"), figure.locator("svg.plot").bounding_box()
    x = np.polyval(np.polyfit(across[:, 2], across[:, 0], 1), step)
    return box["x"] + x, box["y"] + box["height"] / 2


def drag(page, name, a, b):
    ends = [place(panel(page, name), step) for step in (a, b)]
    page.mouse.move(*ends[0])
    page.mouse.down()
    page.mouse.move(*ends[1], steps=3)
    page.mouse.up()


def ends(page):
    """The ends of the axis of each panel."""
    found = page.locator("svg.plot").evaluate_all("all => all.map(x => x.dataset.steps)")
    return [[*map(float, text.split())] for text in found]


# In a browser


def test_what_is_on_the_page(opened, file, columns):
    page = opened(file)
    assert page.title() == "Run digits" == page.locator("h1").inner_text()
    assert texts(page, "figure h3") == PANELS
    names = ["schedule alone", "learning_rate", "train_loss", "val_loss", "val_accuracy", "scale"]
    assert [text.split("\n")[0].rsplit(" ", 1)[0] for text in texts(page, ".legend li")] == names
    assert page.locator("#learning-rate").inner_text() == repr(RATE)
    assert "wrappers" in page.locator("main").inner_text()
    rows = dict(text.split("\t", 1) for text in texts(page, "tbody tr"))
    best = columns["train_loss"][EPOCH - 1 :: EPOCH].argmin() * EPOCH + EPOCH - 1
    assert rows["val_loss"].split("\t")[1] == f"{columns['train_loss'][best]:.6g} at {best}"
    assert rows["learning_rate"].split("\t")[2] == "0.1 at 100"


def test_every_event_is_a_mark(opened, file, columns):
    page = opened(file)
    for name, steps in (("cuts", CUTS), ("skips", SKIPS), ("restarts", [500])):
        marks = page.locator(f'rect.mark[data-kind="{name}"]')
        found = marks.evaluate_all("all => all.map(x => +x.dataset.count)")
        assert found == [1] * len(steps)
        if name in columns:
            assert len(found) == columns[name][-1]
            assert marks.first.get_attribute("fill") == EVENTS[name]
        said = marks.locator("title").all_text_contents()
        assert said == [f"1 {name[:-1]}, step {step}" for step in steps]
    assert page.locator("rect.mark").count() == len(CUTS) + len(SKIPS) + 1
    lane = panel(page, "what happened").locator('text[text-anchor="end"]').all_text_contents()
    assert lane == ["1 restart", "3 cuts", "5 skips"]


def test_marks_too_near_to_be_told_apart_are_counted_together(opened, file):
    counts = opened(file, width=400).locator('rect.mark[data-kind="skips"]')
    found = counts.evaluate_all("all => all.map(x => +x.dataset.count)")
    assert sum(found) == len(SKIPS) > len(found)


def test_a_drag_zooms_every_panel_and_a_double_click_is_all_of_it(opened, file, columns):
    page = opened(file)
    assert ends(page) == [[0, STEPS - 1]] * len(PANELS)
    assert page.get_by_role("button", name="Whole run").is_disabled()
    drag(page, "loss", 700, 900)
    assert len({*map(tuple, ends(page))}) == 1
    np.testing.assert_allclose(ends(page)[0], [700, 900], atol=1)
    for name, n, column in (("learning rate", 1, "learning_rate"), ("loss", 0, "train_loss")):
        x, y = drawn(panel(page, name), n)
        steps = np.round(x).astype(int)
        assert steps.tolist() == [*range(steps[0], steps[-1] + 1)]
        np.testing.assert_allclose([steps[0], steps[-1]], [700, 900], atol=2)
        np.testing.assert_allclose(x, steps, atol=0.02)
        np.testing.assert_allclose(y, columns[column][steps], rtol=2e-3)
    across, up = labels(panel(page, "loss"), "middle"), labels(panel(page, "loss"), "end")
    assert across[:, 2].min() >= 700 and across[:, 2].max() <= 900
    assert up[:, 2].max() < 1  # as high as what is seen
    page.mouse.dblclick(*place(panel(page, "accuracy"), 800))
    assert ends(page) == [[0, STEPS - 1]] * len(PANELS)


def test_of_many_points_the_extremes_are_drawn(opened, file, columns):
    x, y = drawn(panel(opened(file, width=300), "loss"))
    assert len(x) < STEPS / 1.5
    assert y.min() == pytest.approx(columns["train_loss"].min(), rel=0.01)
    assert y.max() == pytest.approx(columns["train_loss"].max(), rel=0.01)
    x, y = drawn(panel(opened(file), "loss"), 1)
    assert np.round(x).astype(int).tolist() == [*range(EPOCH - 1, STEPS, EPOCH)]


def test_the_readout_is_the_row_under_the_cursor(opened, file, columns):
    page = opened(file)
    page.mouse.move(*place(panel(page, "loss"), 1234))
    assert page.locator("#where").inner_text().startswith("step 1234,")
    said = [text.rsplit(" ", 1)[-1] for text in texts(page, ".legend output")]
    used, train = (float(columns[name][1234]) for name in ("learning_rate", "train_loss"))
    values = [float(SCHEDULE(1234)), used, train]
    np.testing.assert_allclose([float(x) for x in said[:3]], values, rtol=1e-5)
    value, old = texts(page, ".legend output")[3].split()
    assert float(value) == pytest.approx(float(columns["val_loss"][1199]), rel=1e-5)
    assert old == "(1199)"
    lines = page.locator(".cursor").evaluate_all("all => all.map(x => +x.getAttribute('x1'))")
    assert len(lines) == len(PANELS) and len({*lines}) == 1


def test_it_can_be_used_without_a_mouse(opened, file):
    page = opened(file)
    page.locator("#stage").focus()
    for key, said in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert page.locator("#where").inner_text().startswith(f"step {said},")
    for _ in range(10):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("+")
    low, high = ends(page)[0]
    assert high - low == pytest.approx((STEPS - 1) / 2)
    page.keyboard.press("-")
    assert ends(page)[0] == [0, STEPS - 1]
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    assert ends(page)[0] == [0, STEPS - 1]
    drag(page, "loss", 100, 300)
    page.get_by_role("button", name="Whole run").press("Enter")
    assert ends(page)[0] == [0, STEPS - 1]


def test_a_pinch_zooms_around_the_pointer(opened, file):
    page = opened(file)
    x, y = place(panel(page, "loss"), 1000)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -100)
    assert ends(page)[0] == [0, STEPS - 1]  # without control it scrolls
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("view[1] - view[0] < 1500")
    np.testing.assert_allclose(ends(page), [[500, 1500]] * len(PANELS), atol=2)


def test_the_schedule_can_be_copied(opened, file):
    page = opened(file)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    page.wait_for_function("copy.textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == repr(RATE)
    assert page.evaluate("getSelection().toString()") == repr(RATE)


def test_losses_are_on_a_log_scale_that_can_be_switched(opened, file):
    loss = panel(opened(file), "loss")
    assert loss.locator("input").is_checked()
    assert {0.1, 1.0} <= {*labels(loss, "end")[:, 2]}
    before = drawn(loss)[1]
    loss.locator("input").uncheck()
    assert np.diff(labels(loss, "end")[:, 2], n=2) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(drawn(loss)[1], before, atol=0.01)


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => rgb(text).slice(0, 3).map((x) => x / 255)
    .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, n) => sum + x * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (x) => {
    for (; x; x = x.parentElement) {
      const found = rgb(getComputedStyle(x).backgroundColor);
      if (found.length < 4 || found[3] > 0) return getComputedStyle(x).backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const own = (x) => [...x.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  return [...document.body.querySelectorAll("*:not(script):not(style):not(title):not(noscript)")]
    .filter((x) => own(x) && x.getClientRects().length).map((x) => {
      const style = getComputedStyle(x);
      const colour = x.namespaceURI.endsWith("svg") ? style.fill : style.color;
      const [a, b] = [light(colour), light(behind(x))].sort((a, b) => b - a);
      return [(a + 0.05) / (b + 0.05), x.textContent.slice(0, 40)];
    });
}"""


def test_light_dark_and_paper(opened, file):
    pictures = []
    for scheme, back in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 28)")):
        page = opened(file, scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == back
        found = page.evaluate(CONTRAST)
        assert len(found) > 80
        assert min(found)[0] >= 4.5, min(found)
        pictures.append(page.screenshot())
        page.emulate_media(media="print", color_scheme=scheme)
        white = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert white == "rgb(255, 255, 255)"
        assert not page.get_by_role("button").first.is_visible()
    assert pictures[0] != pictures[1]


def test_everything_has_a_name(opened, file):
    page = opened(file)
    assert page.locator("html").get_attribute("lang") == "en"
    assert all(page.locator("svg.plot").evaluate_all("all => all.map(x => x.ariaLabel)"))
    assert page.locator("svg:not([aria-label]):not([aria-hidden])").count() == 0
    boxes = page.locator("input[type=checkbox]").evaluate_all(
        "all => all.map(x => x.ariaLabel || x.parentElement.textContent.trim())"
    )
    assert len(boxes) == len({*boxes}) == len(PANELS)  # all but events, and the smoothing
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(x => +x.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and np.diff(levels).max() == 1
    ids = page.locator("[id]").evaluate_all("all => all.map(x => x.id)")
    assert len(ids) == len({*ids})


def test_a_tap_moves_the_cursor_and_its_values_are_spoken(opened, file):
    page = opened(file)
    page.mouse.click(*place(panel(page, "loss"), 1234))
    page.locator("#said").filter(has_text="step 1234:").wait_for(state="attached")
    spoken = page.locator("#said").text_content()
    assert "train_loss " in spoken and "learning_rate " in spoken


def test_dense_curves_can_be_smoothed(opened, file):
    page = opened(file)
    assert page.locator("path.smooth").count() == 0
    page.get_by_label("Smooth").check()
    loss = panel(page, "loss")
    assert loss.locator("path.smooth").count() == 1  # the validation has few points
    rough, smooth = (
        np.abs(np.diff(np.array(re.findall(r" ([\d.]+)", d), float))).sum()
        for d in (loss.locator(f"path.{name}").get_attribute("d") for name in ("behind", "smooth"))
    )
    assert smooth < rough / 3


@pytest.mark.parametrize("page", ["#ffffff", "#14171c"])
def test_every_curve_can_be_seen_on_light_and_dark(page):
    def light(colour):
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        parts = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return parts @ [0.2126, 0.7152, 0.0722] + 0.05

    for colour in LINES:  # WCAG 2.1, 1.4.11
        low, high = sorted([light(colour), light(page)])
        assert high / low >= 3, colour


def test_a_speed_is_known_by_its_name_and_not_by_its_unit():
    assert kind("tokens/s") == "tokens/s" and kind("train/tokens/s") == "tokens/s"


def test_it_fits_on_a_phone(opened, file):
    page = opened(file, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("svg.plot").first.bounding_box()["width"] > 340


def test_what_comes_from_files_is_text(opened, tmp_path):
    evil = '</script><img src=x onerror="window.evil=1">\'&amp;<!--'
    quoted = evil.replace('"', '""')
    columns = {"step": [0, 1], f'"{quoted}"': [1, 2], f'"{quoted}/cuts"': [0, 1]}
    folder = write(tmp_path / "<b>run", columns)
    (folder / "settings.json").write_text(json.dumps({evil: evil, "learning_rate": evil}))
    told = {"verdict": evil, "advice": [evil], "scores": {evil: 0.5, "x": evil}, "steps": evil}
    sessions = [{"started": evil, "environment": {evil: evil}, "steps": {evil: evil}}]
    summary = {"diagnosis": told, "sessions": sessions, "results": {evil: evil}}
    (folder / "summary.json").write_text(json.dumps(summary))
    page = opened(report(folder))
    assert page.title() == "Run <b>run"
    assert page.locator("body").inner_text().count(evil) >= 10
    assert page.evaluate("[typeof window.evil, document.images.length]") == ["undefined", 0]
    assert page.locator("figure path.curve").count() == 1
    lane = panel(page, "what happened").locator('text[text-anchor="end"]')
    assert lane.all_text_contents() == [f"1 {evil}/cut"]


def test_of_a_million_rows_a_page_can_be_read(chromium, opened, tmp_path):
    count = 10**6
    loss = np.random.default_rng(0).random(count).astype(np.float32)
    loss[654_321] = 5
    lines = [f"{n},{x:.7g},{n >= 9}\n" for n, x in enumerate(loss.tolist())]
    lines = [line.replace("False", "0").replace("True", "1") for line in lines]
    (tmp_path / "metrics.csv").write_text("step,loss,cuts\n" + "".join(lines))
    with at_most(30):
        file = report(tmp_path)
    assert file.stat().st_size < 8e6
    with at_most(20, clock=lambda: cpu_seconds(chromium)):
        page = opened(file)
        drag(page, "loss", 600_000, 700_000)
        x, y = drawn(panel(page, "loss"))
    assert len(x) < 5000
    assert y.max() == pytest.approx(5, rel=0.01)
    assert x[y.argmax()] == pytest.approx(654_321, abs=100)


def cpu_seconds(browser):
    """Of all its processes, those that have ended not included."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(process["cpuTime"] for process in found)


# What it reads


def found(tmp_path, text, name="metrics.csv"):
    (tmp_path / name).write_text(text)
    return log(tmp_path)


ODD = {
    "step,loss\n0,1\n1,nan\n2,inf\n3,4\n": ([0, 1, 2, 3], "NaN or infinite 2x, first at step 1"),
    "step,loss\n0,1\n5,2\n9,3\n": ([0, 5, 9], None),
    "step,loss\n0,1\n1,2\n2,": ([0, 1], "ends in the middle of a line"),
    "step,loss\n0,1\n1,2\n2": ([0, 1], "1 row of metrics.csv with too few"),
    "step,loss\n0,1\n1,2\n2,3": ([0, 1, 2], "its last number may be cut"),
    "step,loss\n0,9\n1,9\n2,9\n1,2\n2,3\n": ([0, 1, 2], "The steps go back from 2 to 1"),
    "step,loss\n0,9\n1,8\n1,2\n2,3\n": ([0, 1, 2], None),
    "step,loss\n0,1\nstep,loss\n1,2\n": ([0, 1], "occurs twice"),
    "step,loss\n0,1\n,7\nx,7\n1,2\n": ([0, 1], "Rows without a step, which are left out: 2"),
    "step,loss,who\n0,1,me\n1,2,you\n": ([0, 1], "who is text"),
    "step,loss\n0,1\n1,oops\n2,3\n": ([0, 2], "loss is text in 1 rows"),
    "step,loss\n0,1\n1,None\n2,3\n": ([0, 2], None),
    "\ufeffstep, loss\r\n0, 1\r\n1, 2\r\n": ([0, 1], None),
    "step,loss\n\n0,1\n\n1,2\n": ([0, 1], None),
    "step,loss,loss\n0,1,5\n1,2,6\n": ([0, 1], None),
    "step,loss\n0,1\n1,2,3,4\n": ([0, 1], "too few or too many cells"),
    "step,loss\n0,1\n1,2\n2,\0\0\0": ([0, 1], "ends in the middle"),
    "loss,step\n1,-1\n2,0.5\n": ([-1, 0.5], None),
}


@pytest.mark.parametrize("text", ODD)
def test_an_odd_log_is_read_and_said(text, tmp_path):
    steps, note = ODD[text]
    read = found(tmp_path, text)
    assert read.columns["loss"].steps.tolist() == steps
    assert (note is None) == (not read.notes)
    assert note is None or note in " ".join(read.notes)
    assert page_of(tmp_path)[1] == read.notes


def test_the_later_of_what_is_there_twice_is_shown(tmp_path):
    read = found(tmp_path, "step,loss,cuts\n0,9,0\n1,9,1\n2,9,1\n1,2,0\n2,3,1\n2,,2\n")
    assert read.columns["loss"].values.tolist() == [9, 2, 3]
    [cuts] = happened(read.columns, np.zeros(0))
    assert cuts.steps.tolist() == [2] and cuts.counts.tolist() == [2]


def test_lines_of_json(tmp_path):
    rows = [
        {"step": 0, "loss": 1.5, "done": False, "who": {"a": 1}},
        {"step": 1, "val/loss": 2},
        {"step": 1, "loss": float("nan"), "done": True, "grad": None},
    ]
    text = "\n".join(map(json.dumps, rows)) + '\n[3]\n{"step": 2, "lo'
    read = found(tmp_path, text, "metrics.jsonl")
    assert read.steps.tolist() == [0, 1]
    assert read.columns["done"].values.tolist() == [0, 1]
    assert read.columns["val/loss"].steps.tolist() == [1]
    said = " ".join(read.notes)
    assert "2 lines of metrics.jsonl cannot be read" in said and "who is text" in said
    assert "ends in the middle" in said and "loss is NaN or infinite 1x" in said


@pytest.mark.parametrize("text", ["", "step,loss\n", "step"])
def test_an_empty_log_is_a_page_that_says_so(text, tmp_path, opened):
    (tmp_path / "metrics.csv").write_text(text)
    (tmp_path / "settings.json").write_text('{"learning_rate": "constant(0.1)"}')
    page = opened(report(tmp_path))
    assert "metrics.csv has no rows yet." in texts(page, ".notes li")
    assert page.locator("figure").count() == 0
    assert page.locator("#learning-rate").inner_text() == "constant(0.1)"


def test_names_say_what_a_column_is(tmp_path):
    known = {
        "loss": "loss", "eval/nll_loss": "loss", "in/learning_rate": "learning rate",
        "learning_rate": "learning rate", "lr-Adam": "learning rate", "val_accuracy": "accuracy",
        "events/cuts": "cuts", "skips": "skips", "train/kl": "kl", "val_kl": "kl",
        "gradient_norm": "gradient_norm", "error_rate": "error_rate", "iterations": "iterations",
    }  # fmt: skip
    assert {name: kind(name) for name in known} == known
    text = ",".join(["step", *known]) + "\n" + "\n".join(f"{n}," * len(known) + "1" for n in (0, 1))
    groups = {
        x.name: [s.name for s in x.series] for x in panels(found(tmp_path, text).columns, None)
    }
    assert [*groups][:3] == ["learning rate", "loss", "accuracy"]
    assert sorted(groups["kl"]) == ["train/kl", "val_kl"]


def test_arrays_are_packed_without_loss():
    import base64

    def unpacked(x):
        if "count" in x:
            return x["first"] + x["every"] * np.arange(x["count"])
        return np.frombuffer(base64.b64decode(x["text"]), f"<f{x['width']}")

    rng = np.random.default_rng(0)
    for x in (np.arange(5), np.arange(0, 900, 7), rng.random(9), [1e-300, 1, 2], [2**30 + 1, 3, 4],
              [1e300, 0, 1], [], [3.0], [0, np.inf, np.nan, -1]):  # fmt: skip
        x = np.asarray(x, float)
        expected = np.where(np.isfinite(x), x, np.nan)
        np.testing.assert_allclose(unpacked(packed(x)), expected, rtol=1e-7)
    assert packed(rng.random(9))["width"] == 4 and "count" in packed(np.arange(0, 900, 7))


def refusal(capsys, *words):
    assert main(["report", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys):
    assert "there is no folder" in refusal(capsys, tmp_path / "no")
    assert "no metrics.csv or metrics.jsonl in" in refusal(capsys, tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("time,loss\n1,2\n")
    assert "several tables" in refusal(capsys, tmp_path)
    said = refusal(capsys, tmp_path / "a.csv")
    assert "no column `step`, but has time, loss. Name one with --x" in said
    assert "no column `t`, but has time, loss" in refusal(capsys, tmp_path / "a.csv", "--x", "t")
    assert "is named twice" in refusal(
        capsys, tmp_path / "a.csv", tmp_path / "a.csv", "--x", "time"
    )
    assert "RUN" in refusal(capsys)
    assert not (tmp_path / "report.html").exists()


def test_damaged_settings_are_left_out_and_said(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("step,loss\n0,1\n")
    (tmp_path / "settings.json").write_text('{"learning_rate": ')
    (tmp_path / "summary.json").write_text("[1]")
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(tmp_path), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == str(out)
    assert "settings.json is damaged" in said and "summary.json is damaged" in said
    assert out.exists() and not (tmp_path / "report.html").exists()


# What a run of `jaxsched train` says of itself


def told(**more):
    place = {"python": "3.11.9", "jax": "0.10.2", "devices": "8 x cpu", "x64": False}
    session = {"first_step": 0, "steps": 2, "started": "monday", "ended": "tuesday", "seconds": 7.5}
    later = {**session, "first_step": 2, "steps": 3, "environment": {**place, "jax": "0.11.0"}}
    return {
        "sessions": [{**session, "environment": place}, {**later, **more}],
        "diagnosis": {
            "steps": 3,
            "verdict": "too low",
            "advice": ["too low: raise it"],
            "scores": {"too_high": 0.0, "too_low": 0.875},
        },
        "results": {"best kept": "val loss 0.1"},
    }


def test_what_a_run_says_of_itself_is_on_the_page(tmp_path, opened):
    write(tmp_path, {"step": range(3), "loss": range(3)})
    (tmp_path / "summary.json").write_text(json.dumps(told()))
    page = opened(report(tmp_path))
    rows = texts(page, "table tr")
    assert {"jax\t0.10.2, then 0.11.0", "python\t3.11.9", "x64\tfalse"} < {*rows}
    assert rows[-2:] == ["0 to 2\tmonday\ttuesday\t7.5 s", "2 to 3\tmonday\ttuesday\t7.5 s"]
    assert "best kept\tval loss 0.1" in rows
    assert texts(page, ".advice li") == ["too low: raise it"]
    assert page.locator("meter").evaluate_all("all => all.map(x => x.value)") == [0, 0.875]
    assert page.locator(".notes").count() == 0


def test_a_run_that_was_killed_says_so(tmp_path):
    write(tmp_path, {"step": range(5), "loss": range(5)})
    (tmp_path / "summary.json").write_text(json.dumps(told(ended=None)))
    text, notes = page_of(tmp_path)
    assert notes == [
        "The run has not ended, or was killed; this is the part that it has written.",
        "The diagnosis is from 3 steps; the log ends at step 4.",
    ]
    assert all(note in text for note in notes) and "not ended</td>" in text
