"""A schedule for each kind of training."""

import re

import numpy as np
import pytest
from scripts import ROOT

import jaxsched as js
from jaxsched._commands._training import _optimizer
from jaxsched._rules._still import still
from jaxsched._text._presets import PRESETS, presets
from jaxsched.cli import main

UNITS = js.Units(total_steps=100_000)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda x: x.task)
def test_a_preset_is_a_schedule_of_the_whole_run_and_an_optimizer(preset):
    quiet = still(js.parse(preset.text, units=UNITS))
    assert quiet.steps in (None, 100_000)
    values = np.asarray(quiet(np.linspace(0, 99_999, 1_000).astype(int)))
    assert (values >= 0).all() and 0 < values.max() <= 0.1
    _optimizer.spoken(preset.optimizer)


@pytest.mark.parametrize(
    ("word", "count"),
    [("", len(PRESETS)), ("LLM", 4), ("finetuning", 2), ("GAN", 1), ("ppo", 2), ("fine-tuning", 2),
     ("language model", 3), ("image ViT", 1), ("nothing", 0)],
)  # fmt: skip
def test_presets_are_found_by_the_words_of_the_field(word, count):
    assert len(presets(word)) == count


def test_the_command_prints_a_preset_that_can_be_used(capsys):
    assert main(["list", "--for", "GAN", "--text"]) == 0
    text = capsys.readouterr().out.strip()
    assert text == "constant(2e-4, 50%) >> linear(2e-4, 0.0, 50%)"
    assert main(["describe", text, "--total-steps", "1000"]) == 0
    assert main(["list", "--for"]) == 0
    shown = capsys.readouterr().out
    assert all(x.task in shown and x.source in shown for x in PRESETS)
    assert main(["list", "--for", "cooking"]) == 2
    assert "no kind of training is called 'cooking'. All of them: pre" in capsys.readouterr().err
    assert main(["list", "--text"]) == 2
    assert "--text needs --for" in capsys.readouterr().err


def test_the_page_has_the_same_presets():
    page = (ROOT / "docs" / "which_schedule.md").read_text()
    rows = re.findall(r"^\| (.*?) \| `(.*?)` \| `(.*?)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(x.task, x.text, x.optimizer, x.source) for x in PRESETS]
