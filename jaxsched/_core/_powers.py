"""Encodings of numbers that are raised to large powers.

float32 rounds 0.99997 by one part in 2**25, and so its power 30,000 by one part in 1,800. Therefore
a schedule stores such a number in a form that keeps the digits of its powers. A field declares the
form with `form_field(LOGARITHM)` or `form_field(PARTS)`. Code that shows or accepts the number
decodes and encodes it: text, `trainable`, and the steps at which a cycle begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import log_rate, real

Leaf = float | np.ndarray | jax.Array


class Form(NamedTuple):
    """A way to store a positive number."""

    rank: int  # number of axes of the leaf of one number
    of_known: Callable[[Any], Any]  # the leaf of a float or a NumPy array, in float64
    of_traced: Callable[[jax.Array], jax.Array]  # the leaf of a JAX array, in its own type
    value: Callable[[Any], Any]  # the number of a leaf, up to rounding

    def encode(self, number: ArrayLike) -> Leaf:
        """Return the leaf that stores a number."""
        if isinstance(number, (float, np.ndarray)):
            return self.of_known(number)
        return self.of_traced(real(number))

    def decode(self, leaf: Any) -> Any:
        """Return the number of a leaf: for a known leaf, the shortest decimal that fits."""
        if isinstance(leaf, Tracer):
            return self.value(leaf)
        held = np.asarray(leaf)
        if held.ndim > self.rank:  # a stack
            return np.asarray([self.decode(one) for one in held])
        return self._shortest(held)

    def _shortest(self, held: np.ndarray) -> float:
        number = float(self.value(held.astype(np.float64)))
        for digits in range(17):
            candidate = float(f"{number:.{digits}e}")
            if candidate > 0 and np.all(np.asarray(self.of_known(candidate), held.dtype) == held):
                return candidate
        return number


def _logarithm(rate: Any) -> Any:
    # rate - 1 is exact from 1/2 on (Sterbenz), but would lose the digits of a smaller rate.
    log = np.where(rate >= 0.5, np.log1p(np.maximum(rate, 0.5) - 1), np.log(rate))
    return log if isinstance(rate, np.ndarray) else float(log)


def _parts(number: Any) -> np.ndarray:
    rounded = np.asarray(number, np.float32).astype(np.float64)
    return np.stack([rounded, number - rounded], axis=-1)


# A decay is stored as its logarithm. Its power is then off by one part in 2**24 per e-folding.
LOGARITHM = Form(
    0,
    _logarithm,
    log_rate,
    lambda leaf: (jnp if isinstance(leaf, Tracer) else np).exp(leaf),
)
# If the power itself must be exact, as 1.5**3 is, a number is stored as its float32 value and the
# rest.
PARTS = Form(
    1,
    _parts,
    lambda number: jnp.stack([number, jnp.zeros_like(number)], axis=-1),
    lambda leaf: leaf[..., 0] + leaf[..., 1],
)
