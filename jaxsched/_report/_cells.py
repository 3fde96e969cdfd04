"""A file of a logger as rows of cells: CSV or JSON lines, however it ends."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Rows = Iterator[dict[str, str]]


def rows(file: Path, notes: list[str]) -> Rows:
    """The rows of a file by the names of its columns; what is odd about it goes into the notes."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        yield from (_json if file.suffix == ".jsonl" else _csv)(file, stream, notes)
    if _has_no_end(file):
        notes.append(f"{file.name} ends in the middle of a line: its last number may be cut.")


def _csv(file: Path, stream: Iterable[str], notes: list[str]) -> Rows:
    reader = csv.reader(line.replace("\0", "") for line in stream)
    header = next(reader, [])
    names, found = _different([name.strip() for name in header]), {"again": 0, "other": 0}
    try:
        for row in reader:
            if row == header:  # whoever resumed has written it once more
                found["again"] += 1
            elif row:
                found["other"] += len(row) != len(names)
                yield dict(zip(names, row, strict=False))
    except csv.Error as error:
        notes.append(f"{file.name} cannot be read beyond line {reader.line_num}: {error}.")
    if found["again"]:
        notes.append(f"The header of {file.name} is in it {_times(found['again'] + 1)}.")
    if found["other"]:
        notes.append(f"{_of(found['other'], 'row')} of {file.name} with too few or too many cells.")


def _different(names: list[str]) -> list[str]:
    """The names of columns: none is empty, and none is there twice."""
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
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield {str(name): _cell(x) for name, x in row.items()}
        else:
            unreadable += 1
    if unreadable:
        notes.append(f"{_of(unreadable, 'line')} of {file.name} cannot be read, and left out.")


def _cell(x: Any) -> str:
    return "" if x is None else str(int(x)) if isinstance(x, bool) else str(x)


def _has_no_end(file: Path) -> bool:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - 1, 0))
        return stream.read() not in (b"", b"\n", b"\r")


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _of(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''}"
