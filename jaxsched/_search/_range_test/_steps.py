"""The step of a range test: an optimizer step on a loss, or the caller's own step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsched._core._numerics import real
from jaxsched._core._require import refuse, require

_CALL = "lr_range_test"

Step = Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]


def scalar_of(loss: Callable[..., Any], call: str = _CALL) -> Callable[..., jax.Array]:
    """Return the loss alone, without other values of a tuple."""

    def scalar(params: Any, batch: Any) -> jax.Array:
        out = loss(params, batch)
        return _scalar(out[0] if isinstance(out, tuple) else out, call)

    return scalar


def trained(loss: Callable[..., Any], tx: optax.GradientTransformationExtraArgs) -> Step:
    """Return a step of an optimizer, whose rates follow its own step counter."""

    scalar = scalar_of(loss)

    def step(state: Any, batch: Any, _: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = state
        value, gradients = jax.value_and_grad(scalar)(params, batch)
        # Some optimizers need more: Polyak's rate needs the loss, a line search all three.
        more = {"value": value, "grad": gradients, "value_fn": lambda x: scalar(x, batch)}
        updates, opt_state = tx.update(gradients, opt_state, params, **more)
        return (optax.apply_updates(params, updates), opt_state), value

    return step


def own(function: Callable[..., Any]) -> Step:
    """Return the caller's step, with checks of its results."""

    def step(state: Any, batch: Any, value: jax.Array) -> tuple[Any, jax.Array]:
        out: Any = function(state, batch, value)
        must = "return `(state, loss)`, a pair"
        require(isinstance(out, tuple) and len(out) == 2, refuse(_CALL, "function", must, out))
        new, loss = out
        before, after = _shapes(state), _shapes(new)
        must = f"return the state with its structure and shapes, {before}"
        require(before == after, refuse(_CALL, "function", must, after))
        return new, _scalar(loss)

    return step


def _shapes(state: Any) -> Any:
    return jax.tree.map(jnp.shape, state), jax.tree.structure(state)


def _scalar(loss: Any, call: str = _CALL) -> jax.Array:
    must = "return one real loss"
    try:
        value = jnp.asarray(loss)
    except (TypeError, ValueError):
        raise ValueError(refuse(call, "function", must, loss)) from None
    fits = value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    shown = jax.ShapeDtypeStruct(value.shape, value.dtype)
    require(fits, refuse(call, "function", must, shown))
    return real(value)


def require_arguments(function: Any, optimizer: Any) -> None:
    """Raise unless the function can be called as a loss, or without an optimizer as a step."""
    arguments, remedy = ("params", "batch"), "For a step of your own, pass no optimizer."
    if optimizer is None:
        arguments, remedy = ("state", "batch", "value"), "A loss needs an optimizer: `optax.adam`."
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:
        return  # the function cannot be inspected
    except TypeError:
        must = f"be called as `function({', '.join(arguments)})`"
        raise ValueError(refuse(_CALL, "function", must, function, remedy)) from None


def require_optimizer(optimizer: Any, hyperparameter: str, call: str = _CALL) -> None:
    """Raise unless the function makes an optimizer from this one argument."""
    made = "Pass the function that makes it: `optax.adam`, not `optax.adam(1e-3)`."
    factory = callable(optimizer) and not hasattr(optimizer, "update")
    require(factory, refuse(call, "optimizer", "be a function", optimizer, made))
    try:
        signature = inspect.signature(optimizer)
    except (TypeError, ValueError):
        return  # the function cannot be inspected; calling it will show the error
    known = [*signature.parameters]
    try:
        signature.bind_partial(**{hyperparameter: 0.0})
    except TypeError:
        must = f"be an argument of the optimizer, one of {', '.join(known)}"
        raise ValueError(refuse(call, "hyperparameter", must, hyperparameter)) from None
    try:
        signature.bind(**{hyperparameter: 0.0})
    except TypeError as error:
        shown = getattr(optimizer, "__name__", "optimizer")
        remedy = f"Python says: {error}. Bind it: `partial({shown}, learning_rate=1e-3)`."
        must = f"need no more than {hyperparameter}"
        raise ValueError(refuse(call, "optimizer", must, optimizer, remedy)) from None


def require_floats(
    params: Any,
    call: str = _CALL,
    remedy: str = "For other state, pass your own step and no optimizer.",
) -> None:
    """Raise unless every leaf has a gradient."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        kind = jnp.result_type(leaf)
        if not jnp.issubdtype(kind, jnp.inexact):  # showing an array waits for its device
            must = f"be floats, but {jax.tree_util.keystr(path) or 'this'} is {kind}"
            raise ValueError(refuse(call, "params", must, leaf, remedy))


class Key(NamedTuple):
    """An optimizer in the form that `jit` compares: equal partials of one function are equal."""

    call: Any
    args: tuple[Any, ...] = ()
    keywords: tuple[Any, ...] = ()

    def made(self) -> Any:
        if not (self.args or self.keywords):
            return self.call
        keywords = {key: x for key, _, x in self.keywords}
        return functools.partial(self.call, *(x for _, x in self.args), **keywords)


def key_of(function: Any) -> Key:
    key = Key(function)
    if isinstance(function, functools.partial):
        # With their types, because True equals 1.
        args = tuple((type(x), x) for x in function.args)
        keywords = tuple((key, type(x), x) for key, x in sorted(function.keywords.items()))
        key = Key(function.func, args, keywords)
    try:
        hash(key)
    except TypeError:  # for example a bound array: then the key is the identity of the object
        partial = isinstance(function, functools.partial)
        return Key(function if partial else functools.partial(function))
    return key
