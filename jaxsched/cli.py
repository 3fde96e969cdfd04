"""The `jaxsched` command: one function a subcommand."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxsched._extra import MissingExtraError
from jaxsched._train._refused import RefusedError, refusing

Command = Callable[[argparse.Namespace], int | None]

TRAIN = """\
Train a small network on scikit-learn's handwritten digits, its learning rate a schedule times a
plateau on the validation loss, every epoch one compiled program."""

TRAIN_MORE = """\
A schedule is a name and key=value (3, 3e-3, true, none, a curve's name, or 1,2,3), times a plateau;
or a text, which is the whole learning rate. A length may be 5%, of the total_steps beside it or of
the run, 3ep, epochs, or 5000ex, images. A total_steps that is needed and not given is the run's.
A rule may listen, by metric='...', to value and accuracy, the validation of each epoch; or, each
step, to loss, gradient_norm, and kl, the divergence of what the network says from what it said.

examples:
  jaxsched train
  jaxsched train --schedule warmup_cosine peak_value=3e-3 warmup_steps=50 --no-plateau
  jaxsched train --schedule 'warmup_cosine(3e-3, warmup_steps=5%) * reduce_on_plateau(patience=3)'
  jaxsched train --optimizer adamw weight_decay=0.01 --plateau patience=3 factor=0.2
  jaxsched train --schedule "constant(0.01) * spike_guard(metric='loss') * kl_adaptive(0.01)"
  jaxsched train --with 'skip_spikes()' 'keep_best(backtrack=True)' 'snapshot(keep=3)'
  jaxsched train --config run.toml --epochs 80
  jaxsched train --epochs 80 --resume

run.toml has any of these options but --resume and --force; the command line wins:
  epochs = 20
  optimizer = "adamw(weight_decay=0.01)"
  schedule = "warmup_cosine(3e-3, warmup_steps=5%) * reduce_on_plateau(patience=3)"
"""

FIND = """\
Which learning rate? An LR range test: a little training at rising rates, until the loss explodes,
on several seeds in one compiled program; and what each of the known rules suggests."""

FIND_MORE = """\
A task of your own is module:function. It is called with a random key, once for each seed, and
returns (loss, params, batches): loss(params, batch) is a scalar, and batches are arrays whose
leading axis is the batches, or a list of batches, or anything else iterable.

The exit code is 1 if the test found nothing, and says why.

examples:
  jaxsched find
  jaxsched find --optimizer sgd momentum=0.9 --low 1e-4 --high 100
  jaxsched find --task my_model:range_test --seeds 4 --out rates.png
  jaxsched find --optimizer adamw learning_rate=3e-3 --hyperparameter weight_decay --high 1e3
"""

DESCRIBE = """\
Show what a schedule is worth at its start, at every boundary and at its end."""

DESCRIBE_MORE = """\
examples:
  jaxsched describe 'linear(0.0, 0.1, 50) >> cosine(0.1, 0.0, 950)'
  jaxsched describe 'warmup_cosine(0.1, warmup_steps=5%)' --total-steps 1000
  jaxsched describe 'warmup_linear(0.1, total_steps=90ep, warmup_steps=10000ex)' \\
    --batch-size 256 --dataset-size 50000
"""

UNITS = {
    "batch_size": "examples in a batch",
    "dataset_size": "examples in an epoch",
    "accumulation": "batches in an optimizer step; default: 1",
    "sequence_length": "tokens in an example",
    "total_steps": "optimizer steps of the run, and where to stop",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: the words after `jaxsched`; None is those of the process.

    Returns:
      The exit code: 0, 1 if `find` has found nothing, or 2 if the options ask for what cannot be.
    """
    try:
        options = _options(argv)
        return options.run(options) or 0
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except (RefusedError, MissingExtraError, OSError) as error:
        print(f"jaxsched: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxsched: interrupted", file=sys.stderr)
        return 130


def train(options: argparse.Namespace) -> None:
    """`jaxsched train`."""
    from jaxsched._train import _run, _settings
    from jaxsched._train._folder import Folder

    _run.require_extras()
    folder = Folder(options.out)
    if options.resume:
        settings = _settings.resumed(folder.read_settings(), vars(options))
        learning_rate = _settings.learning_rate(settings)
    else:
        settings = _settings.spoken(vars(options))
        learning_rate = _settings.learning_rate(settings)
        folder.begin(settings, force=options.force)
    _run.run(
        settings,
        learning_rate,
        folder,
        resume=options.resume,
        until=options.stop_after,
        checkpoint_every=options.checkpoint_every,
    )


def find(options: argparse.Namespace) -> int:
    """`jaxsched find`."""
    from jaxsched._find._run import run

    return run(vars(options))


def describe(options: argparse.Namespace) -> None:
    """`jaxsched describe`."""
    from jaxsched._show._describe import describe
    from jaxsched._show._parse import parse
    from jaxsched._train._words import text_of
    from jaxsched._units import Units

    given = {name: getattr(options, name) for name in UNITS}
    units = Units(**{name: x for name, x in given.items() if x is not None})
    with refusing("describe"):
        schedule = parse(text_of("describe", options.text), units=units)
        print(describe(schedule, total_steps=options.total_steps))


def names(options: argparse.Namespace) -> None:
    """`jaxsched list`."""
    from jaxsched._show._listing import listing

    found = listing(options.word)
    if not found:
        raise RefusedError(f"list: nothing has {options.word!r} in its name or its sentence")
    print(found)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line: the usage is in `--help`."""
        raise RefusedError(f"{message} (see `{self.prog} --help`)")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line, before those of a file that it names."""
    parser, _ = _parsers()
    options = parser.parse_args(argv)
    if getattr(options, "config", None) is None:
        return options
    from jaxsched._train._config import words

    parser, trains = _parsers()
    strings = [x for action in trains._actions for x in action.option_strings]
    known = [x for x in strings if x not in ("-h", "--help", "--config", "--resume", "--force")]
    said = trains.parse_args(words(options.config, known))
    trains.set_defaults(**vars(said))
    return parser.parse_args(argv)


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of the command, and the one of `train`."""
    parser = _Parser(prog="jaxsched", description="Schedules for JAX.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    trains = _add_train(commands)
    _add_find(commands)
    _add_describe(commands)
    _add_list(commands)
    return parser, trains


def _added(
    commands: Any, name: str, run: Callable[..., int | None], brief: str, **texts: str
) -> Any:
    parser = commands.add_parser(
        name, help=brief, formatter_class=argparse.RawDescriptionHelpFormatter, **texts
    )
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: Any) -> argparse.ArgumentParser:
    brief = "train on real data, and see the rate that was really used"
    parser = _added(commands, "train", train, brief, description=TRAIN, epilog=TRAIN_MORE)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/digits"), metavar="DIR", help="default: runs/digits")
    add("--epochs", type=_positive, metavar="N", help="default: 40")
    add("--batch-size", type=_positive, metavar="N", help="default: 32")
    add("--seed", type=_seed, metavar="N", help="of the model and the order of images; default: 0")
    add("--optimizer", nargs="+", metavar=("NAME", "key=value"), help="of optax; default: adam")
    add(
        "--schedule",
        nargs="+",
        metavar=("NAME", "key=value"),
        help="or a text; see `jaxsched list`; "
        "default: three warmup_cosine_restarts, each twice as long as the one before",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--plateau",
        nargs="*",
        metavar="key=value",
        help="of reduce_on_plateau, an observation an epoch; "
        "default, unless the schedule is a text: factor=0.5 patience=4 rtol=0.01 min_scale=0.01",
    )
    either.add_argument("--no-plateau", dest="plateau", action="store_false", help="none")
    parser.set_defaults(plateau=None)
    add(
        "--with",
        nargs="+",
        metavar="TEXT",
        help="around the optimizer, from the inside: skip_spikes(...), keep_best(...), "
        "layerwise(...), snapshot(keep=N)",
    )
    add("--stop-after", type=_positive, metavar="N", help="stop early, to be resumed")
    add("--checkpoint-every", type=_positive, default=5, metavar="N", help="epochs; default: 5")
    add("--config", type=Path, metavar="FILE", help="options in TOML; see below")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", action="store_true", help="continue the run in DIR, as it was started"
    )
    either.add_argument("--force", action="store_true", help="replace the run in DIR")
    return parser


def _add_find(commands: Any) -> None:
    brief = "find a learning rate by a range test"
    parser = _added(commands, "find", find, brief, description=FIND, epilog=FIND_MORE)
    add = parser.add_argument
    add("--task", default="digits", metavar="TASK", help="digits, or module:function; see below")
    add(
        "--optimizer",
        nargs="+",
        default=["adam"],
        metavar=("NAME", "key=value"),
        help="of optax; default: adam",
    )
    add(
        "--hyperparameter",
        default="learning_rate",
        metavar="NAME",
        help="what is tried; default: learning_rate",
    )
    add("--low", type=_number, default=1e-7, metavar="X", help="the first value; default: 1e-7")
    add("--high", type=_number, default=10.0, metavar="X", help="the last value; default: 10")
    add("--steps", type=_steps, default=100, metavar="N", help="how many values; default: 100")
    add(
        "--mode",
        choices=("geometric", "linear"),
        default="geometric",
        help="equal ratios, or equal differences; default: geometric",
    )
    add("--seeds", type=_seeds, default=8, metavar="N", help="default: 8")
    add("--batch-size", type=_positive, metavar="N", help="of the digits; default: 32")
    add(
        "--out",
        type=Path,
        default=Path("runs/find.png"),
        metavar="FILE",
        help="the picture; default: runs/find.png",
    )


def _add_describe(commands: Any) -> None:
    brief = "show what a schedule is worth, and where that changes"
    parser = _added(
        commands, "describe", describe, brief, description=DESCRIBE, epilog=DESCRIBE_MORE
    )
    parser.add_argument("text", nargs="+", metavar="TEXT", help="a schedule, stateful or not")
    for name, what in UNITS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=_count, metavar="N", help=what)


def _add_list(commands: Any) -> None:
    brief = "list the schedules, methods and units that text knows"
    parser = _added(commands, "list", names, brief, description=brief.capitalize() + ".")
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="those that have it")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {least} to {most}, got {text}"
            )
        return number

    return parsed


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text}")
    return number


_steps, _seeds = _whole(10, 10**6), _whole(1, 10**4)
_positive, _count, _seed = _whole(1, 10**6), _whole(1, 10**15), _whole(0, 2**32 - 1)
