"""Tokens of a text, and the display of a place in it."""

from __future__ import annotations

import re
from typing import NamedTuple

_WIDTH = 72  # characters to show of a line
_FARTHEST = 1000  # characters to search for the end of `<...>`, which may be a long Python name
_LONGEST = 60  # characters of a name, because the search for similar names takes quadratic time

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)
        (?P<unit>%|[A-Za-z_]\w*)?
    | (?P<name>[A-Za-z_]\w*)
    | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<sign>>>|\*\*|[-+*/().,=\[\]])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_BLANKS = " \t\n\r\f\v"
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(00(?:0[0-9a-f]|10)[0-9a-f]{4})|(.))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


class Token(NamedTuple):
    """A piece of text."""

    kind: str  # "number", "name", "string", "end", or for a sign the sign itself
    text: str
    unit: str  # the letters directly after a number
    at: int
    end: int


class MisreadError(Exception):
    """A mistake in a text, and its place."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at, self.reason = at, reason


def token_at(text: str, place: int) -> Token:
    """Return the token at a place, or after the blanks there."""
    match = _TOKEN.match(text, place)
    if match is None:
        raise _unreadable(text, len(text) - len(text[place:].lstrip(_BLANKS)))
    kind = "number" if match["number"] is not None else str(match.lastgroup)
    found, unit = match[kind], match["unit"] or ""
    if len(found if kind == "name" else unit) > _LONGEST:
        raise MisreadError(match.start(kind), f"`{found[:_LONGEST]}...` is too long for a name.")
    return Token(found if kind == "sign" else kind, found, unit, match.start(kind), match.end())


def unquoted(token: Token) -> str:
    """Return the content of a string token."""
    return _ESCAPE.sub(_character, token.text[1:-1])


def shown(text: str, at: int) -> str:
    """Return the line of a place, shortened, with a caret under the place."""
    start, stop = text.rfind("\n", 0, at) + 1, (text + "\n").find("\n", at)
    left = max(start, at - _WIDTH * 2 // 3)
    right = min(stop, left + _WIDTH)
    before, after = "..." * (left > start), "..." * (right < stop)
    line = "".join(c if c.isprintable() else "?" for c in text[left:right])
    return f"    {before}{line}{after}\n    {' ' * (len(before) + at - left)}^"


def _unreadable(text: str, at: int) -> MisreadError:
    if opaque := _opaque(text[at : at + _FARTHEST]):
        opaque = opaque if len(opaque) <= _WIDTH else f"{opaque[:_WIDTH]}...>"
        return MisreadError(
            at,
            f"`{opaque}` has no text: it is a function, a number under `jit`, or an array that is "
            "too long. Pass the schedule itself, or write its values as `table([...])`, or save "
            "them and use `table(np.load(...))`.",
        )
    quote = text[at] in "'\""
    return MisreadError(at, "a string is not closed." if quote else f"{text[at]!r} has no meaning.")


def _opaque(text: str) -> str:
    """Return the `<...>` at the start of a text, if there is one."""
    depth = 0
    for end, character in enumerate(text, start=1):
        depth += (character == "<") - (character == ">")
        if depth <= 0:
            return text[:end] if end > 1 else ""
    return ""


def _character(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[4], match[0])
