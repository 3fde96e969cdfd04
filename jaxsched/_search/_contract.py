"""What a search asks of its arguments, and of the functions that it is given."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsched._require import length, refuse, require


def require_population(call: str, population: Any) -> list[Any]:
    """The members, at least one."""
    several = isinstance(population, (list, tuple)) and len(population) > 0
    must = "be a list of schedules that is not empty"
    require(several, refuse(call, "population", must, population))
    return list(population)


def require_keys(call: str, key: Any, seeds: int) -> jax.Array | None:
    """As many keys as seeds; None without a key."""
    count = int(length(call, seeds=seeds, least=1))
    if key is not None:
        return jax.random.split(jax.random.key(key) if isinstance(key, int) else key, count)
    require(
        count == 1,
        f"`{call}(seeds={count})` needs a key, which is given to `train` as its second argument: "
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
    """What a function returns for one run: the shapes alone.

    Args:
      call: who asks.
      name: the argument that the function is.
      function: anything.
      takes: its arguments, as a person writes them.
      runs: these, of all runs.
      fixed: what it is given besides.

    Raises:
      ValueError: it is no function of so many arguments.
    """
    require(callable(function), refuse(call, name, "be a function", function))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), runs)
    try:
        inspect.signature(function).bind(*one, *fixed)
    except TypeError as error:
        must = f"take {takes}"
        raise ValueError(refuse(call, name, must, function, f"Python says: {error}.")) from None
    return jax.eval_shape(lambda *run: function(*run, *fixed), *one)


def is_score(x: Any) -> bool:
    """Is it the shape of one real number?"""
    kinds = jnp.floating, jnp.integer
    return getattr(x, "shape", None) == () and any(jnp.issubdtype(x.dtype, k) for k in kinds)


def require_devices(call: str, chunk: Any, mesh: Any) -> None:
    """A number of runs, and a mesh; both may be None."""
    if chunk is not None:
        length(call, chunk=chunk, least=1)
    is_mesh = mesh is None or isinstance(mesh, Mesh)
    require(is_mesh, refuse(call, "mesh", "be a `jax.sharding.Mesh`", mesh))
