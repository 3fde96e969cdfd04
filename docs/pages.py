"""Writes the pages of the site that are generated from the library: gallery and reference."""

from __future__ import annotations

import ast
import collections
import doctest
import functools
import html
import importlib
import inspect
import re
import symtable
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxsched as js
import jaxsched.testing
from jaxsched._look import _colours
from jaxsched._look._axis import number
from jaxsched._look._curve import drawn, horizon
from jaxsched._look._simulate import has_until
from jaxsched._look._svg import svg
from jaxsched._text import _names

# Every public name, grouped by purpose. A test checks that no name is missing.
REFERENCE = {
    "Curves": "linear polynomial cosine geometric one_minus_sqrt rex tanh sigmoid power_ramp "
    "logarithmic",
    "Unbounded schedules": "constant exponential_decay inverse_time_decay inverse_sqrt power_law "
    "step_decay piecewise_constant piecewise_linear piecewise_cosine piecewise_cubic "
    "sawtooth_polynomial table "
    "counter",
    "Operators and methods": "Schedule join select minimum maximum from_function trainable Units",
    "Your own schedule or rule": "factory Curve number_field length_field list_field "
    "choice_field Rule Listener Observation initially",
    "Recipes": "warmup_constant warmup_linear warmup_cosine warmup_polynomial warmup_exponential "
    "warmup_inverse_sqrt warmup_stable_decay warmup_cosine_restarts cyclic one_cycle "
    "one_cycle_momentum noam bert",
    "Warmups for Adam": "exponential_warmup radam_warmup untuned_linear_warmup",
    "Rules": "reduce_on_plateau reduce_when_flat greedy kl_adaptive spike_guard auto_warmup "
    "hypergradient "
    "until cooldown tunable feedback Stateful",
    "Optimizer transforms and guards": "inject wrap scale_by_learning_rate scale_by_schedule "
    "scale_by_plateau per_group layerwise unfreezing by_path skip_spikes keep_best snapshot "
    "monitor noise_scale accumulate with_gradient_norm",
    "Optimizer state": "hyperparams factors events exhausted step set_step observe override retune "
    "trigger graft best_params snapshots snapshot_average diagnose Diagnosis gradient_noise_scale",
    "Averages of the parameters": "average exponential_average uniform_average merged_decay "
    "averaged_params average_at merged_snapshots batch_statistics Average",
    "Finding a schedule": "lr_range_test RangeTest suggestions Suggestions "
    "critical_rate stack grid "
    "random_search uniform log_uniform sweep Sweep successive_halving bayesian_search convex_bound "
    "transfer_rate optimal_schedule refined_schedule learn_schedule Learned checkpointed_scan",
    "Forecasts": "fit_loss_law forecast Forecast best_schedule best_remaining LossLaw "
    "MultiPowerLaw AnnealingLaw",
    "Batch size": "scale_with_batch scale_adam_with_batch gradual_warmup seesaw",
    "Plotting and inspection": "plot simulate Simulated describe parse",
}
STATES = (
    "PackedState ScheduledState PlateauState FlatState GreedyState KLAdaptiveState SpikeGuardState "
    "HypergradientState FeedbackState UntilState TunableState SkipSpikesState KeepBestState "
    "SnapshotsState MonitorState NoiseScaleState LikeParams AverageState AveragesState "
    "AutoWarmupState"
)
MODULES = "Modules"  # the group of the names that are not `jaxsched.NAME`
NO_GUIDES = {"changelog", "index", "portability", "benchmarks"}
COMPAT = "torch", "transformers", "timm", "keras", "optax"

