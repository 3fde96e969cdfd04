"""`jaxsched train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsched._commands._options import added, positive, seed
from jaxsched._commands._training._refused import RefusedError, refusing

WHAT = """\
Train a small network on scikit-learn's handwritten digits, its learning rate a schedule times a
plateau on the validation loss, every epoch one compiled program."""


MORE = """\
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


def run(options: argparse.Namespace) -> None:
    """Train, or go on with it."""
    from jaxsched._commands._training import _run, _spoken
    from jaxsched._commands._training._folder import Folder

    _run.require_extras()
    folder = Folder(options.out)
    if options.resume:
        saved = folder.read_settings()
        with refusing(str(folder.settings), RefusedError):  # anybody may have edited it
            _spoken.require_possible(saved, _spoken.learning_rate(saved))
        settings = _spoken.resumed(saved, vars(options))
        folder.write_settings(settings)  # killed again, it is resumed to the same end
        learning_rate = _spoken.learning_rate(settings)
    else:
        settings = _spoken.spoken(vars(options))
        learning_rate = _spoken.learning_rate(settings)
        folder.begin(settings, force=options.force)
    _run.run(
        settings,
        learning_rate,
        folder,
        resume=options.resume,
        until=options.stop_after,
        checkpoint_every=options.checkpoint_every,
    )


def add(commands: Any) -> None:
    """The options."""
    brief = "train on real data, and see the rate that was really used"
    parser = added(commands, "train", run, brief, description=WHAT, epilog=MORE)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/digits"), metavar="DIR", help="default: runs/digits")
    add("--epochs", type=positive, metavar="N", help="default: 40")
    add("--batch-size", type=positive, metavar="N", help="default: 32")
    add("--seed", type=seed, metavar="N", help="of the model and the order of images; default: 0")
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
    add("--stop-after", type=positive, metavar="N", help="stop early, to be resumed")
    add("--checkpoint-every", type=positive, default=5, metavar="N", help="epochs; default: 5")
    add("--config", type=Path, metavar="FILE", help="options in TOML; see below")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", action="store_true", help="continue the run in DIR, as it was started"
    )
    either.add_argument("--force", action="store_true", help="replace the run in DIR")
