"""Scores: exact at a point, an average under a posterior, and a gradient of the log likelihood."""

import numpy as np
import pytest

from clusterwise.engines.step import expectation_program, score_program, start_program
from tests.laws.registry import CASES, N_CLUSTERS, N_ROWS, SLOTS, pack, random_values


def scores(case, moments, rows, n):
    """(n, k) scores of the rows in use."""
    found = np.asarray(score_program(case.block, moments, rows))
    return np.swapaxes(found, 1, 2).reshape(-1, found.shape[1])[:n]


@pytest.mark.parametrize("name", CASES)
def test_score_at_a_point_is_scipys_log_density(name):
    case, rng = CASES[name], np.random.default_rng(1)
    values = random_values(rng)
    rows = pack(values)
    for _ in range(3):
        parameters = case.draw(rng)
        expected = case.log_density(parameters, values)
        found = scores(case, parameters.moments(), rows, N_ROWS)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_score_of_a_posterior_without_variance_is_that_of_a_point(name):
    case, rng = CASES[name], np.random.default_rng(4)
    values = random_values(rng)
    rows = pack(values)
    labels = np.arange(SLOTS) % N_CLUSTERS
    weight = np.full(N_ROWS, 1e6)
    posterior = start_program(case.block, case.prior(), pack(values, weight), labels)
    point = scores(case, posterior.mode().moments(), rows, N_ROWS)
    spread = scores(case, posterior.moments(), rows, N_ROWS)
    np.testing.assert_allclose(spread, point, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_the_log_likelihood_is_the_expected_statistics(name):
    case, rng = CASES[name], np.random.default_rng(5)
    rows = pack(random_values(rng), rng.gamma(2.0, size=N_ROWS))
    moments = case.draw(rng).moments()
    totals = expectation_program(case.block, moments, rows)
    count = np.asarray(totals.statistics[0])[:, 0]

    def log_likelihood(change):
        weights = moments[0]._replace(log_weights=moments[0].log_weights + change)
        moved = (weights, *moments[1:])
        return float(expectation_program(case.block, moved, rows).log_density)

    step = 1e-4
    for k in range(N_CLUSTERS):
        unit = step * np.eye(N_CLUSTERS)[k]
        slope = (log_likelihood(unit) - log_likelihood(-unit)) / (2 * step)
        np.testing.assert_allclose(slope, count[k], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_gradient_in_the_coefficients_comes_from_the_gram_matrix(name):
    case, rng = CASES[name], np.random.default_rng(6)
    values = random_values(rng)
    rows = pack(values)
    moments = case.draw(rng).moments()
    statistics = expectation_program(case.block, moments, rows).statistics
    index, step = 1, 1e-4
    direction = rng.normal(size=moments[index].coefficients.shape)

    def moved(size):
        part = moments[index]
        part = part._replace(coefficients=part.coefficients + size * direction)
        return (*moments[:index], part, *moments[index + 1 :])

    def log_likelihood(size):
        return float(expectation_program(case.block, moved(size), rows).log_density)

    def fixed_responsibilities(size):
        return float(np.trace(np.asarray(case.block.cross_score(moved(size), statistics))))

    slope = (log_likelihood(step) - log_likelihood(-step)) / (2 * step)
    expected = (fixed_responsibilities(step) - fixed_responsibilities(-step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_cross_score_is_the_summed_score(name):
    case, rng = CASES[name], np.random.default_rng(7)
    values = random_values(rng)
    rows = pack(values)
    labels = rng.integers(N_CLUSTERS, size=SLOTS)
    posterior = start_program(case.block, case.prior(), rows, labels)
    own, other = case.draw(rng).moments(), posterior.moments()
    score = scores(case, own, rows, N_ROWS)
    resp = np.exp(score - score.max(axis=1, keepdims=True))
    resp /= resp.sum(axis=1, keepdims=True)
    statistics = expectation_program(case.block, own, rows).statistics
    expected = resp.T @ scores(case, other, rows, N_ROWS)
    np.testing.assert_allclose(
        np.asarray(case.block.cross_score(other, statistics)), expected, rtol=1e-9, atol=1e-8
    )
