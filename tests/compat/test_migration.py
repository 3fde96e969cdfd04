"""The tables of `docs/migration.md`: their line, as the twin has it, and ours, value for value."""

import re

import numpy as np
import pytest
from scripts import ROOT

import jaxsched as js
from jaxsched import compat

GUIDE = (ROOT / "docs" / "migration.md").read_text()
SECTIONS = {
    "torch.optim.lr_scheduler": compat.torch,
    "transformers": compat.transformers,
    "timm": compat.timm,
    "Keras": compat.keras,
    "optax": compat.optax,
}
N = 20
VALUES = {
    "p": 0.1,
    "opt": 0.1,
    "w": 4,
    "n": N,
    "m": 0.001,
    "a": 0.0001,
    "one": js.linear(0.01, 0.1, 4),
    "two": js.cosine(0.1, 0.0, 16),
    "f": lambda t: 1 / (1 + t),
    "np": np,
}
# The guide says where these differ, or they are no schedules.
DIFFER = {
    "OneCycleLR(opt, p, total_steps=n)",
    "ChainedScheduler([one, two])",
    "ReduceLROnPlateau(opt, patience=9)",
    "ReduceLROnPlateau(patience=10, min_delta=1e-4)",
    'PlateauLRScheduler(opt, patience_t=9, mode="max")',
    'get_scheduler("reduce_lr_on_plateau", opt)',
    'get_scheduler("greedy", opt)',
    "LearningRateScheduler(f)",
    "linear_onecycle_schedule(n, p)",
    "sgdr_schedule([...])",
    "inject_hyperparams(optax.adam)(learning_rate=s)",
    "contrib.reduce_on_plateau(patience=5)",
}


def rows():
    for title, module in SECTIONS.items():
        section = GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]
        for line in section.splitlines():
            if match := re.match(r"\| `([^`]+)`[^|]* \| (.+) \|$", line):
                theirs, ours = match.group(1), re.findall(r"`([^`]+)`", match.group(2))
                yield pytest.param(module, theirs, ours, id=f"{title}: {theirs}")


def test_every_row_is_read():
    lines = [line for line in GUIDE.splitlines() if line.startswith("| `")]
    assert len(list(rows())) == len(lines) > 50
    assert {row.values[1] for row in rows()} >= DIFFER


@pytest.mark.parametrize(("module", "theirs", "ours"), list(rows()))
def test_their_line_and_ours_are_the_same(module, theirs, ours):
    if theirs in DIFFER:
        pytest.skip("the guide says how they differ")
    theirs = theirs.replace("SequentialLR(opt, ", "SequentialLR(").replace("OneCycleLR(opt, ", "(")
    want = eval(theirs, {**vars(module), **VALUES})
    steps = np.arange(N)
    checked = 0
    for text in ours:
        try:
            got = eval(text, {**vars(js), **VALUES})
        except (NameError, SyntaxError):
            continue  # a word of the remark
        if isinstance(got, js.Schedule):
            checked += 1
            np.testing.assert_allclose(got(steps), want(steps), rtol=2e-6, atol=1e-9)
    assert checked > 0
