"""`jaxsched train`, from the command line to the files."""

import csv
import importlib
import json
import shutil
import struct
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched
from jaxsched._commands._tasks._task import task
from jaxsched._commands._training import _optimizer, _picture, _run, _spoken, _words
from jaxsched._commands._training._checkpoint import Checkpoints
from jaxsched._commands._training._folder import Folder
from jaxsched._commands._training._loop import start
from jaxsched._commands._training._settings import Settings
from jaxsched._core import _extra
from jaxsched._rules._events import EVENTS
from jaxsched._rules._still import still
from jaxsched.cli import _options, main

EPOCHS, BATCH = 6, 128
STEPS = EPOCHS * (1437 // BATCH)
RUN = (
    f"train --epochs {EPOCHS} --batch-size {BATCH} --checkpoint-every 2 "
    "--plateau patience=1 rtol=0.5 "
    "--schedule warmup_cosine_restarts peak_value=1e-2 cycle_steps=15 warmup_steps=3 mult=2"
).split()


@pytest.fixture(autouse=True, scope="module")
def _standard_promotion():
    """Optax's Adam adds floats to its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("whole") / "run")
    assert main([*RUN, "--out", str(folder.path)]) == 0
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("stopped") / "run")
    assert main([*RUN, "--out", str(folder.path), "--stop-after", "3"]) == 0
    return folder


@pytest.fixture
def half(stopped, tmp_path):
    """Half a run, to do with as one likes."""
    return Folder(shutil.copytree(stopped.path, tmp_path / "half"))


def table(folder):
    with folder.metrics.open() as stream:
        return list(csv.DictReader(stream))


def column(folder, name):
    return np.array([row[name] for row in table(folder) if row[name]], np.float32)


def final_state(folder):
    settings = folder.read_settings()
    digits = _spoken.saved_task(settings)
    tx = _spoken.transform(settings, _spoken.learning_rate(settings), digits)
    with Checkpoints(folder.checkpoints, settings) as checkpoints:
        return checkpoints.newest(start(tx, digits))


def scheduled(folder):
    """The schedule alone, as far as the run went."""
    rate = _spoken.learning_rate(folder.read_settings())
    return np.asarray(still(rate)(np.arange(len(table(folder)))))


def refusal(capsys, words):
    """The one line on stderr that a run ends with."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_one_row_a_step(whole):
    rows = table(whole)
    metrics = "learning_rate", "scale", "train_loss", "val_loss", "val_accuracy"
    assert tuple(rows[0]) == ("step", "epoch", *metrics, *EVENTS)
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert [int(row["epoch"]) for row in rows[:: 1437 // BATCH]] == list(range(1, EPOCHS + 1))
    assert len(column(whole, "val_loss")) == len(column(whole, "val_accuracy")) == EPOCHS


def test_the_rate_used_is_the_schedule_times_the_plateau(whole):
    schedule = jaxsched.warmup_cosine_restarts(1e-2, cycle_steps=15, warmup_steps=3, mult=2)
    rate, scale = column(whole, "learning_rate"), column(whole, "scale")
    np.testing.assert_allclose(rate, schedule(jnp.arange(STEPS)) * scale, rtol=3e-7)
    assert scale[0] == 1


def test_the_plateau_is_fed_with_the_validation_loss(whole):
    factor = jaxsched.reduce_on_plateau(factor=0.5, patience=1, rtol=0.5)
    tx = jaxsched.scale_by_schedule(factor)
    state = tx.init({})
    expected = [1.0]
    for loss in column(whole, "val_loss")[:-1]:
        _, state = tx.update({}, state, value=loss)
        expected.append(float(jaxsched.hyperparams(state)["scale"]))
    assert column(whole, "scale")[:: 1437 // BATCH].tolist() == expected
    assert expected[-1] < 1


def test_simulated_on_its_own_losses_it_is_the_run(whole, capsys):
    rows = table(whole)
    rate = _spoken.learning_rate(whole.read_settings())
    heard = [(int(row["step"]) + 1, float(row["val_loss"])) for row in rows if row["val_loss"]]
    steps, losses = map(np.array, zip(*heard[:-1], strict=True))
    found = jaxsched.simulate(rate, {"value": (steps, losses)}, total_steps=STEPS)
    assert np.array_equal(found.values, column(whole, "learning_rate"))
    assert np.array_equal(found.events["cuts"], column(whole, "cuts"))
    words = ["--metric", f"value={whole.metrics}:val_loss", "--total-steps", str(STEPS)]
    assert main(["plot", repr(rate), *words]) == 0
    assert f"restarts, {rows[-1]['cuts']} cuts)" in capsys.readouterr().out


def test_it_learns(whole):
    assert column(whole, "val_accuracy")[-1] > 0.9
    assert column(whole, "val_loss")[-1] < column(whole, "val_loss")[0]


def test_the_picture_is_one(whole):
    head = whole.picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    assert 800 <= width <= 3000
    assert 800 <= height <= 3000
    assert whole.picture.stat().st_size > 30_000


def test_resumed_is_uninterrupted_bit_for_bit(whole, half):
    assert len(table(half)) == STEPS // 2
    assert main(["train", "--out", str(half.path), "--resume"]) == 0
    assert half.metrics.read_bytes() == whole.metrics.read_bytes()
    resumed, uninterrupted = (jax.tree.leaves(final_state(run)) for run in (half, whole))
    assert len(resumed) == len(uninterrupted) > 20
    for a, b in zip(resumed, uninterrupted, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    summary = json.loads(half.summary.read_text())
    assert [x["first_step"] for x in summary["sessions"]] == [0, STEPS // 2]
    assert all(x["ended"] for x in summary["sessions"])


def test_a_run_says_when_and_where_it_was(whole):
    summary = json.loads(whole.summary.read_text())
    [session] = summary["sessions"]
    assert (session["first_step"], session["steps"]) == (0, STEPS)
    assert session["started"] <= session["ended"] and session["seconds"] > 0
    assert session["environment"]["jax"] == jax.__version__
    assert session["environment"]["devices"] == "8 x cpu"
    assert summary["diagnosis"]["steps"] == STEPS
    assert summary["diagnosis"]["verdict"] == "too early"
    assert summary["diagnosis"]["scores"].keys() >= {"too_high", "overfitting"}


def test_a_run_that_is_killed_has_written_as_far_as_its_last_checkpoint(half, monkeypatch):
    epochs, epoch = [], _run.epoch

    def killed(*args, **kwargs):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return epoch(*args, **kwargs)

    monkeypatch.setattr(_run, "epoch", killed)
    words = ["train", "--out", str(half.path), "--resume", "--checkpoint-every", "2"]
    half.summary.write_text("{")  # which is no reason not to go on
    assert main(words) == 130
    assert len(table(half)) == 4 * STEPS // EPOCHS
    summary = json.loads(half.summary.read_text())
    assert summary["sessions"][-1]["ended"] is None
    assert summary["diagnosis"]["steps"] == 4 * STEPS // EPOCHS


def test_a_longer_run_continues_the_schedule(half):
    assert main(["train", "--out", str(half.path), "--resume", "--epochs", "8"]) == 0
    assert len(table(half)) == 8 * (1437 // BATCH)
    assert half.read_settings().learning_rate == (
        "(linear(0.0025, 0.01, 3) >> cosine(0.01, 0.0, 12)).cycle(mult=2)"
        " * reduce_on_plateau(factor=0.5, patience=1, rtol=0.5, min_scale=0.01)"
    )


def test_a_longer_run_that_is_stopped_goes_on_to_its_new_end(half):
    out = ["--out", str(half.path), "--resume"]
    assert main(["train", *out, "--epochs", "8", "--stop-after", "4"]) == 0
    assert main(["train", *out]) == 0
    assert len(table(half)) == 8 * (1437 // BATCH)
    assert half.read_settings().epochs == EPOCHS  # which its lengths are told in


def test_a_resumed_run_is_the_one_that_was_started(half, capsys):
    out = ["--out", str(half.path), "--resume"]
    assert "--seed differs" in refusal(capsys, ["train", *out, "--seed", "3"])
    assert "--optimizer differs" in refusal(capsys, ["train", *out, "--optimizer", "sgd"])
    assert "--batch-size differs" in refusal(capsys, ["train", *out, "--batch-size", "64"])
    assert "--schedule differs" in refusal(capsys, ["train", *out, "--schedule", "constant(0.1)"])
    assert "--with differs" in refusal(capsys, ["train", *out, "--with", "skip_spikes"])
    assert "--plateau differs" in refusal(capsys, ["train", *out, "--no-plateau"])
    assert "--task differs" in refusal(capsys, ["train", *out, "--task", "some:other"])
    assert main([*RUN, *out, "--epochs", "6"]) == 0


def test_the_checkpoint_before_a_damaged_one_is_used_when_that_is_gone(whole, half):
    shutil.rmtree(half.checkpoints / "3")
    assert main(["train", "--out", str(half.path), "--resume"]) == 0
    assert half.metrics.read_bytes() == whole.metrics.read_bytes()


def test_a_checkpoint_without_a_checksum_is_read(whole, half):
    (half.checkpoints / "checksums.json").unlink()
    assert main(["train", "--out", str(half.path), "--resume"]) == 0
    assert half.metrics.read_bytes() == whole.metrics.read_bytes()


def test_nothing_to_resume(tmp_path, half, capsys):
    assert "nothing to resume" in refusal(capsys, ["train", "--out", str(tmp_path), "--resume"])
    shutil.rmtree(half.checkpoints)
    assert "no checkpoint" in refusal(capsys, ["train", "--out", str(half.path), "--resume"])
    half.settings.write_text("{")
    assert "damaged" in refusal(capsys, ["train", "--out", str(half.path), "--resume"])


def test_a_run_is_not_overwritten(whole, half, capsys):
    before = whole.metrics.read_bytes()
    assert "--resume" in refusal(capsys, [*RUN, "--out", str(whole.path)])
    assert whole.metrics.read_bytes() == before
    (half.path / "mine.txt").write_text("kept")
    assert main([*RUN, "--out", str(half.path), "--force", "--stop-after", "1"]) == 0
    assert len(table(half)) == STEPS // EPOCHS
    assert (half.path / "mine.txt").read_text() == "kept"


BAD = {
    "--schedule warmup_cosin": "Did you mean warmup_cosine",
    "--schedule nothing": "warmup_cosine_restarts",  # all of them are listed
    "--schedule warmup_cosine warmup_steps=5": "needs peak_value=...",
    "--schedule warmup_cosine peak_value=1 warmup_steps=5 foo=3": "no argument 'foo'",
    "--schedule warmup_cosine peak_value=1 warmup_steps=-5": "got warmup_steps=-5",
    "--schedule warmup_cosine peak_value=abc warmup_steps=5": "got peak_value='abc'",
    "--schedule warmup_cosine peak_value=1 warmup_steps=2.5": "must be an integer",
    "--schedule warmup_cosine peak_value=1 warmup_steps=5 warmup=foo": "got warmup='foo'",
    "--schedule warmup_cosine 3": "key=value, got '3'",
    "--optimizer adm": "Did you mean adam",
    "--optimizer lbfgs": "no optimizer `lbfgs`",
    "--optimizer adam(0.1)": "an argument of `adam` needs its name here",
    "--optimizer adam()*2": "calls no optimizer",
    "--optimizer adam(b1=0.9": "expected `,` or `)`",
    "--optimizer adamw weight=2": "no argument 'weight'",
    "--optimizer adam b1=x": "--optimizer adam",
    "--optimizer adam learning_rate=1": "--schedule constant",
    "--plateau patience=-1": "got patience=-1",
    "--plateau mode=lowest": "'min', 'max'",
    "--plateau metric=los": "value, accuracy, loss, kl, gradient_norm, got 'los'",
    "--plateau axis_name=i": "axis name",
    "--schedule linear(1,0,9)>>cosin(1,0,9)": "--schedule: there is no schedule `cosin`. Did you",
    "--schedule 0.1": "Write `constant(0.1)`",
    "--schedule constant(0.1)*greedy(metric='l')": "kl, gradient_norm, got 'l'",
    "--with skip_spike()": "there is no wrapper `skip_spike`. Did you mean skip_spikes?",
    "--with skip_spikes(sigmas=0)": "got sigmas=0",
    "--with skip_spikes(tx=3)": "the run provides the tx",
    "--with keep_best(metric='loss2')": "got 'loss2'",
    "--with keep_best(backtrack=True) --no-plateau": "nothing in `tx` cuts it",
    "--with snapshot()": "needs keep=...",
    "--with average()": "needs averages=...",
    "--with average(linear(1.0,0.0,9))": "must contain only averages, got averages=linear",
    "--with keep_best() keep_best(metric='accuracy',mode='max')": "use keep_best only once",
    "--with snapshot(keep=2)*2": "calls no wrapper",
    "--with layerwise(decay=0.5,depth=['Dense_0'])": "`Dense_1/bias` is in no layer",
    "--schedule constant(0.1)*greedy(axis_name='i')": "axis name",
    "--schedule linear(1,0,3tok)": "`tokens` needs `Units(sequence_length=...)`",
    "--config nothing.toml": "nothing.toml",
    "--plateau --no-plateau": "not allowed with",
    "--resume --force": "not allowed with",
    "--epochs 0": "from 1",
    "--epochs many": "got many",
    "--batch-size 5000": "1437 images",
    "--seed -1": "from 0",
    "--nonsense": "--nonsense",
}


@pytest.mark.parametrize(("options", "message"), BAD.items())
def test_a_bad_option_is_one_clear_line(options, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert message in refusal(capsys, ["train", *options.split(), "--out", str(out)])
    assert not out.exists()


def test_no_command_is_one_line_too(capsys):
    assert "COMMAND" in refusal(capsys, [])
    assert "nonsense" in refusal(capsys, ["nonsense"])


# options: the schedule alone, and how many rules react
OTHERS = {
    "--optimizer adamw weight_decay=0.01 --plateau metric=accuracy mode=max patience=1": (
        "(linear(0.01, 0.01, 0) >> cosine(0.01, 0.0, 1)).cycle(mult=2)",
        1,
    ),
    "--optimizer lamb --no-plateau --schedule constant value=0.01": ("constant(0.01)", 0),
    "--optimizer lion --schedule warmup_stable_decay peak_value=1e-3 warmup_steps=1 "
    "decay_steps=3 decay=linear": (
        "linear(0.0005, 0.001, 1) >> constant(0.001, 1) >> linear(0.001, 0.0, 3)",
        1,
    ),
    "--optimizer sgd momentum=0.9 nesterov=true --schedule piecewise_constant "
    "values=0.1,0.01 boundaries=2,": ("piecewise_constant([0.1, 0.01], [2])", 1),
    "--optimizer adam(b1=0.5,nesterov=True) --schedule one_cycle(0.01,warmup_steps=40%)": (
        "one_cycle(0.01, total_steps=5, warmup_steps=2)",
        0,
    ),
    "--schedule constant(0.01)*greedy(metric='accuracy',mode='max')*reduce_on_plateau()": (
        "constant(0.01)",
        2,
    ),
    "--schedule constant(0.01)*spike_guard(metric='loss')*kl_adaptive(1e-3)*hypergradient() "
    "--with keep_best(metric='accuracy',mode='max') skip_spikes "
    "layerwise(decay=1.0,depth=['Dense_0','Dense_1']) snapshot(keep=2)": ("constant(0.01)", 3),
    "--schedule constant(0.01)*reduce_when_flat(metric='gradient_norm') --with skip_spikes("
    "metric='loss',advance_on_skip=False)": ("constant(0.01)", 1),
    "--schedule until(constant(0.01),linear(0.01,0,1ep))*tunable(linear(1,0.5,600ex))": (
        "constant(0.01) * linear(1.0, 0.5, 2)",
        2,
    ),
    "--schedule constant(0.01) --plateau patience=1": ("constant(0.01)", 1),
}


@pytest.mark.parametrize("options", OTHERS)
def test_other_choices(options, tmp_path):
    folder, (text, rules) = Folder(tmp_path), OTHERS[options]
    words = ["train", "--epochs", "1", "--batch-size", "256", *options.split()]
    assert main([*words, "--out", str(tmp_path)]) == 0
    rate = _spoken.learning_rate(folder.read_settings())
    assert len(getattr(rate, "rules", ())) == rules
    np.testing.assert_array_equal(scheduled(folder), jaxsched.parse(text)(np.arange(5)))
    used = scheduled(folder) * column(folder, "scale")
    np.testing.assert_allclose(column(folder, "learning_rate"), used, rtol=3e-7)


WATCHED = [
    "--optimizer", "sgd", "momentum=0.9",
    "--schedule", "warmup_cosine_restarts(0.2, cycle_steps=22, warmup_steps=2)"
    " * reduce_on_plateau(factor=0.5, patience=1, rtol=0.1)"
    " * spike_guard(metric='loss', sigmas=1.5, window_size=8, recover_steps=9)"
    " * kl_adaptive(0.05)",
    "--with", "skip_spikes(sigmas=2.0, window_size=8)", "keep_best(backtrack=True)",
    "layerwise(decay=0.5, depth=['Dense_0', 'Dense_1'])", "snapshot(keep=2)",
    "average([uniform_average(11), merged_decay(linear(1.0, 0.0, 44))], every=2)",
]  # fmt: skip


def test_everything_that_happens_is_in_the_table_and_the_picture(tmp_path, capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr(_picture, "_events", lambda panel, found: drawn.update(found))
    folder = Folder(tmp_path / "run")
    assert main(["train", *RUN[1:5], *WATCHED, "--out", str(folder.path)]) == 0
    shown = capsys.readouterr().out
    for event in EVENTS:
        counts = column(folder, event)
        if event == "mixed":  # the command gives every metric by one way
            assert not counts.any()
            continue
        assert np.all(np.diff(counts) >= 0) and counts[-1] > 0, event
        when = np.flatnonzero(np.diff(counts, prepend=0))
        assert drawn[event].tolist() == when.tolist() and f"at steps {when[0]}" in shown
    assert drawn["restarts"].tolist() == [22, 44]
    assert drawn["snapshots"].tolist() == [21, 43, 65]
    averages = "uniform average", "merged decay at 44"
    for row in ("average of the snapshots", "best kept", "diagnosis", *averages):
        assert row in shown
    rate, scale = column(folder, "learning_rate"), column(folder, "scale")
    held = np.flatnonzero(np.diff(column(folder, "skips"), prepend=0))
    made = np.setdiff1d(np.arange(STEPS), held)
    np.testing.assert_allclose(rate[made], (scheduled(folder) * scale)[made], rtol=1e-6)


def test_a_run_with_everything_is_resumed_bit_for_bit(tmp_path):
    runs = Folder(tmp_path / "whole"), Folder(tmp_path / "half")
    for run in runs:
        stop = ["--stop-after", "3"] if run is runs[1] else []
        assert main(["train", *RUN[1:5], *WATCHED, *stop, "--out", str(run.path)]) == 0
    assert main(["train", "--out", str(runs[1].path), "--resume"]) == 0
    whole, half = (run.metrics.read_bytes() for run in runs)
    assert whole == half
    pairs = zip(*(jax.tree.leaves(final_state(run)) for run in runs), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_kl_that_a_rule_hears_is_that_of_the_last_step(tmp_path):
    """A rate of zero changes nothing, so that no divergence is heard, and nothing moves."""
    folder = Folder(tmp_path)
    words = ["train", "--epochs", "1", "--batch-size", "128", "--optimizer", "sgd", "--schedule"]
    text = "piecewise_constant([0.0, 0.5], [6]) * kl_adaptive(1e-3, down=2)"
    assert main([*words, text, "--out", str(tmp_path)]) == 0
    assert column(folder, "scale")[:7].tolist() == [1.0] * 7
    assert column(folder, "scale")[7] == 0.5


def test_a_greedy_run_is_resumed_bit_for_bit(tmp_path):
    words = ["train", "--epochs", "4", "--batch-size", "256", "--optimizer", "sgd"]
    text = "constant(0.1) * greedy(patience=1, factor=0.5, max_scale=4) * reduce_on_plateau()"
    runs = Folder(tmp_path / "whole"), Folder(tmp_path / "half")
    for run in runs:
        stop = ["--stop-after", "2"] if run is runs[1] else []
        out = ["--out", str(run.path)]
        assert main([*words, *out, *stop, "--schedule", text]) == 0
    assert main(["train", *out, "--resume"]) == 0
    whole, half = (run.metrics.read_bytes() for run in runs)
    assert whole == half
    assert column(runs[0], "scale").max() > 1


def test_a_file_and_a_schedule_in_python_are_the_same_run_bit_for_bit(tmp_path):
    said, made = Folder(tmp_path / "said"), Folder(tmp_path / "made")
    (tmp_path / "run.toml").write_text(f"""
        epochs = 3
        batch_size = 128
        seed = 7
        optimizer = "adamw(weight_decay=0.01)"
        out = "{said.path}"
        schedule = \"\"\"
          (warmup_cosine(3e-3, warmup_steps=1ep, warmup=cosine) + 1e-5)
          * reduce_on_plateau(patience=1, rtol=0.5).clip(0.1)
        \"\"\"
    """)
    assert main(["train", "--config", str(tmp_path / "run.toml")]) == 0

    rate = jaxsched.warmup_cosine(3e-3, total_steps=3 * 11, warmup_steps=11, warmup=jaxsched.cosine)
    rate = (rate + 1e-5) * jaxsched.reduce_on_plateau(patience=1, rtol=0.5).clip(0.1)
    settings = Settings(3, 128, 7, "adamw(weight_decay=0.01)", repr(rate))
    made.begin(settings, force=False)
    _run.run(settings, rate, made, _spoken.saved_task(settings))

    assert said.read_settings() == settings
    assert said.metrics.read_bytes() == made.metrics.read_bytes()
    pairs = zip(*(jax.tree.leaves(final_state(run)) for run in (said, made)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_schedule_in_python_needs_no_text(tmp_path):
    function = jaxsched.from_function(lambda t: 0.01 / (1 + t.astype(jnp.float32)))
    settings = Settings(1, 512, 0, "sgd", "")
    folder = Folder(tmp_path / "run")
    folder.begin(settings, force=False)
    _run.run(settings, function, folder, _spoken.saved_task(settings))
    np.testing.assert_allclose(column(folder, "learning_rate"), [0.01, 0.005], rtol=1e-6)


def test_everything_but_adam_is_strict(tmp_path):
    words = ["train", "--optimizer", "sgd", "--epochs", "2", "--batch-size", "512", "--out"]
    with jax.numpy_dtype_promotion("strict"):
        assert main([*words, str(tmp_path / "run")]) == 0


def test_every_optimizer_takes_a_schedule_times_a_plateau():
    digits = task("digits", jax.random.key(0))
    for name in _optimizer.optimizers():
        words = {"optimizer": [name, *(["key=0"] if name == "noisy_sgd" else [])]}
        options = {**dict.fromkeys(vars(_options(["train"])), None), **words}
        settings = _spoken.spoken(options, digits)
        _spoken.transform(settings, _spoken.learning_rate(settings), digits)


def test_a_run_by_default_has_restarts_and_cuts(tmp_path, capsys):
    folder = Folder(tmp_path / "run")
    assert main(["train", "--out", str(folder.path)]) == 0
    shown = capsys.readouterr().out
    settings = folder.read_settings()
    steps = settings.epochs * (1437 // settings.batch_size)
    cycle = -(-steps // 7)
    assert f"2 (at steps {cycle}, {3 * cycle})" in shown
    assert column(folder, "scale")[-1] < 1
    assert column(folder, "val_accuracy")[-1] > 0.95


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("3", "3"), ("3e-3", "3e-3"), ("-1", "-1"), ("1_000", "1_000"), ("true", "True"),
        ("False", "False"), ("none", "None"), ("1,2.5", "[1, 2.5]"), ("7,", "[7]"),
        ("linear", "linear"), ("max", "'max'"), ("", "''"), ("5%", "5%"), ("3ep", "3ep"),
        ("cosine(1,0,9)", "cosine(1,0,9)"), ("[1,2]", "[1,2]"), ("it's", "it's"),
        ("polynomial", "'polynomial'"),
    ],
)  # fmt: skip
def test_words_become_text(word, text):
    assert _words.value(word) == text


def test_a_missing_extra_is_named(monkeypatch, tmp_path, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        _extra.importlib.util, "find_spec", lambda m: None if m == "matplotlib" else there(m)
    )
    message = refusal(capsys, ["train", "--out", str(tmp_path / "run")])
    assert "matplotlib" in message
    assert "pip install 'jaxsched[train]'" in message
    with pytest.raises(ImportError, match=r"jaxsched\[train\]"):
        _extra.extra("no_such_package.module")


def test_importing_the_library_imports_none_of_the_extras():
    code = (
        "import sys, jaxsched, jaxsched.cli;"
        "print([m for m in ('matplotlib', 'sklearn', 'orbax', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_as_a_module(tmp_path):
    words = ["train", "--epochs", "1", "--batch-size", "512", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "jaxsched", *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "learning rate" in shown.stdout
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["epochs"] == 1


def test_a_run_that_diverges_is_reported_as_one(tmp_path, capsys):
    words = ["train", "--epochs", "2", "--batch-size", "512", "--out", str(tmp_path / "run")]
    assert main([*words, "--optimizer", "sgd", "--schedule", "constant", "value=1e30"]) == 0
    assert "nan in the last step" in capsys.readouterr().out
