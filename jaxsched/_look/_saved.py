"""Writing a matplotlib figure to a file, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsched._core._files import written


def saved(figure: Any, path: str | Path) -> None:
    """Write a figure in the format of the file's suffix; without a suffix, as PNG."""
    path = Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    written(path, lambda stream: figure.savefig(stream, dpi=120, format=path.suffix[1:]))
