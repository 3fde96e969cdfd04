"""`jaxsched find`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added, number, positive, seeds, steps

WHAT = """\
Find a learning rate with an LR range test. It trains briefly at rising rates until the loss
diverges, on several seeds in one compiled program, and prints the rate that each known rule
suggests."""


MORE = """\
For a task of your own, give module:function. The function is called with a random key, once per
seed, and returns (loss, params, batches), as for `jaxsched train`, whose --help describes it.

If the test gives no suggestion, the exit code is 1 and the reason is printed.

examples:
  jaxsched find
  jaxsched find --optimizer sgd momentum=0.9 --low 1e-4 --high 100
  jaxsched find --task my_model:range_test --seeds 4 --out rates.png
  jaxsched find --optimizer adamw learning_rate=3e-3 --hyperparameter weight_decay --high 1e3
"""


def run(options: argparse.Namespace) -> int:
    """Run the test, draw the picture, and print the result."""
    from jaxsched._commands._finding._run import run

    return run(vars(options))


def add(commands: Any) -> None:
    """Add the options."""
    brief = "find a learning rate with a range test"
    parser = added(commands, "find", run, brief, description=WHAT, epilog=MORE)
    add = parser.add_argument
    add("--task", default="digits", metavar="TASK", help="digits, or module:function; see below")
    add(
        "--optimizer",
        nargs="+",
        metavar=("NAME", "key=value"),
        help="an optax optimizer; default: that of the task, or adam",
    )
    add(
        "--hyperparameter",
        default="learning_rate",
        metavar="NAME",
        help="the hyperparameter to vary; default: learning_rate",
    )
    add("--low", type=number, default=1e-7, metavar="X", help="the first value; default: 1e-7")
    add("--high", type=number, default=10.0, metavar="X", help="the last value; default: 10")
    add("--steps", type=steps, default=100, metavar="N", help="number of values; default: 100")
    add(
        "--mode",
        choices=("geometric", "linear"),
        default="geometric",
        help="equal ratios, or equal differences; default: geometric",
    )
    add("--seeds", type=seeds, default=8, metavar="N", help="number of seeds; default: 8")
    add("--batch-size", type=positive, metavar="N", help="batch size of the digits; default: 32")
    add(
        "--out",
        type=Path,
        default=Path("runs/find.png"),
        metavar="FILE",
        help="file of the picture; default: runs/find.png",
    )
