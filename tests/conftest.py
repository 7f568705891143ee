"""Settings of the whole test suite."""

import os
from contextlib import nullcontext

import jax
import pytest
from hypothesis import settings

# A first example pays for compilation, so no example has a deadline. Where the tests judge a
# change, they draw the same examples each time; elsewhere they go on looking for new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Folders of tests that call what the library itself only calls in double precision. The other
# tests go without, since they show that the library switches it on.
IN_DOUBLE_PRECISION = {"calibration", "engines", "families", "laws", "posteriors", "weights"}


@pytest.fixture(autouse=True, scope="module")
def double_precision(request):
    inside = request.path.parent.name in IN_DOUBLE_PRECISION
    with jax.enable_x64(True) if inside else nullcontext():
        yield
