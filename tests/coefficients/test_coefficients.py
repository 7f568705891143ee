"""Shared, pooled and shrunk coefficients of fits, against SciPy's optima and each other."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import clusterwise as cw

K, N = 3, 150
TRUE = np.array([[0.0, 1.5, 0.6], [4.0, 1.5, -0.5], [-4.0, 1.5, 0.6]])
"""Intercept, one slope that clusters share, one that the first and last do."""
SIGMA = np.array([0.4, 0.6, 0.5])
LONG = pytest.mark.long


@cache
def rows(n=N, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.choice(K, n, p=[0.5, 0.3, 0.2])
    a, b = rng.normal(size=(2, n))
    y = (TRUE[z] * np.stack([np.ones(n), a, b], axis=1)).sum(axis=1) + SIGMA[z] * rng.normal(size=n)
    return pd.DataFrame({"y": y, "a": a, "b": b})


def log_likelihood(weights, coefficients, sigma):
    data = rows()
    design = np.stack([np.ones(N), data.a, data.b])
    own = stats.norm.logpdf(data.y.to_numpy()[:, None], (coefficients @ design).T, sigma)
    return special.logsumexp(np.log(weights) + own, axis=1).sum()


def best(groups, penalty=lambda coefficients, free: 0.0, extra=0):
    """SciPy's optimum where coefficients (k, p) are the entries of a vector that `groups` name.

    `extra` more entries of the vector are the penalty's own.
    """
    groups = np.asarray(groups)
    size = groups.max() + 1

    def parts(v):
        weights = special.softmax(np.append(0.0, v[: K - 1]))
        sigma = np.exp(v[K - 1 : 2 * K - 1])
        return weights, v[2 * K - 1 :][:size][groups], sigma, v[2 * K - 1 + size :]

    def loss(v):
        weights, coefficients, sigma, rest = parts(v)
        return -log_likelihood(weights, coefficients, sigma) - penalty(coefficients, rest)

    start = np.zeros(size)
    start[groups.ravel()] = TRUE.ravel()
    start = np.concatenate([np.zeros(K - 1), np.log(SIGMA), start, np.zeros(extra)])
    found = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    return -found.fun, *parts(found.x)[:3]


def order(fit):
    """Components as the truth has them."""
    return [int(np.argmin(np.abs(fit.coefficients["Intercept"] - at))) for at in TRUE[:, 0]]


@LONG
@pytest.mark.parametrize(
    ("shared", "groups", "n_parameters"),
    [
        ("a", [[0, 3, 4], [1, 3, 5], [2, 3, 6]], 12),
        ({"a": "all", "b": [[0, 2]]}, [[0, 3, 4], [1, 3, 5], [2, 3, 4]], 11),
    ],
    ids=["all", "groups"],
)
def test_shared_terms_are_maximum_likelihood(shared, groups, n_parameters):
    model = cw.Model("y ~ a + b", n_components=K, shared=shared, prior="flat")
    fit = model.fit(rows(), engine=cw.EM(tol=1e-13, n_init=6), random_state=0)
    assert fit.n_parameters == n_parameters
    assert fit.coefficients["a"].nunique() == 1
    value, weights, coefficients, sigma = best(groups)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-6)
    # Where clusters share by number it is the user who numbers them.
    chosen = order(fit)
    if isinstance(shared, dict):
        alone = {0, 1, 2} - set(np.flatnonzero(fit.coefficients["b"].duplicated(keep=False)))
        assert alone == {1}
    np.testing.assert_allclose(fit.coefficients.to_numpy()[chosen], coefficients, atol=1e-4)
    np.testing.assert_allclose(fit.dispersion["sigma"].to_numpy()[chosen], sigma, rtol=1e-4)
    np.testing.assert_allclose(fit.weights.to_numpy()[chosen], weights, atol=1e-4)


@LONG
def test_known_scales_pool_as_their_prior_says():
    """The optimum moves to the means, and is one of the density with them."""
    data, sd = rows(), {"Intercept": 3.0, "a": 0.02, "b": 0.4}
    model = cw.Model("y ~ a + b", n_components=K, coefficients=cw.Hierarchical(sd=sd))
    fit = model.fit(data, engine=cw.EM(tol=1e-13, n_init=6), random_state=0)
    plain = cw.Model("y ~ a + b", n_components=K, prior="flat")
    other = plain.fit(data, engine=cw.EM(tol=1e-13, n_init=6), random_state=0)
    slopes = [one.coefficients["a"].to_numpy() for one in (fit, other)]
    assert np.ptp(slopes[0]) < 0.5 * np.ptp(slopes[1])
    population = fit.population
    assert population.loc["a", "sd"] == pytest.approx(0.02)
    # Given all else the penalised optimum of one slope is a precision-weighted average.
    k = 0
    resp = fit.responsibilities(data)[:, k]
    own, variance = fit.coefficients.iloc[k], fit.dispersion["sigma"][k] ** 2
    rest = data.y - own["Intercept"] - own["b"] * data.b
    precision = (resp * data.a**2).sum() / variance
    centred = population.loc["a", "mean"] / 0.02**2 + (resp * data.a * rest).sum() / variance
    assert own["a"] == pytest.approx(centred / (precision + 0.02**-2), abs=1e-5)


@cache
def sparse_rows():
    """Two clusters with one effect each among six."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 6))
    z = rng.random(120) < 0.5
    y = np.where(z, 3 + 2 * X[:, 0], -3 - 2 * X[:, 1]) + rng.normal(size=120)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(6)]).assign(y=y)


