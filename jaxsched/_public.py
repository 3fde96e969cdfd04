"""The public names, in the order of the reference. They load when the first one is used."""

import inspect as _inspect

from jaxsched._core._meant import explained as _explained
from jaxsched._look import _notebook as _notebook

# Curves.
from jaxsched._schedules._curves import linear as linear
from jaxsched._schedules._curves import polynomial as polynomial
from jaxsched._schedules._curves import cosine as cosine
from jaxsched._schedules._curves import geometric as geometric
from jaxsched._schedules._curves import one_minus_sqrt as one_minus_sqrt
from jaxsched._schedules._curves import rex as rex
from jaxsched._schedules._curves import tanh as tanh
from jaxsched._schedules._curves import sigmoid as sigmoid
from jaxsched._schedules._curves import power_ramp as power_ramp
from jaxsched._schedules._curves import logarithmic as logarithmic

# Unbounded schedules.
from jaxsched._schedules._unbounded import constant as constant
from jaxsched._schedules._unbounded import exponential_decay as exponential_decay
from jaxsched._schedules._unbounded import inverse_time_decay as inverse_time_decay
from jaxsched._schedules._unbounded import inverse_sqrt as inverse_sqrt
from jaxsched._schedules._unbounded import power_law as power_law
from jaxsched._schedules._unbounded import step_decay as step_decay
from jaxsched._schedules._piecewise import piecewise_constant as piecewise_constant
from jaxsched._schedules._piecewise import piecewise_linear as piecewise_linear
from jaxsched._schedules._piecewise import piecewise_cosine as piecewise_cosine
from jaxsched._schedules._piecewise import piecewise_cubic as piecewise_cubic
from jaxsched._schedules._unbounded import sawtooth_polynomial as sawtooth_polynomial
from jaxsched._schedules._table import table as table
from jaxsched._schedules._counter import counter as counter

# Operations on schedules.
from jaxsched._schedules._schedule import Schedule as Schedule
from jaxsched._schedules._compose import join as join
from jaxsched._schedules._compose import select as select
from jaxsched._schedules._compose import minimum as minimum
from jaxsched._schedules._compose import maximum as maximum
from jaxsched._schedules._schedule import from_function as from_function
from jaxsched._schedules._trainable import trainable as trainable
from jaxsched._schedules._units import Units as Units

# Custom schedules and rules.
from jaxsched._core._factory import factory as factory
from jaxsched._schedules._curves import Curve as Curve
from jaxsched._core._fields import number_field as number_field
from jaxsched._core._fields import length_field as length_field
from jaxsched._core._fields import list_field as list_field
from jaxsched._core._fields import choice_field as choice_field
from jaxsched._rules._rule import Rule as Rule
from jaxsched._rules._rule import Listener as Listener
from jaxsched._rules._mailbox import Observation as Observation
from jaxsched._rules._memory import initially as initially

# Recipes.
from jaxsched._schedules._recipes import warmup_constant as warmup_constant
from jaxsched._schedules._recipes import warmup_linear as warmup_linear
from jaxsched._schedules._recipes import warmup_cosine as warmup_cosine
from jaxsched._schedules._recipes import warmup_polynomial as warmup_polynomial
from jaxsched._schedules._recipes import warmup_exponential as warmup_exponential
from jaxsched._schedules._recipes import warmup_inverse_sqrt as warmup_inverse_sqrt
from jaxsched._schedules._recipes import warmup_stable_decay as warmup_stable_decay
from jaxsched._schedules._recipes import warmup_cosine_restarts as warmup_cosine_restarts
from jaxsched._schedules._recipes import cyclic as cyclic
from jaxsched._schedules._recipes import one_cycle as one_cycle
from jaxsched._schedules._recipes import one_cycle_momentum as one_cycle_momentum
from jaxsched._schedules._recipes import noam as noam
from jaxsched._schedules._recipes import bert as bert

# Warmups for Adam.
from jaxsched._schedules._adam_warmups import exponential_warmup as exponential_warmup
from jaxsched._schedules._adam_warmups import radam_warmup as radam_warmup
from jaxsched._schedules._adam_warmups import untuned_linear_warmup as untuned_linear_warmup

# Rules.
from jaxsched._rules._plateau import reduce_on_plateau as reduce_on_plateau
from jaxsched._rules._flat import reduce_when_flat as reduce_when_flat
from jaxsched._rules._greedy import greedy as greedy
from jaxsched._rules._kl import kl_adaptive as kl_adaptive
from jaxsched._rules._spike_guard import spike_guard as spike_guard
from jaxsched._rules._auto_warmup import auto_warmup as auto_warmup
from jaxsched._rules._hypergradient import hypergradient as hypergradient
from jaxsched._rules._until import until as until
from jaxsched._rules._cooldown import cooldown as cooldown
from jaxsched._rules._tunable import tunable as tunable
from jaxsched._rules._feedback import feedback as feedback
from jaxsched._rules._stateful import Stateful as Stateful

