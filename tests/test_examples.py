"""Every example runs, and what it says is so."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsched import warmup_cosine

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _standard_promotion():
    """Optax's Adam adds floats to its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rates(shown):
    return [float(line.split()[4]) for line in shown.splitlines() if line.startswith("step")]


@pytest.mark.parametrize("name", ["linen", "nnx", "plain_optax"])
def test_resumed_is_uninterrupted(name, capsys):
    whole, resumed = example(name).main()
    assert jax.tree.structure(whole) == jax.tree.structure(resumed)
    leaves = jax.tree.leaves(whole)
    assert len(leaves) > 10
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


def test_sixteen_schedules_are_one_program(capsys):
    losses, traces = example("many_schedules").main(steps=50)
    assert traces == 1
    assert losses.shape == (16,)
    assert np.isfinite(losses).all()
    assert losses.min() < 0.5 < losses.max()
    assert "16 runs" in capsys.readouterr().out


def test_several_devices_decide_as_one(capsys):
    (rates, events, alike), (others, same, all_alike) = example("several_devices").main()
    assert alike and all_alike
    assert events == same and all(events.values()) and events["skips"] == 1
    np.testing.assert_allclose(rates, others, rtol=1e-6)
    assert capsys.readouterr().out.count("all replicas alike: True") == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < 80
