"""Beside other libraries: each example trains, and the rates used are those of its formula."""

import csv
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from scripts import example

import jaxsched as js
from jaxsched import testing


@pytest.fixture(autouse=True)
def _as_users_have_it():
    """What is trained here is not all written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_the_imagenet_recipe(capsys):
    study = example("imagenet_recipe")
    testing.assert_same(js.parse(study.TEXT, units=study.units), study.rate)
    logs, right = study.main()
    used, losses = (np.ravel([log[name] for log in logs]) for name in ("learning_rate", "loss"))
    warm, total, step = 5 * 11, 15 * 11, np.arange(15 * 11)
    cosine = 0.5 * (1 + np.cos(np.pi * (step - warm) / (total - warm)))
    np.testing.assert_allclose(used, 0.05 * np.where(step < warm, step / warm, cosine), rtol=1e-4)
    assert used[0] == 0 and used[warm] == np.float32(0.05)
    assert losses[-11:].mean() < 0.1 < 2 < losses[:5].mean() and right > 0.9
    assert capsys.readouterr().out.count("rate used") == 15


def test_a_language_model(capsys):
    log = example("language_model").main()
    step = np.arange(len(log["loss"]))
    assert len(step) == 100_000 // (16 * 64)
    inverse_sqrt = np.sqrt(9 / np.maximum(step, 9)) * np.minimum(step / 9, 1)
    np.testing.assert_allclose(log["learning_rate"], 4e-3 * inverse_sqrt, rtol=1e-6)
    assert log["loss"][0] > 4 and log["loss"][-10:].mean() < 2.7
    assert "81920 tokens" in capsys.readouterr().out


def test_ppo_counts_updates_of_many_minibatches(capsys):
    logs = example("ppo").main()
    annealed, by_kl = logs["annealed"], logs["by the KL"]
    updates = np.arange(30)[:, None] * np.ones(16)
    np.testing.assert_allclose(annealed["learning_rate"], 3e-3 * (1 - updates / 30), rtol=1e-6)
    np.testing.assert_allclose(annealed["clip"], 0.3 - 0.2 * updates / 30, rtol=1e-6)

    scale, expected = np.float32(1), []
    for kl in np.ravel(by_kl["kl"]):
        scale = scale / 1.5 if kl > 0.006 else scale * 1.5 if 0 < kl < 0.0015 else scale
        expected.append(scale := np.clip(scale, 0.01, 10))
    np.testing.assert_allclose(
        np.ravel(by_kl["learning_rate"]), 1e-3 * np.array(expected), rtol=1e-5
    )
    assert len(np.unique(expected)) > 3
    for log in logs.values():  # a pole stands five times as long
        assert log["falls"][-10:].mean() < log["falls"][:1].mean() / 5
    assert "annealed, update 25" in capsys.readouterr().out


class TestEquinox:
    eqx = pytest.importorskip("equinox")

    def test_a_loop_is_resumed_bit_for_bit(self, capsys):
        whole, resumed = example("equinox_loop").main()
        assert self.eqx.tree_equal(whole, resumed)
        model, state = whole
        assert js.step(state) == 100 and js.events(state)["cuts"] > 0
        testing.assert_same(model.noise, js.linear(0.2, 0.0, 100))  # which nobody has trained
        lines = [x.split() for x in capsys.readouterr().out.splitlines() if x.startswith("step")]
        used = np.array([line[4] for line in lines], float)
        np.testing.assert_array_equal(used[:10], used[10:])  # of the whole run, then of its halves
        schedule = js.linear(1e-3, 1e-2, 10) >> js.cosine(1e-2, 0.0, 90)
        scales = used[:8] / schedule(10 * np.arange(8) + 9)
        np.testing.assert_allclose(scales[0], 1.0, rtol=1e-3)
        np.testing.assert_allclose(scales[-1], 0.5, rtol=1e-2)  # the plateau has cut once by then

    def test_a_schedule_is_filtered_as_a_module_is(self):
        eqx = self.eqx
        schedule = js.linear(0.0, 1.0, 4) >> js.cosine(1.0, 0.0, 8)
        assert jax.tree.leaves(eqx.filter(schedule, eqx.is_inexact_array)) == []
        arrays = jax.tree.map(jnp.asarray, schedule)  # and now it can be trained, and is traced
        grads = eqx.filter_grad(lambda schedule: schedule(1))(arrays)
        np.testing.assert_allclose(jax.tree.leaves(grads), [0.75, 0.25, 0.0, 0.0])
        rates = eqx.filter_vmap(lambda schedule: schedule(1))(
            js.stack([js.linear(0.0, end, 4) for end in (1.0, 2.0)])
        )
        np.testing.assert_allclose(rates, [0.25, 0.5])

        traces = 0

        @eqx.filter_jit
        def called(schedule, step):
            nonlocal traces
            traces += 1
            return schedule(step)

        for end in (1.0, 2.0):
            new = jax.tree.map(jnp.asarray, js.linear(0.0, end, 4))
            assert called(new, jnp.int32(2)) == end / 2
        assert traces == 1


def test_a_run_is_restored_onto_other_meshes(capsys):
    half, ends = example("resharded_restore").main()
    assert [restored[0]["in"].addressable_shards[0].data.shape for restored, *_ in ends] == [
        (8, 64),
        (16, 32),
        (32, 64),
    ]
    first = ends[0][2]
    for restored, end, log in ends:
        assert jax.tree.structure(restored) == jax.tree.structure(half) == jax.tree.structure(end)
        for a, b, c in zip(*map(jax.tree.leaves, (half, restored, end)), strict=True):
            assert np.array_equal(a, b) and a.dtype == b.dtype == c.dtype
        np.testing.assert_array_equal(log["learning_rate"], first["learning_rate"])
        np.testing.assert_array_equal(log["weight_decay"], first["weight_decay"])
        # Sums of 128 float32 in another order, through thirty steps.
        np.testing.assert_allclose(log["loss"], first["loss"], rtol=1e-4)
    assert js.events(half[1])["cuts"] > 0  # there was something to keep
    assert "shards of (16, 32)" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_keras_fits(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    used, seen, restored, theirs, ours = example("keras_fit").main()
    step = np.arange(120)
    wanted = np.where(
        step < 24, 1e-3 + 9e-3 * step / 24, 0.005 * (1 + np.cos(np.pi * (step - 24) / 96))
    )
    np.testing.assert_allclose(used, wanted, rtol=1e-4)
    assert seen["loss"][-1] < 0.2 < 1 < seen["loss"][0]
    text = "linear(0.001, 0.01, 24) >> cosine(0.01, 0.0, 96)"
    testing.assert_same(restored._learning_rate.schedule, js.parse(text))
    assert f"saved with the model: {text}" in capsys.readouterr().out
    assert theirs[-1] < theirs[0]
    np.testing.assert_array_equal(np.float32(ours), np.float32(theirs))


def test_logs_while_running(tmp_path, capsys):
    told = []
    log = lambda row, step: told.append((step, row))
    example("logging_metrics").main(str(tmp_path), wandb_log=log)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in told] == [*range(120)] and [row for _, row in told] == rows
    assert {type(x) for row in rows for x in row.values()} == {int, float}
    with open(tmp_path / "metrics.csv") as sheet:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(sheet)] == rows

    # A step that is left out uses no rate: the record is of the one before.
    schedule = js.linear(1e-3, 1e-2, 10) >> js.cosine(1e-2, 0.0, 110)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    assert columns["loss"][-1] < 0.3 < 2 < columns["loss"][0]
    assert columns["events/skips"].tolist() == [0] * 70 + [1] * 50
    assert set(columns["in/plateau"]) == {0.5 ** float(cuts) for cuts in columns["events/cuts"]}
    used = np.array(schedule(np.arange(120)))
    used[70] = used[69]
    np.testing.assert_allclose(columns["out/learning_rate"], used / 2, rtol=1e-5)
    np.testing.assert_allclose(columns["in/learning_rate"], used * columns["in/plateau"], rtol=1e-5)
    np.testing.assert_allclose(scalars(tmp_path, "in/learning_rate"), columns["in/learning_rate"])
    np.testing.assert_array_equal(scalars(tmp_path, "events/cuts"), columns["events/cuts"])
    assert "tensorflow" not in sys.modules
    assert "'in/plateau'" in capsys.readouterr().out


def scalars(folder, tag):
    """What the one event file in a folder has under a tag, by step."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("events.*")
    data, found, at = path.read_bytes(), {}, 0
    while at < len(data):  # its length, a checksum, the event, a checksum
        length = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
        at += length + 16
    return [found[key] for key in sorted(found) if key[0] == tag]


