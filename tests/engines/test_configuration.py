"""The user's JAX configuration is the user's."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import jax
before = {wide}
jax.config.update("jax_enable_x64", before)
import clusterwise as cw, numpy as np
assert jax.config.jax_enable_x64 is before
rng = np.random.default_rng(0)
x = rng.normal(size=100)
y = np.where(np.arange(100) % 2, 3 * x, -x) + 0.1 * rng.normal(size=100)
data = {{"x": x, "y": y}}
fit = cw.Model("y ~ x", n_components=2).fit(data, engine=cw.EM(n_init=2), random_state=0)
slopes = np.sort(np.asarray(fit.coefficients["x"]))
np.testing.assert_allclose(slopes, [-1, 3], atol=0.1)
fit.predict(data)
fit.responsibilities(data)
assert jax.config.jax_enable_x64 is before
assert jax.numpy.ones(2).dtype == ("float64" if before else "float32")
"""


@pytest.mark.parametrize("wide", [False, True])
def test_importing_and_fitting_leave_the_precision_alone(wide):
    source = Path(__file__).parents[2] / "src"
    program = f"import sys; sys.path.insert(0, {str(source)!r})\n" + _PROGRAM.format(wide=wide)
    subprocess.run([sys.executable, "-c", program], check=True)
