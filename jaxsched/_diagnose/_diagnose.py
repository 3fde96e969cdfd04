"""Scores of the problems of a run, from the record that `monitor` keeps.

A score is a product of ramps, from 0 to 1, of the numbers in `Evidence`.

    uphill        updates go along the gradients instead of against them
    divergence    the loss is NaN, or far above the first losses; or it rose by more than noise,
                  lost a share of what was learnt, and does not fall again
    overshoot     consecutive gradients point in opposite directions, or the loss alternates up and
                  down, and does not fall; or it leapt above the first loss and is still high
    stagnation    the parameters have stopped, though consecutive gradients still agree
    slow          the loss falls in the second half nearly as much as in the first, gradients
                  agree, and nothing leapt before
    overfitting   the validation loss has left the training loss, and does not fall
    underfitting  the loss is flat above a floor that is given, and gradients balance weight decay

There is no score where one run cannot show the cause. A flat loss may come from a small model, from
noise in the labels, or from a rate that is too high or too low. A slow fall in much noise may come
from any rate. A problem that
explains others suppresses them: a run that goes uphill, diverges or overshoots gets no other score.
While a learning rate warms up, only divergence to NaN and direction are judged. The limits were
chosen on the development tasks of `benchmarks/diagnosis_tasks.py`.
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
from jaxsched._diagnose._advice import NOTHING, WORDS, mixed, nothing, unheard
from jaxsched._diagnose._evidence import Evidence, evidence, over
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
    underfitting: jax.Array  # float: weight decay keeps the model from learning more
    warm: jax.Array  # bool: whether the warmup of the learning rates is over
    unheard: dict[str, jax.Array]  # int32 by metric: updates a rule has waited for its first one
    mixed: jax.Array  # int32: updates in which a metric was both observed and passed
    evidence: Evidence  # the numbers behind the scores

    @property
    def verdict(self) -> str:
        """The strongest problem, "no problem found", or "too early"."""
        scores = _scores(self)
        worst = max(scores, key=lambda problem: scores[problem])
        if scores[worst] >= GUILTY:
            return worst
        early = self.evidence.steps < ENOUGH or not self.warm
        return "too early" if early else NOTHING

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


def diagnose(opt_state: Any, *, floor: ArrayLike | None = None) -> Diagnosis:
    """Diagnoses a run whose optimizer has a `monitor`: scores for seven problems, and advice.

    The scores are arrays, available at every step, under `jit` and `vmap`. The sentences are
    available outside `jit`. Scores describe the present: a run that has recovered has none. A
    score is given only where one run shows the problem. Many problems do not show, so "no problem
    found" does not mean that the rate is good; compare the run with runs at other rates.

    Args:
      opt_state: an optimizer state, a `TrainState`, an `nnx.Optimizer`, or a tree with one of them.
      floor: the loss that a perfect model would have, such as the entropy of the labels. A loss has
        no absolute zero, so without it `diagnose` cannot tell underfitting, and gives it no score.
        Other scores use it too, as the zero of the losses.

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
    lowest = None if floor is None else real(finite("diagnose", floor=floor))
    stacked = found[0].loss.seen.ndim
    judged = judge
    for _ in range(stacked):
        judged = jax.vmap(judged, in_axes=(0, 0, None))
    warm = jnp.broadcast_to(is_warm(opt_state), found[0].loss.seen.shape)
    waits, twice = astray(opt_state)
    return judged(found[0], warm, lowest)._replace(unheard=waits, mixed=twice)


def judge(state: MonitorState, warm: jax.Array, floor: jax.Array | None) -> Diagnosis:
    """Return the scores of one run."""
    e = evidence(state, floor)
    enough = (e.steps >= ENOUGH) & warm
    uphill = jnp.where(e.moved >= FEW, _ramp(e.climb, 0.4, 0.8), 0)
    falling = _ramp(e.trend, 2.0, 4.0)
    nan, risen = _divergence(e), _risen(e) * (1 - falling) * (1 - uphill)
    jumps = _overshoot(e, falling) * (1 - uphill)
    calm = (1 - jnp.maximum(nan, risen)) * (1 - jumps) * (1 - uphill)
    scores = (risen, jumps, *(calm * x for x in _unlearnt(e)), calm * _overfitting(e))
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
    above = _ramp(-e.learnt, 1.5, 3.0) * jnp.where(e.positive, _ramp(e.level, 1.2, 1.6), 1)
    steadily = _ramp(e.climbed, 0.5, 1.5) * _ramp(-e.trend, 3.0, 6.0)
    surely = jnp.maximum(_ramp(e.climbed, 1.5, 3.0), steadily)
    held = _ramp(e.outward, 0.15, 0.35)  # weight decay raises the loss too
    again = surely * _ramp(e.regained, 0.2, 0.4) * (1 - held)
    # An explosion raises the deviation as much as the mean.
    far = jnp.where(e.positive, _ramp(e.level, 4.0, 12.0), 0)
    return jnp.maximum(jnp.maximum(above, again), far)


