"""Predictions of variational fits: mixtures of Student t's, in closed form."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import kstest, norm, t

import clusterwise as cw
from clusterwise.inference.predict import StudentMixture

pytestmark = pytest.mark.long

N = 60
MODELS = {
    "conditional": cw.Model("y ~ x", n_components=2),
    "joint": cw.Model("y ~ x", covariates="x", n_components=2),
    "known sigma": cw.Model("y ~ x", family=cw.Gaussian(sigma=4.0), n_components=2),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, N)
    y = np.where(rng.random(N) < 0.4, 3 * x + 1, 1 - x) + 0.4 * rng.normal(size=N)
    return pd.DataFrame({"x": x, "y": 10 * y})


@pytest.fixture(scope="module", params=MODELS)
def fit(request, data):
    return MODELS[request.param].fit(data, engine="vi", random_state=0)


def averaged_density(fit, data, y):
    """Densities (n,) of (x and) y, averaged with SciPy over the fit's draws, and their errors."""
    draws = fit.posterior["posterior"].to_dataset().isel(chain=0)
    x = data["x"].to_numpy()[:, None, None]
    coefficients = draws["coefficients"].to_numpy()
    mean = coefficients[..., 0] + coefficients[..., 1] * x
    score = np.log(draws["weights"].to_numpy())
    if "means" in draws:
        sd = np.sqrt(draws["covariance"].to_numpy()[..., 0, 0])
        score = score + norm.logpdf(x, draws["means"].to_numpy()[..., 0], sd)
    given_x = np.exp(logsumexp(score + 0 * x, axis=2))
    density = norm.logpdf(np.asarray(y)[:, None, None], mean, draws["sigma"].to_numpy())
    return np.exp(logsumexp(score + density, axis=2)), given_x


def test_density_is_the_average_over_draws(fit, data):
    density, given_x = averaged_density(fit, data, data["y"])
    error = density.std(axis=1) / np.sqrt(density.shape[1])
    found = np.exp(fit.score_samples(data))
    assert np.all(np.abs(found - density.mean(axis=1)) < 5 * error)
    ratio = density.mean(axis=1) / given_x.mean(axis=1)
    error = (density - ratio[:, None] * given_x).std(axis=1) / given_x.mean(axis=1)
    found = fit.predict(data, kind="density")
    assert np.all(np.abs(found - ratio) < 5 * error / np.sqrt(density.shape[1]))


def test_all_kinds_are_of_one_distribution(fit, data):
    row = data.iloc[[3]]

    low, middle, high = fit.predict(row, kind="quantile", q=(0.05, 0.5, 0.95))[0]
    cuts = [middle - 400, low, middle, high, middle + 400]
    # Gauss's rule between steps of a quarter of the noise, all of them in one prediction.
    edges = np.unique([*np.arange(cuts[0], cuts[-1]), *cuts])
    nodes, rule = np.polynomial.legendre.leggauss(5)
    width = np.diff(edges)[:, None] / 2
    y = (edges[:-1, None] + width * (1 + nodes)).ravel()
    density = fit.predict(row.loc[row.index.repeat(y.size)].assign(y=y), kind="density")
    mass = (width * rule).ravel() * density
    # What lies beyond the outer cuts is less than the tolerance.
    parts = np.histogram(y, cuts, weights=mass)[0]
    np.testing.assert_allclose(parts, [0.05, 0.45, 0.45, 0.05], atol=1e-5)
    assert fit.predict(row)[0] == pytest.approx(y @ mass, abs=0.02)
    np.testing.assert_allclose(fit.predict(row, kind="interval", level=0.9)[0], [low, high])
    drawn = fit.predict(row, kind="sample", n_samples=4000, random_state=1)[:, 0]
    grid = np.linspace(middle - 100, middle + 100, 4001)
    repeated = row.loc[row.index.repeat(grid.size)].assign(y=grid)
    cdf = np.cumsum(fit.predict(repeated, kind="density")) * (grid[1] - grid[0])
    assert kstest(np.interp(drawn, grid, cdf), "uniform").pvalue > 1e-3


def test_loaded_fit_predicts_the_same(fit, data, tmp_path):
    fit.save(tmp_path / "fit")
    loaded = cw.load(tmp_path / "fit")
    for kind in ("mean", "interval", "density", "sample"):
        np.testing.assert_array_equal(loaded.predict(data, kind=kind), fit.predict(data, kind=kind))
    np.testing.assert_array_equal(loaded.score_samples(data), fit.score_samples(data))


