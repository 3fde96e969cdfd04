"""Checks of the arguments of a search, and of the functions passed to it."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsched._core._require import length, refuse, require
from jaxsched._search._population import Population

ARRAYS = (jax.Array, np.ndarray, np.generic, int, float, complex)


def require_population(call: str, population: Any) -> Population:
    """Return the members, at least one, or raise."""
    if not isinstance(population, (list, tuple)) or len(population) == 0:
        must = "be a list of schedules that is not empty"
        raise ValueError(refuse(call, "population", must, population))
    return Population.of(population)[:]  # a copy


def require_key(call: str, key: Any) -> jax.Array:
    """Return one random key; an int becomes a key."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        require(-(2**63) <= key < 2**63, refuse(call, "key", "be an int of 64 bits", key))
        return jax.random.key(int(key))
    is_array = isinstance(key, (jax.Array, np.ndarray))
    is_old = is_array and key.dtype == np.uint32 and key.ndim == 1
    is_new = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    must = "be a random key, or an int to make one from"
    require(is_old or is_new, refuse(call, "key", must, key))
    return jnp.asarray(key)


def require_keys(call: str, key: Any, seeds: int) -> jax.Array | None:
    """Return as many keys as seeds; None without a key."""
    count = int(length(call, "seeds", seeds, least=1))
    if key is not None:
        return jax.random.split(require_key(call, key), count)
    require(
        count == 1,
        f"`{call}(seeds={count})` needs a key, which `train` receives as its second argument: "
        f"`{call}(..., key=0, seeds={count})`.",
    )
    return None


def returned(
    call: str,
    name: str,
    function: Any,
    takes: str,
    runs: tuple[Any, ...],
    fixed: tuple[Any, ...] = (),
) -> Any:
    """Return the shapes that a function returns for one run, or raise.

    Args:
      call: the calling function, for messages.
      name: the argument that the function was passed as.
      function: anything.
      takes: its arguments, as text for messages.
      runs: its arguments, for all runs.
      fixed: its other arguments.

    Raises:
      ValueError: `function` is not a function of these arguments.
    """
    require(callable(function), refuse(call, name, "be a function", function))
    for x in [] if jax.tree_util.all_leaves([function]) else jax.tree.leaves(function):
        remedy = "Bind other values with `functools.partial`."
        require(isinstance(x, ARRAYS), refuse(call, name, "hold only arrays", x, remedy))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), runs)
    try:
        inspect.signature(function).bind(*one, *fixed)
    except TypeError as error:
        must = f"take {takes}"
        raise ValueError(refuse(call, name, must, function, f"Python says: {error}.")) from None

    def checked(*run: Any) -> Any:
        result = function(*run, *fixed)
        for x in jax.tree.leaves(result):
            if not isinstance(x, ARRAYS):
                got = f"It returns {result!r}, but a compiled program can only return arrays."
                raise ValueError(refuse(call, name, "return arrays", function, got))
        return result

    return jax.eval_shape(checked, *one)


def is_score(x: Any) -> bool:
    """Return whether `x` has the shape and type of one real number."""
    kinds = jnp.floating, jnp.integer
    return getattr(x, "shape", None) == () and any(jnp.issubdtype(x.dtype, k) for k in kinds)


def require_devices(call: str, chunk: Any, mesh: Any) -> int | None:
    """Return the number of runs at a time, or None; raise for a bad mesh."""
    is_mesh = mesh is None or (isinstance(mesh, Mesh) and mesh.size > 0)
    require(is_mesh, refuse(call, "mesh", "be a `jax.sharding.Mesh` of devices", mesh))
    around = jax.sharding.get_abstract_mesh()
    devices = len(jax.devices()) if mesh is None else mesh.size
    same = around.size == devices and AxisType.Explicit not in around.axis_types
    require(
        around.empty or same,
        f"`{call}(mesh=...)` must be the mesh in use, with no explicit axes, got mesh={mesh} "
        f"within `jax.set_mesh({around})`. Call it outside of this context.",
    )
    return None if chunk is None else int(length(call, "chunk", chunk, least=1))
