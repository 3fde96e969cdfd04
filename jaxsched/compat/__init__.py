"""Twins of other libraries' schedulers: same names, same arguments, same values.

To move a recipe here, change its import, and pass the base rate in place of the optimizer:

    torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)
    jaxsched.compat.torch.CosineAnnealingWarmRestarts(base_lr, T_0=10, T_mult=2)

A twin returns a schedule, or a stateful schedule if it listens to a metric. It prints as the
expression of this library that is equivalent. In the other library, lengths count calls of
`step()`. Here they are optimizer steps. So convert the lengths of a recipe in epochs with `Units`.

Surprising conventions of a library (a boundary, a rise after the end) are kept, and described in
the twin's docstring. Plain defects are not kept: NaN, a negative rate, a crash, a restart missed by
a rounded logarithm, or negative metrics with a margin of the wrong sign.
"""

from jaxsched.compat import keras as keras
from jaxsched.compat import optax as optax
from jaxsched.compat import timm as timm
from jaxsched.compat import torch as torch
from jaxsched.compat import transformers as transformers
