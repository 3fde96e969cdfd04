"""What can be around an optimizer, by its text: `skip_spikes(sigmas=4)`, `snapshot(keep=5)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import optax

from jaxsched._schedule import Schedule
from jaxsched._show._evaluate import Scope, arguments_of, unknown
from jaxsched._show._expression import expression
from jaxsched._show._parse import reading
from jaxsched._show._still import still
from jaxsched._show._syntax import Call, Name, tree
from jaxsched._show._tokens import MisreadError
from jaxsched._stateful._protocol import Stateful
from jaxsched._train._refused import RefusedError, refusing
from jaxsched._transforms._keep_best import keep_best
from jaxsched._transforms._per_group import layerwise
from jaxsched._transforms._skip_spikes import skip_spikes
from jaxsched._transforms._snapshot import snapshot

Transform = optax.GradientTransformation

AROUND = {"skip_spikes": skip_spikes, "keep_best": keep_best}
BEHIND = {"layerwise": layerwise, "snapshot": snapshot}
ONCE = ("keep_best", "snapshot")
WRAPPERS: dict[str, Callable[..., Any]] = AROUND | BEHIND


def spoken(texts: Sequence[str]) -> list[str]:
    """The texts of wrappers as they are kept: checked, and always written the same way."""
    read = [_read(text) for text in texts]
    for name in ONCE:
        if [name for name, _ in read].count(name) > 1:
            raise RefusedError(f"--with: {name} once: what it keeps is reported by its name")
    return [
        f"{name}({', '.join(f'{key}={expression(x)}' for key, x in arguments.items())})"
        for name, arguments in read
    ]


def wrapped(text: str, tx: Transform, learning_rate: Schedule | Stateful) -> Transform:
    """An optimizer with one more around it, or behind it."""
    name, arguments = _read(text)
    with refusing(f"--with {name}", TypeError):
        if name in AROUND:
            return AROUND[name](tx, **arguments)
        given = {"schedule": still(learning_rate)} if name == "snapshot" else {}
        return optax.chain(tx, BEHIND[name](**given, **arguments))


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """Its name, and its arguments but for the optimizer and the schedule."""
    with refusing("--with"), reading(text):
        node = tree(text)
        call = Call(node.at, node.name, ()) if isinstance(node, Name) else node
        if not isinstance(call, Call) or call.owner is not None:
            raise MisreadError(
                node.at, f"`{text}` is not the call of one of {', '.join(WRAPPERS)}."
            )
        factory = WRAPPERS.get(call.name) or unknown(call, "wrapper", WRAPPERS)
        # What the run itself gives is given, and what is left goes by its name.
        own = {"tx": None} if call.name in AROUND else {}
        own |= {"schedule": None} if call.name == "snapshot" else {}
        for argument in call.arguments:
            if argument.name in own:
                raise MisreadError(argument.at, f"the {argument.name} is the run's own.")
        return call.name, arguments_of(call, functools.partial(factory, **own), Scope(None, None))
