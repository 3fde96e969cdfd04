"""`inject`: schedules for any hyperparameter of any optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsched._core import _meant
from jaxsched._core._numerics import real, weak
from jaxsched._core._require import refuse, require
from jaxsched._transforms._checks import as_slot
from jaxsched._transforms._rates import require_rate
from jaxsched._transforms._scheduled import Values, scheduled, with_extra_args


def inject(
    factory: Callable[..., optax.GradientTransformation], **slots: Any
) -> optax.GradientTransformationExtraArgs:
    """Schedules the hyperparameters of an optimizer, all with one step counter.

        factory(name=slot(count), ...) at every step

    A keyword argument that is scheduled is called a slot. A keyword argument that takes a number
    can be a slot, unless the factory branches on it in Python. Bind all other arguments first, as
    in `inject(partial(optax.adamw, mask=mask), learning_rate=schedule)`.

    To change a value during a run, use `override(opt_state, learning_rate=x)`. Unlike in
    `optax.inject_hyperparams`, `opt_state.hyperparams` can only be read: it reports the values of
    the last update. Writing to it raises an error that names `override`. `hyperparams(opt_state)`
    returns a new dict, so writing to that has no effect.

    Args:
      factory: an optax optimizer, or any function that returns a transform.
      **slots: by name of the factory's argument, a float, a schedule, a stateful schedule or any
        function of the step.

    Returns:
      A transform. The values are float32 for any dtype of the parameters. They have weak types, as
      Python floats do, so they do not change the dtype of the inner state.

    Raises:
      ValueError: a slot is not a float, a schedule or a function; the factory has no such argument;
        the factory branches on it in Python, so that it cannot be scheduled; or `learning_rate` is
        negative at its start or end, or is a rule without a learning rate to multiply.

    Example:
      >>> tx = inject(optax.adamw, learning_rate=cosine(0.1, 0.0, 100), weight_decay=0.01)
      >>> print(*hyperparams(tx.init(jnp.ones(2))).items())
      ('learning_rate', Array(0.1, dtype=float32)) ('weight_decay', Array(0.01, dtype=float32))

    References:
      `optax.inject_hyperparams`.
    """
    name = getattr(factory, "__name__", None) or getattr(
        getattr(factory, "func", None), "__name__", "factory"
    )
    if isinstance(factory, optax.GradientTransformation):
        raise ValueError(
            "`inject(factory=...)` takes the function that makes an optimizer, such as "
            "`optax.adamw`, and got an optimizer that is made already. Pass the function and its "
            "arguments, or write `wrap(optimizer, rule)`."
        )
    require(callable(factory), refuse("inject", "factory", "be a function", factory))
    require(
        bool(slots),
        f"`inject({name})` has no slots. Name at least one: `inject({name}, learning_rate=...)`.",
    )
    parameters = _signature(factory)
    named = {**getattr(factory, "keywords", {}), **slots}  # a partial has some already
    if parameters is not None:
        _require_known(name, named, parameters)
    given = {
        key: as_slot(
            "inject", key, value, f"Bind other arguments first: {_bound(name, key, slots)}."
        )
        for key, value in slots.items()
    }

    if parameters is not None:
        placed = len(getattr(factory, "args", ()))
        _require_all(name, named, [*parameters.values()][placed:])
    if "learning_rate" in given:
        require_rate("inject", "learning_rate", given["learning_rate"])

    def make(values: Values) -> optax.GradientTransformation:
        # A strong float32 would widen the moments of bfloat16 parameters, and break a scan's carry.
        return factory(**{key: weak(value) for key, value in values.items()})

    for key in given:
        _require_traceable(factory, name, key, [*given])
    return scheduled(given, make)


def _signature(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of a factory, or of that in a partial; None if it takes any."""
    try:
        parameters = inspect.signature(getattr(factory, "func", factory)).parameters
    except (TypeError, ValueError):
        return None  # without a signature, the factory itself raises for a wrong argument
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return None if takes_any else parameters


def _require_known(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = [*known]
    for key in given:
        require(
            key in names,
            f"`inject({name}, {key}=...)`: `{name}` has no argument {key!r}. It has "
            f"{', '.join(names)}. {_meant.keyword(key, names)}".rstrip(),
        )


def _require_all(name: str, given: Iterable[str], parameters: Iterable[inspect.Parameter]) -> None:
    needed = [p for p in parameters if p.kind is not p.VAR_POSITIONAL and p.default is p.empty]
    for key in sorted({p.name for p in needed} - {*given}):
        raise ValueError(f"`inject({name})` needs {key}: `inject({name}, {key}=...)`.")


def _require_traceable(factory: Callable[..., Any], name: str, key: str, slots: list[str]) -> None:
    """Raise if the factory branches on an argument in Python; a traced value does not allow it."""

    def rehearsed(value: jax.Array) -> None:
        tx = factory(**{other: weak(value) if other == key else 1.0 for other in slots})
        params = jnp.zeros((2, 2))
        with_extra_args(tx).update(params, tx.init(params), params, value=value)

    try:
        jax.eval_shape(rehearsed, real(1.0))
    except jax.errors.ConcretizationTypeError as error:
        raise ValueError(
            f"`inject({name}, {key}=...)`: `{name}` branches on {key} in Python, so {key} cannot "
            f"follow a schedule. Bind it first: {_bound(name, key, slots)}."
        ) from error
    except Exception:
        return  # other requirements on the parameters are reported when real ones are used


def _bound(name: str, key: str, slots: Iterable[str]) -> str:
    """Return the call in which an argument is bound and another one is a slot."""
    other = next((slot for slot in slots if slot != key), "learning_rate")
    return f"`inject(partial({name}, {key}=...), {other}=...)`"
