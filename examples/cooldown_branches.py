"""Cooldown on demand: a triggered cooldown, a schedule changed during a run, and many branches.

1. `until(stable, cooldown)`: the run detects that its loss is flat and cools down. It is saved and
   resumed.
2. `tunable(schedule)`: `retune` warms up again a run that had ended.
3. One stable run and twelve cooldowns from six of its checkpoints, under one `vmap`. They are
   compared with runs from scratch of the same lengths.

Run it with `python examples/cooldown_branches.py`; `--quick` takes seconds and shows less.
"""

import argparse
import itertools
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from flax.training.train_state import TrainState
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxsched as js

# The data: 1797 handwritten digits. They are learned too quickly to compare schedules, so new noise
# is added each time an image is used. The noise of the validation images is fixed.
TRAIN, BATCH, NOISE = 1437, 16, 0.25
pixels, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
pixels, labels = jnp.asarray(pixels[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)
copies = jnp.tile(pixels[TRAIN:], (4, 1)), jnp.tile(labels[TRAIN:], 4)
judged = copies[0] + NOISE * jax.random.normal(jax.random.key(0), copies[0].shape), copies[1]
model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])


def loss(params, images, labels):
    logits = model.apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def init(key):
    return model.init(key, pixels[:1])["params"]


def fresh(rate, params):
    tx = optax.chain(optax.scale_by_adam(), js.scale_by_learning_rate(rate))
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


def gradients(state, key):
    """The step counter sets images and noise, so a resumed or branched run sees the same ones."""
    which, noise = jax.random.split(jax.random.fold_in(key, js.step(state)))
    batch = jax.random.randint(which, (BATCH,), 0, TRAIN)
    images = pixels[batch] + NOISE * jax.random.normal(noise, (BATCH, 64))
    return jax.value_and_grad(loss)(state.params, images, labels[batch])


# 1. A cooldown that the run triggers. `reduce_when_flat` only observes here: its factor never falls
# below 1, and it reports when the loss of the batches has become flat.
def ending_late(chunk=50, cooldown=400, blocks=32):
    stable = js.warmup_constant(1e-2, warmup_steps=50)
    flat = js.reduce_when_flat(block_size=16, blocks=blocks, min_scale=1.0)
    rate = js.until(stable, js.one_minus_sqrt(1e-2, 0.0, cooldown)) * flat
    traces = []

    def step(state, by_itself):
        value, grads = gradients(state, jax.random.key(1))
        state = js.observe(state, value=value).apply_gradients(grads=grads)
        # In the compiled program: there is no branch, and nothing waits for the host.
        return js.trigger(state, when=by_itself & js.factors(state)["learning_rate"][1].flat)

    @jax.jit
    def some_steps(state, by_itself):
        traces.append(1)
        state = jax.lax.fori_loop(0, chunk, lambda _, s: step(s, by_itself), state)
        return state, loss(state.params, *judged)

    def train(state, *, by_itself=True, patience=10, most=10_000):
        """Train until the cooldown ends. It starts by itself, or here when the loss stalls."""
        losses = []
        while js.hyperparams(state)["learning_rate"] > 0 and len(losses) * chunk < most:
            state, value = some_steps(state, by_itself)
            losses.append(float(value))
            if not by_itself and min(losses[-patience:]) > min(losses):
                state = js.trigger(state)
        return state, losses

    start = fresh(rate, init(jax.random.key(0))).replace(step=jnp.zeros((), jnp.int32))
    ends = {"by itself, in the graph": train(start), "from Python": train(start, by_itself=False)}
    for name, (state, losses) in ends.items():
        begun = js.factors(state)["learning_rate"][0].start
        before = losses[begun // chunk - 1]
        print(f"cooldown {name}: begun at {begun}, loss {before:.3f} -> {losses[-1]:.3f}")

    # Saved before the trigger, restored and finished: the result is the same bit for bit.
    whole = ends["by itself, in the graph"][0]
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        early, _ = train(start, most=2 * chunk)
        checkpointer.save(f"{folder}/early", early)
        checkpointer.wait_until_finished()
        resumed, _ = train(checkpointer.restore(f"{folder}/early", start))
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, whole, resumed)))
    print(
        f"saved before the trigger, resumed: the same, bit for bit: {same}; {len(traces)} trace(s)"
    )
    return whole, resumed, len(traces)


