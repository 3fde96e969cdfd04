"""Several runs on one page, other axes than steps, and the logs of other tools."""

import csv
import json
import re
import time

import numpy as np
import pytest
from tensorboardX import SummaryWriter

from jaxsched._commands._reporting._log import log
from jaxsched._commands._reporting._page import axes_of
from jaxsched._commands._reporting._run import run
from jaxsched.cli import main

STEPS, EPOCH = 60, 20
RATES = {"fast": 0.1, "slow": 0.01, "gone": 0.001}
PANELS = ["learning rate", "what happened", "loss", "accuracy"]


def write(folder, columns, name="metrics.csv"):
    folder.mkdir(exist_ok=True, parents=True)
    with (folder / name).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of 60 steps, of which the second was twice as slow, and the third was cut."""
    top = tmp_path_factory.mktemp("top") / "runs"
    for n, (name, rate) in enumerate(RATES.items()):
        steps = np.arange(STEPS)
        judged = steps % EPOCH == EPOCH - 1
        loss = np.exp(-steps * rate)
        write(top / name, {
            "step": steps, "epoch": steps // EPOCH + 1, "learning_rate": np.full(STEPS, rate),
            "train_loss": loss, "val_accuracy": np.where(judged, (1 - loss / 2).astype(str), ""),
            "cuts": (steps >= 30) * (n == 2) * 1,
        })  # fmt: skip
        settings = {"optimizer": "adam", "learning_rate": f"constant({rate})"}
        (top / name / "settings.json").write_text(json.dumps(settings))
        session = {"first_step": 0, "steps": STEPS, "ended": "x", "seconds": 59.0 * (1 + (n == 1))}
        told = {"sessions": [session], "diagnosis": {"steps": STEPS, "verdict": f"as {name}"}}
        (top / name / "summary.json").write_text(json.dumps(told))
    return top


@pytest.fixture(scope="module")
def file(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    assert main(["report", *(str(runs / name) for name in RATES), "-o", str(out)]) == 0
    return out


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def panel(page, name):
    return page.locator("figure").filter(has=page.get_by_role("heading", name=name, exact=True))


def colours(page, name):
    paths = panel(page, name).locator("path.curve")
    return paths.evaluate_all("all => all.map(x => x.getAttribute('stroke'))")


def view(page):
    found = page.locator("svg.plot").evaluate_all("all => all.map(x => x.dataset.steps)")
    assert len({*found}) == 1
    return [float(x) for x in found[0].split()]


def test_runs_have_a_colour_each_and_a_table_of_their_schedules(opened, file):
    page = opened(file)
    assert page.title() == "3 runs"
    assert texts(page, "figure h3") == PANELS
    rows = [row.split("\t") for row in texts(page, "table.runs tbody tr")]
    assert [row[0].strip() for row in rows] == [*RATES]
    assert [row[-1] for row in rows] == [f"constant({rate})" for rate in RATES.values()]
    assert [row[5] for row in rows] == [f"as {name}" for name in RATES]
    assert rows[0][3].startswith("0.00274 at 59")
    used = colours(page, "loss")
    assert len(used) == len({*used}) == 3
    swatches = page.locator("table.runs line").evaluate_all(
        "all => all.map(x => x.getAttribute('stroke'))"
    )
    assert swatches == used == colours(page, "learning rate")
    names = [text.rsplit(" ", 1)[0] for text in texts(panel(page, "loss"), ".legend li")]
    assert names == [f"{name}: train_loss" for name in RATES]


def test_a_run_is_switched_off_and_on(opened, file):
    page = opened(file)
    box = page.get_by_label("show slow")
    both = colours(page, "loss")
    box.uncheck()
    assert colours(page, "loss") == [both[0], both[2]]
    assert texts(panel(page, "loss"), "output")[1] == "–"
    page.get_by_label("show gone").uncheck()
    assert colours(page, "loss") == both[:1]
    assert panel(page, "what happened").locator("rect.mark").count() == 0
    page.get_by_label("show fast").uncheck()
    assert colours(page, "loss") == []
    for name in RATES:
        page.get_by_label(f"show {name}").check()
    assert colours(page, "loss") == both


def test_events_are_those_of_their_run(opened, file):
    page = opened(file)
    mark = panel(page, "what happened").locator("rect.mark")
    assert mark.locator("title").all_text_contents() == ["gone: 1 cut, step 30"]
    assert mark.get_attribute("fill") == colours(page, "loss")[2]
    assert page.locator("line.guide").count() == 0  # of several runs they would be a forest
    for name in ("fast", "slow"):
        page.get_by_label(f"show {name}").uncheck()
    assert page.locator("line.guide").count() == 3  # in every panel of curves


def test_curves_over_epochs_and_seconds(opened, file):
    page = opened(file)
    assert texts(page, "#axis option") == ["step", "epoch", "seconds"]
    assert view(page) == [0, STEPS - 1]
    page.select_option("#axis", "epoch")
    assert view(page) == [0, 3]
    page.select_option("#axis", "seconds")
    assert view(page) == [0, 118]  # of the slow run
    ends = (
        panel(page, "loss")
        .locator("path.curve")
        .evaluate_all("all => all.map(x => x.getTotalLength() && x.getBBox().width)")
    )
    assert ends[0] == pytest.approx(ends[1] / 2, rel=0.02)
    page.locator("#stage").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#where").inner_text().startswith("seconds 1,")
    page.get_by_label("show slow").uncheck()
    assert view(page) == [0, 59]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_it_can_be_read_light_and_dark_and_on_a_phone(opened, file, scheme, width):
    page = opened(file, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator("input[type=checkbox]").evaluate_all(
        "all => all.map(x => x.ariaLabel || x.parentElement.textContent.trim())"
    )
    assert len(boxes) == len({*boxes})


def test_runs_with_one_name_are_named_by_their_folders(runs, tmp_path):
    for top in ("a", "b"):
        write(tmp_path / top / "digits", {"step": [0, 1], "loss": [2, 1]})
    out = tmp_path / "page.html"
    paths = [str(tmp_path / top / "digits") for top in ("a", "b")]
    assert main(["report", *paths, "-o", str(out)]) == 0
    assert "a/digits: loss" in out.read_text() and "b/digits: loss" in out.read_text()


def test_runs_that_share_no_axis_are_said(tmp_path, capsys):
    write(tmp_path / "a", {"step": [0, 1], "loss": [2, 1]})
    write(tmp_path / "b", {"epoch": [1, 2], "loss": [2, 1]})
    both = [tmp_path / name for name in "ab"]
    assert axes_of([run(path) for path in both]) == {}
    assert main(["report", *map(str, both), "-o", str(tmp_path / "page.html")]) == 0
    assert "no common axis" in capsys.readouterr().out


def test_what_is_no_log_among_several_runs_is_left_out_and_said(runs, tmp_path, capsys):
    """A pattern such as `runs/*` finds the picture of `jaxsched find` too."""
    (tmp_path / "find.png").write_bytes(b"\x89PNG")
    out = str(tmp_path / "page.html")
    both = [str(runs / "fast"), str(runs / "slow")]
    assert main(["report", *both, str(tmp_path / "find.png"), "-o", out]) == 0
    assert "find.png is no table and no event file, and left out" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "find.png"), "-o", out]) == 2
    assert "find.png is no table and no event file" in capsys.readouterr().err


def test_a_list_of_runs(runs, capsys, tmp_path):
    write(runs.parent / "more" / "odd", {"time": [1], "loss": [1]})
    assert main(["runs", str(runs.parent)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[1:4]] == sorted(f"runs/{name}" for name in RATES)
    assert "constant(0.01)" in said[3] and "as slow" in said[3]
    assert "odd is left out" in said[4] and "Name one with --x" in said[4]
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert main(["runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "there is no folder" in said and "there is no run below" in said


# The logs of other tools


def test_events_of_tensorboard(tmp_path):
    for start in (0, 6):  # a run that was killed at 9, and resumed from 6
        with SummaryWriter(str(tmp_path)) as writer:
            for step in range(start, start + 4):
                writer.add_scalar("train/loss", 10 - step + start / 10, step)
                writer.add_scalar("lr", 0.1, step)
            writer.add_text("note", "words", start)
        time.sleep(1.1)  # the names of the files are of a second
    found = log(tmp_path)
    assert found.columns["train/loss"].steps.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    np.testing.assert_allclose(found.columns["train/loss"].values[-1], 1.6, rtol=1e-6)
    assert "note/text_summary" in " ".join(found.notes)
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert '"name":"seconds"' in page and "<h3>wall_time</h3>" not in page


def test_an_export_of_weights_and_biases(tmp_path):
    now = 1.7e9
    columns = {
        "_step": [0, 10, 20], "_timestamp": [now, now + 5, now + 10], "_runtime": [1, 6, 11],
        "train/loss": [3, 2, 1], "train/lr": [0.1, 0.1, 0.05],
    }  # fmt: skip
    write(tmp_path, columns, "wandb_export.csv")
    found = run(tmp_path)
    assert found.log.steps.tolist() == [0, 10, 20]
    assert found.axes["seconds"].values.tolist() == [1, 6, 11]
    assert main(["report", str(tmp_path / "wandb_export.csv")]) == 0
    page = (tmp_path / "wandb_export.html").read_text()
    assert re.findall("<h3>(.*?)</h3>", page) == ["learning rate", "loss"]


def test_the_export_of_a_panel_has_a_capital_step_and_bounds(tmp_path):
    columns = {"Step": [0, 1], "run - loss": [2, 1], "run - loss__MIN": [2, 1]}
    columns["run - loss__MAX"] = [2, 1]
    write(tmp_path, columns)
    assert run(tmp_path).axes == {"step": None}
    assert main(["report", str(tmp_path)]) == 0
    assert [*run(tmp_path).log.columns] == ["run - loss"]
    assert "are the bounds of other columns" in run(tmp_path).log.notes[0]


def test_a_table_of_epochs(tmp_path, opened):
    """The log of Keras' `CSVLogger`."""
    columns = {"epoch": [0, 1, 2], "loss": [3, 2, 1], "val_loss": [3, 2.5, 2]}
    write(tmp_path, columns, "history.csv")
    assert main(["report", str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html")
    assert texts(page, "figure h3") == ["loss"] and page.locator("#axis").count() == 0
    assert page.locator("#where").inner_text() == "epoch 2, in view 0 to 2"


def test_any_column_can_be_the_axis(tmp_path):
    write(tmp_path, {"step": [0, 1, 2], "tokens": [0, 512, 1024], "loss": [3, 2, 1]})
    assert run(tmp_path, "tokens").log.steps.tolist() == [0, 512, 1024]
    assert [*run(tmp_path, "tokens").axes] == ["tokens"]


def test_the_seconds_of_sessions_that_went_back_or_had_one_step(tmp_path):
    write(tmp_path, {"step": range(10), "loss": range(10)})
    told = [(0, 8, 7.0), (4, 5, 1.0), (4, 10, 10.0)]
    names = "first_step", "steps", "seconds"
    sessions = [dict(zip(names, x, strict=True)) for x in told]
    (tmp_path / "summary.json").write_text(json.dumps({"sessions": sessions}))
    steps, seconds = run(tmp_path).axes["seconds"]
    assert steps.tolist() == [0, 4, 9] and seconds.tolist() == [0, 7, 17]


def test_the_place_of_a_step_in_its_epoch(tmp_path):
    write(tmp_path, {"step": range(6), "epoch": [1, 1, 1, 2, 2, 2], "loss": range(6)})
    steps, values = run(tmp_path).axes["epoch"]
    assert np.interp(range(6), steps, values).tolist() == pytest.approx(
        [0, 0.5, 1, 4 / 3, 5 / 3, 2]
    )
    write(tmp_path, {"step": [0, 5], "epoch": [0.0, 1.25], "loss": [1, 2]})
    assert run(tmp_path).axes["epoch"].values.tolist() == [0, 1.25]
