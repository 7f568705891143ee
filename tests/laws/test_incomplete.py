"""Rows with missing values, against the marginal densities of one normal distribution a cluster."""

import jax
import numpy as np
import pytest
from scipy import stats

from clusterwise.core.incomplete import Incomplete, Patterns, study
from clusterwise.core.random import random_key
from clusterwise.engines.step import expectation_program, sampling_program, score_program
from tests.laws.registry import CASES, N_CLUSTERS, N_COLUMNS, N_ROWS, pack, random_values

pytestmark = pytest.mark.long

# Two regressors, two responses; the columns that each pattern lacks.
ABSENT = [(), (1,), (2,), (1, 2), (3,), (4,), (3, 4), (1, 3), (2, 4), (1, 2, 3), (1, 2, 3, 4)]
NAMES = ["joint", "known", "tied"]


def absent(lost=ABSENT):
    return np.array([[c in own for c in range(N_COLUMNS)] for own in lost])


def incomplete(case):
    return Incomplete(case.block, Patterns.of(case.block, absent()))


def with_gaps(rng, values):
    """The rows with zeros where values are missing, and their pattern behind."""
    number = rng.integers(len(ABSENT), size=len(values))
    return np.column_stack([np.where(absent()[number], 0.0, values), number]), number


def joint_normals(case, parameters, k):
    """Mean and covariance of the columns but the constant, and which of them the case models."""
    size = N_COLUMNS - 1
    slopes, noise, mean = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    modelled = np.zeros(size, bool)
    for part, value in list(zip(case.parts, parameters.parts, strict=True))[1:]:
        block = part.block
        own = np.array(block.responses) - 1
        coefficients = np.asarray(value.coefficients)[k]
        covariance = np.asarray(value.covariance)
        noise[np.ix_(own, own)] = covariance[k if len(covariance) > 1 else 0]
        modelled[own] = True
        for row, regressor in enumerate(block.regressors):
            if regressor:
                slopes[own, regressor - 1] = coefficients[row]
            else:
                mean[own] = coefficients[row]
    total = np.linalg.inv(np.eye(size) - slopes)
    return total @ mean, total @ noise @ total.T, modelled


def log_marginal(case, parameters, row, missing, k):
    mean, covariance, modelled = joint_normals(case, parameters, k)
    seen = np.flatnonzero(modelled & ~missing[1:])
    if not seen.size:
        return 0.0
    normal = stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
    return float(normal.logpdf(row[1:][seen]))


