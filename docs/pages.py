"""Writes the pages of the site that are generated from the library: gallery and reference."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import jaxsched as js
import jaxsched.testing
from jaxsched._look._curve import drawn
from jaxsched._look._svg import svg

# Every public name, grouped by purpose. A test checks that no name is missing.
REFERENCE = {
    "Curves": "linear polynomial cosine geometric one_minus_sqrt rex tanh",
    "Unbounded schedules": "constant exponential_decay inverse_time_decay inverse_sqrt power_law "
    "step_decay piecewise_constant piecewise_linear piecewise_cosine sawtooth_polynomial table",
    "Operators and methods": "Schedule join select minimum maximum from_function trainable Units",
    "Your own schedule or rule": "factory Curve number_field length_field list_field "
    "choice_field Rule Listener Observation initially",
    "Recipes": "warmup_constant warmup_linear warmup_cosine warmup_polynomial warmup_exponential "
    "warmup_inverse_sqrt warmup_stable_decay warmup_cosine_restarts cyclic one_cycle "
    "one_cycle_momentum noam bert",
    "Warmups for Adam": "exponential_warmup radam_warmup untuned_linear_warmup",
    "Rules": "reduce_on_plateau reduce_when_flat greedy kl_adaptive spike_guard hypergradient "
    "until tunable feedback Stateful",
    "Optimizer transforms and guards": "inject wrap scale_by_learning_rate scale_by_schedule "
    "scale_by_plateau per_group layerwise unfreezing by_path skip_spikes keep_best snapshot "
    "monitor noise_scale accumulate with_gradient_norm",
    "Optimizer state": "hyperparams factors events exhausted step set_step observe override retune "
    "trigger graft best_params snapshots snapshot_average diagnose Diagnosis gradient_noise_scale",
    "Finding a schedule": "lr_range_test RangeTest suggestions Suggestions stack grid "
    "random_search uniform log_uniform sweep Sweep successive_halving bayesian_search convex_bound "
    "transfer_rate optimal_schedule refined_schedule learn_schedule Learned checkpointed_scan",
    "Batch size": "scale_with_batch scale_adam_with_batch gradual_warmup seesaw",
    "Plotting and inspection": "plot simulate Simulated describe parse",
}
STATES = (
    "PackedState ScheduledState PlateauState FlatState GreedyState KLAdaptiveState SpikeGuardState "
    "HypergradientState FeedbackState UntilState TunableState SkipSpikesState KeepBestState "
    "SnapshotsState MonitorState NoiseScaleState LikeParams"
)
COMPAT = "torch", "transformers", "timm", "keras", "optax"

# The schedules of the gallery, as text for `parse`. The first name is the title of the picture.
GALLERY = {
    "Curves": """
        linear(0.1, 0.0, 1000)
        polynomial(0.1, 0.0, 1000, power=2.0)
        cosine(0.1, 0.0, 1000)
        geometric(0.1, 0.0001, 1000)
        polynomial(0.1, 0.0, 1000, power=1.0, k=2.0)
        one_minus_sqrt(0.1, 0.0, 1000)
        rex(0.1, 0.0, 1000)
        tanh(0.1, 0.0, 1000)
    """,
    "Unbounded schedules": """
        constant(0.1)
        exponential_decay(0.1, decay_rate=0.5, decay_steps=200)
        exponential_decay(0.1, decay_rate=0.5, decay_steps=200, staircase=True)
        inverse_time_decay(0.1, decay_rate=1.0, decay_steps=200)
        inverse_sqrt(0.1, timescale=100)
        power_law(0.1, timescale=100, exponent=-0.7)
        step_decay(0.1, factor=0.5, every=250)
        piecewise_constant([0.1, 0.03, 0.01], [400, 800])
        piecewise_linear([0.0, 0.1, 0.05, 0.0], [0, 200, 600, 1000])
        piecewise_cosine([0.0, 0.1, 0.05, 0.0], [0, 200, 600, 1000])
        sawtooth_polynomial(0.1, 0.0, decay_steps=250, power=1.0)
        table([0.1, 0.08, 0.08, 0.05, 0.02, 0.02, 0.0])
    """,
    "Operators and methods": """
        linear(0.0, 0.1, 100) >> cosine(0.1, 0.0, 900)
        cosine(0.1, 0.0, 1000) * exponential_decay(1.0, decay_rate=0.5, decay_steps=200)
        cosine(0.1, 0.0, 1000) + constant(0.02)
        maximum(cosine(0.1, 0.0, 1000), linear(0.08, 0.0, 1000))
        minimum(linear(0.0, 0.2, 1000), cosine(0.1, 0.0, 1000))
        cosine(0.1, 0.0, 1000).clip(0.02, 0.08)
        exponential_decay(0.1, decay_rate=0.5, decay_steps=200).take(400) >> linear(0.025, 0.0, 200)
        cosine(0.1, 0.0, 600).shift(200)
        cosine(0.1, 0.0, 1000).faster(2).take(1000)
        cosine(0.1, 0.0, 10).hold(100)
        cosine(0.1, 0.0, 1000).stretch(500)
        cosine(0.1, 0.0, 100).cycle(mult=2, decay=0.8)
        join([constant(0.1), cosine(0.1, 0.0, 600)], [400])
        select(1, [linear(0.1, 0.0, 1000), cosine(0.1, 0.0, 1000)])
    """,
    "Recipes": """
        warmup_constant(0.1, warmup_steps=100)
        warmup_linear(0.1, total_steps=1000, warmup_steps=100)
        warmup_cosine(0.1, total_steps=1000, warmup_steps=100)
        warmup_polynomial(0.1, total_steps=1000, warmup_steps=100, power=2.0)
        warmup_exponential(0.1, warmup_steps=100, decay_rate=0.5, decay_steps=200)
        warmup_inverse_sqrt(0.1, warmup_steps=100)
        warmup_stable_decay(0.1, total_steps=1000, warmup_steps=50, decay_steps=200)
        warmup_cosine_restarts(0.1, cycle_steps=150, warmup_steps=20, mult=2)
        cyclic(0.01, 0.1, up_steps=150)
        one_cycle(0.1, total_steps=1000)
        one_cycle_momentum(total_steps=1000)
        noam(1.0, model_size=512, warmup_steps=400)
        bert(0.0001, total_steps=1000, warmup_steps=100)
        gradual_warmup(0.1, 256, 1024, warmup_steps=100)
    """,
    "Warmups for Adam": """
        untuned_linear_warmup(b2=0.99)
        exponential_warmup(timescale=100.0)
        radam_warmup(b2=0.99)
    """,
    "Common recipes under their usual names": """
        (linear(0.0, 0.1, 100) >> constant(0.1, 600)) >> linear(0.1, 0.0, 300)
        constant(0.1, 500) >> linear(0.1, 0.0, 500)
        constant(0.1, 100) >> inverse_sqrt(0.1, timescale=100)
        linear(0.0, 0.1, 50) >> cosine(0.1, 0.03, 450) >> constant(0.03, 500)
        (constant(0.1, 240) >> one_minus_sqrt(0.1, 0.0, 60)).cycle(cycles=3)
        cosine(0.1, 0.0, 1000) * linear(0.1, 1.0, 200)
    """,
    "Schedules from gradient norms": """
        optimal_schedule([1.0, 0.7, 0.5, 0.4, 0.35, 0.3, 0.3, 0.3, 0.3, 0.3])
        refined_schedule([1.0, 0.7, 0.5, 0.4, 0.35, 0.3, 0.3, 0.3, 0.3, 0.3])
    """,
}  # fmt: skip
TITLES = {  # for texts whose first name is not the title
    "(linear(0.0, 0.1, 100) >> constant(0.1, 600)) >>": "trapezoid",
    "constant(0.1, 500) >>": "knee (explore, then exploit)",
    "constant(0.1, 100) >>": "T5",
    "linear(0.0, 0.1, 50) >>": "infinite schedule: cool down, then hold until a final anneal",
    "(constant(0.1, 240)": "repeated stable and decay phases (WSD-S)",
    "cosine(0.1, 0.0, 1000) * linear": "cosine multiplied by a warmup",
    "linear(0.0, 0.1, 100) >> cosine": "a >> b",
    "cosine(0.1, 0.0, 1000) *": "a * b",
    "cosine(0.1, 0.0, 1000) +": "a + b",
    "cosine(0.1, 0.0, 1000).clip": "clip",
    "exponential_decay(0.1, decay_rate=0.5, decay_steps=200).take": "take",
    "cosine(0.1, 0.0, 600).shift": "shift",
    "cosine(0.1, 0.0, 1000).faster": "faster",
    "cosine(0.1, 0.0, 10).hold": "hold",
    "cosine(0.1, 0.0, 1000).stretch": "stretch",
    "cosine(0.1, 0.0, 100).cycle": "cycle: warm restarts",
}

# Rules are drawn with the validation losses of an invented run, one loss every 25 steps.
LOSSES = 0.2 + np.array([
    0.8, 0.5, 0.35, 0.25, 0.2, 0.21, 0.2, 0.22, 0.21, 0.15, 0.1, 0.08, 0.07, 0.08, 0.9, 0.2, 0.08,
    0.07, 0.08, 0.07, 0.05, 0.03, 0.02, 0.02, 0.03, 0.02, 0.02, 0.03, 0.02, 0.02,
])  # fmt: skip
HEARD = 25 * np.arange(1, len(LOSSES) + 1)
REACTING = """
    constant(0.1) * reduce_on_plateau(patience=3, factor=0.5)
    constant(0.1) * greedy(patience=1, factor=0.7)
    constant(0.1) * spike_guard(min_observations=8, recover_steps=100)
