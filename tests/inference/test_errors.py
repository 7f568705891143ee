"""Standard errors: published and numerical information, and what is said where there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import clusterwise as cw
import clusterwise.data
from clusterwise.core.runtime import double_precision
from clusterwise.inference.errors import standard_errors
from clusterwise.refit import assemble_again, information_of
from tests import derivatives

EM = cw.EM(n_init=4, tol=1e-13)


@pytest.fixture(scope="module")
def co2():
    data = clusterwise.data.load("co2").dropna()
    fit = cw.Model("CO2 ~ GNP", prior="flat").fit(data, engine=EM, random_state=0)
    return fit, data, fit.standard_errors(data)


def test_errors_are_those_of_an_independent_optimiser(co2):
    """Observed information by automatic differentiation of another program, at its optimum."""
    _, _, errors = co2
    expected = [
        [1.0257281846576727, 0.04260398913402471],
        [0.6653188394486187, 0.03466873195241470],
    ]
    np.testing.assert_allclose(errors.coefficients, expected, rtol=1e-5)
    diagonal = np.sqrt(np.diagonal(errors.covariance)).reshape(4, 2)
    np.testing.assert_allclose(diagonal.T, errors.table, rtol=1e-10)
    assert errors.covariance.loc[("weight", 0), ("weight", 1)] == pytest.approx(
        -(errors.weights[0] ** 2)
    )
    assert errors.notes == ()


def test_errors_of_the_other_parameters_are_those_of_a_numerical_hessian(co2):
    fit, data, errors = co2

    def log_likelihood(flat):
        a, b, sigma, weight = flat[:2], flat[2:4], flat[4:6], flat[6]
        x, y = data["GNP"].to_numpy()[:, None], data["CO2"].to_numpy()[:, None]
        parts = stats.norm.logpdf(y, a + b * x, sigma) + np.log([weight, 1 - weight])
        return logsumexp(parts, axis=1).sum()

    c, sigma = fit.coefficients.to_numpy(), fit.dispersion["sigma"].to_numpy()
    at = np.concatenate([c[:, 0], c[:, 1], sigma, fit.weights.to_numpy()[:1]])
    expected = derivatives.errors(log_likelihood, at, 1e-3 * np.maximum(np.abs(at), 0.05))
    own = errors.table[["Intercept", "GNP", "sigma"]].to_numpy().T.ravel()
    np.testing.assert_allclose([*own, errors.weights[0]], expected, rtol=2e-3)


def test_summary_has_errors_beside_the_estimates(co2):
    fit, _, errors = co2
    table = fit.summary(errors).table
    np.testing.assert_array_equal(table["GNP (se)"], errors.coefficients["GNP"])
    assert list(table.columns)[:2] == ["weight", "weight (se)"]


def test_flat_directions_are_named(co2):
    fit, data, _ = co2
    assembled = assemble_again(fit.model, fit._record, data)
    information = double_precision(information_of)(fit._record, assembled)

    def errors(other):
        return standard_errors(fit._layout, fit._record.order, other, lambda points: points)

    # The last coordinates are those of the regressions' coefficients, one component at a time.
    values, vectors = np.linalg.eigh(information.matrix)
    wrong = vectors @ np.diag([0.0, *values[1:]]) @ vectors.T
    with pytest.raises(cw.DataError, match=r"flat in the direction of .*component"):
        errors(information._replace(matrix=wrong))
    saddle = information._replace(matrix=-information.matrix)
    with pytest.raises(cw.DataError, match="not a maximum"):
        errors(saddle)
    far = information._replace(gradient=information.gradient + 1)
    note = errors(far).notes[0]
    assert "not at the optimum" in note


def test_other_data_and_other_engines_are_refused(co2):
    fit, data, _ = co2
    with pytest.raises(cw.DataError, match="not the data of the fit: 27 rows"):
        fit.standard_errors(data.iloc[1:])
    shuffled = data.assign(CO2=data["CO2"].to_numpy()[::-1])
    with pytest.raises(cw.DataError, match="28 rows, log likelihood"):
        fit.standard_errors(shuffled)


@pytest.mark.slow
def test_weights_shared_terms_covariates_and_a_prior_enter():
    """A count with a shared slope, a covariate with a density, rows with weights."""
    rng = np.random.default_rng(0)
    z = rng.random(150) < 0.4
    v, w = rng.normal(size=150), rng.normal(np.where(z, 1.5, -0.5), 0.8)
    data = pd.DataFrame({"v": v, "w": w, "n": rng.integers(1, 3, 150)})
    data["y"] = rng.poisson(np.exp(np.where(z, 2.0, 0.5) + 0.3 * v))
    model = cw.Model(
        "y ~ v", family="poisson", covariates="w", shared="v", sample_weight="n", prior="flat"
    )
    fit = model.fit(data, engine=EM, random_state=0)
    errors = fit.standard_errors(data)

    def log_likelihood(flat):
        intercept, slope, mean, spread, weight = flat[:2], flat[2], flat[3:5], flat[5:7], flat[7]
        y, w = data[["y"]].to_numpy(), data[["w"]].to_numpy()
        rate = np.exp(intercept + slope * data[["v"]].to_numpy())
        parts = stats.poisson.logpmf(y, rate) + stats.norm.logpdf(w, mean, spread)
        return data["n"] @ logsumexp(parts + np.log([weight, 1 - weight]), axis=1)

    table = fit.summary().table
    names = ["Intercept", "mean of w", "sd of w"]
    at = np.concatenate([table[name].to_numpy() for name in names])
    at = np.concatenate([at[:2], table["v"][:1], at[2:], fit.weights[:1]])
    expected = derivatives.errors(log_likelihood, at, np.full(8, 1e-4))
    found = np.concatenate([errors.table[name].to_numpy() for name in names])
    found = np.concatenate([found[:2], errors.table["v"][:1], found[2:], errors.weights[:1]])
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert errors.table["v"][0] == pytest.approx(errors.table["v"][1], rel=1e-9)
