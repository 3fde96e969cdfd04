"""What a range test runs: the step of an optimizer on a loss, or one of the caller's own."""

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


def scalar_of(loss: Callable[..., Any]) -> Callable[[Any, Any], jax.Array]:
    """The loss alone, without what is behind it in a tuple."""

    def scalar(params: Any, batch: Any) -> jax.Array:
        out = loss(params, batch)
        return _scalar(out[0] if isinstance(out, tuple) else out)

    return scalar


def trained(loss: Callable[..., Any], tx: optax.GradientTransformationExtraArgs) -> Step:
    """A step of an optimizer, whose rates are on its own clock: an update that counts, a tick."""

    scalar = scalar_of(loss)

    def step(state: Any, batch: Any, _: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = state
        value, gradients = jax.value_and_grad(scalar)(params, batch)
        # What some need besides the gradients: Polyak's rate the loss, a line search all three.
        more = {"value": value, "grad": gradients, "value_fn": lambda x: scalar(x, batch)}
        updates, opt_state = tx.update(gradients, opt_state, params, **more)
        return (optax.apply_updates(params, updates), opt_state), value

    return step


def own(function: Callable[..., Any]) -> Step:
    """The caller's step, of which it is said what is wrong with it."""

    def step(state: Any, batch: Any, value: jax.Array) -> tuple[Any, jax.Array]:
        out: Any = function(state, batch, value)
        must = "return `(state, loss)`, a pair"
        require(isinstance(out, tuple) and len(out) == 2, refuse(_CALL, "function", must, out))
        new, loss = out
        before, after = _shapes(state), _shapes(new)
        must = f"return the state as it was given, {before}"
        require(before == after, refuse(_CALL, "function", must, after))
        return new, _scalar(loss)

    return step


def _shapes(state: Any) -> Any:
    return jax.tree.map(jnp.shape, state), jax.tree.structure(state)


def _scalar(loss: Any) -> jax.Array:
    must = "give one real loss"
    try:
        value = jnp.asarray(loss)
    except (TypeError, ValueError):
        raise ValueError(refuse(_CALL, "function", must, loss)) from None
    fits = value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    shown = jax.ShapeDtypeStruct(value.shape, value.dtype)
    require(fits, refuse(_CALL, "function", must, shown))
    return real(value)


def require_arguments(function: Any, optimizer: Any) -> None:
    """Raise unless it can be called: a loss with an optimizer, a step without."""
    arguments, remedy = ("params", "batch"), "A step of your own needs no optimizer."
    if optimizer is None:
        arguments, remedy = ("state", "batch", "value"), "A loss needs an optimizer: `optax.adam`."
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:
        return  # not to be inspected
    except TypeError:
        must = f"be called as `function({', '.join(arguments)})`"
        raise ValueError(refuse(_CALL, "function", must, function, remedy)) from None


def require_optimizer(optimizer: Any, hyperparameter: str) -> None:
    """Raise unless it makes an optimizer from this one argument."""
    made = "Give what makes it: `optax.adam`, not `optax.adam(1e-3)`."
    factory = callable(optimizer) and not hasattr(optimizer, "update")
    require(factory, refuse(_CALL, "optimizer", "be a function", optimizer, made))
    try:
        signature = inspect.signature(optimizer)
    except (TypeError, ValueError):
        return  # not to be inspected: the factory itself will tell
    known = [*signature.parameters]
    try:
        signature.bind_partial(**{hyperparameter: 0.0})
    except TypeError:
        must = f"be an argument of the optimizer, one of {', '.join(known)}"
        raise ValueError(refuse(_CALL, "hyperparameter", must, hyperparameter)) from None
    try:
        signature.bind(**{hyperparameter: 0.0})
    except TypeError as error:
        shown = getattr(optimizer, "__name__", "optimizer")
        remedy = f"Python says: {error}. Bind it: `partial({shown}, learning_rate=1e-3)`."
        must = f"need no more than {hyperparameter}"
        raise ValueError(refuse(_CALL, "optimizer", must, optimizer, remedy)) from None


def require_floats(params: Any) -> None:
    """Raise unless there is a gradient in everything."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        kind = jnp.result_type(leaf)
        if not jnp.issubdtype(kind, jnp.inexact):  # to show an array waits for its device
            must = f"be floats, and {jax.tree_util.keystr(path) or 'this'} is {kind}"
            remedy = "With other state give your own step and no optimizer."
            raise ValueError(refuse(_CALL, "params", must, leaf, remedy))


class Key(NamedTuple):
    """An optimizer as `jit` compares it: two equal partials of one function are the same."""

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
        # With their types: True is equal to 1.
        args = tuple((type(x), x) for x in function.args)
        keywords = tuple((key, type(x), x) for key, x in sorted(function.keywords.items()))
        key = Key(function.func, args, keywords)
    try:
        hash(key)
    except TypeError:  # an array is bound, say: it is the same if it is this very object
        partial = isinstance(function, functools.partial)
        return Key(function if partial else functools.partial(function))
    return key
