"""Settings of the whole test suite."""

import gc
import os
from contextlib import nullcontext
from pathlib import Path

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


# Programs that run over few rows and once or twice take longer to compile than to run: in these
# folders and files most of the compiler's optimisations are left out. Sampling takes the longer for
# it, and the documents' numbers are those that users see.
COMPILED_QUICKLY = {"posteriors", "test_gated_fits.py", "test_predictive.py"}


@pytest.fixture(autouse=True, scope="module")
def quick_compiler(request):
    quick = not COMPILED_QUICKLY.isdisjoint((request.path.name, request.path.parent.name))
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, quick)
    with pytest.MonkeyPatch.context() as patch:
        # Processes that a test starts share the entries of the compilation cache.
        patch.setenv(name.upper(), str(int(quick)))
        yield
    jax.config.update(name, before)


# Every compiled program takes some memory maps, of which Linux allows a process 65,530: XLA aborts
# where there is none left. A module's programs are few enough.
MANY_MAPS = 20_000
MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()
