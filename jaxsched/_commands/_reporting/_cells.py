"""Reads the file of a logger as rows of cells: CSV or JSON lines, even if it ends abruptly."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxsched._core._files import loads

Rows = Iterator[dict[str, str]]

LONGEST = 2**31 - 1  # characters of a cell: the largest limit
CHUNK = 2**10  # rows parsed at once
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # first bytes of a file, and its encoding


def rows(file: Path, notes: list[str]) -> Rows:
    """Yield the rows of a file by column name, and add notes on its oddities."""
    with file.open(newline="", encoding=_encoding(file), errors="replace") as stream:
        yield from (_json if file.suffix == ".jsonl" else _csv)(file, stream, notes)
    if _has_no_end(file):
        notes.append(f"{file.name} ends in the middle of a line: its last number may be cut off.")


def _csv(file: Path, stream: Iterable[str], notes: list[str]) -> Rows:
    lines = _Lines(stream)
    reader = _parsed(csv.reader(lines))
    header = next(reader, [])
    names, found = _different([name.strip() for name in header]), {"again": 0, "other": 0}
    row: list[str] = []
    for row in reader:
        if row and row == header:  # a resumed run has written the header again
            found["again"] += 1
        elif row:
            found["other"] += len(row) != len(names)
            yield dict(zip(names, row, strict=False))
    if found["again"]:
        notes.append(f"The header of {file.name} occurs {_times(found['again'] + 1)}.")
    if found["other"]:
        notes.append(f"{_of(found['other'], 'row')} of {file.name} with too few or too many cells.")
    if row and "\n" in row[-1] and not lines.last.rstrip().endswith('"'):
        swallowed = _of(row[-1].count("\n"), "line")
        notes.append(f"A quote in {file.name} is not closed: {swallowed} after it are one cell.")


class _Lines:
    """The lines of a file without the NUL bytes that a crash leaves; it remembers the last line."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream, self.last = stream, ""

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self.last = line.replace("\0", "")
            yield self.last


def _parsed(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the rows of a reader, with cells of any length."""
    while some := _some(reader):
        yield from some


def _some(reader: Iterator[list[str]]) -> list[list[str]]:
    # The limit is global to the process, so it is restored whenever other code runs.
    before = csv.field_size_limit(LONGEST)
    try:
        return list(itertools.islice(reader, CHUNK))
    finally:
        csv.field_size_limit(before)


def _different(names: list[str]) -> list[str]:
    """Return distinct, nonempty names of columns."""
    taken: dict[str, None] = {}
    for n, name in enumerate(names):
        tried = (f"{name} ({k})" for k in itertools.count(2))
        free = itertools.chain([name or f"column {n + 1}"], tried)
        taken[next(name for name in free if name not in taken)] = None
    return [*taken]


def _json(file: Path, stream: Iterable[str], notes: list[str]) -> Rows:
    unreadable = 0
    for line in stream:
        try:
            row = loads(line) if line.strip() else {}
        except ValueError:
            row = None
        if isinstance(row, dict):
            yield {str(name): _cell(x) for name, x in row.items()}
        else:
            unreadable += 1
    if unreadable:
        notes.append(f"{_of(unreadable, 'line')} of {file.name} cannot be read, and left out.")


def _cell(x: Any) -> str:
    return "" if x is None else str(int(x)) if isinstance(x, bool) else str(x)


def _encoding(file: Path) -> str:
    with file.open("rb") as stream:
        return MARKS.get(stream.read(2), "utf-8-sig")


def _has_no_end(file: Path) -> bool:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - 2, 0))
        end = stream.read()
    return end != b"\n\0" and end[-1:] not in (b"", b"\n", b"\r")  # the first is of UTF-16


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _of(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''}"
