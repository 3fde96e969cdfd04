"""A run as plain values: what somebody asked for, and what a later `--resume` reads back.

The learning rate is one text, the schedule and all rules, with every length in steps: so that a
longer run continues the schedule of the shorter one.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides what a run computes."""

    epochs: int
    batch_size: int
    seed: int
    optimizer: str  # `adamw(weight_decay=0.01)`
    learning_rate: str  # `repr` of the schedule
    wrappers: list[str] = dataclasses.field(default_factory=list[str])  # `skip_spikes(sigmas=4)`
    last_epoch: int | None = None  # where to, if a resume has said so; lengths are of `epochs`
