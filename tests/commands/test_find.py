"""`jaxsched find`, from the command line to the picture."""

import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched._commands._training import _spoken
from jaxsched.cli import _options, main

TASKS = """
import jax, jax.numpy as jnp, numpy as np

def loss(w, batch):
    x, y = batch
    return jnp.mean((x @ w - y) ** 2)

def arrays(key):
    x = jax.random.normal(key, (30, 16, 5))
    return loss, jnp.zeros(5), (x, x.sum(2))

def loader(key):
    return loss, jnp.zeros(5), ([x, x.sum(1)] for x in np.asarray(arrays(key)[2][0]))

def two(key): return loss, jnp.zeros(5)
def nothing(key): return None
def ragged(key): return loss, jnp.zeros(5), [(jnp.ones((n, 5)), jnp.ones(n)) for n in (4, 3)]
def vector(key): return lambda w, _: w, jnp.zeros(5), None
def keyless(): return arrays(jax.random.key(0))
def objects(key): return loss, jnp.zeros(5), [object()]
def step(key): return lambda w, b, rate: (w, 0.0), jnp.zeros(5), None
def broken(key): raise ValueError("of the task itself")
number = 3
"""
SMALL = ["--steps", "40", "--low", "1e-3", "--seeds", "3"]


@pytest.fixture(autouse=True, scope="module")
def _standard_promotion():
    """Optax's Adam adds floats to its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    """A folder with a module of tasks, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "some_tasks.py").write_text(TASKS)
    yield
    sys.modules.pop("some_tasks", None)


def found(capsys, *words, code=0):
    """What it prints, the lines of the table split at their spaces."""
    assert main(["find", *words]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.split() for line in captured.out.splitlines() if line.strip()]


