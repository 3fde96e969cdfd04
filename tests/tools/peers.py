"""The peers' cases, and the twins that stand for them.

`vectors/*.json` was made by running the peers: `values[i]` is the rate in effect for update
`steps[i]`; of a plateau, the rate right after `metrics[i]` was reported.
"""

import json

import numpy as np
from scripts import ROOT

import jaxsched as js
from jaxsched.compat import keras, optax, timm, torch, transformers

VECTORS = ROOT / "tests" / "vectors"
BEYOND = {"NaN": float("nan"), "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}


def cases(peer):
    return json.loads((VECTORS / f"{peer}.json").read_text())


def numbers(values):
    return [BEYOND.get(v, v) if isinstance(v, str) else v for v in values]


def expected(case):
    values = case.get("values_x64") or case["values"]
    return np.asarray(numbers(values), np.float64)


def function(value, *arguments):
    """A case's `{"expr": ...}` as a function; any other value as it is."""
    if isinstance(value, dict) and "expr" in value:
        return eval(f"lambda {', '.join(arguments)}: {value['expr']}")
    return value


def of_torch(name, base, kwargs):
    if name in ("SequentialLR", "ChainedScheduler"):
        parts = [of_torch(s["schedule"], base, s["kwargs"]) for s in kwargs["schedulers"]]
        if name == "SequentialLR":
            return torch.SequentialLR(parts, kwargs["milestones"])
        return torch.ChainedScheduler(base, parts)
    kwargs = {k: function(v, "t" if k == "lr_lambda" else "x") for k, v in kwargs.items()}
    own_rate = name in ("CyclicLR", "OneCycleLR")
    return getattr(torch, name)(*(() if own_rate else (base,)), **kwargs)


def of_transformers(name, base, kwargs):
    lengths = ("num_warmup_steps", "num_training_steps", "scheduler_specific_kwargs")
    if any(key in kwargs for key in lengths):
        return transformers.get_scheduler(name, base, **kwargs)
    return transformers.get_scheduler(name, base, scheduler_specific_kwargs=kwargs)


def of_timm(name, base, kwargs):
    kwargs = {k: v for k, v in kwargs.items() if k != "lr_scale"}
    made = getattr(timm, name)(base, **kwargs)
    return made[0] if isinstance(made, tuple) else made


def of_keras(name, base, kwargs):
    callback = name in ("ReduceLROnPlateau", "LearningRateScheduler")
    kwargs = {k: function(v, "e", "lr") for k, v in kwargs.items()}
    return getattr(keras, name)(*((base,) if callback else ()), **kwargs)


def of_optax(name, base, kwargs):
    if name == "join_schedules":
        parts = [of_optax(s["schedule"], base, s["kwargs"]) for s in kwargs["schedules"]]
        return optax.join_schedules(parts, kwargs["boundaries"])
    if name == "reduce_on_plateau":
        return js.constant(base) * js.reduce_on_plateau(**kwargs, nonfinite="bad")
    if "boundaries_and_scales" in kwargs:
        scales = {int(k): v for k, v in kwargs["boundaries_and_scales"].items()}
        kwargs = {**kwargs, "boundaries_and_scales": scales}
    return getattr(optax, name)(**kwargs)


TWINS = {
    "torch": of_torch,
    "transformers": of_transformers,
    "timm": of_timm,
    "keras": of_keras,
    "optax": of_optax,
}

# Where a peer is wrong, and what is right. The steps (or observations) that are not listed agree.
DEFECTS = {
    # After the trough the recursion forgets what the other schedulers did.
    "torch/ChainedScheduler/4": lambda t: (
        0.1 * 0.9**t * (1 + np.cos(np.pi * t / 6)) / 2,
        range(7, 16),
    ),
    # `step(epoch)` finds the cycle by a logarithm that is rounded down.
    "torch/CosineAnnealingWarmRestarts/6": lambda t: (np.full(t.shape, 0.1), [111]),
    # One step past its end it extrapolates: below zero, and up again. Then it raises.
    "torch/OneCycleLR/4": lambda t: (np.full(t.shape, 1 / 25 / 1e4), [10]),
    "torch/OneCycleLR/5": lambda t: (np.full(t.shape, 1 / 25 / 1e4), [10]),
    # Negative metrics that get worse count as better.
    "torch/ReduceLROnPlateau/11": lambda t: (
        0.1 * 0.5 ** np.asarray([0, 0, 1, 1, 2, 2, 3])[t.astype(int)],
        range(2, 7),
    ),
    "optax/reduce_on_plateau/10": lambda t: (0.1 * 0.5**t, range(1, 7)),
    # A line that ends at zero ends at -1e-8 of its start under `jit`: uphill.
    "optax/join_schedules/0": lambda t: (0 * t, range(18, 24)),
    "optax/linear_schedule/4": lambda t: (0 * t, range(10, 24)),
}
# What the state of optax's injector holds for bfloat16 parameters, see the test of it.
OTHERWISE = {"inject_hyperparams"}

CASES = [case for peer in TWINS for case in cases(peer)]
SIMPLE = [c for c in CASES if c["schedule"] not in OTHERWISE and not isinstance(c["base_lr"], list)]


def twin(case, base=None, **more):
    """The twin of a case, for one parameter group."""
    base = case["base_lr"] if base is None else base
    return TWINS[case["peer"]](case["schedule"], base, {**case["kwargs"], **more})


def reported(rate, metrics, first=0):
    """The rate right after each metric was reported; it is consumed by the update at its step."""
    state, out = rate.init(), []
    for step, metric in enumerate(metrics, start=first):
        state = rate.update(state, step=step, value=np.float32(metric))
        out.append(float(rate(state, step=step)))
    return np.asarray(out)
