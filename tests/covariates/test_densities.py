"""Densities of single covariates: against SciPy's, through every answer of a fit."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import clusterwise as cw
from clusterwise.core.errors import DataError, FormulaError, OptionError
from clusterwise.output import describe

TRUTH = {
    "weights": [0.6, 0.4],
    "coefficients": [[-1.0, -1.0], [1.0, 1.0]],
    "sigma": [0.5, 0.5],
    "means": [[0.0], [2.0]],
    "covariances": [[[1.0]], [[1.0]]],
    "levels": {"g": {"a": [0.7, 0.2], "b": [0.3, 0.8]}},
    "profiles": {
        "x3": {"location": [100.0, 60.0], "sigma": [5.0, 9.0], "nu": [3.0, 6.0]},
        "owns": {"probability": [0.2, 0.8]},
        "smokes": {"probability": [0.5, 0.9]},
        "visits": {"rate": [1.5, 6.0]},
    },
}
# In the order in which scores are easiest to write down.
MODEL = cw.Model(
    "y ~ x1",
    covariates=[
        cw.GaussianCovariates("x1"),
        cw.StudentTCovariates("x3"),
        cw.BernoulliCovariates("owns + smokes"),
        cw.PoissonCovariates("visits"),
        cw.CategoricalCovariates("g"),
    ],
    prior="flat",
)
COUNTS = cw.Model(covariates=[cw.BernoulliCovariates("owns"), cw.PoissonCovariates("visits")])


@pytest.fixture(scope="module")
def data():
    return MODEL.simulate(400, TRUTH, random_state=0)


@pytest.fixture(scope="module")
def fit(data):
    return MODEL.fit(data, engine=cw.EM(n_init=3), random_state=0)


@pytest.fixture(scope="module")
def variational(data):
    return COUNTS.fit(data, engine=cw.VI(n_init=3), random_state=0)


def scipy_scores(fit, data):
    """(n, k) log density of rows by SciPy, from what the fit says of its components."""
    columns = []
    for k in range(fit.n_components):
        own = {name: frame.loc[k] for name, frame in fit.profiles.items()}
        line = fit.coefficients.loc[k, "Intercept"] + fit.coefficients.loc[k, "x1"] * data["x1"]
        sd = np.sqrt(fit.covariances[k].to_numpy()[0, 0])
        t = stats.t(own["x3"]["nu"], own["x3"]["location"], own["x3"]["sigma"])
        total = np.log(fit.weights[k])
        total += stats.norm(line, fit.dispersion.loc[k, "sigma"]).logpdf(data["y"])
        total += stats.norm(fit.means.loc[k, "x1"], sd).logpdf(data["x1"])
        total += t.logpdf(data["x3"])
        for name in ("owns", "smokes"):
            total += stats.bernoulli(own[name]["probability"]).logpmf(data[name])
        total += stats.poisson(own["visits"]["rate"]).logpmf(data["visits"])
        total += np.log(fit.levels["g"].loc[k][data["g"]].to_numpy())
        columns.append(total)
    return np.stack(columns, axis=1)


@pytest.mark.long
def test_density_is_scipys(fit, data):
    scores = scipy_scores(fit, data)
    total = special.logsumexp(scores, axis=1)
    np.testing.assert_allclose(fit.score_samples(data), total, rtol=1e-9)
    assert fit.log_likelihood == pytest.approx(total.sum(), rel=1e-9)
    np.testing.assert_allclose(
        fit.responsibilities(data), np.exp(scores - total[:, None]), atol=1e-9
    )


@pytest.mark.long
def test_maximum_likelihood_is_a_fixed_point_of_em(fit, data):
    resp = fit.responsibilities(data)
    for name, what in (("owns", "probability"), ("smokes", "probability"), ("visits", "rate")):
        shares = resp.T @ data[name].to_numpy() / resp.sum(axis=0)
        np.testing.assert_allclose(fit.profiles[name][what], shares, rtol=1e-3)
    # Weighted maximum likelihood of the t has no gradient left.
    for k in range(2):
        location, sigma, nu = fit.profiles["x3"].loc[k, ["location", "sigma", "nu"]]

        def objective(step, k=k, location=location, sigma=sigma, nu=nu):
            t = stats.t(nu * np.exp(step[2]), location + sigma * step[0], sigma * np.exp(step[1]))
            return resp[:, k] @ t.logpdf(data["x3"])

        for axis in np.eye(3):
            assert abs(objective(1e-4 * axis) - objective(-1e-4 * axis)) / 2e-4 < 0.1


@pytest.mark.long
def test_truth_is_recovered(fit):
    assert fit.n_parameters == 1 + 2 * 3 + 2 * 2 + 2 * 3 + 2 * 2 + 2 + 2
    np.testing.assert_allclose(fit.profiles["owns"]["probability"], [0.2, 0.8], atol=0.09)
    np.testing.assert_allclose(fit.profiles["visits"]["rate"], [1.5, 6.0], rtol=0.15)
    np.testing.assert_allclose(fit.profiles["x3"]["location"], [100, 60], atol=3)
    np.testing.assert_allclose(fit.profiles["x3"]["sigma"], [5, 9], rtol=0.3)


@pytest.mark.long
def test_every_answer_names_the_parameters(fit, data, tmp_path):
    table = fit.summary().table
    for label in ("probability of owns", "rate of visits", "location of x3", "nu of x3"):
        assert label in table
    (first, _) = json.loads(json.dumps(describe(fit)))["components"]
    assert first["covariates"]["profiles"]["visits"] == {
        "rate": pytest.approx(fit.profiles["visits"].loc[0, "rate"])
    }
    assert set(first["covariates"]) == {"mean", "covariance", "levels", "profiles"}
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.score_samples(data), fit.score_samples(data))
    assert "density of x1, g, x3, owns, smokes, visits" in fit.summary().title


@pytest.mark.long
def test_simulated_from_a_fit(fit):
    drawn = fit.simulate(20_000, 1)
    for k in range(2):
        own = drawn[drawn["component"] == k]
        for name, what in (("owns", "probability"), ("visits", "rate")):
            mean, expected = own[name].mean(), fit.profiles[name].loc[k, what]
            assert abs(mean - expected) < 5 * own[name].std() / np.sqrt(len(own))
        median = np.median(own["x3"])
        assert abs(median - fit.profiles["x3"].loc[k, "location"]) < 1


def test_variational_predictive_is_beta_binomial_and_negative_binomial(variational, data):
    # Under q each factor is averaged on its own, by draws of it.
    draws = variational.posterior["posterior"]
    weights = draws["weights"].to_numpy()[0]
    probability = draws["probability_of_owns"].to_numpy()[0]
    rate = draws["rate_of_visits"].to_numpy()[0]
    assert draws["rate_of_visits"].dims == ("chain", "draw", "component")
    rows = data[["owns", "visits"]].drop_duplicates()
    owns = np.exp(stats.bernoulli.logpmf(rows["owns"].to_numpy()[:, None, None], probability))
    visits = np.exp(stats.poisson.logpmf(rows["visits"].to_numpy()[:, None, None], rate))
    expected = (weights.mean(axis=0) * owns.mean(axis=1) * visits.mean(axis=1)).sum(axis=1)
    found = np.exp(variational.score_samples(rows))
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=1e-5)


def test_predictive_sums_to_one(variational):
    rows = pd.DataFrame({"owns": np.repeat([0, 1], 200), "visits": np.tile(np.arange(200), 2)})
    assert np.exp(variational.score_samples(rows)).sum() == pytest.approx(1, abs=1e-9)


def test_replicates_have_the_data_s_means(variational, data):
    drawn = variational.posterior["posterior_predictive"]
    assert abs(float(drawn["visits"][:, :50].mean()) - data["visits"].mean()) < 0.3
    assert abs(float(drawn["owns"][:, :50].mean()) - data["owns"].mean()) < 0.05


def test_scores_of_categorical_covariates_are_averaged_in_closed_form(data):
    fit = cw.Model(covariates="g").fit(data, engine=cw.VI(n_init=2), random_state=0)
    every = pd.DataFrame({"g": ["a", "b"]})
    assert np.exp(fit.score_samples(every)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("owns", 2, "'owns' is neither 0 nor 1 in 1 row .*: 3"),
        ("visits", -1, "'visits' is not a count .*: 3"),
        ("visits", 1.5, "'visits' is not a count .*: 3"),
    ],
)
def test_values_that_a_density_cannot_have_are_named(variational, data, column, value, why):
    wrong = data.astype({column: float})
    wrong.loc[3, column] = value
    with pytest.raises(DataError, match=why):
        COUNTS.fit(wrong)
    # New rows, too.
    with pytest.raises(DataError, match=why):
        variational.responsibilities(wrong)


def test_text_is_told_where_it_belongs(data):
    for density in (cw.BernoulliCovariates, cw.PoissonCovariates, cw.StudentTCovariates):
        with pytest.raises(DataError, match=r"'g'.*cw.CategoricalCovariates\('g'\)"):
            cw.Model(covariates=[density("g")]).fit(data)


def test_options_that_cannot_be_are_named(data):
    with pytest.raises(FormulaError, match=r"log.*compute it first"):
        cw.Model(covariates=[cw.PoissonCovariates("log(visits)")]).fit(data)
    with pytest.raises(OptionError, match="rate"):
        cw.PoissonCovariates("visits", rate=3)
    with pytest.raises(OptionError, match="'gamma'"):
        cw.FamilyCovariates("x", "categorical")
    with pytest.raises(OptionError, match=r"BernoulliCovariates\(\.\.\., concentration"):
        cw.Model(
            covariates=[cw.BernoulliCovariates("owns")],
            prior={"covariates": cw.NormalInverseGamma(0, 1, 1, 1)},
        ).fit(data)
    with pytest.raises(OptionError, match=r"'profiles'.*'probability'"):
        COUNTS.simulate(
            5,
            {
                "weights": [0.5, 0.5],
                "profiles": {"owns": {"rate": [1, 1]}, "visits": {"rate": [1, 1]}},
            },
        )
    with pytest.raises(OptionError, match=r"'owns'.*out of its range"):
        COUNTS.simulate(
            5,
            {
                "weights": [0.5, 0.5],
                "profiles": {"owns": {"probability": [0.5, 2]}, "visits": {"rate": [1, 1]}},
            },
        )


def test_priors_are_conjugate(data):
    # One cluster has the posterior in closed form.
    parts = [
        cw.BernoulliCovariates("owns", concentration=2.0),
        cw.PoissonCovariates("visits", rate=cw.Gamma(3.0, 0.5)),
    ]
    fit = cw.Model(n_components=1, covariates=parts).fit(data, engine="em", random_state=0)
    n, ones, counts = len(data), data["owns"].sum(), data["visits"].sum()
    assert fit.profiles["owns"].iloc[0, 0] == pytest.approx((ones + 2) / (n + 4), rel=1e-9)
    assert fit.profiles["visits"].iloc[0, 0] == pytest.approx((counts + 3) / (n + 0.5), rel=1e-9)


@pytest.mark.long
def test_any_family_is_a_density(data):
    rng = np.random.default_rng(0)
    low = rng.random(300) < 0.5
    income = rng.gamma(4.0, np.where(low, 1.0, 20.0))
    model = cw.Model(covariates=[cw.FamilyCovariates("income", cw.GammaResponse())])
    fit = model.fit({"income": income}, engine=cw.EM(n_init=3), random_state=0)
    means = np.exp(np.sort(fit.profiles["income"]["intercept"]))
    np.testing.assert_allclose(means, [4, 80], rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["em", "vi", "svi", "memoized", "gibbs", "nuts"])
def test_engines_agree(data, engine):
    covariates = MODEL.covariates
    if engine == "memoized":
        covariates = [d for d in MODEL.covariates if not isinstance(d, cw.StudentTCovariates)]
    model = cw.Model("y ~ x1", covariates=covariates)
    fit = model.fit(data, engine=engine, random_state=0)
    np.testing.assert_allclose(fit.profiles["visits"]["rate"], [1.5, 6.0], rtol=0.2)
    np.testing.assert_allclose(fit.profiles["owns"]["probability"], [0.2, 0.8], atol=0.1)
    if engine in ("gibbs", "nuts"):
        assert fit.diagnostics["rhat"].max() < 1.05
        assert "rate of visits" in set(fit.diagnostics["quantity"].str.partition("[")[0])


def test_memoized_inference_takes_counts_and_refuses_a_t(data):
    with pytest.raises(OptionError, match="memoized"):
        cw.Model(covariates=[cw.StudentTCovariates("x3")]).fit(data, engine="memoized")
