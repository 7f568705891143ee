"""Every block's posterior: conjugate, normalised, and what it says of its draws is true."""

from functools import cache

import jax
import numpy as np
import pytest
from scipy import linalg, special

from clusterwise.core.random import random_key
from clusterwise.core.runtime import double_precision
from clusterwise.posteriors.covariance import InverseGamma, KnownCovariance
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.known_weights import KnownWeightsPosterior
from clusterwise.posteriors.levels import Levels
from clusterwise.posteriors.matrix_normal import LinearParameters
from clusterwise.posteriors.rates import Rates
from tests.laws.registry import (
    COUNTED,
    LINEAR,
    N_CLUSTERS,
    PARTS,
    WEIGHTS,
    members,
    random_values,
)

pytestmark = pytest.mark.long

N = 20
N_DRAWS = 4000


@jax.jit
def draws_program(posterior, keys):
    return jax.lax.map(posterior.sample, keys)


@jax.jit
def densities_program(posterior, points):
    return jax.lax.map(lambda p: (posterior.log_prob(p), posterior.log_kernel(p)), points)


@jax.jit
def kl_program(posterior, prior):
    return posterior.kl(prior)


def densities(posterior, points):
    """Log densities and kernels at a list of points; one program for any number of them."""
    padded = [*points, *points[:1] * (N_DRAWS - len(points))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
    found = densities_program(posterior, stacked)
    return tuple(np.asarray(value)[: len(points)] for value in found)


def labelled_rows(seed):
    rng = np.random.default_rng(seed)
    values = random_values(rng, N)
    return values, rng.integers(N_CLUSTERS, size=N), rng


@cache
@double_precision
def drawn(name):
    """A posterior, another one, and draws of the first."""
    part = PARTS[name]
    values, labels, rng = labelled_rows(11)
    posterior = part.posterior(values, members(labels))
    other = part.posterior(random_values(rng, N)[:12], rng.random((N_CLUSTERS, 12)))
    keys = jax.random.split(random_key(5), N_DRAWS)
    return posterior, other, draws_program(posterior, keys)


def close_on_average(sample, expected, errors=5.0):
    sample = np.asarray(sample)
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert np.all(np.abs(sample.mean(axis=0) - np.asarray(expected)) <= errors * error + 1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_score_is_scipys_log_density(name):
    part, rng = PARTS[name], np.random.default_rng(0)
    values = random_values(rng, N)
    for _ in range(3):
        point = part.draw(rng, N_CLUSTERS)
        expected = part.log_density(point, values)
        found = part.scores(point.moments(), values).T
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PARTS)
def test_posterior_is_prior_times_likelihood_over_marginal(name):
    part = PARTS[name]
    values, labels, rng = labelled_rows(1)
    prior, posterior = part.prior(N_CLUSTERS), part.posterior(values, members(labels))
    log_marginal = part.log_marginal(values, labels, N_CLUSTERS)
    points = [part.draw(rng, N_CLUSTERS) for _ in range(5)]
    log_likelihood = np.array(
        [part.log_density(point, values)[np.arange(N), labels].sum() for point in points]
    )
    after, kernel_after = densities(posterior, points)
    before, kernel_before = densities(prior, points)
    np.testing.assert_allclose(after - before, log_likelihood - log_marginal, rtol=1e-7, atol=1e-6)
    # What EM maximises: the kernels differ by the likelihood, up to a constant.
    lost = kernel_after - kernel_before - log_likelihood
    np.testing.assert_allclose(lost, lost[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in PARTS if PARTS[name].flat is not None])
def test_flat_prior_adds_nothing(name):
    part = PARTS[name]
    values, labels, _ = labelled_rows(2)
    prior = part.flat(N_CLUSTERS)
    posterior = part.posterior(values, members(labels), prior)
    mode = posterior.mode()
    best = part.log_density(mode, values)[np.arange(N), labels].sum()
    assert np.abs(densities(prior, [mode])[1]) < 1e-6
    for seed in range(20):
        point = move(mode, posterior, seed, 0.05)
        worse = part.log_density(point, values)[np.arange(N), labels].sum()
        assert worse < best + 1e-7


@pytest.mark.parametrize("name", PARTS)
def test_divergence_is_expected_log_likelihood_less_log_marginal(name):
    part = PARTS[name]
    values, labels, _ = labelled_rows(3)
    prior, posterior = part.prior(N_CLUSTERS), part.posterior(values, members(labels))
    scores = part.scores(posterior.moments(), values)
    expected = np.sum(scores * members(labels)) - part.log_marginal(values, labels, N_CLUSTERS)
    assert float(kl_program(posterior, prior)) == pytest.approx(expected, rel=1e-7, abs=1e-6)


@pytest.mark.parametrize("name", PARTS)
def test_divergence_is_the_average_log_ratio(name):
    posterior, other, draws = drawn(name)
    divergence = float(kl_program(posterior, other))
    assert divergence >= 0
    log_q, log_p = (densities_program(q, draws)[0] for q in (posterior, other))
    close_on_average(np.asarray(log_q) - np.asarray(log_p), divergence)
    assert abs(float(kl_program(posterior, posterior))) < 1e-9


@pytest.mark.parametrize("name", LINEAR)
def test_linear_moments_are_averages_of_draws(name):
    part = PARTS[name]
    posterior, _, draws = drawn(name)
    expected = posterior.moments()
    coefficients, covariance = np.asarray(draws.coefficients), np.asarray(draws.covariance)
    k, q = coefficients.shape[1], covariance.shape[-1]
    precision = np.broadcast_to(np.linalg.inv(covariance), (N_DRAWS, k, q, q))
    log_det = np.broadcast_to(np.linalg.slogdet(precision)[1], (N_DRAWS, k))
    whitening = np.asarray(expected.precision.whitening)
    close_on_average(coefficients, expected.coefficients)
    close_on_average(log_det, expected.precision.log_det)
    close_on_average(precision, np.swapaxes(whitening, -1, -2) @ whitening)
    # The expected score is the average score.
    values = random_values(np.random.default_rng(4), 8)
    x, y = (values[:, list(c)] for c in (part.block.regressors, part.block.responses))
    error = y[None, None] - np.einsum("np,dkpq->dknq", x, coefficients)
    square = np.einsum("dknq,dkqr,dknr->dkn", error, precision, error)
    score = 0.5 * (log_det - q * np.log(2 * np.pi))[:, :, None] - 0.5 * square
    close_on_average(score, part.scores(expected, values))


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_moments_are_averages_of_draws(name):
    posterior, _, draws = drawn(name)
    expected = posterior.moments()
    weights = np.exp(np.asarray(draws.log_weights))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    close_on_average(draws.log_weights, expected.log_weights)
    close_on_average(draws.concentration, expected.concentration)


@pytest.mark.parametrize("name", LINEAR)
def test_predictive_density_is_the_average_density_of_draws(name):
    part = PARTS[name]
    posterior, _, draws = drawn(name)
    # Not far out, where a few draws make the average.
    values = 0.5 * random_values(np.random.default_rng(5), 8)
    x, y = (values[:, list(c)] for c in (part.block.regressors, part.block.responses))
    coefficients, covariance = np.asarray(draws.coefficients), np.asarray(draws.covariance)
    error = y[None, None] - np.einsum("np,dkpq->dknq", x, coefficients)
    precision = np.linalg.inv(covariance)
    precision = np.broadcast_to(precision, (*coefficients.shape[:2], *precision.shape[2:]))
    square = np.einsum("dknq,dkqr,dknr->dkn", error, precision, error)
    log_det = np.linalg.slogdet(precision / (2 * np.pi))[1][:, :, None]
    predictive = jax.tree.map(np.asarray, posterior.predictive())
    close_on_average(np.exp(0.5 * (log_det - square)), np.exp(predictive.log_density(x, y).T))


@pytest.mark.parametrize("name", COUNTED)
def test_moments_and_predictions_of_counts_are_averages_of_draws(name):
    part = PARTS[name]
    posterior, _, draws = drawn(name)
    (drawn_log,) = draws.__dict__.values()
    (logs,) = [v for n, v in posterior.moments()._asdict().items() if n.startswith("log")]
    close_on_average(drawn_log, logs)
    values = random_values(np.random.default_rng(5), 8)
    points = [jax.tree.map(lambda leaf, i=i: leaf[i], draws) for i in range(0, N_DRAWS, 20)]
    density = np.exp([part.log_density(point, values).T for point in points])
    predictive = jax.tree.map(np.asarray, posterior.predictive())
    y = values[:, [c for c in part.block.columns if c]]
    close_on_average(density, np.exp(predictive.log_density(values[:, :1], y).T))
    spread = np.asarray(posterior.spread())
    np.testing.assert_allclose(np.exp(drawn_log).var(axis=0), spread, rtol=0.15)


@pytest.mark.parametrize("name", WEIGHTS)
def test_predictive_weights_are_averages_of_draws(name):
    posterior, _, draws = drawn(name)
    close_on_average(np.exp(np.asarray(draws.log_weights)), np.exp(posterior.predictive()))


def move(point, posterior, seed, size):
    """A step in unconstrained coordinates, in a direction that the seed gives."""
    rng = np.random.default_rng(seed)
    if isinstance(posterior, KnownWeightsPosterior):
        return point
    if isinstance(point, Weights):
        moved = np.asarray(point.log_weights) + size * rng.normal(size=point.log_weights.shape)
        return Weights(moved - special.logsumexp(moved), np.asarray(point.concentration))
    if isinstance(point, Rates):
        return Rates(point.log_rates + size * rng.normal(size=point.log_rates.shape))
    if isinstance(point, Levels):
        moved = point.log_probabilities + size * rng.normal(size=point.log_probabilities.shape)
        return Levels(special.log_softmax(moved, axis=1))
    coefficients = np.asarray(point.coefficients)
    coefficients = coefficients + size * rng.normal(size=coefficients.shape)
    covariance = _move_covariance(np.asarray(point.covariance), posterior.covariance, rng, size)
    return LinearParameters(coefficients, covariance)


def _move_covariance(covariance, posterior, rng, size):
    """Scale covariances from both sides, within their form."""
    t, q = covariance.shape[:2]
    if isinstance(posterior, KnownCovariance):
        return covariance
    if isinstance(posterior, InverseGamma):
        r = posterior.shape.shape[1]
        return covariance * np.exp(size * rng.normal(size=(t, r)))[:, :, None]
    moved = []
    for own in covariance:
        step, root = rng.normal(size=(q, q)), np.linalg.cholesky(own)
        moved.append(root @ linalg.expm(size * (step + step.T)) @ root.T)
    return np.stack(moved)


@pytest.mark.parametrize("name", PARTS)
def test_mode_maximises_the_kernel(name):
    part = PARTS[name]
    values, labels, _ = labelled_rows(5)
    posterior = part.posterior(values, members(labels))
    mode = jax.tree.map(np.asarray, posterior.mode())
    sizes = (1e-4, -1e-4, 0.3, -0.02)
    points = [move(mode, posterior, seed, size) for seed in range(12) for size in sizes]
    kernel = densities(posterior, [mode, *points])[1]
    best, kernel = kernel[0], kernel[1:].reshape(12, 4)
    assert np.all(np.abs(kernel[:, 0] - kernel[:, 1]) / 2e-4 < 1e-4)
    if posterior.coordinates().size:
        assert np.all(kernel[:, 2:] < best)


@pytest.mark.parametrize("name", ["dirichlet process", "pitman-yor"])
def test_mode_of_the_concentration_is_best_on_its_grid(name):
    values, labels, _ = labelled_rows(6)
    posterior = PARTS[name].posterior(values, members(labels))
    mode = jax.tree.map(np.asarray, posterior.mode())
    steps = [0, *range(-20, 0), *range(1, 21)]
    concentrations = [mode.concentration * np.exp(0.1 * step) for step in steps]
    moved = [move(mode, posterior, seed, 0.02).log_weights for seed in range(len(steps))]
    same = [Weights(mode.log_weights, value) for value in concentrations]
    other = [Weights(w, value) for w, value in zip(moved, concentrations, strict=True)]
    kernel = densities(posterior, [*same, *other])[1]
    assert np.all(kernel[1:] < kernel[0])
