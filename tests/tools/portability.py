"""Schedules of other libraries as jaxsched expressions, and the page that shows them.

    python tests/tools/portability.py

writes `docs/portability.md`. `vectors/*.json` was made by running the libraries, see `peers.py`;
`test_portability.py` holds every text here to those numbers. The peers that have a twin in
`jaxsched.compat` are in `test_compat.py`.
"""

import collections
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import peers
from scripts import ROOT

import jaxsched as js

PAGE = ROOT / "docs" / "portability.md"

PEERS = {
    "big_vision": (
        "The schedules are in `big_vision.utils`. One function multiplies a warmup, a decay and a "
        "cooldown."
    ),
    "composer": (
        "The schedules are in `composer.optim`. A length is a text with a unit; `ba` means batches."
    ),
    "fairseq": "The schedules are in `fairseq.optim.lr_scheduler`.",
    "fastai": (
        "The schedules are in `fastai.callback.schedule`. They are functions of the fraction of "
        "training that is done, which is t / 20 at step t."
    ),
    "levanter": "The schedules are in `levanter.optim`.",
    "mmengine": (
        "The schedules are in `mmengine.optim.scheduler`. Each scheduler acts from step `begin` to "
        "step `end - 1`, and does nothing after that."
    ),
    "praxis": "The schedules are in `praxis.schedules`.",
    "pytorch_warmup": (
        "The schedules are in `pytorch_warmup`. Each warmup is a factor that multiplies a "
        "schedule, here a constant one."
    ),
    "scenic": (
        "The schedules are in `scenic.train_lib.lr_schedules`. A schedule is a product of named "
        "factors."
    ),
    "t5x": (
        "The schedules are in `t5x.utils`. A schedule is a product of named factors, and is never "
        "below 1e-08."
    ),
    "thinc": "The schedules are in `thinc.schedules`.",
    "torchtitan": (
        "The schedules are in `torchtitan.components.lr_scheduler`. torchtitan counts steps from "
        "1, so every expression ends with `.shift(-1)`."
    ),
}

# What a step is, for lengths that are said in epochs or in parts of the run.
UNITS = {
    "big_vision": js.Units(batch_size=64, dataset_size=256, total_steps=20),
    "composer": js.Units(batch_size=1, dataset_size=5, total_steps=20),
    "fairseq": js.Units(total_steps=20),
    "fastai": js.Units(total_steps=20),
    "levanter": js.Units(total_steps=20),
}

