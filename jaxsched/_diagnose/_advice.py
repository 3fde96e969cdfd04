"""The words of a diagnosis: what is wrong, the numbers that say so, and what to do."""

from __future__ import annotations

from jaxsched._diagnose._evidence import Evidence


def uphill(e: Evidence) -> str:
    return (
        f"uphill: of {int(e.moved)} updates {(1 + e.climb) / 2:.0%} went along the gradient, and "
        "the loss rises; two links of the chain turn the sign. Behind an optimizer that goes "
        "downhill already, such as `optax.adam(1e-3)`, write `wrap(optax.adam(1e-3), factor)` in "
        "place of `scale_by_learning_rate(...)` or `per_group(...)`"
    )


def diverging(e: Evidence) -> str:
    broken = float(e.broken)
    if e.lost > 0 or broken > 0.01:
        said = f"{broken:.1%} of the updates had a NaN or infinite loss or gradient"
    elif e.level > 1:
        said = f"the loss is {_many(e.level)} the first"
    else:
        said = f"the loss rises, {e.alarm:.0f} deviations by Page and Hinkley's test of 12, " + (
            f"and is {e.level:.2g} of the first after {e.best:.2g}"
        )
    return f"diverging: {said}; lower the rate about 10x, warm up for longer, or clip the gradients"


def overshooting(e: Evidence) -> str:
    if e.cosine < -0.2:
        said = f"consecutive gradients point against each other, cos {e.cosine:.2f}"
    elif e.neumann > 1.4:
        said = f"the loss goes up and down in turn, von Neumann's ratio {e.neumann:.2f}"
    elif e.early > 0.4:
        said = f"the mean loss leapt to {_many(1 + e.early)} the very first, and is still high"
    else:
        said = f"the loss jumps by {_many(e.spread / e.level)} its mean from step to step, " + (
            f"which is {e.level:.2g} of the first after {e.best:.2g}"
        )
    return f"overshooting: {said}; lower the rate about 3x, or let it decay"


def stagnating(e: Evidence) -> str:
    if e.moving < 0.1:
        return (
            f"stagnating: at {e.level:.2g} of the first loss the parameters have stopped: in the "
            f"latter half they moved {_share(e.moving)} as far as in the former; the rate has "
            "decayed too early, gradients vanish, or a rate that was far too high has led here; "
            "start again with a lower one"
        )
    return (
        f"stagnating: the loss is {e.level:.2g} of the first, as ever, and gradients have no "
        f"direction, cos {e.cosine:.2f}; look for dead or saturated units, and at the data"
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
        f"loss{rising}; stop earlier, regularise, or find more data"
    )


def underfitting(e: Evidence) -> str:
    said = f"underfitting: the loss is flat at {e.level:.2g} of the first, and "
    if e.outward > 0.25:
        return said + (
            f"gradients only hold up weight decay, cos {e.outward:.2f} with the parameters; "
            "lower the weight decay"
        )
    cancel = "gradients cancel" if e.cosine < 0.18 else "gradients agree and lead nowhere"
    return said + (
        f"{cancel}, cos {e.cosine:.2f}; first lower the rate about 3x, and if the loss does not "
        "fall then, find a larger model or better inputs, or give `diagnose` the loss that cannot "
        "be avoided as `floor`"
    )


def unheard(metric: str, updates: int) -> str:
    return (
        f"unheard: a rule has waited {updates} updates for the metric `{metric}` and has heard "
        f"none; give it to `tx.update(..., {metric}=x)`, or observe it and go on with the state "
        f"that comes back, `state = observe(state, {metric}=x)`"
    )


def mixed(updates: int) -> str:
    return (
        f"mixed: {updates} times a rule was given by `update` what had been observed by `observe` "
        "already, and heard the mean of both; give two different losses two names, "
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
    """What is said if nothing is wrong."""
    if e.steps == 0:
        return "too early: no loss was seen; give it to `tx.update(..., value=loss)` or `observe`"
    if e.steps < enough:
        return f"too early: {int(e.steps)} losses were seen, and it takes {enough}"
    if not warm:
        return "too early: the learning rate still warms up"
    said = f"healthy: the loss is {e.level:.2g} of the first"
    return f"{said}, and the validation loss {e.gap + e.level:.2g}" if e.gap != 0 else said


def _many(x: object) -> str:
    times = float(x)  # pyright: ignore[reportArgumentType]
    return f"{times:.2g} times" if times < 1000 else f"{times:.0e} times"


def _share(x: object) -> str:
    return f"{float(x):.2g}"  # pyright: ignore[reportArgumentType]
