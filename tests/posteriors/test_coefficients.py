"""Normal coefficients, some of them shared, against dense normal distributions of all of them."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clusterwise.posteriors.coefficients import Coefficients, NormalCoefficients

K, D = 3, 4
SHARED = [(), (1,), (3, 0), (0, 1, 2, 3)]
N_DRAWS = 40_000


def random_precision(rng, *lead):
    root = rng.normal(size=(*lead, D, D + 2))
    return root @ np.swapaxes(root, -1, -2)


class Dense:
    """One normal over each cluster's own coefficients in turn, then the shared ones."""

    def __init__(self, shared, mean, precision):
        """The prior: shared coefficients are independent, once, with the first cluster's prior."""
        own = [i for i in range(D) if i not in shared]
        size = K * len(own) + len(shared)
        self.places = np.zeros((K, D), int)
        for k in range(K):
            self.places[k, own] = k * len(own) + np.arange(len(own))
            self.places[k, list(shared)] = K * len(own) + np.arange(len(shared))
        self.precision, self.mean = np.zeros((size, size)), np.zeros(size)
        for k in reversed(range(K)):
            self.mean[self.places[k]] = mean[k]
            at = self.places[k, own]
            self.precision[np.ix_(at, at)] = precision[k][np.ix_(own, own)]
        at = self.places[0, list(shared)]
        self.precision[np.ix_(at, at)] = precision[0][np.ix_(list(shared), list(shared))]

    def update(self, precision, shift):
        right = self.precision @ self.mean
        for k in range(K):
            self.precision[np.ix_(self.places[k], self.places[k])] += precision[k]
            right[self.places[k]] += shift[k]
        self.mean = np.linalg.solve(self.precision, right)

    @property
    def covariance(self):
        return np.linalg.inv(self.precision)

    @property
    def normal(self):
        return stats.multivariate_normal(self.mean, self.covariance)

    def by_cluster(self, vector):
        return vector[..., self.places]

    def vector(self, values):
        found = np.zeros(self.mean.size)
        found[self.places] = values
        return found

    def kl(self, other):
        gap = other.mean - self.mean
        logs = np.linalg.slogdet(self.precision)[1] - np.linalg.slogdet(other.precision)[1]
        trace = np.trace(other.precision @ self.covariance)
        return 0.5 * (trace - gap.size + gap @ other.precision @ gap + logs)


def make(shared, seed, updates=1):
    """A distribution and its dense counterpart, after some updates of a random prior."""
    rng = np.random.default_rng(seed)
    mean, precision = rng.normal(size=(K, D)), random_precision(rng, K)
    mean[:, list(shared)] = mean[0, list(shared)]
    found = NormalCoefficients.independent_of(jnp.asarray(mean), jnp.asarray(precision), shared)
    dense = Dense(shared, mean, precision)
    for _ in range(updates):
        more, shift = random_precision(rng, K), rng.normal(size=(K, D))
        found = found.updated(jnp.asarray(more), jnp.asarray(shift))
        dense.update(more, shift)
    return found, dense


