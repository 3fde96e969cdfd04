"""Writing files whole or not at all, and reading files that anybody may have written.

A file is written under a new random name in its folder and is then renamed. So no reader sees half
of it. Nothing is written through a link that somebody else has created: the temporary file is
opened exclusively, and the rename replaces a link instead of following it. Reading follows links.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

DEEPEST = 100  # nested brackets, because Python's own limit depends on the caller
DIGITS = 310  # digits and a sign: no float is as large
_EXCLUSIVE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_FLAGS = _EXCLUSIVE | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_TEMPORARY = ".jaxsched-{}.tmp"


def written(file: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all.

    Args:
      file: the file. A link is replaced, not followed; an existing file keeps its permissions.
      write: called with the binary stream to write to.

    Raises:
      OSError: the file cannot be written, or something else than a file has its name.
    """
    file = Path(file)
    try:
        _require_replaceable(file)
        _replaced(file, write)
    except OSError as error:
        raise type(error)(f"{file} cannot be written ({error})") from error


def _replaced(file: Path, write: Callable[[BinaryIO], object]) -> None:
    partial = file.with_name(_TEMPORARY.format(secrets.token_hex(8)))
    opened = os.open(partial, _FLAGS, 0o666)  # fails if the name is taken, also by a link
    try:
        with os.fdopen(opened, "w+b") as stream:
            _keep_permissions(file, opened)
            write(stream)
            stream.flush()
            os.fsync(opened)  # on the disk before it gets its name
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: str | Path, text: str) -> None:
    """Write a text in UTF-8. Half of a surrogate pair, which has no bytes in UTF-8, is escaped.

    Raises:
      OSError: the file cannot be written.
    """
    written(file, lambda stream: stream.write(text.encode("utf-8", "backslashreplace")))


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder."""
    for partial in folder.glob(_TEMPORARY.format("*")):
        partial.unlink(missing_ok=True)


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte-order mark.

    Raises:
      ValueError: the file is in another encoding.
      OSError: the file cannot be read.
    """
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error}") from None


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
      ValueError: it is not a regular file, not JSON, or nested too deeply.
      OSError: it cannot be read.
    """
    if file.exists() and not file.is_file():  # a pipe or a device may never end
        raise ValueError("it is not a regular file")
    return loads(read_text(file))


def loads(text: str) -> Any:
    """Return the content of a JSON text.

    Raises:
      ValueError: it is not JSON, it is nested too deeply, or an integer in it is too large.
    """
    try:
        found = json.loads(text, parse_int=_integer)
        deep = text.count("[") + text.count("{") > DEEPEST and _is_deep(found)
    except RecursionError:
        found, deep = None, True
    if deep:
        raise ValueError(f"its brackets are nested more than {DEEPEST} deep")
    return found


def _integer(text: str) -> int:
    """Return an integer that a float can hold, so that readers can compute with it and print it."""
    if len(text) > DIGITS or math.isinf(float(text)):
        raise ValueError(f"an integer of {len(text.lstrip('-'))} digits is too large for a number")
    return int(text)


def shown(x: Any, most: int = 80) -> str:
    """Return a value for an error message: its `repr`, shortened."""
    text = repr(x)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _is_deep(x: Any) -> bool:
    level = [x]
    for _ in range(DEEPEST + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(x: Any) -> list[Any]:
    if isinstance(x, dict):
        return [*cast(dict[str, Any], x).values()]
    return cast(list[Any], x) if isinstance(x, list) else []


def _require_replaceable(file: Path) -> None:
    """Raise if a rename would replace a device, or fail for a folder."""
    if file.exists() and not file.is_file():
        what = "a folder" if file.is_dir() else "a device or a pipe"
        raise OSError(f"it is {what}; name a file")


def _keep_permissions(file: Path, partial: int) -> None:
    """Give the new file the permissions of the one that it replaces, unless that is a link."""
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        os.chmod(partial, stat.S_IMODE(mode) & 0o777)
