"""The kernel of Gibbs sampling where the expansion goes too far, against the exact posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from clusterwise.core.random import random_key
from clusterwise.posteriors.coefficients import Coefficients, NormalCoefficients
from clusterwise.posteriors.places import Places
from clusterwise.regression.columns import PartColumns
from clusterwise.responses.gamma import GammaResponse

N, SWEEPS = 30, 4000
DEVIATIONS = np.array([1.0, 2.0])
# Quantiles of a gamma distribution with mean one.
Y = stats.gamma(8.0, scale=1 / 8.0).ppf((np.arange(N) + 0.5) / N)


@pytest.fixture(scope="module")
def chain():
    """Draws (sweeps, 2) of log mean and log shape after a start, of one cluster."""
    block = GammaResponse().block(PartColumns((0,), (1,)))
    precision = np.diag(DEVIATIONS**-2)
    prior = NormalCoefficients.of_each(np.zeros((1, 2)), precision, Places.of(1, 2))
    values, resp = jnp.asarray(np.stack([np.ones(N), Y])), jnp.ones((1, N))

    def sweep(now, key):
        first, second = jax.random.split(key)
        statistics = block.statistics(now.moments(), values, resp)
        proposed = block.proposed(prior, now, now, statistics, first)
        again = block.statistics(proposed.moments(), values, resp)
        after = block.corrected(prior, now, proposed, (statistics, again), second)
        return after, after.values[0]

    @jax.jit
    def draws(start, keys):
        return jax.lax.scan(sweep, Coefficients(start[None]), keys)[1]

    keys = jax.random.split(random_key(1), SWEEPS)
    return lambda start: np.asarray(draws(jnp.asarray(start), keys))


@pytest.mark.long
# From all but the last, steps of Newton's method go so far that none leads back.
@pytest.mark.parametrize("start", [[0.0, 0.5], [-1.0, 0.0], [0.0, -1.0], [0.5, 4.0]])
def test_it_finds_the_posterior_from_far_starts(chain, start):
    drawn = chain(start)[SWEEPS // 10 :]
    grid = [np.linspace(-0.6, 0.6, 241)[:, None], np.linspace(-1.0, 4.0, 251)[None]]
    log_mean, shape = grid[0][..., None], np.exp(grid[1])[..., None]
    log = stats.gamma.logpdf(Y, shape, scale=np.exp(log_mean) / shape).sum(axis=-1)
    log += sum(stats.norm.logpdf(g, scale=s) for g, s in zip(grid, DEVIATIONS, strict=True))
    share = special.softmax(log)
    for i, own in enumerate(grid):
        mean = (share * own).sum()
        deviation = np.sqrt((share * (own - mean) ** 2).sum())
        # About every third draw is another one.
        assert abs(drawn[:, i].mean() - mean) < 4 * deviation / np.sqrt(len(drawn) / 5)
        assert drawn[:, i].std() == pytest.approx(deviation, rel=0.12)
