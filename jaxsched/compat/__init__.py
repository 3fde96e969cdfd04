"""Twins of other libraries' schedulers: their names, their arguments, their numbers.

A recipe moves here by its import, with the base rate in the place of the optimizer:

    torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)
    jaxsched.compat.torch.CosineAnnealingWarmRestarts(base_lr, T_0=10, T_mult=2)

What comes back is a schedule, or a stateful schedule for what listens to a metric: data, printed as
the expression of this library that it is. Lengths count what `step()` of the peer counted, and here
that is optimizer steps: a recipe in epochs has its lengths multiplied, which `Units` does.

Conventions of a peer that surprise (a boundary, a rise past the end) are kept, and named in the
twin's docstring. Outright defects (NaN, a negative rate, a crash, a restart missed by a rounded
logarithm, negative metrics judged on the wrong side) are not.
"""

from jaxsched.compat import keras as keras
from jaxsched.compat import optax as optax
from jaxsched.compat import timm as timm
from jaxsched.compat import torch as torch
from jaxsched.compat import transformers as transformers
