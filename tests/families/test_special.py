"""Special functions against SciPy's."""

import jax
import numpy as np
from scipy import special

from clusterwise.regression.special import trigamma


def test_trigamma_is_that_of_scipy():
    x = np.geomspace(1e-8, 1e12, 400)
    np.testing.assert_allclose(jax.jit(trigamma)(x), special.polygamma(1, x), rtol=1e-14)
