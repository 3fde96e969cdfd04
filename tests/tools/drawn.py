"""Schedules and texts drawn at random, held to the laws of both."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from hypothesis import HealthCheck, Phase, given, settings
from texts import ALGEBRA, STATEFUL, UNITS, mutated
from trees import STEPS, build, ends, evaluate, nested, value

import jaxsched as js
from jaxsched import testing

DEPTH = 6
LINE = js.linear(1.0, 0.0, 9)
RULES = (js.reduce_on_plateau(), js.greedy(), js.spike_guard(), js.until(LINE, LINE))
JITTED = 16  # one in so many is compiled: that takes longer than all else


def draw_schedules(examples: int, depth: int = DEPTH) -> tuple[int, list[str]]:
    """How many schedules were drawn, each an operator of an operator..., and what broke a law."""
    seen: list[Any] = []
    lost: list[str] = []

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # what fails is told as it was drawn
        suppress_health_check=list(HealthCheck),
    )
    @given(nested(depth))
    def each(tree: Any) -> None:
        seen.append(tree)
        try:
            _lawful(tree, len(seen))
        except Exception as error:  # the next one may fail otherwise
            lost.append(f"{tree}: {type(error).__name__}: {str(error).strip()[:300]}")

    each()
    return len(seen), lost + _unlike_saved([build(tree) for tree in seen])


def _lawful(tree: Any, number: int) -> None:
    schedule, end = build(tree), ends(tree)
    assert schedule.steps == end, f"{schedule.steps} steps, not {end}"
    end = 7 if end is None else end
    held = np.asarray([end, end + 1, end + 1000])
    beyond = evaluate(schedule, [-(2**40), -1, *STEPS, 2**31, 2**40, *held, end - 1])
    after = evaluate(schedule.take(end) >> js.linear(3.0, 4.0, 5), [*held, end + 5, end - 1])
    with jax.enable_x64(True):
        exact = evaluate(schedule)
    assert np.all(np.isfinite(beyond)) and beyond.dtype == np.float32
    at = beyond[2 : 2 + len(STEPS)]
    assert np.all(beyond[:2] == at[0]), "it is not held before step 0"
    assert np.all(beyond[-6:-4] == at[-1]), "a step beyond the clock is not the clock's last"
    if schedule.steps is not None:
        assert np.all(beyond[-4:-1] == beyond[-4]), "it is not held from its end on"
    assert after[0] == 3 and np.all(after[2:4] == 4), "the step of a boundary is not of the next"
    assert end == 0 or after[-1] == beyond[-1], "the step before it is"
    told = np.asarray([value(tree, int(t)) for t in STEPS])
    size = max(np.abs(told).max(), 1.0)
    np.testing.assert_allclose(exact, told, rtol=1e-9, atol=1e-9 * size)
    np.testing.assert_allclose(at, told, rtol=1e-4, atol=1e-4 * size)
    testing.assert_same(js.parse(repr(schedule)), schedule)
    rule = RULES[number % len(RULES)]
    testing.assert_same(js.parse(repr(schedule * rule)), schedule * rule)
    if number % JITTED == 0:
        jitted = np.asarray(jax.jit(schedule)(STEPS))
        np.testing.assert_allclose(jitted, at, rtol=1e-5, atol=1e-6 * size)


def _unlike_saved(schedules: list[js.Schedule]) -> list[str]:
    """Those that are not the same after a checkpoint of their numbers."""
    arrays = [jax.tree.map(jnp.asarray, schedule) for schedule in schedules]
    flat = {f"{path}": x for path, x in jax.tree_util.tree_leaves_with_path(arrays)}
    # Orbax saves no empty array, such as the boundaries of one piece.
    full = {path: x for path, x in flat.items() if x.size}
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        where = Path(folder).resolve() / "numbers"
        checkpointer.save(where, full)
        checkpointer.wait_until_finished()
        found = checkpointer.restore(where)
    restored = jax.tree.structure(arrays).unflatten([found.get(x, flat[x]) for x in flat])
    lost = []
    for schedule, was in zip(restored, arrays, strict=True):
        try:
            testing.assert_same(schedule, was)
        except AssertionError as error:
            lost.append(f"{was}: {error}")
    return lost


def draw_texts(examples: int) -> tuple[int, list[str]]:
    """How many mutated texts were drawn, a hundred for each example, and which broke `parse`."""
    texts, rng, lost = [repr(x) for x in [*ALGEBRA, *STATEFUL]], random.Random(1), []
    for _ in range(100 * examples):
        text = mutated(rng, texts)
        try:
            js.parse(text, units=UNITS)
        except ValueError as error:
            lost += [] if str(error).endswith("^") else [f"{text!r}: {error}"]
        except Exception as error:  # whatever it is, it is no refusal
            lost.append(f"{text!r}: {error!r}")
    return 100 * examples, lost