@pytest.mark.parametrize("name", NAMES)
def test_score_is_the_marginal_density_by_scipy(name):
    case, rng = CASES[name], np.random.default_rng(1)
    values = random_values(rng)
    rows, number = with_gaps(rng, values)
    parameters = case.draw(rng)
    weights = np.asarray(parameters.parts[0].log_weights)
    found = np.asarray(score_program(incomplete(case), parameters.moments(), pack(rows)))
    found = np.swapaxes(found, 1, 2).reshape(-1, N_CLUSTERS)[:N_ROWS]
    expected = [
        [
            weights[k] + log_marginal(case, parameters, row, absent()[p], k)
            for k in range(N_CLUSTERS)
        ]
        for row, p in zip(values, number, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_counted_parts_that_are_missing_are_left_out():
    case, rng = CASES["diagonal"], np.random.default_rng(5)
    values, parameters = random_values(rng), case.draw(rng)
    parts = [(part, set(part.block.columns) - {0}) for part in case.parts]
    counted = [own for part, own in parts if not hasattr(part.block, "responses") and own]
    lost = [(), *map(tuple, counted), tuple(set().union(*counted))]
    assert len(lost) > 3
    number = rng.integers(len(lost), size=N_ROWS)
    gone = absent(lost)
    block = Incomplete(case.block, Patterns.of(case.block, gone))
    rows = np.column_stack([np.where(gone[number], 0.0, values), number])
    found = np.asarray(score_program(block, parameters.moments(), pack(rows)))
    found = np.swapaxes(found, 1, 2).reshape(-1, N_CLUSTERS)[:N_ROWS]
    expected = np.zeros_like(found)
    for (part, own), value in zip(parts, parameters.parts, strict=True):
        enters = [not own & set(lost[p]) for p in number]
        expected += np.where(np.array(enters)[:, None], part.log_density(value, values), 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def totals_of(block, moments, rows):
    return jax.tree.map(np.asarray, expectation_program(block, moments, rows))


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_gaps_count_as_they_do_in_the_product(name):
    case, rng = CASES[name], np.random.default_rng(2)
    values = random_values(rng)
    moments = case.draw(rng).moments()
    whole = totals_of(case.block, moments, pack(values))
    found = totals_of(incomplete(case), moments, pack(np.column_stack([values, 0 * values[:, 0]])))
    np.testing.assert_allclose(found.log_density, whole.log_density, rtol=1e-12)
    prior = case.prior()
    after = incomplete(case).posterior(found.statistics, prior, moments)
    expected = case.block.posterior(whole.statistics, prior, moments)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_observed_likelihood_is_that_of_the_expected_complete_one(name):
    case, rng = CASES[name], np.random.default_rng(3)
    block = incomplete(case)
    rows = pack(with_gaps(rng, random_values(rng))[0])
    moments = case.draw(rng).moments()
    statistics = expectation_program(block, moments, rows).statistics
    shift = [rng.normal(size=moments[i].coefficients.shape) for i in range(1, len(moments))]

    def moved(size):
        parts = [
            m._replace(coefficients=m.coefficients + size * s)
            for m, s in zip(moments[1:], shift, strict=True)
        ]
        return (moments[0], *parts)

    def log_likelihood(size):
        return float(expectation_program(block, moved(size), rows).log_density)

    def complete(size):
        return float(np.trace(np.asarray(block.cross_score(moved(size), statistics))))

    step = 1e-4
    slope = (log_likelihood(step) - log_likelihood(-step)) / (2 * step)
    expected = (complete(step) - complete(-step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_drawn_values_have_the_conditional_distribution():
    case, rng = CASES["joint"], np.random.default_rng(4)
    block = incomplete(case)
    values = random_values(rng, 1)
    parameters = case.draw(rng)
    copies = np.repeat(np.where(absent()[1], 0.0, values), N_ROWS, axis=0)
    number = np.full((N_ROWS, 1), 1.0)
    rows = pack(np.column_stack([copies, number]))
    moments = parameters.moments()

    def flat(statistics):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(statistics)])

    expected = flat(expectation_program(block, moments, rows).statistics)
    drawn = [
        flat(sampling_program(block, moments, rows, random_key(seed)).statistics)
        for seed in range(200)
    ]
    error = np.std(drawn, axis=0) / np.sqrt(len(drawn))
    assert np.all(np.abs(np.mean(drawn, axis=0) - expected) <= 4.5 * error + 1e-3)
    assert np.count_nonzero(error) > N_CLUSTERS


def test_troubles_are_values_that_no_density_has():
    conditional = CASES["dirichlet"].block
    found = study(conditional.blocks, absent([(1,), (3,), (1, 3)]))
    assert [tuple(t) for t in found.troubles] == [(0, 1, 1)]
    assert found.enters.tolist() == [[True, True], [True, False], [True, False]]
    assert not found.unknown[1:].any()


def test_a_response_that_another_needs_is_integrated_out():
    case = CASES["joint"]
    found = study(case.block.blocks, absent([(1, 2), (1, 2, 3, 4), (4,)]))
    assert not found.troubles
    assert found.enters.tolist() == [
        [True] * 4,
        [True, False, False, False],
        [True, True, False, True],
    ]
    np.testing.assert_array_equal(np.flatnonzero(found.unknown[0]), [1, 2])
    assert not found.unknown[1:].any()