PARAMS = {"w": np.full((4, 3), 0.3, np.float32), "b": np.zeros(3, np.float32)}


class TestContrib:
    def test_each_trains_on_its_schedule(self, capsys):
        study = example("contrib_optimizers")
        names = (
            "schedule_free_adamw",
            "prodigy",
            "dadapt_adamw",
            "muon",
            "mechanic",
            "cocob",
            "momo",
        )
        logs, step = study.main(names), np.arange(study.STEPS)
        for name, log in logs.items():
            rates = {"muon": 5 * study.rate, "mechanic": study.rate}
            rate = study.level if "schedule_free" in name else rates.get(name, study.factor)
            np.testing.assert_allclose(log["learning_rate"], rate(step), rtol=1e-6, atol=1e-12)
            assert log["loss"][-10:].mean() < log["loss"][0] / 3, name
        np.testing.assert_allclose(
            logs["muon"]["adam_learning_rate"], study.rate(step), rtol=1e-6, atol=1e-12
        )
        assert capsys.readouterr().out.count("held out") == len(names)

    def trained(self, tx, steps=8):
        x = jax.random.normal(jax.random.key(0), (16, 4))

        def loss(params):
            return jnp.mean((x @ params["w"] + params["b"] - jnp.sign(x[:, :3])) ** 2)

        def step(run, _):
            params, state = run
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), None

        run = PARAMS, tx.init(PARAMS)
        return jax.jit(lambda run: jax.lax.scan(step, run, length=steps)[0])(run)

    @pytest.mark.parametrize("name", ["prodigy", "dadapt_adamw"])
    def test_a_warmup_from_0_breaks_them_and_ours_is_none(self, name):
        factory = getattr(contrib, name)
        for warmup, whole in (({"init_value": 0.0}, False), ({}, True)):
            rate = js.warmup_cosine(1.0, total_steps=8, warmup_steps=3, **warmup)
            params, _ = self.trained(js.inject(factory, learning_rate=rate))
            assert np.isfinite(params["w"]).all() == whole

    def test_nothing_multiplies_the_updates_of_schedule_free(self):
        rate = 0.1 * js.reduce_on_plateau()
        free = js.inject(contrib.schedule_free_sgd, learning_rate=rate)
        remedy = r"inject\(optax.contrib.schedule_free_adamw, learning_rate=rate \* factor\)"
        with pytest.raises(ValueError, match=rf"`wrap` changes the updates.*{remedy}"):
            js.wrap(optax.chain(optax.clip(1.0), free), js.cosine(1.0, 0.0, 9)).init(PARAMS)
        with pytest.raises(ValueError, match=r"`keep_best\(backtrack=True\)` changes"):
            js.keep_best(free, backtrack=True).init(PARAMS)
        js.keep_best(free).init(PARAMS)  # which only looks

    def test_its_average_is_that_of_one_clock(self):
        """In optax the rate that weighs the average is that of the step after."""
        rate = js.linear(0.1, 0.4, 3)
        _, state = self.trained(js.inject(contrib.schedule_free_sgd, learning_rate=rate), 4)
        weights = sum(float(rate(t)) ** 2 for t in range(4))
        assert math.isclose(state.inner_state.weight_sum, weights, rel_tol=1e-6)
        theirs = contrib.schedule_free_sgd(rate)
        _, state = self.trained(theirs, 4)
        weights = sum(float(rate(t)) ** 2 for t in range(1, 5))
        assert math.isclose(state.weight_sum, weights, rel_tol=1e-6)

    def test_a_switch_is_refused_also_of_what_needs_the_loss(self):
        with pytest.raises(ValueError, match=r"`momo` branches on adapt_lower_bound in Python"):
            js.inject(contrib.momo, learning_rate=1.0, adapt_lower_bound=1.0)