HERE = {
    # big_vision
    "big_vision/create_learning_rate_schedule/0": "linear(0.0, 0.1, 4) >> cosine(0.1, 0.0, 16)",
    "big_vision/create_learning_rate_schedule/1": "linear(0.0, 0.1, 4) >> linear(0.1, 0.01, 16)",
    "big_vision/create_learning_rate_schedule/2": (
        "warmup_polynomial(0.1, warmup_steps=20%, power=2.0, end_value=0.01, init_value=0.0)"
    ),
    "big_vision/create_learning_rate_schedule/3": (
        "(linear(0.0, 0.1, 4) >> inverse_sqrt(0.1, timescale=10)) * linear(1.0, 0.0, 5).shift(15)"
    ),
    "big_vision/create_learning_rate_schedule/4": (
        "linear(0.0, 0.1 * (1 + 4 / 10) ** -0.5, 4) >> inverse_sqrt(0.1, timescale=10).shift(-4)"
    ),
    "big_vision/create_learning_rate_schedule/5": (
        "piecewise_constant([0.1, 0.01, 0.001], [5, 12])"
    ),
    "big_vision/create_learning_rate_schedule/6": (
        "warmup_cosine(0.1 * 64 / 256, warmup_steps=1ep, init_value=0.0)"
    ),
    # composer
    "composer/StepScheduler/0": "step_decay(0.1, factor=0.5, every=1ep)",
    "composer/StepScheduler/1": "step_decay(0.1, factor=0.5, every=3)",
    "composer/MultiStepScheduler/0": "piecewise_constant([0.1, 0.01, 0.001], [2ep, 15])",
    "composer/MultiStepScheduler/1": "piecewise_constant([0.1, 0.01, 0.001], [50%, 75%])",
    "composer/ConstantScheduler/0": "constant(0.05, 50%) >> constant(0.1)",
    "composer/LinearScheduler/0": "linear(0.1, 0.0, 100%)",
    "composer/LinearScheduler/1": "linear(0.01, 0.1, 2ep)",
    "composer/ExponentialScheduler/0": "exponential_decay(0.1, decay_rate=0.9, decay_steps=1ep)",
    "composer/ExponentialScheduler/1": "exponential_decay(0.1, decay_rate=0.9, decay_steps=2)",
    "composer/CosineAnnealingScheduler/0": "cosine(0.1, 0.01, 100%)",
    "composer/CosineAnnealingScheduler/1": "cosine(0.1, 0.01, 10).stretch(20)",
    "composer/CosineAnnealingWarmRestartsScheduler/0": "cosine(0.1, 0.0, 4).cycle(mult=2)",
    "composer/CosineAnnealingWarmRestartsScheduler/1": (
        "cosine(0.1, 0.0, 5) >> cosine(0.1, 0.0, 7) >> cosine(0.1, 0.0, 10) >> cosine(0.1, 0.0, 15)"
    ),
    "composer/PolynomialScheduler/0": "polynomial(0.1, 0.01, 100%, power=2.0)",
    "composer/MultiStepWithWarmupScheduler/0": (
        "linear(0.0, 1.0, 4) * piecewise_constant([0.1, 0.01, 0.001], [10, 15])"
    ),
    "composer/ConstantWithWarmupScheduler/0": "linear(0.0, 0.1, 4) >> constant(0.1)",
    "composer/LinearWithWarmupScheduler/0": "linear(0.0, 0.1, 4) >> linear(0.1, 0.01, 16)",
    "composer/LinearWithWarmupScheduler/1": "warmup_linear(0.1, warmup_steps=20%, init_value=0.0)",
    "composer/CosineAnnealingWithWarmupScheduler/0": (
        "linear(0.0, 0.1, 4) >> cosine(0.1, 0.01, 16)"
    ),
    "composer/CosineAnnealingWithWarmupScheduler/1": (
        "(linear(0.0, 0.1, 4) >> cosine(0.1, 0.01, 36)).stretch(20)"
    ),
    "composer/CosineAnnealingWithWarmupScheduler/2": "linear(0.0, 0.1, 4) >> cosine(0.1, 0.0, 6)",
    "composer/PolynomialWithWarmupScheduler/0": (
        "linear(0.0, 0.1, 4) >> polynomial(0.1, 0.01, 16, power=2.0)"
    ),
    # fairseq
    "fairseq/cosine/0": "linear(0.001, 0.1, 4) >> cosine(0.1, 0.001, 16).cycle(decay=0.1)",
    "fairseq/cosine/1": "cosine(0.1, 0.001, 6).cycle(decay=0.5)",
    "fairseq/cosine/2": "cosine(0.1, 0.0, 4).cycle(mult=2)",
    "fairseq/inverse_sqrt/0": "warmup_inverse_sqrt(0.1, warmup_steps=4, init_value=0.0)",
    "fairseq/inverse_sqrt/1": "warmup_inverse_sqrt(0.1, warmup_steps=4, init_value=0.01)",
    "fairseq/inverse_sqrt/2": "inverse_sqrt(0.1, timescale=1)",
    "fairseq/polynomial_decay/0": "linear(0.0, 0.1, 4) >> linear(0.1, 0.0, 16)",
    "fairseq/polynomial_decay/1": "linear(0.0, 0.1, 4) >> polynomial(0.1, 0.001, 12, power=2.0)",
    "fairseq/step/0": (
        "linear(0.01, 0.1, 3) >> step_decay(0.1, factor=0.5, every=5).clip(low=0.01)"
    ),
    "fairseq/tri_stage/0": (
        "linear(0.001, 0.1, 4) >> constant(0.1, 6) >> geometric(0.1, 0.001, 8)"
    ),
    "fairseq/tri_stage/1": (
        "warmup_stable_decay(0.1, warmup_steps=10%, decay_steps=50%, "
        "end_value=0.005, init_value=0.005, decay=geometric)"
    ),
    "fairseq/tri_stage/2": (
        "linear(0.001, 0.1, 4) >> constant(0.1, 6) >> geometric(0.1, 0.001, 0)"
    ),
    "fairseq/triangular/0": (
        "cyclic(0.1, 0.0, up_steps=4) + cyclic(0.0, 1.0, up_steps=4, decay=0.5)"
    ),
    "fairseq/triangular/1": "(linear(0.1, 1.0, 4) >> linear(1.0, 0.1, 4)).cycle(decay=0.5)",
    "fairseq/fixed/0": "linear(0.0, 0.1, 4).shift(-1)",
    # fastai
    "fastai/SchedLin/0": "linear(0.1, 0.01, 100%)",
    "fastai/SchedCos/0": "cosine(0.1, 0.01, 100%)",
    "fastai/SchedNo/0": "constant(0.1)",
    "fastai/SchedExp/0": "geometric(0.1, 0.001, 100%)",
    "fastai/SchedPoly/0": "polynomial(0.1, 0.001, 100%, power=1.0, k=2.0)",
    "fastai/combined_cos/0": "one_cycle(0.1, warmup_steps=25%, init_value=0.004, end_value=1e-06)",
    "fastai/combined_cos/1": "one_cycle_momentum(0.95, 0.85, warmup_steps=25%)",
    "fastai/combined_cos/2": "constant(0.1, 75%) >> cosine(0.1, 1e-06, 25%)",
    "fastai/combine_scheds/0": "cosine(0.1, 0.0, 20).cycle(mult=2, cycles=3).faster(7)",
    # levanter
    "levanter/OptimizerConfig.lr_scheduler/0": "linear(0.0, 0.1, 4) >> cosine(0.1, 0.01, 16)",
    "levanter/OptimizerConfig.lr_scheduler/1": (
        "warmup_stable_decay(0.1, warmup_steps=4, decay_steps=25%, "
        "end_value=0.01, init_value=0.0, decay=linear)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/2": (
        "linear(0.0, 0.1, 4) >> cosine(0.1, 0.01, 6) "
        ">> (linear(0.01, 0.1, 2) >> cosine(0.1, 0.01, 8)).cycle(cycles=1)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/3": (
        "linear(0.0, 0.1, 4) >> linear(0.1, 0.01, 4) "
        ">> linear(0.01, 0.1, 2) >> linear(0.1, 0.01, 10)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/4": (
        "linear(0.0, 0.1, 4) "
        ">> power_law(0.1, exponent=-0.5, timescale=10_000).shift(-4).clip(low=0.01)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/5": (
        "linear(0.0, 0.1, 4) "
        ">> inverse_time_decay(0.1, decay_rate=9.0, decay_steps=16).clip(0.01, 0.1 / (1 + 9 / 16))"
    ),
    "levanter/OptimizerConfig.lr_scheduler/6": (
        "warmup_stable_decay(0.1, warmup_steps=4, decay_steps=20%, "
        "end_value=0.01, init_value=0.0, decay=linear)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/7": (
        "linear(0.0, 0.1, 4) >> inverse_sqrt(0.1, timescale=16 / 28.6)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/8": (
        "linear(0.0, 0.1, 4) >> polynomial(0.1, 0.01, 16, power=2.0)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/9": (
        "linear(0.0, 0.1, 4) "
        ">> minimum(power_law(2 * 4.6, exponent=-0.51, timescale=1 / (2 * 8)), 0.1)"
    ),
    "levanter/OptimizerConfig.lr_scheduler/10": (
        "linear(0.0, 0.1, 2) >> cosine(0.1, 0.01, 6) >> cosine(0.1, 0.01, 12)"
    ),
    # mmengine
    "mmengine/StepLR/0": "step_decay(0.1, factor=0.1, every=4)",
    "mmengine/StepLR/1": "step_decay(0.1, factor=0.5, every=4).take(8).shift(3)",
    "mmengine/MultiStepLR/0": "piecewise_constant([0.1, 0.01, 0.001], [4, 9]).shift(2)",
    "mmengine/ConstantLR/0": "constant(0.05, 4) >> constant(0.1)",
    "mmengine/ExponentialLR/0": (
        "exponential_decay(0.1, decay_rate=0.9, decay_steps=1).take(7).shift(2)"
    ),
    "mmengine/CosineAnnealingLR/0": "(cosine(0.1, 0.0, 10) >> cosine(0.0, 0.1, 10)).cycle()",
    "mmengine/CosineAnnealingLR/1": "cosine(0.1, 0.01, 10).take(9).shift(4)",
    "mmengine/LinearLR/0": "linear(0.01, 0.1, 4)",
    "mmengine/PolyLR/0": "polynomial(0.1, 0.001, 10, power=2.0)",
    "mmengine/OneCycleLR/0": "one_cycle(1.0, total_steps=19, warmup_steps=5)",
    "mmengine/OneCycleLR/1": (
        "one_cycle(1.0, total_steps=19, warmup_steps=5, phases=3, curve=linear)"
    ),
    "mmengine/CosineRestartLR/0": (
        "cosine(0.1, 0.001, 4) >> cosine(0.05, 0.001, 8) >> cosine(0.025, 0.001, 4).take(3)"
    ),
    "mmengine/CosineRestartLR/1": "cosine(0.1, 0.01, 4) >> cosine(0.1, 0.01, 8).take(7)",
    "mmengine/LinearMomentum/0": "constant(0.1)",
    "mmengine/sequence/0": "linear(0.01, 0.1, 3).take(4) >> cosine(0.1, 0.0, 12).take(11)",
    "mmengine/ReduceOnPlateauLR/0": (
        "constant(0.1) * reduce_on_plateau(patience=2, factor=0.5, cooldown=1)"
    ),
    # praxis
    "praxis/Constant/0": "constant(0.1)",
    "praxis/Polynomial/0": "polynomial(0.1, 0.01, 8, power=1.0, k=2.0).shift(2)",
    "praxis/Polynomial/1": "polynomial(0.1, 0.01, 8, power=2.0).shift(2)",
    "praxis/Linear/0": "linear(0.0, 0.1, 10)",
    "praxis/Exponential/0": "geometric(0.1, 0.001, 8).shift(2)",
    "praxis/Cosine/0": "cosine(0.1, 0.01, 10)",
    "praxis/DelayedCosine/0": "cosine(0.1, 0.01, 12).shift(4)",
    "praxis/LinearRampupCosineDecay/0": (
        "linear(0.0, 0.1, 4) >> constant(0.1, 4) >> cosine(0.1, 0.01, 12)"
    ),
    "praxis/LinearRampupPolynomialDecay/0": (
        "linear(0.0, 0.1, 4) >> constant(0.1, 4) >> polynomial(0.1, 0.01, 12, power=1.0, k=1.0)"
    ),
    "praxis/LinearRampupExponentialDecay/0": (
        "linear(0.0, 0.1, 4) >> constant(0.1, 4) >> geometric(0.1, 0.01, 12)"
    ),
    "praxis/PiecewiseConstant/0": "piecewise_constant([0.1, 0.01, 0.001], [5, 12])",
    "praxis/LinearRampupPiecewiseConstant/0": (
        "linear(0.0, 1.0, 4) * piecewise_constant([0.1, 0.01, 0.001], [10, 16])"
    ),
    "praxis/Transformer/0": "noam(model_size=16, warmup_steps=4)",
    "praxis/SqrtDecay/0": "power_law(4**-0.5, exponent=-0.5, timescale=4)",
    "praxis/LinearRampupSqrtDecay/0": (
        "linear(0.0, 0.1, 4).clip(low=0.025) >> inverse_sqrt(0.1, timescale=4)"
    ),
    "praxis/ContinuousSchedule/0": (
        "exponential_decay(0.1, decay_rate=0.5, decay_steps=4, end_value=0.01).shift(4)"
    ),
    "praxis/CycleSchedule/0": (
        "(constant(0.1, 3) >> constant(0.0, 2)).cycle() "
        "+ (constant(0.0, 3) >> constant(1.0, 2)).cycle() * linear(0.1, 0.0, 20)"
    ),
    # pytorch_warmup
    "pytorch_warmup/LinearWarmup/0": "constant(0.1) * linear(0.0, 1.0, 5).shift(-1)",
    "pytorch_warmup/ExponentialWarmup/0": "constant(0.1) * exponential_warmup(timescale=5)",
    "pytorch_warmup/UntunedLinearWarmup/0": "constant(0.1) * untuned_linear_warmup(b2=0.9)",
    "pytorch_warmup/UntunedExponentialWarmup/0": (
        "constant(0.1) * exponential_warmup(timescale=10.0)"
    ),
    "pytorch_warmup/RAdamWarmup/0": "constant(0.1) * radam_warmup(b2=0.9)",
    # scenic
    "scenic/compound_lr_scheduler/0": (
        "polynomial(0.1, 0.01, 16, power=2.0) * linear(0.0, 1.0, 4)"
    ),
    "scenic/compound_lr_scheduler/1": "piecewise_constant([0.1, 0.05, 0.01], [5, 12]).shift(1)",
    "scenic/compound_lr_scheduler/2": "piecewise_linear([0.1, 0.05, 0.01], [0, 5, 12])",
    "scenic/compound_lr_scheduler/3": "linear(0.0, 0.1, 4) >> inverse_sqrt(0.1, timescale=10)",
    "scenic/compound_lr_scheduler/4": "step_decay(0.1, factor=0.5, every=5)",
    "scenic/compound_lr_scheduler/5": "exponential_decay(0.1, decay_rate=0.5, decay_steps=5)",
    "scenic/compound_lr_scheduler/6": "linear(0.0, 0.1, 4) >> cosine(0.1, 0.01, 16).cycle()",
    "scenic/compound_lr_scheduler/7": "cosine(0.1, 0.0, 4).cycle(mult=2, decay=0.5)",
    "scenic/compound_lr_scheduler/8": "linear(0.0, 0.1, 4) >> linear(0.1, 0.01, 16)",
    "scenic/compound_lr_scheduler/9": (
        "constant(0.1) * linear(0.0, 1.0, 4) * linear(1.0, 0.0, 5).shift(15)"
    ),
    # t5x
    "t5x/create_learning_rate_scheduler/0": (
        "warmup_inverse_sqrt(0.5 * 1000**-0.5, warmup_steps=1000, init_value=0.0).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/1": (
        "warmup_inverse_sqrt(4**-0.5, warmup_steps=4, init_value=0.0).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/2": (
        "warmup_inverse_sqrt(0.1, warmup_steps=4, init_value=0.0).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/3": (
        "power_law(4**-0.5, exponent=-0.5, timescale=4).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/4": (
        "piecewise_linear([0.0, 0.1, 0.0], [0, 4, 4 + 1 / 0.06]).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/5": (
        "step_decay(0.1, factor=0.5, every=5).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/6": (
        "(linear(0.0, 0.1, 4) >> cosine(0.1, 0.0, 8).cycle()).clip(low=1e-08)"
    ),
    "t5x/create_learning_rate_scheduler/7": "linear(0.0, 0.1, 4).shift(3).clip(low=1e-08)",
    "t5x/create_learning_rate_scheduler/8": "linear(0.0, 0.1, 0).clip(low=1e-08)",
    # thinc
    "thinc/constant/0": "constant(0.1)",
    "thinc/decaying/0": "inverse_time_decay(0.1, decay_rate=0.1, decay_steps=1)",
    "thinc/compounding/0": (
        "exponential_decay(0.1, decay_rate=0.9, decay_steps=1, end_value=0.01)"
    ),
    "thinc/slanted_triangular/0": (
        "warmup_linear(0.1, total_steps=20, warmup_steps=25%, "
        "init_value=0.003125, end_value=0.003125).shift(-1)"
    ),
    "thinc/warmup_linear/0": "linear(0.0, 0.1, 4) >> linear(0.1, 0.0, 16)",
    "thinc/cyclic_triangular/0": "cyclic(0.01, 0.1, up_steps=4).shift(-1)",
    "thinc/plateau/0": (
        "constant(0.1) * reduce_on_plateau(mode='max', patience=2, factor=0.5, rtol=0.0)"
    ),
    # torchtitan
    "torchtitan/LRSchedulersContainer/0": (
        "(linear(0.0, 0.1, 4) >> constant(0.1, 1) >> linear(0.1, 0.0, 16)).shift(-1)"
    ),
    "torchtitan/LRSchedulersContainer/1": (
        "(linear(0.0, 0.1, 4) >> constant(0.1, 11) >> linear(0.1, 0.0, 6)).shift(-1)"
    ),
    "torchtitan/LRSchedulersContainer/2": (
        "(linear(0.0, 0.1, 4) >> constant(0.1, 11) >> one_minus_sqrt(0.1, 0.01, 6)).shift(-1)"
    ),
    "torchtitan/LRSchedulersContainer/3": ("(constant(0.1, 1) >> cosine(0.1, 0.01, 20)).shift(-1)"),
}

MOMENTUM = {"mmengine/LinearMomentum/0": "linear(0.45, 0.9, 5)"}


class Defect(NamedTuple):
    """Where a peer is wrong, and what is right."""

    steps: range  # those that are not listed agree; empty if the peer raises: it has no values
    because: str
    right: Callable[[np.ndarray], np.ndarray]


DEFECTS = {
    "big_vision/create_learning_rate_schedule/3": Defect(
        range(21, 24), "after its end the library is negative; jaxsched stays at 0", np.zeros_like
    ),
    "composer/CosineAnnealingWithWarmupScheduler/2": Defect(
        range(0),
        "it does not allow a decay that ends before the run; jaxsched holds the end value",
        lambda t: np.where(t < 4, t / 40, 0.05 * (1 + np.cos(np.pi * np.minimum(t - 4, 6) / 6))),
    ),
    "fairseq/inverse_sqrt/2": Defect(
        range(0),
        "the warmup is also the timescale, and it is 0; jaxsched uses a timescale of 1",
        lambda t: 0.1 / np.sqrt(1 + t),
    ),
    "fairseq/tri_stage/2": Defect(
        range(0),
        "it needs a decay rate; in jaxsched a decay of 0 steps jumps to its end value",
        lambda t: np.where(t < 10, np.minimum(0.001 + 0.099 * t / 4, 0.1), 0.001),
    ),
    "fastai/combine_scheds/0": Defect(
        range(8, 9),
        "the boundaries are rounded to float32, an error of 4e-6 of this value",
        lambda t: 0.1 * np.sin(np.pi / 2 * 0.1) ** 2 * np.ones_like(t),
    ),
    "scenic/compound_lr_scheduler/9": Defect(
        range(21, 24), "after its end the library is negative; jaxsched stays at 0", np.zeros_like
    ),
    "t5x/create_learning_rate_scheduler/8": Defect(
        range(1), "0 / 0 is NaN in T5X; jaxsched starts at the peak", lambda t: np.full_like(t, 0.1)
    ),
    "thinc/slanted_triangular/0": Defect(
        range(20, 24),
        "the library keeps falling below 0; jaxsched holds the end value",
        lambda t: np.full_like(t, 0.1 / 32),
    ),
}

# What else there is to know of a case.
REMARKS = {
    "big_vision/create_learning_rate_schedule/3": (
        "The cooldown is a factor that is 1 up to step 15."
    ),
    "big_vision/create_learning_rate_schedule/4": (
        "`shift` lowers the peak too: it is 0.1 / sqrt(1 + 4 / 10)."
    ),
    "big_vision/create_learning_rate_schedule/5": (
        "`mults` are relative to the base, not cumulative."
    ),
    "big_vision/create_learning_rate_schedule/6": "The base rate is for a batch of 256.",
    "composer/StepScheduler/1": "7 batches times `ssr`, rounded down.",
    "composer/CosineAnnealingScheduler/1": "`ssr` turns 10 batches into 20.",
    "composer/CosineAnnealingWarmRestartsScheduler/1": (
        "Each cycle is 1.5 times as long as the one before, rounded down. The text has the "
        "first four; `.cycle(mult=1.5)` starts cycles at 5, 12.5 and 23.75."
    ),
    "composer/MultiStepWithWarmupScheduler/0": (
        "A product, because the milestones and the warmup both count from step 0."
    ),
    "composer/CosineAnnealingWithWarmupScheduler/1": (
        "`ssr` turns 40 batches into 20 and keeps the warmup's length. `.stretch` does the same."
    ),
    "fairseq/cosine/0": "After its end it restarts at a tenth, the default `lr_shrink`.",
    "fairseq/cosine/1": "The end value shrinks too, in both libraries.",
    "fairseq/triangular/0": (
        "The maximum shrinks and the minimum stays. For a triangle x, cycle i is 0.1 * (1 - x) + "
        "0.5**i * x. `cyclic(0.1, 1.0, ..., decay=0.5)` shrinks the height above the minimum."
    ),
    "fairseq/triangular/1": "In this case the minimum shrinks too.",
    "fairseq/fixed/0": "The warmup is (t + 1) / 4; all other fairseq warmups are t / 4.",
    "fastai/SchedPoly/0": "It falls slowly at first: 1 - x**2, not (1 - x)**2.",
    "fastai/combined_cos/0": "`fit_one_cycle`.",
    "fastai/combined_cos/1": "The momentum of `fit_one_cycle`.",
    "fastai/combined_cos/2": "`fit_flat_cos`.",
    "fastai/combine_scheds/0": (
        "`fit_sgdr` with cycles of 1, 2 and 4 epochs, 20/7 steps each. The text has cycles of "
        "20, 40 and 80 steps, 7 times as fast."
    ),
    "levanter/OptimizerConfig.lr_scheduler/2": (
        "Every cycle after the first warms up from the previous end. Here there is one."
    ),
    "levanter/OptimizerConfig.lr_scheduler/3": "The last cycle takes all remaining steps.",
    "levanter/OptimizerConfig.lr_scheduler/4": (
        "The timescale counts from step 0, so the decay starts after 10_000. `min_lr` is the floor."
    ),
    "levanter/OptimizerConfig.lr_scheduler/5": (
        "Levanter uses the value of step 1 at step 0 too, so the rate jumps from the peak."
    ),
    "levanter/OptimizerConfig.lr_scheduler/6": "Levanter has deprecated `cooldown`.",
    "levanter/OptimizerConfig.lr_scheduler/7": "The decay is 0.1 / sqrt(1 + 28.6 * t / 16).",
    "levanter/OptimizerConfig.lr_scheduler/9": (
        "It counts 2 * 8 tokens per step, starting after the warmup."
    ),
    "mmengine/MultiStepLR/0": "The milestones count from `begin`.",
    "mmengine/CosineAnnealingLR/0": "After its end it rises again.",
    "mmengine/CosineAnnealingLR/1": "It stays at the value one step before its end.",
    "mmengine/OneCycleLR/0": "The peak is one step before 30 %, the end one before `total_steps`.",
    "mmengine/CosineRestartLR/0": "It stays at the value one step before its end.",
    "mmengine/CosineRestartLR/1": "It stays at the value one step before its end.",
    "mmengine/sequence/0": "At step 4 the warmup is over and the decay has not started.",
    "mmengine/ReduceOnPlateauLR/0": "`patience=1` waits for the second bad observation.",
    "praxis/Polynomial/0": "It falls slowly at first: 1 - x**2, not (1 - x)**2.",
    "praxis/Polynomial/1": "It is (1 - x)**2.",
    "praxis/LinearRampupPolynomialDecay/0": "It is 1 - x**k, as in `Polynomial/0`.",
    "praxis/SqrtDecay/0": "The rate at step 0 is 1 / sqrt(4).",
    "praxis/LinearRampupSqrtDecay/0": "The warmup is max(t, 1) / 4: the first two steps are equal.",
    "praxis/CycleSchedule/0": (
        "Each part counts from the start of the run, so the text needs two masks."
    ),
    "pytorch_warmup/LinearWarmup/0": "The warmup is (t + 1) / 5.",
    "scenic/compound_lr_scheduler/0": (
        "The decay and the warmup both start at step 0, so the rate never reaches 0.1."
    ),
    "scenic/compound_lr_scheduler/1": (
        "The factors are absolute. Each applies from the step after its event."
    ),
    "scenic/compound_lr_scheduler/6": "After its end it restarts at the peak.",
    "t5x/create_learning_rate_scheduler/0": (
        "T5X's defaults. The peak is not the base but base / sqrt(warmup): 0.5 / sqrt(1000)."
    ),
    "t5x/create_learning_rate_scheduler/1": "The peak is 1 / sqrt(4).",
    "t5x/create_learning_rate_scheduler/3": "The peak is 1 / sqrt(4).",
    "t5x/create_learning_rate_scheduler/4": (
        "It loses 0.06 of the base per step, so it reaches zero between two steps."
    ),
    "thinc/slanted_triangular/0": "thinc counts steps from 1.",
    "thinc/cyclic_triangular/0": "thinc counts steps from 1. A period is half a triangle.",
    "thinc/plateau/0": "It scales another schedule. A higher metric is better.",
    "torchtitan/LRSchedulersContainer/0": "The peak lasts two steps.",
}

# The text has the numbers of the case, and not the rule that they come from.
BY_NUMBERS = {
    "composer/CosineAnnealingWarmRestartsScheduler/1": (
        "a cycle length that is rounded down before the next one is computed"
    ),
}

CASES = [case for peer in PEERS for case in peers.cases(peer)]


def said(case: dict[str, Any]) -> Any:
    """The schedule of a case."""
    return js.parse(HERE[case["id"]], units=UNITS.get(case["peer"]))


def page() -> str:
    """The page, from the cases and what is said of them."""
    return "\n".join([*_top(), *(line for peer in PEERS for line in _section(peer)), *_end()])


def _top() -> Iterator[str]:
    yield "# Schedules of other libraries as expressions"
    yield ""
    yield (
        "This page shows how to write the schedules of twelve other libraries as jaxsched "
        "expressions. `tests/compat/test_portability.py` compares every expression, within 2e-6, "
        "with values that were computed with the library itself. At the steps where jaxsched "
        "differs on purpose, the test has its own expected values. "
        "`python tests/tools/portability.py` writes this page."
    )
    yield ""
    yield (
        'Read an expression with `jaxsched.parse("...")`, or use it as Python code. An expression '
        "does not run as Python code if it contains a length such as `1ep` or `25%`, or a recipe "
        "such as `warmup_cosine` without its `total_steps`. Read such an expression with `parse`, "
        "and pass the `units` given above its table. Steps count from 0, and a rate applies to the "
        "update at its step."
    )
    yield ""
    counts = collections.Counter(case["peer"] for case in CASES)
    others = collections.Counter(name.split("/")[0] for name in DEFECTS)
    yield from _table(
        ("library", "version", "cases", "cases that differ on purpose"),
        ((f"[{x}](#{x})", _version(x), counts[x], others[x] or "") for x in PEERS),
    )


def _section(peer: str) -> Iterator[str]:
    cases = peers.cases(peer)
    yield f"## {peer}"
    yield ""
    shared, units = _shared(cases), UNITS.get(peer)
    usual = f" Unless a case gives other values, the arguments are {_arguments(shared)}."
    yield (
        PEERS[peer]
        + (usual if shared else "")
        + (f" The units are `units={_units(units)}`." if units else "")
    )
    yield ""
    yield from _table(
        ("case", "library", "jaxsched", "remarks"),
        (
            (_short(case["id"]), f"`{_theirs(case, shared)}`", _here(case), _remarks(case))
            for case in cases
        ),
    )


def _end() -> Iterator[str]:
    yield "## Twins"
    yield ""
    yield (
        "Five more libraries have twins with the original names in `jaxsched.compat`. "
        "`tests/compat/test_compat.py` checks them against the numbers of the libraries. "
        "`tests/tools/peers.py` gives the reason for each difference."
    )
    yield ""
    counts = collections.Counter(case["peer"] for case in peers.CASES)
    yield from _table(
        ("library", "version", "cases", "cases that differ on purpose"),
        (
            (peer, _version(peer), counts[peer], "<br>".join(_twins_defects(peer)))
            for peer in peers.TWINS
        ),
    )
    yield "## Expressions with computed numbers"
    yield ""
    opaque = [case["id"] for case in peers.SIMPLE if "<" in repr(peers.twin(case))]
    yield (
        "Every case of the twelve libraries has an expression. This table lists the expressions "
        "that contain computed numbers instead of a formula:"
    )
    yield ""
    yield from _table(
        ("case", "what is missing"), ((f"{_linked(name)}", why) for name, why in BY_NUMBERS.items())
    )
    yield (
        "A schedule made from a Python function has no text that `parse` can read. "
        f"{', '.join(f'`{name}`' for name in opaque)} need one: use `from_function(...)` in "
        "Python, or `table([...])` with the values of the function in a text."
    )
    yield ""


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""


def _version(peer: str) -> str:
    (version,) = {case["peer_version"] for case in peers.cases(peer)}
    return version


def _short(name: str) -> str:
    """`StepLR/0` of `mmengine/StepLR/0`; of one function with many cases the number alone."""
    peer, schedule, number = name.split("/")
    alone = len({case["schedule"] for case in peers.cases(peer)}) == 1
    return number if alone else f"{schedule}/{number}"


def _linked(name: str) -> str:
    peer = name.split("/")[0]
    return f"[{peer}](#{peer}) {_short(name)}"


def _shared(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments that most cases of a peer have in common; a base rate is named once."""
    each = [{"base_lr": case["base_lr"], **case["kwargs"]} for case in cases]
    most = {k: v for k, v in each[0].items() if 2 * sum(x.get(k) == v for x in each) > len(each)}
    most = {k: v for k, v in most.items() if v is not None and all(k in x for x in each)}
    rate = most.pop("base_lr", None)
    return most if rate is None or rate in most.values() else {"base_lr": rate, **most}


def _theirs(case: dict[str, Any], shared: dict[str, Any]) -> str:
    kwargs = {k: v for k, v in case["kwargs"].items() if v not in (None, shared.get(k))}
    return _call(case["schedule"], kwargs)


def _call(name: str, kwargs: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{k}={_value(v)}' for k, v in kwargs.items())})"


def _value(x: Any) -> str:
    if isinstance(x, dict):
        own = {k: v for k, v in x.items() if k not in ("schedule", "type")}
        name = x.get("schedule") or x.get("type")
        return _call(name, x.get("kwargs", own))
    if isinstance(x, list):
        return f"[{', '.join(map(_value, x))}]"
    return f"{x:.4g}" if isinstance(x, float) and len(repr(x)) > 8 else repr(x)


def _arguments(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"`{k}={_value(v)}`" for k, v in kwargs.items())


def _units(units: js.Units) -> str:
    plain = {name: x.default for name, x in inspect.signature(js.Units).parameters.items()}
    return _call("Units", {k: v for k, v in vars(units).items() if v != plain[k]})


def _here(case: dict[str, Any]) -> str:
    momentum = MOMENTUM.get(case["id"])
    return f"`{HERE[case['id']]}`" + (f"<br>momentum `{momentum}`" if momentum else "")


def _remarks(case: dict[str, Any]) -> str:
    remark, defect = REMARKS.get(case["id"], ""), DEFECTS.get(case["id"])
    if defect is None:
        return remark
    place = (
        f"The library raises {case['raises']['type']}" if "raises" in case else _at(defect.steps)
    )
    return f"{remark} {place}: {defect.because}.".strip()


def _at(steps: Iterable[int]) -> str:
    first, *rest = steps
    return f"Differs at steps {first} to {rest[-1]}" if rest else f"Differs at step {first}"


def _twins_defects(peer: str) -> Iterator[str]:
    for case in peers.SIMPLE:
        if case["peer"] == peer and case["id"] in peers.DEFECTS:
            steps = np.asarray(case["steps"][: len(case["values"])], float)
            where = peers.DEFECTS[case["id"]](steps)[1]
            yield f"`{_short(case['id'])}`: {_at(where)[0].lower()}{_at(where)[1:]}"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
