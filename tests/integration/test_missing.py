"""Missing values end to end, against likelihoods and conditional distributions by SciPy."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

import clusterwise as cw
from clusterwise.output import describe

pytestmark = pytest.mark.long


def simulated(seed, n):
    """Two clusters with two covariates, a tenth to a fifth of the values missing."""
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=n)
    x = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]]) + 2.5 * z[:, None]
    y = np.where(z, 1 + 2 * x[:, 0] - x[:, 1], -1 - x[:, 0] + 0.5 * x[:, 1])
    data = pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "y": y + 0.4 * rng.normal(size=n)})
    data[data.columns[:3]] = data.mask(rng.random((n, 3)) < [0.2, 0.2, 0.1])
    return data


DATA = simulated(1, 120)
MODEL = cw.Model("y ~ x1 + x2", covariates="x1 + x2", n_components=2, prior="flat")


@pytest.fixture(scope="module")
def em():
    return MODEL.fit(DATA, engine=cw.EM(n_init=4, tol=1e-10, max_iter=5000), random_state=0)


@pytest.fixture(scope="module")
def vi():
    return cw.Model(**{**MODEL.__dict__, "prior": "default"}).fit(
        DATA, engine=cw.VI(n_init=4), random_state=0
    )


def normals(fit):
    """Weight, mean and covariance of (x1, x2, y) in each component."""
    found = []
    for k in range(fit.n_components):
        slope = fit.coefficients.loc[k, ["x1", "x2"]].to_numpy()
        mean, own = fit.means.loc[k].to_numpy(), fit.covariances[k].to_numpy()
        middle = fit.coefficients.loc[k, "Intercept"] + slope @ mean
        cross = own @ slope
        variance = slope @ cross + fit.dispersion["sigma"][k] ** 2
        whole = np.block([[own, cross[:, None]], [cross[None], np.array([[variance]])]])
        found.append((fit.weights[k], np.append(mean, middle), whole))
    return found


def log_densities(components, values):
    """Log density of each row's observed values, zero where there is none."""
    total = np.zeros(len(values))
    for gaps in np.unique(np.isnan(values), axis=0):
        at = np.flatnonzero((np.isnan(values) == gaps).all(axis=1))
        seen = np.flatnonzero(~gaps)
        if seen.size:
            terms = [
                np.log(w)
                + stats.multivariate_normal(m[seen], v[np.ix_(seen, seen)]).logpdf(
                    values[np.ix_(at, seen)]
                )
                for w, m, v in components
            ]
            total[at] = np.logaddexp.reduce(terms)
    return total


def test_log_densities_are_marginals_by_scipy(em):
    expected = log_densities(normals(em), DATA.to_numpy())
    np.testing.assert_allclose(em.score_samples(DATA), expected, rtol=1e-9, atol=1e-9)
    assert em.log_likelihood == pytest.approx(expected.sum(), rel=1e-9)
    assert em.missing.to_dict() == DATA.isna().sum().to_dict()
    assert np.all(np.diff(em.history) > -1e-9 * len(DATA))


def test_em_finds_the_optimum_of_the_observed_likelihood(em):
    values = DATA.to_numpy()

    def unpack(theta):
        parts = [theta[1:11], theta[11:]]
        weights = np.array([1, np.exp(theta[0])]) / (1 + np.exp(theta[0]))
        found = []
        for weight, own in zip(weights, parts, strict=True):
            root = np.zeros((3, 3))
            root[np.tril_indices(3)] = own[3:9]
            root[np.diag_indices(3)] = np.exp(np.diag(root))
            found.append((weight, own[:3], root @ root.T))
        return found

    def pack(components):
        theta = [np.log(components[1][0] / components[0][0])]
        for _, mean, cov in components:
            root = np.linalg.cholesky(cov)
            root[np.diag_indices(3)] = np.log(np.diag(root))
            theta += [*mean, *root[np.tril_indices(3)], 0.0]
        return np.array(theta)

    def loss(theta):
        return -log_densities(unpack(theta), values).sum()

    start = pack(normals(em))
    slope = optimize.approx_fprime(start, loss, 1e-6)
    assert np.abs(slope).max() < 1e-2
    nudged = start + 0.02 * np.random.default_rng(0).normal(size=start.size)
    best = optimize.minimize(loss, nudged, method="BFGS", options={"maxiter": 40})
    assert -best.fun == pytest.approx(em.log_likelihood, abs=5e-3)


def conditional(components, row):
    """Mixture of normals of y given what is seen of (x1, x2)."""
    seen = np.flatnonzero(~np.isnan(row))
    found = []
    for weight, mean, cov in components:
        if not seen.size:
            found.append((weight, mean[2], cov[2, 2]))
            continue
        part = cov[np.ix_(seen, seen)]
        gain = np.linalg.solve(part, cov[seen, 2])
        density = stats.multivariate_normal(mean[seen], part).pdf(row[seen])
        middle = mean[2] + gain @ (row[seen] - mean[seen])
        found.append((weight * density, middle, cov[2, 2] - gain @ cov[seen, 2]))
    total = sum(weight for weight, _, _ in found)
    return [(weight / total, *rest) for weight, *rest in found]


def pdf(mixture, y):
    return sum(w * stats.norm.pdf(y, m, np.sqrt(v)) for w, m, v in mixture)


def first_moment(mixture, y):
    return y * pdf(mixture, y)


NEW = pd.DataFrame({"x1": [0.5, np.nan, 2.0, np.nan], "x2": [1.0, 2.0, None, None]})