# 2. Change the schedule during a run. `tx` is static, but the numbers of its schedule are not.
def rewarming(steps=600):
    def planned(peak, start, length):
        decay = js.warmup_cosine(peak, total_steps=length, warmup_steps=length // 10)
        return decay.shift(start)

    state = fresh(js.tunable(planned(1e-2, 0, steps)), init(jax.random.key(0)))
    traces = []

    @jax.jit
    def train(state):
        traces.append(1)

        def step(_, state):
            return state.apply_gradients(grads=gradients(state, jax.random.key(1))[1])

        state = jax.lax.fori_loop(0, steps, step, state)
        return state, loss(state.params, *judged)

    state = state.replace(step=jnp.zeros((), jnp.int32))
    losses, peaks = [], (1e-2, 6e-3, 4e-3)
    for i, peak in enumerate(peaks):
        state = js.retune(state, learning_rate=planned(peak, i * steps, steps))
        state, value = train(state)
        losses.append(float(value))
        print(f"after {js.step(state)} steps, the last {steps} from a peak of {peak}: {value:.3f}")
    print(f"three schedules, {len(traces)} trace(s)")
    return losses, len(traces)


# 3. Branches. The start, the length and the choice of a shape are numbers. So all branches, for all
# peaks and seeds, are one program. A schedule that has ended stays at zero, so a short branch does
# not change until the longest is done.
class Branch(NamedTuple):
    budget: int  # steps of the run and the branch together
    steps: int  # steps of the branch
    shape: int  # index into `COOLDOWNS`


PARTS = (0.2, 0.4)  # a branch is the last one or two fifths of its budget
COOLDOWNS = (js.one_minus_sqrt, js.linear)
SCRATCH = (js.warmup_cosine, js.warmup_linear)
WARMUP = 50


def run(state, key, steps, every):
    """The state and the loss after each `every` steps."""

    def step(_, state):
        return state.apply_gradients(grads=gradients(state, key)[1])

    def some_steps(state, _):
        state = jax.lax.fori_loop(0, every, step, state)
        return state, ((state.params, state.opt_state), loss(state.params, *judged))

    return jax.lax.scan(some_steps, state, length=steps // every)[1]


def stable_then(peak, steps, shape):
    """The schedule of the run and its branches. The current phase is part of the state."""
    stable = js.warmup_constant(peak, warmup_steps=WARMUP)
    return js.until(stable, js.select(shape, [f(peak, 0.0, steps) for f in COOLDOWNS]))


class Seed(NamedTuple):
    key: jax.Array  # selects images and noise
    params: dict  # initial parameters


class Runs(NamedTuple):
    """Losses, by the axes in the comments."""

    scratch: np.ndarray  # (budgets, SCRATCH, peaks, seeds): at the end
    stable: np.ndarray  # (peaks, seeds, times)
    branches: np.ndarray  # (budgets, PARTS, COOLDOWNS, peaks, seeds, times)


def branches(budgets, peaks, seeds, every):
    longest = max(budgets)
    rates = jnp.repeat(jnp.array(peaks), seeds)
    keys = jnp.tile(jax.random.split(jax.random.key(2), seeds), len(peaks))
    starts = Seed(keys, jax.vmap(init)(keys))

    def from_scratch(budget, shape, peak, seed):
        recipes = [f(peak, total_steps=budget, warmup_steps=WARMUP) for f in SCRATCH]
        state = fresh(js.select(shape, recipes), seed.params)
        return run(state, seed.key, longest, longest)[1][-1]

    def stable(peak, seed):
        state = fresh(stable_then(peak, 0, 0), seed.params)
        return run(state, seed.key, round(longest * 0.8), every)

    def branched(branch, checkpoints, peak, seed):
        at = (branch.budget - branch.steps) // every - 1
        params, opt_state = jax.tree.map(lambda x: x[at], checkpoints)
        state = fresh(stable_then(peak, branch.steps, branch.shape), params)
        state = state.replace(opt_state=js.trigger(opt_state))
        return run(state, seed.key, round(longest * 0.4), every)[1]

    cases = jnp.array(list(itertools.product(budgets, range(len(SCRATCH)))))
    over_runs = jax.vmap(from_scratch, (None, None, 0, 0))
    scratch = jax.jit(jax.vmap(over_runs, (0, 0, None, None)))(*cases.T, rates, starts)

    checkpoints, trunk = jax.jit(jax.vmap(stable))(rates, starts)
    leaves = [
        Branch(budget, round(budget * part), shape)
        for budget, part, shape in itertools.product(budgets, PARTS, range(len(COOLDOWNS)))
    ]
    stacked = jax.tree.map(lambda *numbers: jnp.array(numbers), *leaves)
    over_runs = jax.vmap(branched, (None, 0, 0, 0))
    ends = jax.jit(jax.vmap(over_runs, (0, None, None, None)))(stacked, checkpoints, rates, starts)

    grid = (len(peaks), seeds)
    return Runs(
        np.asarray(scratch).reshape(len(budgets), len(SCRATCH), *grid),
        np.asarray(trunk).reshape(*grid, -1),
        np.asarray(ends).reshape(len(budgets), len(PARTS), len(COOLDOWNS), *grid, -1),
    )


def report(runs, budgets, peaks):
    """Runs from scratch use the best peak of each budget; branches share the peak of their run."""
    best = runs.scratch.mean(-1).argmin(-1)
    scratch = np.take_along_axis(runs.scratch, best[..., None, None], 2)[:, :, 0]
    peak = runs.branches[..., -1].mean((0, 1, 2, 4)).argmin()
    ends = runs.branches[:, :, :, peak, :, -1]

    def said(losses, of=1.0):
        error = losses.std(ddof=1) / len(losses) ** 0.5
        return f"{losses.mean() / of:.4f} ({error / of:.4f})"

    print(f"\nHeld-out loss, mean of {scratch.shape[-1]} seeds (standard error).")
    print(f"From scratch at the best of {len(peaks)} peaks each; one stable run, of {peaks[peak]}.")
    print("        from scratch                     last 20 %                        last 40 %")
    print("steps " + "".join(f"{x:>17}" for x in ["cosine", "linear", *2 * ["1-sqrt", "linear"]]))
    for budget, whole, end in zip(budgets, scratch, ends, strict=True):
        losses = [*whole, *end.reshape(-1, end.shape[-1])]
        print(f"{budget:5} " + "".join(f"{said(x):>17}" for x in losses))

    print("\nThe same seeds: relative excess loss of 40 % 1-sqrt over linear from scratch:")
    for budget, whole, end in zip(budgets, scratch, ends, strict=True):
        print(f"{budget:5} {said(end[1, 0] - whole[1], of=whole[1].mean()):>17}")

    told(runs, budgets, peak, ends)
    return peak, scratch, ends


def told(runs, budgets, peak, ends):
    """Print a summary in three numbers."""
    level, end = runs.stable[peak, :, -1].mean(), ends[-1, 0, 0].mean()
    wins, cells = (ends[:, :, 0].mean(-1) < ends[:, :, 1].mean(-1)).sum(), ends[:, :, 0, 0].size
    steps = round(0.8 * max(budgets) + 0.2 * sum(budgets))
    rows = [
        ("loss in the last 20 %, 1-sqrt", f"{level:.3f} -> {end:.3f}"),
        ("1-sqrt better than the linear tail", f"{wins} of {cells}"),
        ("steps, last 20 % / from scratch", f"{steps} / {sum(budgets)}"),
    ]
    print()
    for name, found in rows:
        print(f"{name:36}{found:>19}")


def draw(file, runs, budgets, peaks, every, peak, scratch):
    """Draw the rate and the loss of the stable run and of its branches."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    colours, top_value = ("#D55E00", "#009E73"), peaks[peak]
    trunk = runs.stable[peak].mean(0)
    times = every * np.arange(1, len(trunk) + 1)
    steps = np.arange(times[-1])
    stable = js.warmup_constant(top_value, warmup_steps=WARMUP)
    top.plot(steps, stable(steps), color="#0072B2", lw=2.5, label="one stable run")
    bottom.plot(times, trunk, color="#0072B2", lw=2.5)
    for budget, ends in zip(budgets, runs.branches, strict=True):
        for part, colour, end in zip(PARTS, colours, ends[:, 0, peak], strict=True):
            length = round(part * budget)
            start, points = budget - length, length // every
            steps = np.arange(length + 1)
            label = f"cooldown, the last {part:.0%}" if budget == budgets[0] else None
            cooldown = js.one_minus_sqrt(top_value, 0.0, length)
            top.plot(start + steps, cooldown(steps), color=colour, lw=1.5, label=label)
            losses = [trunk[start // every - 1], *end.mean(0)[:points]]
            bottom.plot(start + every * np.arange(points + 1), losses, color=colour, lw=1.5)
    for losses, marker, name in zip(scratch.mean(-1).T, "xo", ("cosine", "linear"), strict=True):
        label = f"{name} from scratch, its best peak"
        bottom.plot(budgets, losses, "k" + marker, fillstyle="none", label=label)
    top.set_ylabel("learning rate")
    bottom.set(xlabel="optimizer step", ylabel="held-out loss", ylim=(0.9 * min(losses), 0.5))
    for panel in (top, bottom):
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=100)


def main(quick=False, picture=None):
    late = ending_late(blocks=8 if quick else 32, cooldown=100 if quick else 400)
    courses = rewarming(steps=100 if quick else 600)
    budgets, every = ((150, 300), 30) if quick else ((750, 1500, 3000), 75)
    peaks, seeds = ((1e-2, 2e-2), 2) if quick else ((5e-3, 1e-2, 2e-2, 4e-2), 8)
    runs = branches(budgets, peaks, seeds, every)
    peak, scratch, _ = report(runs, budgets, peaks)
    if picture:
        draw(picture, runs, budgets, peaks, every, peak, scratch)
    return late, courses, runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="take seconds instead of a minute")
    parser.add_argument("--picture", metavar="FILE", help="draw the branches")
    main(**vars(parser.parse_args()))
