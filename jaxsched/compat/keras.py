"""Twins of `keras.optimizers.schedules` and of Keras' rate callbacks (compared with Keras 3.15).

The schedules of Keras take their rates as arguments. The callbacks read the rate from the
optimizer, so their twins take it as the first argument. A schedule counts optimizer steps; a
callback counts epochs. In jaxsched, an epoch is one observation for the twin of
`ReduceLROnPlateau`, and one step for the twin of `LearningRateScheduler`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxsched._core._extra import extra
from jaxsched._core._require import finite, flag, length, one_of, positive, refuse, require
from jaxsched._rules._plateau import reduce_on_plateau
from jaxsched._rules._stateful import Stateful
from jaxsched._schedules._curves import cosine, linear, polynomial
from jaxsched._schedules._piecewise import piecewise_constant
from jaxsched._schedules._restarts import cycle as cycled
from jaxsched._schedules._schedule import AnySchedule, Schedule, as_schedule
from jaxsched._schedules._table import table
from jaxsched._schedules._unbounded import (
    constant,
    exponential_decay,
    inverse_time_decay,
    sawtooth_polynomial,
    step_decay,
)
from jaxsched.compat import _played
from jaxsched.compat._common import concrete, explain, own, rated, scaled, whole


def ExponentialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "ExponentialDecay",
) -> Schedule:
    """Exponential decay: multiplies by `decay_rate` every `decay_steps` steps.

        value(t) = initial_learning_rate * decay_rate**(t / decay_steps)

    With `staircase`, only whole multiples of `decay_steps` count.

    Example:
      >>> print(ExponentialDecay(0.1, 2, 0.25)(jnp.arange(3)))
      [0.1   0.05  0.025]

    References:
      `keras.optimizers.schedules.ExponentialDecay`.
    """
    call, _ = "ExponentialDecay", name
    steps = length(call, "decay_steps", decay_steps, least=1)
    rate = positive(call, "decay_rate", decay_rate)
    if not flag(call, "staircase", staircase):
        return exponential_decay(initial_learning_rate, decay_rate=rate, decay_steps=steps)
    return step_decay(initial_learning_rate, factor=rate, every=steps)


def InverseTimeDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "InverseTimeDecay",
) -> Schedule:
    """Inverse-time decay.

        value(t) = initial_learning_rate / (1 + decay_rate * t / decay_steps)

    With `staircase`, only whole multiples of `decay_steps` count.

    Example:
      >>> print(InverseTimeDecay(0.1, 1, 1.0)(jnp.array([0, 1, 3])))
      [0.1   0.05  0.025]

    References:
      `keras.optimizers.schedules.InverseTimeDecay`.
    """
    call, _ = "InverseTimeDecay", name
    steps = length(call, "decay_steps", decay_steps, least=1)
    rate = finite(call, "decay_rate", decay_rate)
    return inverse_time_decay(
        initial_learning_rate, decay_rate=rate, decay_steps=steps, staircase=staircase
    )


def PiecewiseConstantDecay(
    boundaries: Sequence[ArrayLike], values: Sequence[ArrayLike], name: str = "PiecewiseConstant"
) -> Schedule:
    """A piecewise-constant schedule.

        value(t) = values[number of boundaries < t]

    A boundary step still has the old value. In `piecewise_constant` it has the new value.

    Example:
      >>> print(PiecewiseConstantDecay([2], [0.1, 0.05])(jnp.arange(5)))
      [0.1  0.1  0.1  0.05 0.05]

    References:
      `keras.optimizers.schedules.PiecewiseConstantDecay`.
    """
    _ = name
    return piecewise_constant(values, [np.floor(b) + 1 for b in boundaries])


def PolynomialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    end_learning_rate: ArrayLike = 0.0001,
    power: ArrayLike = 1.0,
    cycle: bool = False,
    name: str = "PolynomialDecay",
) -> Schedule:
    """Polynomial decay.

        value(t) = end + (initial_learning_rate - end) * (1 - t / n)**power

    Here n = decay_steps, and `end` is `end_learning_rate`. The end value is held after step n. With
    `cycle`, n is the next multiple of `decay_steps`. At the multiple itself, the schedule has the
    end value; in the next step, it jumps up.

    Example:
      >>> print(PolynomialDecay(0.1, 2, 0.0)(jnp.arange(4)))
      [0.1  0.05 0.   0.  ]
      >>> print(PolynomialDecay(0.1, 2, 0.0, cycle=True)(jnp.arange(4)))
      [0.1   0.05  0.    0.025]

    References:
      `keras.optimizers.schedules.PolynomialDecay`.
    """
    call, _ = "PolynomialDecay", name
    steps = length(call, "decay_steps", decay_steps, least=1)
    power, ends = positive(call, "power", power), (initial_learning_rate, end_learning_rate)
    if flag(call, "cycle", cycle):
        return sawtooth_polynomial(*ends, power=power, decay_steps=steps)
    return polynomial(*ends, steps, power=power)


def CosineDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    alpha: ArrayLike = 0.0,
    name: str = "CosineDecay",
    warmup_target: ArrayLike | None = None,
    warmup_steps: ArrayLike = 0,
) -> Schedule:
    """Cosine decay, after a linear warmup if there is a target.

        linear(initial_learning_rate, warmup_target, warmup_steps)
        >> cosine(warmup_target, alpha * warmup_target, decay_steps)

    `decay_steps` does not include the warmup. Without `warmup_target`, the cosine starts at
    `initial_learning_rate`, and `warmup_steps` is ignored, as in Keras.

    Example:
      >>> print(CosineDecay(0.0, 2, warmup_target=0.1, warmup_steps=2)(jnp.arange(5)))
      [0.   0.05 0.1  0.05 0.  ]

    References:
      `keras.optimizers.schedules.CosineDecay`.
    """
    call, _ = "CosineDecay", name
    steps = length(call, "decay_steps", decay_steps, least=1)
    floor = finite(call, "alpha", alpha)
    warmup = length(call, "warmup_steps", warmup_steps)
    if warmup_target is None:
        return cosine(initial_learning_rate, scaled(initial_learning_rate, floor), steps)
    down = cosine(warmup_target, scaled(warmup_target, floor), steps)
    return linear(initial_learning_rate, warmup_target, warmup) >> down


def CosineDecayRestarts(
    initial_learning_rate: ArrayLike,
    first_decay_steps: ArrayLike,
    t_mul: ArrayLike = 2.0,
    m_mul: ArrayLike = 1.0,
    alpha: ArrayLike = 0.0,
    name: str = "SGDRDecay",
) -> Schedule:
    """Cosine decay with warm restarts (SGDR), over a floor that does not decay.

        value(t) = initial_learning_rate * ((1 - alpha) * m_mul**i * (1 + cos(pi * p)) / 2 + alpha)

    Cycle i has first_decay_steps * t_mul**i steps, and p is the fraction of it that is done. Every
    restart is at its exact step. Keras under `jit` rounds a logarithm, and misses some restarts.

    Example:
      >>> print(np.asarray(CosineDecayRestarts(0.1, 2, m_mul=0.5)(jnp.arange(6))).round(3))
      [0.1   0.05  0.05  0.043 0.025 0.007]

    References:
      `keras.optimizers.schedules.CosineDecayRestarts`.
    """
    call, _ = "CosineDecayRestarts", name
    steps = length(call, "first_decay_steps", first_decay_steps, least=1)
    rate = finite(call, "initial_learning_rate", initial_learning_rate)
    low = scaled(rate, finite(call, "alpha", alpha))
    falls = cycled(cosine(rate - low, 0.0, steps), whole(t_mul), m_mul, None, call)
    return falls if isinstance(low, float) and low == 0.0 else low + falls


@rated
def LearningRateScheduler(
    base_lr: ArrayLike,
    schedule: Callable[..., Any],
    verbose: int = 0,
    *,
    total_steps: int = 10_000,
) -> Schedule:
    """A schedule from a Python function of the epoch, and optionally of the previous rate.

        value(0) = schedule(0, base_lr),    value(e) = schedule(e, value(e - 1))

    The function is called once for each of `total_steps` epochs, when the schedule is built. The
    last value is held. As in Keras, a step of this schedule is an epoch.

    Args:
      base_lr: the optimizer's rate before the first epoch; concrete.
      schedule: (epoch) or (epoch, rate) -> rate.
      verbose: ignored; nothing is printed.
      total_steps: number of epochs to tabulate.

    Example:
      >>> halve = LearningRateScheduler(0.1, lambda epoch, lr: lr if epoch < 2 else lr * 0.5)
      >>> print(halve(jnp.arange(4)))
      [0.1   0.1   0.05  0.025]

    References:
      `keras.callbacks.LearningRateScheduler`.
    """
    call, _ = "LearningRateScheduler", verbose
    require(callable(schedule), refuse(call, "schedule", "be a function", schedule))
    rate, values = concrete(call, "base_lr", base_lr), list[float]()
    for epoch in range(int(length(call, "total_steps", total_steps, least=1))):
        rate = _called(schedule, epoch, rate)
        values.append(rate)
    return table(values)


@rated
def ReduceLROnPlateau(
    base_lr: ArrayLike,
    monitor: str = "val_loss",
    factor: ArrayLike = 0.1,
    patience: ArrayLike = 10,
    verbose: int = 0,
    mode: str = "auto",
    min_delta: ArrayLike = 1e-4,
    cooldown: ArrayLike = 0,
    min_lr: ArrayLike = 0.0,
    *,
    metric: str = "value",
) -> Stateful:
    """Reduces the rate after `patience` observations in a row without an improvement.

        constant(base_lr) * reduce_on_plateau(patience=patience, atol=min_delta, rtol=0, ...)

    The margin is absolute. The last observation of a cooldown already counts, so a cooldown of n
    skips n - 1 observations. A NaN counts as bad. So does an infinite metric, which is never the
    best.

    Args:
      base_lr: the rate before the first cut; concrete.
      monitor: Keras' name of the metric; it is used only for `mode="auto"`.
      factor: multiplier of the rate at each cut, in (0, 1).
      patience: number of bad observations in a row that trigger a cut; 0 is read as 1.
      verbose: ignored; nothing is printed. See `hyperparams(opt_state)`.
      mode: "min", "max", or "auto", which uses the name: lower is better for a loss or an error,
        higher is better for an accuracy and similar metrics.
      min_delta: absolute margin.
      cooldown: see above.
      min_lr: lower limit of the rate.
      metric: name of the metric, as in `observe(opt_state, value=...)`.

    Example:
      >>> tx = scale_by_learning_rate(ReduceLROnPlateau(0.1, factor=0.5, patience=1))
      >>> state = tx.init({})
      >>> for loss in (1.0, 1.0, 1.0):
      ...     _, state = tx.update({}, state, value=loss)
      ...     print(hyperparams(state)["learning_rate"])
      0.1
      0.05
      0.025

    References:
      `keras.callbacks.ReduceLROnPlateau`.
    """
    call, _ = "ReduceLROnPlateau", verbose
    one_of(call, "mode", mode, ("auto", "min", "max"))
    base, low = concrete(call, "base_lr", base_lr), concrete(call, "min_lr", min_lr)
    require(base > 0, refuse(call, "base_lr", "be positive", base_lr))
    require(low >= 0, refuse(call, "min_lr", "not be negative", min_lr))
    quiet = length(call, "cooldown", cooldown)
    return constant(base) * reduce_on_plateau(
        mode=_mode(call, monitor) if mode == "auto" else mode,
        factor=factor,
        patience=length(call, "patience", patience),
        rtol=0.0,
        atol=min_delta,
        cooldown=max(int(quiet) - 1, 0),
        min_scale=min(low / base, 1.0),
        nonfinite="bad",
        metric=metric,
    )


def to_keras(schedule: Any) -> Any:
    """Converts a schedule to a `keras.optimizers.schedules.LearningRateSchedule`.

        os.environ["KERAS_BACKEND"] = "jax"  # before the first import of Keras
        keras.optimizers.Adam(to_keras(warmup_cosine(1e-3, ...)))

    The result runs inside `model.fit` on Keras' JAX backend, and is saved with the model as text.
    Keras chooses its backend when it is imported, by default TensorFlow.

    Args:
      schedule: a schedule, or any function of the step that JAX can trace.

    Returns:
      An instance of a subclass of Keras' class, whose config is `{"schedule": repr(schedule)}`. You
      can also train with a schedule that has no text, such as `from_function(f)`. But saving the
      model then raises `NoConfigError`, because the schedule has no config.

    Raises:
      MissingExtraError: Keras is not installed.
      ValueError: `schedule` is not a schedule, or Keras runs on another backend than JAX.
      ModuleNotFoundError: Keras cannot import its backend; raised by Keras.

    Example:
      >>> import keras  # doctest: +SKIP
      >>> sgd = keras.optimizers.SGD(to_keras(cosine(0.1, 0.0, 1_000)))  # doctest: +SKIP

    References:
      `keras.optimizers.schedules.LearningRateSchedule`.
    """
    schedule = _stateless("to_keras", schedule)
    backend = extra("keras", "keras").config.backend()
    require(backend == "jax", f"`to_keras` needs Keras on its JAX backend, got {backend!r}.")
    return _keras_class()(schedule)


def to_callback(rate: Any) -> Any:
    """Converts a schedule with rules to a callback of Keras' `fit`.

        model.fit(x, y, validation_data=..., callbacks=[to_callback(rate)])

    It sets the learning rate of the optimizer before every batch. The rules listen to the logs of
    an epoch: a rule with `metric="val_loss"` receives the validation loss, and reacts before the
    first batch of the next epoch. A schedule without rules is faster as `to_keras(schedule)`, which
    runs inside the compiled step.

    Args:
      rate: a schedule, stateful or not, in batches. Its rules name the logs that they listen to,
        such as `reduce_on_plateau(metric="val_loss")`.

    Returns:
      A `keras.callbacks.Callback` for one run of one model, whose optimizer has a float as its
      rate. Its attribute `rates` lists the rates; with `steps_per_execution`, one for each
      execution.

    Raises:
      MissingExtraError: Keras is not installed.
      ValueError: `rate` is not a schedule; or after an epoch, a rule listens to a metric that is
        not in the logs.

    Example:
      >>> rate = cosine(0.1, 0.0, 1000) * reduce_on_plateau(patience=2, metric="val_loss")
      >>> import keras  # doctest: +SKIP
      >>> model = keras.Sequential([keras.layers.Dense(1)])  # doctest: +SKIP
      >>> model.compile(optimizer="sgd", loss="mse")  # doctest: +SKIP
      >>> x, y, callbacks = np.ones((20, 2)), np.ones(20), [to_callback(rate)]  # doctest: +SKIP
      >>> model.fit(x, y, validation_split=0.1, callbacks=callbacks)  # doctest: +SKIP

    References:
      `keras.callbacks.LearningRateScheduler` and `keras.callbacks.ReduceLROnPlateau`.
    """
    return _callback_class()(_played.Played("to_callback", rate))


@functools.cache
def _callback_class() -> type:
    keras = extra("keras", "keras")

    class JaxCallback(keras.callbacks.Callback):
        """A schedule of jaxsched."""

        def __init__(self, played: _played.Played) -> None:
            super().__init__()
            self._played, self._logs = played, dict[str, Any]()
            self._before = self._batches = 0  # batches before this epoch, and so far in it
            self.rates: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            steps = self.params.get("steps")
            if steps:  # also where `fit` starts at a later epoch
                self._before = epoch * steps
            else:
                self._before, self._batches = self._before + self._batches, 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self._batches = batch + 1
            rate = self._played.at(self._before + batch, self._logs)
            self._logs = {}
            if not self.rates or rate != self.rates[-1]:
                if hasattr(self.model, "jax_state_sync"):
                    self.model.jax_state_sync()  # the step of Keras holds its own copy
                self.model.optimizer.learning_rate = rate
            self.rates.append(rate)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._logs = dict(logs or {})
            validated = any(name.startswith("val_") for name in self._logs)
            for name in sorted(self._played.metrics):
                if name.startswith("val_") and not validated:
                    continue  # an epoch without a validation
                must = f"be the name of a log, one of {sorted(self._logs)}"
                require(name in self._logs, refuse("to_callback", "metric", must, name))

    return JaxCallback


def _stateless(call: str, x: AnySchedule) -> Schedule:
    """Return `x` as a schedule, since Keras cannot keep the state of a rule."""
    if callable(x) and hasattr(x, "update"):
        raise ValueError(
            f"`{call}` takes a schedule without a state, got the stateful `{x!r}`. Its state can "
            "only be kept by an optax optimizer. Pass the schedule alone, and use the other "
            "library's own plateau scheduler."
        )
    return as_schedule(call, x)


class NoConfigError(ValueError, NotImplementedError):
    """This error is raised if you save a model and its schedule has no text.

    Keras saves a schedule of `to_keras` as the text that `parse` reads. A schedule that contains a
    Python function, such as `from_function(f)`, has no such text.
    """


@functools.cache
def _keras_class() -> type:
    from jaxsched._text._parse import parse
    from jaxsched._text._readable import readable

    keras = extra("keras", "keras")

    @keras.saving.register_keras_serializable(package="jaxsched")
    class JaxSchedule(keras.optimizers.schedules.LearningRateSchedule):
        """A schedule of jaxsched."""

        def __init__(self, schedule: Schedule | str) -> None:
            self.schedule = parse(schedule) if isinstance(schedule, str) else schedule

        def __call__(self, step: Any) -> Any:
            return self.schedule(keras.ops.cast(step, "int32"))

        def get_config(self) -> dict[str, Any]:
            try:
                return {"schedule": readable("get_config", self.schedule)}
            except ValueError as error:
                raise NoConfigError(str(error)) from None

    return JaxSchedule


def _called(schedule: Callable[..., Any], epoch: int, rate: float) -> float:
    """Return the rate of an epoch: from both arguments, or as in Keras, from the epoch alone."""
    try:
        try:
            new = float(schedule(epoch, rate))
        except TypeError:
            new = float(schedule(epoch))
        known = abs(new) <= float(np.finfo(np.float32).max)
    except Exception as error:
        new, known = repr(error), False
    remedy = f"It returns {new!r}. Give `total_steps=...`, the number of epochs."
    must = f"return a finite rate for epoch {epoch}"
    require(known, refuse("LearningRateScheduler", "schedule", must, schedule, remedy))
    return float(new)


_LESS, _MORE = ("loss", "error", "mse", "mae"), ("acc", "auc", "precision", "recall", "f1", "iou")


def _mode(call: str, monitor: str) -> str:
    """Return the mode for a name; Keras asks the metric object instead."""
    lowered = str(monitor).lower()
    if any(word in lowered for word in _LESS):
        return "min"
    remedy = 'Give mode="min" or mode="max".'
    known = any(word in lowered for word in _MORE)
    require(known, refuse(call, "monitor", 'be a name that decides mode="auto"', monitor, remedy))
    return "max"


explain(globals())


def __dir__() -> list[str]:
    return own(globals())
