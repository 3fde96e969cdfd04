"""Scores of the problems of a run, from the record that `monitor` keeps.

A score is a product of ramps, from 0 to 1, of the numbers in `Evidence`. The problems are:

    uphill        updates go along the gradients instead of against them
    too high      the loss is NaN, or has risen, or has leapt and is still high; or movements of the
                  parameters go past the lowest loss in their direction, and little is learnt
    too low       movements still point downhill in the second half, as they did in the first
    stagnation    the parameters have stopped, though the gradients have not vanished
    overfitting   the validation loss has left the training loss, and does not fall

The rate is judged by the slope of the loss at the end of each movement, which is the derivative of
the loss by the rate (Baydin et al.). In good runs it points up, too, once the loss has fallen and
noise is all that is left. So a rate counts as too high only if little has been learnt, too.

One run cannot show underfitting, so it has no score: a flat loss may come from a small model, from
noise in the labels, or from the rate. A problem that explains others suppresses them: a run that
goes uphill, or has a rate that is too high, gets no other score. While a learning rate warms up,
only divergence to NaN and direction are judged. The limits were chosen on the tasks of
`benchmarks/diagnosis_development.py` and on digits.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsched._core._numerics import real
from jaxsched._core._require import finite, require
from jaxsched._core._trees import all_of
from jaxsched._diagnose._advice import NOTHING, WORDS, mixed, nothing, unheard, zero
from jaxsched._diagnose._evidence import Evidence, evidence
from jaxsched._diagnose._hearing import astray, is_warm
from jaxsched._diagnose._monitor import MonitorState

ENOUGH = 128  # losses before any judgement, because the mean still contains the first ones
FEW = 8  # updates that are enough to tell uphill from downhill
HALF = 0.5  # share of arrays without a gradient that is worth a sentence
GUILTY = 0.5  # the score from which a problem is reported


class Diagnosis(NamedTuple):
    """The scores of a run, and the numbers behind them.

    The fields `uphill`, `too_high`, `too_low`, `stagnation` and `overfitting` are scores in
    [0, 1]. A score of 1/2 or more is a problem. `print(diagnosis)` prints sentences, and
    `diagnosis.verdict` is the name of the strongest problem.

    `warm` is whether the warmup of every learning rate is over; before that, only uphill updates
    and divergence to NaN are judged. `unheard` says, for each metric, how many updates a rule has
    waited for the first value of that metric. `mixed` counts the updates in which a metric came
    both from `observe` and from `update`. `evidence` has the numbers behind the scores.
    """

    uphill: jax.Array  # float: the updates have the wrong sign
    too_high: jax.Array  # float: the learning rate is too high, so the loss diverges or stays high
    too_low: jax.Array  # float: the learning rate could be much higher
    stagnation: jax.Array  # float: the parameters have stopped
    overfitting: jax.Array  # float: what the model learns does not hold for the validation data
    warm: jax.Array  # bool: whether the warmup of the learning rates is over
    unheard: dict[str, jax.Array]  # int32 by metric: updates a rule has waited for its first one
    mixed: jax.Array  # int32: updates in which a metric was both observed and passed
    evidence: Evidence  # the numbers behind the scores

    @property
    def verdict(self) -> str:
        """The strongest problem such as "too high"; else what metrics lack, or "no problem found".

        A metric can be "unheard" or "mixed". "too early" means that there is no verdict yet.
        """
        scores = _scores(self)
        worst = max(scores, key=lambda problem: scores[problem])
        if scores[worst] >= GUILTY:
            return worst.replace("_", " ")
        if self._waits() or self.mixed > 0:
            return "unheard" if self._waits() else "mixed"
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

    def _waits(self) -> dict[str, int]:
        """The updates that rules have waited for each metric, if they are many."""
        return {name: int(n) for name, n in self.unheard.items() if n >= ENOUGH}

    def _unsaid(self) -> list[str]:
        """A sentence for each metric that is missing or mixed, and for gradients of zero."""
        lost = [unheard(name, n) for name, n in self._waits().items()]
        still = [zero(self.evidence)] if self.evidence.still >= HALF else []
        return [*lost, *([mixed(int(self.mixed))] if self.mixed > 0 else []), *still]

    def __str__(self) -> str:
        return "\n".join(self.advice)


def diagnose(opt_state: Any, *, floor: ArrayLike | None = None) -> Diagnosis:
    """Diagnoses a run whose optimizer has a `monitor`: scores for five problems, and advice.

    The scores are arrays, available at every step, under `jit` and `vmap`. The sentences are
    available outside `jit`. Scores describe the present: after a recovery they return to 0. Only
    losses and gradients that were NaN or infinite count over the whole run. There are scores only
    for problems that a single run can show. Many problems do not show, so "no problem found" does
    not mean that the rate is good; compare the run with runs at other rates.

    Args:
      opt_state: an optimizer state, a `TrainState`, an `nnx.Optimizer`, or a tree with one of them.
      floor: the loss that a perfect model would have, such as the entropy of the labels. The lowest
        possible loss is not always 0. Only with `floor` can the text say how much is left to learn.
        Ratios of losses use it, too.

    Returns:
      A `Diagnosis` of float32 (float64 under x64), scalars unless the state is stacked. Until 128
      losses have been seen, and during warmup, only two scores can be above 0: `uphill`, and
      `too_high` if a loss or a gradient was NaN. Warmup lasts while any learning rate still rises
      from its first value. The `Diagnosis` also lists metrics that rules have never received, and
      counts the updates in which a metric came from both `observe` and `update`.

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
      >>> print(diagnosis.verdict, diagnosis.too_high)
      too high 1.0
      >>> print(diagnosis)
      too high: at the end of an update the loss already rises again, so the updates go too far;
      the sum of these slopes is more than 1000 times the fall of the loss; lower the rate about
      3x, or let it decay

    References:
      Prechelt, Early stopping - but when?, 1998, defines two of the measures: the generalization
      loss (GL), the rise of the validation loss above its best; and the training progress (P_k).
      Baydin et al., Online Learning Rate Adaptation with Hypergradient Descent, ICLR 2018: the
      slope of the loss at the end of an update, in the direction of the update, is its derivative
      with respect to the rate. For the other measures, see `monitor`.
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
    lowest = None if floor is None else real(finite("diagnose", "floor", floor))
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
    broken = _broken(e)
    high = jnp.where(enough, _too_high(e, falling) * (1 - uphill), 0)
    high = jnp.maximum(broken, high)
    calm = jnp.where(enough, (1 - uphill) * (1 - high) * (1 - _dead(e, falling)), 0)
    return Diagnosis(
        uphill=uphill,
        too_high=high,
        too_low=calm * _too_low(e),
        stagnation=calm * _stagnation(e),
        overfitting=calm * _overfitting(e),
        warm=warm,
        unheard={},
        mixed=jnp.zeros((), jnp.int32),
        evidence=e,
    )


