"""The schedulers of DeepSpeed, whose default warmup is logarithmic, over their whole range."""

import math

import numpy as np
import pytest

import jaxsched as js

LOW, HIGH, WARMUP, TOTAL = 1e-5, 1e-3, 100, 1000
STEPS = np.arange(TOTAL + 50)


def log_gamma(step, warmup):
    """`WarmupLR._get_gamma` with `warmup_type="log"`."""
    if step < warmup:
        return math.log(step + 1) / math.log(max(2, warmup))
    return 1.0


def warmup_lr(step):
    return LOW + (HIGH - LOW) * log_gamma(step, WARMUP)


def warmup_decay_lr(step):
    """`WarmupDecayLR._get_gamma`."""
    if step < WARMUP:
        gamma = log_gamma(step, WARMUP)
    else:
        gamma = max(0.0, (TOTAL - step) / max(1.0, TOTAL - WARMUP))
    return LOW + (HIGH - LOW) * gamma


def warmup_cosine_lr(step, warmup_min=0.01, cos_min=0.001):
    """`WarmupCosineLR.get_lr_ratio` with `warmup_type="log"`."""
    if step < WARMUP:
        return HIGH * (warmup_min + (1 - warmup_min) * log_gamma(step, WARMUP))
    done = (step - WARMUP + 1) / (TOTAL - WARMUP)
    return HIGH * max(0.0, cos_min + (1 - cos_min) * (1 + math.cos(math.pi * done)) / 2)


WARM = js.logarithmic(LOW, HIGH, WARMUP - 1)
OURS = {
    "WarmupLR": (WARM, warmup_lr),
    "WarmupDecayLR": (
        WARM >> js.constant(HIGH, 1) >> js.linear(HIGH, LOW, TOTAL - WARMUP),
        warmup_decay_lr,
    ),
    "WarmupCosineLR": (
        HIGH
        * (
            js.logarithmic(0.01, 1.0, WARMUP - 1)
            >> js.constant(1.0, 1)
            >> js.cosine(1.0, 0.001, TOTAL - WARMUP).shift(-1)
        ),
        warmup_cosine_lr,
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_a_scheduler_of_deepspeed(name):
    ours, theirs = OURS[name]
    steps = STEPS[STEPS < TOTAL] if name == "WarmupCosineLR" else STEPS  # its cosine rises again
    np.testing.assert_allclose(ours(steps), [theirs(int(n)) for n in steps], rtol=1e-6)
