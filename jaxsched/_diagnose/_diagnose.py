"""Scores of the problems of a run, from the record that `monitor` keeps.

A score is a product of ramps, from 0 to 1, of the numbers in `Evidence`. The level is the recent
mean loss in units of the mean of the first losses.

    uphill        updates go along the gradients instead of against them
    divergence    the loss is NaN, or above the first; or it rises, by Page and Hinkley's test
    overshoot     consecutive gradients point in opposite directions, or the loss jumps up and
                  down, or it jumped up at the start and is still high
    stagnation    the loss is high, and the parameters have stopped; or it never fell, and
                  gradients have no common direction
    slow          the loss is high, gradients agree, and it falls all along or has hardly begun to
    overfitting   the validation loss is far above the training loss, or rises permanently
    underfitting  the loss is high and flat, though the parameters move: gradients cancel, or only
                  balance the weight decay

A problem that explains others suppresses them: a run that goes uphill, diverges or overshoots gets
no other score. While a learning rate warms up, only divergence and direction are judged. The limits
of the ramps were chosen on the development runs of `benchmarks/diagnosis.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import real
from jaxsched._core._require import finite, require
from jaxsched._core._trees import all_of
from jaxsched._diagnose._advice import WORDS, mixed, nothing, unheard
from jaxsched._diagnose._evidence import SMALL, Evidence, evidence
from jaxsched._diagnose._hearing import astray, is_warm
from jaxsched._diagnose._monitor import MonitorState

ENOUGH = 128  # losses before any judgement, because the mean still contains the first ones
FEW = 8  # updates that are enough to tell uphill from downhill
GUILTY = 0.5  # the score from which a problem is reported


class Diagnosis(NamedTuple):
    """The scores of a run, and the numbers behind them.

    The fields `uphill`, `divergence`, `overshoot`, `stagnation`, `slow`, `overfitting` and
    `underfitting` are scores in [0, 1]. A score of 1/2 or more is a problem. `print(diagnosis)`
    prints sentences, and `diagnosis.verdict` is one word.

    `warm` is whether the warmup of every learning rate is over; before that, only uphill updates
    and divergence to NaN are judged. `unheard` says, for each metric, how many updates a rule has
    waited for the first value of that metric. `mixed` counts the updates in which a metric came
    both from `observe` and from `update`. `evidence` has the numbers behind the scores.
    """

    uphill: jax.Array  # float: the updates have the wrong sign
    divergence: jax.Array  # float: the loss explodes
    overshoot: jax.Array  # float: the rate is too high, and the loss jumps
    stagnation: jax.Array  # float: training has stopped, or never started
    slow: jax.Array  # float: the rate could be much higher
    overfitting: jax.Array  # float: what the model learns does not hold for the validation data
    underfitting: jax.Array  # float: the model cannot, or must not, learn more
    warm: jax.Array  # bool: whether the warmup of the learning rates is over
    unheard: dict[str, jax.Array]  # int32 by metric: updates a rule has waited for its first one
    mixed: jax.Array  # int32: updates in which a metric was both observed and passed
    evidence: Evidence  # the numbers behind the scores

    @property
    def verdict(self) -> str:
        """The strongest problem, "healthy", or "too early"."""
        scores = _scores(self)
        worst = max(scores, key=lambda problem: scores[problem])
        if scores[worst] >= GUILTY:
            return worst
        early = self.evidence.steps < ENOUGH or not self.warm
        return "too early" if early else "healthy"

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for each problem, the strongest first, with its numbers and a remedy."""
        scores = _scores(self)
        strongest = sorted(scores, key=lambda problem: -scores[problem])
        said = [WORDS[x](self.evidence) for x in strongest if scores[x] >= GUILTY]
        warm = bool(self.warm)
        return (*(said or [nothing(self.evidence, ENOUGH, warm)]), *self._unsaid())

    def _unsaid(self) -> list[str]:
        """A sentence for each metric that is missing or mixed."""
        waits = {name: int(n) for name, n in self.unheard.items() if n >= ENOUGH}
        lost = [unheard(name, n) for name, n in waits.items()]
        return [*lost, *([mixed(int(self.mixed))] if self.mixed > 0 else [])]

    def __str__(self) -> str:
        return "\n".join(self.advice)