@cache
def shrunk(coefficients):
    model = cw.Model("y ~ x0 + x1 + x2 + x3 + x4 + x5", n_components=2, coefficients=coefficients)
    return model.fit(sparse_rows(), engine=cw.VI(n_init=4), random_state=0)


@LONG
@pytest.mark.parametrize("family", ["gaussian", "negative_binomial"])
def test_dispersions_may_be_pooled_too(family):
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=90), rng.random(90) < 0.4
    data = {"x": x, "y": rng.poisson(np.exp(np.where(z, 3 + 0.2 * x, 0.5 + 0.2 * x)))}
    pooled = cw.Hierarchical(dispersion=True)
    model = cw.Model("y ~ x", n_components=2, family=family, coefficients=pooled)
    fit = model.fit(data, engine=cw.VI(n_init=1), random_state=0)
    assert fit.population.index.tolist() == ["Intercept", "x"]
    for term in ("Intercept", "x"):
        own = fit.coefficients[term]
        assert fit.population.loc[term, "mean"] == pytest.approx(own.mean(), rel=0.2)
        assert fit.population.loc[term, "sd"] > 0


@LONG
def test_the_horseshoe_leaves_few_effects():
    own, sparse = shrunk("independent"), shrunk("horseshoe")
    first = np.argsort(sparse.coefficients["Intercept"].to_numpy())
    found = sparse.coefficients.to_numpy()[first, 1:]
    np.testing.assert_allclose(found[[0, 1], [1, 0]], [-2, 2], atol=0.4)
    null = np.ones((2, 6), bool)
    null[[0, 1], [1, 0]] = False
    plain = own.coefficients.to_numpy()[np.argsort(own.coefficients["Intercept"])][:, 1:]
    assert np.abs(found[null]).mean() < 0.6 * np.abs(plain[null]).mean()


@LONG
@pytest.mark.parametrize("coefficients", ["ridge", "horseshoe"])
def test_saved_fits_are_the_same(coefficients, tmp_path):
    fit = shrunk(coefficients)
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    assert again.model.coefficients == fit.model.coefficients
    new = sparse_rows().iloc[:7]
    np.testing.assert_allclose(again.predict(new), fit.predict(new), rtol=1e-12)
    assert str(again.summary()) == str(fit.summary())


@LONG
def test_pooled_draws_and_bound_agree(tmp_path):
    model = cw.Model("y ~ a", n_components=2, coefficients="hierarchical", family="poisson")
    rng = np.random.default_rng(2)
    a, z = rng.normal(size=120), rng.random(120) < 0.4
    y = rng.poisson(np.exp(np.where(z, 2.5 + 0.3 * a, 0.4 + 0.2 * a)))
    data = pd.DataFrame({"y": y, "a": a})
    vi = model.fit(data, engine=cw.VI(n_init=2), random_state=0)
    gibbs = model.fit(data, engine=cw.Gibbs(200, 400, num_chains=2, n_init=2), random_state=0)
    np.testing.assert_allclose(gibbs.coefficients, vi.coefficients, atol=0.1)
    assert list(gibbs.population.columns) == ["mean", "mean (sd)", "sd", "sd (sd)"]
    assert gibbs.population.index.tolist() == ["Intercept", "a"]
    gibbs.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(cw.load(tmp_path / "fit").population, gibbs.population)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shared": "c"}, "names 'c'; the formula has '1', 'a', 'b'"),
        ({"shared": {"a": [[0, 1], [1, 2]]}}, "has component 1 twice"),
        ({"shared": {"a": [[0, 3]]}}, "numbers of components from 0 to 2"),
        ({"shared": {"a + b": "all"}}, "every key must be one term"),
        ({"shared": {"a:b": "all", "b:a": [[0, 1]]}}, "names the term 'a:b' twice"),
        ({"shared": {"a": "all", " a": [[0, 1]]}}, "names the term 'a' twice"),
        ({"coefficients": "lasso"}, "use one of 'independent', 'hierarchical'"),
        ({"coefficients": "ridge", "prior": "flat"}, "'ridge' is a prior, and prior='flat' is"),
        ({"coefficients": "hierarchical", "shared": "1 + a + b"}, "has no coefficients that"),
        ({"coefficients": "horseshoe", "shared": "a + b"}, "has no slopes"),
        ({"coefficients": cw.Hierarchical(sd={"a": 1.0})}, "must name the terms"),
        ({"shared": {"b": [[0, 2]]}, "weights": "dirichlet_process"}, "names components by number"),
    ],
)
def test_what_contradicts_itself_is_refused(options, why):
    with pytest.raises(cw.OptionError, match=why.replace("(", r"\(")):
        cw.Model("y ~ a + b", n_components=K, **options).fit(rows(), engine="vi", random_state=0)


@pytest.mark.parametrize("coefficients", ["hierarchical", "ridge", "horseshoe"])
def test_learned_scales_have_no_mode(coefficients):
    with pytest.raises(cw.OptionError, match="has no mode for engine='em'"):
        cw.Model("y ~ a", coefficients=coefficients).fit(rows(), engine="em", random_state=0)


def test_known_scales_are_of_coefficients():
    with pytest.raises(cw.OptionError, match="leave sd or dispersion out"):
        cw.Hierarchical(sd=1.0, dispersion=True)
    for wrong in (True, {}):
        with pytest.raises(cw.OptionError, match="must be a number, a dictionary"):
            cw.Hierarchical(sd=wrong)
