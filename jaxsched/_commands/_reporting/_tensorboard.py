"""Reads the scalars in the event files of TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsched._core._extra import extra

EVENTS = "events.out.tfevents."  # with which their names begin
EXTRA = "tensorboard"


def rows_of_events(folder: Path, notes: list[str]) -> Iterator[dict[str, str]]:
    """Yield a row for every scalar in the event files of a folder; a resumed run has several."""
    loader: Any = extra("tensorboard.backend.event_processing.event_file_loader", EXTRA)
    others: set[str] = set()
    for file in sorted(folder.glob(f"{EVENTS}*")):
        for event in loader.EventFileLoader(str(file)).Load():
            place = {"step": str(event.step), "wall_time": repr(event.wall_time)}
            for value in event.summary.value:
                if (x := _scalar(value)) is None:
                    others.add(value.tag)
                else:
                    yield {**place, value.tag: x}
    if others:
        notes.append(f"These are no numbers, and left out: {', '.join(sorted(others))}.")


def _scalar(value: Any) -> str | None:
    """Return a scalar as text, or None for a picture, a text or a histogram."""
    if value.HasField("simple_value"):
        return repr(value.simple_value)
    tensors: Any = extra("tensorboard.util.tensor_util", EXTRA)
    if not value.HasField("tensor"):
        return None
    array = tensors.make_ndarray(value.tensor)
    return repr(array.item()) if array.ndim == 0 and array.dtype.kind in "fiu" else None
