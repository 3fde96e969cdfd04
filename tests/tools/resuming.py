"""Runs that are resumed with other code than they were saved by, through Orbax."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

import jaxsched as js
from jaxsched._rules._still import still

LOSSES = (1.0, 0.9, 0.95, 0.95, 0.8, 0.9, 0.9, 0.9)  # two bad ones in a row, and then three
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 4)}
Tx = optax.GradientTransformationExtraArgs


def optimizer(rate: Any, momentum: float = 0.9) -> Tx:
    """What is changed between the two halves."""
    return js.inject(optax.sgd, learning_rate=rate, momentum=momentum)


def first_half(tx: Tx, n: int = 4) -> tuple[Any, Any]:
    """Parameters and state after some updates."""
    return advanced(tx, PARAMS, tx.init(PARAMS), LOSSES[:n])[:2]


def advanced(tx: Tx, params: Any, state: Any, losses: Any) -> tuple[Any, Any, list[float]]:
    """After updates, each with its loss: and the rates that they used."""
    rates = []
    for loss in losses:
        updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params, value=loss)
        params = optax.apply_updates(params, updates)
        rates.append(float(js.hyperparams(state)["learning_rate"]))
    return params, state, rates


def through_orbax(folder: Path, tree: Any, like: Any = None) -> Any:
    """What a checkpoint has of it: of the shape of another, or as plain dicts."""
    shutil.rmtree(folder, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), tree)
        checkpointer.wait_until_finished()
        target = None if like is None else jax.eval_shape(lambda: like)
        return checkpointer.restore(folder.resolve(), target)


def resumed(folder: Path, before: Tx, after: Tx) -> tuple[Any, Any]:
    """Half a run with one optimizer, saved, restored and grafted into the state of another."""
    saved = first_half(before)
    params, old = through_orbax(folder, saved)  # as plain dicts and lists: all that a file has
    return params, js.graft(after.init(PARAMS), old)


def same(a: Any, b: Any) -> None:
    """To the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    assert all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


CUT = js.reduce_on_plateau(patience=2, factor=0.5)
LINE = js.linear(0.1, 0.0, 8)


def unchanged(folder: Path) -> None:
    tx = optimizer(LINE * CUT)
    restored = through_orbax(folder, first_half(tx), (PARAMS, tx.init(PARAMS)))
    grafted = resumed(folder, tx, tx)
    whole = advanced(tx, PARAMS, tx.init(PARAMS), LOSSES)[:2]
    same(advanced(tx, *restored, LOSSES[4:])[:2], whole)
    same(advanced(tx, *grafted, LOSSES[4:])[:2], whole)


def another_total(folder: Path) -> None:
    _follows(folder, LINE * CUT, js.linear(0.1, 0.0, 16) * CUT)


def another_shape(folder: Path) -> None:
    _follows(folder, LINE * CUT, (js.linear(0.0, 0.2, 2) >> js.cosine(0.2, 0.0, 6)) * CUT)


def a_number_made_a_curve(folder: Path) -> None:
    _follows(folder, 0.1 * CUT, (js.constant(0.1, 4) >> js.linear(0.1, 0.0, 4)) * CUT)


def another_patience(folder: Path) -> None:
    """The observations that were bad before count, under the new limit."""
    before, after = (optimizer(0.1 * js.reduce_on_plateau(patience=n)) for n in (9, 3))
    params, state = resumed(folder, before, after)
    (plateau,) = js.factors(state)["learning_rate"]
    assert int(plateau.bad) == 2 and float(plateau.scale) == 1
    _, state, rates = advanced(after, params, state, (0.95,))
    assert int(js.events(state)["cuts"]) == 1 and np.isclose(rates[0], 0.01)


def another_factor(folder: Path) -> None:
    """What has been cut stays cut; the next cut is the new one."""
    gentle, harsh = (js.reduce_on_plateau(patience=2, factor=x) for x in (0.5, 0.1))
    before, after = optimizer(0.1 * gentle), optimizer(0.1 * harsh)
    params, state = resumed(folder, before, after)
    _, _, rates = advanced(after, params, state, (0.95, 0.95))
    np.testing.assert_allclose(rates, [0.05, 0.005], rtol=1e-6)


