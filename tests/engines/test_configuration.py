"""The user's JAX configuration is the user's."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import jax
import clusterwise as cw, numpy as np
rng = np.random.default_rng(0)
x = rng.normal(size=100)
y = np.where(np.arange(100) % 2, 3 * x, -x) + 0.1 * rng.normal(size=100)
data = {"x": x, "y": y}
for wide in (False, True):
    assert wide or jax.config.jax_enable_x64 is False
    jax.config.update("jax_enable_x64", wide)
    fit = cw.Model("y ~ x", n_components=2).fit(data, engine=cw.EM(n_init=2), random_state=0)
    slopes = np.sort(np.asarray(fit.coefficients["x"]))
    np.testing.assert_allclose(slopes, [-1, 3], atol=0.1)
    assert fit.responsibilities(data).dtype == np.float64
    fit.predict(data)
    assert jax.config.jax_enable_x64 is wide
    assert jax.numpy.ones(2).dtype == ("float64" if wide else "float32")
"""


def test_importing_and_fitting_leave_the_precision_alone():
    source = Path(__file__).parents[2] / "src"
    program = f"import sys; sys.path.insert(0, {str(source)!r})\n" + _PROGRAM
    subprocess.run([sys.executable, "-c", program], check=True)
