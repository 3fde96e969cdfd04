"""`jaxsched forecast`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added
from jaxsched._commands._schedules import add_units

WHAT = """\
Forecast the loss of a run: fit a loss law to the logs of one or several runs, and predict the loss
at the end of schedules that were never run. One run at a constant rate and a short branch of it, in
which the rate falls, are enough to compare decays."""

MORE = """\
A RUN is what `jaxsched report` reads: a folder with a log, or the file of a logger. It needs a
column of steps, one of the loss and one of the learning rate; the rate can also be the schedule in
settings.json. A branch is a log of its own, from the start of the run or from the branch on; in the
latter case, the rates before it are those of the first run. A schedule is that of the whole run,
the part that was already run included.

The band of 90 % held for the ends of published language models; on a small model, it held for 6 of
10. Below a forecast is what the runs do not tell about its schedule, for example rates below their
lowest.

examples:
  jaxsched forecast runs/stable runs/branch --total-steps 24000 \\
    --schedule 'warmup_cosine(3e-4, warmup_steps=2000)' \\
    --schedule 'warmup_stable_decay(3e-4, warmup_steps=2000, decay_steps=20%)'
  jaxsched forecast runs/stable runs/branch --total-steps 24000 --best -o forecast.png
  jaxsched forecast wandb_export.csv --loss eval/loss --rate train/lr --x trainer/global_step \\
    --schedule 'cosine(3e-4, 3e-5, 24000)'
"""


def run(options: argparse.Namespace) -> None:
    """Fit, forecast and draw."""
    from jaxsched._commands._forecasting._told import told

    told(options)


def add(commands: Any) -> None:
    """Add the options."""
    brief = "predict the loss at the end of a schedule from the logs of runs"
    parser = added(commands, "forecast", run, brief, description=WHAT, epilog=MORE)
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="folder or file of a run")
    add(
        "--schedule",
        action="append",
        default=[],
        metavar="TEXT",
        help="a schedule to forecast; may be repeated",
    )
    add("--best", action="store_true", help="also forecast the best rest of the first run")
    add("--law", choices=("multi_power", "annealing"), default="multi_power", help="the law")
    add("--loss", metavar="NAME", help="the column with the loss; default: the validation loss")
    add("--rate", metavar="NAME", help="the column with the learning rate")
    add("--x", metavar="NAME", help="the column with the steps")
    add("-o", "--out", type=Path, metavar="FILE", help="draw the forecasts to FILE")
    add_units(parser)
