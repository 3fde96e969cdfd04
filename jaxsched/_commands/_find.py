"""`jaxsched find`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added, number, positive, seeds, steps

WHAT = """\
Which learning rate? An LR range test: a little training at rising rates, until the loss explodes,
on several seeds in one compiled program; and what each of the known rules suggests."""


MORE = """\
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


def run(options: argparse.Namespace) -> int:
    """Test, draw, and print what was found."""
    from jaxsched._commands._finding._run import run

    return run(vars(options))


def add(commands: Any) -> None:
    """The options."""
    brief = "find a learning rate by a range test"
    parser = added(commands, "find", run, brief, description=WHAT, epilog=MORE)
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
    add("--low", type=number, default=1e-7, metavar="X", help="the first value; default: 1e-7")
    add("--high", type=number, default=10.0, metavar="X", help="the last value; default: 10")
    add("--steps", type=steps, default=100, metavar="N", help="how many values; default: 100")
    add(
        "--mode",
        choices=("geometric", "linear"),
        default="geometric",
        help="equal ratios, or equal differences; default: geometric",
    )
    add("--seeds", type=seeds, default=8, metavar="N", help="default: 8")
    add("--batch-size", type=positive, metavar="N", help="of the digits; default: 32")
    add(
        "--out",
        type=Path,
        default=Path("runs/find.png"),
        metavar="FILE",
        help="the picture; default: runs/find.png",
    )
