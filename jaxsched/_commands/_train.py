"""`jaxsched train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added, positive, seed
from jaxsched._commands._refused import RefusedError, refusing, warn

WHAT = """\
Train a model, and record and plot the learning rate that was used. The model is a small network on
scikit-learn's handwritten digits, or your own. The learning rate is a schedule times a plateau rule
on the validation loss. The steps of an epoch are one compiled program."""


MORE = """\
A schedule is a name with key=value arguments (3, 3e-3, true, none, a curve's name, or 1,2,3), and
is multiplied by the plateau rule. Or it is a text, which is the whole learning rate. A length may
be 5% (of total_steps in the same call, or of the run), 3ep (epochs) or 5000ex (images). A required
total_steps that is left out is that of the run. With metric='...' a rule can listen to value, the
validation loss after each epoch, and to the metrics of the task, such as accuracy; or, at each
step, to loss, gradient_norm, and kl, the KL divergence between the model's outputs before and after
the update.

A task of your own is a function of a random key, given as --task module:function. It returns
(loss, params, batches), or a dict with these names and, if you like, validation and optimizer:
  loss        loss(params, batch) returns the loss, or (loss, {'accuracy': ...}) with any numbers. A
              third parameter named key receives a random key; it is None in a validation. If the
              dict has 'logits', a rule can listen to kl.
  params      the parameters: any pytree of float arrays.
  batches     the batches of an epoch, in their order: arrays with the batches on the leading axis,
              a list, or another iterable such as a DataLoader; or a function of a random key,
              called in every epoch, that returns one of these, for example in a new order.
  validation  batches, in one of the same forms. Without it, value is the mean training loss.
  optimizer   a function of learning_rate that returns an Optax optimizer, such as optax.adamw.

examples:
  jaxsched train
  jaxsched train --schedule warmup_cosine peak_value=3e-3 warmup_steps=50 --no-plateau
  jaxsched train --schedule 'warmup_cosine(3e-3, warmup_steps=5%) * reduce_on_plateau(patience=3)'
  jaxsched train --optimizer adamw weight_decay=0.01 --plateau patience=3 factor=0.2
  jaxsched train --schedule "constant(0.01) * spike_guard(metric='loss') * kl_adaptive(0.01)"
  jaxsched train --with 'skip_spikes()' 'keep_best(backtrack=True)' 'snapshot(keep=3)'
  jaxsched train --task my_model:task --epochs 5 --out runs/mine
  jaxsched train --config run.toml --epochs 80
  jaxsched train --epochs 80 --resume

run.toml may contain any of these options except --resume and --force. The command line wins:
  epochs = 20
  optimizer = "adamw(weight_decay=0.01)"
  schedule = "warmup_cosine(3e-3, warmup_steps=5%) * reduce_on_plateau(patience=3)"
"""


def run(options: argparse.Namespace) -> None:
    """Start a run, or resume it."""
    from jaxsched._commands._training import _run, _spoken
    from jaxsched._commands._training._doubts import doubts
    from jaxsched._commands._training._folder import Folder

    _run.require_extras()
    folder = Folder(options.out or _out(options.task))
    if options.resume:
        saved = folder.read_settings()
        with refusing(str(folder.settings), RefusedError):  # the file may have been edited
            task = _spoken.saved_task(saved)
            _spoken.require_possible(saved, _spoken.learning_rate(saved), task)
        settings = _spoken.resumed(saved, vars(options), task)
        learning_rate = _spoken.learning_rate(settings)
    else:
        task = _spoken.task(vars(options))
        settings = _spoken.spoken(vars(options), task)
        learning_rate = _spoken.learning_rate(settings)
        folder.begin(settings, force=options.force)
        for doubt in doubts(task, learning_rate, is_own=settings.optimizer is None):
            warn(doubt)
    _run.run(
        settings,
        learning_rate,
        folder,
        task,
        resume=options.resume,
        until=options.stop_after,
        checkpoint_every=options.checkpoint_every,
    )


def _out(task: str | None) -> Path:
    """Return the default folder of a run: of the digits, or of the module of a task."""
    return Path("runs") / (task or "digits").partition(":")[0].rpartition(".")[2]


def add(commands: Any) -> None:
    """Add the options."""
    brief = "train on real data, and plot the learning rate used"
    parser = added(commands, "train", run, brief, description=WHAT, epilog=MORE)
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="default: runs/digits, or runs/ and the module")
    add("--task", metavar="TASK", help="digits, or module:function; see below; default: digits")
    add("--epochs", type=positive, metavar="N", help="default: 40")
    add("--batch-size", type=positive, metavar="N", help="of the digits; default: 32")
    add("--seed", type=seed, metavar="N", help="for the model and the data order; default: 0")
    add(
        "--optimizer",
        nargs="+",
        metavar=("NAME", "key=value"),
        help="an optax optimizer; default: that of the task, or adam",
    )
    add(
        "--schedule",
        nargs="+",
        metavar=("NAME", "key=value"),
        help="a name with arguments, or a text; see `jaxsched list`; "
        "default: three warmup_cosine_restarts, each twice as long as the previous one",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--plateau",
        nargs="*",
        metavar="key=value",
        help="arguments of reduce_on_plateau, with one observation per epoch; "
        "default, unless the schedule is a text: factor=0.5 patience=4 rtol=0.01 min_scale=0.01",
    )
    either.add_argument(
        "--no-plateau", dest="plateau", action="store_false", help="no plateau rule"
    )
    parser.set_defaults(plateau=None)
    add(
        "--with",
        nargs="+",
        metavar="TEXT",
        help="wrappers of the optimizer, innermost first: skip_spikes(...), keep_best(...), "
        "average(...), layerwise(...), snapshot(keep=N)",
    )
    add("--stop-after", type=positive, metavar="N", help="stop after N epochs, to be resumed later")
    add("--checkpoint-every", type=positive, default=5, metavar="N", help="epochs; default: 5")
    add("--config", type=Path, metavar="FILE", help="a TOML file with options; see below")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", action="store_true", help="continue the run in DIR with its settings"
    )
    either.add_argument("--force", action="store_true", help="replace the run in DIR")