"""


def write(docs: Path) -> None:
    """Write the generated pages."""
    folder = docs / "generated"
    folder.mkdir(exist_ok=True)
    (folder / "gallery.md").write_text("\n".join(gallery(docs)) + "\n")
    (folder / "reference.md").write_text("\n".join(reference()) + "\n")


def listed(text: str) -> list[str]:
    """The lines of a text."""
    return [line.strip() for line in text.strip().splitlines()]


def gallery(docs: Path) -> Iterator[str]:
    """Every schedule with its picture and its text."""
    yield "# Gallery\n"
    yield "This page shows a picture of every schedule with the expression that builds it. Use the"
    yield "expression as Python code, or read it from a file or a command line with `parse`. A dot"
    yield "marks a boundary and a triangle marks a restart. Unbounded schedules are drawn up to a"
    yield "sensible horizon."
    for title, texts in GALLERY.items():
        yield f"\n## {title}\n\n<div class='gallery'>"
        yield from (figure(text, js.parse(text)) for text in listed(texts))
        yield "</div>"
    yield "\n## Rules that respond to metrics\n"
    yield f"The first picture shows validation losses, one every {HEARD[0]} steps. The others show"
    yield "what each rule does with them, as `simulate` computes it.\n\n<div class='gallery'>"
    yield figure("validation losses", js.table(LOSSES).hold(int(HEARD[0])))
    yield from (figure(text, js.parse(text), LOSSES) for text in listed(REACTING))
    yield "</div>\n\n## Rules and guards in real runs\n"
    yield "Each picture shows a training run on handwritten digits. Click a name for its page."
    for page in sorted((docs / "rules").glob("*.md")):
        name, _, sentence = page.read_text().partition("\n")[0].removeprefix("# ").partition(": ")
        yield f"\n[{name}](../rules/{page.name}): {sentence}\n\n![{name}](../rules/{page.stem}.png)"


def figure(text: str, schedule: Any, losses: Any = None) -> str:
    """One picture on one line, so that Markdown does not change it."""
    metrics = None if losses is None else {"value": (HEARD, losses)}
    [curves] = drawn([{text: schedule}], metrics=metrics)
    picture = svg(curves, width=380, height=190)
    caption = f"<b>{html.escape(title(text))}</b><br><code>{html.escape(text)}</code>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def title(text: str) -> str:
    """The title of a picture."""
    found = [name for start, name in TITLES.items() if text.startswith(start)]
    rule = re.match(r"constant\(0\.1\) \* (\w+)", text)
    return found[0] if found else rule[1] if rule else text.partition("(")[0]


def reference() -> Iterator[str]:
    """Every public name, grouped by purpose."""
    yield "# Reference\n"
    yield "This page lists every public name by purpose. All names are `jaxsched.NAME`. Times are"
    yield "optimizer steps. Values are float32, or float64 if `jax_enable_x64` is set. `help(NAME)`"
    yield "shows the same text."
    for group, names in REFERENCE.items():
        yield f"\n## {group}\n"
        yield from (directive("jaxsched", name, getattr(js, name)) for name in names.split())
    for peer in COMPAT:
        module = getattr(js.compat, peer)
        yield f"\n## compat.{peer}\n\n{(inspect.getdoc(module) or '').partition(chr(10))[0]}\n"
        names = [name for name, x in vars(module).items() if is_own(module, name, x)]
        yield from (directive(module.__name__, name, getattr(module, name)) for name in names)
    yield "\n## states\n\nThe classes of rule and transform states, as `jaxsched.states.NAME`.\n"
    yield from (
        directive("jaxsched.states", name, getattr(js.states, name)) for name in STATES.split()
    )
    yield "\n## testing\n"
    names = [name for name, x in vars(js.testing).items() if is_own(js.testing, name, x)]
    yield from (directive("jaxsched.testing", name, getattr(js.testing, name)) for name in names)


def is_own(module: Any, name: str, x: Any) -> bool:
    """Whether `x` is a public function or class that the module itself defines."""
    return name[0] != "_" and callable(x) and getattr(x, "__module__", "") == module.__name__


def directive(module: str, name: str, x: Any) -> str:
    """The Sphinx directive that includes a docstring."""
    kind = "autoclass" if inspect.isclass(x) else "autofunction"
    shown = "Schedule", "Curve", "Units", "RangeTest", "Sweep"
    members = "\n   :members:\n" if name in shown else "\n"
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}{members}```\n"


def literal(lines: list[str]) -> list[str]:
    """Marks the indented paragraphs of a docstring as code for reStructuredText."""
    found: list[str] = []
    for n, line in enumerate(lines):
        before = found[-1] if found else ""
        opens = line.startswith("    ") and not before.strip()
        last = next((x for x in reversed(lines[:n]) if x.strip()), "")
        if opens and last and not last.startswith("    ") and not last.endswith("::"):
            found += ["::", ""]
        found.append(line)
    return found
