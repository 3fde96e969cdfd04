"""The sentences of a diagnosis: the problem, the numbers behind it, and a remedy."""

from __future__ import annotations

from jaxsched._diagnose._evidence import Evidence

SLOWLY = "slowly, over more than a sixteenth of the run"
NOTHING = "no problem found"  # which does not mean that there is none


def uphill(e: Evidence) -> str:
    return (
        f"uphill: of {int(e.moved)} updates {(1 + e.climb) / 2:.0%} went along the gradient, so "
        "the loss rises; two links of the chain negate the updates. Behind an optimizer that "
        "already goes downhill, such as `optax.adam(1e-3)`, use `wrap(optax.adam(1e-3), factor)` "
        "instead of `scale_by_learning_rate(...)` or `per_group(...)`"
    )


def diverging(e: Evidence) -> str:
    broken = float(e.broken)
    if e.lost > 0 or broken > 0.01:
        said = f"{broken:.1%} of the updates had a NaN or infinite loss or gradient"
    else:
        how = "suddenly, within a sixteenth of the run" if e.sudden >= 0.5 else SLOWLY
        said = f"the loss rose {how}, by {_times(e.climbed)} its deviation from step to step"
        if e.learnt > 0:
            said += f", and {e.regained:.0%} of what was learnt is lost again"
        else:
            said += ", to above the first losses"
            said += f": it is {_times(e.level)} them" if e.positive and e.level > 1 else ""
    return f"diverging: {said}; lower the rate about 10x, warm up for longer, or clip the gradients"


def overshooting(e: Evidence) -> str:
    if e.cosine < -0.25:
        said = f"consecutive gradients point in opposite directions, cos {e.cosine:.2f}"
    elif e.neumann > 1.7:
        said = f"the loss alternates up and down, von Neumann's ratio {e.neumann:.2f}"
    else:
        said = f"the mean loss leapt to {_times(e.leapt)} the very first, and is still high"
    return f"overshooting: {said}; lower the rate about 3x, or let it decay"


def stagnating(e: Evidence) -> str:
    return (
        f"stagnating: the parameters have stopped: in the second half they moved {e.moving:.2g} "
        f"as far as in the first half, though consecutive gradients still agree, cos "
        f"{e.cosine:.2f}; the rate has become too small too early, so let it decay later"
    )


def slow(e: Evidence) -> str:
    return (
        f"slow: {e.late:.0%} of the fall of the loss belongs to the second half, and consecutive "
        f"gradients agree, cos {e.cosine:.2f}; raise the rate about 3x, and diagnose again"
    )


def overfitting(e: Evidence) -> str:
    said = f"overfitting: the validation loss is above the training loss by {e.gap:.0%} of what "
    if e.worse:
        rise = f"{e.rise:.0%} of its fall" if e.rise < 10 else "more than ten times its fall"
        return said + (
            f"was learnt, and above its best by {rise}; stop earlier, regularise, or add data"
        )
    return said + "was learnt, and hardly falls; regularise, or add data"


def underfitting(e: Evidence) -> str:
    return (
        f"underfitting: the loss is flat, {e.share:.2g} of the first loss above the floor, and "
        f"gradients only balance the weight decay, cos {e.outward:.2f} with the parameters; lower "
        "the weight decay"
    )


def unheard(metric: str, updates: int) -> str:
    return (
        f"unheard: a rule has waited {updates} updates for the metric `{metric}` and has received "
        f"none; pass it to `tx.update(..., {metric}=x)`, or observe it and keep the returned "
        f"state, `state = observe(state, {metric}=x)`"
    )


def mixed(updates: int) -> str:
    return (
        f"mixed: in {updates} updates a rule received the same metric from `update` and from "
        "`observe`, and used the mean of both; give two different losses two names, "
        '`reduce_on_plateau(metric="validation")`'
    )


WORDS = {
    "uphill": uphill,
    "divergence": diverging,
    "overshoot": overshooting,
    "stagnation": stagnating,
    "slow": slow,
    "overfitting": overfitting,
    "underfitting": underfitting,
}


def nothing(e: Evidence, enough: int, warm: bool) -> str:
    """Return the sentence for a run without a problem."""
    if e.steps == 0:
        return "too early: no loss was seen; pass it to `tx.update(..., value=loss)` or `observe`"
    if e.steps < enough:
        return f"too early: {int(e.steps)} losses were seen, but {enough} are needed"
    if not warm:
        return "too early: the learning rate is still warming up"
    if not e.floored:
        return f"{NOTHING}; `diagnose` cannot tell underfitting without `floor`"
    return (
        f"{NOTHING}: the loss is above the floor by {e.share:.2g} of what it was at first; if that "
        "is too much, and it is flat, compare runs at a third of the rate and at three times the "
        "rate before you use a larger model"
    )


def _times(x: object) -> str:
    times = float(x)  # pyright: ignore[reportArgumentType]
    return f"{times:.2g} times" if times < 1000 else f"{times:.0e} times"
