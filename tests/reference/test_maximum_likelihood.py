"""Maximum likelihood against the best results of other programs on classic data.

The figures are from flexmix 2.3, mixtools 2.0 and mclust 6.0 (best of 30 to 120 starts), polished
by an independent optimiser to a gradient norm below 1e-9.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import clusterwise as cw
import clusterwise.data

DATA = Path(__file__).parent / "data"
SEEDS = range(5)


class Reference(NamedTuple):
    data: str
    model: dict[str, Any]
    log_likelihood: float
    tolerance: float


PENGUINS = "bill_length_mm + bill_depth_mm + flipper_length_mm"
REFERENCES = {
    "co2": Reference("co2", {"formula": "CO2 ~ GNP"}, -66.93976779284077, 1e-4),
    "no": Reference("NOdata", {"formula": "Equivalence ~ NO"}, 122.03835578547404, 1e-4),
    # Mixture of experts: BIC -211.4225 with eight parameters.
    "no, gated": Reference(
        "NOdata",
        {"formula": "Equivalence ~ NO", "weights": cw.Gated("NO")},
        123.620590747,
        1e-4,
    ),
    "faithful": Reference("faithful", {"covariates": "eruptions + waiting"}, -1130.26396, 1e-3),
    "four clusters, joint": Reference(
        "four_clusters",
        {"formula": "y ~ x1 + x2", "covariates": "x1 + x2", "n_components": 4},
        -986.4876597,
        1e-4,
    ),
    "four clusters, conditional": Reference(
        "four_clusters",
        {"formula": "y ~ x1 + x2", "n_components": 4},
        -408.45708879378435,
        1e-3,
    ),
    "penguins": Reference(
        "penguins",
        {"formula": f"body_mass_g ~ {PENGUINS}", "covariates": PENGUINS, "n_components": 3},
        -5016.5827,
        1e-4,
    ),
}


def read(name: str) -> pd.DataFrame:
    if name in ("co2", "penguins"):
        return clusterwise.data.load(name).dropna()
    return pd.read_csv(DATA / f"{name}.csv")


@pytest.mark.long
@pytest.mark.parametrize("name", list(REFERENCES))
def test_every_seed_reaches_the_reference(name: str) -> None:
    reference = REFERENCES[name]
    data = read(reference.data)
    model = cw.Model(prior="flat", **reference.model)
    for seed in SEEDS:
        fit = model.fit(data, engine="em", random_state=seed)
        assert fit.log_likelihood == pytest.approx(
            reference.log_likelihood, abs=reference.tolerance
        )
        assert fit.converged


# Of intercept and slope of each line, at the optimum of the independent optimiser.
ERRORS = {
    "co2": [[1.0257281846576727, 0.04260398913402471], [0.6653188394486187, 0.0346687319524147]],
    "no": [
        [0.00807010817080129, 0.004729185707519668],
        [0.01428422496109204, 0.006291615525912874],
    ],
    "no, gated": [
        [0.014645958642453332, 0.006443893867685366],
        [0.008501769928785454, 0.005407492301111883],
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ERRORS))
def test_standard_errors_are_the_reference_s(name: str) -> None:
    reference = REFERENCES[name]
    data = read(reference.data)
    fit = cw.Model(prior="flat", **reference.model).fit(
        data, engine=cw.EM(n_init=4, tol=1e-13), random_state=0
    )
    np.testing.assert_allclose(fit.standard_errors(data).coefficients, ERRORS[name], rtol=1e-5)


@pytest.mark.long
def test_the_spurious_optimum_of_tonedata_is_listed_and_not_chosen() -> None:
    data = read("tonedata")
    fit = cw.Model("tuned ~ stretchratio", prior="flat").fit(data, engine="em", random_state=0)
    optima = fit.restarts.set_index(fit.restarts["log_likelihood"].round(3))
    assert not optima.loc[141.198, "degenerate"]
    assert optima.loc[141.198, "chosen"]
    assert optima.loc[145.417, "degenerate"]
    assert "38 times smaller" in optima.loc[145.417, "reason"]
    assert any("degenerate" in note for note in fit.notes)


@pytest.mark.long
def test_the_default_prior_takes_the_main_mode_of_tonedata() -> None:
    data = read("tonedata")
    for engine in ("em", "vi"):
        fit = cw.Model("tuned ~ stretchratio").fit(data, engine=engine, random_state=0)
        slopes = np.sort(fit.coefficients["stretchratio"])
        np.testing.assert_allclose(slopes, [0.043, 0.992], atol=0.003)


@pytest.mark.long
def test_the_joint_model_is_a_gaussian_mixture_of_all_columns() -> None:
    """With full covariances the two are the same model, which scikit-learn maximises too."""
    data = read("penguins")
    columns = PENGUINS.split(" + ")
    fit = cw.Model(
        f"body_mass_g ~ {PENGUINS}", covariates=PENGUINS, n_components=3, prior="flat"
    ).fit(data, engine="em", random_state=0)
    rows = data[[*columns, "body_mass_g"]].to_numpy(float)
    resp = fit.responsibilities(data)
    means = (resp.T @ rows) / resp.sum(axis=0)[:, None]
    precisions = [np.linalg.inv(np.cov(rows.T, aweights=resp[:, k], bias=True)) for k in range(3)]
    other = GaussianMixture(
        3,
        tol=1e-10,
        max_iter=2000,
        reg_covar=0,
        weights_init=resp.mean(axis=0),
        means_init=means,
        precisions_init=precisions,
    ).fit(rows)
    np.testing.assert_allclose(fit.score_samples(data), other.score_samples(rows), atol=1e-3)
    assert adjusted_rand_score(data["species"], fit.assign(data)) == pytest.approx(0.959, abs=5e-4)


@pytest.mark.long
def test_no_numerical_optimiser_improves_on_two_regressions() -> None:
    """Standard design of Leisch (2004): a line and a parabola; SciPy starts where EM ends."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp
    from scipy.stats import norm

    rng = np.random.default_rng(4)
    x = rng.uniform(0, 10, 200)
    first = np.arange(200) < 100
    y = np.where(first, 5 * x, 40 - (x - 5) ** 2) + 3 * rng.normal(size=200)
    fit = cw.Model("y ~ x + x^2", prior="flat").fit({"x": x, "y": y}, engine="em", random_state=0)

    def log_likelihood(theta: np.ndarray) -> float:
        a, b, log_s, odds = theta[:3], theta[3:6], theta[6:8], theta[8]
        design = np.column_stack([np.ones_like(x), x, x**2])
        parts = [
            norm.logpdf(y, design @ c, np.exp(s)) + w
            for c, s, w in zip(
                (a, b), log_s, (-np.logaddexp(0, -odds), -np.logaddexp(0, odds)), strict=True
            )
        ]
        return float(logsumexp(parts, axis=0).sum())

    weights = fit.weights.to_numpy()
    start = np.concatenate(
        [
            fit.coefficients.to_numpy().ravel(),
            np.log(fit.dispersion["sigma"].to_numpy()),
            [np.log(weights[0] / weights[1])],
        ]
    )
    assert log_likelihood(start) == pytest.approx(fit.log_likelihood, abs=1e-8)
    polished = minimize(lambda t: -log_likelihood(t), start, method="BFGS")
    assert -polished.fun - fit.log_likelihood < 1e-5
