"""Bayesian search with Optuna: each batch of trials is one compiled program."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxsched._core._extra import extra
from jaxsched._core._require import length, one_of, refuse, require
from jaxsched._search._leaderboard import Sweep
from jaxsched._search._population import Population
from jaxsched._search._space import Range, drawn_from, shortest
from jaxsched._search._sweep import sweep

PLAIN = bool, int, float, str


def bayesian_search(
    train: Callable[..., Any],
    factory: Callable[..., Any],
    space: Mapping[str, Any],
    *,
    trials: int,
    batch: int = 16,
    study: Any = None,
    key: ArrayLike | None = None,
    seeds: int = 1,
    mode: str = "min",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Searches a space of schedules with Optuna; each batch of trials is one XLA program.

        ask Optuna for `batch` trials, sweep them, tell it their mean scores; repeat until `trials`

    All batches are the same program if all schedules of the factory have the same structure.

    Args:
      train: as for `sweep`.
      factory: a function that returns a schedule, or anything that `stack` takes.
      space: for each argument of the factory, `uniform(low, high)`, `log_uniform(low, high)`, a
        list of choices, or one value. Optuna stores plain values; other choices, such as schedules,
        are stored as their index in the list.
      trials: total number of trials, at least 1.
      batch: number of trials per batch, at least 1. Trials of one batch do not learn from each
        other.
      study: an Optuna study, whose earlier trials are used. With a storage, several machines can
        share it, each with its own call. None: a new study in memory, with TPE seeded by 0.
      key: as for `sweep`.
      seeds: runs of each trial; Optuna receives their mean.
      mode: "min" or "max"; it must agree with the study's direction.
      chunk: as for `sweep`.
      mesh: as for `sweep`.

    Returns:
      The trials of this call and their scores. A trial without a finite score counts as failed.

    Raises:
      ValueError: as for `sweep`; or the study's direction is not `mode`.
      MissingExtraError: Optuna is not installed.

    Example:
      >>> def train(schedule):
      ...     return (jnp.log10(schedule(0)) + 2) ** 2
      >>> space = {"value": log_uniform(1e-4, 1.0)}
      >>> found = bayesian_search(train, constant, space, trials=32, batch=8)
      >>> print(jnp.abs(jnp.log10(found.best(0)) + 2) < 0.2)
      True

    References:
      Akiba et al., Optuna, 2019, https://arxiv.org/abs/1907.10902, with its TPE sampler.
    """
    call = "bayesian_search"
    count = int(length(call, "trials", trials, least=1))
    size = min(int(length(call, "batch", batch, least=1)), count)
    one_of(call, "mode", mode, ("min", "max"))
    lists = drawn_from(call, factory, _require_dict(call, space))
    study = _new_study(mode) if study is None else _require_direction(call, study, mode)
    done: list[Sweep] = []
    for first in range(0, count, size):
        asked: list[Any] = []
        try:
            asked.extend(study.ask() for _ in range(min(size, count - first)))
            members = Population.by(factory, [_suggested(trial, lists) for trial in asked])
            # The last batch is padded, so that it is the same program as the others.
            filled = [*members, *members[:1] * (size - len(members))]
            found = sweep(train, filled, key=key, seeds=seeds, mode=mode, chunk=chunk, mesh=mesh)
        except BaseException:  # also an interrupt, so that no trial is left running in the study
            _tell(study, asked, np.full(len(asked), np.nan))
            raise
        _tell(study, asked, found.mean)
        done.append(_first(found, members))
    return _joined(done, mode)


def _suggested(trial: Any, lists: Mapping[str, Range | list[Any]]) -> dict[str, Any]:
    """Return the arguments of one trial."""
    return {name: _suggest(trial, name, space) for name, space in lists.items()}


def _suggest(trial: Any, name: str, space: Range | list[Any]) -> Any:
    if not isinstance(space, Range):
        # A storage keeps only plain values; a schedule, or a list, is stored as its index.
        if len(space) > 1 and not all(x is None or isinstance(x, PLAIN) for x in space):
            return space[trial.suggest_categorical(name, range(len(space)))]
        return space[0] if len(space) == 1 else trial.suggest_categorical(name, space)
    if space.whole:
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return shortest(trial.suggest_float(name, space.low, space.high, log=space.log))


def _tell(study: Any, asked: list[Any], scores: np.ndarray) -> None:
    failed = extra("optuna.trial", "search").TrialState.FAIL
    for trial, score in zip(asked, scores, strict=False):
        if np.isfinite(score):
            study.tell(trial, float(score))
        else:
            study.tell(trial, state=failed)


def _new_study(mode: str) -> Any:
    optuna = extra("optuna", "search")
    # The trials of a batch must differ, so each counts as bad until its score is known.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna 4 calls the argument experimental
        sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
    return optuna.create_study(direction=f"{mode}imize", sampler=sampler)


def _require_dict(call: str, space: Any) -> dict[str, Any]:
    must = "be a dict of the factory's arguments"
    require(isinstance(space, Mapping), refuse(call, "space", must, space))
    return dict(space)


def _require_direction(call: str, study: Any, mode: str) -> Any:
    directions = [str(x.name).lower() for x in getattr(study, "directions", ())]
    other = f", or pass mode={directions[0][:3]!r}" if len(directions) == 1 else ""
    remedy = f"Create it with direction='{mode}imize'{other}."
    must = f"{mode}imize one score"
    require(
        directions == [f"{mode}imize"],
        refuse(call, "study", must, " and ".join(directions) or study, remedy),
    )
    return study


def _first(sweep: Sweep, members: Population) -> Sweep:
    """Return the result without the members that only filled the batch."""
    count = len(members)
    results = jax.tree.map(lambda x: x[:count], sweep.results)
    return Sweep(members, sweep.scores[:count], results, sweep.mode)


def _joined(sweeps: list[Sweep], mode: str) -> Sweep:
    members = functools.reduce(operator.add, [sweep.population for sweep in sweeps])
    scores = np.concatenate([sweep.scores for sweep in sweeps])
    each = (sweep.results for sweep in sweeps)
    return Sweep(members, scores, jax.tree.map(lambda *xs: jnp.concatenate(xs), *each), mode)
