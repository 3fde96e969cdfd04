"""A file of options: TOML, turned into the words that one could have said."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxsched._train._refused import RefusedError, refusing


def words(file: Path, known: Iterable[str]) -> list[str]:
    """The options in a file as words of the command line.

    Args:
      file: the file, TOML without tables; its keys are long options, with `-` or `_` in them.
      known: the long options there are.

    Returns:
      `--epochs=20`, and so on; of a list the option and its items, of true the option alone.
    """
    with refusing(str(file)):
        options = tomllib.loads(file.read_text())
    found: list[str] = []
    for key, x in options.items():
        option = f"--{key.replace('_', '-')}"
        if option not in known:
            raise RefusedError(f"{file}: there is no option {key!r}. {_meant(option, known)}")
        found += _said(option, x)
    return found


def _said(option: str, x: Any) -> list[str]:
    if isinstance(x, bool):
        return [option] if x else []
    return [option, *map(str, x)] if isinstance(x, list) else [f"{option}={x}"]


def _meant(option: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(option, known, n=3)
    names = [name.removeprefix("--") for name in near or known]
    return f"Did you mean {' or '.join(names)}?" if near else f"All of them: {', '.join(names)}"
