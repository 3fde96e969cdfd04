"""The sentences of a diagnosis: the problem, the numbers behind it, and a remedy."""

from __future__ import annotations

from jaxsched._diagnose._evidence import Evidence


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
    elif e.level > 1:
        said = f"the loss is {_many(e.level)} the first loss"
    else:
        said = (
            f"the loss rises by {e.alarm:.0f} deviations in Page and Hinkley's test (limit 12), "
            f"and is {e.level:.2g} of the first loss after {e.best:.2g}"
        )
    return f"diverging: {said}; lower the rate about 10x, warm up for longer, or clip the gradients"


def overshooting(e: Evidence) -> str:
    if e.cosine < -0.2:
        said = f"consecutive gradients point in opposite directions, cos {e.cosine:.2f}"
    elif e.neumann > 1.4:
        said = f"the loss alternates up and down, von Neumann's ratio {e.neumann:.2f}"
    elif e.early > 0.4:
        said = f"the mean loss jumped to {_many(1 + e.early)} the very first, and is still high"
    else:
        said = f"the loss jumps by {_many(e.spread / e.level)} its mean from step to step, " + (
            f"which is {e.level:.2g} of the first loss after {e.best:.2g}"
        )
    return f"overshooting: {said}; lower the rate about 3x, or let it decay"


def stagnating(e: Evidence) -> str:
    if e.moving < 0.1:
        return (
            f"stagnating: the parameters have stopped at {e.level:.2g} of the first loss: in the "
            f"second half they moved {_share(e.moving)} as far as in the first half; either the "
            "rate has decayed too early, or gradients vanish, or a rate that was far too high has "
            "led here; start again with a lower rate"
        )
    return (
        f"stagnating: the loss is still {e.level:.2g} of the first, and gradients have no common "
        f"direction, cos {e.cosine:.2f}; check for dead or saturated units, and check the data"
    )


def slow(e: Evidence) -> str:
    times = 10 if e.level > 0.5 else 3
    return (
        f"slow: consecutive gradients agree, cos {e.cosine:.2f}, and the loss is still "
        f"{e.level:.2g} of the first; raise the rate about {times}x"
    )


def overfitting(e: Evidence) -> str:
    rising = f", and {e.rise:.0%} above its best" if e.rise > 0.01 else ""
    return (
        f"overfitting: the validation loss is {e.gap:.2g} of the first loss above the training "
        f"loss{rising}; stop earlier, regularise, or add data"
    )


def underfitting(e: Evidence) -> str:
    said = f"underfitting: the loss is flat at {e.level:.2g} of the first, and "
    if e.outward > 0.25:
        return said + (
            f"gradients only balance the weight decay, cos {e.outward:.2f} with the parameters; "
            "lower the weight decay"
        )
    cancel = "gradients cancel" if e.cosine < 0.18 else "gradients agree without effect"
    return said + (
        f"{cancel}, cos {e.cosine:.2f}; first lower the rate about 3x, and if the loss does not "
        "fall then, use a larger model or better inputs, or pass the unavoidable loss to "
        "`diagnose` as `floor`"
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
    said = f"healthy: the loss is {e.level:.2g} of the first"
    return f"{said}, and the validation loss is {e.gap + e.level:.2g} of it" if e.gap != 0 else said


def _many(x: object) -> str:
    times = float(x)  # pyright: ignore[reportArgumentType]
    return f"{times:.2g} times" if times < 1000 else f"{times:.0e} times"


def _share(x: object) -> str:
    return f"{float(x):.2g}"  # pyright: ignore[reportArgumentType]
