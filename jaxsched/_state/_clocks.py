"""The step counters in a state, and the names of their hyperparameters.

A hyperparameter that occurs once has its plain name. If the name occurs more often, labels are
added: "encoder/learning_rate". In `override` and `retune`, a plain name means all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jaxsched._core._require import require
from jaxsched._core._trees import Path, found, opened, replaced, rewritten, text_of
from jaxsched._transforms._scheduled import CLOCKS, ScheduledState

S = TypeVar("S")


def clocks_of(call: str, tree: Any) -> list[tuple[Path, Any]]:
    """Return every record with a step counter, and its path in the state, or raise."""
    clocks = [*found(CLOCKS, opened(tree))]
    require(
        bool(clocks),
        f"`{call}(opt_state)` finds no jaxsched transform in a {type(tree).__name__}. Build the "
        "optimizer with `scale_by_learning_rate(...)`, `inject(...)` or `wrap(...)`.",
    )
    return clocks


def each_named(
    call: str,
    tree: S,
    arguments: dict[str, Any],
    change: Callable[[ScheduledState, str, Any], ScheduledState],
) -> S:
    """Apply `change` to the hyperparameters that the argument names refer to."""
    places = [(path, name) for path, state in clocks_of(call, tree) for name in state.hyperparams]
    labels = dict(zip(places, named(places), strict=True))
    for given in arguments:
        known = given in labels.values() or any(given in _plain(name) for _, name in places)
        names = ", ".join(labels.values())
        require(known, f"`{call}(opt_state, {given}=...)`: the state has only {names}.")

    whole = {name for _, name in places}

    def meaning(path: Path, name: str) -> list[str]:
        """The names that refer to a hyperparameter, the most precise last."""
        plain, _ = _plain(name)
        # A plain name that is itself a full name does not mean all groups.
        return [*([] if plain in whole else [plain]), name, labels[path, name]]

    def one(path: Path, state: ScheduledState) -> ScheduledState:
        for name in state.hyperparams:
            for given in dict.fromkeys(meaning(path, name)):
                if given in arguments:
                    state = change(state, name, arguments[given])
        return state

    return rewritten(tree, lambda tree: replaced(ScheduledState, tree, one))


def _plain(name: str) -> tuple[str, str]:
    """Return a name without its group, which means all groups, and the full name."""
    return name.rpartition("/")[2], name


def named(places: Any) -> list[str]:
    """Return names for (path, name): plain if unique, else with the labels on the path."""
    places = list(places)
    names = [name for _, name in places]
    dicts = ["/".join([*(str(k.key) for k in p if hasattr(k, "key")), n]) for p, n in places]
    full = ["/".join([*filter(None, [text_of(path)]), name]) for path, name in places]
    return [
        name if names.count(name) == 1 else labelled if dicts.count(labelled) == 1 else everything
        for name, labelled, everything in zip(names, dicts, full, strict=True)
    ]