def diagnose(opt_state: Any, *, floor: ArrayLike = 0.0) -> Diagnosis:
    """Diagnoses a run whose optimizer has a `monitor`: scores for seven problems, and advice.

    The scores are arrays, available at every step, under `jit` and `vmap`. The sentences are
    available outside `jit`. Scores describe the present: a run that has recovered is healthy. Some
    problems look alike in one run; if you are unsure, compare it with a run at another learning
    rate. If the lowest possible loss is not zero, pass
    it as `floor`; otherwise it looks like underfitting. A run whose rate has just decayed to zero
    looks like one that has converged badly.

    Args:
      opt_state: an optimizer state, a `TrainState`, an `nnx.Optimizer`, or a tree with one of them.
      floor: lowest possible loss, such as the noise in the labels. It is subtracted from every
        loss. It is required for losses that may be negative.

    Returns:
      A `Diagnosis` of float32 (float64 under x64), scalars unless the state is stacked. Until 128
      losses have been seen, and during warmup, all scores are 0 except for divergence to NaN and
      for uphill updates. Warmup lasts while any learning rate still rises from its first value. The
      `Diagnosis` also lists metrics that rules have never received, and counts metrics received
      from both `observe` and `update`.

    Raises:
      ValueError: `opt_state` contains no `monitor`, or several; or `floor` is not a finite number.

    Example:
      >>> tx = optax.chain(monitor(), optax.sgd(2.0))  # 2 / curvature: it does not converge
      >>> @jax.jit
      ... def step(x, state):
      ...     loss, gradient = jax.value_and_grad(lambda x: 0.5 * x**2)(x)
      ...     updates, state = tx.update(gradient, state, x, value=loss)
      ...     return x + updates, state
      >>> x, state = jnp.ones(()), tx.init(jnp.ones(()))
      >>> for _ in range(128):
      ...     x, state = step(x, state)
      >>> diagnosis = diagnose(state)
      >>> print(diagnosis.verdict, diagnosis.overshoot)
      overshoot 1.0
      >>> print(diagnosis)
      overshooting: consecutive gradients point in opposite directions, cos -1.00; lower the rate
      about 3x, or let it decay

    References:
      Prechelt, Early stopping - but when?, 1998, defines two of the measures: the generalization
      loss (GL), the rise of the validation loss above its best; and the training progress (P_k).
      For the other measures, see `monitor`.
    """
    found = all_of(MonitorState, opt_state)
    require(
        bool(found),
        f"`diagnose(opt_state)` finds no `monitor` in a {type(opt_state).__name__}. Build the "
        "optimizer with `optax.chain(monitor(), ...)`.",
    )
    require(
        len(found) == 1,
        f"`diagnose(opt_state)` finds {len(found)} monitors. Pass the state of one of them.",
    )
    lowest = real(finite("diagnose", floor=floor))
    stacked = found[0].loss.seen.ndim
    judged = judge
    for _ in range(stacked):
        judged = jax.vmap(judged, in_axes=(0, 0, None))
    warm = jnp.broadcast_to(is_warm(opt_state), found[0].loss.seen.shape)
    waits, twice = astray(opt_state)
    return judged(found[0], warm, lowest)._replace(unheard=waits, mixed=twice)


def judge(state: MonitorState, warm: jax.Array, floor: jax.Array) -> Diagnosis:
    """Return the scores of one run."""
    e = evidence(state, floor)
    enough = (e.steps >= ENOUGH) & warm
    uphill = jnp.where(e.moved >= FEW, _ramp(e.climb, 0.4, 0.8), 0)
    nan, risen, jumps = _divergence(e), _risen(e) * (1 - uphill), _overshoot(e) * (1 - uphill)
    calm = (1 - jnp.maximum(nan, risen)) * (1 - jumps) * (1 - uphill)
    high = calm * _ramp(e.level, 0.05, 0.15)
    scores = (risen, jumps, *_unlearnt(e, high), calm * _overfitting(e))
    risen, jumps, stagnation, slow, underfitting, overfitting = (
        jnp.where(enough, score, 0) for score in scores
    )
    return Diagnosis(
        uphill=uphill,
        divergence=jnp.maximum(nan, risen),
        overshoot=jumps,
        stagnation=stagnation,
        slow=slow,
        overfitting=overfitting,
        underfitting=underfitting,
        warm=warm,
        unheard={},
        mixed=jnp.zeros((), jnp.int32),
        evidence=e,
    )


def _divergence(e: Evidence) -> jax.Array:
    """Return the score of non-finite losses, which count as divergence at once."""
    return jnp.maximum(_ramp(e.broken, 0.0, 0.02), _ramp(real(e.lost), 0.0, 2.0))


