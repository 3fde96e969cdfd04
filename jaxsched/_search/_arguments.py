"""The arguments of a population as columns of a table: which vary, and how values are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def varying(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the written values of each argument that varies; empty where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, list[str]] = {}
    for name in names:
        texts = iter(written([row[name] for row in rows if name in row]))
        column = [next(texts) if name in row else "" for row in rows]
        if len({*column}) > 1:
            columns[name] = column
    return columns


def written(values: Sequence[Any]) -> list[str]:
    """Write values with four significant digits, or with more where two would look the same."""
    different = len({*map(repr, values)})
    for digits in (4, 6, 9):
        texts = [_text(x, digits) for x in values]
        if len({*texts}) == different:
            return texts
    return [*map(repr, values)]


def titled(name: str, taken: Sequence[str]) -> str:
    """Return the title of an argument's column, beside columns that have taken their names."""
    return f"{name} (argument)" if name in taken else name


def _text(x: Any, digits: int) -> str:
    return f"{x:.{digits}g}" if isinstance(x, float) else str(x)
