"""One program for many runs: a function mapped over runs, on every device of a mesh.

Each device has its share of the runs and does not communicate. If the function is a pytree, such as
a `jax.tree_util.Partial`, its arrays are arguments of the program. Arrays in a closure are
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
    """Return [function(*argument) for argument in arguments], as arrays with the runs in front.

    Args:
      function: traceable, as a tree (`as_tree`).
      arguments: a tuple of trees of arrays with the runs on their first axis.
      chunk: number of runs per device at a time; None: all.
      mesh: the devices, of all processes if there are several; None: all devices.

    Returns:
      The results, with the runs in front; every process has all of them.
    """
    devices = np.array(jax.devices()) if mesh is None else mesh.devices
    # A mesh of its own, because with explicit axes each array would have to state its layout.
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
        # The slices below communicate. On a CPU with fewer cores than devices, that can deadlock
        # while the program still runs.
        results = jax.block_until_ready(jitted(shared)(shared, runs, chunk=chunk, mesh=mesh))
    return jax.tree.map(lambda x: x[:count], _gathered(results))


def jitted(function: Any) -> Any:
    """Return all programs that map a function, compiled on demand."""
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
    # Devices do not communicate, so there is no need to check which values vary among them.
    return jax.shard_map(
        share, mesh=mesh, in_specs=(PartitionSpec(), along), out_specs=along, check_vma=False
    )(function, runs)


def _chunk_that_fits(function: Any, runs: Any, mesh: Mesh) -> int | None:
    """Return the number of runs that fit in a device's memory; None if all fit or unknown."""
    limit = memory(mesh.local_devices[0])
    if limit is None:
        return None
    needed = peak_bytes(function, runs, chunk=None, mesh=mesh)
    share = len(jax.tree.leaves(runs)[0]) // mesh.size
    return None if needed <= limit else max(int(share * limit // needed), 1)


def memory(device: Any) -> int | None:
    """Return the memory of a device in bytes; a CPU does not report it."""
    return (device.memory_stats() or {}).get("bytes_limit")


def peak_bytes(function: Any, runs: Any, *, chunk: int | None, mesh: Mesh) -> int:
    """Return the peak memory of the program on one device."""
    compiled = jitted(function).lower(function, runs, chunk=chunk, mesh=mesh).compile()
    found: Any = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes


def _padded(runs: Any, count: int, multiple: int) -> Any:
    """Return the runs, padded with the first ones, so that each device has equally many."""
    places = np.arange(-(-count // multiple) * multiple) % count
    return jax.tree.map(lambda x: x[places], runs)


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    """Return arrays that each process has whole as global arrays."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def placed(x: Any) -> jax.Array:
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(functools.partial(with_keys, placed), tree)


def _gathered(tree: Any) -> Any:
    """Return global arrays as arrays that each process has whole."""
    if jax.process_count() == 1:
        return tree
    gather = functools.partial(multihost_utils.process_allgather, tiled=True)
    return jax.tree.map(functools.partial(with_keys, gather), tree)


def with_keys(function: Callable[[Any], Any], x: Any) -> Any:
    """Return function(x), where x may be an array of random keys."""
    if not jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        return function(x)
    data = function(jax.random.key_data(x))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
