"""Nothing is written through a link, and what anybody may have written is read or refused."""

import json
import os
import shutil
import stat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._commands._training import _summary
from jaxsched._commands._training._folder import Folder
from jaxsched._commands._training._settings import Settings
from jaxsched._core import _files
from jaxsched.cli import main

SECRET = "not to be touched"


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def victim(tmp_path):
    """A file outside the folder of a run, which has to stay as it is."""
    file = tmp_path / "victim.txt"
    file.write_text(SECRET)
    yield file
    assert file.read_text() == SECRET


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text("step,loss\n0,1\n1,0.5\n")
    return folder


def report(folder, name):
    assert main(["report", str(folder)]) == 0


def plotted(folder, name):
    assert main(["plot", "linear(1, 0, 9)", "-o", str(folder / name)]) == 0


def drawn(folder, name):
    js.plot(js.linear(1.0, 0.0, 9), folder / name)


def swept(folder, name):
    js.sweep(lambda s: s(0), [js.constant(0.1), js.constant(0.2)]).plot(folder / name)


def ranged(folder, name):
    loss = lambda x, batch: (x - batch) ** 2
    test = js.lr_range_test(loss, jnp.ones(()), jnp.zeros(3), optax.sgd, steps=10)
    test.plot(folder / name)


def saved(folder, name):
    Folder(folder).write_settings(Settings(1, 32, 0, "sgd", "constant(0.1)"))


