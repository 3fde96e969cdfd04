"""`jaxsched train --task`: a model of the user, from the description to the files."""

import csv
import json
import shlex
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import EXAMPLES

import jaxsched as js
from jaxsched._commands._tasks import _batches
from jaxsched._commands._tasks._task import task
from jaxsched._commands._training import _spoken
from jaxsched._commands._training._checkpoint import Checkpoints
from jaxsched._commands._training._folder import Folder
from jaxsched._commands._training._loop import start
from jaxsched.cli import main

TASKS = '''
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from flax import linen as nn, nnx

x = np.asarray(jax.random.normal(jax.random.key(5), (100, 4)))
y = np.tanh(x @ np.array([1.0, -2.0, 0.5, 0.0], np.float32))
train, valid = (x[:80], y[:80]), (x[80:], y[80:])


def squares(w, batch):
    x, y = batch
    return jnp.mean((x @ w - y) ** 2)


def rows(n):  # batches of ten, in their order
    return [(x[i : i + n], y[i : i + n]) for i in range(0, 80, n)]


def arrays(key):
    """As short as a task can be."""
    return squares, jnp.zeros(4), jax.tree.map(lambda a: a.reshape(8, 10, *a.shape[1:]), train)


def as_list(key):
    return squares, jnp.zeros(4), rows(10)


class Loader:
    def __iter__(self):
        return iter(rows(10))


def as_loader(key):
    return squares, jnp.zeros(4), Loader()


def as_generator(key):
    return squares, jnp.zeros(4), lambda key: (batch for batch in rows(10))


def uneven(key):
    """The last batch is smaller, and the validation has two batches."""
    return {"loss": squares, "params": jnp.zeros(4), "batches": rows(30),
            "validation": [(x[80:85], y[80:85]), (x[85:], y[85:])]}


model = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])


def whole(key):
    """Everything that a description can have: metrics, dropout, validation, an optimizer."""
    def loss(params, batch, key):
        x, y = batch
        if key is not None:
            x = x * jax.random.bernoulli(key, 0.9, x.shape) / 0.9
        error = model.apply(params, x)[:, 0] - y
        metrics = {"mae": jnp.abs(error).mean(), "accuracy": (error**2 < 0.1).mean()}
        return jnp.mean(error**2), metrics

    def batches(key):
        order = jax.random.permutation(key, 80).reshape(8, 10)
        return train[0][order], train[1][order]

    def optimizer(learning_rate):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(learning_rate))

    return {"loss": loss, "params": model.init(key, x), "batches": batches,
            "validation": [valid], "optimizer": optimizer}


def classes(key):
    """With logits, from which the KL divergence is computed."""
    def loss(w, batch):
        x, y = batch
        logits = x @ w
        labels = (y > 0).astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), {"logits": logits}

    return {"loss": loss, "params": jnp.zeros((4, 2)), "batches": rows(10), "validation": [valid]}


def of_nnx(key):
    graph, params, rest = nnx.split(nnx.Linear(4, 1, rngs=nnx.Rngs(key)), nnx.Param, ...)

    def loss(params, batch):
        x, y = batch
        return jnp.mean((nnx.merge(graph, params, rest)(x)[:, 0] - y) ** 2)

    return {"loss": loss, "params": params, "batches": rows(10), "validation": [valid]}


def of_equinox(key):
    params, static = eqx.partition(eqx.nn.MLP(4, 1, 8, 1, key=key), eqx.is_inexact_array)

    def loss(params, batch):
        x, y = batch
        return jnp.mean((jax.vmap(eqx.combine(params, static))(x)[:, 0] - y) ** 2)

    return {"loss": loss, "params": params, "batches": rows(10), "validation": [valid]}


part = lambda **other: {"loss": squares, "params": jnp.zeros(4), "batches": rows(10), **other}
once = lambda key: (squares, jnp.zeros(4), iter(rows(10)))
empty = lambda key: part(batches=[])
none = lambda key: part(batches=None)
misspelt = lambda key: part(valid=1)
unfinished = lambda key: {"loss": squares}
vector = lambda key: part(loss=lambda w, batch: w)
lonely = lambda key: part(loss=lambda w: 0.0)
taken = lambda key: part(loss=lambda w, batch: (squares(w, batch), {"loss": 1.0}))
wide = lambda key: part(loss=lambda w, batch: (squares(w, batch), {"mae": w}))
pair = lambda key: part(loss=lambda w, batch: (squares(w, batch), w))
keyed = lambda key: part(params={"w": jnp.zeros(4), "key": key})
whole_batch = lambda key: part(validation=valid)
spent = lambda key: part(validation=iter([valid]))
made = lambda key: part(optimizer=optax.adam(0.1))
longer = lambda key: part(batches=Growing())
unbatched = lambda key: part(batches=train)
deaf = lambda key: part(optimizer=lambda learning_rate: optax.adam(1e-3))


def broken(key):
    def loss(w, batch):
        raise ValueError("of the loss itself")

    return part(loss=loss)


ragged = lambda key: part(validation=[(x, y, 3)], batches=lambda key: [(x[:3], object())])


class Growing:
    n = 7

    def __iter__(self):
        self.n += 1
        return iter(rows(10)[:1] * (self.n // 3))
'''
WORDS = ["--epochs", "6", "--schedule", "linear(0.1, 0.0, 48)"]


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    """A folder with a module of tasks, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_tasks.py").write_text(TASKS)
    with jax.numpy_dtype_promotion("standard"):
        yield
    sys.modules.pop("own_tasks", None)


def trained(name, *words, out=None):
    folder = Folder(Path(out or name))
    task = f"own_tasks:{name}"
    assert main(["train", "--task", task, "--out", str(folder.path), *WORDS, *words]) == 0
    return folder


def column(folder, name):
    with folder.metrics.open() as stream:
        return np.array([row[name] for row in csv.DictReader(stream) if row[name]], np.float64)


def refusal(capsys, *words):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def refusal_after(capsys, *words):
    capsys.readouterr()
    return refusal(capsys, *words)


def final_params(folder):
    settings = folder.read_settings()
    own = _spoken.saved_task(settings)
    tx = _spoken.transform(settings, _spoken.learning_rate(settings), own)
    with Checkpoints(folder.checkpoints, settings) as checkpoints:
        return checkpoints.newest(start(tx, own))[0].params


def test_the_shortest_task_is_the_loop_that_one_would_write(capsys):
    folder = trained("arrays", "--optimizer", "sgd", "--no-plateau")
    own = sys.modules["own_tasks"]
    tx, w = optax.sgd(js.linear(0.1, 0.0, 48)), jnp.zeros(4)
    state, losses = tx.init(w), []
    for batch in own.rows(10) * 6:
        loss, grad = jax.value_and_grad(own.squares)(w, batch)
        updates, state = tx.update(grad, state, w)
        w, _ = optax.apply_updates(w, updates), losses.append(loss)
    np.testing.assert_allclose(column(folder, "train_loss"), losses, rtol=1e-5)
    np.testing.assert_allclose(final_params(folder), w, rtol=1e-5)
    np.testing.assert_allclose(
        column(folder, "mean_loss"), np.reshape(losses, (6, 8)).mean(axis=1), rtol=1e-5
    )
    said = capsys.readouterr().out
    assert "8 an epoch, of shapes (10, 4), (10,)" in said and "mean loss" in said
    assert "validation " not in said


@pytest.mark.parametrize("name", ["as_list", "as_loader", "as_generator"])
def test_batches_in_any_form_are_the_same_run(name):
    one, other = (trained(x).metrics.read_bytes() for x in ("arrays", name))
    assert one == other


def test_an_epoch_is_read_in_pieces(monkeypatch):
    whole = trained("as_loader", out="one").metrics.read_bytes()
    monkeypatch.setattr(_batches, "CHUNK", 3)
    assert trained("as_loader", out="pieces").metrics.read_bytes() == whole


def test_a_smaller_last_batch_is_a_step_and_means_are_of_examples():
    folder = trained("uneven", "--optimizer", "sgd")
    own = sys.modules["own_tasks"]
    assert len(column(folder, "step")) == 6 * 3
    wanted = own.squares(final_params(folder), own.valid)
    np.testing.assert_allclose(column(folder, "val_loss")[-1], wanted, rtol=1e-5)


def test_everything_that_a_task_can_have(capsys):
    rule = "linear(0.03, 0.0, 48) * reduce_on_plateau(metric='mae', patience=1, rtol=0.9)"
    folder = trained(
        "whole", "--schedule", rule, "--with", "keep_best(metric='accuracy',mode='max')"
    )
    names = folder.metrics.read_text().partition("\n")[0].split(",")
    assert names[2:8] == [
        "learning_rate", "scale", "train_loss", "val_loss", "val_accuracy", "val_mae",
    ]  # fmt: skip
    assert column(folder, "cuts")[-1] > 0  # the metric of the task has reached the rule
    assert column(folder, "val_loss")[-1] < column(folder, "val_loss")[0]
    settings = folder.read_settings()
    assert (settings.task, settings.optimizer, settings.batch_size) == (
        "own_tasks:whole",
        None,
        None,
    )
    shown = capsys.readouterr().out
    assert "that of the task" in shown and "best kept" in shown and "val mae" in shown
    assert folder.picture.stat().st_size > 30_000
    assert main(["report", str(folder.path)]) == 0
    page = (folder.path / "report.html").read_text()
    assert "val_mae" in page and "own_tasks:whole" in page


def test_the_optimizer_of_the_task_is_used_unless_another_is_named():
    used, other = trained("whole"), trained("whole", "--optimizer", "sgd", out="other")
    assert other.read_settings().optimizer == "sgd"
    own = task("own_tasks:whole", jax.random.key(0))
    state = start(_spoken.transform(used.read_settings(), js.constant(0.1), own), own)
    assert "mu" in str(jax.tree_util.tree_leaves_with_path(state.opt_state))
    assert not np.array_equal(column(used, "train_loss"), column(other, "train_loss"))


@pytest.mark.parametrize("name", ["whole", "of_nnx", "of_equinox"])
def test_a_resumed_run_is_uninterrupted_bit_for_bit(name):
    whole, half = trained(name, out="one"), trained(name, "--stop-after", "3", out="two")
    assert main(["train", "--out", "two", "--resume"]) == 0
    assert whole.metrics.read_bytes() == half.metrics.read_bytes()
    pairs = zip(*(jax.tree.leaves(final_params(run)) for run in (whole, half)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_another_seed_is_another_run():
    one, two = trained("whole", out="one"), trained("whole", "--seed", "1", out="two")
    assert (column(one, "train_loss") != column(two, "train_loss")).all()


def test_a_task_with_logits_has_a_divergence(capsys):
    kl = "constant(0.5) * kl_adaptive(1e-4, down=2)"
    assert column(trained("classes", "--schedule", kl), "scale")[-1] < 1
    capsys.readouterr()
    said = refusal(capsys, "train", "--task", "own_tasks:arrays", "--schedule", kl)
    assert "must be one of value, loss, gradient_norm, got 'kl'" in said


def test_lengths_are_epochs_of_the_task():
    folder = trained("arrays", "--schedule", "linear(1, 0, 2ep) >> linear(1, 0, 20ex)")
    assert folder.read_settings().learning_rate == "linear(1.0, 0.0, 16) >> linear(1.0, 0.0, 2)"


def test_find_names_the_run_to_make_next(capsys, tmp_path):
    words = ["--task", "own_tasks:arrays", "--optimizer", "sgd", "--steps", "40", "--low", "1e-3"]
    assert main(["find", *words]) == 0
    said = capsys.readouterr().out
    command = next(line for line in said.splitlines() if line.startswith("next:"))
    assert main([*shlex.split(command)[2:], "--epochs", "2"]) == 0
    settings = json.loads((tmp_path / "runs/own_tasks/settings.json").read_text())
    assert (settings["task"], settings["optimizer"]) == ("own_tasks:arrays", "sgd")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("once", "is an iterator, which can be read only once"),
        ("empty", "must not be empty"),
        ("none", "a run needs `batches`, got None"),
        ("misspelt", "there is no part 'valid' of a task. All of them: batches, loss,"),
        ("unfinished", "needs 'params'"),
        ("vector", "must return one real loss, or (loss, metrics) with a dict of numbers"),
        ("pair", "must return one real loss, or (loss, metrics) with a dict of numbers"),
        ("lonely", "must be called as `loss(params, batch)`"),
        ("taken", "must not be named 'loss'"),
        ("wide", "the metric 'mae' must be a number, got float32[4]"),
        ("made", "must be a function with an argument `learning_rate`"),
        ("longer", "batches, but the epochs before have"),
        ("ragged", "--task own_tasks:ragged: `task(batches=...)` must be trees of numbers"),
        ("whole_batch", "If it is one batch, put it into a list"),
        ("keyed", "`task(params=...)` must be floats, but ['key'] is key<fry>"),
        ("spent", "`validation` is an iterator"),
        ("nowhere", "has no function 'nowhere'"),
        ("arrays --batch-size 3", "sets its own batches"),
        ("arrays --plateau metric=accuracy", "value, loss, gradient_norm, got 'accuracy'"),
    ],
)
def test_a_wrong_description_is_one_line(capsys, name, said):
    words = shlex.split(name)
    words = ["train", "--task", f"own_tasks:{words[0]}", "--epochs", "9", *words[1:]]
    captured = main(words), capsys.readouterr().err
    assert captured[0] == 2 and said in captured[1].splitlines()[-1]


def test_a_mistake_in_the_loss_has_its_traceback():
    with pytest.raises(ValueError, match="of the loss itself"):
        main(["train", "--task", "own_tasks:broken"])


def test_a_file_is_no_module(capsys):
    for file in ("./own_tasks.py", "own_tasks.py"):
        said = refusal(capsys, "train", "--task", f"{file}:arrays")
        assert "Did you mean own_tasks:arrays?" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unbatched", "a batch has arrays of shapes (4,), (), of which one has no axis"),
        ("deaf", "the first update of the task's optimizer is the same at any learning rate"),
        ("whole --schedule constant(0.1)*greedy(metric='accuracy')", "waits for a lower accuracy"),
        ("whole", None),
    ],
)
def test_what_is_probably_not_meant_is_said(capsys, name, said):
    name, *words = name.split()
    trained(name, "--epochs", "1", *words)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "jaxsched:" in line]
    assert len(warnings) == (said is not None) and (said or "") in "".join(warnings)


def test_a_run_does_not_go_back(capsys):
    folder = trained("arrays")
    before = folder.settings.read_bytes()
    said = refusal_after(capsys, "train", "--out", "arrays", "--resume", "--epochs", "5")
    assert "--epochs 5: the run in arrays has 6 already" in said
    assert folder.settings.read_bytes() == before


def test_a_run_beyond_the_end_of_its_schedule_says_so(capsys):
    trained("arrays")
    assert main(["train", "--out", "arrays", "--resume", "--epochs", "7"]) == 0
    assert "the schedule ended at step 48, and stays at 0 from there on" in capsys.readouterr().err


def test_the_photograph_of_the_guide(monkeypatch, tmp_path):
    monkeypatch.chdir(EXAMPLES)
    words = ["--task", "own_task:photograph", "--epochs", "2", "--out", str(tmp_path / "photo")]
    assert main(["train", *words, "--schedule", "warmup_cosine(0.01, warmup_steps=5%)"]) == 0
    psnr = column(Folder(tmp_path / "photo"), "val_psnr")
    assert psnr[1] > psnr[0] > 15
