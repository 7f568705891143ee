"""Every engine finds the parameters that rows were drawn with; minutes for each family."""

import numpy as np
import pytest
from scipy import stats

import clusterwise as cw
from tests.families.recovery import LEVEL, recover
from tests.families.registry import RESPONSE_CASES

SEEDS = range(10)
N = 2000
SAMPLERS = {
    "gibbs": cw.Gibbs(num_warmup=300, num_samples=500, num_chains=2, n_init=8),
    "nuts": cw.NUTS(num_warmup=200, num_samples=300, num_chains=2, n_init=8),
}
OPTIMISERS = {"em": cw.EM(n_init=8), "vi": cw.VI(n_init=8), "svi": cw.SVI(n_init=8)}


@pytest.mark.slow
@pytest.mark.parametrize("engine", SAMPLERS)
@pytest.mark.parametrize("name", RESPONSE_CASES)
def test_intervals_cover_the_truth(name, engine):
    found = recover(RESPONSE_CASES[name], SAMPLERS[engine], N, SEEDS)
    misses = np.sum(~found.covered)
    allowed = stats.binom.ppf(0.999, found.covered.size, 1 - LEVEL)
    assert misses <= allowed, f"{misses} of {found.covered.size}"
    assert not any(found.compilations[1:]), found.compilations


@pytest.mark.slow
@pytest.mark.parametrize("engine", OPTIMISERS)
@pytest.mark.parametrize("name", RESPONSE_CASES)
def test_estimates_have_no_bias(name, engine):
    found = recover(RESPONSE_CASES[name], OPTIMISERS[engine], N, SEEDS)
    # What chance and few rows do to maximum likelihood is no bias of an engine.
    assert np.abs(found.bias(found.apart)).max() < 3, found.bias(found.apart).round(2)
    assert np.abs(found.scaled).max() < stats.norm.isf(0.0005 / found.scaled.size)
    assert not any(found.compilations[1:]), found.compilations
