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


def too_high(e: Evidence) -> str:
    broken = float(e.broken)
    if e.lost > 0 or broken > 0.01:
        said = f"{broken:.1%} of the updates had a NaN or infinite loss or gradient"
    elif e.climbed > 1.5 and (e.regained > 0.3 or e.learnt < 0):
        how = "suddenly, within a sixteenth of the run" if e.sudden >= 0.5 else SLOWLY
        said = f"the loss rose {how}, by {_times(e.climbed)} its deviation from step to step"
        if e.learnt > 0:
            said += f", and {e.regained:.0%} of its fall is lost again"
    elif e.positive and e.leapt > 2 and e.peak > 1:
        said = f"the mean loss jumped to {_times(e.leapt)} the first loss, and is still high"
    elif e.past > 3:
        much = _times(e.past) if e.past < 1000 else "more than 1000 times"
        return (
            "too high: at the end of an update the loss already rises again, so the updates go too "
            f"far; the sum of these slopes is {much} the fall of the loss; lower the rate about "
            "3x, or let it decay"
        )
    elif e.outward < -0.08:
        return (
            "too high: the updates go too far, and the gradients pull the parameters back towards "
            f"zero (the cosine is {e.outward:.2f}); lower the rate about 3x, or let it decay"
        )
    else:
        said = f"the loss is above the first losses by {_times(-e.learnt)} its deviation"
    return f"too high: {said}; lower the rate about 10x, warm up for longer, or clip the gradients"


def too_low(e: Evidence) -> str:
    steep = float(e.ahead) / max(1 - float(e.ahead), 1e-3)
    return (
        "too low: at the end of an update the loss still falls, in the second half of the run "
        f"{steep:.2g} times as steeply as in the first half; raise the rate about 3x, and diagnose "
        "again"
    )


def stagnating(e: Evidence) -> str:
    return (
        f"stagnating: the parameters have stopped: in the second half they moved {e.moving:.2g} "
        f"as far as in the first half, though the gradients are still {e.gradient:.2g} as large as "
        "at first; if the loss is still too high, let the rate decay later"
    )


def overfitting(e: Evidence) -> str:
    said = f"overfitting: the validation loss is above the training loss by {e.gap:.0%} of the "
    if e.worse:
        rise = f"{e.rise:.0%} of its fall" if e.rise < 10 else "more than ten times its fall"
        return said + (
            f"fall of the training loss, and above its best by {rise}; stop earlier, regularise, "
            "or add data"
        )
    return said + "fall of the training loss, and hardly falls; regularise, or add data"


def unheard(metric: str, updates: int) -> str:
    return (
        f"unheard: a rule has waited {updates} updates for the metric `{metric}` and has received "
        f"none; pass it to `tx.update(..., {metric}=x)`, or observe it and keep the returned "
        f"state, `state = observe(state, {metric}=x)`"
    )


def zero(e: Evidence) -> str:
    return (
        f"zero gradients: {e.still:.0%} of the small arrays get a gradient of zero; if you have "
        "not frozen them, look for units that are never active, inputs that are zero, and layers "
        "that are not connected"
    )


def mixed(updates: int) -> str:
    return (
        f"mixed: in {updates} updates a rule received the same metric from `update` and from "
        "`observe`, and used the mean of both; give two different losses two names, "
        '`reduce_on_plateau(metric="validation")`'
    )


WORDS = {
    "uphill": uphill,
    "too_high": too_high,
    "too_low": too_low,
    "stagnation": stagnating,
    "overfitting": overfitting,
}


def nothing(e: Evidence, enough: int, warm: bool) -> str:
    """Return the sentence for a run without a problem."""
    if e.steps == 0:
        return "too early: no loss was seen; pass it to `tx.update(..., value=loss)` or `observe`"
    if e.steps < enough:
        said = f"too early: {int(e.steps)} losses were seen, but {enough} are needed"
        grown = e.positive and e.leapt > 100
        return f"{said}; the loss has grown to {_times(e.leapt)} the first loss" if grown else said
    if not warm:
        return "too early: the learning rate is still warming up"
    if e.placed == 0:
        return (
            f"{NOTHING} in the losses; the updates received no parameters, so the movements could "
            "not be judged; pass them to `tx.update(updates, state, params, value=loss)`"
        )
    if not e.floored:
        return (
            f"{NOTHING}; to find out more, compare with runs at a third of the rate and at three "
            "times the rate"
        )
    return (
        f"{NOTHING}: the loss is above the floor by {e.share:.2g} of what it was at first; if that "
        "is too much, and it is flat, compare runs at a third of the rate and at three times the "
        "rate, before you use a larger model or less weight decay"
    )


def _times(x: object) -> str:
    times = float(x)  # pyright: ignore[reportArgumentType]
    return f"{times:.2g} times" if times < 1000 else f"{times:.0e} times"
