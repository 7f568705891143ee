"""Coordinates of every posterior: one to one, with the right volume, close to standard normal."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clusterwise.core.runtime import double_precision
from clusterwise.posteriors.covariance import InverseGamma, KnownCovariance
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.known_weights import KnownWeightsPosterior
from clusterwise.posteriors.levels import Levels
from clusterwise.posteriors.rates import Rates
from tests.laws.registry import N_CLUSTERS, PARTS, members, random_values

pytestmark = pytest.mark.long

N_DRAWS = 2000


@cache
@double_precision
def posterior_of(name):
    part, rng = PARTS[name], np.random.default_rng(3)
    values = random_values(rng, 60)
    return part.posterior(values, members(rng.integers(N_CLUSTERS, size=60)))


def free(parameters, posterior):
    """The free entries of parameters, on their constrained scale."""
    if isinstance(posterior, KnownWeightsPosterior):
        return jnp.zeros(0)
    if isinstance(parameters, Weights):
        weights = jnp.exp(parameters.log_weights)[:-1]
        process = hasattr(posterior, "concentration") and not posterior.concentration.known
        return jnp.append(weights, parameters.concentration) if process else weights
    if isinstance(parameters, Rates):
        return jnp.exp(parameters.log_rates)
    if isinstance(parameters, Levels):
        return jnp.exp(parameters.log_probabilities)[:, :-1].ravel()
    coefficients, covariance = parameters.coefficients.ravel(), parameters.covariance
    if isinstance(posterior.covariance, KnownCovariance):
        return coefficients
    if isinstance(posterior.covariance, InverseGamma):
        r = posterior.covariance.shape.shape[1]
        entries = jnp.diagonal(covariance, axis1=1, axis2=2)[:, :r]
    else:
        row, column = np.tril_indices(covariance.shape[-1])
        entries = covariance[:, row, column]
    return jnp.concatenate([coefficients, entries.ravel()])


@pytest.mark.parametrize("name", PARTS)
def test_volume_and_inverse(name):
    posterior = posterior_of(name)

    @jax.jit
    def at(z):
        coordinates = posterior.coordinates()
        parameters, log_det = coordinates.constrain(z)
        jacobian = jax.jacfwd(lambda v: free(coordinates.constrain(v)[0], posterior))(z)
        return parameters, log_det, jacobian, coordinates.unconstrain(parameters)

    size = posterior.coordinates().size
    for seed in range(3):
        z = np.random.default_rng(seed).normal(size=size)
        parameters, log_det, jacobian, back = at(z)
        assert jacobian.shape == (size, size)
        assert float(log_det) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-8)
        np.testing.assert_allclose(back, z, atol=1e-8)
        if isinstance(parameters, Weights):
            assert float(jnp.exp(parameters.log_weights).sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", PARTS)
def test_close_to_standard_normal(name):
    posterior = posterior_of(name)
    keys = jax.random.split(jax.random.key(0), N_DRAWS)

    @jax.jit
    def draw(keys):
        coordinates = posterior.coordinates()
        return jax.lax.map(lambda key: coordinates.unconstrain(posterior.sample(key)), keys)

    z = np.asarray(draw(keys))
    # A logarithm of a gamma number of few degrees of freedom is skew, its moments are exact. The
    # size of the sticks is that at one concentration.
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=0.25)


@pytest.mark.parametrize("name", PARTS)
def test_unnormalised_density_lacks_a_constant(name):
    posterior, part = posterior_of(name), PARTS[name]
    rng = np.random.default_rng(1)
    points = [part.draw(rng, N_CLUSTERS) for _ in range(4)]
    both = jax.jit(lambda p: posterior.log_prob(p) - posterior.unnormalised_log_prob(p))
    lost = np.array([both(point) for point in points])
    np.testing.assert_allclose(lost, lost[0], rtol=1e-10, atol=1e-9)
