"""Coefficients whose precisions are learned: densities, bounds, draws and coordinates."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from clusterwise.core.random import random_key
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.posteriors.scales import HalfCauchyFactor
from clusterwise.regression.structure import Draft, Hierarchical, Horseshoe, Ridge

pytestmark = pytest.mark.long

K, D = 3, 3
WIDTH = 0.7
MEAN = np.array([0.4, -0.2, 0.1])
SPREAD = np.array([2.0, 1.5, 0.5])
"""Standard deviations of what coefficients are about: two of regressors and a dispersion."""


def prior_of(kind):
    draft = Draft(
        what="the test",
        mean=np.tile(MEAN, (K, 1)),
        precision=np.diag(SPREAD**-2),
        shared=(),
        known=(),
        constants=(2,),
        own=(0, 1),
        intercepts=(0,),
        terms=("Intercept", "x"),
        units=np.ones(2),
        explicit=False,
    )
    return kind.prior(draft)


PRIORS = {
    "hierarchical": Hierarchical(WIDTH),
    "with dispersion": Hierarchical(WIDTH, dispersion=True),
    "ridge": Ridge(WIDTH),
    "ridge of both": Ridge(WIDTH, intercepts=True),
    "horseshoe": Horseshoe(WIDTH),
}
WIDTHS = {"horseshoe": [1.0, WIDTH]}
"""Of the first entry of each factor, where they are not one of WIDTH."""


def log_density(name, values, logs):
    """SciPy's, of coefficients and of the logarithms of precisions."""
    deviations = [np.exp(-np.asarray(own) / 2) for own in logs]
    # The derivative of a deviation by the logarithm of a precision is half of it.
    total = sum(
        (stats.halfcauchy.logpdf(own, scale=width) + np.log(own / 2)).sum()
        for own, width in zip(deviations, WIDTHS.get(name, [WIDTH]), strict=True)
    )
    pooled = {"hierarchical": [0, 1], "with dispersion": [0, 1, 2]}.get(name, [])
    if pooled:
        mu = values[0, 3:]
        total += stats.norm.logpdf(mu, MEAN[pooled], SPREAD[pooled]).sum()
        total += stats.norm.logpdf(values[:, pooled], mu, deviations[0][0]).sum()
    shrunk = {
        "ridge": {1: deviations[0][:, 0]},
        "ridge of both": {0: deviations[0][:, -1], 1: deviations[0][:, 0]},
        "horseshoe": {1: (deviations[0] * deviations[-1])[:, 0]},
    }.get(name, {})
    total += sum(stats.norm.logpdf(values[:, i], 0, own).sum() for i, own in shrunk.items())
    rest = [i for i in range(D) if i not in (*pooled, *shrunk)]
    return total + stats.norm.logpdf(values[:, rest], MEAN[rest], SPREAD[rest]).sum()


@pytest.fixture(params=PRIORS)
def name(request):
    return request.param


kl = eqx.filter_jit(lambda posterior, prior: posterior.kl(prior))
completed = eqx.filter_jit(lambda prior, normal, precisions: prior.completed(normal, precisions))
constrain = eqx.filter_jit(lambda coordinates, z: coordinates.constrain(z))