def refusal(capsys, *words):
    assert main(["find", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def rows(lines):
    rules = js.Suggestions._fields
    return {line[0]: [float(x) for x in line[1:]] for line in lines if line[0] in rules}


def line(lines, name):
    (words,) = [words[1:] for words in lines if words[0] == f"{name}:"]
    return words


def test_the_digits(capsys, tmp_path):
    options = [*SMALL, "--batch-size", "16", "--out", "deep/er/find.png"]
    lines = found(capsys, *options, "--optimizer", "sgd", "momentum=0.9")
    table = rows(lines)
    assert table.keys() == set(js.Suggestions._fields)
    for median, lowest, highest in table.values():
        assert 1e-3 <= lowest <= median <= highest <= 10
    low, _, high = line(lines, "range")
    assert float(low) < float(high) == table["minimum"][0]
    assert line(lines, "picture") == ["deep/er/find.png"]
    assert (tmp_path / "deep/er/find.png").read_bytes().startswith(b"\x89PNG")
    assert lines[0][:5] == ["digits,", "sgd", "momentum=0.9,", "3", "seeds:"]
    command, *rest = shlex.split(" ".join(line(lines, "next")))  # what to type now is a run
    options = vars(_options(rest))
    settings = _spoken.spoken(options, _spoken.task(options))
    assert command == "jaxsched"
    assert settings.optimizer == "sgd(momentum=0.9)"
    rate = _spoken.learning_rate(settings)
    schedule = js.warmup_cosine(float(high), total_steps=1760, warmup_steps=88)
    assert repr(schedule) in repr(rate)


def test_a_task_of_ones_own(capsys, tmp_path):
    options = [*SMALL, "--optimizer", "sgd", "--out", "own.svg"]
    lines = found(capsys, *options, "--task", "some_tasks:arrays")
    tasks = sys.modules["some_tasks"]
    assert "<svg" in (tmp_path / "own.svg").read_text()

    def run(key):
        loss, params, batches = tasks.arrays(jax.random.split(key)[0])
        return js.lr_range_test(loss, params, batches, optax.sgd, low=1e-3, steps=40)

    band = jax.vmap(run)(jax.random.split(jax.random.key(0), 3))
    lowest, highest = band.spread
    for rule, values in rows(lines).items():
        wanted = [getattr(x, rule) for x in (band.suggestions, lowest, highest)]
        np.testing.assert_allclose(values, wanted, rtol=0.06)
    assert main(shlex.split(" ".join(line(lines, "next")))[1:]) == 0
    capsys.readouterr()
    # Lists that a loader gives, one batch each, are the same batches.
    assert rows(found(capsys, *options, "--task", "some_tasks:loader")) == rows(lines)


def test_another_hyperparameter(capsys):
    options = ["--task", "some_tasks:arrays", "--hyperparameter", "weight_decay"]
    lines = found(capsys, *SMALL, *options, "--optimizer", "adamw", "learning_rate=0.05")
    made = " ".join(line(lines, "next"))
    assert made.startswith("inject(partial(optax.adamw, learning_rate=0.05), weight_decay=")
    from functools import partial

    scope = {"inject": js.inject, "partial": partial, "optax": optax}
    assert eval(made, scope).init(jnp.ones(2)) is not None


def test_nothing_found_is_an_exit_code(capsys, tmp_path):
    options = ["--task", "some_tasks:arrays", "--seeds", "2"]
    lines = found(capsys, "--high", "1e-6", *options, code=1)
    assert lines[1][:2] == ["no", "suggestion:"]
    assert "its noise" in " ".join(lines[1])
    assert line(lines, "picture") == ["runs/find.png"]
    assert (tmp_path / "runs/find.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--low 0", "--low: must be above 0; to start at 0, use --mode linear, got 0"),
        ("--low -1 --mode linear", "--low: must be 0 or above, got -1"),
        ("--low 1 --high 0.1", "--high: must be above --low, which is 1, got 0.1"),
        ("--low nan", "--low: must be a finite number, got nan"),
        ("--high ten", "--high: must be a finite number, got ten"),
        ("--steps 9", "--steps: must be an integer from 10"),
        ("--seeds 0", "--seeds: must be an integer from 1"),
        ("--mode exp", "--mode: invalid choice: 'exp'"),
        ("--optimizer adm", "--optimizer: there is no optimizer `adm`. Did you mean adam"),
        ("--optimizer adam learning_rate=1", "learning_rate is varied"),
        ("--optimizer adam b1=abc", "--optimizer"),
        ("--optimizer adamw --hyperparameter weight_decay", "`adamw` needs learning_rate=..."),
        ("--hyperparameter lr", "--hyperparameter: adam has no 'lr', but has learning_rate, b1"),
        ("--optimizer adam learning_rate=1 --hyperparameter nesterov", "branches on nesterov"),
        ("--batch-size 1438", "--batch-size: there are 1437 images, got 1438"),
        ("--out .", "is a directory"),
        ("--out find.jpg", "--out: must end in .png, .pdf, .svg, got 'find.jpg'"),
        ("--task digit", "--task: write digits or module:function, got 'digit'"),
        ("--task ./some_tasks:arrays", "--task: write digits or module:function, got './some"),
        ("--task nowhere:f", "--task nowhere:f: No module named 'nowhere'"),
        ("--task some_tasks:f", "some_tasks has no function 'f'"),
        ("--task some_tasks:number", "some_tasks has no function 'number'"),
        (
            "--task some_tasks:two",
            "must return (loss, params, batches), or a dict with these names",
        ),
        ("--task some_tasks:nothing", "and validation or optimizer, got NoneType"),
        ("--task some_tasks:keyless", "must take one argument, a random key: too many"),
        ("--task some_tasks:objects", "must be trees of numbers, got batches=object"),
        (
            "--task some_tasks:step",
            "must be called as `loss(params, batch)`",
        ),
        ("--task some_tasks:ragged", "Batch 1 differs from the first"),
        ("--task some_tasks:vector", "must return one real loss"),
        ("--task some_tasks:arrays --batch-size 3", "--batch-size: --task some_"),
    ],
)
def test_what_cannot_be_is_one_line(capsys, words, said):
    assert said in refusal(capsys, *words.split())


def test_a_mistake_in_the_task_has_its_traceback():
    with pytest.raises(ValueError, match="of the task itself"):
        main(["find", "--task", "some_tasks:broken"])


def test_help_says_how(capsys):
    with pytest.raises(SystemExit):
        main(["find", "--help"])
    said = capsys.readouterr().out
    for word in ("module:function", "--hyperparameter", "exit code", "runs/find.png"):
        assert word in said
