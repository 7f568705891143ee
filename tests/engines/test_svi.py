"""Stochastic variational inference ends where coordinate ascent does, on easy data."""

import jax
import numpy as np
import pytest

from clusterwise.core.errors import OptionError
from clusterwise.engines.optimisers import SVI
from clusterwise.engines.step import start_program
from clusterwise.engines.svi import run_stochastic
from tests.laws.registry import CASES, ENGINES, N_CLUSTERS, make_source

pytestmark = pytest.mark.long

N = 3000


def easy(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(N_CLUSTERS, size=N)
    x = rng.normal(size=(N, 2)) + 8.0 * (labels[:, None] - 1)
    y = rng.normal(size=(N, 2)) + x * (labels[:, None] - 1)
    return np.column_stack([np.ones(N), x, y]), labels, rng


@pytest.fixture(scope="module")
def problem():
    case = CASES["diagonal"]
    values, labels, rng = easy(1)
    source, prior = make_source(values, rng.gamma(2.0, size=N)), case.prior()
    rows = source.block(0)
    noisy = np.where(rng.random(N) < 0.8, labels, rng.integers(N_CLUSTERS, size=N))
    padded = np.pad(noisy, (0, rows.packed.shape[0] * rows.packed.shape[2] - N))
    begin = start_program(case.block, prior, rows, padded)
    exact = ENGINES["vi"].run(case.block, prior, source, begin, None)
    return case, prior, source, begin, exact


def test_optimum_is_that_of_coordinate_ascent(problem):
    case, prior, source, begin, exact = problem
    result = ENGINES["svi"].run(case.block, prior, source, begin, jax.random.key(0))
    assert result.objective <= exact.objective + 1e-6
    assert result.objective > exact.objective - 2e-3 * source.total_weight
    # Whatever the batches, the posterior counts all rows.
    alpha = np.asarray(result.posterior.parts[0].alpha).sum()
    assert alpha == pytest.approx(np.asarray(exact.posterior.parts[0].alpha).sum(), rel=1e-6)
    weights, expected = (
        np.exp(np.asarray(posterior.mode().parts[0].log_weights))
        for posterior in (result.posterior, exact.posterior)
    )
    np.testing.assert_allclose(np.sort(weights), np.sort(expected), atol=0.02)


@pytest.mark.parametrize("batch_size", [256, 1000])
def test_history_estimates_the_bound(problem, batch_size):
    case, prior, source, _, exact = problem
    result = run_stochastic(
        case.block, prior, source, exact.posterior, batch_size=batch_size, max_epochs=4,
        rate=(1e4, 0.8), tol=0.0, key=jax.random.key(1), progress=lambda *_: None,
    )  # fmt: skip
    assert len(result.history) == 4
    np.testing.assert_allclose(result.history, exact.objective, rtol=0.01)


@pytest.mark.parametrize("delay", [0.0, 0.5, -1.0])
def test_a_rate_above_one_is_refused(delay):
    # Step 0 mixes with rate delay ** -forgetting, which must lie in (0, 1].
    with pytest.raises(OptionError, match="delay"):
        SVI(delay=delay)
