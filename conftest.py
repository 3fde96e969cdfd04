"""Names that the doctest of a docstring may use, and how doctests print arrays."""

import gc
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched


@pytest.fixture(autouse=True)
def _doctest_names(request, doctest_namespace):
    np.set_printoptions(precision=3, suppress=True)
    if request.path.suffix == ".md":  # a reader of a page copies it into an empty file
        return
    doctest_namespace.update({name: getattr(jaxsched, name) for name in dir(jaxsched)})
    doctest_namespace.update(jax=jax, jnp=jnp, np=np, optax=optax, jaxsched=jaxsched)


@pytest.fixture(autouse=True)
def _as_the_reader_has_it(request):
    """Pages train with Adam, which adds floats to its integer count: not under strict promotion."""
    if request.path.suffix != ".md":
        yield
        return
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# Each compiled program is several memory maps, of which Linux allows a process 65,530. A worker
# that kept those of all tests would end in a segmentation fault.
MAPS, MANY = pathlib.Path("/proc/self/maps"), 30_000
_turns = itertools.count(1)


def pytest_runtest_teardown():
    if next(_turns) % 25 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
        gc.collect()
