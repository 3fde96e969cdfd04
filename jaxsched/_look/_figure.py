"""Figures of matplotlib, in one style. Not `pyplot`, which keeps every figure open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsched._core._extra import extra
from jaxsched._core._files import written
from jaxsched._core._require import refuse, require


def figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches."""
    return extra("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def framed(*panels: Any) -> None:
    """Give panels a grid, and leave out the upper and the right line of their frames."""
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)


def saved(made: Any, path: str | Path | None) -> Any:
    """Return a figure, written to `path` if given, whole or not at all; as PNG without a suffix."""
    if path is None:
        return made
    path = Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    known = sorted(made.canvas.get_supported_filetypes())
    must = f"end in one of {', '.join(f'.{x}' for x in known)}"
    require(path.suffix[1:].lower() in known, refuse("plot", "path", must, str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    written(path, lambda stream: made.savefig(stream, dpi=120, format=path.suffix[1:]))
    return made