def test_predictions_average_over_missing_covariates(em):
    new = NEW.assign(y=[0.3, 1.2, 2.0, 0.1])
    mean, density = em.predict(NEW), em.predict(new, kind="density")
    quantile = em.predict(NEW, kind="quantile", q=[0.1, 0.9])
    sample = em.predict(NEW, kind="sample", n_samples=4000)
    for i, row in enumerate(NEW.to_numpy(dtype=float)):
        mixture = conditional(normals(em), row)
        moment, _ = integrate.quad(partial(first_moment, mixture), -30, 30, limit=200)
        assert mean[i] == pytest.approx(moment, abs=1e-6)
        assert density[i] == pytest.approx(pdf(mixture, new["y"][i]), rel=1e-8)
        for level, value in zip([0.1, 0.9], quantile[i], strict=True):
            below = sum(w * stats.norm.cdf(value, m, np.sqrt(v)) for w, m, v in mixture)
            assert below == pytest.approx(level, abs=1e-8)
        error = sample[:, i].std() / np.sqrt(len(sample))
        assert abs(sample[:, i].mean() - moment) < 4.5 * error


def test_a_row_without_response_has_the_memberships_of_its_covariates(em):
    lacking = DATA.assign(y=np.nan)
    own = em.responsibilities(lacking)
    np.testing.assert_allclose(own, em.responsibilities(lacking, use_response=False), rtol=1e-9)


def test_a_variational_fit_answers_for_rows_with_gaps(vi, tmp_path):
    assert np.all(np.diff(vi.history) > -1e-9 * len(DATA))
    truth = log_densities(normals(vi), DATA.to_numpy())
    found = vi.score_samples(DATA)
    # Predictive densities are averages over the posterior, which is narrow.
    np.testing.assert_allclose(found, truth, atol=0.6)
    assert np.all(np.isfinite(vi.predict(NEW)))
    tree = vi.posterior
    pointwise = tree["log_likelihood"]["rows"].to_numpy()
    kept = ~DATA.isna().all(axis=1).to_numpy()
    assert pointwise.shape[-1] == kept.sum()
    average = np.logaddexp.reduce(pointwise[0], axis=0) - np.log(pointwise.shape[1])
    # Averages over 1,000 draws and over 100 of them.
    np.testing.assert_allclose(average, found[kept], atol=0.25)
    assert np.isfinite(tree["posterior_predictive"]["y"].to_numpy()[:, :5]).all()
    vi.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    np.testing.assert_allclose(again.score_samples(DATA), found)
    assert again.missing.equals(vi.missing)
    assert json.loads(json.dumps(describe(vi)))["missing"]["x1"] == vi.missing["x1"]


REFUSED = [
    (
        cw.Model("y ~ x1 + x2"),
        {},
        r"'x2' has missing values .* conditional model .*covariates='x2'",
    ),
    (
        cw.Model("y ~ x1 + x1^2", covariates="x1 + x2"),
        {},
        r"term '.*x1.*2.*' .* Gaussian covariates",
    ),
    (cw.Model("y ~ 0 + x1", covariates="x1"), {}, "with an intercept"),
    (
        cw.Model("n ~ x1", family="poisson", covariates="x1"),
        {},
        "only a Gaussian response.*not a poisson response",
    ),
    (
        cw.Model("y ~ g", covariates="x1 + g"),
        {},
        "column 'g' has missing values .*1 row .from 0: 3",
    ),
    (cw.Model("n ~ z", family="poisson", offset="x1"), {}, "column 'x1' has missing values"),
    (cw.Model("y ~ z", sample_weight="w"), {}, "column 'w' has missing values in 1 row .from 0: 5"),
    (cw.Model("y ~ z"), {"y": np.nan}, "'y' is missing in all rows"),
    (cw.Model("y ~ x1", covariates="x1"), {"x1": np.nan}, "'x1' is missing in all rows"),
    (cw.Model("y ~ x1", covariates="x1"), {"x1": np.inf}, "is infinite"),
]


@pytest.mark.parametrize(("model", "changes", "message"), REFUSED)
def test_what_cannot_be_integrated_out_is_refused(model, changes, message):
    rng = np.random.default_rng(2)
    data = DATA.assign(
        z=rng.normal(size=len(DATA)),
        n=rng.poisson(2.0, size=len(DATA)).astype(float),
        g=np.where(np.arange(len(DATA)) == 3, None, rng.choice(["a", "b"], len(DATA))),
        w=np.where(np.arange(len(DATA)) == 5, np.nan, 1.0),
    )
    data.loc[3, "y"] = 1.0
    with pytest.raises(cw.DataError, match=message):
        model.fit(data.assign(**changes), engine="em")


def test_new_rows_are_held_to_the_same(em):
    conditional = cw.Model("y ~ x1", prior="flat").fit(
        {"x1": [0.0, 1, 2, 3, 4, 5, 6, 7, 8], "y": [0.0, 2, 1, 3, 4, 4, 2, 7, 9]},
        engine=cw.EM(n_init=1, max_iter=3),
    )
    with pytest.raises(cw.DataError, match=r"in 1 row .from 0: 1.*conditional model"):
        conditional.predict({"x1": [1.0, None]})
    with pytest.raises(cw.DataError, match=r"column 'y' has missing values"):
        em.predict(DATA, kind="density")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_have_missing_values_too(em, tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    getattr(DATA, f"to_{suffix}")(path, index=False)
    np.testing.assert_allclose(em.score_samples(path), em.score_samples(DATA), rtol=1e-10)


def test_a_parametric_bootstrap_of_incomplete_rows_is_refused(em):
    with pytest.raises(cw.OptionError, match=r"values are missing.*nonparametric"):
        em.bootstrap(DATA, 2, kind="parametric")