def _broken(e: Evidence) -> jax.Array:
    """Return the score of losses and gradients that are not finite, which count at once."""
    return jnp.maximum(_ramp(e.broken, 0.0, 0.02), _ramp(real(e.lost), 0.0, 2.0))


def _too_high(e: Evidence, falling: jax.Array) -> jax.Array:
    """Return the score of a rate that is too high: any of these signs is enough."""
    risen = jnp.maximum(_above(e), _lost_again(e)) * (1 - falling) * (1 - _another_loss(e))
    signs = risen, _exploded(e), _leapt(e), _too_far(e), _too_large(e)
    return functools.reduce(jnp.maximum, signs)


def _above(e: Evidence) -> jax.Array:
    """Return whether the loss is above the first losses, by more than noise."""
    return _ramp(-e.learnt, 1.5, 3.0) * _if_positive(e, _ramp(e.level, 1.2, 1.6), 1)


def _exploded(e: Evidence) -> jax.Array:
    """Return whether the loss is far above the first losses: noise grows as much as the mean."""
    return _if_positive(e, _ramp(e.level, 4.0, 12.0), 0)


def _lost_again(e: Evidence) -> jax.Array:
    """Return whether much of what was learnt is lost again."""
    steadily = _ramp(e.climbed, 0.5, 1.5) * _ramp(-e.trend, 3.0, 6.0)
    surely = jnp.maximum(_ramp(e.climbed, 1.5, 3.0), steadily)
    held = _ramp(e.outward, 0.15, 0.35)  # weight decay raises the loss too
    return surely * _ramp(e.regained, 0.2, 0.4) * (1 - held)


