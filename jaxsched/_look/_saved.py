"""A figure of matplotlib as a file, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsched._core._files import written


def saved(figure: Any, path: str | Path) -> None:
    """Write a figure in the format that the name of the file says; without one it is a PNG."""
    path = Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    written(path, lambda stream: figure.savefig(stream, dpi=120, format=path.suffix[1:]))
