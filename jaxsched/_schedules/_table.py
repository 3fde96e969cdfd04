"""A table: one value per step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsched._core._factory import factory
from jaxsched._core._fields import list_field
from jaxsched._core._lists import List, given, some_of
from jaxsched._core._numerics import looked_up, real
from jaxsched._schedules._schedule import Schedule


class Table(Schedule):
    """A table schedule: one value per step, from a file, a search, or any Python function.

        value(t) = values[t]

    Each step costs one look-up, independent of the length of the table.

    A text may have at most 4,000,000 characters, about 200,000 values of 17 digits. The text of a
    longer table is `table(<float64[1000000]>)`, which `parse` rejects. Save the array instead:
    `np.save("rates.npy", values)`, and later `table(np.load("rates.npy"))`.

    Args:
      values: the values, at least one.

    Returns:
      A schedule that ends with its last value, at step `len(values) - 1`. Call it with an integer
      or an integer array; it returns float32 of the same shape.

    Raises:
      ValueError: `values` is empty, or a value is not a finite number.

    Example:
      >>> print(table([1.0, 0.5, 0.1])(jnp.arange(5)))
      [1.  0.5 0.1 0.1 0.1]

    References:
      The `manual` schedule of fairseq.
    """

    values: List = list_field(check=some_of, converter=given)

    @property
    def steps(self) -> int:
        return self.values.shape[-1] - 1

    def at(self, t: jax.Array) -> jax.Array:
        return looked_up(real(self.values), jnp.minimum(t, self.steps).astype(jnp.int32))


table = factory(Table)