# Transforms.
from jaxsched._transforms._inject import inject as inject
from jaxsched._transforms._scale import wrap as wrap
from jaxsched._transforms._scale import scale_by_learning_rate as scale_by_learning_rate
from jaxsched._transforms._scale import scale_by_schedule as scale_by_schedule
from jaxsched._transforms._scale import scale_by_plateau as scale_by_plateau
from jaxsched._transforms._per_group import per_group as per_group
from jaxsched._transforms._per_group import layerwise as layerwise
from jaxsched._transforms._per_group import unfreezing as unfreezing
from jaxsched._transforms._per_group import by_path as by_path
from jaxsched._transforms._skip_spikes import skip_spikes as skip_spikes
from jaxsched._transforms._keep_best import keep_best as keep_best
from jaxsched._transforms._snapshot import snapshot as snapshot
from jaxsched._diagnose._monitor import monitor as monitor
from jaxsched._transforms._noise_scale import noise_scale as noise_scale
from jaxsched._transforms._accumulate import accumulate as accumulate
from jaxsched._transforms._gradient_norm import with_gradient_norm as with_gradient_norm

# Readers and writers of the optimizer state.
from jaxsched._state._readers import hyperparams as hyperparams
from jaxsched._state._readers import factors as factors
from jaxsched._state._readers import events as events
from jaxsched._state._readers import exhausted as exhausted
from jaxsched._state._readers import step as step
from jaxsched._state._writers import set_step as set_step
from jaxsched._state._writers import observe as observe
from jaxsched._state._writers import override as override
from jaxsched._state._writers import retune as retune
from jaxsched._state._writers import trigger as trigger
from jaxsched._state._graft import graft as graft
from jaxsched._state._remembered import best_params as best_params
from jaxsched._state._remembered import snapshots as snapshots
from jaxsched._state._remembered import snapshot_average as snapshot_average
from jaxsched._diagnose._diagnose import diagnose as diagnose
from jaxsched._diagnose._diagnose import Diagnosis as Diagnosis
from jaxsched._state._remembered import gradient_noise_scale as gradient_noise_scale

# Averages of the parameters.
from jaxsched._averages._average import average as average
from jaxsched._averages._kinds import exponential_average as exponential_average
from jaxsched._averages._kinds import uniform_average as uniform_average
from jaxsched._averages._kinds import merged_decay as merged_decay
from jaxsched._averages._reading import averaged_params as averaged_params
from jaxsched._averages._reading import average_at as average_at
from jaxsched._averages._snapshots import merged_snapshots as merged_snapshots
from jaxsched._averages._batch_statistics import batch_statistics as batch_statistics
from jaxsched._averages._kinds import Average as Average

# Search.
from jaxsched._search._range_test._lr_range_test import lr_range_test as lr_range_test
from jaxsched._search._range_test._result import RangeTest as RangeTest
from jaxsched._search._range_test._suggestions import suggestions as suggestions
from jaxsched._search._range_test._suggestions import Suggestions as Suggestions
from jaxsched._search._critical_rate import critical_rate as critical_rate
from jaxsched._search._stack import stack as stack
from jaxsched._search._space import grid as grid
from jaxsched._search._space import random_search as random_search
from jaxsched._search._space import uniform as uniform
from jaxsched._search._space import log_uniform as log_uniform
from jaxsched._search._sweep import sweep as sweep
from jaxsched._search._leaderboard import Sweep as Sweep
from jaxsched._search._halving import successive_halving as successive_halving
from jaxsched._search._bayesian import bayesian_search as bayesian_search
from jaxsched._search._convex_bound import convex_bound as convex_bound
from jaxsched._search._convex_bound import transfer_rate as transfer_rate
from jaxsched._search._optimal import optimal_schedule as optimal_schedule
from jaxsched._search._optimal import refined_schedule as refined_schedule
from jaxsched._search._learn import learn_schedule as learn_schedule
from jaxsched._search._learn import Learned as Learned
from jaxsched._search._unroll import checkpointed_scan as checkpointed_scan

# Forecasts.
from jaxsched._forecast._fit import fit_loss_law as fit_loss_law
from jaxsched._forecast._forecast import forecast as forecast
from jaxsched._forecast._forecast import Forecast as Forecast
from jaxsched._forecast._best import best_schedule as best_schedule
from jaxsched._forecast._best import best_remaining as best_remaining
from jaxsched._forecast._laws import LossLaw as LossLaw
from jaxsched._forecast._laws import MultiPowerLaw as MultiPowerLaw
from jaxsched._forecast._laws import AnnealingLaw as AnnealingLaw

