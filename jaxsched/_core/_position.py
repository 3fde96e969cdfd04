"""Where a time lies in a length: what is done of it, and what is left."""

import jax
import jax.numpy as jnp

from jaxsched._core import _clock
from jaxsched._core._numerics import real


def counted(
    t: jax.Array, steps: _clock.Length | _clock.Beyond
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The steps that are done and left at time `t`, and their sum, which is at least 1.

    Of a length of no steps one step is done.
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
    """The parts of `steps` that are done and left at time `t`, both in [0, 1] and exact at 0 and 1.

    Both are formed from what was counted, never one from the other: `1 - done` has no digits left
    near the end of a curve, and `1 - left` none near its start.
    """
    done, left, length = counted(t, steps)
    # XLA divides by a constant by multiplying with its rounded inverse, so n/n needs the `where`.
    return (
        jnp.where(done >= length, 1, done / length),
        jnp.where(left >= length, 1, left / length),
    )