@pytest.fixture(params=SHARED, ids=str)
def shared(request):
    return request.param


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_updates_are_those_of_one_dense_normal(shared, updates):
    found, dense = make(shared, 1, updates)
    np.testing.assert_allclose(found.mean, dense.by_cluster(dense.mean), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(found.mode().values, found.mean)


def test_moments_have_the_covariance_of_each_cluster(shared):
    found, dense = make(shared, 2)
    values, spread = found.moments()
    np.testing.assert_allclose(values, dense.by_cluster(dense.mean), rtol=1e-9, atol=1e-10)
    for k, at in enumerate(dense.places):
        own = dense.covariance[np.ix_(at, at)]
        np.testing.assert_allclose(spread[k].T @ spread[k], own, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.spread().rows[k], own, rtol=1e-8, atol=1e-10)


def test_log_densities_are_those_of_one_dense_normal(shared):
    found, dense = make(shared, 3)
    at = [dense.normal.rvs(random_state=seed) for seed in range(3)]
    own = [Coefficients(jnp.asarray(dense.by_cluster(vector))) for vector in at]
    expected = [dense.normal.logpdf(vector) for vector in at]
    np.testing.assert_allclose([found.log_prob(one) for one in own], expected, rtol=1e-9)
    for one, other in pairwise(range(3)):
        gap = expected[one] - expected[other]
        kernels = [found.log_kernel(own[one]), found.unnormalised_log_prob(own[other])]
        assert kernels[0] - kernels[1] == pytest.approx(gap, rel=1e-8)
    assert found.log_kernel(found.mode()) == pytest.approx(0, abs=1e-12)


def test_log_density_by_cluster():
    found, dense = make((), 4)
    values = dense.by_cluster(dense.normal.rvs(random_state=0))
    expected = [
        stats.multivariate_normal(
            dense.mean[at], np.linalg.inv(dense.precision[np.ix_(at, at)])
        ).logpdf(own)
        for at, own in zip(dense.places, values, strict=True)
    ]
    by_cluster = found.log_prob_by_cluster(Coefficients(jnp.asarray(values)))
    np.testing.assert_allclose(by_cluster, expected, rtol=1e-9)


def test_divergences_are_those_of_dense_normals(shared):
    (found, dense), (prior, dense_prior) = make(shared, 5, 2), make(shared, 6, 1)
    assert found.kl(prior) == pytest.approx(dense.kl(dense_prior), rel=1e-9)
    assert found.kl(found) == pytest.approx(0, abs=1e-9)


def test_draws_have_the_distribution_of_the_dense_normal(shared):
    found, dense = make(shared, 7)
    keys = jax.random.split(jax.random.key(1), N_DRAWS)
    drawn = np.asarray(jax.vmap(found.sample)(keys).values)
    for place in shared:
        assert np.all(drawn[:, :, place] == drawn[:, :1, place])
    vectors = np.array([dense.vector(one) for one in drawn])
    root = np.linalg.cholesky(dense.precision)
    standard = (vectors - dense.mean) @ root
    size, limit = dense.mean.size, 5 / np.sqrt(N_DRAWS)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=limit)
    np.testing.assert_allclose(np.cov(standard.T), np.eye(size), atol=limit * np.sqrt(2))


def test_coordinates_are_standard_and_go_back(shared):
    found, dense = make(shared, 8)
    coordinates = found.coordinates()
    rng = np.random.default_rng(9)
    assert coordinates.size == dense.mean.size
    z = rng.normal(size=coordinates.size)
    values, log_det = coordinates.constrain(jnp.asarray(z))
    np.testing.assert_allclose(coordinates.unconstrain(values), z, rtol=1e-8, atol=1e-9)
    # In these coordinates the distribution is standard normal.
    density = dense.normal.logpdf(dense.vector(values.values)) + log_det
    assert density == pytest.approx(stats.norm.logpdf(z).sum(), rel=1e-9)
    jacobian = jax.jacobian(lambda own: coordinates.constrain(own)[0].values)(jnp.asarray(z))
    whole = np.zeros((coordinates.size, coordinates.size))
    whole[dense.places] = jacobian
    assert log_det == pytest.approx(np.linalg.slogdet(whole)[1], rel=1e-9)


def test_blending_goes_from_one_to_the_other(shared):
    (one, _), (other, _) = make(shared, 10), make(shared, 11)
    for rate, end in ((0.0, one), (1.0, other)):
        blended = jax.tree.leaves(one.blended(other, jnp.asarray(rate)))
        for leaf, expected in zip(blended, jax.tree.leaves(end), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-9, atol=1e-12)


def test_a_point_has_no_spread():
    values, spread = Coefficients(jnp.ones((K, D))).moments()
    assert values.shape == (K, D)
    assert spread.shape == (K, 0, D)
