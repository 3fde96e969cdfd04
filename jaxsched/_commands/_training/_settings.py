"""The settings of a run as plain values, which a later `--resume` reads.

The learning rate is one text, with the schedule, all rules, and every length in steps. So a longer
run continues the schedule of the shorter one.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings that determine what a run computes."""

    epochs: int
    batch_size: int | None  # of the digits; None: that of the task
    seed: int
    optimizer: str | None  # `adamw(weight_decay=0.01)`; None: that of the task
    learning_rate: str  # `repr` of the schedule
    wrappers: list[str] = dataclasses.field(default_factory=list[str])  # `skip_spikes(sigmas=4)`
    last_epoch: int | None = None  # new end, if set by a resume; lengths are still of `epochs`
    task: str = "digits"  # or `module:function`
