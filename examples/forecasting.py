"""Forecasts of a small language model: what its loss will be, and what its schedule should be.

    python examples/forecasting.py [--steps 1000] [--seeds 6]

First, one stable run and one short branch give a loss law. It ranks ten schedules that were never
run, and all of them are trained to see. Then runs are forecast from their first 40 percent, and the
rest of a run is chosen by the law, in place of the plan. Every figure is of seeds that the law has
not seen. It takes half an hour on two cores.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from small_language_model import PEAK, train

import jaxsched as js

SHARE, KNOTS = 0.4, 41  # the part of a run that is known, and the knots of a schedule for the rest
SEVERAL = "constant", "cosine to 0", "WSD, 20 %"  # these are trained with several seeds


def constant(peak, steps):
    return js.warmup_constant(peak, warmup_steps=steps // 20).take(steps)


def branch(peak, steps, low=0.1):
    """The stable run until its middle, and then a fifth of it at a low rate."""
    held, short = steps // 2 - steps // 20, steps // 5
    warmup = js.linear(peak / (steps // 20), peak, steps // 20)
    return warmup >> js.constant(peak, held) >> js.constant(low * peak, short)


def wsd(peak, steps, share, shape=js.linear, end=0.0):
    return js.warmup_stable_decay(
        peak, total_steps=steps, warmup_steps=steps // 20, decay_steps=int(share * steps),
        decay=shape, end_value=end,
    )  # fmt: skip


def candidates(peak, steps):
    """Ten schedules that people use."""
    warm = {"total_steps": steps, "warmup_steps": steps // 20}
    return {
        "constant": constant(peak, steps),
        "linear to 0": js.warmup_linear(peak, **warm),
        "linear to 10 %": js.warmup_linear(peak, end_value=0.1 * peak, **warm),
        "cosine to 0": js.warmup_cosine(peak, **warm),
        "cosine to 10 %": js.warmup_cosine(peak, end_value=0.1 * peak, **warm),
        "WSD, 10 %": wsd(peak, steps, 0.1),
        "WSD, 20 %": wsd(peak, steps, 0.2),
        "WSD, 40 %": wsd(peak, steps, 0.4),
        "WSD, 20 %, to 10 %": wsd(peak, steps, 0.2, end=0.1 * peak),
        "WSD, 20 %, 1 - sqrt": wsd(peak, steps, 0.2, js.one_minus_sqrt),
    }


def trained(schedules, seeds, steps, start=None, begin=0):
    """The validation losses of each schedule and seed, (schedules, seeds, points), and their steps.

    Schedules of different lengths are cut to `steps`.
    """
    at = jnp.arange(begin, begin + steps)
    rates = jnp.stack([schedule(at) for schedule in schedules]).repeat(len(seeds), axis=0)
    every = steps // 100 if steps % 100 == 0 else steps // 20
    if start is not None:
        start = jax.tree.map(lambda x: jnp.concatenate([x] * len(schedules)), start)
    found = train(rates, jnp.tile(seeds, len(schedules)), start, every=every)
    losses = np.asarray(found.validation).reshape(len(schedules), len(seeds), -1)
    return losses, np.asarray(found.validation_steps[0]), found.end


def interval(x):
    """A mean over seeds, with twice its standard error."""
    return f"{np.mean(x):+.4f} +- {2 * np.std(x, ddof=1) / len(x) ** 0.5:.4f}"


def ranked(x):
    return np.argsort(np.argsort(x))


# 1. One stable run, one short branch: which of ten schedules is best?
def ranking(steps, seeds, save, picture=None):
    stable, short = constant(PEAK, steps), branch(PEAK, steps)
    losses, at, _ = trained([stable, short], jnp.zeros(1, int), steps)
    ends = at <= short.steps
    law = js.fit_loss_law([(stable, at, losses[0, 0]), (short, at[ends], losses[1, 0, ends])])
    print(law, f"not determined: {', '.join(law.undetermined) or 'none'}", sep="\n")
    named = candidates(PEAK, steps)
    some, at, _ = trained([named[name] for name in SEVERAL], seeds, steps)
    others, _, _ = trained(
        [x for name, x in named.items() if name not in SEVERAL], seeds[:1], steps
    )
    save(steps=at, several=some, others=others, stable=losses)
    print("\nschedule                forecast   90 % band        trained, with another seed")
    found = dict(zip(SEVERAL, some[:, 0, -1], strict=True))
    found |= zip((x for x in named if x not in SEVERAL), others[:, 0, -1], strict=True)
    ends = np.array([found[name] for name in named])
    told = {name: js.forecast(law, schedule) for name, schedule in named.items()}
    for i in np.argsort([x.loss for x in told.values()]):
        name, (low, high) = [*named][i], [*told.values()][i].band
        print(f"{name:22} {told[name].loss:9.4f}   {low:.4f} {high:.4f} {ends[i]:12.4f}")
    forecasts = np.array([x.loss for x in told.values()])
    inside = [x.band[0] <= end <= x.band[1] for x, end in zip(told.values(), ends, strict=True)]
    rank = np.corrcoef(ranked(forecasts), ranked(ends))[0, 1]
    print(f"rank correlation {rank:.2f}; {sum(inside)} of {len(inside)} ends in the band")
    print(f"mean error of the ends {100 * np.mean(np.abs(forecasts / ends - 1)):.2f} %")
    best = np.argsort(forecasts)[:3]
    print(f"best of the three best forecasts: {100 * (ends[best].min() / ends.min() - 1):.2f} % "
          "above the best of all")  # fmt: skip
    if picture is not None:
        drawn = ["WSD, 20 %", "cosine to 0", "constant"]
        first, *others = [told[name] for name in drawn]
        first.plot(picture, log=(at, losses[0, 0]), beside=others, names=drawn)
    return law, dict(zip(SEVERAL, some, strict=True)), at


# 2. What will the end of a run be, from its first 40 percent?
def from_a_part(several, at, steps, law):
    print(
        "\nfrom 40 %: schedule     error of the law    of the law with its branch    in the bands"
    )
    known = at <= SHARE * at[-1]
    for name, true in several.items():
        schedule = candidates(PEAK, steps)[name]
        alone, helped, power, inside = [], [], [], []
        for losses in true:
            run = (schedule, at[known], losses[known])
            own = js.fit_loss_law([run])
            low, high = own.band(schedule, at[-1])
            alone.append(float(own(schedule, at[-1])) / losses[-1] - 1)
            inside.append(bool(low <= losses[-1] <= high))
            plain = js.fit_loss_law([(js.constant(1.0), at[known][2:], losses[known][2:])])
            power.append(float(plain(js.constant(1.0), at[-1])) / losses[-1] - 1)
            helped.append(float(law(schedule, at[-1])) / losses[-1] - 1)
        errors = [100 * np.mean(np.abs(x)) for x in (alone, power, helped)]
        print(f"{name:20} {errors[0]:8.2f} % (a power of the steps: {errors[1]:.2f} %) "
              f"{errors[2]:10.2f} %  {sum(inside)} of {len(inside)}")  # fmt: skip


# 3. Is the rest that the law chooses better than the plan?
def rest_of_a_run(law, seeds, steps, save):
    plan = candidates(PEAK, steps)["cosine to 0"]
    begin = int(SHARE * steps)
    rest = js.best_remaining(law, plan, begin, total_steps=steps, knots=KNOTS)
    print(f"\nthe rest of a cosine from step {begin} on, at its knots:")
    print("  " + " ".join(f"{x:.2g}" for x in np.asarray(rest.values)[::4]))
    _, _, middle = trained([plan], seeds, begin)
    ends, _, _ = trained([plan, rest], seeds, steps - begin, middle, begin)
    save(rest=ends, rest_values=np.asarray(rest.values))
    difference = ends[1, :, -1] - ends[0, :, -1]
    whole = plan.take(begin) >> js.piecewise_linear(
        rest.values, np.asarray(rest.boundaries) - begin
    )
    told = float(law(whole, steps) - law(plan, steps))
    print(f"validation loss, the law's rest minus the plan: {interval(difference)} "
          f"({len(seeds)} seeds); forecast {told:+.4f}")  # fmt: skip


def main(steps=1000, seeds=6, out=None, picture=None):
    steps -= steps % 100
    kept = {}
    law, several, at = ranking(steps, jnp.arange(1, seeds + 1), kept.update, picture)
    from_a_part(several, at, steps, law)
    rest_of_a_run(law, jnp.arange(1, seeds + 3), steps, kept.update)
    if out is not None:
        np.savez(out, **kept)
    return law, several


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="write the losses to this file (.npz)")
    parser.add_argument("--picture", type=Path, help="draw three of the forecasts to this file")
    main(**vars(parser.parse_args()))
