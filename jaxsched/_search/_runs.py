"""One program for many runs: a function mapped over them, on every device of a mesh.

Each device has its share of the runs and talks to no other. The arrays in a function that is a
pytree, such as a `jax.tree_util.Partial`, are arguments of the program; those of a closure are
constants in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsched._search._programs import program


def mapped(
    function: Callable[..., Any], arguments: Any, *, chunk: int | None, mesh: Mesh | None
) -> Any:
    """[function(*argument) for argument in arguments], all arrays with the runs in front.

    Args:
      function: traceable, as a tree (`as_tree`).
      arguments: a tuple of trees of arrays, of which the first axis is that of the runs.
      chunk: how many each device runs at a time; None is all.
      mesh: the devices, of all processes if there are several; None is all there are.

    Returns:
      What the function returns, with the runs in front; every process has all of it.
    """
    devices = np.array(jax.devices()) if mesh is None else mesh.devices
    # A mesh of one's own: where axes are explicit, each array would have to say how it is laid out.
    mesh = Mesh(devices.ravel(), ("runs",))
    count = len(jax.tree.leaves(arguments)[0])
    shared = _placed(function, NamedSharding(mesh, PartitionSpec()))
    along = NamedSharding(mesh, PartitionSpec("runs"))
    runs = _placed(_padded(arguments, count, mesh.size), along)
    with jax.set_mesh(mesh):
        chunk = _chunk_that_fits(shared, runs, mesh) if chunk is None else chunk
    if chunk is not None and chunk < -(-count // mesh.size):
        runs = _placed(_padded(arguments, count, mesh.size * chunk), along)
    with jax.set_mesh(mesh):
        results = jitted(shared)(shared, runs, chunk=chunk, mesh=mesh)
    return jax.tree.map(lambda x: x[:count], _gathered(results))


def jitted(function: Any) -> Any:
    """All programs that map a function, as one that is compiled by need."""
    return program(_program, function, "chunk", "mesh")


def _program(function: Any, runs: Any, *, chunk: int | None, mesh: Mesh) -> Any:
    def share(function: Any, runs: Any) -> Any:
        each = jax.vmap(lambda run: function(*run))
        count = len(jax.tree.leaves(runs)[0])
        if chunk is None or chunk >= count:
            return each(runs)
        chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), runs)
        results = jax.lax.map(each, chunks)
        return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), results)

    along = PartitionSpec("runs")
    # Nothing is said between devices, so there is nothing to check of what varies among them.
    return jax.shard_map(
        share, mesh=mesh, in_specs=(PartitionSpec(), along), out_specs=along, check_vma=False
    )(function, runs)


def _chunk_that_fits(function: Any, runs: Any, mesh: Mesh) -> int | None:
    """How many at a time the memory of a device holds, where it tells its size; None is all."""
    limit = memory(mesh.local_devices[0])
    if limit is None:
        return None
    needed = peak_bytes(function, runs, chunk=None, mesh=mesh)
    share = len(jax.tree.leaves(runs)[0]) // mesh.size
    return None if needed <= limit else max(int(share * limit // needed), 1)


def memory(device: Any) -> int | None:
    """How many bytes a device has; a CPU does not tell."""
    return (device.memory_stats() or {}).get("bytes_limit")


def peak_bytes(function: Any, runs: Any, *, chunk: int | None, mesh: Mesh) -> int:
    """What the program takes of one device's memory."""
    compiled = jitted(function).lower(function, runs, chunk=chunk, mesh=mesh).compile()
    found: Any = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes


def _padded(runs: Any, count: int, multiple: int) -> Any:
    """The runs, with the first ones once more at the end, for each device to have as many."""
    places = np.arange(-(-count // multiple) * multiple) % count
    return jax.tree.map(lambda x: x[places], runs)


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that each process has whole, as arrays of all of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def placed(x: Any) -> jax.Array:
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(functools.partial(with_keys, placed), tree)


def _gathered(tree: Any) -> Any:
    """Arrays of all processes, as arrays that each has whole."""
    if jax.process_count() == 1:
        return tree
    gather = functools.partial(multihost_utils.process_allgather, tiled=True)
    return jax.tree.map(functools.partial(with_keys, gather), tree)


def with_keys(function: Callable[[Any], Any], x: Any) -> Any:
    """function(x), where x may be an array of random keys."""
    if not jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        return function(x)
    data = function(jax.random.key_data(x))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