def _leapt(e: Evidence) -> jax.Array:
    """Return whether the mean loss leapt above the first one, and has not returned."""
    calm = jnp.where(e.noise < 0.5, _ramp(e.leapt, 1.7, 2.3) * _ramp(e.peak, 4.0, 8.0), 0)
    exploded = _ramp(jnp.log10(jnp.maximum(e.leapt, 1)), 2.5, 3.5) * _ramp(e.peak, 3.0, 5.0)
    exploded = exploded * (1 - _few_examples(e))
    return _if_positive(e, jnp.maximum(calm * _ramp(e.share, 0.25, 0.4), exploded), 0)


def _too_far(e: Evidence) -> jax.Array:
    """Return whether the movements go past the lowest loss in their direction, to no gain.

    They do so in good runs too. But then the loss has fallen by much more than its noise.
    """
    little = 1 - _ramp(e.learnt, 5.0, 9.0)
    little = jnp.maximum(little, _if_positive(e, _ramp(e.share, 0.5, 0.7), 0))
    held = _ramp(e.outward, 0.0, 0.02)
    return _ramp(e.past, 3.0, 7.0) * little * (1 - held) * (1 - _few_examples(e))


def _few_examples(e: Evidence) -> jax.Array:
    """Return whether losses vary as those of a few examples do: from the first on, like their mean.

    The first loss may then be near zero by chance, and what was learnt drowns in the noise.
    """
    now = _ramp(e.noise, 0.3, 0.7) * (1 - _ramp(e.noise, 1.5, 2.0))
    return _if_positive(e, now * _ramp(e.luck, 0.1, 0.3), 0)


def _too_large(e: Evidence) -> jax.Array:
    """Return whether the gradients pull the parameters inwards, and movements go too far."""
    return _ramp(-e.outward, 0.08, 0.16) * _ramp(-e.ahead, 0.0, 0.2)


def _too_low(e: Evidence) -> jax.Array:
    """Return whether movements still point downhill in the second half as much as in the first.

    A run that returns from a leap looks the same, so it is left out.
    """
    leapt = _if_positive(e, _ramp(e.leapt, 1.7, 3.0) * _ramp(e.peak, 3.0, 6.0), 0)
    unbent = _ramp(e.ahead, 0.2, 0.4) * _ramp(e.surely, 2.0, 5.0)
    long = _ramp(real(e.steps), ENOUGH, 3 * ENOUGH)
    # Movements that become longer belong to a warmup, and those that vanish to a decay.
    even = _ramp(e.moving, 0.03, 0.1) * (1 - _ramp(e.moving, 1.8, 2.6))
    return unbent * long * even * (1 - leapt) * (1 - _another_loss(e))


def _another_loss(e: Evidence) -> jax.Array:
    """Return whether the loss is not that of the gradients, as in reinforcement learning.

    The movements went downhill, but the loss has not fallen by half as much as their slopes.
    """
    far = _ramp(e.expected - e.learnt, 3.0, 6.0)
    return far * _ramp(e.expected - 2 * jnp.maximum(e.learnt, 0), 0.0, 1.0)


def _stagnation(e: Evidence) -> jax.Array:
    """Return whether the parameters have stopped, though the gradients have not vanished."""
    return (1 - _ramp(e.moving, 0.003, 0.01)) * _ramp(e.gradient, 0.03, 0.1)


def _dead(e: Evidence, falling: jax.Array) -> jax.Array:
    """Return whether most arrays get no gradient, and nothing is learnt: no rate would help."""
    return _ramp(e.still, 0.4, 0.6) * (1 - falling) * (1 - _ramp(e.learnt, 1.5, 3.0))


def _overfitting(e: Evidence) -> jax.Array:
    apart = _ramp(e.gap, 0.08, 0.2) * (1 - _ramp(e.gap_error, 0.3, 0.6))
    # While the validation loss falls by more than a trifle, training is still worth it.
    falls = _ramp(e.validation_trend, 1.5, 3.0) * _ramp(e.validation_late, 0.01, 0.04)
    return jnp.where(e.validated, apart * (1 - falls) * _ramp(e.learnt, 3.0, 6.0), 0)


def _if_positive(e: Evidence, score: jax.Array, otherwise: float) -> jax.Array:
    """Return a score that is made of ratios of losses, if they are all above zero."""
    return jnp.where(e.positive, score, otherwise)


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