@cache
def after_rows(name):
    """A posterior after an update, the factors having settled."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(K, D, D + 2))
    precision = 3.0 * root @ np.swapaxes(root, 1, 2)
    prior = prior_of(PRIORS[name])
    shift = jnp.asarray(3.0 * rng.normal(size=(K, D)))

    @eqx.filter_jit
    def update(moments):
        given = prior.given(moments.precisions)
        return prior.completed(given.updated(precision, shift), moments.precisions)

    posterior = update(prior.mode().moments())
    for _ in range(200):
        posterior = update(posterior.moments())
    return prior, posterior


def points(prior, n, seed=1):
    return jax.jit(jax.vmap(prior.sample))(jax.random.split(random_key(seed), n))


def at(drawn, i):
    return jax.tree.map(lambda leaf: leaf[i], drawn)


def test_prior_density_is_scipys(name):
    prior = prior_of(PRIORS[name])
    drawn = points(prior, 3)
    found = [prior.log_prob(at(drawn, i)) for i in range(3)]
    expected = [
        log_density(name, np.asarray(p.values), p.log_precisions)
        for p in map(lambda i: at(drawn, i), range(3))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    for density in (prior.unnormalised_log_prob, prior.log_kernel):
        gaps = np.array([density(at(drawn, i)) for i in range(3)]) - expected
        np.testing.assert_allclose(gaps, gaps[0], rtol=1e-8)


def test_prior_draws_are_half_cauchy_and_normal_about_them(name):
    drawn = points(prior_of(PRIORS[name]), 4000)
    logs = [np.asarray(own) for own in drawn.log_precisions]
    for own, width in zip(logs, WIDTHS.get(name, [WIDTH]), strict=True):
        for flat in np.exp(-own / 2).reshape(len(own), -1).T:
            assert stats.kstest(flat, stats.halfcauchy(scale=width).cdf).pvalue > 1e-4
    values = np.asarray(drawn.values)
    pooled = name in ("hierarchical", "with dispersion")
    # Of the slope, which comes second among what is pooled and first among what is shrunk.
    deviation = np.exp(-sum(own[:, :, int(pooled)] for own in logs) / 2)
    centre = values[:, :1, 4] if pooled else 0.0
    standard = (values[:, :, 1] - centre) / deviation
    assert stats.kstest(standard[:, 1], "norm").pvalue > 1e-3


def test_divergence_is_the_one_from_the_prior_and_a_gap_that_is_known(name):
    prior, posterior = after_rows(name)
    drawn = points(posterior, 40_000, 2)
    gap = jax.vmap(lambda p: posterior.log_prob(p) - prior.log_prob(p))
    gaps = np.asarray(jax.jit(gap)(drawn))
    # The bound takes the logarithm of an average for the average of a logarithm.
    bound = 0.0
    for own, other in zip(posterior.factors, prior.factors, strict=True):
        for shape, rate, width in zip(
            *(np.ravel(v) for v in (own.shape, own.rate, other.width)), strict=True
        ):
            gamma = stats.gamma(shape, scale=1 / rate)
            exact = gamma.expect(lambda w, c=width**-2: np.log(w + c))
            bound += np.log(shape / rate + width**-2) - exact
    assert bound > 0
    error = np.std(gaps) / np.sqrt(len(gaps))
    assert kl(posterior, prior) == pytest.approx(float(gaps.mean()) + bound, abs=5 * error)


def test_factors_are_the_best_for_their_coefficients(name):
    prior, posterior = after_rows(name)
    best = kl(posterior, prior)
    for i, own in enumerate(posterior.factors):
        for change in (0.9, 1.1):
            for moved in (
                own._replace(rate=own.rate * change),
                own._replace(shape=own.shape * change),
            ):
                factors = (*posterior.factors[:i], moved, *posterior.factors[i + 1 :])
                other = type(posterior)(posterior.normal, factors, prior)
                assert kl(other, prior) > best + 1e-6


def test_an_update_of_the_factors_never_loses(name):
    prior, posterior = after_rows(name)
    for far in (1e-3, 0.1, 10.0, 1e3):
        precisions = tuple(own.mean * far for own in posterior.factors)
        before = np.inf
        for _ in range(20):
            after = completed(prior, posterior.normal, precisions)
            value = float(kl(after, prior))
            assert value <= before + 1e-9
            before, precisions = value, tuple(own.mean for own in after.factors)


def test_draws_of_precisions_given_coefficients_have_their_conditional_distribution():
    prior = prior_of(PRIORS["hierarchical"])
    values = jnp.asarray(np.random.default_rng(3).normal(size=(K, 5)))
    start = jnp.log(prior.factors[0].centre)

    def step(now, key):
        after = prior.refreshed(values, (jnp.exp(now),), key)
        return after.log_precisions[0], (after.log_precisions[0][0, 1], after.values[0, 4])

    keys = jax.random.split(random_key(4), 200)
    chains = jax.vmap(lambda key: jax.lax.scan(step, start, jax.random.split(key, 60))[1])(keys)
    logs, means = (np.asarray(own)[:, 20::4].ravel() for own in chains)
    own = np.asarray(values)[:, 1]

    def density(mu, log):
        deviation = np.exp(-log / 2)
        prior_of_both = stats.norm.pdf(mu, MEAN[1], SPREAD[1]) * stats.halfcauchy.pdf(
            deviation, scale=WIDTH
        )
        return prior_of_both * deviation * stats.norm.pdf(own[:, None, None], mu, deviation).prod(0)

    grid = np.meshgrid(np.linspace(-8, 8, 801), np.linspace(-8, 12, 801), indexing="ij")
    mass = density(*grid)
    mass /= mass.sum()
    for drawn, axis, place in ((logs, 1, grid[1][0]), (means, 0, grid[0][:, 0])):
        below = np.cumsum(mass.sum(axis=1 - axis))
        uniform = np.interp(drawn, place, below)
        # Every fourth sweep: close to independent.
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_coordinates_go_back_and_have_their_determinant(name):
    _, posterior = after_rows(name)
    coordinates = posterior.coordinates()
    z = jnp.asarray(np.random.default_rng(5).normal(size=coordinates.size))

    def free(z):
        found, _ = coordinates.constrain(z)
        places = posterior.normal.places
        shared = found.values[places.first]
        logs = [own.ravel() for own in found.log_precisions]
        return jnp.concatenate([*logs, found.values[:, places.own].ravel(), shared])

    parameters, log_det = constrain(coordinates, z)
    back = eqx.filter_jit(coordinates.unconstrain)(parameters)
    np.testing.assert_allclose(back, z, rtol=1e-7, atol=1e-8)
    expected = np.linalg.slogdet(jax.jit(jax.jacfwd(free))(z))[1]
    assert log_det == pytest.approx(expected, rel=1e-9)


def test_coordinates_follow_the_precisions():
    """At any precision coefficients are standard normal in what the rows and the prior say."""
    prior, posterior = after_rows("hierarchical")
    coordinates = posterior.coordinates()
    fixed = jnp.full(2, 2.5)
    logs = constrain(coordinates, jnp.concatenate([fixed, jnp.zeros(coordinates.size - 2)]))[0]
    # The rows' part is what the posterior has beyond its prior.
    given = [
        prior.given(posterior.moments().precisions),
        prior.given(tuple(jnp.exp(own) for own in logs.log_precisions)),
    ]
    rng = np.random.default_rng(6)
    gaps = []
    for _ in range(3):
        z = rng.normal(size=coordinates.size - 2)
        at, log_det = constrain(coordinates, jnp.concatenate([fixed, z]))
        rows = posterior.normal.log_kernel(at) - given[0].log_kernel(at)
        gaps.append(rows + given[1].log_kernel(at) + log_det - stats.norm.logpdf(z).sum())
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-8)


def test_tangent_is_below_the_log_density():
    factor = HalfCauchyFactor(jnp.asarray([WIDTH]))
    precision, touch = np.geomspace(1e-3, 1e3, 50), 1.7
    rate = float(factor.tangent(jnp.asarray([touch]))[0])
    exact = np.array([float(factor.log_density(jnp.log(jnp.asarray([w])))) for w in precision])
    line = np.log(precision) / 2 - np.log(np.pi * WIDTH) + np.log(rate) + 1
    line = line - rate * (precision + WIDTH**-2)
    assert np.all(line <= exact + 1e-12)
    whole = integrate.quad(lambda v: np.exp(float(factor.log_density(jnp.asarray([v])))), -60, 60)
    assert whole[0] == pytest.approx(1, abs=1e-6)


def test_a_mean_of_draws_averages_standard_deviations():
    drawn = Coefficients(
        jnp.zeros((2, 3, K, D)), (jnp.log(jnp.asarray([1.0, 4.0, 16.0])) * jnp.ones((2, 1, 1, 1)),)
    )
    logs = jnp.broadcast_to(jnp.log(jnp.array([1.0, 4.0, 16.0]))[None, :, None, None], (2, 3, 1, 1))
    drawn = Coefficients(drawn.values, (logs,))
    (found,) = drawn.mean_of_draws().log_precisions
    assert np.exp(-found[0, 0] / 2) == pytest.approx((1 + 0.5 + 0.25) / 3)
