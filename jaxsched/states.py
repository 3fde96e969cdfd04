"""The classes of states, for annotations and for reading an optimizer state.

An optimizer holds `PackedState`s. The other classes are records of named numbers, which are packed
in it. `factors(opt_state)` returns those of rules.
"""

from jaxsched._averages._average import AveragesState as AveragesState
from jaxsched._averages._average import AverageState as AverageState
from jaxsched._core._packed import LikeParams as LikeParams
from jaxsched._core._packed import PackedState as PackedState
from jaxsched._diagnose._monitor import MonitorState as MonitorState
from jaxsched._rules._auto_warmup import AutoWarmupState as AutoWarmupState
from jaxsched._rules._feedback import FeedbackState as FeedbackState
from jaxsched._rules._flat import FlatState as FlatState
from jaxsched._rules._greedy import GreedyState as GreedyState
from jaxsched._rules._hypergradient import HypergradientState as HypergradientState
from jaxsched._rules._kl import KLAdaptiveState as KLAdaptiveState
from jaxsched._rules._plateau import PlateauState as PlateauState
from jaxsched._rules._spike_guard import SpikeGuardState as SpikeGuardState
from jaxsched._rules._tunable import TunableState as TunableState
from jaxsched._rules._until import UntilState as UntilState
from jaxsched._transforms._keep_best import KeepBestState as KeepBestState
from jaxsched._transforms._noise_scale import NoiseScaleState as NoiseScaleState
from jaxsched._transforms._scheduled import ScheduledState as ScheduledState
from jaxsched._transforms._skip_spikes import SkipSpikesState as SkipSpikesState
from jaxsched._transforms._snapshot import SnapshotsState as SnapshotsState

__all__ = [
    "AutoWarmupState",
    "AverageState",
    "AveragesState",
    "FeedbackState",
    "FlatState",
    "GreedyState",
    "HypergradientState",
    "KLAdaptiveState",
    "KeepBestState",
    "LikeParams",
    "MonitorState",
    "NoiseScaleState",
    "PackedState",
    "PlateauState",
    "ScheduledState",
    "SkipSpikesState",
    "SnapshotsState",
    "SpikeGuardState",
    "TunableState",
    "UntilState",
]
