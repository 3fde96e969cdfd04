"""Converts words of the command line to the text of a schedule.

    warmup_cosine peak_value=3e-3 warmup=cosine  ->  warmup_cosine(peak_value=3e-3, warmup=cosine)

Words of another form are already text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxsched._commands._refused import RefusedError
from jaxsched._text import _names
from jaxsched._text._syntax import tree
from jaxsched._text._tokens import MisreadError

CONSTANTS = {"true": "True", "false": "False", "none": "None"}


def is_call(words: Sequence[str]) -> bool:
    """Return whether the words are a function name with optional arguments."""
    return words[0].isidentifier()


def text_of(option: str, words: Sequence[str]) -> str:
    """Return the text of a name with `key=value` arguments, or of a text with any spaces."""
    if not is_call(words):
        return " ".join(words)
    return call(words[0], pairs(option, words[1:]))


def call(name: str, arguments: dict[str, str]) -> str:
    """Return the text of a call."""
    return f"{name}({', '.join(f'{key}={value(word)}' for key, word in arguments.items())})"


def pairs(option: str, words: Iterable[str]) -> dict[str, str]:
    """Return the words `key=value`, by key."""
    arguments: dict[str, str] = {}
    for word in words:
        key, equals, given = word.partition("=")
        if not (equals and key.isidentifier()):
            raise RefusedError(f"{option}: arguments are written key=value, got {word!r}")
        if key in arguments:
            raise RefusedError(f"{option}: {key!r} is given twice, got {word!r} too")
        _require_one_value(option, word, value(given))
        arguments[key] = given
    return arguments


def _require_one_value(option: str, word: str, text: str) -> None:
    """Raise if there is more than one value after the `=`, which could be other arguments."""
    try:
        tree(text)
    except MisreadError as error:
        raise RefusedError(f"{option}: {word!r} must have one value. {error.reason}") from None


def value(word: str) -> str:
    """Return the text of a value: commas make a list, and names that are no curve are quoted."""
    if "," in word and not set("([") & set(word):
        return f"[{', '.join(value(part) for part in word.split(',') if part)}]"
    if word.lower() in CONSTANTS:
        return CONSTANTS[word.lower()]
    is_name = not word or (word.isidentifier() and _names.curve(word) is None)
    return repr(word) if is_name else word
