"""Densities and draws against SciPy's own distributions."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from clusterwise.core.random import random_key
from clusterwise.posteriors.covariance import InverseGamma, InverseWishart, KnownCovariance
from clusterwise.posteriors.dirichlet import DirichletPosterior, Weights
from clusterwise.posteriors.matrix_normal import LinearParameters, MatrixNormal
from clusterwise.posteriors.specification import Gamma
from clusterwise.posteriors.stick_breaking import StickBreakingPosterior
from clusterwise.weights.specification import DirichletProcess, PitmanYor
from tests.laws.registry import LINEAR, PARTS, WEIGHTS
from tests.posteriors.test_parts import N_DRAWS, drawn

pytestmark = pytest.mark.long

_LEAST_P = 1e-5


def random_spd(rng, k, q):
    return stats.wishart(q + 3, np.eye(q)).rvs(k, random_state=rng).reshape(k, q, q)


def close(found, expected):
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_inverse_wishart_density(q):
    rng = np.random.default_rng(q)
    dof, scale, value = q + 1 + rng.random(2), random_spd(rng, 2, q), random_spd(rng, 2, q)
    expected = sum(stats.invwishart(dof[j], scale[j]).logpdf(value[j]) for j in range(2))
    found = InverseWishart(jnp.asarray(dof), jnp.asarray(scale))
    close(found.log_prob(jnp.asarray(value)), expected)
    if q == 1:
        gammas = stats.invgamma(dof / 2, scale=scale[:, 0, 0] / 2)
        close(found.log_prob(jnp.asarray(value)), gammas.logpdf(value[:, 0, 0]).sum())


@pytest.mark.parametrize("r", [1, 3])
def test_inverse_gamma_density(r):
    rng = np.random.default_rng(r)
    shape, rate, value = 1 + rng.random((3, 2, r))
    covariance = np.broadcast_to(value, (2, 3))[:, :, None] * np.eye(3)
    found = InverseGamma(jnp.asarray(shape), jnp.asarray(rate), 3)
    expected = stats.invgamma(shape, scale=rate).logpdf(value).sum()
    close(found.log_prob(jnp.asarray(covariance)), expected)


@pytest.mark.parametrize(("p", "q"), [(1, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("shared", [False, True])
def test_matrix_normal_density(p, q, shared):
    rng = np.random.default_rng(p + q)
    k, t = 2, 1 if shared else 2
    precision, scale, covariance = (
        random_spd(rng, k, p),
        random_spd(rng, t, q),
        random_spd(rng, t, q),
    )
    mean, coefficients = rng.normal(size=(2, k, p, q))
    dof = q + 1 + rng.random(t)
    expected = sum(stats.invwishart(dof[j], scale[j]).logpdf(covariance[j]) for j in range(t))
    for j in range(k):
        own = covariance[j if t > 1 else 0]
        normal = stats.matrix_normal(mean[j], np.linalg.inv(precision[j]), own)
        expected += normal.logpdf(coefficients[j])
    posterior = MatrixNormal(
        jnp.asarray(mean),
        jnp.asarray(precision),
        InverseWishart(jnp.asarray(dof), jnp.asarray(scale)),
    )
    point = LinearParameters(jnp.asarray(coefficients), jnp.asarray(covariance))
    close(posterior.log_prob(point), expected)


def test_dirichlet_density():
    alpha, weights = np.array([0.3, 2.0, 5.5]), np.array([0.2, 0.5, 0.3])
    found = DirichletPosterior(jnp.asarray(alpha)).log_prob(
        Weights(jnp.log(weights), jnp.asarray(0.0))
    )
    close(found, stats.dirichlet(alpha).logpdf(weights))


def sticks_of(weights):
    left = np.concatenate([[1.0], 1 - np.cumsum(weights)[:-1]])
    return (weights / left)[:-1], left[:-1]


@pytest.mark.parametrize("discount", [0.0, 0.4])
@pytest.mark.parametrize("known", [False, True])
def test_stick_breaking_density(discount, known):
    weights, value = np.array([0.35, 0.3, 0.25, 0.1]), 0.8
    sticks, left = sticks_of(weights)
    prior = PitmanYor(discount, value if known else Gamma(3.0, 2.0)).prior(4, flat=False)
    beta = stats.beta(1 - discount, value + discount * np.arange(1, 4))
    expected = beta.logpdf(sticks).sum() - np.log(left).sum()
    if not known:
        expected += stats.gamma(3.0, scale=0.5).logpdf(value)
    found = prior.log_prob(Weights(jnp.log(weights), jnp.asarray(value)))
    np.testing.assert_allclose(float(found), expected, rtol=1e-7)


def test_pitman_yor_without_discount_is_the_dirichlet_process():
    one = PitmanYor(0.0, Gamma(1.5, 2.0)).prior(5, flat=False)
    other = DirichletProcess(Gamma(1.5, 2.0)).prior(5, flat=False)
    count = jnp.asarray([9.0, 4.5, 3.0, 0.0, 1.0])
    after = [prior.updated(count, prior.moments()) for prior in (one, other)]
    for method in ("moments", "mode"):
        for a, b in zip(*(jax.tree.leaves(getattr(q, method)()) for q in after), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(after[0].kl(one), after[1].kl(other), rtol=1e-12)


def test_concentration_given_sticks_is_gamma():
    # Escobar and West (1995): shape + number of sticks, rate less the logs of what they leave.
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    sticks, _ = sticks_of(weights)
    gamma = stats.gamma(2.0 + 4, scale=1 / (1.5 - np.log1p(-sticks).sum()))
    prior = DirichletProcess(Gamma(2.0, 1.5)).prior(5, flat=False)
    posterior = prior.updated(jnp.asarray([8.0, 6.0, 3.0, 2.0, 1.0]), prior.moments())
    for distribution in (prior, posterior):
        rest = [
            float(distribution.log_prob(Weights(jnp.log(weights), jnp.asarray(value))))
            - gamma.logpdf(value)
            for value in (0.1, 0.7, 1.9, 6.0)
        ]
        np.testing.assert_allclose(rest, rest[0], rtol=1e-9)


@pytest.mark.parametrize("shape", [0.5, 1.0, 100.0])
def test_grid_of_the_concentration_holds_the_whole_prior(shape):
    # The vaguest and the sharpest prior that the specification takes.
    prior = DirichletProcess(Gamma(shape, shape)).prior(4, flat=False)
    assert float(prior.moments().concentration) == pytest.approx(1.0, rel=1e-3)
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    sticks, left = sticks_of(weights)
    expected = stats.beta(1, 0.5).logpdf(sticks).sum() - np.log(left).sum()
    expected += stats.gamma(shape, scale=1 / shape).logpdf(0.5)
    found = prior.log_prob(Weights(jnp.log(weights), jnp.asarray(0.5)))
    np.testing.assert_allclose(float(found), expected, atol=1e-3)


def concentration_density(posterior: StickBreakingPosterior, shape, rate, discount):
    """Normalised density of the concentration by quadrature, sticks integrated out."""
    count = np.asarray(posterior.count)
    k = count.size
    later = count[::-1].cumsum()[::-1] - count

    def kernel(value):
        first, second = 1 - discount, value + discount * np.arange(1, k)
        after = special.betaln(first + count[:-1], second + later[:-1])
        gain = np.sum(after - special.betaln(first, second))
        return stats.gamma(shape, scale=1 / rate).pdf(value) * np.exp(gain)

    total, _ = integrate.quad(kernel, 0, np.inf, epsabs=0)
    return lambda value: kernel(value) / total


@pytest.mark.parametrize(("name", "discount"), [("dirichlet process", 0.0), ("pitman-yor", 0.3)])
def test_concentration_draws_and_mean(name, discount):
    posterior, _, _ = drawn(name)
    density = concentration_density(posterior, 2.0, 1.0, discount)
    mean, _ = integrate.quad(lambda v: v * density(v), 0, np.inf, epsabs=0)
    assert float(posterior.moments().concentration) == pytest.approx(mean, rel=1e-7)
    grid = np.linspace(1e-6, 20.0, 4001)
    height = np.array([density(v) for v in grid])
    below = integrate.cumulative_trapezoid(height, grid, initial=0)
    step = jax.jit(
        jax.vmap(
            lambda posterior, now, key: replace(posterior, current=now).sample(key).concentration,
            in_axes=(None, 0, 0),
        )
    )
    # Some draws forget the concentration that they start from, however unlikely.
    for start in (0.02, 1.0, 30.0):
        now = jnp.full(N_DRAWS, start)
        for key in jax.random.split(random_key(7), 8):
            now = step(posterior, now, jax.random.split(key, N_DRAWS))
        test = stats.kstest(np.asarray(now), lambda v: np.interp(v, grid, below))
        assert test.pvalue > _LEAST_P


@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("weights", [DirichletProcess(), PitmanYor(0.3)])
def test_clusters_sit_on_sticks_as_their_evidence_says(weights, k):
    prior, count = weights.prior(k, flat=False), np.array([1.0, 3.0, 0.0, 2.0])[:k]
    moments = prior.moments()
    discount, concentration = float(prior.discount), float(moments.concentration)
    orders = np.array(list(itertools.permutations(range(k))))
    later = count[orders][:, ::-1].cumsum(axis=1)[:, ::-1] - count[orders]
    second = concentration + discount * np.arange(1, k) + later[:, :-1]
    evidence = special.betaln(1 - discount + count[orders][:, :-1], second).sum(axis=1)

    def step(order, key):
        own = prior.draw_order(jnp.asarray(count)[order], jnp.zeros((k, k)), moments, key)
        return order[own], None

    keys = jax.random.split(random_key(1), (N_DRAWS, 20))
    chain = jax.jit(jax.vmap(lambda keys: jax.lax.scan(step, jnp.arange(k), keys)[0]))
    found = np.asarray(chain(keys))
    times = (found[:, None] == orders).all(axis=2).sum(axis=0)
    test = stats.chisquare(times, N_DRAWS * special.softmax(evidence))
    assert test.pvalue > _LEAST_P


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_draws(name):
    posterior, _, draws = drawn(name)
    weights = np.exp(np.asarray(draws.log_weights))
    if name == "known weights":
        np.testing.assert_allclose(weights, np.tile([4 / 9, 3 / 9, 2 / 9], (N_DRAWS, 1)))
        return
    if name == "dirichlet":
        alpha = np.asarray(posterior.alpha)
        for j, own in enumerate(alpha):
            marginal = stats.beta(own, alpha.sum() - own)
            assert stats.kstest(weights[:, j], marginal.cdf).pvalue > _LEAST_P
        return
    # Given the concentration sticks are independent betas: each at its own distribution function.
    count = np.asarray(posterior.count)
    later = count[::-1].cumsum()[::-1] - count
    discount = float(posterior.discount)
    left = 1 - np.cumsum(weights, axis=1) + weights
    for j in range(count.size - 1):
        second = np.asarray(draws.concentration) + discount * (j + 1) + later[j]
        uniform = stats.beta(1 - discount + count[j], second).cdf(weights[:, j] / left[:, j])
        assert stats.kstest(uniform, "uniform").pvalue > _LEAST_P


@pytest.mark.parametrize("name", LINEAR)
def test_coefficient_and_variance_draws(name):
    posterior, _, draws = drawn(name)
    k, p, q = posterior.mean.shape
    for j in range(k):
        spread = np.linalg.inv(np.asarray(posterior.precision[j]))
        for column in range(q):
            variance = np.asarray(draws.covariance)[:, :, column, column]
            own = variance[:, j if variance.shape[1] > 1 else 0]
            marginal = variance_marginal(posterior.covariance, j, column)
            if marginal is None:
                df, scale = np.inf, own[0]
            else:
                df = 2 * marginal.args[0]
                scale = marginal.kwds["scale"] / marginal.args[0]
                assert stats.kstest(own, marginal.cdf).pvalue > _LEAST_P
            for row in range(p):
                t = stats.t(df, posterior.mean[j, row, column], np.sqrt(scale * spread[row, row]))
                sample = np.asarray(draws.coefficients)[:, j, row, column]
                assert stats.kstest(sample, t.cdf).pvalue > _LEAST_P


def variance_marginal(covariance, j, column):
    """Inverse gamma of one variance; None where it is known."""
    if isinstance(covariance, KnownCovariance):
        return None
    if isinstance(covariance, InverseGamma):
        own = min(column, covariance.shape.shape[1] - 1)
        shape, rate = covariance.shape[j, own], covariance.rate[j, own]
        return stats.invgamma(float(shape), scale=float(rate))
    j = min(j, covariance.dof.shape[0] - 1)
    q = covariance.scale.shape[-1]
    shape = (float(covariance.dof[j]) - q + 1) / 2
    return stats.invgamma(shape, scale=float(covariance.scale[j, column, column]) / 2)


@pytest.mark.parametrize("name", ["full covariates", "tied covariates", "bivariate response"])
def test_draws_of_a_full_covariance_have_the_right_mean_and_determinant(name):
    posterior, _, draws = drawn(name)
    covariance = np.asarray(draws.covariance)
    dof, scale = np.asarray(posterior.covariance.dof), np.asarray(posterior.covariance.scale)
    q = scale.shape[-1]
    error = covariance.std(axis=0) / np.sqrt(len(covariance))
    mean = scale / (dof - q - 1)[:, None, None]
    assert np.all(np.abs(covariance.mean(axis=0) - mean) < 5 * error)
    # |S| / |Sigma| is a product of independent chi-squares.
    ratio = np.linalg.det(scale) / np.linalg.det(covariance)
    rng = np.random.default_rng(1)
    for j in range(len(dof)):
        product = np.prod([rng.chisquare(dof[j] - i, 20_000) for i in range(q)], axis=0)
        assert stats.ks_2samp(ratio[:, j], product).pvalue > _LEAST_P


def test_registered_parts_cover_every_covariance():
    kinds = {type(PARTS[name].prior(2).covariance) for name in LINEAR}
    assert kinds == {InverseWishart, InverseGamma, KnownCovariance}
