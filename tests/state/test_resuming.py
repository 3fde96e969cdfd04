"""Data is in the state and configuration in the code: a restored run follows what restored it."""

import jax
import pytest
from resuming import CASES


@pytest.mark.parametrize("what", CASES)
def test_a_restored_run_follows_the_code_that_restored_it(what, tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        CASES[what](tmp_path / "saved")
