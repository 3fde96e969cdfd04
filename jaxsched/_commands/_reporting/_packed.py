"""Arrays as text in a page: evenly spaced numbers as three, others as bytes of floats."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def packed(x: np.ndarray) -> dict[str, Any]:
    """Return an array for `numbers` in axis.js; values that are not finite become NaN."""
    x = np.where(np.isfinite(x), x, np.nan).astype("<f8")
    first = x[0] if len(x) else 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow means not evenly spaced
        every = x[1] - x[0] if len(x) > 1 else 0.0
        even = np.array_equal(x, first + every * np.arange(len(x)))
    if even:
        return {"first": float(first), "every": float(every), "count": len(x)}
    bits = x if _is_wide(x) else x.astype("<f4")
    return {"width": bits.itemsize, "text": base64.b64encode(bits.tobytes()).decode()}


def _is_wide(x: np.ndarray) -> bool:
    """Return whether float32 would change the first seven digits."""
    x = x[np.isfinite(x)]
    size = np.abs(x[x != 0])
    integers = np.floor(x) == x
    return bool(
        ((size < 2.0**-126) | (size > 2.0**127)).any()
        or (integers.all() and (np.abs(x) > 2**24).any())
    )
