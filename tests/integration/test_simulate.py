"""Simulated rows follow their parameters, and wrong parameters are named."""

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw

TRUTH = {
    "weights": [0.3, 0.7],
    "coefficients": [[0.0, 3.0, 1.0], [1.0, -1.0, 0.0]],
    "sigma": [0.1, 0.2],
    "means": [[-1.0], [1.0]],
    "covariances": [[[0.1]], [[0.2]]],
}
JOINT = cw.Model("y ~ x + x^2", covariates="x")
CONDITIONAL = cw.Model("y ~ x * g")
SLOPES = {"weights": [0.5, 0.5], "coefficients": [[0, 1, 2, 3], [0, -1, 0, -3]], "sigma": 0.1}


@pytest.fixture(scope="module")
def regressors():
    rng = np.random.default_rng(5)
    return pd.DataFrame({"x": rng.normal(size=400), "g": np.where(rng.random(400) < 0.5, "a", "b")})


def test_a_fit_recovers_the_parameters():
    data = JOINT.simulate(4000, TRUTH, random_state=0)
    assert list(data) == ["x", "y", "component"]
    fit = JOINT.fit(data, engine="em", random_state=0)
    # Four standard errors at this many rows.
    np.testing.assert_allclose(fit.weights, [0.7, 0.3], atol=0.03)
    np.testing.assert_allclose(fit.coefficients, TRUTH["coefficients"][::-1], atol=0.1)
    np.testing.assert_allclose(fit.dispersion["sigma"], [0.2, 0.1], atol=0.015)
    np.testing.assert_allclose(fit.means["x"], [1, -1], atol=0.05)
    again = fit.simulate(4000, random_state=1)
    assert list(again) == list(data)
    np.testing.assert_allclose(again[["x", "y"]].mean(), data[["x", "y"]].mean(), atol=0.1)
    pd.testing.assert_frame_equal(JOINT.simulate(4000, fit, 1), again)


def test_moments_of_each_cluster():
    n = 20_000
    data = JOINT.simulate(n, TRUTH, random_state=2)
    for k in range(2):
        rows = data[data["component"] == k]
        assert abs(len(rows) / n - TRUTH["weights"][k]) < 4 * 0.5 / np.sqrt(n)
        assert abs(rows["x"].var() / TRUTH["covariances"][k][0][0] - 1) < 0.1
        a, b, c = TRUTH["coefficients"][k]
        residual = rows["y"] - a - b * rows["x"] - c * rows["x"] ** 2
        assert abs(residual.std() / TRUTH["sigma"][k] - 1) < 0.05


def test_correlated_covariates():
    covariance = np.array([[2.0, 1.2], [1.2, 1.0]])
    model = cw.Model(covariates="a + b", n_components=1)
    truth = {"weights": [1], "means": [[3, -3]], "covariances": [covariance]}
    data = model.simulate(20_000, truth, random_state=0)
    np.testing.assert_allclose(data[["a", "b"]].cov(), covariance, atol=0.1)


def test_given_regressors_are_used_as_they_are(regressors):
    data = CONDITIONAL.simulate(None, SLOPES, random_state=0, data=regressors)
    pd.testing.assert_frame_equal(data[["x", "g"]], regressors)
    b = (regressors["g"] == "b").to_numpy(float)
    x = regressors["x"].to_numpy()
    means = np.stack([x + 2 * b + 3 * b * x, -x - 3 * b * x], axis=1)
    residual = data["y"] - means[np.arange(400), data["component"]]
    assert abs(residual.std() / 0.1 - 1) < 0.15
    pd.testing.assert_frame_equal(
        CONDITIONAL.simulate(400, SLOPES, random_state=0, data=regressors), data
    )
    sampled = CONDITIONAL.simulate(900, SLOPES, random_state=0, data=regressors)
    assert len(sampled) == 900
    assert set(sampled["x"]) <= set(regressors["x"])


def test_a_fit_codes_categories_as_it_learned_them(regressors):
    data = CONDITIONAL.simulate(None, SLOPES, random_state=0, data=regressors)
    fit = CONDITIONAL.fit(data, engine="em", random_state=0)
    only_b = regressors[regressors["g"] == "b"]
    # Alone, "b" would be the level without a coefficient of its own.
    simulated = fit.simulate(None, 0, data=only_b)
    terms = np.column_stack([np.ones(len(only_b)), only_b["x"], np.ones(len(only_b)), only_b["x"]])
    means = terms @ fit.coefficients.to_numpy().T
    residual = simulated["y"] - means[np.arange(len(only_b)), simulated["component"]]
    assert residual.std() < 0.15


def test_several_responses_and_an_intercept_alone():
    model = cw.Model(["y ~ 1", "`v w` ~ 1"])
    truth = {
        "weights": [0.5, 0.5],
        "coefficients": {"y": [[1], [2]], "v w": [[10], [20]]},
        "sigma": {"y": 0, "v w": [0, 0]},
    }
    data = model.simulate(10, truth, random_state=0)
    assert list(data) == ["y", "v w", "component"]
    np.testing.assert_array_equal(data["v w"], 10 * data["y"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": [0.5, 0.6]}, "sum to 1"),
        ({"weights": [1.5, -0.5]}, "negative"),
        ({"weights": [1.0]}, r"weights .*shape \(2,\), not of shape \(1,\)"),
        ({"sigma": [1, 2, 3]}, "sigma of 'y'"),
        ({"sigma": -1.0}, "sigma of 'y'"),
        ({"sigma": np.nan}, "sigma of 'y'"),
        ({"coefficients": [[1, 2], [3, 4]]}, r"Intercept, x, I\(x \*\* 2\).*\(2, 3\)"),
        ({"coefficients": {"z": [[1]]}}, "'z'.*'y'"),
        ({"means": [-1.0, 1.0]}, r"means .*\(2, 1\)"),
        ({"means": "many"}, "means"),
        ({"covariances": [[[0.1]], [[-0.2]]]}, r"covariances'\]\[1\]"),
        ({"slopes": 1}, "'slopes'"),
    ],
)
def test_wrong_parameters_are_named(change, words):
    with pytest.raises(cw.OptionError, match=words):
        JOINT.simulate(10, {**TRUTH, **change}, random_state=0)


def test_what_is_missing_is_named(regressors):
    with pytest.raises(cw.DataError, match="'x', 'g'"):
        CONDITIONAL.simulate(10, SLOPES)
    with pytest.raises(cw.DataError, match="'g'"):
        CONDITIONAL.simulate(10, SLOPES, data=regressors[["x"]])
    with pytest.raises(cw.DataError, match="'v'"):
        cw.Model("y ~ x + v", covariates="x").simulate(10, TRUTH)
    with pytest.raises(cw.OptionError, match="'sigma'"):
        JOINT.simulate(10, {k: v for k, v in TRUTH.items() if k != "sigma"})
    with pytest.raises(cw.OptionError, match="n=None"):
        JOINT.simulate(None, TRUTH)
    with pytest.raises(cw.OptionError, match="n=0"):
        JOINT.simulate(0, TRUTH)
    with pytest.raises(cw.OptionError, match="dictionary"):
        JOINT.simulate(10, [1, 2])
