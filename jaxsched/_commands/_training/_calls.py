"""Reads a call whose first arguments the run provides: `adam(b1=0.8)`, `keep_best`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxsched._commands._refused import refusing
from jaxsched._core._writing import text
from jaxsched._text._evaluate import Scope, arguments_of, unknown
from jaxsched._text._parse import reading
from jaxsched._text._syntax import Call, Name, tree
from jaxsched._text._tokens import MisreadError


def read(
    option: str,
    text: str,
    kind: str,
    known: Mapping[str, Callable[..., Any]],
    own: Callable[[str], Mapping[str, str]],
) -> tuple[str, dict[str, Any]]:
    """Return the name in a call, and its arguments.

    Args:
      option: the option that contains the call, for messages.
      text: a call, or a name alone.
      kind: the kind of the functions, in one word.
      known: the available functions.
      own: for a name, the arguments that the run provides, and a message for each.
    """
    with refusing(option), reading(text):
        node = tree(text)
        call = Call(node.at, node.name, ()) if isinstance(node, Name) else node
        if not isinstance(call, Call) or call.owner is not None:
            raise MisreadError(node.at, f"`{text}` calls no {kind}.")
        factory = known.get(call.name) or unknown(call, kind, known)
        given = own(call.name)
        for argument in call.arguments:
            if argument.name is not None and argument.name in given:
                raise MisreadError(argument.at, given[argument.name])
        # The run provides its own arguments, and the rest are named.
        named = functools.partial(factory, **dict.fromkeys(given))
        return call.name, arguments_of(call, named, Scope(None, None))


def shown(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the text of a call as it is stored, always in the same form."""
    said = ", ".join(f"{key}={text(x)}" for key, x in arguments.items())
    return f"{name}({said})"
