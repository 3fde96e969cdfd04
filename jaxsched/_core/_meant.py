"""Suggestions for unknown names: a similar name of ours, or our word for another library's.

Users of optax, torch, Keras, timm and transformers bring the words of these libraries.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PEERS = ("optax", "torch", "keras", "timm", "transformers")

# Keywords of other libraries, and our names for them. The first one that a function has is used.
_KEYWORDS = {
    "alpha": ("end_value",),
    "base_lr": ("low", "init_value", "peak_value"),
    "decay_steps": ("steps",),
    "decay_t": ("every", "decay_steps"),
    "div_factor": ("init_value",),
    "epochs": ("steps", "total_steps"),
    "eta_min": ("end_value", "min_scale"),
    "final_lr": ("end_value",),
    "gamma": ("factor", "decay_rate", "decay"),
    "initial_learning_rate": ("init_value",),
    "learning_rate": ("peak_value", "init_value", "value"),
    "lr": ("peak_value", "init_value", "value", "learning_rate"),
    "lr_min": ("end_value", "min_scale"),
    "max_lr": ("peak_value", "high"),
    "min_delta": ("atol",),
    "min_lr": ("end_value", "min_scale"),
    "monitor": ("metric",),
    "num_cycles": ("cycles",),
    "num_steps": ("total_steps", "steps"),
    "num_training_steps": ("total_steps", "steps"),
    "num_warmup_steps": ("warmup_steps",),
    "pct_start": ("warmup_steps",),
    "peak_lr": ("peak_value",),
    "start_factor": ("init_value",),
    "step_size": ("every",),
    "T_0": ("cycle_steps", "steps"),
    "T_max": ("steps",),
    "T_mult": ("mult",),
    "threshold": ("rtol",),
    "total_iters": ("steps",),
    "transition_steps": ("decay_steps", "steps"),
    "warmup_lr_init": ("init_value",),
    "warmup_t": ("warmup_steps",),
}
_EXPLAINED = "_is_explained"
_REMARKS = {
    "min_scale": "It scales the rate; for an absolute floor, use `.clip(low)` on the product.",
}


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Return similar names, the most similar first, ignoring case."""
    plain, word = {_snake(x): x for x in known}, _snake(name)
    found = difflib.get_close_matches(word, plain, 3, cutoff)
    return [plain[x] for x in sorted(found, key=lambda x: not word.startswith(x))]


def attribute(module: Any, name: str) -> str:
    """Return a message for an attribute that a module does not have."""
    public = [x for x in dir(module) if not x.startswith("_")]
    ours = [f"`{module.__name__}.{x}`" for x in near(name, public)]
    theirs = [f"`{twin}`" for twin in twins(module.compat, name)]
    said = [
        *([f"The twin of that name is {' or '.join(theirs)}."] if theirs else []),
        *([f"Did you mean {' or '.join(ours)}?"] if ours else []),
    ]
    return " ".join([f"module {module.__name__!r} has no attribute {name!r}.", *said])


def twins(compat: Any, name: str) -> list[str]:
    """Return the places of the twins of a name."""
    found = ((peer, vars(getattr(compat, peer)).get(name)) for peer in PEERS)
    return [f"{compat.__name__}.{peer}.{name}" for peer, x in found if inspect.isfunction(x)]


def explained(function: Callable[P, R], module: str) -> Callable[P, R]:
    """Return a function whose wrong calls get a suggestion, under its public name."""
    if _EXPLAINED in vars(function):
        function = vars(function)["__wrapped__"]

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            reason = _misfit(function, args, kwargs)
            if reason is None:  # the arguments fit, so the error comes from inside
                raise
            said = str(error).partition(". Did you mean")[0]  # without Python's own guess (3.13)
            place = "" if function.__name__ in said else f"`{function.__name__}`: "
            raise TypeError(f"{place}{said}. {reason}") from None

    called.__module__ = module
    vars(called)[_EXPLAINED] = True
    return called


def _misfit(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Return why arguments do not fit a function, in words."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        unknown = [name for name in kwargs if name not in signature.parameters]
        said = [keyword(name, [*signature.parameters]) for name in unknown]
        if any(hasattr(x, "param_groups") or hasattr(x, "update") for x in args):
            said.append("A schedule takes no optimizer: give the base rate in its place.")
        whole = f"It is `{function.__name__}{_call(signature)}`."
        return " ".join([*filter(None, said), whole])
    return None


def keyword(name: str, known: list[str]) -> str:
    """Return a suggestion for an unknown argument: our name for it, or a similar one."""
    peers = [x for x in _KEYWORDS.get(name, ()) if x in known]
    meant = peers or near(name, known)
    remark = _REMARKS.get(meant[0], "") if peers else ""
    return f"Did you mean `{meant[0]}` by `{name}`? {remark}".rstrip() if meant else ""


def _call(signature: inspect.Signature) -> str:
    """Return the arguments of a function, without types, and with curves by name."""
    bare = [
        x.replace(annotation=x.empty, default=_Named(x.default.__name__))
        if inspect.isfunction(x.default)
        else x.replace(annotation=x.empty)
        for x in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


class _Named(str):
    """A name that is shown without quotes."""

    __repr__ = str.__str__


def _snake(name: str) -> str:
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return parts.lower().removesuffix("_lr").removesuffix("_scheduler").removesuffix("_schedule")
