"""The position of a time within a length: the parts done and left."""

import jax
import jax.numpy as jnp

from jaxsched._core import _clock
from jaxsched._core._numerics import real


def done_and_left(
    t: jax.Array, steps: _clock.Length | _clock.Beyond
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the steps done and left at time `t`, and their sum, which is at least 1.

    A length of zero steps counts as one step that is done.
    """
    more = real(0.0)
    if isinstance(steps, _clock.Beyond):
        steps, more = steps
    steps = jnp.asarray(steps)
    if jnp.issubdtype(steps.dtype, jnp.floating):
        steps, t = jnp.maximum(real(steps), 0), real(t)
    else:
        steps = _clock.read(steps)
    left = _clock.remaining(t, steps)
    steps = steps.astype(t.dtype)
    whole = jnp.where(steps > 0, steps, jnp.ones_like(steps))
    if jnp.issubdtype(t.dtype, jnp.floating):
        done = jnp.where(left > 0, jnp.minimum(t, whole), whole)
    else:
        done = whole - left
    return real(done), real(left) + more, real(whole) + more


def fractions(t: jax.Array, steps: _clock.Length | _clock.Beyond) -> tuple[jax.Array, jax.Array]:
    """Return the parts of `steps` done and left at `t`, both in [0, 1] and exact at 0 and 1.

    Both are computed from integers, never one from the other: `1 - done` would lose its digits near
    the end of a curve, and `1 - left` near its start.
    """
    done, left, length = done_and_left(t, steps)
    # XLA divides by a constant with its rounded inverse, so n/n needs the `where`.
    return (
        jnp.where(done >= length, 1, done / length),
        jnp.where(left >= length, 1, left / length),
    )
