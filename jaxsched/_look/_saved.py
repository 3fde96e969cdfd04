"""Writing a matplotlib figure to a file, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsched._core._files import written
from jaxsched._core._require import refuse, require


def saved(figure: Any, path: str | Path) -> None:
    """Write a figure in the format of the file's suffix; without a suffix, as PNG."""
    path = Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    known = sorted(figure.canvas.get_supported_filetypes())
    must = f"end in one of {', '.join(f'.{x}' for x in known)}"
    require(path.suffix[1:].lower() in known, refuse("plot", "path", must, str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    written(path, lambda stream: figure.savefig(stream, dpi=120, format=path.suffix[1:]))