def _overshoot(e: Evidence, falling: jax.Array) -> jax.Array:
    against = jnp.maximum(_ramp(-e.cosine, 0.15, 0.35), _ramp(e.neumann, 1.5, 1.9))
    return jnp.maximum(against * (1 - falling) * _high(e), _leapt(e) * _ramp(e.level, 0.25, 0.4))


def _leapt(e: Evidence) -> jax.Array:
    """Return whether the mean loss leapt far above the first one, by more than noise."""
    calm = e.positive & (e.noise < 0.5)
    return jnp.where(calm, _ramp(e.leapt, 1.7, 2.3) * _ramp(e.peak, 4.0, 8.0), 0)


def _high(e: Evidence) -> jax.Array:
    """Return whether much may be left to learn: near zero, a positive loss has little left."""
    return jnp.where(e.positive, _ramp(e.level, 0.03, 0.1), 1)


def _unlearnt(e: Evidence) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the scores of stagnation, slowness and underfitting."""
    agree = _ramp(e.cosine, 0.1, 0.26)
    held = _ramp(e.outward, 0.15, 0.35)  # by weight decay
    halted = 1 - _ramp(e.moving, 0.003, 0.01)
    stagnation = _high(e) * halted * agree * (1 - _ramp(e.peak, 3.0, 6.0))
    # What returns from a leap is no slow start.
    returns = jnp.maximum(_ramp(over(e.peak, e.learnt), 0.25, 0.75), _ramp(e.late, 0.75, 1.0))
    unbent = _ramp(e.late, 0.25, 0.35) * _ramp(e.trend, 2.5, 4.0) * agree * (1 - returns)
    slow = _high(e) * unbent * (1 - held) * (1 - halted) * (1 - _leapt(e))
    flat = (1 - _ramp(e.left, 0.1, 0.3)) * (1 - _ramp(e.validation_trend, 1.5, 3.0))
    # A flat loss above the floor alone may be a small model, or a rate that is too low or too high.
    above = jnp.where(e.floored, _ramp(e.share, 0.1, 0.2), 0)
    underfitting = above * flat * held * (1 - halted)
    return stagnation, slow, underfitting


def _overfitting(e: Evidence) -> jax.Array:
    apart = _ramp(e.gap, 0.15, 0.35) * (1 - _ramp(e.gap_error, 0.3, 0.6))
    # While the validation loss falls by more than a trifle, training is still worth it.
    falls = _ramp(e.validation_trend, 1.5, 3.0) * _ramp(e.validation_late, 0.01, 0.04)
    return apart * (1 - falls) * _ramp(e.learnt, 1.5, 3.0)


def _ramp(x: jax.Array, low: float, high: float) -> jax.Array:
    """Return 0 up to `low`, 1 from `high` on, and a straight line between."""
    return jnp.clip((x - low) / (high - low), 0, 1)


def _scores(diagnosis: Diagnosis) -> dict[str, float]:
    """Return the scores as floats, for one run outside `jit`."""
    scores = {problem: getattr(diagnosis, problem) for problem in WORDS}
    known = not any(isinstance(x, Tracer) for x in scores.values())
    require(known, "a diagnosis has text only outside `jit`. Under `jit`, use its scores.")
    one = all(np.ndim(x) == 0 for x in scores.values())
    remedy = "Take one of them: `jax.tree.map(lambda x: x[0], diagnosis)`."
    require(one, f"the diagnosis has several runs, but text needs one. {remedy}")
    return {problem: float(x) for problem, x in scores.items()}
