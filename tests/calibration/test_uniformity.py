"""The tests of ranks against simulation and published values, and the generator they rest on."""

import jax
import numpy as np
import pytest
from scipy import stats

from clusterwise.core.random import random_key
from tests.calibration.report import LEVEL, Ranks, rank_tests
from tests.calibration.uniformity import (
    band_level,
    chi_square,
    ecdf_counts,
    ecdf_test,
    exit_probability,
    holm,
    pointwise_limits,
)

pytestmark = pytest.mark.long

N, N_DRAWS = 120, 31


@pytest.fixture(scope="module")
def uniform_ranks():
    return np.random.default_rng(0).integers(N_DRAWS + 1, size=(5000, N))


def test_band_holds_its_share_of_uniform_ranks(uniform_ranks):
    low, high = pointwise_limits(N, band_level(N, 0.1))
    counts = np.array([ecdf_counts(ranks, N_DRAWS) for ranks in uniform_ranks])
    left = np.mean(((counts < low) | (counts > high)).any(axis=1))
    assert exit_probability(N, band_level(N, 0.1)) == pytest.approx(left, abs=0.015)
    # Counts are whole, so that the band cannot lie at exactly ten percent.
    assert 0.05 < left <= 0.11


def test_p_values_of_uniform_ranks_are_not_too_small(uniform_ranks):
    for test in (chi_square, ecdf_test):
        p = np.array([test(ranks, N_DRAWS) for ranks in uniform_ranks[:2000]])
        for level in (0.3, 0.1, 0.02):
            assert 0.4 * level < np.mean(p < level) < level + 3 * np.sqrt(level / len(p))


@pytest.mark.parametrize("a, b", [(1.3, 1.0), (0.75, 0.75), (1.5, 1.5)])
def test_biased_narrow_and_wide_samplers_are_found(a, b):
    share = np.random.default_rng(1).beta(a, b, size=1000)
    ranks = np.floor(share * (N_DRAWS + 1)).astype(int)
    assert ecdf_test(ranks, N_DRAWS) < 1e-5
    assert chi_square(ranks, N_DRAWS) < 1e-4


def test_holm_gives_the_values_of_r():
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_single_wrong_quantity_fails_its_family(uniform_ranks):
    good = {str(i): ranks for i, ranks in enumerate(uniform_ranks[:40])}
    lags = dict.fromkeys([*good, "bad"], 0.0)
    assert rank_tests({"model": Ranks(good, lags, N_DRAWS)}).adjusted.min() > LEVEL
    bad = {"bad": uniform_ranks[0] // 2}
    assert rank_tests({"model": Ranks(good | bad, lags, N_DRAWS)}).adjusted.min() < LEVEL


def test_generator_is_uniform_and_its_keys_are_independent():
    own = jax.random.split(random_key(3), 2000)
    first = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (40,)))(own))
    second = np.asarray(
        jax.vmap(lambda key: jax.random.normal(jax.random.split(key)[1], (40,)))(own)
    )
    third = np.asarray(
        jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (40,)))(own)
    )
    assert stats.kstest(first.ravel(), "uniform").pvalue > 1e-4
    assert stats.kstest(second.ravel(), "norm").pvalue > 1e-4
    assert stats.kstest(third.ravel(), "norm").pvalue > 1e-4
    both = np.column_stack([first, second, third])
    correlation = np.corrcoef(both.T) - np.eye(120)
    # The largest of 7,140 standard normal numbers.
    assert np.abs(correlation).max() * np.sqrt(2000) < 5.2
