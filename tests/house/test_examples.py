"""Every example runs, and what it says is so."""

import re
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scripts import EXAMPLES, example

from jaxsched import factors, hyperparams, step, trigger, warmup_cosine

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.fixture(autouse=True)
def _standard_promotion():
    """Optax's Adam adds floats to its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def rates(shown):
    return [float(line.split()[4]) for line in shown.splitlines() if line.startswith("step")]


@pytest.mark.parametrize("name", ["linen", "nnx", "plain_optax"])
def test_resumed_is_uninterrupted(name, capsys):
    whole, resumed = example(name).main()
    assert jax.tree.structure(whole) == jax.tree.structure(resumed)
    leaves = jax.tree.leaves(whole)
    assert len(leaves) > 5
    for a, b in zip(leaves, jax.tree.leaves(resumed), strict=True):
        assert np.array_equal(a, b)
    shown = capsys.readouterr().out
    assert "bit for bit: True" in shown
    used = rates(shown)
    assert used[:10] == used[10:]  # of the whole run, then of its halves
    steps = 10 * np.arange(10) + 9
    scheduled = warmup_cosine(1e-2, total_steps=100, warmup_steps=10)(steps)
    scales = np.divide(used[:10], scheduled)[[1, 8]]
    np.testing.assert_allclose(scales, [1.0, 0.5], rtol=0.01)  # the plateau has cut once


def test_sixty_four_schedules_are_one_program(capsys, tmp_path):
    found, traces = example("many_schedules").main(steps=50, picture=tmp_path / "sweep.png")
    assert traces == 2  # of which one asks for the shape of the score alone
    assert found.scores.shape == (64, 2)
    assert np.isfinite(found.scores).all()
    assert found.mean.min() < 0.6 < 1 < found.mean.max()
    assert "128 runs in one program" in capsys.readouterr().out


@pytest.mark.slow
def test_the_end_is_decided_late_and_branches_are_runs(capsys, tmp_path):
    study = example("cooldown_branches")
    (whole, resumed, traces), (losses, retraces), runs = study.main(
        quick=True, picture=tmp_path / "branches.png"
    )
    assert traces == retraces == 1
    assert jax.tree.structure(whole) == jax.tree.structure(resumed)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        assert np.array_equal(a, b)
    cooldown = factors(whole)["learning_rate"][0]
    assert cooldown.begun
    # It ends 100 steps after its trigger, and nothing moves from there to the end of the chunk.
    assert 0 < cooldown.start < step(whole) - 100 < cooldown.start + 50
    assert hyperparams(whole)["learning_rate"] == 0
    assert losses[-1] < losses[0]

    assert np.isfinite(runs.scratch).all()
    assert (runs.branches[-1, ..., -1] < runs.branches[-1, ..., 0]).all()
    shortest = runs.branches[0, 0, :, :, :, 0]  # of one interval: it stands still thereafter
    assert np.array_equal(np.broadcast_to(shortest[..., None], (2, 2, 2, 4)), runs.branches[0, 0])
    shown = capsys.readouterr().out
    assert "the same, bit for bit: True; 1 trace(s)" in shown
    assert "330 / 450" in shown
    assert (tmp_path / "branches.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_branch_is_the_run_triggered_there():
    study = example("cooldown_branches")
    runs = study.branches(budgets=(150,), peaks=(1e-2,), seeds=1, every=30)
    (key,) = jax.random.split(jax.random.key(2), 1)

    def one():
        state = study.fresh(study.stable_then(1e-2, 30, 0), study.init(key))
        (params, opt_state), _ = jax.tree.map(lambda x: x[-1], study.run(state, key, 120, 30))
        state = state.replace(params=params, opt_state=trigger(opt_state))
        return study.run(state, key, 30, 30)[1]

    np.testing.assert_allclose(jax.jit(one)()[-1], runs.branches[0, 0, 0, 0, 0, -1], rtol=1e-3)


def test_an_ensemble_of_snapshots_is_better_than_the_last(capsys):
    rows, taken = example("snapshot_ensemble").main(quick=True)
    assert taken.tolist() == [[[1] * 10], [[5] * 10], [[5] * 10]]
    better = rows["restarts to 0: ensemble"] - rows["restarts to 0: the last"]
    accuracy, nll = np.moveaxis(better[0], -1, 0)
    assert (nll < 0).all()  # for every seed: the mean is more than ten standard errors away
    assert accuracy.mean() > 0  # and this one more than five
    assert "differences on the same seeds" in capsys.readouterr().out


def test_adaptive_optimizers_gain_from_a_schedule(capsys):
    found, mean, twice = example("adaptive_optimizers").main(quick=True)
    assert mean.shape == (2, 4)  # AdaGrad and Adam; three schedules, and the best of them
    assert (mean[:, [0, 1, 3]] > twice[:, [0, 1, 3]]).all()
    for rates, valid, losses in found["digits"].values():
        assert (rates[1:] >= rates[0]).all()  # a decay allows a higher rate
        assert losses.shape == (4, 6) and np.isfinite(losses).all() and np.isfinite(valid).all()
    assert "better 2, worse 0, diverged 0" in capsys.readouterr().out


def test_a_warmup_from_the_loss_survives_a_peak_that_is_too_high(capsys):
    found, (_, _, _, failed) = example("auto_warmup").main(quick=True)
    assert failed[0, 1] == 0  # at its own peak
    assert failed[1, 1] <= failed[1, 0]  # at four times the peak, beside a fixed length
    ((_, curves, _, runs),) = found.values()
    assert np.isfinite(curves[-1].min()) and (runs[0, 1, :, 3] < 1).all()
    assert "fail at the own peak" in capsys.readouterr().out


def test_a_merge_is_better_than_the_last_iterate_and_near_the_run_that_decays(capsys):
    found, fixed = example("averages").main(quick=True)
    losses, chosen = found["AdamW", "digits"]
    assert losses["merge"].shape == (2, 24) and all(np.isfinite(x).all() for x in losses.values())
    mean = {name: x.mean(axis=1) for name, x in losses.items()}
    assert (mean["merge"] < 0.85 * np.minimum(mean["last"], mean["last, own peak"])).all()
    for other in ("real decay", "cosine"):
        np.testing.assert_allclose(mean["merge"], mean[other], rtol=0.2)
    assert chosen["peak"] > chosen["own"]  # an average allows a higher rate
    exact, not_exact = (np.array(x)[:, 0] for x in fixed.values())
    assert (exact < 1e-3).all() and (not_exact > 1e-3).all() and not_exact[1] > 10 * not_exact[0]
    assert "merge - cosine" in capsys.readouterr().out


def test_averaged_parameters_need_statistics_of_their_own():
    (found,) = example("averaged_statistics").main(cases=((0.2, 600),)).values()
    last, again, running, own = found[0].mean(axis=1)
    assert own < running < again < last


@pytest.mark.slow
def test_the_guide_to_averages_says_what_its_scripts_say(capsys, monkeypatch):
    study = example("averages")
    # The standard promotion of this file holds in this thread only.
    monkeypatch.setattr(study, "ThreadPoolExecutor", lambda _: SimpleNamespace(map=map))
    study.main()
    example("averaged_statistics").main()
    page = (EXAMPLES.parent / "docs" / "averages.md").read_text()
    written = "".join(re.findall(r"```text\n(.*?)\n *```", page, re.DOTALL))
    loss = re.compile(r"(?<![-+\d])(\d\.\d{4}) ± ")
    both = [sorted(map(float, loss.findall(x))) for x in (written, capsys.readouterr().out)]
    assert len(both[0]) == len(both[1]) == 6 * 9 * 5 + 3 * 4
    np.testing.assert_allclose(*both, rtol=0.1)


STUDIES = {
    "averages": 340,
    "averaged_statistics": 110,
    "adaptive_optimizers": 300,
    "auto_warmup": 300,
    "cooldown_branches": 340,
    "snapshot_ensemble": 140,
    "learned_schedule": 110,
    "choosing_a_rate": 180,
    "descent": 300,
    "descent_minima": 300,
    "fine_tuning": 300,
    "pretraining": 200,
    "small_language_model": 190,
    "forecasting": 190,
    "which_schedule": 220,
    "logging_metrics": 90,
    "ppo": 98,  # its environment is a part of it
    "resharded_restore": 86,
    "tuning": 300,
}  # they measure


def test_several_devices_decide_as_one(capsys):
    (rates, events, alike), (others, same, all_alike) = example("several_devices").main()
    assert alike and all_alike
    assert events == same and events["skips"] == 1
    assert all(count for name, count in events.items() if name != "mixed")
    np.testing.assert_allclose(rates, others, rtol=1e-6)
    assert capsys.readouterr().out.count("all replicas alike: True") == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < STUDIES.get(path.stem, 80)


@pytest.mark.slow
def test_a_schedule_is_learnt_and_set_against_the_best_cosine(capsys):
    losses = example("learned_schedule").main(tries=2, updates=25, seeds=4, peaks=1)
    begin, cosine, learned = losses.mean(axis=0)
    assert losses.shape == (2, 3) and learned < begin
    assert np.isfinite(cosine)
    assert "learned - best cosine, 2 tries: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_guide_to_choosing_a_rate_says_what_its_script_says(capsys):
    example("choosing_a_rate").main()
    written = (EXAMPLES.parent / "docs" / "choosing_a_rate.md").read_text()
    blocks = re.findall(r"```text\n(# .*?)\n```", written, re.DOTALL)
    pieces = re.split(r"^(?=# )", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    assert [words(block)[0] for block in blocks] == [words(piece)[0] for piece in pieces]
    for block, piece in zip(blocks, pieces, strict=True):
        if block.startswith("# the sweep"):  # which of two is first is not the same everywhere
            block, piece = block.splitlines()[2], piece.splitlines()[2]
            assert abs(numbers(block)[1] - numbers(piece)[1]) < 0.02
            continue
        block, chaos = block.split("ten times that")[0], piece.split("ten times that")[1:]
        piece = piece.split("ten times that")[0]
        block, piece = (re.sub(r"^  ste.*\n", "", x, flags=re.MULTILINE) for x in (block, piece))
        assert words(block) == words(piece)
        np.testing.assert_allclose(numbers(block), numbers(piece), rtol=0.3)
        assert not chaos or (numbers(chaos[0])[0] > 0.4 and "raise" not in chaos[0])


def test_every_shape_of_a_task_is_one_program(capsys):
    found = example("which_schedule").main(quick=True)
    peaks, losses = found["vision"]
    assert losses.shape == (8, 4) and np.isfinite(losses).all()
    assert len({*peaks}) > 1 and (losses < 2.0).all()  # it learns with every shape
    assert "no difference to: " in capsys.readouterr().out


def test_a_decay_comes_nearer_to_the_minimum_than_a_constant_rate(capsys):
    with jax.numpy_rank_promotion("allow"):
        limit, stable, noisy, heard, _ = example("descent").main(quick=True)
    np.testing.assert_allclose(stable, limit, rtol=1e-3)  # 2 / curvature, also with a warmup
    last = {name: np.linalg.norm(path[:, -1], axis=-1).mean() for name, path in noisy.items()}
    assert max(last["linear"], last["cosine"]) < 0.7 * last["constant 0.05"]
    assert last["constant 0.05"] < last["constant 0.005"]
    paths, rates = heard
    assert np.linalg.norm(paths[:, -1], axis=-1).mean() < 0.7 * last["constant 0.05"]
    assert (rates[:, -1] < rates[:, 0]).all()
    assert "condition number 20" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_of_pictures_says_what_its_scripts_say(capsys):
    with jax.numpy_rank_promotion("allow"):
        for name in ("descent", "descent_minima"):
            example(name).main()
    written = (EXAMPLES.parent / "docs" / "descent.md").read_text()
    blocks = "\n".join(re.findall(r"```text\n(.*?)\n```", written, re.DOTALL))
    said = capsys.readouterr().out
    assert words(blocks) == words(said)
    near = [[x for x in text.splitlines() if "too high" not in x] for text in (blocks, said)]
    both = [numbers("\n".join(lines)) for lines in near]
    np.testing.assert_allclose(*both, rtol=0.2, atol=0.05)


@pytest.mark.slow
def test_the_page_on_adaptive_optimizers_says_what_its_script_says(capsys):
    example("adaptive_optimizers").main()
    written = (EXAMPLES.parent / "docs" / "adaptive_optimizers.md").read_text()
    loss = re.compile(r": (?:(\d\.\d{4}) ±|\d+ of \d+ diverged)")
    both = [
        np.array([float(x or "nan") for x in loss.findall(text)])
        for text in (written, capsys.readouterr().out)
    ]
    assert len(both[0]) == len(both[1]) == 9 * 4 * 3
    near = np.isclose(*both, rtol=0.1) | np.isnan(both).any(axis=0)  # a seed may diverge elsewhere
    assert near.all() and np.isnan(both).sum() < 6


def test_every_way_to_fine_tune_is_one_program(capsys):
    study = example("fine_tuning")
    with jax.numpy_rank_promotion("allow"):
        results, _ = study.main(quick=True)
    assert study.fine_tune._cache_size() == 1
    assert {found.shape for found in results[100].values()} == {(2, 2)}
    log_loss = {name: found[:, 1] for name, found in results[100].items()}
    assert (log_loss["constant rate"] > log_loss["the recipe"]).all()
    assert (log_loss["gradual unfreezing"] != log_loss["the recipe"]).all()
    written = (EXAMPLES.parent / "docs" / "fine_tuning.md").read_text()
    headings = re.findall(r"^# .*", capsys.readouterr().out, re.MULTILINE)
    assert len(headings) == 5
    assert all(f"```text\n{heading}\n" in written for heading in headings)


def test_searches_cost_the_same_and_beat_no_search(capsys, tmp_path):
    found, losses, grids = example("tuning").main(tmp_path, quick=True)
    assert {x.scores.size for each in found.values() for x in each} == {72}
    assert {len(x) for x in losses.values()} == {3}
    for name in found:
        assert (losses[name] < losses["no search"] - 0.1).all()
    assert grids.scores.shape == (72, 3) and grids.mean.min() < 1.4 < 2 < grids.mean.max()
    assert (tmp_path / "tuning_grid.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "peak_value  warmup_steps  weight_decay" in shown
    assert "random, 3 folds - random" in shown


def test_a_fold_that_is_held_out_does_not_change_the_training():
    study = example("tuning")
    data, member = study.digits(0)[0], study.member(0.01, 2, 0.1)
    run = jax.jit(
        jax.vmap(lambda fold, data: trained(study, member | {"fold": fold}, data), (0, None))
    )
    params, scores = run(np.arange(3), data)
    size = len(data[1]) // 3
    for fold in range(3):
        held = slice(fold * size, (fold + 1) * size)
        other = data[0].at[held].add(1.0), data[1].at[held].set(0)
        found, others = run(np.arange(3), other)
        for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
            same = (before == after).reshape(3, -1).all(axis=1)
            assert same.tolist() == [i == fold for i in range(3)]  # all others learn from it
        assert scores[fold] != others[fold]


def trained(study, member, data):
    state = study.start(member, jax.random.key(0), data)
    (params, *_), score = study.advance(member, state, 3, data)
    return params, score


@pytest.mark.slow
def test_the_page_about_tuning_says_what_its_script_says(capsys):
    with jax.numpy_rank_promotion("allow"):  # Keras needs it
        example("tuning").main()
    written = (EXAMPLES.parent / "docs" / "tuning.md").read_text()
    blocks = re.findall(r"```text\n(# .*?)\n```", written, re.DOTALL)
    pieces = re.split(r"^(?=# )", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    for block, piece in zip(blocks[:2], pieces[:2], strict=True):
        rows, others = ([NUMBER.findall(x) for x in y.split("\n")[1:]] for y in (block, piece))
        firsts = [
            [float(x[-4 if "own" in block else -2]) for x in y if len(x) > 3]
            for y in (rows, others)
        ]
        np.testing.assert_allclose(*firsts, atol=0.02)
    assert numbers(blocks[2].split("\n")[2])[3:] == numbers(pieces[2].split("\n")[2])[3:]
    best = [
        min(numbers(line)[1] for line in x.split("\n")[2:]) for x in (blocks[3], pieces[3].rstrip())
    ]
    np.testing.assert_allclose(*best, rtol=0.1)


def words(text):
    return [NUMBER.sub("x", line).split() for line in text.strip().splitlines()]


def numbers(text):
    return [float(x) for x in NUMBER.findall(text)]


def test_a_law_ranks_schedules_and_chooses_a_rest(capsys, monkeypatch, tmp_path):
    study = example("forecasting")
    small = sys.modules["small_language_model"]
    for name, size in {"WIDTH": 16, "LAYERS": 1, "LENGTH": 16, "BATCH": 4}.items():
        monkeypatch.setattr(small, name, size)
    small.data.cache_clear()
    with jax.numpy_rank_promotion("allow"):
        law, several = study.main(
            steps=100, seeds=2, out=tmp_path / "losses.npz", picture=tmp_path / "forecast.png"
        )
    small.data.cache_clear()
    shown = capsys.readouterr().out
    assert law.evidence is not None
    assert {name: x.shape for name, x in several.items()} == dict.fromkeys(study.SEVERAL, (2, 100))
    assert np.load(tmp_path / "losses.npz")["rest"].shape[:2] == (2, 4)
    assert (tmp_path / "forecast.png").exists()
    table = shown.partition("another seed\n")[2].splitlines()[:10]
    told = [float(line[22:].split()[0]) for line in table]
    assert told == sorted(told) and np.isfinite(told).all()
    assert all(text in shown for text in ("rank correlation", "from 40 %", "(4 seeds); forecast"))


def test_a_language_model_continues_and_branches_from_its_end():
    study = example("small_language_model")
    with jax.numpy_rank_promotion("allow"):
        rates, seeds = np.full((2, 8), 1e-3), np.arange(2)
        whole = study.train(rates, seeds, every=4)
        half = study.train(rates[:, :4], seeds, every=4)
        rest = study.train(rates[:, 4:], seeds, half.end, every=4)
        branch = study.train(rates[:, 4:] / 2, seeds, half.end, every=4)
    both = np.concatenate([half.losses, rest.losses], axis=1)
    assert np.array_equal(whole.losses, both)
    assert np.array_equal(whole.validation[:, 1:], rest.validation)
    for a, b in zip(jax.tree.leaves(whole.end), jax.tree.leaves(rest.end), strict=True):
        assert np.array_equal(a, b)
    assert whole.validation_steps.tolist() == [[4, 8]] * 2
    assert np.array_equal(branch.losses[:, 0], rest.losses[:, 0])  # the same batch
    assert (branch.losses[:, 1] != rest.losses[:, 1]).all()
    assert study.runs._cache_size() == 2  # of 8 and of 4 steps
    assert (whole.losses[:, -1] < whole.losses[:, 0]).all()