def _risen(e: Evidence) -> jax.Array:
    rises = _ramp(e.alarm, 6.0, 18.0) * _ramp(e.level - e.best, 0.1, 0.3)
    return jnp.maximum(_ramp(e.level, 1.05, 1.55), rises)


def _overshoot(e: Evidence) -> jax.Array:
    against = jnp.maximum(_ramp(-e.cosine, 0.1, 0.3), _ramp(e.neumann, 1.2, 1.6))
    # The loss of a small batch varies by its mean in a good run too, but at a low level.
    jumps = _ramp(_over(e.spread, e.level), 0.5, 1.5) * _ramp(e.spread, 0.03, 0.17)
    found = jnp.maximum(against * _ramp(e.level, 0.02, 0.1), jumps * _ramp(e.level, 0.06, 0.14))
    return jnp.maximum(found, _leapt(e) * _ramp(e.level, 0.25, 0.4))


def _leapt(e: Evidence) -> jax.Array:
    """Return whether the mean loss jumped above the first one by more than noise, and came back."""
    back = _ramp(_over(e.worst - e.level, e.worst), 0.05, 0.2)
    return back * _ramp(e.early, 0.2, 0.6) * _ramp(_over(e.early, e.spread), 3.0, 6.0)


def _unlearnt(e: Evidence, high: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the scores of stagnation, slowness and underfitting for a high loss."""
    agree = _ramp(e.cosine, 0.1, 0.26)
    held = _ramp(e.outward, 0.15, 0.35)  # by weight decay
    halted = 1 - _ramp(e.moving, 0.02, 0.1)
    never = _ramp(e.level, 0.8, 0.95)
    falling = jnp.maximum(
        _ramp(e.fall, 0.01, 0.04) * _surely(e.fall, e.fall_error),
        _ramp(e.validation_fall, 0.005, 0.02) * _surely(e.validation_fall, e.validation_error),
    )
    # Not falling significantly is not flat: the possible further fall must also be small.
    flat = 1 - _ramp(_over(e.fall + 1.6 * e.fall_error, e.level), 0.25, 0.65)
    hopeful = 1 - _ramp(_over(e.fall, e.level), 0.8, 1.6)
    lifeless = (1 - agree) * never * (1 - falling)
    stagnation = jnp.maximum(halted, lifeless) * (1 - held)
    slow = agree * (1 - held) * (1 - halted) * jnp.maximum(falling, never) * hopeful
    slow = slow * (1 - _leapt(e))  # gradients that lead back after a jump agree too
    idle = jnp.maximum(jnp.maximum(1 - agree, held), 1 - falling)
    underfitting = idle * flat * (1 - jnp.maximum(halted, never) * (1 - held))
    return high * stagnation, high * slow, high * underfitting


def _overfitting(e: Evidence) -> jax.Array:
    apart = _ramp(e.gap, 0.04, 0.16) * _ramp(_over(e.gap, e.level), 0.3, 1.0)
    rising = _surely(-e.validation_fall, e.validation_error) * _ramp(e.gap, 0.03, 0.1)
    return jnp.maximum(apart, _ramp(e.rise, 0.1, 0.4) * rising)


def _ramp(x: jax.Array, low: float, high: float) -> jax.Array:
    """Return 0 up to `low`, 1 from `high` on, and a straight line between."""
    return jnp.clip((x - low) / (high - low), 0, 1)


def _surely(x: jax.Array, error: jax.Array) -> jax.Array:
    return _ramp(_over(x, error), 1.5, 3.0)


def _over(a: jax.Array, b: jax.Array) -> jax.Array:
    return a / jnp.maximum(b, SMALL)


def _scores(diagnosis: Diagnosis) -> dict[str, float]:
    """Return the scores as floats, for one run outside `jit`."""
    scores = {problem: getattr(diagnosis, problem) for problem in WORDS}
    known = not any(isinstance(x, Tracer) for x in scores.values())
    require(known, "a diagnosis has text only outside `jit`. Under `jit`, use its scores.")
    one = all(np.ndim(x) == 0 for x in scores.values())
    remedy = "Take one of them: `jax.tree.map(lambda x: x[0], diagnosis)`."
    require(one, f"the diagnosis has several runs, but text needs one. {remedy}")
    return {problem: float(x) for problem, x in scores.items()}
