"""`jaxsched list`."""

from __future__ import annotations

import argparse
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._refused import RefusedError

MORE = """\
examples:
  jaxsched list cosine
  jaxsched list --for
  jaxsched list --for 'language model'
  jaxsched plot "$(jaxsched list --for GAN --text)" --total-steps 1000

With --for, each kind of training has one schedule. Its lengths are fractions of the run, or the
steps of its source. The peak is that of the source, so tune it for your model.
"""


def run(options: argparse.Namespace) -> None:
    """Print the entries."""
    if options.task is not None:
        _print_presets(options.task, options.text)
        return
    if options.text:
        raise RefusedError("list: --text needs --for")
    from jaxsched._text._listing import listing

    found = listing(options.word)
    if not found:
        raise RefusedError(f"list: no name or description contains {options.word!r}")
    print(found)


def _print_presets(word: str, text: bool) -> None:
    from jaxsched._text._presets import PRESETS, presets, shown

    found = presets(word)
    if not found:
        known = "; ".join(x.task for x in PRESETS)
        raise RefusedError(f"list: no kind of training is called {word!r}. All of them: {known}")
    print("\n".join(x.text for x in found) if text else shown(found))


def add(commands: Any) -> None:
    """Add the options."""
    brief = "list the schedules, methods and units that a text can use"
    what = f"{brief.capitalize()}, or a schedule for each kind of training."
    parser = added(commands, "list", run, brief, description=what, epilog=MORE)
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="only entries with it")
    what = "a schedule for a kind of training, such as 'fine-tuning' or GAN; without one: all"
    parser.add_argument("--for", dest="task", nargs="?", const="", metavar="TASK", help=what)
    parser.add_argument("--text", action="store_true", help="with --for: only the schedules")