# Batch size.
from jaxsched._schedules._batch_size import scale_with_batch as scale_with_batch
from jaxsched._schedules._batch_size import scale_adam_with_batch as scale_adam_with_batch
from jaxsched._schedules._batch_size import gradual_warmup as gradual_warmup
from jaxsched._schedules._seesaw import seesaw as seesaw

# Plotting and description.
from jaxsched._look._plot import plot as plot
from jaxsched._look._simulate import simulate as simulate
from jaxsched._look._simulate import Simulated as Simulated
from jaxsched._look._describe import describe as describe
from jaxsched._text._parse import parse as parse

# Twins of other libraries; classes of states.
from jaxsched import compat as compat
from jaxsched import states as states

__all__ = [
    # Curves.
    "linear",
    "polynomial",
    "cosine",
    "geometric",
    "one_minus_sqrt",
    "rex",
    "tanh",
    "sigmoid",
    "power_ramp",
    "logarithmic",
    # Unbounded schedules.
    "constant",
    "exponential_decay",
    "inverse_time_decay",
    "inverse_sqrt",
    "power_law",
    "step_decay",
    "piecewise_constant",
    "piecewise_linear",
    "piecewise_cosine",
    "piecewise_cubic",
    "sawtooth_polynomial",
    "table",
    "counter",
    # Operations on schedules.
    "Schedule",
    "join",
    "select",
    "minimum",
    "maximum",
    "from_function",
    "trainable",
    "Units",
    # Custom schedules and rules.
    "factory",
    "Curve",
    "number_field",
    "length_field",
    "list_field",
    "choice_field",
    "Rule",
    "Listener",
    "Observation",
    "initially",
    # Recipes.
    "warmup_constant",
    "warmup_linear",
    "warmup_cosine",
    "warmup_polynomial",
    "warmup_exponential",
    "warmup_inverse_sqrt",
    "warmup_stable_decay",
    "warmup_cosine_restarts",
    "cyclic",
    "one_cycle",
    "one_cycle_momentum",
    "noam",
    "bert",
    # Warmups for Adam.
    "exponential_warmup",
    "radam_warmup",
    "untuned_linear_warmup",
    # Rules.
    "reduce_on_plateau",
    "reduce_when_flat",
    "greedy",
    "kl_adaptive",
    "spike_guard",
    "auto_warmup",
    "hypergradient",
    "until",
    "cooldown",
    "tunable",
    "feedback",
    "Stateful",
    # Transforms.
    "inject",
    "wrap",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "scale_by_plateau",
    "per_group",
    "layerwise",
    "unfreezing",
    "by_path",
    "skip_spikes",
    "keep_best",
    "snapshot",
    "monitor",
    "noise_scale",
    "accumulate",
    "with_gradient_norm",
    # Readers and writers of the optimizer state.
    "hyperparams",
    "factors",
    "events",
    "exhausted",
    "step",
    "set_step",
    "observe",
    "override",
    "retune",
    "trigger",
    "graft",
    "best_params",
    "snapshots",
    "snapshot_average",
    "diagnose",
    "Diagnosis",
    "gradient_noise_scale",
    # Averages of the parameters.
    "average",
    "exponential_average",
    "uniform_average",
    "merged_decay",
    "averaged_params",
    "average_at",
    "merged_snapshots",
    "batch_statistics",
    "Average",
    # Search.
    "lr_range_test",
    "RangeTest",
    "suggestions",
    "Suggestions",
    "critical_rate",
    "stack",
    "grid",
    "random_search",
    "uniform",
    "log_uniform",
    "sweep",
    "Sweep",
    "successive_halving",
    "bayesian_search",
    "convex_bound",
    "transfer_rate",
    "optimal_schedule",
    "refined_schedule",
    "learn_schedule",
    "Learned",
    "checkpointed_scan",
    # Forecasts.
    "fit_loss_law",
    "forecast",
    "Forecast",
    "best_schedule",
    "best_remaining",
    "LossLaw",
    "MultiPowerLaw",
    "AnnealingLaw",
    # Batch size.
    "scale_with_batch",
    "scale_adam_with_batch",
    "gradual_warmup",
    "seesaw",
    # Plotting and description.
    "plot",
    "simulate",
    "Simulated",
    "describe",
    "parse",
    # Twins of other libraries; classes of states.
    "compat",
    "states",
]

# Wrong calls get a suggestion, and functions are known by their public names.
for _name, _x in list(globals().items()):
    if not _name.startswith("_") and _inspect.isfunction(_x):
        globals()[_name] = _explained(_x, "jaxsched")
