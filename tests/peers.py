"""The peers' cases, and the twins that stand for them.

`vectors/*.json` was made by running the peers: `values[i]` is the rate in effect for update
`steps[i]`; of a plateau, the rate right after `metrics[i]` was reported.
"""

import json
from pathlib import Path

import numpy as np

import jaxsched as js
from jaxsched.compat import keras, optax, timm, torch, transformers

VECTORS = Path(__file__).parent / "vectors"
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
