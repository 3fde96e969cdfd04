"""`jaxsched plot` and `jaxsched compare`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added, count, positive
from jaxsched._commands._refused import RefusedError, refusing
from jaxsched._commands._schedules import add_units, spoken, units

PLOT = """\
Draw schedules in the terminal, or into a file: .svg, .png, or another format of matplotlib. Lengths
are optimizer steps, or 5%, 3ep and 5000ex together with the options that define them."""

PLOT_MORE = """\
Without metrics, a stateful schedule is drawn as if no rule had acted. With metrics, it is
simulated. Each --metric is the name that a rule listens to, a CSV or JSONL file with steps, and a
column of this file. A column that is mostly empty is received by the update after its row, any
other column by the update of its row.

examples:
  jaxsched plot 'warmup_cosine(0.1, total_steps=1000, warmup_steps=50)'
  jaxsched plot 'warmup_cosine(3e-4, warmup_steps=5%)' --total-steps 10000 -o rate.svg
  jaxsched plot 'one_cycle(0.1)' 'cosine(0.1, 0.0, 100%)' --total-steps 1000
  jaxsched plot cosine init_value=0.1 end_value=0.001 steps=100 --log
  jaxsched plot 'constant(0.01) * reduce_on_plateau(patience=4, factor=0.5)' \\
    --metric value=runs/digits/metrics.csv:val_loss
"""

COMPARE = """\
Draw schedules over each other, and print a table with the peak, the mean and the end of each. The
table also has the convex bound, which rates the shape of a schedule at its best peak."""

COMPARE_MORE = """\
The bound is `convex_bound` for gradients of equal norms. Each schedule is rated at the peak that is
best for it, relative to the best schedule: 1.20 is 20% worse. The bound does not cover rules;
stateful schedules are compared as if no rule had acted.

examples:
  jaxsched compare 'cosine(0.1, 0.0, 1000)' 'linear(0.1, 0.0, 1000)' 'constant(0.1)'
  jaxsched compare 'warmup_cosine(0.1, warmup_steps=5%)' \\
    'warmup_stable_decay(0.1, warmup_steps=5%, decay_steps=20%)' --total-steps 10000
"""


def run(options: argparse.Namespace) -> None:
    """Draw the schedules."""
    _shown(options, _each(options))


def _shown(options: argparse.Namespace, schedules: Mapping[str, Any]) -> None:
    with refusing(options.command):
        if options.out is not None:
            _written(options, schedules)
        else:
            print(_drawn(options, schedules))


def compare(options: argparse.Namespace) -> None:
    """Draw the schedules, and print the table."""
    from jaxsched._commands._compare import compared

    schedules = _each(options)
    _shown(options, schedules)
    with refusing("compare"):
        print(compared(schedules, options.total_steps))


def add(commands: Any) -> None:
    """Add the options of both commands."""
    brief = "draw a schedule in the terminal or into a file"
    parser = added(commands, "plot", run, brief, description=PLOT, epilog=PLOT_MORE)
    _add(parser, "plot")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME=FILE:COLUMN",
        help="a metric for the rules, see below; may be repeated for others",
    )
    parser.add_argument(
        "--trigger-at", type=count, metavar="N", help="step at which an until is triggered"
    )
    brief = "draw schedules over each other, and compare their numbers"
    parser = added(commands, "compare", compare, brief, description=COMPARE, epilog=COMPARE_MORE)
    _add(parser, "compare")


def _add(parser: Any, command: str) -> None:
    parser.set_defaults(command=command, metric=None, trigger_at=None)
    parser.add_argument("text", nargs="+", metavar="TEXT", help="a schedule, stateful or not")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write to FILE")
    parser.add_argument("--log", action="store_true", help="logarithmic axis of values")
    parser.add_argument(
        "--height", type=positive, default=16, metavar="N", help="height in lines; default: 16"
    )
    add_units(parser)


def _each(options: argparse.Namespace) -> dict[str, Any]:
    """Return the schedules by the words that define them."""
    from jaxsched._look._curve import distinct

    said: list[list[str]] = []
    for word in options.text:
        if said and _is_argument(word):
            said[-1].append(word)
        else:
            said.append([word])
    return distinct((" ".join(words), spoken(options.command, words, options)) for words in said)


def _is_argument(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and key.isidentifier()


def _written(options: argparse.Namespace, schedules: Mapping[str, Any]) -> None:
    from jaxsched._core._files import write_text
    from jaxsched._look._plot import plot
    from jaxsched._look._svg import svg

    if options.out.is_dir() or not options.out.suffix:
        raise RefusedError(f"-o: the file name must end in .svg, .png or .pdf, got {options.out}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix.lower() == ".svg" and not options.metric:  # our SVG has no metric panel
        text = svg(_curves(options, schedules), log=options.log, page=False, epoch=_epoch(options))
        write_text(options.out, f"{text}\n")
    else:
        epochs = None if _epoch(options) is None else units(options)
        plot(schedules, options.out, log=options.log, units=epochs, **_said(options))
    print(options.out)


def _drawn(options: argparse.Namespace, schedules: Mapping[str, Any]) -> str:
    from jaxsched._look._terminal import draw

    width = shutil.get_terminal_size().columns
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    curves, plain = _curves(options, schedules), not _encodes("┤⣿")
    return draw(
        curves,
        width=width,
        height=options.height,
        log=options.log,
        colour=colour,
        plain=plain,
        epoch=_epoch(options),
    )


def _epoch(options: argparse.Namespace) -> float | None:
    """Return the steps of an epoch, if the options tell."""
    known = units(options)
    told = known.dataset_size is not None and known.batch_size is not None
    return known.steps_per_epoch if told else None


def _encodes(text: str) -> bool:
    """Whether the encoding of the output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _curves(options: argparse.Namespace, schedules: Mapping[str, Any]) -> list[Any]:
    from jaxsched._look._curve import drawn

    [curves] = drawn([schedules], **_said(options))
    return curves


def _said(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the simulation."""
    return {
        "total_steps": options.total_steps,
        "metrics": _metrics(options.metric or ()),
        "trigger_at": options.trigger_at,
    }


def _metrics(words: Sequence[str]) -> dict[str, Any]:
    """Return the given metrics, by name."""
    pairs = [*map(_metric, words)]
    if len(dict(pairs)) < len(pairs):
        raise RefusedError("--metric: a name is given twice")
    return dict(pairs)


def _metric(word: str) -> tuple[str, Any]:
    from jaxsched._commands._reporting._log import log

    name, equals, place = word.partition("=")
    file, colon, header = place.rpartition(":")
    if not (equals and colon and name and file):
        raise RefusedError(f"--metric: write NAME=FILE:COLUMN, got {word!r}")
    with refusing("--metric"):
        found = log(Path(file))
        if header not in found.columns:
            known = ", ".join(found.columns) or "none"
            raise RefusedError(f"--metric: {file} has no numbers {header!r}, but has {known}")
        steps, values = found.columns[header]
        if not ((steps >= 0) & (steps < 2**31 - 1) & (steps % 1 == 0)).all():
            raise RefusedError(f"--metric: the steps of {file} must be integers from 0 on")
        later = 2 * len(steps) < len(
            found.steps
        )  # measured occasionally, after the step of its row
        return name, (steps.astype(int) + later, values)
