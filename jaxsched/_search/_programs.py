"""Compiled programs of a user's function, which are freed together with the function.

A program of `jax.jit(function)` is freed with its function, too. Here the function is an argument
of another program, which would keep it forever, with all data that the function closes over and the
program contains.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial, all_leaves

from jaxsched._core._fields import choice_field
from jaxsched._core._node import Node

_programs: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


class Weakly(Node):
    """A function that is referenced weakly."""

    function: weakref.ref[Callable[..., Any]] = choice_field(kw_only=False)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        function = self.function()
        assert function is not None  # the caller holds it
        return function(*arguments, **named)


def as_tree(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as a pytree of its arrays, if it has any."""
    if isinstance(function, Partial):
        return Partial(_call, as_tree(function.func), *function.args, **function.keywords)
    if not all_leaves([function]):
        return function
    try:
        if not inspect.ismethod(function):
            return Weakly(weakref.ref(function))
        hash(function.__self__)
        return Weakly(weakref.WeakMethod(function))
    except TypeError:  # it cannot be referenced weakly
        return Partial(function)


def program(mapped: Callable[..., Any], function: Any, *static: str) -> Any:
    """Return `jax.jit(mapped)` for one function among its arguments; `static` are names."""
    leaves = jax.tree.leaves(function, is_leaf=lambda x: isinstance(x, Weakly))
    held = [x.function() for x in leaves if isinstance(x, Weakly)]
    owner = getattr(held[0], "__self__", held[0]) if held else Weakly
    programs = _programs.setdefault(owner, {})
    if mapped not in programs:
        # jax has one cache per function; a partial has its own.
        programs[mapped] = jax.jit(functools.partial(mapped), static_argnames=static)
    return programs[mapped]


def _call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return function(*arguments, **named)