# Words that people search for, of which the search finds the page first.
SYNONYMS = {
    "warmup_cosine_restarts": "warm restarts, SGDR, CosineAnnealingWarmRestarts",
    "schedule": "warm restarts, SGDR",
    "warmup_stable_decay": "WSD, trapezoidal schedule",
    "one_cycle": "1cycle, OneCycleLR, super-convergence",
    "cyclic": "CLR, CyclicLR, cyclical learning rate",
    "warmup_cosine": "cosine annealing, CosineAnnealingLR, linear warmup",
    "reduce_on_plateau": "ReduceLROnPlateau",
    "piecewise_constant": "milestones, MultiStepLR",
    "step_decay": "StepLR",
    "inject": "weight decay schedule, inject_hyperparams",
    "per_group": "parameter groups",
    "layerwise": "discriminative fine-tuning, layer-wise learning rate decay, LLRD",
    "accumulate": "gradient accumulation",
    "keep_best": "early stopping, best checkpoint",
    "gradient_noise_scale": "critical batch size",
    "average": "EMA, SWA, Polyak averaging, weight averaging, AveragedModel, WSM",
    "merged_decay": "WSM, checkpoint merging",
    "batch_statistics": "update_bn, BatchNorm",
    "hyperparams": "log the learning rate, current learning rate",
}

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
        sigmoid(0.1, 0.0, 1000)
        power_ramp(0.0, 0.1, 1000)
        logarithmic(0.0, 0.1, 1000)
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
        piecewise_cubic([0.0, 0.1, 0.05, 0.0], [0, 200, 600, 1000])
        sawtooth_polynomial(0.1, 0.0, decay_steps=250, power=1.0)
        table([0.1, 0.08, 0.08, 0.05, 0.02, 0.02, 0.0])
        counter(512)
    """,
    "Operators and methods": """
        linear(0.0, 0.1, 100) >> cosine(0.1, 0.0, 900)
        cosine(1.0, 0.0, 1000) * exponential_decay(1.0, decay_rate=0.5, decay_steps=200)
        cosine(0.1, 0.0, 1000) + constant(0.02)
        maximum(cosine(0.1, 0.0, 1000), linear(0.08, 0.0, 1000))
        minimum(linear(0.0, 0.2, 1000), cosine(0.1, 0.0, 1000))
        cosine(0.1, 0.0, 1000).clip(0.02, 0.08)
        exponential_decay(0.1, decay_rate=0.5, decay_steps=200).take(400) >> linear(0.025, 0.0, 200)
        cosine(0.1, 0.0, 600).shift(200)
        cosine(0.1, 0.0, 1000).faster(2).take(1000)
        cosine(0.1, 0.0, 10).hold(100)
        cosine(0.1, 0.0, 1000).stretch(500)
        (linear(0.0, 0.1, 100) >> linear(0.1, 0.0, 100)).proportional().cycle(mult=2)
        cosine(0.1, 0.0, 100).cycle(mult=2, decay=0.8)
        join([constant(0.1), cosine(0.1, 0.0, 600)], [400])
        select(1, [linear(0.1, 0.0, 1000), cosine(0.1, 0.0, 1000)])
        linear(0.1, 0.01, 1000) ** 2
        0.5 ** (200 / linear(20.0, 2000.0, 1000))
        0.01 / linear(0.1, 1.0, 1000)
        linear(1.0, 8.0, 1000).integer("half_up")
        linear(64.0, 256.0, 1000).integer("floor", multiple=32)
        cosine(0.1, 0.0, 1000).on(piecewise_linear([0.0, 250.0, 1000.0], [0, 500, 1000]))
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
        cosine(1.0, 0.0, 1000) * linear(0.1, 1.0, 200)
        constant(1.0, 300) >> linear(1.0, 0.0, 700)
        maximum(1728 + 13824 * linear(-0.5, 0.5, 1000) ** 3, 1.0).integer("ceil", multiple=128)
        logarithmic(0.0, 0.1, 100) >> linear(0.1, 0.0, 900)
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
    "cosine(1.0, 0.0, 1000) * linear": "cosine multiplied by a warmup",
    "constant(1.0, 300) >>": "modded-nanogpt: the learning rate of a record",
    "maximum(1728": "modded-nanogpt: the attention window of a record",
    "logarithmic(0.0, 0.1, 100) >>": "DeepSpeed: WarmupDecayLR",
    "linear(0.0, 0.1, 100) >> cosine": "a >> b",
    "cosine(1.0, 0.0, 1000) *": "a * b",
    "cosine(0.1, 0.0, 1000) +": "a + b",
    "cosine(0.1, 0.0, 1000).clip": "clip",
    "exponential_decay(0.1, decay_rate=0.5, decay_steps=200).take": "take",
    "cosine(0.1, 0.0, 600).shift": "shift",
    "cosine(0.1, 0.0, 1000).faster": "faster",
    "cosine(0.1, 0.0, 10).hold": "hold",
    "cosine(0.1, 0.0, 1000).stretch": "stretch",
    "cosine(0.1, 0.0, 100).cycle": "cycle: warm restarts",
    "(linear(0.0, 0.1, 100) >> linear": "proportional: triangles that grow as a whole",
    "linear(0.1, 0.01, 1000) **": "a ** p",
    "0.5 **": "c ** a: a half-life that grows",
    "0.01 /": "c / a",
    'linear(1.0, 8.0, 1000).integer("half_up")': "integer",
    "linear(64.0, 256.0, 1000).integer": "integer, in multiples: a sequence length",
    "cosine(0.1, 0.0, 1000).on": "on: a clock that is three times as fast from step 500 on",
}

