"""Tables and lists of a page. Content from files is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(rows: Iterable[Sequence[str]], heads: Sequence[str] = (), caption: str = "") -> str:
    """Return a table; the first cell of a row is its header."""
    head = "".join(f'<th scope="col"{_side(n)}>{escape(x)}</th>' for n, x in enumerate(heads))
    body = "".join(f"<tr>{''.join(_cells(row, bool(heads)))}</tr>" for row in rows)
    return (
        '<div class="scroll"><table>'
        + (f"<caption>{escape(caption)}</caption>" if caption else "")
        + (f"<thead><tr>{head}</tr></thead>" if heads else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str], numbers: bool) -> Iterable[str]:
    for n, x in enumerate(row):
        side = _side(n) if numbers else ""
        yield f"<td{side}>{escape(x)}</td>" if n else f'<th scope="row">{escape(x)}</th>'


def _side(n: int) -> str:
    return ' class="number"' if n else ""


def listed(kind: str, lines: Iterable[str]) -> str:
    """Return a list; an empty string without lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""
