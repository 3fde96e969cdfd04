"""The text of a call whose first arguments the run itself gives: `adam(b1=0.8)`, `keep_best`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxsched._commands._training._refused import refusing
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
    """The name in a call, and the arguments that are given to it.

    Args:
      option: who said it.
      text: a call, or a name alone.
      kind: what the functions are, in a word.
      known: the functions there are.
      own: of a name, the arguments that the run gives, and what to say to who gives them.
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
        # What the run gives is given, and what is left goes by its name.
        named = functools.partial(factory, **dict.fromkeys(given))
        return call.name, arguments_of(call, named, Scope(None, None))


def shown(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as it is kept: always written the same way."""
    said = ", ".join(f"{key}={text(x)}" for key, x in arguments.items())
    return f"{name}({said})"
