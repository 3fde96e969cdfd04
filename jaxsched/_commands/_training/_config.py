"""Reads options from a TOML file.

Values are checked by their types and never become words of a command line. So a text in the file
cannot set another option, such as `--force`.
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._core._files import read_text, shown

SPOKEN = "--config", "--resume", "--force"  # options of one start, only on the command line
OWN = "-h", "--help", *SPOKEN


def said(file: Path, actions: Iterable[argparse.Action]) -> dict[str, Any]:
    """Return the options in a file, by their names among the parsed options.

    Args:
      file: a TOML file without tables; its keys are long options, with `-` or `_`.
      actions: the options of the command line.

    Raises:
      RefusedError: a key is not an option or occurs twice, or a value does not fit its option.
    """
    known = {name: x for x in actions for name in x.option_strings if name not in OWN}
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, x in _options(file).items():
        option = f"--{key.replace('_', '-')}"
        if option not in known:
            raise RefusedError(f"{file}: there is no option {key!r}. {_meant(option, known)}")
        action = known[option]
        if action.dest in keys:
            raise RefusedError(f"{file}: {key!r} is not allowed with {keys[action.dest]!r}.")
        keys[action.dest] = key
        with refusing(f"{file}: {option}"):  # an integer may be too long to be printed
            values[action.dest] = _value(f"{file}: {option}", action, x)
    return values


def _options(file: Path) -> dict[str, Any]:
    with refusing(str(file)):
        try:
            return tomllib.loads(read_text(file))
        except RecursionError:
            raise ValueError("it is nested too deeply to be read") from None


def _value(place: str, action: argparse.Action, x: Any) -> Any:
    """Return the value of an option, as the command line would have it."""
    if isinstance(x, Mapping):
        raise RefusedError(f"{place}: must not be a table, got {shown(x)}. Write a list of texts.")
    if action.nargs == 0:
        return _flag(place, action, x)
    if action.nargs is not None:
        return _texts(place, action, x)
    return _path(place, x) if action.type is Path else _number(place, action, x)


def _flag(place: str, action: argparse.Action, x: Any) -> Any:
    if x is not True:
        raise RefusedError(f"{place}: must be true, or be left out, got {_toml(x)}.")
    return action.const


def _texts(place: str, action: argparse.Action, x: Any) -> Any:
    """Return texts; an option that may have none, such as `--plateau`, may be true or false."""
    may_be_bare = action.nargs == "*"
    if may_be_bare and isinstance(x, bool):
        return [] if x else False
    texts = [x] if isinstance(x, str) else x
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        or_flag = "true, false, " if may_be_bare else ""
        raise RefusedError(f"{place}: must be {or_flag}a text or a list of texts, got {_toml(x)}.")
    return cast(list[str], texts)


def _path(place: str, x: Any) -> Path:
    if not isinstance(x, str) or not x or "\0" in x:
        raise RefusedError(f"{place}: must be the name of a folder, got {_toml(x)}.")
    return Path(x)


def _number(place: str, action: argparse.Action, x: Any) -> Any:
    """Return a number within the limits of the command line."""
    parse = cast(Any, action.type)
    try:
        return parse(str(x) if isinstance(x, int) and not isinstance(x, bool) else _toml(x))
    except argparse.ArgumentTypeError as error:
        raise RefusedError(f"{place}: {error}.{_unquoted(parse, x)}") from None


def _unquoted(parse: Any, x: Any) -> str:
    """Return the remedy for a number that is written as a text."""
    try:
        return f" Write {parse(x)} without quotes." if isinstance(x, str) else ""
    except argparse.ArgumentTypeError:
        return ""


def _toml(x: Any) -> str:
    """Return a value approximately as written in the file."""
    if isinstance(x, str | list):
        return shown(x)
    return str(x).lower() if isinstance(x, bool) else str(x)


def _meant(option: str, known: Iterable[str]) -> str:
    if option in SPOKEN:
        return f"Set {option} on the command line."
    near = difflib.get_close_matches(option, known, n=3)
    names = [name.removeprefix("--") for name in near or known]
    return f"Did you mean {' or '.join(names)}?" if near else f"All of them: {', '.join(names)}."
