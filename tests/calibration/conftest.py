"""Double precision for the whole of calibration, as the library has around its own calls."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield
