"""The `jaxsched` command: one function a subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxsched._extra import MissingExtraError
from jaxsched._train._refused import RefusedError

TRAIN = """\
Train a small network on scikit-learn's handwritten digits, its learning rate a schedule times a
plateau on the validation loss, every epoch one compiled program."""

EXAMPLES = """\
arguments of factories are written key=value: 3, 3e-3, true, none, a curve's name, or 1,2,3

examples:
  jaxsched train
  jaxsched train --schedule warmup_cosine peak_value=3e-3 warmup_steps=50 --no-plateau
  jaxsched train --optimizer adamw weight_decay=0.01 --plateau patience=3 factor=0.2
  jaxsched train --epochs 80 --resume
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: the words after `jaxsched`; None is those of the process.

    Returns:
      The exit code: 0, or 2 if the options ask for what cannot be.
    """
    try:
        options = _parser().parse_args(argv)
        options.run(options)
    except (RefusedError, MissingExtraError, OSError) as error:
        print(f"jaxsched: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxsched: interrupted", file=sys.stderr)
        return 130
    return 0


def train(options: argparse.Namespace) -> None:
    """`jaxsched train`."""
    from jaxsched._train import _run, _settings
    from jaxsched._train._folder import Folder

    _run.require_extras()
    folder = Folder(options.out)
    if options.resume:
        settings = _settings.resumed(folder.read_settings(), vars(options))
    else:
        settings = _settings.spoken(vars(options))
        _settings.transform(settings)
        folder.begin(settings, force=options.force)
    _run.run(
        settings,
        folder,
        resume=options.resume,
        until=options.stop_after or settings.epochs,
        checkpoint_every=options.checkpoint_every,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line: the usage is in `--help`."""
        raise RefusedError(f"{message} (see `{self.prog} --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxsched", description="Schedules for JAX.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train on real data, and see the rate that was really used",
        description=TRAIN,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=train)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/digits"), metavar="DIR", help="default: runs/digits")
    add("--epochs", type=_positive, metavar="N", help="default: 40")
    add("--batch-size", type=_positive, metavar="N", help="default: 32")
    add("--seed", type=_seed, metavar="N", help="of the model and the order of images; default: 0")
    add("--optimizer", nargs="+", metavar=("NAME", "key=value"), help="of optax; default: adam")
    add(
        "--schedule",
        nargs="+",
        metavar=("RECIPE", "key=value"),
        help="of jaxsched; total_steps is the run's, unless given; "
        "default: three warmup_cosine_restarts, each twice as long as the one before",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--plateau",
        nargs="*",
        metavar="key=value",
        help="of reduce_on_plateau, an observation an epoch; "
        "default: factor=0.5 patience=4 rtol=0.01 min_scale=0.01",
    )
    either.add_argument("--no-plateau", dest="plateau", action="store_false", help="none")
    parser.set_defaults(plateau=None)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", action="store_true", help="continue the run in DIR, as it was started"
    )
    either.add_argument("--force", action="store_true", help="replace the run in DIR")
    add("--stop-after", type=_positive, metavar="N", help="stop early, to be resumed")
    add("--checkpoint-every", type=_positive, default=5, metavar="N", help="epochs; default: 5")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {least} to {most}, got {text}"
            )
        return number

    return parsed


_positive, _seed = _whole(1, 10**6), _whole(0, 2**32 - 1)
