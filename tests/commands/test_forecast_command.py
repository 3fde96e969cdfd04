"""`jaxsched forecast`: from logs to losses, with the doubts, and one line for each mistake."""

import json

import numpy as np
import pytest

import jaxsched as js
from jaxsched.cli import main

TRUTH = js.MultiPowerLaw(
    floor=2.0, gain=1.0, alpha=0.5, drop=0.2, memory=0.1, beta=0.6, gamma=0.6,
    unit_rate=0.01, unit_steps=2000,
)  # fmt: skip
STEPS = np.arange(0, 2001, 10)
STABLE = js.linear(0.0, 0.01, 100) >> js.constant(0.01)
BRANCH = js.linear(0.0, 0.01, 100) >> js.constant(0.01, 900) >> js.constant(0.001)


def written(file, schedule, names="step,lr,loss", last=2000):
    steps = STEPS[: last // 10 + 1]
    losses = np.append(9.0, TRUTH(schedule, steps[1:]))
    file.parent.mkdir(exist_ok=True)
    rows = np.stack([steps, schedule(steps), losses], axis=1)
    np.savetxt(file, rows, delimiter=",", header=names, comments="")
    return str(file)


@pytest.fixture
def logs(tmp_path):
    stable = written(tmp_path / "stable.csv", STABLE)
    return [stable, written(tmp_path / "branch.csv", BRANCH, last=1500)]


def test_the_best_forecast_comes_first(logs, capsys, tmp_path):
    decay = "constant(0.01, 3000) >> linear(0.01, 0.001, 1000)"
    words = ["--schedule", "constant(0.01, 4000)", "--schedule", decay]
    picture = tmp_path / "pictures" / "forecast.png"
    assert main(["forecast", *logs, *words, "-o", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert shown.index(decay) < shown.index("constant(0.01, 4000)")
    told = float(shown.partition("schedule\n")[2].split()[0])
    assert told == pytest.approx(float(TRUTH(js.parse(decay), 4000)), rel=3e-3)
    assert "201 values of loss, to step 2000" in shown
    assert "say little about" in shown
    assert picture.stat().st_size > 10_000


def test_the_best_rest_is_a_text(logs, capsys):
    assert main(["forecast", *logs, "--best", "--total-steps", "4000"]) == 0
    shown = capsys.readouterr().out
    text = shown.partition("then ")[2].splitlines()[0]
    rest = js.parse(text)
    whole = STABLE.take(2000) >> rest
    others = STABLE.take(2000) >> js.linear(0.01, 0.001, 2000), STABLE
    assert all(TRUTH(whole, 4000) < TRUTH(other, 4000) for other in others)


def test_a_branch_may_begin_where_it_branches(logs, tmp_path, capsys):
    rows = (tmp_path / "branch.csv").read_text().splitlines()
    late = tmp_path / "late.csv"
    late.write_text("\n".join([rows[0], *rows[101:]]))
    told = []
    for branch in (logs[1], str(late)):
        words = ["--schedule", "cosine(0.01, 0.001, 4000)"]
        assert main(["forecast", logs[0], branch, *words]) == 0
        shown = capsys.readouterr().out
        told.append(float(shown.partition("schedule\n")[2].split()[0]))
    assert "the rates before it are those of stable.csv" in shown
    assert told[0] == pytest.approx(told[1], rel=3e-3)


def test_a_run_with_settings_is_forecast_as_planned(tmp_path, capsys):
    folder = tmp_path / "run"
    written(folder / "metrics.csv", STABLE, "step,learning_rate,val_loss")
    plan = "warmup_stable_decay(0.01, total_steps=4000, warmup_steps=100, decay_steps=800)"
    (folder / "settings.json").write_text(json.dumps({"learning_rate": plan}))
    assert main(["forecast", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "as planned" in shown
    assert "have no fall of the rate" in shown


def test_the_validation_loss_is_preferred(tmp_path, capsys):
    file = tmp_path / "log.csv"
    rows = ["step,train/lr,train/loss,eval/loss"]
    rows += [f"{t},0.01,{9 - t / 1000},{TRUTH(STABLE, int(t))}" for t in STEPS[1:]]
    file.write_text("\n".join(rows))
    assert main(["forecast", str(file), "--schedule", "constant(0.01, 4000)"]) == 0
    assert "eval/loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.csv"], "there is no folder or file missing.csv"),
        (["{stable}"], "give a --schedule, or --best"),
        (["{stable}", "--schedule", "constant(0.01)"], "total_steps"),
        (["{stable}", "--schedule", "cosine(0.01"], "forecast"),
        (["{stable}", "--schedule", "constant(0.1) * greedy()"], "reacts to a run"),
        (["{stable}", "--loss", "val"], "no column val, but has lr, loss"),
        (["{stable}", "--best", "--total-steps", "4000"], "several rates"),
        (["{stable}", "--best"], "--best needs --total-steps"),
        (["{other}"], "only a, b. Use --loss"),
    ],
)
def test_a_mistake_is_one_line(words, message, logs, tmp_path, capsys):
    other = written(tmp_path / "other.csv", STABLE, "step,a,b")
    words = [word.format(stable=logs[0], other=other) for word in words]
    assert main(["forecast", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("jaxsched: ")