@pytest.mark.parametrize("dof", [[0.7, 3.0, 1e6], [np.inf] * 3])
def test_quantiles_and_densities_are_scipys(dof):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet([0.3] * 3, 20)
    means, sds = 100 * rng.normal(size=(20, 3)), np.exp(rng.normal(size=(20, 3)))
    mixture = StudentMixture(np.log(weights), means, sds, np.array(dof))
    levels = np.array([1e-4, 0.05, 0.5, 0.9, 0.9999])
    found = mixture.quantile(levels)
    for i in range(20):
        components = t(dof, means[i], sds[i])

        def excess(y, level, i=i, components=components):
            return weights[i] @ components.cdf(y) - level

        bound = 1e3 if np.isinf(dof[0]) else 1e9
        for j, level in enumerate(levels):
            expected = brentq(excess, -bound, bound, args=(level,), xtol=1e-11, rtol=1e-14)
            # Where the density is next to nothing, rounding of the CDF moves the quantile.
            slope = weights[i] @ components.pdf(expected)
            tolerance = 1e-9 * (1 + abs(expected)) + 1e-15 / slope
            assert abs(found[i, j] - expected) < tolerance
        expected = np.log([weights[i] @ components.pdf(y) for y in found[i]])
        # Log gamma functions of a million are some 6e6, and theirs is the rounding.
        np.testing.assert_allclose(mixture.log_density(found)[i], expected, rtol=0, atol=1e-8)


def test_the_rows_of_a_sample_have_one_draw_of_the_parameters():
    """Two clusters of three draws, far apart: where the values lie says which draw they are of."""
    means = np.tile(np.array([0.0, 1, 10, 11, 20, 21]), (400, 1))
    log_weights = np.log(np.tile(np.array([0.25, 0.75] * 3) / 3, (400, 1)))
    mixture = StudentMixture(log_weights, means, np.full(6, 1e-3), np.full(6, np.inf))
    found = mixture.sample((np.arange(30) + 0.5) / 30, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(
        np.round(found / 10).T, np.tile(np.repeat([0, 1, 2], 10), (400, 1))
    )
    # Clusters are drawn for each row: 12,000 of them.
    assert (np.round(found) % 10).mean() == pytest.approx(0.75, abs=0.02)
    # Where draws count for more in some rows, each row still has its own shares.
    log_weights[200:, :4] = np.log([0.4, 0.1, 0.05, 0.05])
    log_weights[200:, 4:] = np.log([0.2, 0.2])
    apart = StudentMixture(log_weights, means, np.full(6, 1e-3), np.full(6, np.inf))
    found = np.round(apart.sample((np.arange(500) + 0.5) / 500, 2, np.random.default_rng(0)))
    shares = [(found[:, 200:] == value).mean() for value in means[0]]
    np.testing.assert_allclose(shares, [0.4, 0.1, 0.05, 0.05, 0.2, 0.2], atol=0.01)


@pytest.mark.slow
def test_samples_of_a_gibbs_fit_are_posterior_predictive_data_sets():
    """Of a conjugate regression on six rows: Student t for a row, and for the mean of two."""
    x = np.array([-1.0, -0.5, 0.0, 0.3, 0.9, 1.4])
    y = 1 + 2 * x + 0.7 * np.random.default_rng(1).normal(size=6)
    prior = cw.NormalInverseGamma(mean=0.0, covariance=10.0, shape=2.0, rate=1.0)
    model = cw.Model("y ~ x", n_components=1, prior={"y": prior})
    fit = model.fit({"x": x, "y": y}, engine=cw.Gibbs(100, 2500, 4, n_init=1), random_state=0)
    design, new = (np.column_stack([np.ones(len(at)), at]) for at in (x, [0.2, 2.5]))
    precision = design.T @ design + np.eye(2) / 10
    mean = np.linalg.solve(precision, design.T @ y)
    shape, rate = 2 + 6 / 2, 1 + (y @ y - mean @ precision @ mean) / 2
    scale = rate / shape * (np.eye(2) + new @ np.linalg.solve(precision, new.T))
    drawn = fit.predict({"x": new[:, 1]}, kind="sample", n_samples=10_000, random_state=3)
    for values, at, variance in (
        (drawn[:, 0], new[0] @ mean, scale[0, 0]),
        (drawn[:, 1], new[1] @ mean, scale[1, 1]),
        (drawn.mean(axis=1), (new @ mean).mean(), scale.mean()),
    ):
        # Of 10,000 independent values the distance is above 0.02 once in a thousand.
        assert kstest(values, t(2 * shape, at, np.sqrt(variance)).cdf).statistic < 0.02
