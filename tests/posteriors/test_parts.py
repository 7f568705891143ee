"""Every block's posterior: conjugate, normalised, and what it says of its draws is true."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from clusterwise.core.runtime import double_precision
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.matrix_normal import LinearParameters
from tests.laws.registry import (
    LINEAR,
    N_CLUSTERS,
    PARTS,
    WEIGHTS,
    members,
    random_values,
)

N = 20
_DRAWS = 4000


@jax.jit
def draws_program(posterior, keys):
    return jax.lax.map(posterior.sample, keys)


@jax.jit
def evaluate_program(posterior, prior, draws):
    """Log densities under both, and moments, of each draw."""

    def one(draw):
        return posterior.log_prob(draw), prior.log_prob(draw), draw.moments()

    return jax.vmap(one)(draws)


@jax.jit
def density_program(posterior, prior, point):
    kernels = posterior.log_kernel(point), prior.log_kernel(point)
    return posterior.log_prob(point), prior.log_prob(point), *kernels


@jax.jit
def kl_program(posterior, prior):
    return posterior.kl(prior)


@jax.jit
def kernel_program(posterior, point):
    return posterior.log_kernel(point)


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
    keys = jax.random.split(jax.random.key(5, impl="rbg"), _DRAWS)
    draws = draws_program(posterior, keys)
    return posterior, other, draws, evaluate_program(posterior, other, draws)


def close_on_average(sample, expected, errors=5.0):
    sample = np.asarray(sample)
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert np.all(np.abs(sample.mean(axis=0) - np.asarray(expected)) <= errors * error + 1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_posterior_is_prior_times_likelihood_over_marginal(name):
    part = PARTS[name]
    values, labels, rng = labelled_rows(1)
    prior, posterior = part.prior(N_CLUSTERS), part.posterior(values, members(labels))
    log_marginal = part.log_marginal(values, labels, N_CLUSTERS)
    lost = []
    for _ in range(4):
        point = part.draw(rng, N_CLUSTERS)
        log_likelihood = part.log_density(point, values)[np.arange(N), labels].sum()
        after, before, kernel_after, kernel_before = map(
            float, density_program(posterior, prior, point)
        )
        assert after - before == pytest.approx(log_likelihood - log_marginal, rel=1e-7, abs=1e-6)
        lost.append(kernel_after - kernel_before - log_likelihood)
    # What EM maximises: the kernels differ by the likelihood, up to a constant.
    np.testing.assert_allclose(lost, lost[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in PARTS if PARTS[name].flat is not None])
def test_flat_prior_adds_nothing(name):
    part = PARTS[name]
    values, labels, rng = labelled_rows(2)
    prior = part.flat(N_CLUSTERS)
    mode = part.posterior(values, members(labels), prior).mode()
    best = part.log_density(mode, values)[np.arange(N), labels].sum()
    assert abs(float(kernel_program(prior, mode))) < 1e-6
    for _ in range(20):
        point = move(mode, rng, 0.05)
        worse = part.log_density(point, values)[np.arange(N), labels].sum()
        assert worse < best + 1e-7


@pytest.mark.parametrize("name", PARTS)
def test_divergence_is_expected_log_likelihood_less_log_marginal(name):
    part = PARTS[name]
    values, labels, _ = labelled_rows(3)
    prior, posterior = part.prior(N_CLUSTERS), part.posterior(values, members(labels))
    expected = (
        np.sum(part.scores(posterior.moments(), values) * members(labels))
        - part.log_marginal(values, labels, N_CLUSTERS)
    )  # fmt: skip
    assert float(kl_program(posterior, prior)) == pytest.approx(expected, rel=1e-7, abs=1e-6)


@pytest.mark.parametrize("name", PARTS)
def test_divergence_is_the_average_log_ratio(name):
    posterior, other, _, (log_q, log_p, _) = drawn(name)
    divergence = float(kl_program(posterior, other))
    assert divergence >= 0
    close_on_average(np.asarray(log_q) - np.asarray(log_p), divergence)
    assert abs(float(kl_program(posterior, posterior))) < 1e-9


@pytest.mark.parametrize("name", PARTS)
def test_expected_score_is_the_average_over_draws(name):
    part = PARTS[name]
    posterior, _, _, (_, _, moments) = drawn(name)
    values = random_values(np.random.default_rng(4), 8)
    expected = part.scores(posterior.moments(), values)
    constants, factors = jax.vmap(part.block.quadratic)(moments)
    constants, factors = np.asarray(constants), np.asarray(factors)
    own = values[:, list(part.block.columns)]
    sample = np.broadcast_to(constants[:, :, None], (*constants.shape, len(values)))
    if own.size:
        whitened = np.einsum("dkmc,nc->dkmn", factors, own)
        sample = sample - 0.5 * np.square(whitened).sum(axis=2)
    close_on_average(sample, expected)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_moments_are_averages_of_draws(name):
    posterior, _, draws, (_, _, moments) = drawn(name)
    expected = posterior.moments()
    close_on_average(moments.coefficients, expected.coefficients)
    close_on_average(moments.precision.log_det, expected.precision.log_det)
    whitening = np.asarray(moments.precision.whitening)
    precision = np.swapaxes(whitening, -1, -2) @ whitening
    mean = np.asarray(expected.precision.whitening)
    close_on_average(precision, np.swapaxes(mean, -1, -2) @ mean)
    inverse = np.broadcast_to(np.linalg.inv(np.asarray(draws.covariance)), precision.shape)
    np.testing.assert_allclose(precision, inverse, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_moments_are_averages_of_draws(name):
    posterior, _, draws, _ = drawn(name)
    expected = posterior.moments()
    weights = np.exp(np.asarray(draws.log_weights))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    close_on_average(draws.log_weights, expected.log_weights)
    close_on_average(draws.concentration, expected.concentration)


def move(parameters, rng, size):
    """A random step in unconstrained coordinates."""
    if isinstance(parameters, Weights):
        step = size * rng.normal(size=parameters.log_weights.shape)
        moved = jax.nn.log_softmax(parameters.log_weights + step)
        return Weights(moved, parameters.concentration)
    coefficients = parameters.coefficients + size * rng.normal(size=parameters.coefficients.shape)
    return LinearParameters(coefficients, parameters.covariance)


def move_covariance(covariance, posterior, rng, size):
    """Scale covariances from both sides, within their form."""
    t, q = covariance.shape[:2]
    kind = type(posterior.covariance).__name__
    if kind == "KnownCovariance":
        return covariance
    if kind == "InverseGamma":
        r = posterior.covariance.shape.shape[1]
        step = np.broadcast_to(np.exp(size * rng.normal(size=(t, r))), (t, q))
        return covariance * step[:, :, None]
    steps = rng.normal(size=(t, q, q))
    scaled = [
        linalg.sqrtm(c).real @ linalg.expm(size * (s + s.T)) @ linalg.sqrtm(c).real
        for c, s in zip(np.asarray(covariance), steps, strict=True)
    ]
    return jnp.asarray(np.stack(scaled))


@pytest.mark.parametrize("name", PARTS)
def test_mode_maximises_the_kernel(name):
    part = PARTS[name]
    values, labels, _ = labelled_rows(5)
    posterior = part.posterior(values, members(labels))
    mode = posterior.mode()
    best = float(kernel_program(posterior, mode))

    def kernel(seed, size):
        step_rng = np.random.default_rng(seed)
        point = move(mode, step_rng, size)
        if isinstance(mode, LinearParameters):
            covariance = move_covariance(mode.covariance, posterior, step_rng, size)
            point = LinearParameters(point.coefficients, covariance)
        return float(kernel_program(posterior, point))

    for seed in range(12):
        slope = (kernel(seed, 1e-4) - kernel(seed, -1e-4)) / 2e-4
        assert abs(slope) < 1e-4
        assert kernel(seed, 0.3) < best
        assert kernel(seed, -0.02) < best


@pytest.mark.parametrize("name", ["dirichlet process", "pitman-yor"])
def test_mode_of_the_concentration_is_best_on_its_grid(name):
    values, labels, rng = labelled_rows(6)
    posterior = PARTS[name].posterior(values, members(labels))
    mode = posterior.mode()
    best = float(kernel_program(posterior, mode))
    for step in (*range(-20, 0), *range(1, 21)):
        concentration = mode.concentration * np.exp(0.1 * step)
        assert float(kernel_program(posterior, Weights(mode.log_weights, concentration))) < best
        moved = Weights(move(mode, rng, 0.02).log_weights, concentration)
        assert float(kernel_program(posterior, moved)) < best
