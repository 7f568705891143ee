"""Samplers' intervals cover the parameters that rows were drawn with; minutes for each family."""

import numpy as np
import pytest
from scipy import stats

import clusterwise as cw
from tests.families.registry import FAMILIES

SEEDS = range(10)
LEVEL = 0.99
ENGINES = {
    "gibbs": cw.Gibbs(num_warmup=300, num_samples=500, num_chains=2, n_init=2),
    "nuts": cw.NUTS(num_warmup=200, num_samples=300, num_chains=2, n_init=2),
}


def covered(case, fit):
    """Whether each parameter lies in its central interval."""
    tree = fit.posterior["posterior"]
    order = np.argsort(tree["means"].mean(("chain", "draw")).to_numpy()[:, 0])
    slopes = tree["coefficients"].to_numpy()
    slopes = slopes.reshape(*slopes.shape[:4], -1)[:, :, order]
    pairs = [(slopes, np.asarray(case.coefficients, float))]
    constants = np.asarray(case.constants, float).reshape(2, -1).T
    for name, value in case.dispersion(constants).items():
        pairs.append((tree[name].to_numpy()[:, :, order], value))
    found = []
    for drawn, truth in pairs:
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=(0, 1))
        found += ((low <= truth) & (truth <= high)).ravel().tolist()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_intervals_cover_the_truth(name, engine):
    case, found = FAMILIES[name], []
    for seed in SEEDS:
        fit = case.model().fit(case.data(100 + seed), engine=ENGINES[engine], random_state=seed)
        found += covered(case, fit)
    misses = len(found) - sum(found)
    assert misses <= stats.binom.ppf(0.999, len(found), 1 - LEVEL), f"{misses} of {len(found)}"