COLOURS = {  # of the pictures; site.css has others for a dark page
    name.lower(): colour for name, colour in vars(_colours).items() if str(colour)[0] == "#"
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
    constant(0.1) * spike_guard(window_size=8, recover_steps=150)
    cooldown(linear(0.0, 0.1, 100) >> cosine(0.1, 0.0, 900), one_minus_sqrt(1.0, 0.0, 300))
"""
TRIGGERED = 450  # the step at which `trigger` is called


def write(docs: Path) -> None:
    """Write the generated pages, and remove those of names that are gone."""
    folder = docs / "generated"
    texts = {"gallery": gallery(docs), "reference": reference()}
    texts |= {f"reference/{page.stem}": reference_page(page, docs) for page in sheets()}
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    for stem, lines in texts.items():
        file, text = folder / f"{stem}.md", "\n".join(lines) + "\n"
        if not file.exists() or file.read_text() != text:  # else Sphinx would read it again
            file.write_text(text)
    for file in folder.rglob("*.md"):
        if file.relative_to(folder).with_suffix("").as_posix() not in texts:
            file.unlink()


def listed(text: str) -> list[str]:
    """The lines of a text."""
    return [line.strip() for line in text.strip().splitlines()]


def gallery(docs: Path) -> Iterator[str]:
    """Every schedule with its picture and its text."""
    yield "# Gallery\n"
    yield "This page shows a picture of every schedule with the expression that builds it. Use the"
    yield "expression as Python code, or read it from a file or a command line with `parse`. A dot"
    yield "marks a boundary, a triangle a restart. Dashed lines are the schedules of which a"
    yield "combination is built. Unbounded schedules are drawn up to a sensible horizon. Click an"
    yield "expression to copy it."
    for title, texts in GALLERY.items():
        yield f"\n## {title}\n\n<div class='gallery'>"
        yield from (figure(text, js.parse(text), to="reference/") for text in listed(texts))
        yield "</div>"
    yield "\n## Rules that respond to metrics\n"
    yield f"The first picture shows validation losses, one every {HEARD[0]} steps. The others show"
    yield "how each rule responds to these losses, computed by `simulate`.\n\n<div class='gallery'>"
    yield figure("validation losses", js.table(LOSSES).hold(int(HEARD[0])))
    for text in listed(REACTING):
        yield figure(text, js.parse(text), LOSSES, to="reference/")
    yield "</div>\n\n## Rules and guards in real runs\n"
    yield "Each picture shows a training run on handwritten digits. Click a name for its page."
    for page in sorted((docs / "rules").glob("*.md")):
        name, _, sentence = page.read_text().partition("\n")[0].removeprefix("# ").partition(": ")
        yield f"\n[{name}](../rules/{page.name}): {sentence}\n\n![{name}](../rules/{page.stem}.png)"


def figure(text: str, schedule: Any, losses: Any = None, to: str = "") -> str:
    """One picture on one line, so that Markdown does not change it.

    Args:
      text: the expression, or what the picture is called.
      schedule: what it shows.
      losses: what its rules are told.
      to: the folder of the reference, as seen from the page; else the title is no link.
    """
    when = TRIGGERED if losses is not None and has_until(schedule) else None
    metrics = None if losses is None or when else {"value": (HEARD, losses)}
    parts = {f"{part}": js.parse(part) for part in ingredients(text)}
    total = None if metrics or when else length(text, schedule, [*parts.values()])
    [[curve, *behind]] = drawn(
        [{text: schedule, **parts}], metrics=metrics, total_steps=total, trigger_at=when
    )
    picture = svg([curve], width=320, height=170, behind=behind, alt=seen(curve, behind))
    for name, colour in COLOURS.items():
        picture = picture.replace(f'"{colour}"', f'"var(--curve-{name}, {colour})"')
        picture = picture.replace(f"fill:{colour}", f"fill:var(--curve-{name}, {colour})")
    name, code = html.escape(title(text)), html.escape(text)
    if to and (target := targets_of(text)):
        name = f"<a href='{to}{target}'>{name}</a>"
    button = f"<button type='button' title='Copy'><code>{code}</code></button>"
    caption = f"<b>{name}</b><br>{button}" if "(" in text else f"<b>{name}</b>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def targets_of(text: str) -> str:
    """The page of what a picture shows, and the place on it."""
    name = title(text).partition(":")[0]
    for page in sheets():
        if ("jaxsched", name) in page.names:
            return f"{page.stem}.html"
    return f"schedule.html#jaxsched.Schedule.{name}" if name in _names.methods() else ""


def ingredients(text: str) -> list[str]:
    """The schedules of which a combination is made, as text."""
    if "(" not in text:
        return []
    top = ast.parse(text, mode="eval").body
    if isinstance(top, ast.BinOp) and isinstance(top.op, ast.RShift) and is_method(top.left):
        top = top.left
    if isinstance(top, ast.BinOp) and isinstance(top.op, ast.Mult | ast.Add):
        found = [top.left, top.right]
    elif is_method(top):
        while is_method(top):
            top = top.func.value
        found = [top]
    elif isinstance(top, ast.Call) and top.func.id in {"join", "maximum", "minimum", "select"}:
        found = [x for x in ast.walk(top) if isinstance(x, ast.Call) and x is not top]
    else:
        found = []
    rules = {title(each) for each in listed(REACTING)}
    return [part for x in found if (part := ast.unparse(x)).partition("(")[0] not in rules]


def is_method(x: ast.expr) -> bool:
    """Whether it is `something.method(...)`."""
    return isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute)


def length(text: str, schedule: Any, parts: list[Any]) -> int | None:
    """How many steps to draw: the whole of a combination and of what it is made of."""
    if not parts:
        return None
    ends = [int(x.steps) for x in parts if x.steps is not None]
    if is_method(ast.parse(text, mode="eval").body):
        return max([horizon([schedule]), *ends])
    return horizon([schedule, *parts])


def seen(curve: Any, behind: list[Any]) -> str:
    """What is seen in a picture, in words."""
    values, total = curve.values, int(curve.steps[-1])
    first, last, peak = (number(float(x)) for x in (values[0], values[-1], values.max()))
    moves = np.sign(np.diff(values))
    if not moves.any():
        course = f"stays at {first}"
    elif (moves <= 0).all() or (moves >= 0).all():
        verb = "falls" if (moves <= 0).all() else "rises"
        course = f"{verb} from {first} at step 0 to {last} at step {total}"
    elif peak == first:
        low = f"{number(float(values.min()))} at step {curve.steps[values.argmin()]}"
        course = f"starts at its peak of {first}, is lowest with {low}, ends with {last}"
    else:
        when = curve.steps[values.argmax()]
        course = f"starts at {first}, peaks with {peak} at step {when}, ends with {last}"
    if curve.happened:
        course += f", and has {' and '.join(curve.happened.values())}"
    dashed = f" Dashed: {' and '.join(c.label for c in behind)}." if behind else ""
    return f"{title(curve.label)}: the value {course}.{dashed}"


def title(text: str) -> str:
    """The title of a picture."""
    found = [name for start, name in TITLES.items() if text.startswith(start)]
    rule = re.match(r"constant\(0\.1\) \* (\w+)", text)
    return found[0] if found else rule[1] if rule else text.partition("(")[0]


class Page(NamedTuple):
    """A page of the reference: one name, or a few that belong together."""

    stem: str
    title: str
    group: str
    intro: str
    names: tuple[tuple[str, str], ...]  # (module, name)


@functools.cache
def sheets() -> tuple[Page, ...]:
    """The pages of the reference, in its order.

    Two names that differ only in case share a page, because some file systems cannot tell them
    apart.
    """
    found: dict[str, Page] = {}
    for group, names in REFERENCE.items():
        for name in names.split():
            before = found.get(name.lower())
            together = (*(before.names if before else ()), ("jaxsched", name))
            title = " and ".join(name for _, name in together)
            group_ = before.group if before else group
            found[name.lower()] = Page(name.lower(), title, group_, "", together)
    for peer in COMPAT:
        module = getattr(js.compat, peer)
        intro = (inspect.getdoc(module) or "").partition("\n")[0]
        own = tuple((module.__name__, name) for name in dir(module))
        found[f"compat_{peer}"] = Page(f"compat_{peer}", f"compat.{peer}", MODULES, intro, own)
    own = tuple(("jaxsched.states", name) for name in STATES.split())
    intro = "The classes of rule and transform states, as `jaxsched.states.NAME`."
    found["states"] = Page("states", "states", MODULES, intro, own)
    module = js.testing
    own = own_names(module)
    intro = "Checks for your own schedules, as `jaxsched.testing.NAME`."
    found["testing"] = Page("testing", "testing", MODULES, intro, own)
    return tuple(found.values())


def reference() -> Iterator[str]:
    """The index of the reference: a line for every public name, grouped by purpose."""
    yield "# Reference\n"
    yield "This page lists every public name by purpose. All names are `jaxsched.NAME`. Times are"
    yield "optimizer steps. Values are float32, or float64 if `jax_enable_x64` is set."
    yield "`help(jaxsched.NAME)` shows the text of the page of NAME."
    stems = {
        name: page.stem for page in sheets() for module, name in page.names if module == "jaxsched"
    }
    for group, names in REFERENCE.items():
        yield f"\n## {group}\n"
        for name in names.split():
            yield f"- [`{name}`](reference/{stems[name]}.md): {sentence(getattr(js, name))}"
    yield f"\n## {MODULES}\n"
    for page in sheets():
        if page.group == MODULES:
            yield f"- [`{page.title}`](reference/{page.stem}.md): {page.intro}"
    yield "\n```{toctree}\n:hidden:\n"
    yield from (f"reference/{page.stem}" for page in sheets())
    yield "```"


def sentence(x: Any) -> str:
    """The first sentence of a docstring."""
    paragraph = (inspect.getdoc(x) or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.?!])\s", paragraph)[0].replace("*", r"\*")


def reference_page(page: Page, docs: Path) -> Iterator[str]:
    """What is said of a name: its picture, its docstring, and where to read on."""
    yield f"# {page.title}\n"
    if words := SYNONYMS.get(page.stem):
        yield f"```{{index}} {', '.join(f'! {word}' for word in words.split(', '))}\n```\n"
    if page.stem.startswith("compat_"):  # the whole introduction of the module
        yield f"```{{eval-rst}}\n.. automodule:: {page.names[0][0]}\n```\n"
    elif page.intro:
        yield f"{page.intro}\n"
    figures = [*pictures(page, docs)]
    if len(figures) <= 2:
        yield from figures
    for module, name in page.names:
        yield directive(module, name, getattr(importlib.import_module(module), name))
    if len(figures) > 2:
        yield "## In pictures\n\n<div class='gallery'>"
        yield from (figure.strip() for figure in figures)
        yield "</div>\n"
    yield "## See also\n"
    others = [each for each in sheets() if each.group == page.group and each is not page]
    links = ", ".join(f"[`{each.title}`]({each.stem}.md)" for each in others)
    yield f"- {page.group}: {links}"
    if page.group in GALLERY:
        yield f"- Pictures: [Gallery](../gallery.md#{slug(page.group)})"
    if guides := [
        f"[{heading(file)}](../../{file.relative_to(docs)})" for file in told(page, docs)
    ]:
        yield f"- Guides: {', '.join(guides)}"


def pictures(page: Page, docs: Path) -> Iterator[str]:
    """The pictures of the gallery that show a name; of a rule without one, a real run."""
    names = {name for module, name in page.names if module == "jaxsched"}
    found = False
    for group, texts in GALLERY.items():
        for text in listed(texts):
            if title(text) in names or ("Schedule" in names and group == "Operators and methods"):
                found = True
                yield f"{figure(text, js.parse(text))}\n"
    for text in listed(REACTING):
        if title(text) in names:
            found = True
            yield f"{figure(text, js.parse(text), LOSSES)}\n"
    for name in names if not found else ():
        if (docs / "rules" / f"{name}.png").exists():
            path, alt = f"../../rules/{name}", heading(docs / "rules" / f"{name}.md")
            yield f"[![A training run: {alt}]({path}.png)]({path}.md)\n"


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return heading.lower().replace(" ", "-")


def heading(file: Path) -> str:
    """The title of a page."""
    return file.read_text().partition("\n")[0].removeprefix("# ")


@functools.cache
def mentions(docs: Path) -> dict[str, collections.Counter[Path]]:
    """How often the guides mention each name in backticks."""
    found: dict[str, collections.Counter[Path]] = collections.defaultdict(collections.Counter)
    for file in [*sorted(docs.glob("*.md")), *sorted((docs / "rules").glob("*.md"))]:
        text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
        if file.stem not in NO_GUIDES:
            for literal in re.findall(r"`([^`\n]+)`", text):
                for _, _, target in links(literal):
                    found[target][file] += 1
    return found


def told(page: Page, docs: Path) -> list[Path]:
    """The guides that mention a name most often."""
    counts = sum(
        (mentions(docs)[f"{module}.{name}"] for module, name in page.names), collections.Counter()
    )
    own = docs / "rules" / f"{page.stem}.md"
    found = [file for file, _ in counts.most_common(8) if file != own]
    return [own, *found[:7]] if own.exists() else found


@functools.cache
def targets() -> dict[str, str]:
    """What a guide may call a name, and where it is documented."""
    full = [f"{module}.{name}" for page in sheets() for module, name in page.names]
    return {name.removeprefix("jaxsched."): name for name in full}


PREFIX = r"(?<![\w.\"'])(?:(?:jaxsched|js)\.)?"
CALLED = re.compile(PREFIX + r"((?:\w+\.)*\w+)(?=\()")
METHOD = re.compile(r"(?:^|(?<=\))|(?<=schedule))\.(\w+)(?=\(|$)")
# Words that mean something else without their parentheses, and a word that means it only so.
VAGUE = {"step", "minimum", "maximum", "table", "select", "initially", "testing", "states"}
STEP = re.compile(r"step\((opt_)?state\)")


def links(text: str) -> Iterator[tuple[int, int, str]]:
    """Where code of a guide or a docstring mentions public names: start, end and target."""
    whole = re.fullmatch(PREFIX + r"([\w.]+)", text)
    if whole and whole[1] in targets() and whole[1] not in VAGUE:
        yield 0, len(text), targets()[whole[1]]
        return
    names = [x for x in CALLED.finditer(text) if x[1] in targets()]
    names = [x for x in names if x[1] != "step" or STEP.match(text, x.start(1))]
    methods = [x for x in METHOD.finditer(text) if x[1] in _names.methods()]
    found = [(*x.span(), targets()[x[1]]) for x in names]
    found += [(*x.span(1), f"jaxsched.Schedule.{x[1]}") for x in methods]
    yield from sorted(found)


IMPORTS = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "np": "import numpy as np",
    "optax": "import optax",
    "jaxsched": "import jaxsched",
}


def pasteable(lines: list[str], x: Any) -> list[str]:
    """A docstring whose example imports the names that it uses, so that it runs as it is copied."""
    code = "\n".join(each.source for each in doctest.DocTestParser().get_examples("\n".join(lines)))
    if not code:
        return lines
    first = next(n for n, line in enumerate(lines) if line.lstrip().startswith(">>> "))
    indent = lines[first].partition(">>>")[0]
    told = [f"{indent}>>> {line}" for line in imports(code, x)]
    return [*lines[:first], *told, *lines[first:]]


def imports(code: str, x: Any) -> list[str]:
    """The imports that a piece of code needs, of the names that doctests may use."""
    table = symtable.symtable(code, "example", "exec")
    bound = {
        each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()
    }
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)} - bound
    home = inspect.getmodule(inspect.unwrap(x))
    public = sorted(used & set(dir(js)))
    own = {  # names of the same file, each with the module that offers it
        name: module
        for module, name in (each for page in sheets() for each in page.names)
        if name in used - set(public) and is_own(home, name, inspect.unwrap(named(module, name)))
    }
    plain = [IMPORTS[name] for name in IMPORTS if name in used]
    plain += [f"from jaxsched import {', '.join(public)}"] if public else []
    return plain + [
        f"from {module} import {', '.join(sorted(name for name in own if own[name] == module))}"
        for module in sorted(set(own.values()))
    ]


def named(module: str, name: str) -> Any:
    """The object of a public name."""
    return getattr(importlib.import_module(module), name)


def own_names(module: Any) -> tuple[tuple[str, str], ...]:
    """The public names that a module defines, each with the module."""
    found = [name for name, x in vars(module).items() if is_own(module, name, x)]
    return tuple((module.__name__, name) for name in found)


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


def returned(lines: list[str]) -> list[str]:
    """The section `Returns:` as one field: Napoleon would take words before a colon for a type."""
    found: list[str] = []
    opens = False
    for line in lines:
        if line.strip() == "Returns:":
            opens, indent = True, line.partition("R")[0]
        elif opens and line.strip():
            found.append(f"{indent}:returns: {line.strip()}")
            opens = False
        else:
            found.append(line)
    return found


def public() -> list[str]:
    """The names of the package itself."""
    return [name for names in REFERENCE.values() for name in names.split()]
