"""Laws of the likelihoods: densities, gradients, curvatures, and their expectations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import clusterwise as cw
from clusterwise.regression.likelihood import AbstractLikelihood
from tests.families.registry import FAMILIES

pytestmark = pytest.mark.long

K, ROWS = 3, 16
CLOSED = ("poisson", "gamma")
"""Families whose expectations are formulas, but for one dimension of a known rule."""


@pytest.fixture(params=FAMILIES)
def case(request):
    return FAMILIES[request.param]


def points(case, seed=0, spread=0.7):
    """Responses (n,) and predictors (m, K, n), the constant ones the same in all rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ROWS)
    main, constants = case.predictors(0, x)
    y = case.draw(rng, main, constants)
    moved = main[:, None, :] + spread * rng.normal(size=(len(main), K, ROWS))
    levels = constants[:, None, :] + spread * rng.normal(size=(len(constants), K, 1))
    return y, np.concatenate([moved, levels]), len(main)


def covariances(size, seed=3, scale=0.3):
    """Covariances (m, m, K, 1) of predictors, of all rows."""
    root = scale * np.random.default_rng(seed).normal(size=(size, size, K, 1)) / np.sqrt(size)
    return np.einsum("abkr,cbkr->ackr", root, root)


def test_log_density_is_scipys(case):
    y, at, m = points(case)
    found = case.family.log_prob(jnp.asarray(case.observed(y)), jnp.asarray(at))
    expected = [case.log_density(y, at[:m, k], at[m:, k]) for k in range(K)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_expansion_is_that_of_the_log_density(case):
    y, at, _ = points(case, 1)
    observed, at = jnp.asarray(case.observed(y)), jnp.asarray(at)
    found = case.family.expansion(observed, at)
    expected = AbstractLikelihood.expansion(case.family, observed, at)
    np.testing.assert_allclose(found.value, case.family.log_prob(observed, at), rtol=1e-12)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.curvature, expected.curvature, rtol=1e-7, atol=1e-8)


def test_gradient_is_the_slope_of_scipys_density(case):
    y, at, m = points(case, 2)
    found = case.family.expansion(jnp.asarray(case.observed(y)), jnp.asarray(at))
    for i in range(len(at)):
        moved = np.zeros_like(at)
        moved[i] = 1e-5
        ends = [
            [case.log_density(y, end[:m, k], end[m:, k]) for k in range(K)]
            for end in (at - moved, at + moved)
        ]
        slope = (np.array(ends[1]) - np.array(ends[0])) / 2e-5
        np.testing.assert_allclose(found.gradient[i], slope, rtol=1e-5, atol=1e-5)


def test_families_are_concave_where_they_say_so(case):
    found = []
    for seed in range(20):
        y, at, _ = points(case, seed, spread=2.0)
        curvature = case.family.expansion(jnp.asarray(case.observed(y)), jnp.asarray(at)).curvature
        found.append(np.linalg.eigvalsh(np.moveaxis(np.asarray(curvature), (0, 1), (2, 3))).min())
    assert (min(found) > -1e-9) == case.family.concave


def test_expectations_are_averages_over_normal_predictors(case):
    y, at, _ = points(case, 4, spread=0.3)
    observed, size = jnp.asarray(case.observed(y)), len(at)
    # Rules of few nodes are close where predictors are known as well as they are in a fit.
    closed = case.family.name in CLOSED or size == 1
    scale = 0.3 if closed else 0.1
    spread = np.broadcast_to(covariances(size, scale=scale), (size, size, K, ROWS))
    found = case.family.expected(observed, jnp.asarray(at), jnp.asarray(spread))
    # A product rule of many nodes on each axis.
    nodes, weights = np.polynomial.hermite_e.hermegauss({1: 60, 2: 30}.get(size, 18))
    grid = np.array(np.meshgrid(*[nodes] * size)).reshape(size, -1)
    shares = np.prod(np.array(np.meshgrid(*[weights / weights.sum()] * size)), axis=0).ravel()
    roots = np.linalg.cholesky(np.moveaxis(spread, (0, 1), (2, 3)) + 1e-14 * np.eye(size))
    moved = at[..., None] + np.einsum("krab,bg->akrg", roots, grid)

    @jax.jit
    def at_nodes(points):
        own = jax.lax.map(lambda p: case.family.expansion(observed, p), jnp.moveaxis(points, -1, 0))
        return jax.tree.map(lambda leaf: jnp.tensordot(jnp.asarray(shares), leaf, 1), own)

    expected = at_nodes(jnp.asarray(moved))
    tolerance = 1e-6 if closed else 2e-3 if size == 2 else 2e-2
    for own, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(own, other, atol=tolerance * scale, rtol=tolerance)


def test_expectations_without_spread_are_values_at_the_point(case):
    y, at, _ = points(case, 5)
    observed, size = jnp.asarray(case.observed(y)), len(at)
    zero = jnp.zeros((size, size, K, ROWS))
    found = case.family.expected(observed, jnp.asarray(at), zero)
    expected = case.family.expansion(observed, jnp.asarray(at))
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-9)


def test_expected_gradient_and_curvature_are_derivatives(case):
    """Of the expected log density, by the mean and, but for a factor, by the variance."""
    y, at, _ = points(case, 6, spread=0.3)
    observed, size = jnp.asarray(case.observed(y)), len(at)
    spread = np.array(np.broadcast_to(covariances(size, scale=0.2), (size, size, K, ROWS)))
    spread += 0.01 * np.eye(size)[:, :, None, None]
    closed = case.family.name in CLOSED or size == 1
    tolerance = 1e-5 if closed else 5e-3 if size == 2 else 3e-2

    @jax.jit
    def value(mean, covariance):
        return case.family.expected(observed, mean, covariance)

    found = value(jnp.asarray(at), jnp.asarray(spread))
    step = 1e-4
    for i in range(size):
        moved = np.zeros_like(at)
        moved[i] = step
        slope = (value(at + moved, spread).value - value(at - moved, spread).value) / (2 * step)
        scale = np.abs(found.gradient[i]).max()
        np.testing.assert_allclose(found.gradient[i], slope, atol=tolerance * scale)
        for j in range(i + 1):
            wider = np.zeros_like(spread)
            wider[i, j] += step / 2
            wider[j, i] += step / 2
            rise = (value(at, spread + wider).value - value(at, spread - wider).value) / (2 * step)
            scale = np.abs(found.curvature).max()
            np.testing.assert_allclose(-found.curvature[i, j] / 2, rise, atol=tolerance * scale)


def test_expected_gamma_density_is_right_where_the_shape_is_hardly_known():
    """Tails that nodes do not reach would make the bound of a wide posterior as large as any."""
    family, y = cw.GammaResponse(), 1.7
    for middle, spread in ((0.0, 0.3), (1.0, 2.0), (0.5, 4.0)):

        def density(a, middle=middle, spread=spread):
            shape = np.exp(a)
            own = stats.gamma.logpdf(y, shape, scale=np.exp(0.3) / shape)
            return own * stats.norm.pdf(a, middle, spread)

        exact = integrate.quad(density, middle - 12 * spread, middle + 15 * spread, limit=500)[0]
        covariance = np.zeros((2, 2, 1, 1))
        covariance[1, 1] = spread**2
        mean = np.array([0.3, middle]).reshape(2, 1, 1)
        found = family.expected(np.array([[y]]), jnp.asarray(mean), jnp.asarray(covariance))
        assert found.value[0, 0] == pytest.approx(exact, rel=1e-4)