def rule_added(folder: Path) -> None:
    """It starts fresh beside the one that goes on."""
    after = optimizer(LINE * CUT * js.spike_guard())
    params, state = resumed(folder, optimizer(LINE * CUT), after)
    plateau, guard = js.factors(state)["learning_rate"]
    assert int(js.step(state)) == 4 and float(plateau.scale) == 0.5
    same(guard, js.factors(after.init(PARAMS))["learning_rate"][1])
    advanced(after, params, state, LOSSES[4:])


def rule_removed(folder: Path) -> None:
    """Its factor goes with it."""
    after = optimizer(LINE)
    params, state = resumed(folder, optimizer(LINE * CUT), after)
    _, _, rates = advanced(after, params, state, (0.8,))
    np.testing.assert_allclose(rates, [LINE(4)], rtol=1e-6)


def another_hyperparameter(folder: Path) -> None:
    """The moments stay, and the new number is used."""
    before, after = optimizer(LINE * CUT), optimizer(LINE * CUT, momentum=0.5)
    params, state = resumed(folder, before, after)
    traces = (optax.tree_utils.tree_get(x, "trace") for x in (state, first_half(before)[1]))
    same(*traces)
    _, state, _ = advanced(after, params, state, (0.8,))
    assert np.isclose(float(js.hyperparams(state)["momentum"]), 0.5)


def guard_around(folder: Path) -> None:
    after = js.skip_spikes(optimizer(LINE * CUT))
    _, state = resumed(folder, optimizer(LINE * CUT), after)
    assert int(js.step(state)) == 4
    assert float(js.factors(state)["learning_rate"][0].scale) == 0.5


def tunable_numbers(folder: Path) -> None:
    """The deliberate other way: what was retuned is in the state, and comes back."""
    tx = optimizer(js.tunable(LINE))
    params, state = first_half(tx)
    state = js.retune(state, learning_rate=js.linear(0.5, 0.0, 8))
    params, state = through_orbax(folder, (params, state), (PARAMS, tx.init(PARAMS)))
    _, _, rates = advanced(tx, params, state, (0.8,))
    np.testing.assert_allclose(rates, [0.25], rtol=1e-6)


def overridden(folder: Path) -> None:
    """An override is data too, until it is taken back."""
    tx = optimizer(LINE)
    params, state = first_half(tx)
    state = js.override(state, learning_rate=0.03)
    params, state = through_orbax(folder, (params, state), (PARAMS, tx.init(PARAMS)))
    params, state, rates = advanced(tx, params, state, (0.8,))
    np.testing.assert_allclose(rates, [0.03], rtol=1e-6)
    rates = advanced(tx, params, js.override(state, learning_rate=None), (0.8,))[2]
    np.testing.assert_allclose(rates, [LINE(5)], rtol=1e-6)


def another_step(folder: Path) -> None:
    tx = optimizer(LINE)
    params, state = resumed(folder, tx, tx)
    rates = advanced(tx, params, js.set_step(state, 6), (0.8,))[2]
    np.testing.assert_allclose(rates, [LINE(6)], rtol=1e-6)


def _follows(folder: Path, before: Any, after: Any) -> None:
    """The rates from there on are those of the new curve, at the old step, after the old cut."""
    tx = optimizer(after)
    params, state = resumed(folder, optimizer(before), tx)
    _, _, rates = advanced(tx, params, state, LOSSES[4:6])
    np.testing.assert_allclose(rates, 0.5 * np.asarray(still(after)(np.arange(4, 6))), rtol=1e-6)


CASES: dict[str, Callable[[Path], None]] = {
    case.__name__.replace("_", " "): case
    for case in (
        *(unchanged, another_total, another_shape, a_number_made_a_curve, another_patience),
        *(another_factor, rule_added, rule_removed, another_hyperparameter, guard_around),
        *(tunable_numbers, overridden, another_step),
    )
}