WRITERS = {
    "report.html": report,
    "rate.svg": plotted,
    "rate.png": plotted,
    "plot.png": drawn,
    "plot.pdf": drawn,
    "sweep.png": swept,
    "range.png": ranged,
    "settings.json": saved,
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_through_a_link(name, run, victim):
    """Neither one that has the name of an old temporary file, nor one at the file itself."""
    link = run / f".{name}"
    for place in (link, run / name):
        place.symlink_to(victim)
    WRITERS[name](run, name)
    assert link.is_symlink()
    assert not (run / name).is_symlink()
    assert (run / name).stat().st_size > 0
    assert not list(run.glob(".jaxsched-*"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_has_the_permissions_that_a_new_one_has(name, run):
    before = os.umask(0o027)
    try:
        WRITERS[name](run, name)
    finally:
        os.umask(before)
    assert stat.S_IMODE((run / name).stat().st_mode) == 0o640


def test_a_file_that_is_there_keeps_its_permissions(tmp_path):
    file = tmp_path / "own.txt"
    file.touch(0o600)
    _files.write_text(file, "mine")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("mine", 0o600)


def test_a_link_has_no_permissions_to_give(tmp_path, victim):
    victim.chmod(0o666)
    (tmp_path / "link").symlink_to(victim)
    before = os.umask(0o077)
    try:
        _files.write_text(tmp_path / "link", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "link").stat().st_mode) == 0o600


def test_a_temporary_name_that_is_taken_is_not_followed(tmp_path, victim, monkeypatch):
    monkeypatch.setattr(_files.secrets, "token_hex", lambda _: "taken")
    link = tmp_path / ".jaxsched-taken.tmp"
    link.symlink_to(victim)
    with pytest.raises(FileExistsError, match=r"page\.html cannot be written"):
        _files.write_text(tmp_path / "page.html", "new")
    assert link.is_symlink()
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")  # a link to nothing would be created through
    with pytest.raises(FileExistsError):
        _files.write_text(tmp_path / "page.html", "new")
    assert not (tmp_path / "nowhere").exists()


def test_what_fails_half_way_leaves_nothing(tmp_path):
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(ZeroDivisionError):
        _files.written(tmp_path / "page.html", lambda stream: stream.write(b"x") / 0)
    assert [*tmp_path.iterdir()] == [tmp_path / "page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_a_pipe_or_a_folder_is_not_replaced(tmp_path, run, capsys):
    os.mkfifo(tmp_path / "pipe.html")
    assert main(["report", str(run), "-o", str(tmp_path / "pipe.html")]) == 2
    assert "pipe.html cannot be written (it is a device or a pipe" in capsys.readouterr().err
    assert main(["report", str(run), "-o", str(tmp_path)]) == 2
    assert "cannot be written (it is a folder; name a file)" in capsys.readouterr().err


def test_a_long_name_is_written(tmp_path):
    file = tmp_path / f"{'x' * 250}.txt"
    _files.write_text(file, "fits")
    assert file.read_text() == "fits"


RUN = "train --epochs 1 --batch-size 512 --optimizer sgd"
WORDS = [*RUN.split(), "--schedule", "constant(0.1)"]


def test_a_run_writes_through_no_link(tmp_path, victim):
    folder, names = tmp_path / "run", ("metrics.csv", "picture.png", "summary.json", "report.html")
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(victim)
        (folder / f".{name}").symlink_to(victim)
    assert main([*WORDS, "--out", str(folder)]) == 0
    assert not any((folder / name).is_symlink() for name in names)
    assert all((folder / f".{name}").is_symlink() for name in names)


def test_a_resumed_run_writes_through_no_link(tmp_path, victim):
    folder = tmp_path / "run"
    assert main([*WORDS, "--out", str(folder)]) == 0
    links = ("metrics.csv", "picture.png", "summary.json", "checkpoints/checksums.json")
    for name in links:
        (folder / name).unlink()
        (folder / name).symlink_to(victim)
    assert main(["train", "--out", str(folder), "--resume", "--epochs", "2"]) == 0
    assert not any((folder / name).is_symlink() for name in links)


def test_a_run_does_not_replace_what_a_link_points_to(tmp_path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("kept")
    folder.mkdir()
    (folder / "settings.json").write_text("{}")
    (folder / "checkpoints").symlink_to(other)
    assert main([*WORDS, "--out", str(folder), "--force"]) == 2
    assert "checkpoints is a link" in capsys.readouterr().err
    assert (folder / "settings.json").exists()
    assert (other / "mine.txt").read_text() == "kept"


def test_a_page_reads_files_behind_links(tmp_path, run):
    shutil.move(run / "metrics.csv", tmp_path / "elsewhere.csv")
    (run / "metrics.csv").symlink_to(tmp_path / "elsewhere.csv")
    before = (tmp_path / "elsewhere.csv").read_bytes()
    assert main(["report", str(run)]) == 0
    assert (tmp_path / "elsewhere.csv").read_bytes() == before


def test_what_a_killed_process_left_is_removed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    left = folder / ".jaxsched-0123456789abcdef.tmp"
    left.write_text("half")
    (folder / ".mine").write_text("kept")
    assert main([*WORDS, "--out", str(folder)]) == 0
    assert not left.exists() and (folder / ".mine").exists()


GOOD = {
    "epochs": 2,
    "batch_size": 512,
    "seed": 0,
    "optimizer": "sgd",
    "learning_rate": "constant(0.1)",
    "wrappers": [],
    "last_epoch": None,
}
DEEP = "[" * 100_000
EDITED = {  # what of `settings.json` is another, and what is said then
    "epochs is a text": ({"epochs": "2"}, "'epochs' must be an integer from 1 to 1000000, got '2'"),
    "epochs is a fraction": ({"epochs": 2.5}, "got 2.5"),
    "epochs is a whole float": ({"epochs": 2.0}, "got 2.0"),
    "epochs is null": ({"epochs": None}, "got None"),
    "epochs is negative": ({"epochs": -1}, "got -1"),
    "epochs is zero": ({"epochs": 0}, "got 0"),
    "epochs is huge": ({"epochs": 10**12}, "got 1000000000000"),
    "epochs is true": ({"epochs": True}, "got True"),
    "epochs is nan": ({"epochs": float("nan")}, "got nan"),
    "epochs is infinite": ({"epochs": float("inf")}, "got inf"),
    "epochs has 401 digits": ({"epochs": 10**400}, "an integer of 401 digits is too large"),
    "epochs is a list": ({"epochs": [2] * 1000}, "got [2, 2"),
    "seed is a text": ({"seed": "x"}, "'seed' must be an integer from 0 to 4294967295, got 'x'"),
    "seed is too large": ({"seed": 2**70}, "got 1180591620717411303424"),
    "seed is negative": ({"seed": -1}, "got -1"),
    "batch_size is too large": ({"batch_size": 1438}, "'batch_size' must be an integer from 1 to"),
    "batch_size is a text": ({"batch_size": "32"}, "got '32'"),
    "optimizer is a number": ({"optimizer": 5}, "'optimizer' must be a text, or null, got 5"),
    "task is unknown": ({"task": "nowhere:f", "batch_size": None}, "No module named 'nowhere'"),
    "optimizer is unknown": ({"optimizer": "adm"}, "Did you mean adam"),
    "optimizer is deep": ({"optimizer": f"sgd(momentum={DEEP}"}, "more than 40 deep"),
    "optimizer has half a pair": ({"optimizer": "\ud800"}, "settings.json"),
    "optimizer has a NUL": ({"optimizer": "a\0b"}, "settings.json"),
    "learning_rate is a number": ({"learning_rate": 0.1}, "'learning_rate' must be a text"),
    "learning_rate is null": ({"learning_rate": None}, "'learning_rate' must be a text"),
    "learning_rate is no schedule": ({"learning_rate": "cosin(1)"}, "Did you mean cosine"),
    "learning_rate is deep": ({"learning_rate": DEEP}, "more than 40 deep"),
    "learning_rate listens to nothing": (
        {"learning_rate": "constant(0.1) * greedy(metric='los')"},
        "got 'los'",
    ),
    "learning_rate has half a pair": ({"learning_rate": "\ud800"}, "settings.json"),
    "wrappers is null": ({"wrappers": None}, "'wrappers' must be a list of texts, got None"),
    "wrappers is a text": ({"wrappers": "skip_spikes()"}, "'wrappers' must be a list of texts"),
    "wrappers has a number": ({"wrappers": [3]}, "'wrappers' must be a list of texts, got [3]"),
    "wrappers has a text of none": ({"wrappers": ["skip"]}, "there is no wrapper `skip`"),
    "last_epoch is negative": ({"last_epoch": -3}, "'last_epoch' must be an integer from 1"),
    "last_epoch is a text": ({"last_epoch": "9"}, "or null, got '9'"),
    "a setting too many": ({"epoch": 3}, "there is no setting 'epoch'. Did you mean epochs"),
    "half a pair too many": ({"\ud800": 3}, "there is no setting '\\ud800'"),
}
BROKEN = {  # the whole of a file of JSON
    "empty": b"",
    "half": b'{"epochs": ',
    "deep": DEEP.encode(),
    "deep objects": b'{"a":' * 100_000,
    "deep, but whole": b"[" * 200 + b"]" * 200,
    "too many digits": b'{"epochs": ' + b"1" * 5000 + b"}",
    "a list": b"[1]",
    "a number": b"3",
    "not UTF-8": b'{"epochs": "\xff\xfe"}',
    "NUL": b"\0" * 100,
}


def resumed(tmp_path, capsys, content):
    """The line that is said of a run whose settings are these."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "settings.json").write_bytes(content)
    assert main(["train", "--out", str(folder), "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "settings.json" in error and len(error) < 700, error
    return error


@pytest.mark.parametrize("what", EDITED)
def test_settings_that_are_not_possible_are_one_line(what, tmp_path, capsys):
    changed, said = EDITED[what]
    assert said in resumed(tmp_path, capsys, json.dumps({**GOOD, **changed}).encode())


@pytest.mark.parametrize("what", BROKEN)
def test_settings_that_are_broken_are_one_line(what, tmp_path, capsys):
    assert "is damaged" in resumed(tmp_path, capsys, BROKEN[what])


def test_a_setting_that_is_missing_is_named(tmp_path, capsys):
    content = json.dumps({name: x for name, x in GOOD.items() if name != "seed"}).encode()
    assert "'seed' is missing" in resumed(tmp_path, capsys, content)


def test_settings_that_are_no_file_are_one_line(tmp_path, capsys):
    os.mkfifo(tmp_path / "settings.json")  # to be read it would wait for ever
    assert main(["train", "--out", str(tmp_path), "--resume"]) == 2
    assert "it is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("what", BROKEN)
def test_a_summary_that_is_broken_is_begun_anew(what, tmp_path, capsys):
    folder = Folder(tmp_path)
    folder.summary.write_bytes(BROKEN[what])
    assert _summary._before(folder) == {"sessions": []}
    assert "summary.json is damaged, and is started anew" in capsys.readouterr().err


def test_a_run_goes_on_beside_broken_files(tmp_path, done):
    folder = shutil.copytree(done, tmp_path / "run")
    files = [folder / "summary.json", folder / "checkpoints" / "checksums.json"]
    for file in files:
        file.write_bytes(BROKEN["deep"])
    assert main(["train", "--out", str(folder), "--resume", "--epochs", "2"]) == 0
    assert all(json.loads(file.read_text()) for file in files)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done") / "run"
    with jax.numpy_dtype_promotion("standard"):
        assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


def test_settings_with_a_byte_order_mark_are_read(done, tmp_path):
    folder = shutil.copytree(done, tmp_path / "run")
    settings = folder / "settings.json"
    settings.write_bytes(b"\xef\xbb\xbf" + settings.read_bytes())
    assert main(["train", "--out", str(folder), "--resume"]) == 0


TWO = "step,loss\n0,1\n1,0.5\n"
HUGE, NAN = 10**400, float("nan")
SURROGATES = {"\ud800": "\ud800", "learning_rate": "constant(0.1) * greedy(metric='\ud800')"}
REPORTED = {  # the files of a folder, and what is said of them
    "401 digits in the times": (
        {"metrics.csv": TWO, "summary.json": {"sessions": [{"seconds": HUGE, "steps": HUGE}]}},
        "summary.json is damaged, and left out: an integer of 401 digits is too large",
    ),
    "401 digits in a score": (
        {"metrics.csv": TWO, "summary.json": {"diagnosis": {"scores": {"too_low": HUGE}}}},
        "an integer of 401 digits",
    ),
    "scores that are none": (
        {
            "metrics.csv": TWO,
            "summary.json": {"diagnosis": {"scores": {"a": NAN, "b": ""}}},
        },
        "",
    ),
    "half a pair in a summary": (
        {"metrics.csv": TWO, "summary.json": {"results": SURROGATES, "sessions": [SURROGATES]}},
        "The run has not ended",
    ),
    "half a pair in settings": ({"metrics.csv": TWO, "settings.json": SURROGATES}, ""),
    "half a pair in a column": (
        {"metrics.jsonl": '{"step": 0, "\\ud800loss": NaN}\n'},
        "\\ud800loss is NaN",
    ),
    "deep settings": (
        {"metrics.csv": TWO, "settings.json": DEEP},
        "settings.json is damaged, and left out: its brackets are nested more than 100 deep",
    ),
    "a deep summary": (
        {"metrics.csv": TWO, "summary.json": '{"results": ' + "[" * 900 + "]" * 900 + "}"},
        "summary.json is damaged, and left out: its brackets are nested more than 100 deep",
    ),
    "a stacked schedule": (
        {"metrics.csv": TWO, "settings.json": {"learning_rate": "table([[1, 2], [3, 4]])"}},
        "The learning_rate of settings.json cannot be drawn",
    ),
    "a deep line": ({"metrics.jsonl": f'{{"step": 0, "loss": 1}}\n{{"a": {DEEP}\n'}, "1 line of"),
    "a long cell of text": (
        {"metrics.csv": f"step,text,loss\n0,{'x' * 200_000},1\n1,y,0.5\n"},
        "text is text, and left out.",
    ),
    "a long cell of digits": (
        {"metrics.csv": f"{TWO}2,{'9' * 200_000}\n3,0.25\n"},
        "loss is NaN or infinite 1x, first at step 2",
    ),
    "a long header": ({"metrics.csv": f"step,{'x' * 200_000}\n0,1\n"}, ""),
    "an open quote": (
        {"metrics.csv": 'step,note,loss\n0,a,1\n1,"b,0.5\n2,c,0.25\n3,d,0.2\n'},
        "A quote in metrics.csv is not closed: 3 lines after it are one cell.",
    ),
    "NaN alone": (
        {"metrics.csv": "step,loss,lr,epoch\n0,nan,nan,nan\n"},
        "epoch is NaN or infinite",
    ),
    "the largest floats": ({"metrics.csv": "step,loss,cuts\n0,1e308,1e308\n1,-1e308,-1e308\n"}, ""),
    "huge steps": ({"metrics.csv": "step,loss\n1e300,1\n1e308,2\n"}, ""),
    "UTF-16": ({"metrics.csv": TWO.encode("utf-16")}, ""),
    "blank lines": ({"metrics.csv": "\n\n\n"}, "has no rows yet"),
}


@pytest.mark.parametrize("what", REPORTED)
def test_a_page_is_made_of_whatever_is_there(what, tmp_path, capsys):
    files, said = REPORTED[what]
    for name, content in files.items():
        content = json.dumps(content) if isinstance(content, dict) else content
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert said == "has no rows yet" or "no rows yet" not in out
    assert (tmp_path / "report.html").read_text("utf-8").count("<html") == 1


def test_a_folder_may_have_any_name(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"\xff run")
    folder.mkdir()
    (folder / "metrics.csv").write_text(TWO)
    assert main(["report", str(folder)]) == 0
    assert "\\udcff run" in (folder / "report.html").read_text("utf-8")


def test_what_is_no_table_is_one_line(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_bytes(bytes(range(1, 256)) * 1000)
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "has no column `step`" in error and error.isprintable() is False
    assert error.rstrip("\n").isprintable() and len(error) < 500


def test_the_steps_of_a_metric_are_integers(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("step,loss\n0.5,1\n1.5,0.5\n")
    words = ["plot", "constant(1.0) * reduce_on_plateau()", "--metric"]
    assert main([*words, f"value={tmp_path / 'log.csv'}:loss"]) == 2
    assert "must be integers from 0 on" in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_scan_of_no_steps_is_as_it_began(length):
    step = lambda x, t: (x * 0.5, x)
    carry, ys = js.checkpointed_scan(step, 1.0, length=length)
    expected, theirs = jax.lax.scan(step, 1.0, length=length)
    assert carry == expected and np.array_equal(ys, theirs)
    carry, ys = js.checkpointed_scan(step, 1.0, jnp.zeros((length, 3)))
    assert carry == expected and np.array_equal(ys, theirs)
    assert jax.grad(lambda x: js.checkpointed_scan(step, x, length=length)[0])(1.0) == 0.5**length
